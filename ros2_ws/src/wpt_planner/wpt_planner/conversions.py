"""Between ROS messages and the suite's own types. Pure functions; bad values raise ConversionError.

Stamps and durations are integer nanoseconds on our side. Quaternions of messages are (x, y, z, w), ours (w,
x, y, z).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Pose, PoseStamped, Transform
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import RegionOfInterest as RegionOfInterestMsg
from std_msgs.msg import Header

from wpt_msgs.msg import (
    DrivingCommand,
    RewardTerm,
    SetReport,
    StageTime,
    Trajectory,
    TrajectoryCandidate,
    TrajectoryCandidates,
    TrajectoryPoint,
)
from wpt_planner.set_outcome import CameraOutcome, CameraStatus, EgoSource, Outcome, SetOutcome
from wpt_planner.static_transforms import StaticTransforms
from wpt_policy import se3
from wpt_policy.camera_model import CameraInfoValues
from wpt_policy.frame import Command, CommandSource
from wpt_policy.plan import Plan, PlanFlag, curvatures, headings_and_speeds

_NS_PER_S = 1_000_000_000


class ConversionError(ValueError):
    """A message with values that cannot be right; one sentence with what was wrong, expected and to do."""


# --- time ---------------------------------------------------------------------------------------------------


def stamp_to_ns(stamp: Time) -> int:
    """Return nanoseconds of a stamp or duration message, exactly."""
    return stamp.sec * _NS_PER_S + stamp.nanosec


def stamp_from_ns(stamp_ns: int) -> Time:
    """Return the stamp message of ``stamp_ns``, exactly."""
    seconds, nanoseconds = divmod(int(stamp_ns), _NS_PER_S)
    return Time(sec=seconds, nanosec=nanoseconds)


def duration_to_ns(duration: Duration) -> int:
    """Return nanoseconds of a duration message, exactly."""
    return duration.sec * _NS_PER_S + duration.nanosec


def duration_from_ns(duration_ns: int) -> Duration:
    """Return the duration message; a negative one has negative sec and nanosec >= 0, as rclpy makes it."""
    seconds, nanoseconds = divmod(int(duration_ns), _NS_PER_S)
    return Duration(sec=seconds, nanosec=nanoseconds)


def header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header message."""
    return Header(stamp=stamp_from_ns(stamp_ns), frame_id=frame_id)


# --- geometry -----------------------------------------------------------------------------------------------


def matrix_from_pose(pose: Pose) -> np.ndarray:
    """Return the (4, 4) transform of a pose; raises ConversionError for NaN or a non-unit quaternion."""
    p, q = pose.position, pose.orientation
    return _matrix((p.x, p.y, p.z), (q.w, q.x, q.y, q.z))


def matrix_from_transform(transform: Transform) -> np.ndarray:
    """Return the (4, 4) transform of a transform message; raises ConversionError."""
    t, q = transform.translation, transform.rotation
    return _matrix((t.x, t.y, t.z), (q.w, q.x, q.y, q.z))


def _matrix(translation: tuple[float, ...], quaternion_wxyz: tuple[float, ...]) -> np.ndarray:
    try:
        return se3.transform(translation, quaternion_wxyz)
    except se3.TransformError as error:
        raise ConversionError(f"{error}; fix the sender") from None


