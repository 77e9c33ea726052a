"""Open-loop metrics of what a planner node published, judged by what was recorded beside it.

Everything comes from topics of a converted bag: keyframes, annotated boxes, odometry and the LiDAR's mount; nothing
needs the dataset's tables. The report is made by the same function as the offline evaluator's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from geometry_msgs.msg import Pose
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from wpt_msgs.msg import Keyframe as KeyframeMsg
from wpt_msgs.msg import Object3DArray, SetReport, Trajectory
from wpt_policy import se3
from wpt_policy.baselines import ConstantVelocityPlanner, StopPlanner
from wpt_policy.frame import Command, Frame
from wpt_policy.planner import Planner, PlannerError
from wpt_replay import bag_topics
from wpt_replay.errors import ReplayError
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.ego import ego_state_at
from wpt_scenes.metrics import Jitter, Predictions, WaypointKind, evaluate_predictions, samples_of_scene
from wpt_scenes.scene_types import Box3D, Keyframe, Scene
from wpt_scenes.truth import NUM_STEPS, STEP_NS, WaypointFrame, plan_in_keyframe

LIDAR_FRAME = "lidar_top"
# A keyframe's own set is the one whose newest image lies nearest to the keyframe stamp. In nuScenes that is within
# 3 ms (the stamp is the LiDAR's, which triggers cam_back_left last); the neighbouring sets are 83 ms away at 12 Hz.
MAX_KEYFRAME_OFFSET_NS = 30_000_000


class NodeEvaluation:
    """Collects while a bag is replayed; ``report`` judges what was collected. One scene at a time.

    Attach it to any node that is spun; it keeps messages and does no work in callbacks.
    """

    def __init__(self, node: Node, planner_node: str = "/planner"):
        self._keyframes: dict[int, KeyframeMsg] = {}
        self._boxes: dict[int, Object3DArray] = {}
        self._odometry: dict[int, Pose] = {}
        self._base_from_lidar: np.ndarray | None = None
        self._trajectories: dict[int, Trajectory] = {}
        self._reports: dict[int, SetReport] = {}
        reliable = QoSProfile(
            depth=200, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
        )
        latched = QoSProfile(
            depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        node.create_subscription(KeyframeMsg, bag_topics.KEYFRAME, self._on_keyframe, reliable)
        node.create_subscription(Object3DArray, bag_topics.BOXES, self._on_boxes, reliable)
        node.create_subscription(Odometry, bag_topics.ODOMETRY, self._on_odometry, reliable)
        node.create_subscription(TFMessage, bag_topics.TF_STATIC, self._on_tf_static, latched)
        node.create_subscription(Trajectory, f"{planner_node}/trajectory", self._on_trajectory, reliable)
        node.create_subscription(SetReport, f"{planner_node}/set_report", self._on_report, reliable)

    def _on_keyframe(self, message: KeyframeMsg) -> None:
        self._keyframes[_ns(message.header.stamp)] = message

    def _on_boxes(self, message: Object3DArray) -> None:
        self._boxes[_ns(message.header.stamp)] = message

    def _on_odometry(self, message: Odometry) -> None:
        self._odometry[_ns(message.header.stamp)] = message.pose.pose

    def _on_tf_static(self, message: TFMessage) -> None:
        for one in message.transforms:
            if one.child_frame_id == LIDAR_FRAME and one.header.frame_id == bag_topics.BASE_FRAME:
                t, q = one.transform.translation, one.transform.rotation
                self._base_from_lidar = se3.transform([t.x, t.y, t.z], [q.w, q.x, q.y, q.z])

    def _on_trajectory(self, message: Trajectory) -> None:
        self._trajectories[_ns(message.header.stamp)] = message

    def _on_report(self, message: SetReport) -> None:
        if message.outcome != SetReport.RESET:
            self._reports[_ns(message.header.stamp)] = message

    @property
    def keyframes(self) -> int:
        return len(self._keyframes)

    def report(
        self,
        *,
        kind: WaypointKind = WaypointKind.INDEX,
        drivable: DrivableArea | None = None,
        jitter: Jitter | None = None,
    ) -> dict:
        """Return the report of evaluate_predictions, with a row for the node's planner.

        drivable: the scene's drivable area, which a bag does not hold; without it the off-road rate is not available.
        Raises ReplayError when no keyframe was heard, or keyframes of two scenes.
        """
        scene = self.scene()
        references = [self._set_of(keyframe.stamp_ns) or keyframe.stamp_ns for keyframe in scene.keyframes]
        samples = samples_of_scene(scene, drivable, references)
        rows = [self._predictions(scene, kind)]
        rows += [
            _baseline(planner, scene, references, kind)
            for planner in (ConstantVelocityPlanner(), StopPlanner())
            if planner.name != rows[0].planner
        ]
        return evaluate_predictions(samples, rows, jitter=jitter)

    def scene(self) -> Scene:
        """Return the scene as heard: keyframes with boxes and poses, without images; raises ReplayError."""
        if not self._keyframes or not self._odometry:
            raise ReplayError(
                f"nothing to judge: {len(self._keyframes)} keyframes and {len(self._odometry)} odometry messages were "
                f"heard, expected both; replay a bag made by `wpt-bag convert` (topics {bag_topics.KEYFRAME}, "
                f"{bag_topics.ODOMETRY})"
            )
        names = {message.scene_name for message in self._keyframes.values()}
        if len(names) > 1:
            raise ReplayError(
                f"keyframes of {len(names)} scenes were heard ({', '.join(sorted(names))}), expected one; "
                "start one evaluation for each bag"
            )
        poses = [(stamp, _matrix(self._odometry[stamp])) for stamp in sorted(self._odometry)]
        first = next(iter(self._keyframes.values()))
        # Built twice because a keyframe's pose is read from the track of all poses.
        bare = self._scene_of(first, (), tuple(poses))
        keyframes = tuple(
            self._keyframe(index, stamp, bare)
            for index, stamp in enumerate(sorted(self._keyframes, key=lambda ns: self._keyframes[ns].index))
            if bare.poses.covers(stamp)
        )
        return self._scene_of(first, keyframes, tuple(poses))

    def _scene_of(
        self, first: KeyframeMsg, keyframes: tuple[Keyframe, ...], poses: tuple[tuple[int, np.ndarray], ...]
    ) -> Scene:
        return Scene(
            name=first.scene_name,
            token=first.scene_token,
            location=first.location,
            vehicle="",
            description="",
            dataset_version=first.dataset_version,
            dataroot=Path(),
            log_token="",
            keyframes=keyframes,
            camera_names=(),
            images={},
            ego_poses=poses,
        )

    def _keyframe(self, index: int, stamp: int, scene: Scene) -> Keyframe:
        boxes = self._boxes.get(stamp)
        return Keyframe(
            index=index,
            sample_token=self._keyframes[stamp].sample_token,
            stamp_ns=stamp,
            global_from_base=scene.poses.at(stamp),
            base_from_lidar=self._base_from_lidar,
            boxes=tuple(_box(one) for one in boxes.objects) if boxes is not None else (),
            images={},
        )

    def _set_of(self, keyframe_ns: int) -> int | None:
        """Reference stamp of the set that belongs to a keyframe, None when the node reported none."""
        nearest = min(self._reports, key=lambda ns: abs(ns - keyframe_ns), default=None)
        return (
            nearest if nearest is not None and abs(nearest - keyframe_ns) <= MAX_KEYFRAME_OFFSET_NS else None
        )

    def _predictions(self, scene: Scene, kind: WaypointKind) -> Predictions:
        positions, refused, names = {}, {}, set()
        for keyframe in scene.keyframes:
            reference = self._set_of(keyframe.stamp_ns)
            if reference is None:
                refused[keyframe.sample_token] = "the node reported no set for this keyframe"
                continue
            trajectory = self._trajectories.get(reference)
            if trajectory is None:
                report = self._reports[reference]
                refused[keyframe.sample_token] = (
                    report.reason or f"no plan was received (outcome {report.outcome})"
                )
                continue
            waypoints = _waypoints(trajectory)
            names.add(trajectory.planner)
            positions[keyframe.sample_token] = plan_in_keyframe(
                waypoints, reference, scene.poses, keyframe.global_from_base
            )
        return Predictions(
            planner=" and ".join(sorted(names)) or "planner", kind=kind, frame=WaypointFrame.EGO,
            positions=positions, refused=refused,
        )  # fmt: skip


def _baseline(planner: Planner, scene: Scene, references: Sequence[int], kind: WaypointKind) -> Predictions:
    """A row that every evaluation has, planned on the recorded poses; the node is not asked."""
    positions, refused = {}, {}
    for keyframe, reference in zip(scene.keyframes, references, strict=True):
        ego = ego_state_at(scene.poses, reference)
        frame = Frame(reference_stamp_ns=reference, views={}, ego=ego, command=Command.UNKNOWN)
        try:
            plan = planner.plan(frame)
        except PlannerError as error:
            refused[keyframe.sample_token] = str(error)
            continue
        positions[keyframe.sample_token] = plan_in_keyframe(
            plan.waypoints, reference, scene.poses, keyframe.global_from_base
        )
    return Predictions(
        planner=planner.name, kind=kind, frame=WaypointFrame.EGO, positions=positions, refused=refused
    )


def _waypoints(trajectory: Trajectory) -> np.ndarray:
    points = trajectory.points[1:]
    times_ns = [_ns(point.time_from_start) for point in points]
    expected_ns = [step * STEP_NS for step in range(1, NUM_STEPS + 1)]
    if len(points) != NUM_STEPS or any(
        abs(time - expected) > NUM_STEPS for time, expected in zip(times_ns, expected_ns, strict=True)
    ):
        raise ReplayError(
            f"{trajectory.planner} plans {len(points)} points at {', '.join(f'{ns / 1e9:g}' for ns in times_ns)} s, "
            f"expected {NUM_STEPS} steps of {STEP_NS / 1e9:g} s: the metrics are defined for these alone"
        )
    return np.array([[point.pose.position.x, point.pose.position.y] for point in points], dtype=np.float64)


def _box(one: object) -> Box3D:
    return Box3D(
        token=one.token,
        instance_token=one.instance_token,
        category=one.category,
        global_from_box=_matrix(one.pose),
        size_lwh=np.array([one.size.x, one.size.y, one.size.z]),
        velocity=np.array([one.velocity.x, one.velocity.y, one.velocity.z]),
        visibility=one.visibility or None,
        num_lidar_pts=one.num_lidar_pts if one.num_lidar_pts >= 0 else None,
        num_radar_pts=one.num_radar_pts if one.num_radar_pts >= 0 else None,
    )


def _matrix(pose: Pose) -> np.ndarray:
    p, q = pose.position, pose.orientation
    return se3.transform([p.x, p.y, p.z], [q.w, q.x, q.y, q.z])


def _ns(stamp: object) -> int:
    """Nanoseconds of a time or duration message."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec
