"""The planner node as a function: a Frame goes out as messages, the plan that comes back is returned.

For a world that waits for its planner (closed loop): simulated time stands still between plans. The node runs in its own
process with its usual inputs, so what is driven is the line as it runs on a vehicle.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from wpt_msgs.msg import DrivingCommand, SetReport, Trajectory
from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration, CameraRig
from wpt_policy.frame import EgoState, Frame
from wpt_policy.plan import Plan, PlanFlag
from wpt_policy.planner import PlannerError

from wpt_replay import bag_topics
from wpt_replay.errors import ReplayError
from wpt_replay.line_run import LOCKSTEP_SET_TIMEOUT_S, PLANNER_NODE, own_domain, start_planner, stop_planner

START_TIMEOUT_S = 90.0
ANSWER_TIMEOUT_S = 10.0
RESET_TIMEOUT_S = 5.0
CLOCK_REPEAT_S = 0.1
_RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
_LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
# A closed loop judges bad plans by their score; the node's own limits would turn them into missing ones.
_WIDE_LIMITS = {
    "limits.max_speed": 200.0,
    "limits.max_start_jump": 100.0,
    "limits.max_acceleration": 200.0,
    "limits.max_lateral_acceleration": 200.0,
    "limits.max_curvature": 10.0,
}


class NodePlanner:
    """A planner node in its own process, asked for one plan at a time.

    planner: as the node's parameter. rig: cameras as their images are sent. pixels: whether frames carry them (else a
    grey picture of the rig's size is sent, since the node forms its sets of images). Use it in a ``with`` block.
    Raises ReplayError when the node does not become ready.
    """

    def __init__(self, planner: str, rig: CameraRig, *, pixels: bool, log: Path | None = None) -> None:
        self._rig, self._pixels, self._planner = rig, pixels, planner
        self._environment = dict(os.environ)
        self._environment.setdefault("ROS_DOMAIN_ID", str(own_domain()))
        self._environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        self._log = log
        self._changed = threading.Condition()
        self._reports: dict[int, SetReport] = {}
        self._trajectories: dict[int, Trajectory] = {}
        self._resets = 0
        self._now_ns = 0
        self._grey = {name: _grey_jpeg(camera) for name, camera in rig.items()} if not pixels else {}

    def __enter__(self) -> NodePlanner:
        domain = int(self._environment["ROS_DOMAIN_ID"])
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain, args=[])
        self._executor = SingleThreadedExecutor(context=self._context)
        self._node = rclpy.create_node("wpt_drive", context=self._context)
        self._executor.add_node(self._node)
        self._make_topics(self._node)
        self._spinner = threading.Thread(target=self._executor.spin, name="drive_spin", daemon=True)
        self._spinner.start()
        parameters: dict[str, object] = {
            "transport": "raw" if self._pixels else "compressed",
            "max_age": 10.0,
            "set_timeout": LOCKSTEP_SET_TIMEOUT_S,
            **_WIDE_LIMITS,
            **{
                f"qos_overrides.{publisher.topic_name}.subscription.reliability": "reliable"
                for publisher in (
                    *self._images.values(),
                    *self._infos.values(),
                    self._odometry,
                    self._command,
                )
            },
        }
        self._process = start_planner(self._planner, parameters, self._environment, self._log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop_planner(self._process)
        self._executor.shutdown(timeout_sec=1.0)
        self._spinner.join(timeout=2.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def begin(self, stamp_ns: int) -> None:
        """Begin an episode at this stamp: the clock jumps there and the node forgets what it has seen."""
        jumps_back = stamp_ns < self._now_ns
        before = self._resets
        self._set_clock(stamp_ns)
        if not jumps_back:
            return
        deadline = time.monotonic() + RESET_TIMEOUT_S
        with self._changed:
            while self._resets == before:
                if time.monotonic() > deadline:
                    raise ReplayError(
                        f"the planner node did not report its reset within {RESET_TIMEOUT_S:g} s of the clock's jump back"
                    )
                self._changed.wait(CLOCK_REPEAT_S)
                self._set_clock(stamp_ns)
            self._reports.clear()
            self._trajectories.clear()

    def plan(self, frame: Frame) -> Plan:
        """Return the node's plan on this frame; raises PlannerError with the node's reason when it gives none."""
        stamp_ns = frame.reference_stamp_ns
        self._set_clock(stamp_ns)
        if frame.ego is not None:
            self._odometry.publish(_odometry(frame.ego))
        command = DrivingCommand(command=int(frame.command), source=int(frame.command_source))
        command.header.stamp = _time(stamp_ns)
        self._command.publish(command)
        for name, view in frame.views.items():
            self._infos[name].publish(_camera_info(view.calibration, view.stamp_ns))
            self._images[name].publish(self._image(name, view.pixels, view.stamp_ns))
        return self._answer(stamp_ns)

    def _answer(self, stamp_ns: int) -> Plan:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        with self._changed:
            while True:
                report = self._reports.pop(stamp_ns, None)
                if report is not None and report.outcome != SetReport.PLANNED:
                    raise PlannerError(f"the planner node gave no plan: {report.reason or report.outcome}")
                if report is not None:
                    self._reports[stamp_ns] = report
                if report is not None and stamp_ns in self._trajectories:
                    del self._reports[stamp_ns]
                    return _plan(self._trajectories.pop(stamp_ns))
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._process.poll() is not None:
                    raise PlannerError(
                        f"the planner node gave no answer on the set at {stamp_ns} ns within {ANSWER_TIMEOUT_S:g} s"
                    )
                self._changed.wait(min(remaining, CLOCK_REPEAT_S))

    def _make_topics(self, node: Node) -> None:
        image_type = Image if self._pixels else CompressedImage
        suffix = "" if self._pixels else "/compressed"
        self._clock = node.create_publisher(Clock, "/clock", _RELIABLE)
        self._tf_static = node.create_publisher(TFMessage, bag_topics.TF_STATIC, _LATCHED)
        self._odometry = node.create_publisher(Odometry, bag_topics.ODOMETRY, _RELIABLE)
        self._command = node.create_publisher(DrivingCommand, bag_topics.COMMAND, _RELIABLE)
        self._infos = {
            name: node.create_publisher(CameraInfo, bag_topics.camera_info_topic(name), _RELIABLE)
            for name in self._rig
        }
        self._images = {
            name: node.create_publisher(image_type, f"/sensing/{name}/image_rect{suffix}", _RELIABLE)
            for name in self._rig
        }
        node.create_subscription(SetReport, f"{PLANNER_NODE}/set_report", self._on_report, _RELIABLE)
        node.create_subscription(Trajectory, f"{PLANNER_NODE}/trajectory", self._on_trajectory, _RELIABLE)
        self._tf_static.publish(
            TFMessage(transforms=[_mount(name, camera) for name, camera in self._rig.items()])
        )

    def _on_report(self, report: SetReport) -> None:
        with self._changed:
            if report.outcome == SetReport.RESET:
                self._resets += 1
            else:
                self._reports[_ns(report.header.stamp)] = report
            self._changed.notify_all()

    def _on_trajectory(self, trajectory: Trajectory) -> None:
        with self._changed:
            self._trajectories[_ns(trajectory.header.stamp)] = trajectory
            self._changed.notify_all()

    def _wait_until_ready(self) -> None:
        """Wait until the node subscribes to everything: only then is no image lost."""
        wanted = [
            *self._images.values(),
            *self._infos.values(),
            self._odometry,
            self._command,
            self._tf_static,
        ]
        outputs = [f"{PLANNER_NODE}/set_report", f"{PLANNER_NODE}/trajectory"]
        deadline = time.monotonic() + START_TIMEOUT_S
        while any(p.get_subscription_count() == 0 for p in wanted) or any(
            self._node.count_publishers(topic) == 0 for topic in outputs
        ):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ReplayError(
                    f"the planner node with {self._planner} did not become ready within {START_TIMEOUT_S:g} s; start it "
                    "alone to see why: ros2 launch wpt_planner planner.launch.py"
                )
            with self._changed:
                self._changed.wait(0.05)

    def _set_clock(self, stamp_ns: int) -> None:
        self._now_ns = stamp_ns
        self._clock.publish(Clock(clock=_time(stamp_ns)))

    def _image(self, name: str, pixels: np.ndarray | None, stamp_ns: int) -> Any:
        if not self._pixels:
            message = CompressedImage(format="jpeg")
            message.data.frombytes(self._grey[name])
        else:
            if pixels is None:
                raise ReplayError(f"the frame has no pixels of {name}, expected an image of every camera")
            height, width = pixels.shape[:2]
            message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
            message.data.frombytes(np.ascontiguousarray(pixels).tobytes())
        message.header.stamp, message.header.frame_id = _time(stamp_ns), name
        return message


def _plan(trajectory: Trajectory) -> Plan:
    positions = np.array([[point.pose.position.x, point.pose.position.y] for point in trajectory.points])
    step = trajectory.points[1].time_from_start
    return Plan(
        reference_stamp_ns=_ns(trajectory.header.stamp),
        positions=positions,
        dt_s=step.sec + step.nanosec / 1e9,
        planner=trajectory.planner,
        flags=PlanFlag(trajectory.flags),
        weights_sha256=trajectory.weights_sha256,
    )


def _grey_jpeg(camera: CameraCalibration) -> bytes:
    return cv2.imencode(".jpg", np.full((camera.height, camera.width, 3), 128, np.uint8))[1].tobytes()


def _camera_info(camera: CameraCalibration, stamp_ns: int) -> CameraInfo:
    message = CameraInfo(height=camera.height, width=camera.width, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.stamp, message.header.frame_id = _time(stamp_ns), camera.name
    message.k = camera.intrinsics.flatten()
    message.r = np.eye(3).flatten()
    message.p = np.column_stack([camera.intrinsics, np.zeros(3)]).flatten()
    return message


def _mount(name: str, camera: CameraCalibration) -> TransformStamped:
    message = TransformStamped(child_frame_id=name)
    message.header.frame_id = bag_topics.BASE_FRAME
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = camera.base_from_camera[:3, 3].tolist()
    q.w, q.x, q.y, q.z = se3.quaternion_from_rotation(camera.base_from_camera[:3, :3]).tolist()
    return message


def _odometry(ego: EgoState) -> Odometry:
    message = Odometry(child_frame_id=bag_topics.BASE_FRAME)
    message.header.stamp, message.header.frame_id = _time(ego.stamp_ns), bag_topics.MAP_FRAME
    p, q = message.pose.pose.position, message.pose.pose.orientation
    p.x, p.y, p.z = ego.odom_from_base[:3, 3].tolist()
    q.w, q.x, q.y, q.z = se3.quaternion_from_rotation(ego.odom_from_base[:3, :3]).tolist()
    for vector, values in (
        (message.twist.twist.linear, ego.linear_velocity),
        (message.twist.twist.angular, ego.angular_velocity),
    ):
        vector.x, vector.y, vector.z = (float(value) for value in values)
    return message


def _time(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def _ns(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec
