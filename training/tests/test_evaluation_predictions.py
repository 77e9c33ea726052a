"""Predictors on cache rows against the planners that drive with the same weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from wpt_policy.baselines import ConstantVelocityPlanner
from wpt_policy.bundle import PolicyBundle
from wpt_policy.frame import Command, CommandSource, EgoState, Frame
from wpt_policy.image_input import ImageInput
from wpt_policy.network.student import Student
from wpt_policy.runner import PolicyRunner
from wpt_policy.seeded_weights import seeded_tensors
from wpt_scenes.factory import FACTORY_SCENE
from wpt_scenes.frames import FrameSource
from wpt_scenes.metrics import WaypointKind, truth_as_predictions
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables
from wpt_training.cli import main
from wpt_training.configuration import CONFIGURATIONS
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.errors import TrainingError
from wpt_training.evaluation.evaluate import evaluate, markdown, scores_of
from wpt_training.evaluation.export import export_bundle
from wpt_training.evaluation.judged_set import load_judged_set
from wpt_training.evaluation.model_card import TrainingFacts
from wpt_training.evaluation.predictions import (
    UNTRAINED,
    constant_velocity,
    expert,
    load_plans,
    predict,
    save_plans,
    stop,
    student_predictor,
)
from wpt_training.evaluation.teacher_folder import load_teacher, new_parts, save_teacher, teacher_predictor
from wpt_training.evaluation.teacher_planner import TeacherPlanner
from wpt_training.experiments.rows import teacher_variant

TOLERANCE_M = 1e-5


@pytest.fixture(scope="module")
def frames(factory_data, small) -> list[tuple[str, Frame]]:
    """(token, frame) of each keyframe, with the command that the cache derives."""
    tables = NuScenesTables.load(*factory_data)
    scene = load_scene(tables, FACTORY_SCENE)
    source = FrameSource(scene, ImageInput(small.student.image_input), small.student.cameras)
    return [(keyframe.sample_token, source.keyframe_frame(i)) for i, keyframe in enumerate(scene.keyframes)]


def with_command(frame: Frame, small, cache, token: str) -> Frame:
    command = small.student.plan.commands[int(cache.batch([cache.row_of(token)]).command[0])]
    return dataclasses.replace(frame, command=command, command_source=CommandSource.DERIVED_FROM_FUTURE)


@pytest.fixture(scope="module")
def student(small) -> tuple[Student, dict]:
    tensors = seeded_tensors(small.student, seed=3)
    network = Student(small.student)
    network.load_state_dict(tensors, strict=False)
    return network.eval(), tensors


def test_student_on_cache_rows_equals_the_runner_on_frames(small, factory_cache, frames, student) -> None:
    network, tensors = student
    runner = PolicyRunner(PolicyBundle(config=small.student, tensors=tensors, sha256=""), device="cpu")
    plans = predict(
        factory_cache, range(len(factory_cache)), student_predictor(network, small.student), batch=4
    )
    assert set(plans) == {token for token, _ in frames}
    for token, frame in frames:
        driven = runner.plan(with_command(frame, small, factory_cache, token)).waypoints
        assert np.abs(driven - plans[token]).max() < TOLERANCE_M


@pytest.mark.parametrize("choice", ["reward", "confidence", "imitation"])
def test_teacher_on_cache_rows_equals_the_planner_on_frames(
    small, factory_cache, frames, tmp_path, choice
) -> None:
    torch.manual_seed(5)
    shape = (small.commands, small.teacher.candidates, small.steps, 2)
    anchors = (torch.rand(shape) * torch.tensor([4.0, 0.4])).cumsum(dim=2)
    folder = tmp_path / "made"
    written = save_teacher(
        folder, new_parts(small, anchors=anchors).eval(), dataset="a street", commit="abc", seed=5
    )
    parts, description = load_teacher(folder, choice=choice)
    assert (description.dataset, description.configuration) == (
        "a street",
        small,
    ) and written.choice == "reward"
    plans = predict(factory_cache, range(len(factory_cache)), teacher_predictor(parts), batch=4)
    planner = TeacherPlanner(folder, device="cpu", choice=choice)
    assert planner.cameras == small.student.cameras and not planner.needs_ego
    terms = {"imitation", *small.reward.rules} if choice != "confidence" else set()
    differ = 0
    for token, frame in frames:
        plan = planner.plan(with_command(frame, small, factory_cache, token))
        assert np.abs(plan.waypoints - plans[token]).max() < TOLERANCE_M
        assert len(plan.candidates) == small.teacher.candidates
        chosen = plan.candidates[plan.selected]
        assert np.array_equal(chosen.positions, plan.positions) and set(chosen.reward_terms) == terms
        assert chosen.score == max(candidate.score for candidate in plan.candidates)
        differ += any(not np.allclose(c.positions, plan.positions) for c in plan.candidates)
    assert differ == len(frames)
    assert {"upload", "encode", "memory", "decode"} == set(planner.last_stage_ms)


def test_memory_matters_and_is_forgotten(small, factory_cache, frames, tmp_path) -> None:
    folder = tmp_path / "made"
    torch.manual_seed(0)
    anchors = torch.rand(small.commands, small.teacher.candidates, small.steps, 2).cumsum(dim=2)
    save_teacher(folder, new_parts(small, anchors=anchors, choice="confidence").eval(), dataset="x")
    planner = TeacherPlanner(folder, device="cpu")
    asked = [with_command(frame, small, factory_cache, token) for token, frame in frames[:2]]
    planner.plan(asked[0])
    with_memory = planner.plan(asked[1]).positions
    planner.reset()
    without = planner.plan(asked[1]).positions
    assert not np.allclose(with_memory, without, atol=1e-7)


def test_damaged_teachers_are_named(small, tmp_path) -> None:
    with pytest.raises(TrainingError, match="no usable teacher"):
        load_teacher(tmp_path)
    plain = teacher_variant("teacher-plain").change(small)
    save_teacher(tmp_path, new_parts(plain).eval(), dataset="x")
    with pytest.raises(TrainingError, match="'confidence' without one"):
        load_teacher(tmp_path, choice="reward")
    data = (tmp_path / "teacher.safetensors").read_bytes()
    (tmp_path / "teacher.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(TrainingError, match="is not the file that"):
        load_teacher(tmp_path)


def test_constant_velocity_is_the_planner_of_that_name(small) -> None:
    batch = make_batch(small, 6)
    batch.motion[0] = torch.tensor([8.0, 0.3, 0.0, 0.0])
    plans = constant_velocity(batch).numpy()
    for i, motion in enumerate(batch.motion.double().numpy()):
        ego = EgoState(
            stamp_ns=0,
            odom_from_base=np.eye(4),
            linear_velocity=np.array([motion[0], motion[1], 0.0]),
            angular_velocity=np.array([0.0, 0.0, motion[2]]),
        )
        frame = Frame(reference_stamp_ns=0, views={}, ego=ego, command=Command.STRAIGHT)
        assert np.abs(ConstantVelocityPlanner().plan(frame).waypoints - plans[i]).max() < 1e-4


def test_expert_and_stop(small) -> None:
    batch = make_batch(small, 4)  # the last step of sample 3 is not valid
    plans = expert(batch)
    assert torch.equal(plans[0], batch.future[0, :, :2])
    assert torch.equal(plans[3, -1], batch.future[3, -2, :2])
    assert not stop(batch).any()


def test_the_expert_has_no_distance_and_no_contact_in_the_table(factory_data, factory_cache) -> None:
    """Truth of the cache and truth of the metrics are the same places, whichever frame they are in."""
    judged = load_judged_set(*factory_data)
    rows = factory_cache.rows_of([sample.token for sample in judged.samples])
    plans = {name: predict(factory_cache, rows, predictor) for name, predictor in UNTRAINED.items()}
    report = evaluate(judged, plans)
    found = report["rows"]["expert"]["all"]
    assert max(found["l2"]["per_step"]) < 1e-4 and found["collision_at_fault"]["events"] == 0
    assert found["samples"] == len(judged.samples) == report["samples"]["all"]
    assert report["rows"]["expert"]["natural"] is None  # the factory has no lists
    standing = report["rows"]["stop"]["all"]
    assert standing["l2"]["over_time"]["avg"] > 1.0 and standing["collision_at_fault"]["primary"] == 0.0
    variants = report["variants"]["all"]["planners"]
    assert {"expert", "constant_velocity", "stop", "truth"} == set(variants)
    assert "collision_uniad" in variants["expert"]["collision"]
    text = markdown(report)
    assert "| expert | 0.00 / 0.00" in text and "### all" in text and "### natural" not in text
    truth = truth_as_predictions(judged.samples, WaypointKind.TIME)
    own = judged.primary.scores(truth)
    assert np.nanmax(own.distance) == 0.0
    with pytest.raises(TrainingError, match="lacks a plan"):
        scores_of(judged, "half", dict(list(plans["expert"].items())[:2]))


def test_plans_survive_the_file(tmp_path: Path) -> None:
    plans = {"a": np.arange(12.0).reshape(6, 2), "b": np.ones((6, 2))}
    save_plans(tmp_path / "deep" / "row.npz", plans)
    again = load_plans(tmp_path / "deep" / "row.npz")
    assert list(again) == ["a", "b"] and all(np.array_equal(again[t], plans[t]) for t in plans)
    (tmp_path / "other.npz").write_text("no")
    with pytest.raises(TrainingError, match="holds no plans"):
        load_plans(tmp_path / "other.npz")


def test_unusable_weights_are_named(small, factory_cache) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        predict(factory_cache, [0], lambda batch: stop(batch) + float("nan"))


def test_evaluate_from_the_command_line(
    small, factory_data, factory_cache, student, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(CONFIGURATIONS, "compact", lambda: small)
    export_bundle(student[0], small.student, tmp_path / "wpt-made", TrainingFacts(
        dataset="none", row="seeded", commit="", seed=3, configuration="small"
    ))  # fmt: skip
    save_teacher(tmp_path / "teacher", new_parts(small).eval(), dataset="x")
    command = [
        "evaluate", "--data", str(factory_data[0]), "--version", factory_data[1], "--cache", str(factory_cache.folder),
        "--row", f"wpt-made={tmp_path / 'wpt-made'}", "--row", f"teacher={tmp_path / 'teacher'}:confidence",
        "--plans", str(tmp_path / "plans"), "--json", str(tmp_path / "report.json"),
        "--markdown", str(tmp_path / "table.md"),
    ]  # fmt: skip
    assert main(command) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["rows"]) == ["stop", "constant_velocity", "expert", "wpt-made", "teacher"]
    assert (tmp_path / "table.md").read_text() == capsys.readouterr().out
    again = [*command[:7], "--row", f"saved={tmp_path / 'plans' / 'wpt-made.npz'}", "--no-variants"]
    again += ["--json", str(tmp_path / "again.json")]
    assert main(again) == 0
    saved = json.loads((tmp_path / "again.json").read_text())
    assert saved["rows"]["saved"] == report["rows"]["wpt-made"] and "variants" not in saved
    assert main([*command[:7], "--row", "nonsense"]) == 1 and "not NAME=WHAT" in capsys.readouterr().err
