"""The comparison repeats what was reported, and notices every kind of difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose

from wpt_msgs.msg import SetReport, StageTime, Trajectory, TrajectoryPoint
from wpt_policy.baselines import ConstantVelocityPlanner
from wpt_policy.registry import make_planner
from wpt_replay.bag_frames import BagFrames, BagFramesError
from wpt_replay.compare import compare, reported_sets, swapped_cameras_change
from wpt_scenes.frames import FrameSource
from wpt_scenes.scene_types import Scene

RIG = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")


def stamp(ns: int) -> Time:
    return Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


def report(scene: Scene, index: int, set_id: int, **changes: object) -> SetReport:
    """What a node says of a keyframe's set; ego poses are left to the bag's odometry."""
    images = scene.keyframes[index].images
    stamps = [images[camera].stamp_ns for camera in RIG]
    message = SetReport(set_id=set_id, outcome=SetReport.PLANNED, ego_source=SetReport.EGO_INTERPOLATED)
    message.header.stamp = stamp(max(stamps))
    message.cameras = list(RIG)
    message.camera_status = [SetReport.CAMERA_USED] * len(RIG)
    message.camera_stamps = [stamp(ns) for ns in stamps]
    message.camera_ego_poses = [message.ego_pose for _ in RIG]
    message.command.command, message.command.source = 3, 1
    message.stages = [StageTime(name="plan", milliseconds=1.0)]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def trajectory(positions: np.ndarray, flags: int = 0) -> Trajectory:
    message = Trajectory(flags=flags)
    for x, y in positions:
        point = TrajectoryPoint()
        point.pose.position.x, point.pose.position.y = float(x), float(y)
        message.points.append(point)
    return message


@pytest.fixture
def reports(factory_scene: Scene) -> list[SetReport]:
    return [report(factory_scene, index, index + 1) for index in range(len(factory_scene.keyframes))]


def test_frames_from_the_bag_equal_frames_from_the_tables(
    factory_scene: Scene, factory_bag: Path, reports: list[SetReport]
) -> None:
    """Two independent readers, one of tables and one of messages, must see the same world."""
    planner = make_planner("wpt-seeded", device="cpu")
    source = FrameSource(factory_scene, planner.image_input)
    for (one, frame), index in zip(
        BagFrames(factory_bag, RIG, planner.image_input).frames(reported_sets(reports)), range(3), strict=True
    ):
        expected = source.frame(dict(one.stamps), one.command, one.command_source)
        assert frame.reference_stamp_ns == expected.reference_stamp_ns, index
        for camera in RIG:
            got, want = frame.views[camera], expected.views[camera]
            assert np.array_equal(got.pixels, want.pixels)
            assert np.allclose(got.calibration.intrinsics, want.calibration.intrinsics, atol=1e-9)
            assert np.allclose(got.calibration.base_from_camera, want.calibration.base_from_camera, atol=1e-9)
            assert np.allclose(got.odom_from_base, want.odom_from_base, atol=1e-6)
        assert np.allclose(frame.ego.linear_velocity, expected.ego.linear_velocity, atol=1e-6)


def test_equal_plans_are_equal(factory_bag: Path, reports: list[SetReport]) -> None:
    _, offline = compare(factory_bag, reports, {}, ConstantVelocityPlanner())
    published = {set_id: trajectory(plan.positions) for set_id, plan in offline.items()}
    result, _ = compare(factory_bag, reports, published, ConstantVelocityPlanner())
    assert result.equal and result.compared == len(reports) and result.max_abs_m == 0.0


def test_a_moved_point_is_found(factory_bag: Path, reports: list[SetReport]) -> None:
    _, offline = compare(factory_bag, reports, {}, ConstantVelocityPlanner())
    published = {set_id: trajectory(plan.positions) for set_id, plan in offline.items()}
    published[2].points[3].pose.position.y += 0.01
    result, _ = compare(factory_bag, reports, published, ConstantVelocityPlanner())
    assert not result.equal and result.max_abs_m == pytest.approx(0.01, abs=1e-9)


def test_another_number_of_points_is_found(factory_bag: Path, reports: list[SetReport]) -> None:
    _, offline = compare(factory_bag, reports, {}, ConstantVelocityPlanner())
    published = {set_id: trajectory(plan.positions) for set_id, plan in offline.items()}
    published[1] = trajectory(np.zeros((3, 2)))
    result, _ = compare(factory_bag, reports, published, ConstantVelocityPlanner())
    assert result.only_offline == (1,) and not result.equal


def test_another_flag_is_found(factory_bag: Path, reports: list[SetReport]) -> None:
    _, offline = compare(factory_bag, reports, {}, ConstantVelocityPlanner())
    published = {set_id: trajectory(plan.positions) for set_id, plan in offline.items()}
    published[1].flags = Trajectory.FLAG_WARMING_UP
    result, _ = compare(factory_bag, reports, published, ConstantVelocityPlanner())
    assert result.flags_differ == (1,) and not result.equal


def test_a_plan_that_only_the_node_has_is_found(factory_bag: Path, reports: list[SetReport]) -> None:
    reports[0].ego_source = SetReport.EGO_NONE  # constant velocity refuses offline
    result, _ = compare(factory_bag, reports, {1: trajectory(np.zeros((7, 2)))}, ConstantVelocityPlanner())
    assert result.only_node == (1,) and not result.equal


def test_a_camera_without_ego_motion_is_not_compensated_offline(
    factory_bag: Path, reports: list[SetReport]
) -> None:
    """Odometry began, or was reset, between the images of a set: the node had no pose for the first of them."""
    first = reports[1]
    first.camera_ego_poses = [Pose() for _ in RIG]
    first.camera_ego_poses[0].orientation.w = 0.0
    planner = make_planner("constant_velocity")
    _, frame = next(BagFrames(factory_bag, RIG, planner.image_input).frames(reported_sets([first])))
    assert frame.views[RIG[0]].odom_from_base is None
    assert all(frame.views[camera].odom_from_base is not None for camera in RIG[1:])


def test_a_plan_that_was_reported_and_not_received_is_no_refusal(
    factory_bag: Path, reports: list[SetReport]
) -> None:
    result, _ = compare(factory_bag, reports, {}, ConstantVelocityPlanner())
    assert result.only_offline == (1, 2, 3) and result.refused_alike == 0 and not result.equal


def test_a_plan_of_nan_is_not_equal(factory_bag: Path, reports: list[SetReport]) -> None:
    _, offline = compare(factory_bag, reports, {}, ConstantVelocityPlanner())
    published = {set_id: trajectory(plan.positions) for set_id, plan in offline.items()}
    published[2].points[3].pose.position.y = float("nan")
    result, _ = compare(factory_bag, reports, published, ConstantVelocityPlanner())
    assert not result.equal and result.max_abs_m == np.inf


def test_sets_that_never_reached_the_planner_are_left_out_and_resets_are_kept(
    reports: list[SetReport],
) -> None:
    skipped = SetReport(set_id=9, outcome=SetReport.SKIPPED_BUSY)
    reset = SetReport(outcome=SetReport.RESET)
    sets = reported_sets([reports[0], skipped, reset, reports[1], reports[2]])
    assert [one.set_id for one in sets] == [1, 2, 3]
    assert [one.memory_reset for one in sets] == [True, True, False]


def test_a_foreign_bag_is_named(factory_bag: Path, reports: list[SetReport]) -> None:
    reports[1].camera_stamps[0] = stamp(12345)
    with pytest.raises(BagFramesError, match=r"cam_front at 12345 ns.*set 2"):
        compare(factory_bag, reports, {}, make_planner("wpt-seeded", device="cpu"))


def test_swapping_cameras_changes_a_network_that_looks(factory_bag: Path, reports: list[SetReport]) -> None:
    planner = make_planner("wpt-seeded", device="cpu")
    assert swapped_cameras_change(factory_bag, reports, planner, "cam_front", "cam_back") > 1e-2
