"""A trained student becomes a bundle that the runner runs as training ran it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from wpt_policy.bundle import load_bundle, verify_bundle
from wpt_policy.image_input import ImageInput
from wpt_policy.network.student import Student
from wpt_policy.runner import PolicyRunner
from wpt_scenes.factory import FACTORY_SCENE
from wpt_scenes.frames import FrameSource
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables
from wpt_training.cli import main
from wpt_training.configuration import CONFIGURATIONS
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.errors import TrainingError
from wpt_training.evaluation.export import export_bundle, student_tensors
from wpt_training.evaluation.model_card import TrainingFacts, model_card
from wpt_training.evaluation.predictions import predict, student_predictor
from wpt_training.evaluation.trained_rows import predictor_of
from wpt_training.student.training_student import TrainingStudent
from wpt_training.trainer.checkpoint import RESULT, WEIGHTS, save_json, save_tensors
from wpt_training.trainer.stage import named_state

FACTS = TrainingFacts(
    dataset="a street of ten keyframes", row="a row", commit="0123", seed=7, configuration="small",
    samples={"student": 40_000}, minutes=12.0, device="two cores", command="wpt-train export",
)  # fmt: skip
FIGURES = {
    "samples": 12, "scenes": 2, "counted_per_step": [12] * 6,
    "l2": {"per_step": [0.1] * 6, "at_step": {"avg": 0.75}, "over_time": {"avg": 0.5}},
    "collision_at_fault": {
        "primary": 0.0123, "jitter_1cm": 0.01, "exact": 0.01, "per_step": [0.0123] * 6, "hits_per_step": [1] * 6,
        "events": 3, "expected_events_under_jitter": 3.5,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(small) -> TrainingStudent:
    """Every weight and every running statistic is another than at the start."""
    torch.manual_seed(11)
    network = TrainingStudent(small.student, small.data, teacher_channels=24)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    batch = make_batch(small, 4)
    for _ in range(2):
        output = network(batch)
        loss = (
            output.plan.positions.square().mean()
            + output.occupancy.square().mean()
            + output.projected.square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def test_bundle_parity_training_network_equals_runner(
    small, trained, factory_data, factory_cache, tmp_path
) -> None:
    bundle = export_bundle(trained, small.student, tmp_path / "wpt-test", FACTS)
    assert not verify_bundle(tmp_path / "wpt-test")
    assert not any("occupancy_head" in name or "projector" in name for name in bundle.tensors)
    with torch.inference_mode():
        training = trained(factory_cache.batch(range(len(factory_cache)))).plan.positions.double().numpy()
    scene = load_scene(NuScenesTables.load(*factory_data), FACTORY_SCENE)
    runner = PolicyRunner(load_bundle(tmp_path / "wpt-test"), device="cpu")
    source = FrameSource(scene, ImageInput(small.student.image_input), small.student.cameras)
    plans = predict(factory_cache, range(len(factory_cache)), predictor_of(tmp_path / "wpt-test", small))
    for row, token in enumerate(factory_cache.tokens):
        command = small.student.plan.commands[int(factory_cache.batch([row]).command[0])]
        plan = runner.plan(dataclasses.replace(source.keyframe_frame(row), command=command))
        assert np.abs(plan.waypoints - training[row]).max() < 1e-5
        assert np.abs(plans[token] - training[row]).max() < 1e-5
    assert np.abs(training - training[:1]).max() > 1e-3  # the plans differ, so the test can fail


def test_provenance_and_card_say_where_it_comes_from_and_what_it_scores(small, trained, tmp_path) -> None:
    report = {
        "data": "a street v1", "commit": "4567",
        "rows": {
            "baseline": {"all": FIGURES, "natural": None, "interactive": None},
            "wpt-test": {"all": FIGURES, "natural": None, "interactive": FIGURES},
        },
    }  # fmt: skip
    drives = {"wpt-test": {"routes": 200, "driving_score": 45.6, "success_rate": 25.0}}
    bundle = export_bundle(
        trained, small.student, tmp_path / "wpt-test", FACTS, report=report, closed_loop=drives
    )
    origin = bundle.config.provenance
    assert (origin.trained, origin.dataset, origin.commit, origin.seed) == (True, FACTS.dataset, "0123", 7)
    assert origin.metrics["interactive/collision_at_fault"] == 0.0123
    assert origin.metrics["all/l2_at_step_m"] == 0.75 and origin.metrics["closed_loop/driving_score"] == 45.6
    assert bundle.config.name == "wpt-test"
    card = (tmp_path / "wpt-test" / "README.md").read_text()
    for words in (
        "must not be used to drive", "a street of ten keyframes", "student 40,000", "seed 7", "12 min on two cores",
        "| **wpt-test** | interactive | 0.75 | 1.230 | 3 | 12 |", "| baseline | all |", "| wpt-test | 200 | 45.6 | 25.0 |",
        "no measured speed, no past path", "`wpt-train export`",
    ):  # fmt: skip
        assert words in card, words
    bare = model_card(small.student, FACTS, None, None)
    assert "Open loop: not measured." in bare and "Closed loop: not measured." in bare


def test_export_from_the_command_line(small, trained, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(CONFIGURATIONS, "compact", lambda: small)
    run = tmp_path / "run"
    run.mkdir()
    out = tmp_path / "wpt-cli"
    command = ["export", "--run", str(run), "--out", str(out), "--row", "full", "--data", "a street"]
    assert main(command) == 1 and "no finished training run" in capsys.readouterr().err
    save_tensors(run / WEIGHTS, named_state({"student": trained}), {})
    save_json(run / RESULT, {"identity": {"seed": 4}, "seconds": 90.0, "commit": "89ab", "device": "cpu"})
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"data": "d", "commit": "", "rows": {}}))
    assert main([*command, "--evaluation", str(report)]) == 0
    found = load_bundle(out).config.provenance
    assert (found.seed, found.commit, found.dataset) == (4, "89ab", "a street")
    # The runner's network is the trained one, the heads of training are gone.
    student = Student(small.student)
    student.load_state_dict(dict(load_bundle(out).tensors), strict=False)
    batch = make_batch(small, 2, seed=9)
    with torch.inference_mode():
        trained_plan = trained(batch).plan.positions
        for predictor in (student_predictor(student, small.student), predictor_of(run, small)):
            assert torch.allclose(predictor(batch), trained_plan, atol=1e-5)


def test_wrong_tensors_are_named(small, trained) -> None:
    tensors = dict(named_state({"student": trained}))
    with pytest.raises(TrainingError, match="holds 0 students"):
        student_tensors({"a": torch.zeros(1)}, small.student, "here")
    wide = CONFIGURATIONS["compact"]().student
    with pytest.raises(TrainingError, match="expected shape"):
        student_tensors(tensors, wide, "here")
    missing = {name: tensor for name, tensor in tensors.items() if "plan_decoder.head.2.bias" not in name}
    with pytest.raises(TrainingError, match="has nothing for student.student.plan_decoder.head.2.bias"):
        student_tensors(missing, small.student, "here")
    with pytest.raises(TrainingError, match="is no finished run, bundle"):
        predictor_of(Path("nowhere"), small)
