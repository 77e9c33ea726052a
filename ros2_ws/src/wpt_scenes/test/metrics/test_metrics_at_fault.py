"""Verdicts on contacts drawn by hand, and the quick entry against the report.

The ego's rectangle reaches from 0.556 m behind to 3.528 m ahead of base_link, and 0.925 m to each side.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_scenes.metrics import (
    POSE_JITTER,
    EgoFootprint,
    Jitter,
    MixedWaypointsError,
    PredictionError,
    PrimaryMetrics,
    WaypointKind,
    evaluate_predictions,
)
from wpt_scenes.truth import NUM_STEPS

NO_JITTER = Jitter(draws=0)
KEYFRAMES = 9
CAR = {"length": 4.0, "width": 2.0}


def moving(
    box_at, start: tuple[float, float], step: tuple[float, float], yaw: float = 0.0, instance: str = "one"
):
    """A car's boxes at all keyframes, at ``start`` at keyframe 0."""
    return {
        k: [box_at(x=start[0] + k * step[0], y=start[1] + k * step[1], yaw=yaw, instance=instance, **CAR)]
        for k in range(KEYFRAMES)
    }


def verdict(
    scenes, boxes, plan_step: tuple[float, float], kind=WaypointKind.INDEX
) -> tuple[list[bool], list[bool]]:
    """At-fault and any contact by step of a plan with equal steps, made at keyframe 0 by an ego whose truth stands."""
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=0.0, boxes=boxes)[:1]
    plan = np.array(plan_step) * np.arange(1, NUM_STEPS + 1)[:, None]
    report = evaluate_predictions(samples, [scenes.predictions(samples, plan, kind=kind)], jitter=NO_JITTER)
    entry = report["planners"]["planner"]["collision"]
    return [
        [bool(n) for n in entry[name]["box_with_truth_hits"]["hits_per_step"]]
        for name in ("collision_at_fault", "collision_exact")
    ]


def test_running_into_a_standing_car_is_at_fault(scenes, box_at) -> None:
    fault, contact = verdict(scenes, moving(box_at, (15.0, 0.0), (0.0, 0.0)), (4.0, 0.0))
    assert fault == contact == [False, False, True, True, False, False]  # 12 + 3.5 > 13; 20 - 0.6 > 17


def test_a_follower_running_into_the_rear_is_no_fault(scenes, box_at) -> None:
    fault, contact = verdict(scenes, moving(box_at, (-12.0, 0.0), (5.0, 0.0)), (1.0, 0.0))
    assert any(contact) and not any(fault)


def test_the_same_follower_is_at_fault_once_the_ego_reverses(scenes, box_at) -> None:
    fault, contact = verdict(scenes, moving(box_at, (-12.0, 0.0), (1.0, 0.0)), (-1.0, 0.0))
    assert any(contact) and fault == contact


def test_the_first_contact_decides_for_later_ones(scenes, box_at) -> None:
    """The follower drives right through the ego: at later steps it is ahead of its centre."""
    fault, contact = verdict(scenes, moving(box_at, (-7.0, 0.0), (3.0, 0.0)), (1.0, 0.0))
    assert sum(contact) >= 3 and not any(fault)


def test_where_the_contact_began_counts_not_where_the_step_finds_it(scenes, box_at) -> None:
    """At 10 m a step a car from behind is found ahead of the rear axle at the first step at which it touches."""
    fault, contact = verdict(scenes, moving(box_at, (-8.0, 0.0), (10.0, 0.0)), (0.5, 0.0))
    assert contact[0] and not any(fault)
    fault, contact = verdict(scenes, moving(box_at, (12.0, 0.0), (-14.0, 0.0), yaw=math.pi), (0.5, 0.0))
    assert contact[0] and fault == contact  # oncoming, found behind the axle


def test_a_standing_ego_is_never_to_blame(scenes, box_at) -> None:
    boxes = moving(box_at, (15.0, 0.0), (-3.0, 0.0), yaw=math.pi)
    fault, contact = verdict(scenes, boxes, (0.0, 0.0))
    assert any(contact) and not any(fault)
    fault, contact = verdict(scenes, boxes, (0.09, 0.0))
    assert any(contact) and not any(fault)
    fault, contact = verdict(scenes, boxes, (0.11, 0.0))
    assert fault == contact


def test_the_flank_is_at_fault(scenes, box_at) -> None:
    boxes = moving(box_at, (6.0, 8.0), (0.0, -2.0), yaw=-math.pi / 2)
    fault, contact = verdict(scenes, boxes, (1.5, 0.0))
    assert any(contact) and fault == contact


def test_two_actors_are_judged_each_by_itself(scenes, box_at) -> None:
    follower = moving(box_at, (-6.0, 0.0), (4.0, 0.0))
    both = {k: [*follower[k], box_at(x=12.0, y=0.0, instance="two", **CAR)] for k in follower}
    fault, contact = verdict(scenes, both, (2.0, 0.0))
    alone, _ = verdict(scenes, {k: both[k][1:] for k in both}, (2.0, 0.0))
    assert fault == alone and any(fault) and contact != fault


