"""Ego MLP, explanation, latency and image sizes."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from wpt_policy.frame import EgoState, Frame
from wpt_policy.planner import PlannerError
from wpt_training.cli import main
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.errors import TrainingError
from wpt_training.evaluation.ego_mlp import (
    EgoMlpPlanner,
    ego_mlp_predictor,
    fit_ego_mlp,
    load_ego_mlp,
    save_ego_mlp,
    train_ego_mlp,
)
from wpt_training.evaluation.explain import explain, sentence, table, terms_of_score
from wpt_training.evaluation.image_size_check import compare_image_sizes
from wpt_training.evaluation.latency import STUDENT, compare_latency, measure
from wpt_training.evaluation.latency import table as latency_table
from wpt_training.evaluation.teacher_folder import TeacherParts, new_parts, save_teacher
from wpt_training.reward.combination import combine


@pytest.fixture(scope="module")
def parts(small) -> TeacherParts:
    """A teacher without training, its candidates from standing to 8 m/s."""
    torch.manual_seed(2)
    pace = torch.linspace(0.0, 4.0, small.teacher.candidates)[None, :, None, None]
    ahead = (pace * torch.tensor([1.0, 0.0])).expand(small.commands, -1, small.steps, -1).cumsum(dim=2)
    return new_parts(small, anchors=ahead).eval()


def circles(count: int, seed: int):
    """Motion and the path of an ego that keeps it: what the MLP can learn entirely."""
    random = np.random.default_rng(seed)
    speed, turn = random.uniform(0, 10, count), random.uniform(-0.2, 0.2, count)
    times = 0.5 * np.arange(1, 7)
    angle = turn[:, None] * times
    future = np.stack(
        [
            speed[:, None] * np.sin(angle) / turn[:, None],
            speed[:, None] * (1 - np.cos(angle)) / turn[:, None],
            angle,
        ],
        -1,
    )
    motion = np.stack([speed, 0 * speed, turn, 0 * speed], axis=1)
    command = torch.from_numpy(random.integers(0, 6, count))
    return (
        torch.from_numpy(motion).float(),
        command,
        torch.from_numpy(future).float(),
        torch.ones(count, 6, dtype=bool),
    )


def test_ego_mlp_learns_what_motion_says_and_drives_alike(small, tmp_path) -> None:
    commands, dt_s = small.student.plan.commands, small.student.plan.dt_s
    network = fit_ego_mlp(*circles(2000, 0), commands, dt_s, seed=1, steps=400)
    motion, command, future, _ = circles(200, 1)
    assert (network(motion, command) - future[..., :2]).norm(dim=-1).mean() < 0.5
    again = fit_ego_mlp(*circles(2000, 0), commands, dt_s, seed=1, steps=5)
    other = fit_ego_mlp(*circles(2000, 0), commands, dt_s, seed=1, steps=5)
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), other.state_dict().values(), strict=True)
    )

    save_ego_mlp(tmp_path / "ego.safetensors", network, {"made": "here"})
    planner = EgoMlpPlanner(tmp_path / "ego.safetensors", device="cpu", precision="float32")
    batch = dataclasses.replace(make_batch(small, 1), motion=torch.tensor([[6.0, 0.2, 0.1, 2.0]]))
    expected = ego_mlp_predictor(load_ego_mlp(tmp_path / "ego.safetensors"))(batch)[0].numpy()
    asked = commands[int(batch.command[0])]
    frames = []
    for stamp_ns, speed in ((0, 4.0), (250_000_000, 5.5), (500_000_000, 5.0), (1_000_000_000, 6.0)):
        ego = EgoState(
            stamp_ns=stamp_ns, odom_from_base=np.eye(4), linear_velocity=np.array([speed, 0.2, 0.0]),
            angular_velocity=np.array([0.0, 0.0, 0.1]),
        )  # fmt: skip
        frames.append(Frame(reference_stamp_ns=stamp_ns, views={}, ego=ego, command=asked))
    driven = [planner.plan(frame) for frame in frames]
    assert np.abs(driven[-1].waypoints - expected).max() < 1e-5  # 5 to 6 m/s in half a second
    planner.reset()
    assert np.abs(planner.plan(frames[-1]).waypoints - expected).max() > 1e-4  # no past: no acceleration
    with pytest.raises(PlannerError, match="no odometry"):
        planner.plan(dataclasses.replace(frames[-1], ego=None))
    save_teacher(tmp_path / "t", new_parts(small).eval(), dataset="x")
    with pytest.raises(TrainingError, match="no ego MLP"):
        load_ego_mlp(tmp_path / "t" / "teacher.safetensors")


def test_ego_mlp_trains_from_a_cache(small, factory_cache) -> None:
    rows = torch.from_numpy(np.flatnonzero(factory_cache.labelled))
    network = train_ego_mlp(
        factory_cache, rows, small.student.plan.commands, small.student.plan.dt_s, seed=0, steps=20
    )
    plan = ego_mlp_predictor(network)(factory_cache.batch(rows[:2]))
    assert plan.shape == (2, small.steps, 2) and bool(plan.isfinite().all())


def test_terms_add_up_to_the_score_and_the_table_has_every_candidate(small, parts) -> None:
    batch = make_batch(small, 1)
    found = explain(parts, batch)
    assert torch.allclose(sum(found.parts.values()), found.decision.scores[0], atol=1e-5)
    text = table(found, batch)
    assert text.count("\n| ") >= small.teacher.candidates and "(chosen)" in text and "(second)" in text
    assert "decided" in sentence(found) and "TTC + EP + Comf in score" in text


def test_the_term_that_decides_is_found(small) -> None:
    """Two candidates alike but for one term: that term decides, and without it the other one would be chosen."""

    class Fixed(TeacherParts):
        def _rewards(self, frames, positions):
            count = positions.shape[1]
            terms = {name: torch.full((1, count), 0.5) for name in ("imitation", *small.reward.rules)}
            terms["imitation"][0, 1] = 0.6
            terms["NC"][0, 0] = 0.99
            terms["NC"][0, 2:] = 0.01
            simulation = {name: value for name, value in terms.items() if name != "imitation"}
            return combine(terms["imitation"], simulation, small.reward.rules, small.reward.weights), terms

    plain = new_parts(small)
    found = explain(Fixed(small, plain.world, plain.teacher, plain.reward), make_batch(small, 1))
    assert int(found.decision.chosen[0]) == 0 and found.runner_up == 1
    assert [name for name, _ in found.decided_by] == ["NC"]
    assert found.changes == {"NC": 1}
    assert "NC decided. The choice would be another one without NC candidate 1." in sentence(found)
    w0, w1, *_ = small.reward.weights
    shares = terms_of_score({name: v[0] for name, v in found.decision.terms.items()}, small.reward)
    assert float(shares["NC"][0]) == pytest.approx(w1 * np.log(0.99)) and len(shares) == 4
    assert float(shares["imitation"][1]) == pytest.approx(w0 * np.log(0.6))


def test_explain_from_the_command_line(parts, factory_data, factory_cache, tmp_path, capsys) -> None:
    save_teacher(tmp_path / "teacher", parts, dataset="x")
    out = tmp_path / "why" / "sample.png"
    command = [
        "explain", "--run", str(tmp_path / "teacher"), "--data", str(factory_data[0]), "--version", factory_data[1],
        "--sample", factory_cache.tokens[3], "--out", str(out),
    ]  # fmt: skip
    assert main(command) == 0
    picture = cv2.imread(str(out))
    assert picture.shape[0] > 300 and picture.shape[1] > 500 and picture.std() > 5
    assert out.with_suffix(".md").read_text() == capsys.readouterr().out
    assert main([*command, "--choice", "confidence"]) == 0
    assert "own confidence" in capsys.readouterr().out
    assert main([*command[:-3], "nothing", "--out", str(out)]) == 1
    assert "nothing" in capsys.readouterr().err


def test_latency_reports_every_part(small) -> None:
    report = compare_latency(small, repetitions=2)
    assert len(report["planners"]) == 3 and report["random_weights"] == {"student": True, "teacher": True}
    for parts in report["planners"].values():
        assert parts["total"]["p50_ms"] >= parts["encoder"]["p50_ms"] > 0 < parts["planner"]["p50_ms"]
        assert parts["planner"]["p99_ms"] >= parts["planner"]["p50_ms"]
    assert len(report["student_is_faster_by"]) == 2
    assert latency_table(report).count("student against") == 2


def test_latency_takes_parts_and_percentiles_from_the_planners(small) -> None:
    class Timed:
        config = small.student

        def __init__(self, scale: float):
            self.scale, self.rounds = scale, 0

        def reset(self) -> None:
            self.rounds = 0

        def plan(self, frame) -> None:
            self.rounds += 1
            t = self.scale * self.rounds
            self.last_stage_ms = {"upload": 1.0, "encode": 2.0 * t, "memory": t, "decode": 5.0}

    found = measure({STUDENT: Timed(1.0), "teacher": Timed(2.0)}, repetitions=3, warm_up=2)
    assert found[STUDENT]["encoder"]["p50_ms"] == 12.0  # rounds 3, 4, 5
    assert found["teacher"]["total"]["p50_ms"] == 24.0 + 5.0 + 1.0
    assert found[STUDENT]["planner"] == {"p50_ms": 5.0, "p99_ms": 5.0}


def test_image_sizes_are_compared_on_common_samples(small) -> None:
    batches = [make_batch(small, 4), make_batch(small, 4)]
    batches[1].images[:] = (batches[1].images.int() + 3).clamp(max=255).to(torch.uint8)

    def source(batch, tokens):
        return SimpleNamespace(tokens=tokens, batch=lambda rows: batch[torch.as_tensor(rows)])

    def plan(batch):
        brightness = batch.images[:, 0].float().mean(dim=(1, 2, 3, 4))
        return brightness[:, None, None] * torch.tensor([0.02, 0.0]) + torch.zeros(len(batch), small.steps, 2)

    report = compare_image_sizes(source(batches[0], "abcd"), source(batches[1], "abcx"), plan)
    assert report.samples == 3 and 2.5 < report.pixel_difference <= 3.0
    assert report.mean_m == pytest.approx(0.02 * report.pixel_difference, rel=0.1) and not report.passes
    same = compare_image_sizes(source(batches[0], "abcd"), source(batches[0], "abcd"), plan)
    assert same.mean_m == 0.0 and same.passes
    with pytest.raises(TrainingError, match="no sample in common"):
        compare_image_sizes(source(batches[0], "abcd"), source(batches[1], "efgh"), plan)
