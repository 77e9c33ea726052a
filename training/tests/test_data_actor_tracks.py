from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from wpt_policy import se3

from wpt_training.data.actor_tracks import ActorTracks, is_movable, is_vulnerable

MS = 1_000_000
NOBODY = np.full(3, np.nan)


def box(token, x, y, yaw=0.0, *, velocity=NOBODY, category="vehicle.car", size=(4.0, 2.0, 1.5)):
    return SimpleNamespace(
        instance_token=token,
        category=category,
        global_from_box=se3.planar(x, y, yaw),
        size_lwh=np.array(size),
        velocity=np.array(velocity, dtype=float),
    )


def tracks(*keyframes) -> ActorTracks:
    """keyframes: (stamp in ms, boxes)."""
    return ActorTracks(
        SimpleNamespace(
            keyframes=[SimpleNamespace(stamp_ns=ms * MS, boxes=tuple(boxes)) for ms, boxes in keyframes]
        )
    )


def test_road_users_alone_are_movable():
    assert all(
        map(is_movable, ("vehicle.car", "vehicle.bicycle", "human.pedestrian.child", "vehicle.trailer"))
    )
    for other in (
        "animal",
        "movable_object.barrier",
        "movable_object.trafficcone",
        "static_object.bicycle_rack",
        "vehicle.ego",
    ):
        assert not is_movable(other)
    assert all(map(is_vulnerable, ("human.pedestrian.adult", "vehicle.bicycle", "vehicle.motorcycle")))
    assert not is_vulnerable("vehicle.truck")


def test_between_keyframes_everything_is_interpolated():
    made = tracks(
        (0, [box("a", 0.0, 0.0, math.radians(170), velocity=(2, 0, 0))]),
        (500, [box("a", 2.0, 1.0, math.radians(-170), velocity=(4, 2, 0), size=(5.0, 2.2, 1.5))]),
    )
    now = made.at(125 * MS, np.eye(4))
    np.testing.assert_allclose(now.boxes[0], (0.5, 0.25, math.radians(175), 4.25, 2.05))
    np.testing.assert_allclose(now.velocity[0], (2.5, 0.5))
    # The short way over 180 degrees.
    assert made.at(375 * MS, np.eye(4)).boxes[0, 2] == pytest.approx(math.radians(-175))


def test_it_is_moved_into_the_base_link_that_is_asked_for():
    made = tracks((0, [box("a", 10.0, 5.0, 0.0, velocity=(3, 0, 0))]))
    base_from_global = se3.inverse(se3.planar(10.0, 0.0, math.pi / 2))
    now = made.at(0, base_from_global)
    np.testing.assert_allclose(now.boxes[0, :3], (5.0, 0.0, -math.pi / 2), atol=1e-12)
    np.testing.assert_allclose(now.velocity[0], (0.0, -3.0), atol=1e-12)


def test_at_the_ends_velocity_is_kept_for_a_quarter_second():
    made = tracks(
        (1000, [box("a", 0.0, 0.0, velocity=(4, 0, 0))]), (1500, [box("a", 2.0, 0.0, velocity=(4, 0, 0))])
    )
    assert made.at(1700 * MS, np.eye(4)).boxes[0, 0] == pytest.approx(2.8)
    assert made.at(800 * MS, np.eye(4)).boxes[0, 0] == pytest.approx(-0.8)
    assert len(made.at(1751 * MS, np.eye(4)).number) == 0 == len(made.at(749 * MS, np.eye(4)).number)


def test_one_seen_once_stands_there_for_a_quarter_second():
    made = tracks((0, []), (500, [box("a", 1.0, 0.0)]), (1000, []))
    for ms, there in ((249, 0), (250, 1), (500, 1), (750, 1), (751, 0)):
        now = made.at(ms * MS, np.eye(4))
        assert len(now.number) == there
        assert not there or (now.boxes[0, 0], now.velocity[0, 0]) == (1.0, 0.0)


def test_a_missed_keyframe_is_bridged_and_a_long_gap_is_not():
    made = tracks(
        (0, [box("a", 0.0, 0.0)]), (500, []), (1000, [box("a", 4.0, 0.0)]), (2600, [box("a", 9.0, 0.0)])
    )
    assert made.at(500 * MS, np.eye(4)).boxes[0, 0] == pytest.approx(2.0)
    assert len(made.at(1800 * MS, np.eye(4)).number) == 0
    assert len(made.at(1200 * MS, np.eye(4)).number) == 1
    assert len(made.at(2400 * MS, np.eye(4)).number) == 1


def test_numbers_stay_with_the_actor():
    made = tracks(
        (0, [box("a", 0, 0), box("cone", 1, 1, category="movable_object.trafficcone")]),
        (500, [box("b", 5, 0, category="human.pedestrian.adult"), box("a", 1, 0)]),
    )
    assert made.instance_tokens == ("a", "b") and made.vulnerable.tolist() == [False, True] and len(made) == 2
    assert made.at(500 * MS, np.eye(4)).number.tolist() == [0, 1]
    assert made.at(0, np.eye(4)).number.tolist() == [0]


def test_a_scene_without_actors():
    now = tracks((0, []), (500, [])).at(0, np.eye(4))
    assert now.boxes.shape == (0, 5) and now.velocity.shape == (0, 2)