def test_an_actor_without_a_past_is_judged_where_it_appears(scenes, box_at) -> None:
    boxes = {2: [box_at(x=-1.5, y=0.0, **CAR)], 4: [box_at(x=12.0, y=0.0, instance="two", **CAR)]}
    fault, contact = verdict(scenes, boxes, (2.0, 0.0))
    assert contact == [False, False, False, True, False, False] == fault
    fault, contact = verdict(scenes, {1: [box_at(x=-1.5, y=0.0, **CAR)]}, (1.0, 0.0))
    assert contact[0] and not any(fault)


def test_time_based_plans_are_judged_alike(scenes, box_at) -> None:
    for boxes, plan in (
        (moving(box_at, (15.0, 0.0), (0.0, 0.0)), (4.0, 0.0)),
        (moving(box_at, (-12.0, 0.0), (5.0, 0.0)), (1.0, 0.0)),
    ):
        assert verdict(scenes, boxes, plan, WaypointKind.TIME) == verdict(scenes, boxes, plan)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_quick_entry_equals_the_report(scenes, box_at, seed: int) -> None:
    random = np.random.default_rng(seed)
    boxes = {k: [] for k in range(KEYFRAMES)}
    for number in range(6):
        start, step = random.uniform((-15, -6), (25, 6)), random.uniform((-3, -1), (5, 1))
        for k, found in moving(box_at, tuple(start), tuple(step), random.uniform(-3, 3), str(number)).items():
            boxes[k] += found
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=2.0, boxes=boxes)
    plan = random.uniform((0, -0.5), (4, 0.5), (NUM_STEPS, 2)).cumsum(axis=0)
    predictions = scenes.predictions(samples, plan)
    jitter = Jitter(draws=3)
    report = evaluate_predictions(samples, [predictions], jitter=jitter)["planners"]["planner"]
    scores = PrimaryMetrics(samples, WaypointKind.INDEX, jitter=jitter).scores(predictions)
    entry = report["collision"]["collision_at_fault"]
    assert scores.hits.sum(axis=0).tolist() == entry["box"]["hits_per_step"]
    assert np.isclose(entry["pose_jitter"]["3s"]["mean"], scores.primary)
    assert entry["pose_jitter"]["draws"] == 20 and entry["pose_jitter"]["sigma_m"] == 0.1
    counts = scores.known.sum(axis=0)
    assert np.allclose(np.nansum(scores.distance, axis=0) / counts, report["l2"]["l2_ego"]["per_step"])
    fine = np.where(scores.known, scores.jittered, 0).sum(axis=0) / counts
    assert np.isclose(fine.mean(), entry["jitter"]["3s"]["mean"])
    exact = report["collision"]["collision_exact"]["box"]["hits_per_step"]
    assert all(blamed <= any_ for blamed, any_ in zip(scores.hits.sum(axis=0), exact, strict=True))


def test_pose_jitter_moves_the_ego_and_not_its_speed(scenes, box_at) -> None:
    """A plan that stands is not to blame in any draw, though its points are moved by decimetres."""
    samples = scenes.straight(
        keyframes=KEYFRAMES, step_m=0.0, boxes=scenes.everywhere(box_at(x=4.7, y=0.0), KEYFRAMES)
    )
    metrics = PrimaryMetrics(samples[:1], WaypointKind.INDEX)
    standing = metrics.scores(scenes.predictions(samples[:1], np.zeros((NUM_STEPS, 2))))
    assert standing.primary == 0.0 and standing.events == 0
    # 0.012 m short of the box after a creeping start.
    plan = np.column_stack([np.full(NUM_STEPS, 0.16), np.zeros(NUM_STEPS)])
    near = metrics.scores(scenes.predictions(samples[:1], plan))
    assert not near.hits.any() and 0.1 < near.pose_jittered[0, 0] < 0.9
    assert POSE_JITTER.pose_noise(["a"]).shape == (1, 20, NUM_STEPS, 3)


def test_heading_noise_leaves_the_position_noise_as_it_was() -> None:
    plain, turned = Jitter(seed=3), Jitter(seed=3, heading_sigma_rad=0.02)
    assert np.array_equal(plain.noise(["x", "y"]), turned.noise(["x", "y"]))
    assert not plain.pose_noise(["x"])[..., 2].any() and turned.pose_noise(["x"])[..., 2].std() > 0.01


def test_wrong_kinds_and_empty_rows_are_named(scenes) -> None:
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=2.0)
    metrics = PrimaryMetrics(samples, WaypointKind.TIME, footprint=EgoFootprint())
    with pytest.raises(MixedWaypointsError, match="expected time-based"):
        metrics.scores(scenes.predictions(samples, np.zeros((NUM_STEPS, 2))))
    with pytest.raises(PredictionError, match="no plan for any"):
        metrics.scores(scenes.predictions([], np.zeros((NUM_STEPS, 2)), kind=WaypointKind.TIME))
    with pytest.raises(PredictionError, match="no samples"):
        PrimaryMetrics([], WaypointKind.TIME)
