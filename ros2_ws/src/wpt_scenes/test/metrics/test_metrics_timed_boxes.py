"""Objects between keyframes, for time-based waypoints."""

from __future__ import annotations

import numpy as np
import pytest
from wpt_scenes.metrics.obstacles import road_users_timed
from wpt_scenes.truth import NUM_STEPS

HALF_S = 500_000_000


@pytest.fixture
def record(scenes, box_at):
    """Keyframes 0.5 s apart, a box that moves 4 m a step; it is missing at keyframe 3; a second one begins at 2."""
    boxes = {k: [box_at(x=4.0 * k, y=0.0)] for k in range(9) if k != 3}
    for k in range(2, 9):
        boxes.setdefault(k, []).append(
            box_at(x=0.0, y=9.0, instance="two", category="human.pedestrian.adult")
        )
    for k in range(9):
        boxes.setdefault(k, []).append(
            box_at(x=0.0, y=-9.0, instance="cone", category="movable_object.trafficcone")
        )
    return scenes.straight(keyframes=9, step_m=0.0, boxes=boxes)[0].record


def places(record, reference_ns: int, keyframe: int = 0) -> list[list[tuple[float, float]]]:
    found = road_users_timed(record, np.array([keyframe]), np.array([reference_ns]))
    by_step: list[list[tuple[float, float]]] = [[] for _ in range(NUM_STEPS)]
    for owner, centre in zip(found.owner, found.centre, strict=True):
        by_step[owner].append((round(float(centre[0]), 6), round(float(centre[1]), 6)))
    return [sorted(step) for step in by_step]


def test_at_a_keyframe_the_boxes_are_the_annotated_ones(record) -> None:
    steps = places(record, 0)
    assert steps[0] == [(4.0, 0.0)]
    assert steps[1] == [(0.0, 9.0), (8.0, 0.0)]


def test_between_keyframes_they_are_interpolated(record) -> None:
    steps = places(record, HALF_S // 4)
    assert steps[0] == [
        (5.0, 0.0)
    ]  # a quarter of the way from keyframe 1 to 2; the second box is nearer to "not yet"
    assert steps[1] == [
        (0.0, 9.0),
        (8.0, 0.0),
    ]  # the first is missing at 3, which is the farther one: it stands
    assert steps[2] == [(0.0, 9.0)]  # a quarter of the way from 3 to 4: missing at the nearer one
    assert places(record, 3 * HALF_S // 4)[0] == [
        (0.0, 9.0),
        (7.0, 0.0),
    ]  # three quarters: the second has begun


def test_beyond_the_last_keyframe_nothing_is_known(record) -> None:
    assert places(record, 5 * HALF_S, keyframe=5)[3:] == [[], [], []]
    assert places(record, 5 * HALF_S, keyframe=5)[2] == [(0.0, 9.0), (32.0, 0.0)]
