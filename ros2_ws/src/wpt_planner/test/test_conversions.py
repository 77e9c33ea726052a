from __future__ import annotations

import math

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from rclpy.duration import Duration as RclpyDuration
from tf2_msgs.msg import TFMessage
from wpt_msgs.msg import DrivingCommand, SetReport, Trajectory
from wpt_planner import conversions
from wpt_policy.camera_model import CameraInfoValues, RegionOfInterest, camera_info_values
from wpt_planner.conversions import ConversionError
from wpt_planner.set_outcome import CameraOutcome, CameraStatus, EgoSource, Outcome, SetOutcome
from wpt_planner.static_transforms import StaticTransforms
from wpt_policy import se3
from wpt_policy.frame import Command, CommandSource
from wpt_policy.plan import Candidate, Plan, PlanFlag, curvatures, headings_and_speeds

numbers = st.floats(-50, 50, allow_nan=False)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
rotations = st.tuples(*[st.floats(-3, 3, allow_nan=False)] * 3).map(lambda v: se3.exp_rotation(np.array(v)))


def rigid(rotation: np.ndarray, place: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, place
    return matrix


# --- time and geometry --------------------------------------------------------------------------------------


@given(st.integers(0, (2**31 - 1) * 10**9 + 999_999_999))
def test_stamps_come_back_to_the_nanosecond(stamp_ns) -> None:
    assert conversions.stamp_to_ns(conversions.stamp_from_ns(stamp_ns)) == stamp_ns


@given(st.integers(-(2**31) * 10**9, (2**31 - 1) * 10**9))
def test_durations_come_back_to_the_nanosecond(duration_ns) -> None:
    assert conversions.duration_to_ns(conversions.duration_from_ns(duration_ns)) == duration_ns


@pytest.mark.parametrize("duration_ns", [0, 1, -1, -1_500_000_000, 2_300_000_000])
def test_durations_are_written_as_rclpy_writes_them(duration_ns) -> None:
    assert conversions.duration_from_ns(duration_ns) == RclpyDuration(nanoseconds=duration_ns).to_msg()


@given(rotations, vectors)
def test_poses_come_back(rotation, place) -> None:
    matrix = rigid(rotation, place)
    np.testing.assert_allclose(
        conversions.matrix_from_pose(conversions.pose_from_matrix(matrix)), matrix, atol=1e-12
    )


def test_a_quaternion_message_is_x_y_z_w() -> None:
    pose = conversions.pose_from_matrix(se3.planar(1, 2, math.pi / 2))
    assert (pose.orientation.x, pose.orientation.y) == (0.0, 0.0)
    assert pose.orientation.z == pytest.approx(math.sqrt(0.5)) and pose.orientation.w == pytest.approx(
        math.sqrt(0.5)
    )


def test_a_transform_message_is_read_like_a_pose() -> None:
    message = TransformStamped()
    message.transform.translation.x = 2.0
    message.transform.rotation.w, message.transform.rotation.z = math.sqrt(0.5), math.sqrt(0.5)
    expected = se3.planar(2, 0, math.pi / 2)
    np.testing.assert_allclose(conversions.matrix_from_transform(message.transform), expected, atol=1e-12)


# --- camera_info --------------------------------------------------------------------------------------------


def test_camera_info_comes_back() -> None:
    values = CameraInfoValues(
        frame_id="cam_front",
        width=1600,
        height=900,
        distortion_model="plumb_bob",
        d=np.array([0.1, -0.2, 0.001, 0.002, 0.03]),
        k=np.array([[1266.0, 0.5, 816.3], [0, 1265.0, 491.5], [0, 0, 1]]),
        r=np.eye(3),
        p=np.array([[1200.0, 0, 800, 0], [0, 1201.0, 450, 0], [0, 0, 1, 0]]),
        binning_x=2,
        binning_y=1,
        roi=RegionOfInterest(x_offset=10, y_offset=20, width=800, height=400, do_rectify=True),
    )
    message = conversions.camera_info_msg(values, 1_234_567_890_123_456_789)
    assert conversions.stamp_to_ns(message.header.stamp) == 1_234_567_890_123_456_789
    back = camera_info_values(message)
    assert values.changes_to(back) == []
    assert message.k[1] == 0.5 and message.p[5] == 1201.0


def test_changes_of_camera_info_are_named_and_nan_equals_nan() -> None:
    message = conversions.camera_info_msg(
        CameraInfoValues(
            frame_id="a", width=4, height=3, distortion_model="", d=np.zeros(0), k=np.full((3, 3), np.nan),
            r=np.eye(3), p=np.zeros((3, 4)),
        ),
        0,
    )  # fmt: skip
    first = camera_info_values(message)
    assert first.changes_to(camera_info_values(message)) == []
    message.width, message.k[0], message.roi.width = 8, 1.0, 2
    assert first.changes_to(camera_info_values(message)) == ["width from 4 to 8", "roi", "K"]


# --- odometry -----------------------------------------------------------------------------------------------


def odometry(
    pose: np.ndarray, linear, angular, child: str = "base_link", stamp_ns: int = 5_000_000_001
) -> Odometry:
    message = Odometry(child_frame_id=child)
    message.header.frame_id = "odom"
    message.header.stamp = conversions.stamp_from_ns(stamp_ns)
    message.pose.pose = conversions.pose_from_matrix(pose)
    for vector, values in ((message.twist.twist.linear, linear), (message.twist.twist.angular, angular)):
        vector.x, vector.y, vector.z = (float(value) for value in values)
    return message


def mounts(base_from_child: np.ndarray, child: str = "imu") -> StaticTransforms:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = "base_link"
    pose = conversions.pose_from_matrix(base_from_child)
    message.transform.rotation = pose.orientation
    for axis in "xyz":
        setattr(message.transform.translation, axis, getattr(pose.position, axis))
    tree = StaticTransforms()
    assert tree.add(TFMessage(transforms=[message])) == []
    return tree


@given(rotations, vectors, vectors, vectors)
def test_odometry_of_base_link_is_taken_as_it_is(rotation, place, linear, angular) -> None:
    pose = rigid(rotation, place)
    sample = conversions.odometry_sample(odometry(pose, linear, angular), StaticTransforms())
    assert (sample.stamp_ns, sample.frame_id) == (5_000_000_001, "odom")
    np.testing.assert_allclose(sample.odom_from_base, pose, atol=1e-12)
    np.testing.assert_array_equal(sample.linear, linear)
    np.testing.assert_array_equal(sample.angular, angular)


@settings(deadline=None)
@given(
    rotations,
    vectors,
    rotations,
    vectors,
    st.tuples(*[st.floats(-2, 2)] * 3),
    st.tuples(*[st.floats(-2, 2)] * 3),
)
def test_pose_and_twist_of_another_frame_of_the_car_are_moved_to_base_link(
    rotation, place, mount_rotation, mount_place, base_linear, base_angular
) -> None:
    """Against finite differences: move the base by its twist, watch the child, ask for the base again."""
    base_linear, base_angular = np.array(base_linear), np.array(base_angular)
    base_from_child = rigid(mount_rotation, mount_place)
    odom_from_base = rigid(rotation, place)
    h = 1e-5
    before, after = (
        se3.extrapolate(odom_from_base, base_linear, base_angular, t) @ base_from_child for t in (-h, h)
    )
    odom_from_child = odom_from_base @ base_from_child
    child_linear = odom_from_child[:3, :3].T @ (after[:3, 3] - before[:3, 3]) / (2 * h)
    child_angular = se3.log_rotation(before[:3, :3].T @ after[:3, :3]) / (2 * h)
    sample = conversions.odometry_sample(
        odometry(odom_from_child, child_linear, child_angular, child="imu"), mounts(base_from_child)
    )
    np.testing.assert_allclose(sample.odom_from_base, odom_from_base, atol=1e-9)
    np.testing.assert_allclose(sample.linear, base_linear, atol=1e-4)
    np.testing.assert_allclose(sample.angular, base_angular, atol=1e-5)


def test_an_antenna_behind_the_axle_of_a_turning_car_by_hand() -> None:
    """5 m/s ahead, 0.4 rad/s to the left, antenna 2 m behind: it sees 0.8 m/s to the right."""
    sample = conversions.odometry_sample(
        odometry(np.eye(4), (5.0, -0.8, 0.0), (0, 0, 0.4), child="antenna"),
        mounts(rigid(np.eye(3), np.array([-2.0, 0, 1.5])), "antenna"),
    )
    np.testing.assert_allclose(sample.linear, [5.0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(sample.odom_from_base[:3, 3], [2.0, 0, -1.5])


def change(message: Odometry, path: str, value) -> Odometry:
    *owners, name = path.split(".")
    target = message
    for owner in owners:
        target = getattr(target, owner)
    setattr(target, name, value)
    return message


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (
            "pose.pose.position.x",
            math.nan,
            "odometry pose is refused: translation .* not three finite numbers",
        ),
        ("pose.pose.orientation.w", 0.0, "length 0"),
        ("pose.pose.orientation.x", math.nan, "not four finite numbers"),
        ("twist.twist.linear.x", math.nan, "twist is not finite"),
        ("twist.twist.angular.z", math.inf, "twist is not finite"),
        ("child_frame_id", "", "child_frame_id ''"),
        ("header.frame_id", "", "frame_id ''"),
        ("child_frame_id", "gnss", "of frame gnss, which cannot be moved: no static transform has arrived"),
    ],
)
def test_odometry_that_cannot_be_right_is_refused(path, value, says) -> None:
    message = change(odometry(np.eye(4), (1, 0, 0), (0, 0, 0)), path, value)
    with pytest.raises(ConversionError, match=says):
        conversions.odometry_sample(message, StaticTransforms())


def test_odometry_without_a_stamp_is_refused() -> None:
    with pytest.raises(ConversionError, match="stamp 0"):
        conversions.odometry_sample(odometry(np.eye(4), (1, 0, 0), (0, 0, 0), stamp_ns=0), StaticTransforms())


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", Command)
@pytest.mark.parametrize("source", CommandSource)
def test_commands_come_back(command, source) -> None:
    assert conversions.command_from_msg(conversions.command_msg(command, source)) == (command, source)


def test_our_enumerations_are_those_of_the_messages() -> None:
    for name, value in Command.__members__.items():
        assert getattr(DrivingCommand, name) == value
    for name, value in CommandSource.__members__.items():
        assert getattr(DrivingCommand, f"SOURCE_{name}") == value
    for flag in PlanFlag:
        assert getattr(Trajectory, f"FLAG_{flag.name}") == flag.value
    for name, value in Outcome.__members__.items():
        assert getattr(SetReport, name) == value
    for name, value in CameraStatus.__members__.items():
        assert getattr(SetReport, f"CAMERA_{name}") == value
    for name, value in EgoSource.__members__.items():
        assert getattr(SetReport, f"EGO_{name}") == value


@pytest.mark.parametrize(("command", "source"), [(7, 0), (200, 1), (1, 5)])
def test_undefined_commands_are_refused(command, source) -> None:
    with pytest.raises(ConversionError, match=f"command {command} and source {source}"):
        conversions.command_from_msg(DrivingCommand(command=command, source=source))


# --- plans --------------------------------------------------------------------------------------------------


def curve(speed: float = 8.0, turn: float = 0.02, count: int = 7) -> np.ndarray:
    return np.array(
        [
            se3.extrapolate(np.eye(4), [speed, 0, 0], [0, 0, speed * turn], 0.5 * i)[:2, 3]
            for i in range(count)
        ]
    )


def plan(**changes) -> Plan:
    values = {
        "reference_stamp_ns": 1_533_000_000_123_456_789,
        "positions": curve(),
        "dt_s": 0.5,
        "planner": "test",
        "flags": PlanFlag.WARMING_UP,
        "weights_sha256": "ab" * 32,
    }
    return Plan(**{**values, **changes})


def message_of(some_plan: Plan, **changes) -> Trajectory:
    values = {
        "set_id": 12,
        "frame_id": "base_link",
        "command": conversions.command_msg(Command.LEFT, CommandSource.ROUTE),
        "age_ns": 87_000_000,
    }
    return conversions.trajectory_msg(some_plan, **{**values, **changes})


def test_a_plan_comes_back_from_its_message_to_the_last_bit() -> None:
    original = plan()
    message = message_of(original, flags=PlanFlag.DEFAULT_COMMAND, cameras_degraded=["cam_back"])
    back = conversions.plan_from_trajectory(message)
    np.testing.assert_array_equal(back.positions, original.positions)
    assert (back.reference_stamp_ns, back.dt_s, back.planner) == (original.reference_stamp_ns, 0.5, "test")
    assert back.flags == PlanFlag.WARMING_UP | PlanFlag.DEFAULT_COMMAND
    assert back.weights_sha256 == original.weights_sha256
    assert (message.set_id, message.header.frame_id, list(message.cameras_degraded)) == (
        12,
        "base_link",
        ["cam_back"],
    )
    assert conversions.duration_to_ns(message.age) == 87_000_000
    assert (message.command.command, message.command.source) == (Command.LEFT, CommandSource.ROUTE)


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12),
    st.floats(0.05, 2.0),
    st.one_of(st.none(), st.floats(-5, 40)),
)
def test_points_follow_the_plan_rules(future, dt_s, ego_speed) -> None:
    positions = np.array([(0.0, 0.0), *future])
    points = conversions.trajectory_points(positions, dt_s, ego_speed)
    headings, speeds = headings_and_speeds(positions, dt_s, ego_speed)
    back, back_dt = conversions.positions_from_points(points)
    np.testing.assert_array_equal(back, positions)
    assert back_dt == pytest.approx(dt_s, abs=1e-9)
    for point, heading, speed, curvature in zip(points, headings, speeds, curvatures(positions), strict=True):
        turned = se3.yaw_of(conversions.matrix_from_pose(point.pose)) - heading
        assert abs(math.remainder(turned, math.tau)) < 1e-9
        assert (point.longitudinal_velocity, point.curvature, point.pose.position.z) == (
            speed,
            curvature,
            0.0,
        )


