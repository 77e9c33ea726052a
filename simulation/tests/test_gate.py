"""The learnability gate: its judgement, what its policies see, training, and the command itself."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wpt_sim import cli
from wpt_sim.driver_names import make_driver
from wpt_sim.episode import make_episode
from wpt_sim.errors import SimulationError
from wpt_sim.gate import LABELS, Row, missed_gates, table
from wpt_sim.gate_data import FIELDS, Samples, collect, collect_one
from wpt_sim.gate_features import ACTOR_FEATURES, ACTORS, CONTEXT_SIZE, EGO_SIZE, BirdsEyeView
from wpt_sim.gate_policies import NETWORKS, answer_on_path, load_policy, positions_on_path, save_policy
from wpt_sim.gate_training import train
from wpt_sim.scoring import ABILITIES, Summary, summarise
from wpt_sim.world_state import Actor, ActorKind, EgoPose, WorldState

try:
    import libsumo  # noqa: F401
except ImportError:
    traffic = pytest.mark.skip(reason="libsumo is not installed: no traffic can be run")
else:
    traffic = pytest.mark.timeout(150)


def summary(score: float, success: float = 0.0) -> Summary:
    empty = summarise([], {family: 1 for family in ABILITIES})
    return replace(empty, driving_score=score, success_by_family={family: success for family in ABILITIES})


def rows(
    expert: float = 98.0, bev: float = 80.0, ego: float = 30.0, blind_success: float = 20.0
) -> list[Row]:
    scores = {
        "expert": summary(expert),
        "bev_policy": summary(bev),
        "ego_mlp": summary(ego),
        "blind_follower": summary(60.0, blind_success),
    }
    return [Row(label=LABELS[name], driver=name, summary=value) for name, value in scores.items()]


def test_a_good_world_passes() -> None:
    assert missed_gates(rows()) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (rows(expert=94.0), ["expert scores 94.0, expected at least 95"]),
        (rows(bev=74.9), ["bird's-eye truth policy scores 74.9, expected at least 75"]),
        (rows(ego=41.0), ["ego MLP scores 41.0, expected at most 40"]),
        (rows(blind_success=45.0), [f"blind route follower fails 55 % of {family}" for family in ABILITIES]),
        (rows()[1:], ["expert was not driven"]),
    ],
)
def test_each_gate_can_be_missed(bad: list[Row], words: list[str]) -> None:
    missed = missed_gates(bad)
    assert len(missed) == len(words)
    assert all(any(word in sentence for sentence in missed) for word in words)


def test_table_has_a_line_for_each_row() -> None:
    lines = table(rows(), "test").splitlines()
    assert len(lines) == 2 + 4
    assert "5 routes" in lines[0]


def view_of(actors: tuple[Actor, ...] = ()) -> tuple[BirdsEyeView, WorldState]:
    spec = make_episode("dev", "natural", None, 2)
    x, y, yaw = spec.route.at(10.0)
    state = WorldState(time_s=0.0, ego=EgoPose(x=x, y=y, yaw=yaw, speed=6.0), actors=actors)
    view = BirdsEyeView(spec)
    view.see(state)
    return view, state


def car_on_route(name: str, ahead: float) -> Actor:
    spec = make_episode("dev", "natural", None, 2)
    x, y, yaw = spec.route.at(10.0 + ahead)
    return Actor(id=name, kind=ActorKind.CAR, x=x, y=y, yaw=yaw, speed=3.0, length=4.5, width=1.8, height=1.5)


def test_features_have_their_shapes_and_see_a_leader() -> None:
    view, _ = view_of((car_on_route("a", 15.0),))
    seen = view.look()
    assert seen.context.shape == (CONTEXT_SIZE,) and seen.actors.shape == (ACTORS, ACTOR_FEATURES)
    assert np.isfinite(seen.context).all() and np.isfinite(seen.actors).all()
    assert seen.actors[0, 0] == 1.0 and not seen.actors[1:].any()
    assert seen.actors[0, 16] * 20.0 == pytest.approx(15.0, abs=1.0)  # along the path
    assert seen.actors[0, 17] * 4.0 == pytest.approx(0.0, abs=0.5)  # beside it


def test_names_of_others_change_nothing() -> None:
    looks = [
        view_of((car_on_route(name, 15.0), car_on_route(f"{name}2", 30.0)))[0].look() for name in ("a", "z")
    ]
    assert np.array_equal(looks[0].actors, looks[1].actors)
    assert np.array_equal(looks[0].context, looks[1].context)


def test_answers_on_the_path_and_positions_are_inverse() -> None:
    view, state = view_of()
    seen = view.look()
    answer = np.stack([np.linspace(2.0, 14.0, 6), np.full(6, 0.4)], axis=1)
    positions = positions_on_path(answer, seen, state.ego)
    assert positions[0].tolist() == [0.0, 0.0]
    assert answer_on_path(positions, seen, state.ego) == pytest.approx(answer, abs=0.15)


def made_up(count: int = 600) -> Samples:
    """Progress is speed (context 0) times time; everything else is noise."""
    rng = np.random.default_rng(0)
    context = rng.normal(size=(count, CONTEXT_SIZE)).astype(np.float32)
    context[:, 0] = rng.uniform(0.0, 1.5, count)
    times = 0.5 * np.arange(1, 7)
    on_path = np.stack([10.0 * context[:, :1] * times, np.zeros((count, 6))], axis=-1).astype(np.float32)
    ego = np.zeros((count, EGO_SIZE), np.float32)
    ego[:, 0] = context[:, 0]
    return Samples(
        context=context,
        actors=np.zeros((count, ACTORS, ACTOR_FEATURES), np.float32),
        ego=ego,
        on_path=on_path,
        in_base=on_path,
    )


def test_training_learns_and_is_repeatable(tmp_path: Path) -> None:
    network, report = train("ego_mlp", made_up(), epochs=60, seed=0, threads=1)
    again, _ = train("ego_mlp", made_up(), epochs=60, seed=0, threads=1)
    assert report.progress_3s < 3.0  # answers spread over 45 m
    for first, second in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)
    save_policy(tmp_path / "p.safetensors", "ego_mlp", network, {})
    name, read = load_policy(tmp_path / "p.safetensors")
    assert name == "ego_mlp"
    x = torch.from_numpy(made_up(4).ego)
    assert torch.equal(read(x), network(x))


def test_progress_of_the_birds_eye_network_never_goes_back() -> None:
    torch.manual_seed(0)
    network = NETWORKS["bev_policy"]()
    with torch.inference_mode():
        out = network(torch.randn(64, CONTEXT_SIZE), torch.randn(64, ACTORS, ACTOR_FEATURES))
    assert (out[:, 0, 0] >= 0).all() and (out[:, 1:, 0] >= out[:, :-1, 0]).all()


def test_a_foreign_file_is_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(SimulationError, match="gate policy"):
        make_driver(f"bev_policy:{path}")


@traffic
def test_collected_samples_come_with_the_experts_answers(tmp_path: Path) -> None:
    spec = replace(make_episode("train", "natural", None, 5), vehicles=4, pedestrians=0, parked=0)
    samples = collect_one(spec, None)
    assert len(samples) > 10 and samples.drives == 1
    assert np.abs(samples.on_path[..., 1]).max() < 6.0
    assert samples.on_path[..., 0].max() > 5.0
    cached = tmp_path / "s.npz"
    np.savez(cached, drives=1, dropped=0, **{name: getattr(samples, name) for name in FIELDS})
    read = collect([], policy=None, workers=1, cache=cached, label="")
    assert all(np.array_equal(getattr(read, f.name), getattr(samples, f.name)) for f in fields(Samples))


def test_samples_of_another_version_are_refused(tmp_path: Path) -> None:
    samples = made_up(4)
    values = {name: getattr(samples, name) for name in FIELDS} | {"context": np.zeros((4, 3), np.float32)}
    np.savez(tmp_path / "old.npz", drives=1, dropped=0, **values)
    with pytest.raises(SimulationError, match="old.npz was collected by another version"):
        collect([], policy=None, workers=1, cache=tmp_path / "old.npz", label="")


@traffic
def test_the_command_judges_what_it_drove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row on one route; the gates that need the others are missed and the exit code says so."""
    command = ["gate", "--routes", "1", "--rows", "blind_follower", "--workers", "1", "--work", str(tmp_path)]
    assert cli.main(command) == 1
    shown = capsys.readouterr().out
    assert "blind route follower" in shown and "gate missed: expert was not driven" in shown
    assert json.loads((tmp_path / "gate.json").read_text())["routes"] == 1