def pose_from_matrix(matrix: np.ndarray) -> Pose:
    """Return the pose message of a (4, 4) transform."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(value) for value in matrix[:3, 3])
    q = pose.orientation
    q.w, q.x, q.y, q.z = (float(value) for value in se3.quaternion_from_rotation(matrix[:3, :3]))
    return pose


# --- camera_info --------------------------------------------------------------------------------------------


def camera_info_msg(values: CameraInfoValues, stamp_ns: int) -> CameraInfo:
    """Return the CameraInfo message of ``values``."""
    return CameraInfo(
        header=header(stamp_ns, values.frame_id),
        width=values.width,
        height=values.height,
        distortion_model=values.distortion_model,
        d=values.d.tolist(),
        k=values.k.ravel(),
        r=values.r.ravel(),
        p=values.p.ravel(),
        binning_x=values.binning_x,
        binning_y=values.binning_y,
        roi=RegionOfInterestMsg(
            x_offset=values.roi.x_offset,
            y_offset=values.roi.y_offset,
            width=values.roi.width,
            height=values.roi.height,
            do_rectify=values.roi.do_rectify,
        ),
    )


# --- odometry -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class OdometrySample:
    """The ego's motion from one Odometry message, moved to base_link.

    frame_id: the fixed frame (odom). odom_from_base: (4, 4). linear, angular: (3,) in base_link, m/s and
    rad/s.
    """

    stamp_ns: int
    frame_id: str
    odom_from_base: np.ndarray
    linear: np.ndarray
    angular: np.ndarray


def odometry_sample(message: Odometry, transforms: StaticTransforms) -> OdometrySample:
    """Return the ego's motion from ``message``.

    Where child_frame_id is another frame of the vehicle (an IMU, a GNSS antenna), pose and twist are moved to
    base_link by the static transform: with p the child's place and R its rotation in base_link, w = R w_child
    and v = R v_child - w x p (the velocity of one body at two of its points). Raises ConversionError for
    stamp 0, empty frames, an unknown child frame, NaN, or a non-unit quaternion.
    """
    stamp_ns = stamp_to_ns(message.header.stamp)
    frame, child = message.header.frame_id.removeprefix("/"), message.child_frame_id.removeprefix("/")
    if stamp_ns <= 0:
        raise ConversionError(
            "odometry has stamp 0, expected the time of measurement; let its publisher stamp it"
        )
    if not frame or not child:
        raise ConversionError(
            f"odometry has frame_id {frame!r} and child_frame_id {child!r}, expected the fixed frame and "
            f"{transforms.base_frame}; fix its publisher"
        )
    try:
        odom_from_base = matrix_from_pose(message.pose.pose)
    except ConversionError as error:
        raise ConversionError(f"odometry pose is refused: {error}") from None
    twist = message.twist.twist
    linear = np.array([twist.linear.x, twist.linear.y, twist.linear.z])
    angular = np.array([twist.angular.x, twist.angular.y, twist.angular.z])
    if not (np.all(np.isfinite(linear)) and np.all(np.isfinite(angular))):
        raise ConversionError(
            f"odometry twist is not finite (linear {linear.tolist()}, angular {angular.tolist()}), expected "
            "m/s and rad/s; fix its publisher"
        )
    if child != transforms.base_frame:
        base_from_child = transforms.base_from(child)
        if base_from_child is None:
            raise ConversionError(
                f"odometry is of frame {child}, which cannot be moved: {transforms.why_unknown(child)}"
            )
        odom_from_base = odom_from_base @ se3.inverse(base_from_child)
        rotation, place = base_from_child[:3, :3], base_from_child[:3, 3]
        angular = rotation @ angular
        linear = rotation @ linear - np.cross(angular, place)
    return OdometrySample(
        stamp_ns=stamp_ns, frame_id=frame, odom_from_base=odom_from_base, linear=linear, angular=angular
    )


# --- command ------------------------------------------------------------------------------------------------


def command_from_msg(message: DrivingCommand) -> tuple[Command, CommandSource]:
    """Return command and source; raises ConversionError for values that DrivingCommand does not define."""
    try:
        return Command(message.command), CommandSource(message.source)
    except ValueError:
        raise ConversionError(
            f"driving command has command {message.command} and source {message.source}, expected "
            f"0..{max(Command)} and 0..{max(CommandSource)} as in wpt_msgs/DrivingCommand; fix its publisher"
        ) from None


def command_msg(
    command: Command, source: CommandSource, stamp_ns: int = 0, frame_id: str = ""
) -> DrivingCommand:
    """Return the message of a command as it was used; stamp 0 where it never had one (a default)."""
    return DrivingCommand(header=header(stamp_ns, frame_id), command=int(command), source=int(source))


# --- plans --------------------------------------------------------------------------------------------------


def trajectory_points(
    positions: np.ndarray, dt_s: float, ego_speed: float | None = None
) -> list[TrajectoryPoint]:
    """Return the points of (T + 1, 2) positions in base_link, ``dt_s`` apart.

    Heading, speed and curvature follow the rules of wpt_policy.plan; ego_speed (m/s): measured, for the first
    point.
    """
    headings, speeds = headings_and_speeds(positions, dt_s, ego_speed)
    points = []
    rows = zip(positions, headings, speeds, curvatures(positions), strict=True)
    for i, ((x, y), heading, speed, curvature) in enumerate(rows):
        points.append(
            TrajectoryPoint(
                time_from_start=duration_from_ns(round(i * dt_s * _NS_PER_S)),
                pose=pose_from_matrix(se3.planar(float(x), float(y), float(heading))),
                longitudinal_velocity=float(speed),
                curvature=float(curvature),
            )
        )
    return points


def positions_from_points(points: Sequence[TrajectoryPoint]) -> tuple[np.ndarray, float]:
    """Return (T + 1, 2) positions and the time step (s); raises ConversionError where steps are not equal."""
    times_ns = np.array([duration_to_ns(point.time_from_start) for point in points], dtype=np.int64)
    steps = np.diff(times_ns)
    if len(points) < 2 or times_ns[0] != 0 or steps.min() <= 0 or steps.max() - steps.min() > 1:
        raise ConversionError(
            f"trajectory has times {(times_ns / _NS_PER_S).tolist()} s, expected at least two equal steps "
            "from 0"
        )
    return np.array([[p.pose.position.x, p.pose.position.y] for p in points]), float(times_ns[-1]) / len(
        steps
    ) / _NS_PER_S


def trajectory_msg(
    plan: Plan,
    *,
    set_id: int,
    frame_id: str,
    command: DrivingCommand,
    age_ns: int,
    cameras_degraded: Sequence[str] = (),
    ego_speed: float | None = None,
    flags: PlanFlag = PlanFlag.NONE,
) -> Trajectory:
    """Return the message of ``plan``, stamped with its reference stamp.

    frame_id: the ego frame (base_link). flags: further ones, or'ed to the plan's own. ego_speed as in
    trajectory_points.
    """
    return Trajectory(
        header=header(plan.reference_stamp_ns, frame_id),
        set_id=set_id,
        planner=plan.planner,
        weights_sha256=plan.weights_sha256,
        command=command,
        flags=int(plan.flags | flags),
        cameras_degraded=list(cameras_degraded),
        age=duration_from_ns(age_ns),
        points=trajectory_points(plan.positions, plan.dt_s, ego_speed),
    )


def plan_from_trajectory(message: Trajectory) -> Plan:
    """Return the plan of a Trajectory (its candidates are another message); raises ConversionError."""
    positions, dt_s = positions_from_points(message.points)
    return Plan(
        reference_stamp_ns=stamp_to_ns(message.header.stamp),
        positions=positions,
        dt_s=dt_s,
        planner=message.planner,
        flags=PlanFlag(message.flags),
        weights_sha256=message.weights_sha256,
    )


def candidates_msg(
    plan: Plan, *, set_id: int, frame_id: str, ego_speed: float | None = None
) -> TrajectoryCandidates:
    """Return the message of a plan's candidates."""
    return TrajectoryCandidates(
        header=header(plan.reference_stamp_ns, frame_id),
        set_id=set_id,
        candidates=[
            TrajectoryCandidate(
                points=trajectory_points(candidate.positions, plan.dt_s, ego_speed),
                score=float(candidate.score),
                reward_terms=[
                    RewardTerm(name=name, value=float(value))
                    for name, value in candidate.reward_terms.items()
                ],
            )
            for candidate in plan.candidates
        ],
        selected=plan.selected,
    )


def path_msg(plan: Plan, *, frame_id: str) -> Path:
    """Return the plan as a Path for RViz.

    Every pose has the path's own header: all are given in base_link at the reference stamp, not at their own
    times.
    """
    path_header = header(plan.reference_stamp_ns, frame_id)
    return Path(
        header=path_header,
        poses=[
            PoseStamped(header=path_header, pose=point.pose)
            for point in trajectory_points(plan.positions, plan.dt_s)
        ],
    )


# --- set report ---------------------------------------------------------------------------------------------


def set_report_msg(outcome: SetOutcome, *, frame_id: str) -> SetReport:
    """Return the report of ``outcome``.

    camera_ego_poses has one pose per camera, with a zero quaternion where the camera was used without ego motion or has
    no image; it is empty when there is no ego motion at all.
    """
    report = SetReport(
        header=header(outcome.reference_stamp_ns, frame_id),
        set_id=outcome.set_id,
        outcome=int(outcome.outcome),
        reason=outcome.reason,
        cameras=list(outcome.cameras),
        camera_status=[int(camera.status) for camera in outcome.cameras.values()],
        camera_stamps=[stamp_from_ns(camera.stamp_ns) for camera in outcome.cameras.values()],
        ego_source=int(outcome.ego_source),
        command=command_msg(outcome.command, outcome.command_source, outcome.command_stamp_ns),
        flags=int(outcome.flags),
        memory_reset=outcome.memory_reset,
        skew=duration_from_ns(outcome.skew_ns),
        age=duration_from_ns(outcome.age_ns),
        latency_ms=float(outcome.latency_ms),
        stages=[StageTime(name=name, milliseconds=float(ms)) for name, ms in outcome.stages_ms.items()],
        skipped_before=outcome.skipped_before,
        published_steady_ns=outcome.published_steady_ns,
    )
    if outcome.ego_source != EgoSource.NONE and outcome.odom_from_base is not None:
        report.ego_pose = pose_from_matrix(outcome.odom_from_base)
        report.camera_ego_poses = [
            _no_pose() if camera.odom_from_base is None else pose_from_matrix(camera.odom_from_base)
            for camera in outcome.cameras.values()
        ]
        for vector, values in (
            (report.ego_twist.linear, outcome.linear_velocity),
            (report.ego_twist.angular, outcome.angular_velocity),
        ):
            if values is not None:
                vector.x, vector.y, vector.z = (float(value) for value in values)
    return report


def _no_pose() -> Pose:
    """A pose whose quaternion is all zeros, no rotation at all: cannot be taken for a real one (the identity was)."""
    pose = Pose()
    pose.orientation.w = 0.0
    return pose


def _is_no_pose(pose: Pose) -> bool:
    q = pose.orientation
    return not any((q.w, q.x, q.y, q.z))


def set_outcome_from_msg(report: SetReport) -> SetOutcome:
    """Return the outcome that ``report`` states; raises ConversionError where arrays or values do not fit."""
    count = len(report.cameras)
    poses = list(report.camera_ego_poses)
    if not (len(report.camera_status) == len(report.camera_stamps) == count and len(poses) in (0, count)):
        raise ConversionError(
            f"set report {report.set_id} names {count} cameras with {len(report.camera_status)} states, "
            f"{len(report.camera_stamps)} stamps and {len(poses)} poses, expected as many; fix its publisher"
        )
    try:
        outcome, ego_source = Outcome(report.outcome), EgoSource(report.ego_source)
        statuses = [CameraStatus(status) for status in report.camera_status]
    except ValueError as error:
        raise ConversionError(
            f"set report {report.set_id} has an undefined value: {error}; fix its publisher"
        ) from None
    has_ego = ego_source != EgoSource.NONE
    command, source = command_from_msg(report.command)
    linear, angular = report.ego_twist.linear, report.ego_twist.angular
    cameras = {}
    for i, name in enumerate(report.cameras):
        stamp_ns = stamp_to_ns(report.camera_stamps[i])
        pose = matrix_from_pose(poses[i]) if poses and not _is_no_pose(poses[i]) else None
        cameras[name] = CameraOutcome(status=statuses[i], stamp_ns=stamp_ns, odom_from_base=pose)
    return SetOutcome(
        outcome=outcome,
        reference_stamp_ns=stamp_to_ns(report.header.stamp),
        set_id=report.set_id,
        reason=report.reason,
        cameras=cameras,
        ego_source=ego_source,
        odom_from_base=matrix_from_pose(report.ego_pose) if has_ego else None,
        linear_velocity=np.array([linear.x, linear.y, linear.z]) if has_ego else None,
        angular_velocity=np.array([angular.x, angular.y, angular.z]) if has_ego else None,
        command=command,
        command_source=source,
        command_stamp_ns=stamp_to_ns(report.command.header.stamp),
        flags=PlanFlag(report.flags),
        memory_reset=report.memory_reset,
        skew_ns=duration_to_ns(report.skew),
        age_ns=duration_to_ns(report.age),
        latency_ms=report.latency_ms,
        stages_ms={stage.name: stage.milliseconds for stage in report.stages},
        skipped_before=report.skipped_before,
        published_steady_ns=report.published_steady_ns,
    )
