"""Every L2 variant on a drive whose errors can be counted on fingers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_scenes.metrics import (
    Jitter,
    MixedWaypointsError,
    Predictions,
    WaypointBatch,
    WaypointKind,
    displacement,
    evaluate_predictions,
)
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

NO_JITTER = Jitter(draws=0)
KEYFRAMES = 9


@pytest.fixture(scope="module")
def slow_plan(scenes) -> dict:
    """Truth goes 5 m a step, the plan 4 m: step k is k metres behind. Nine keyframes: 8, 7, 6, 5, 4, 3 have step k."""
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=5.0)
    plan = np.stack([4.0 * np.arange(1, 7), np.zeros(6)], axis=-1)
    report = evaluate_predictions(samples, [scenes.predictions(samples, plan)], jitter=NO_JITTER)
    return report["planners"]["planner"]["l2"]


@pytest.mark.parametrize("name", ["l2_ego", "l2_lidar"])
def test_ours_divides_each_step_by_the_samples_that_have_it(slow_plan, name) -> None:
    entry = slow_plan[name]
    assert entry["counted_per_step"] == [8, 7, 6, 5, 4, 3]
    assert entry["samples"] == 9
    assert entry["per_step"] == pytest.approx([1, 2, 3, 4, 5, 6])
    assert entry["at_step"] == pytest.approx({"1s": 2, "2s": 4, "3s": 6, "avg": 4})
    assert entry["over_time"] == pytest.approx({"1s": 1.5, "2s": 2.5, "3s": 3.5, "avg": 2.5})


def test_uniad_counts_missing_steps_as_no_error(slow_plan) -> None:
    entry = slow_plan["l2_uniad"]
    assert entry["counted_per_step"] == [9] * 6
    # k metres in (9 - k) of 9 samples.
    assert entry["per_step"] == pytest.approx([8 / 9, 14 / 9, 18 / 9, 20 / 9, 20 / 9, 18 / 9])
    assert entry["at_step"] == pytest.approx(
        {"1s": 14 / 9, "2s": 20 / 9, "3s": 2, "avg": (14 + 20 + 18) / 27}
    )


@pytest.mark.parametrize("name", ["l2_vad", "l2_bevplanner"])
def test_vad_keeps_samples_with_six_future_keyframes(slow_plan, name) -> None:
    entry = slow_plan[name]
    assert entry["samples"] == 3
    assert entry["per_step"] == pytest.approx([1, 2, 3, 4, 5, 6])
    assert entry["over_time"] == pytest.approx({"1s": 1.5, "2s": 2.5, "3s": 3.5, "avg": 2.5})


def test_stp3_wants_two_past_keyframes_as_well(slow_plan) -> None:
    assert slow_plan["l2_stp3"]["samples"] == 1
    assert slow_plan["l2_stp3"]["over_time"]["avg"] == pytest.approx(2.5)


def test_occwd_forgives_a_missing_sixth_step(slow_plan) -> None:
    entry = slow_plan["l2_occwd"]
    assert entry["samples"] == 2  # keyframes 2 (six future ones) and 3 (five)
    assert entry["per_step"] == pytest.approx([1, 2, 3, 4, 5, 3])


def test_lidar_frame_measures_another_point_of_the_car(scenes) -> None:
    samples = scenes.straight(keyframes=7, step_m=1.0)[:1]
    diagonal = np.stack([np.arange(1.0, 7.0)] * 2, axis=-1)
    report = evaluate_predictions(samples, [scenes.predictions(samples, diagonal)], jitter=NO_JITTER)
    l2 = report["planners"]["planner"]["l2"]
    half = np.sqrt(0.5)
    # base_link is k metres to the left; LIDAR_TOP, 1 m ahead at 45 degrees, sqrt(.5) further left and 1 - sqrt(.5) back.
    steps = np.arange(1.0, 7.0)
    assert l2["l2_ego"]["per_step"] == pytest.approx(steps)
    assert l2["l2_lidar"]["per_step"] == pytest.approx(np.hypot(1 - half, steps + half))


def test_kinds_and_frames_never_mix(scenes) -> None:
    samples = scenes.straight(keyframes=7, step_m=1.0)
    plan = np.zeros((NUM_STEPS, 2))
    index = scenes.predictions(samples, plan)
    time = scenes.predictions(samples, plan, kind=WaypointKind.TIME, planner="other")
    with pytest.raises(MixedWaypointsError, match="index-based and time-based"):
        evaluate_predictions(samples, [index, time])
    known = np.ones((1, NUM_STEPS), dtype=bool)

    def batch(kind: WaypointKind, frame: WaypointFrame, count: int = 1) -> WaypointBatch:
        return WaypointBatch(
            kind=kind,
            frame=frame,
            positions=np.zeros((count, NUM_STEPS, 2)),
            known=np.repeat(known, count, axis=0),
        )

    one = batch(WaypointKind.INDEX, WaypointFrame.EGO)
    for other in (
        batch(WaypointKind.TIME, WaypointFrame.EGO),
        batch(WaypointKind.INDEX, WaypointFrame.LIDAR),
        batch(WaypointKind.INDEX, WaypointFrame.EGO, count=2),
    ):
        with pytest.raises(MixedWaypointsError):
            displacement(one, other)


def test_time_based_plans_are_judged_by_our_own_variants_alone(scenes) -> None:
    samples = scenes.straight(keyframes=8, step_m=5.0)
    plan = np.stack([4.0 * np.arange(1, 7), np.zeros(6)], axis=-1)
    report = evaluate_predictions(
        samples, [scenes.predictions(samples, plan, kind=WaypointKind.TIME)], jitter=NO_JITTER
    )
    entry = report["planners"]["planner"]
    assert report["waypoints"] == "time"
    assert entry["l2"].keys() == {"l2_ego"}
    assert entry["collision"].keys() == {"collision_exact", "collision_at_fault"}
    assert entry["unavailable"]["l2_uniad"] == "defined for index-based waypoints alone"


@st.composite
def drives(draw) -> list[np.ndarray]:
    poses = [se3.planar(draw(st.floats(-500, 500)), draw(st.floats(-500, 500)), draw(st.floats(-3, 3)))]
    for _ in range(9):
        poses.append(poses[-1] @ se3.planar(draw(st.floats(0, 6)), 0.0, draw(st.floats(-0.4, 0.4))))
    return poses


@settings(max_examples=25, deadline=None)
@given(poses=drives(), frame=st.sampled_from(WaypointFrame))
def test_truth_has_distance_exactly_zero_in_every_variant(scenes, poses, frame) -> None:
    samples = scenes.along(poses)
    own = {}
    for sample in samples:
        positions, known = sample.truth[WaypointKind.INDEX, frame]
        own[sample.token] = np.where(known[:, None], positions, 0.0)
    given_truth = Predictions(planner="copy", kind=WaypointKind.INDEX, frame=frame, positions=own, refused={})
    report = evaluate_predictions(samples, [given_truth], jitter=NO_JITTER)
    for planner in ("copy", "truth"):
        entry = report["planners"][planner]
        assert len(entry["l2"]) == 7
        for variant in entry["l2"].values():
            assert all(value == 0.0 for value in variant["per_step"])
        for variant in entry["collision"].values():
            assert variant["box"]["hits_per_step"] == [0] * 6


@settings(max_examples=15, deadline=None)
@given(
    poses=drives(),
    x=st.floats(-100, 100),
    y=st.floats(-100, 100),
    turn=st.floats(-3, 3),
    seed=st.integers(0, 99),
)
def test_moving_the_whole_world_changes_nothing(scenes, poses, x, y, turn, seed) -> None:
    rng = np.random.default_rng(seed)
    plan = np.cumsum(rng.normal([2.0, 0.0], 1.0, (NUM_STEPS, 2)), axis=0)
    reports = []
    for start in (np.eye(4), se3.planar(x, y, turn)):
        samples = scenes.along(poses, start=start)
        reports.append(evaluate_predictions(samples, [scenes.predictions(samples, plan)], jitter=NO_JITTER))
    first, second = (report["planners"]["planner"]["l2"] for report in reports)
    for name in first:
        assert first[name]["per_step"] == pytest.approx(second[name]["per_step"], abs=1e-9)