def test_a_curve_to_the_left_by_hand() -> None:
    points = conversions.trajectory_points(curve(8.0, 0.02), 0.5, ego_speed=8.0)
    assert [conversions.duration_to_ns(point.time_from_start) for point in points[:3]] == [
        0,
        500_000_000,
        1_000_000_000,
    ]
    assert points[0].longitudinal_velocity == 8.0
    assert points[3].curvature == pytest.approx(0.02, rel=1e-6)
    assert points[2].longitudinal_velocity == pytest.approx(8.0, rel=2e-3)
    assert se3.yaw_of(conversions.matrix_from_pose(points[2].pose)) == pytest.approx(8 * 0.02, rel=1e-6)


def test_uneven_or_missing_times_are_refused() -> None:
    message = message_of(plan())
    message.points[3].time_from_start.nanosec += 50
    with pytest.raises(ConversionError, match="equal steps"):
        conversions.plan_from_trajectory(message)
    message.points = message.points[:1]
    with pytest.raises(ConversionError, match="at least two"):
        conversions.plan_from_trajectory(message)


def test_candidates_keep_scores_terms_and_choice() -> None:
    candidates = (
        Candidate(positions=curve(4.0), score=-1.5, reward_terms={"imitation": 0.1, "comfort": 0.9}),
        Candidate(positions=curve(6.0, -0.05), score=2.25),
    )
    message = conversions.candidates_msg(
        plan(candidates=candidates, selected=1), set_id=3, frame_id="base_link"
    )
    assert (message.set_id, message.selected, message.header.frame_id) == (3, 1, "base_link")
    assert [candidate.score for candidate in message.candidates] == [-1.5, 2.25]
    assert {term.name: term.value for term in message.candidates[0].reward_terms} == {
        "imitation": 0.1,
        "comfort": 0.9,
    }
    for candidate, original in zip(message.candidates, candidates, strict=True):
        np.testing.assert_array_equal(
            conversions.positions_from_points(candidate.points)[0], original.positions
        )


def test_a_path_has_one_header_for_all_its_poses() -> None:
    message = conversions.path_msg(plan(), frame_id="base_link")
    assert len(message.poses) == 7
    assert all(pose.header == message.header for pose in message.poses)
    assert conversions.stamp_to_ns(message.header.stamp) == plan().reference_stamp_ns
    np.testing.assert_array_equal(
        [[pose.pose.position.x, pose.pose.position.y] for pose in message.poses], plan().positions
    )


# --- set reports --------------------------------------------------------------------------------------------


def same_outcome(first: SetOutcome, second: SetOutcome) -> bool:
    def equal(a, b) -> bool:
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            return a is not None and b is not None and np.allclose(a, b, atol=1e-12)
        if isinstance(a, CameraOutcome):
            return all(equal(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
        if isinstance(a, dict):
            return list(a) == list(b) and all(equal(a[name], b[name]) for name in a)
        return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))

    return all(equal(getattr(first, name), getattr(second, name)) for name in first.__dataclass_fields__)


def planned_outcome(**changes) -> SetOutcome:
    values = {
        "outcome": Outcome.PLANNED,
        "reference_stamp_ns": 1_533_000_000_123_456_789,
        "set_id": 2**40 + 1,
        "cameras": {
            "cam_front": CameraOutcome(
                status=CameraStatus.USED,
                stamp_ns=1_533_000_000_123_456_789,
                odom_from_base=se3.planar(3, 4, 0.5),
            ),
            "cam_back": CameraOutcome(
                status=CameraStatus.HELD,
                stamp_ns=1_533_000_000_023_456_789,
                odom_from_base=se3.planar(2, 4, 0.4),
            ),
            "cam_left": CameraOutcome(status=CameraStatus.MASKED),
        },
        "ego_source": EgoSource.EXTRAPOLATED,
        "odom_from_base": se3.planar(3, 4, 0.5),
        "linear_velocity": np.array([8.0, 0.1, 0.0]),
        "angular_velocity": np.array([0.0, 0.01, 0.2]),
        "command": Command.LEFT,
        "command_source": CommandSource.ROUTE,
        "command_stamp_ns": 1_533_000_000_000_000_001,
        "flags": PlanFlag.CAMERA_MASKED | PlanFlag.EGO_EXTRAPOLATED,
        "memory_reset": True,
        "skew_ns": 100_000_000,
        "age_ns": -3_000_000,
        "latency_ms": 41.5,
        "stages_ms": {"wait": 1.25, "plan": 30.5},
        "skipped_before": 2,
    }
    return SetOutcome(**{**values, **changes})


@pytest.mark.parametrize(
    "outcome",
    [
        planned_outcome(),
        planned_outcome(
            # Odometry begins between the first and the last image of the set.
            cameras={
                "cam_front": CameraOutcome(status=CameraStatus.USED, stamp_ns=5),
                "cam_back": CameraOutcome(status=CameraStatus.USED, stamp_ns=9, odom_from_base=np.eye(4)),
            },
        ),
        planned_outcome(
            ego_source=EgoSource.NONE,
            odom_from_base=None,
            linear_velocity=None,
            angular_velocity=None,
            cameras={"cam_front": CameraOutcome(status=CameraStatus.USED, stamp_ns=5)},
            outcome=Outcome.REFUSED,
            reason="no odometry covers this set",
            latency_ms=math.nan,
        ),
        SetOutcome(outcome=Outcome.RESET, reference_stamp_ns=7, reason="the clock jumped back by 3.2 s"),
    ],
)
def test_outcomes_come_back_from_their_reports(outcome) -> None:
    report = conversions.set_report_msg(outcome, frame_id="base_link")
    assert report.header.frame_id == "base_link"
    assert same_outcome(conversions.set_outcome_from_msg(report), outcome)


def test_the_comparison_of_outcomes_sees_differences() -> None:
    assert not same_outcome(planned_outcome(), planned_outcome(skew_ns=1))
    assert not same_outcome(planned_outcome(), planned_outcome(odom_from_base=se3.planar(0, 0, 0)))


def test_reports_whose_arrays_do_not_fit_are_refused() -> None:
    report = conversions.set_report_msg(planned_outcome(), frame_id="base_link")
    report.camera_stamps = report.camera_stamps[:2]
    with pytest.raises(ConversionError, match="names 3 cameras with 3 states, 2 stamps"):
        conversions.set_outcome_from_msg(report)
    report = conversions.set_report_msg(planned_outcome(), frame_id="base_link")
    report.outcome = 99
    with pytest.raises(ConversionError, match="undefined value"):
        conversions.set_outcome_from_msg(report)
