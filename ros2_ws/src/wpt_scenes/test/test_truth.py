"""What really happened: waypoints, boxes, commands, and plans moved into a keyframe."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_policy.frame import Command, CommandSource
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.pose_track import PoseTrack
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Keyframe, Scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import (
    WaypointFrame,
    derived_command,
    future_boxes,
    future_waypoints,
    plan_in_keyframe,
    timed_waypoints,
    waypoint_count,
)

START_NS = 1_700_000_000_000_000_000
STEP_NS = 497_000_000  # keyframes are not half a second apart
BASE_FROM_LIDAR = se3.planar(0.94, 0.0, -math.pi / 2)
TILTED = se3.transform([100.0, 50.0, 0.0], [math.cos(0.02), 0.0, math.sin(0.02), 0.0]) @ se3.planar(0, 0, 1.0)


def driving(yaw_rate: float, *, keyframes: int = 9, speed: float = 8.0, lidar: bool = True) -> Scene:
    """A scene without images: a circle at constant speed on slightly tilted ground."""
    track, frames = [], []
    for index in range(keyframes):
        stamp = START_NS + index * STEP_NS
        for part in range(10):
            at = stamp + part * STEP_NS // 10
            pose = se3.extrapolate(
                TILTED, np.array([speed, 0, 0]), np.array([0, 0, yaw_rate]), (at - START_NS) / 1e9
            )
            track.append((at, pose))
            if part == 0:
                frames.append(
                    Keyframe(
                        index=index,
                        sample_token=f"sample-{index}",
                        stamp_ns=at,
                        global_from_base=pose,
                        base_from_lidar=BASE_FROM_LIDAR if lidar else None,
                        boxes=(),
                        images={},
                    )
                )
    return Scene(
        name="scene-test",
        token="t",
        location="",
        vehicle="",
        description="",
        dataset_version="v1.0-test",
        dataroot=Path("/"),
        log_token="",
        keyframes=tuple(frames),
        camera_names=(),
        images={},
        ego_poses=tuple(track),
    )


def circle(distance: float, curvature: float) -> np.ndarray:
    """Where a car is after some metres on a circle, in its own starting frame."""
    if abs(curvature) < 1e-9:
        return np.array([distance, 0.0])
    return np.array([math.sin(curvature * distance), 1.0 - math.cos(curvature * distance)]) / curvature


def test_index_based_waypoints_are_the_next_keyframes_whenever_they_are() -> None:
    scene = driving(0.2)
    positions, valid = future_waypoints(scene, 1)
    assert valid.tolist() == [True] * 6 and positions.shape == (6, 2)
    for step in range(6):
        assert np.allclose(positions[step], circle(8.0 * 0.497 * (step + 1), 0.2 / 8.0), atol=1e-6)


def test_timed_waypoints_are_exactly_half_a_second_apart_whatever_the_keyframes() -> None:
    scene = driving(0.2)
    positions, valid = timed_waypoints(scene.poses, START_NS + 123_000_000)
    assert valid.all()
    for step in range(6):
        assert np.allclose(positions[step], circle(4.0 * (step + 1), 0.2 / 8.0), atol=2e-3)
    assert not np.allclose(positions, future_waypoints(scene, 0)[0], atol=0.01)


def test_the_lidar_frame_follows_the_lidar_and_not_the_axle() -> None:
    """On a circle the LiDAR, 0.94 m ahead of the axle, drives a wider one: no turned copy of the ego's."""
    scene = driving(0.2)
    lidar, _ = future_waypoints(scene, 0, WaypointFrame.LIDAR)
    ego, _ = future_waypoints(scene, 0, "ego")
    keyframes = scene.keyframes
    for step in range(6):
        moved = (
            se3.inverse(keyframes[0].global_from_base @ BASE_FROM_LIDAR)
            @ keyframes[step + 1].global_from_base
        )
        assert np.allclose(lidar[step], (moved @ BASE_FROM_LIDAR)[:2, 3], atol=1e-9)
    turned = np.column_stack([-ego[:, 1], ego[:, 0]])
    assert lidar[5, 0] < 0 < lidar[5, 1]  # to the left is negative x, ahead is positive y
    assert np.linalg.norm(lidar - turned, axis=1).max() > 0.3
    straight = driving(0.0)
    ego = future_waypoints(straight, 0, "ego")[0]
    assert np.allclose(
        future_waypoints(straight, 0, "lidar")[0], np.column_stack([-ego[:, 1], ego[:, 0]]), atol=1e-9
    )


def test_beyond_the_scene_nothing_is_made_up() -> None:
    scene = driving(0.0)
    positions, valid = future_waypoints(scene, 5)
    assert valid.tolist() == [True] * 3 + [False] * 3 and waypoint_count(valid) == 3
    assert np.isnan(positions[3:]).all() and not np.isnan(positions[:3]).any()
    timed, timed_valid = timed_waypoints(scene.poses, scene.keyframes[5].stamp_ns)
    assert timed_valid.tolist() == [True] * 3 + [False] * 3 and np.isnan(timed[3:]).all()
    assert waypoint_count(future_waypoints(scene, 8)[1]) == 0
    with pytest.raises(DatasetError, match="scene-test has no keyframe 9, expected 0 to 8"):
        future_waypoints(scene, 9)
    with pytest.raises(DatasetError, match="no ego pose is known"):
        timed_waypoints(scene.poses, START_NS - 1)


def test_the_lidar_frame_needs_a_lidar_and_the_ego_frame_does_not() -> None:
    scene = driving(0.1, lidar=False)
    with pytest.raises(DatasetError, match="no LIDAR_TOP.*ask for the ego frame"):
        future_waypoints(scene, 0, "lidar")
    assert future_waypoints(scene, 0)[1].all()


# 3 s of a circle at 8 m/s end 2 m aside at about 0.06 rad/s.
@pytest.mark.parametrize(
    ("yaw_rate", "command"),
    [
        (0.0, Command.STRAIGHT),
        (0.04, Command.STRAIGHT),
        (0.2, Command.LEFT),
        (-0.04, Command.STRAIGHT),
        (-0.2, Command.RIGHT),
    ],
)
@pytest.mark.parametrize("lidar", [True, False])
def test_the_command_is_the_side_on_which_the_ego_is_after_six_keyframes(
    yaw_rate: float, command: Command, lidar: bool
) -> None:
    assert derived_command(driving(yaw_rate, lidar=lidar), 0) == (command, CommandSource.DERIVED_FROM_FUTURE)


@given(st.floats(-0.15, 0.15))
def test_the_command_rule_is_two_metres(yaw_rate: float) -> None:
    scene = driving(yaw_rate, keyframes=7)
    offset = future_waypoints(scene, 0, "lidar")[0][5, 0]
    expected = Command.RIGHT if offset >= 2.0 else Command.LEFT if offset <= -2.0 else Command.STRAIGHT
    assert derived_command(scene, 0)[0] is expected


def test_near_the_end_the_last_known_waypoint_decides_and_without_any_the_command_is_unknown() -> None:
    scene = driving(0.4)
    assert derived_command(scene, 4)[0] is Command.LEFT
    assert derived_command(scene, 7)[0] is Command.STRAIGHT  # 0.5 s ahead the ego is 0.8 m aside
    assert derived_command(scene, 8) == (Command.UNKNOWN, CommandSource.UNKNOWN)


def test_future_boxes_lie_in_the_current_ego_frame(small_root: Path) -> None:
    scene = load_scene(NuScenesTables.load(small_root, "v1.0-small"), "scene-0")
    boxes = future_boxes(scene, 1)
    assert [None if entry is None else len(entry) for entry in boxes] == [1, 1, 2, None, None, None, None]
    for entry in boxes[:3]:
        # The parked car is at (20, 3); the ego of keyframe 1 at (5, 0).
        assert np.allclose(entry[0].base_from_box, se3.planar(15.0, 3.0, math.pi), atol=1e-9)
    walker = boxes[2][1]
    assert np.allclose(walker.base_from_box[:2, 3], [5.0, 0.0]) and np.allclose(walker.velocity, [0, 2, 0])


# plan_in_keyframe


@given(st.integers(0, 3 * STEP_NS), st.floats(-0.5, 0.5))
def test_the_recorded_future_as_a_plan_becomes_the_keyframes_truth(offset_ns: int, yaw_rate: float) -> None:
    """A plan that is the recorded future, made at any reference stamp, must land on the recorded places."""
    scene = driving(yaw_rate)
    reference = START_NS + offset_ns
    base_from_global = se3.inverse(scene.poses.at(reference))
    future = [scene.poses.at(reference + round(step * 0.5e9))[:3, 3] for step in range(3)]
    seen = se3.apply(base_from_global, np.array(future))
    keyframe = scene.keyframes[2]
    moved = plan_in_keyframe(seen[:, :2], reference, scene.poses, keyframe.global_from_base)
    expected = se3.apply(se3.inverse(keyframe.global_from_base), np.array(future))[:, :2]
    # All ground is one tilted plane here, so dropping z loses nothing.
    assert np.allclose(moved, expected, atol=2e-3)


def test_a_plan_at_the_keyframes_own_stamp_stays_as_it_is() -> None:
    scene = driving(0.3)
    plan = np.array([[0.0, 0.0], [4.0, 0.5], [8.0, 2.0]])
    moved = plan_in_keyframe(
        plan, scene.keyframes[3].stamp_ns, scene.poses, scene.keyframes[3].global_from_base
    )
    assert np.allclose(moved, plan, atol=1e-9)


def test_a_plan_from_before_the_keyframe_is_moved_back_by_what_was_driven() -> None:
    track = PoseTrack([0, 1_000_000_000], [np.eye(4), se3.planar(10.0, 0.0, 0.0)])
    moved = plan_in_keyframe(
        np.array([[0.0, 0.0], [5.0, 1.0]]), 300_000_000, track, se3.planar(4.0, 0.0, math.pi / 2)
    )
    assert np.allclose(moved, [[0.0, 1.0], [1.0, -4.0]], atol=1e-9)
    with pytest.raises(DatasetError, match="no ego pose is known at 2000000000 ns"):
        plan_in_keyframe(np.zeros((1, 2)), 2_000_000_000, track, np.eye(4))
