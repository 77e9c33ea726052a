"""The offline side of a comparison: Frames built from a bag alone, for exactly the sets that a node reported.

Independent of the node's code on purpose: calibration, transforms and ego motion are read and composed here anew, so
that an agreement of plans says something about both. Only wpt_policy is shared (geometry, image input, planner).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import CameraView, Command, CommandSource, EgoState, Frame, ViewStatus
from wpt_policy.image_input import ImageInput
from wpt_replay import bag_topics
from wpt_replay.bag_reader import BagReader


class BagFramesError(RuntimeError):
    """The bag lacks something that a reported set needs; the message names it."""


@dataclass(frozen=True, kw_only=True)
class BagTopics:
    """Topic names in the bag; ``{camera}`` stands for the camera name."""

    image: str = bag_topics.image_topic("{camera}")
    camera_info: str = bag_topics.camera_info_topic("{camera}")
    odometry: str = bag_topics.ODOMETRY
    tf_static: str = bag_topics.TF_STATIC
    base_frame: str = bag_topics.BASE_FRAME


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportedSet:
    """One set as a SetReport describes it.

    stamps: camera -> image stamp of the views that were used; held, masked: camera names among the rig.
    ego: as the node used it, None without ego motion; ego_poses: camera -> odom_from_base as used, without the cameras
    whose stamps the node's odometry did not cover (empty without ego).
    """

    set_id: int
    reference_stamp_ns: int
    stamps: Mapping[str, int]
    command: Command
    command_source: CommandSource
    ego: EgoState | None
    ego_poses: Mapping[str, np.ndarray] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    masked: frozenset[str] = frozenset()
    memory_reset: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class BagPoses:
    """Odometry of a bag: stamps (N,) ascending int64 ns, poses (N, 4, 4) odom_from_base, twists in base_link."""

    stamps_ns: list[int]
    poses: list[np.ndarray]
    linear: list[np.ndarray]
    angular: list[np.ndarray]

    def at(self, stamp_ns: int) -> EgoState | None:
        """Interpolate at a stamp; None outside the recorded span."""
        if not self.stamps_ns or not self.stamps_ns[0] <= stamp_ns <= self.stamps_ns[-1]:
            return None
        right = bisect.bisect_left(self.stamps_ns, stamp_ns)
        left = right if self.stamps_ns[right] == stamp_ns else right - 1
        span = self.stamps_ns[right] - self.stamps_ns[left]
        fraction = 0.0 if span == 0 else (stamp_ns - self.stamps_ns[left]) / span
        return EgoState(
            stamp_ns=stamp_ns,
            odom_from_base=se3.interpolate(self.poses[left], self.poses[right], fraction),
            linear_velocity=(1 - fraction) * self.linear[left] + fraction * self.linear[right],
            angular_velocity=(1 - fraction) * self.angular[left] + fraction * self.angular[right],
        )


class BagFrames:
    """Reads a bag once for everything but images, then streams it for the images of the wanted sets."""

    def __init__(
        self,
        bag: Path,
        cameras: Iterable[str],
        image_input: ImageInput | None,
        topics: BagTopics | None = None,
    ):
        self.bag = bag
        self.cameras = tuple(cameras)
        self.image_input = image_input
        self.topics = topics or BagTopics()
        self._camera_of_image_topic = {self.topics.image.format(camera=name): name for name in self.cameras}
        self.poses, self.calibrations = self._read_static_parts()

    def frames(self, sets: Iterable[ReportedSet]) -> Iterator[tuple[ReportedSet, Frame]]:
        """Yield each set with its Frame, in order of reference stamps; raises BagFramesError naming a missing image.

        Memory is bounded by the images between the oldest one still wanted and the newest read.
        """
        waiting = sorted(sets, key=lambda one: one.reference_stamp_ns)
        uses: dict[tuple[str, int], int] = {}
        for one in waiting:
            for key in one.stamps.items():
                uses[key] = uses.get(key, 0) + 1
        images: dict[tuple[str, int], bytes] = {}
        at = 0
        with BagReader(self.bag) as reader:
            for message in reader.messages(topics=self._camera_of_image_topic):
                decoded = reader.decode(message)
                key = (self._camera_of_image_topic[message.topic], _stamp_ns(decoded.header.stamp))
                if key in uses:
                    images.setdefault(key, decoded.data.tobytes())
                while at < len(waiting) and all(k in images for k in waiting[at].stamps.items()):
                    one = waiting[at]
                    yield one, self._frame(one, images)
                    for k in one.stamps.items():
                        uses[k] -= 1
                        if uses[k] == 0:
                            del images[k], uses[k]
                    at += 1
        if at < len(waiting):
            lacking = [f"{c} at {s} ns" for c, s in waiting[at].stamps.items() if (c, s) not in images]
            raise BagFramesError(
                f"bag {self.bag} lacks {', '.join(lacking)} of reported set {waiting[at].set_id}; "
                "compare with the bag that was replayed"
            )

    def _frame(self, one: ReportedSet, images: Mapping[tuple[str, int], bytes]) -> Frame:
        # A set whose pose the node had to extrapolate can only be repeated with the pose that it used.
        recorded = None if one.ego is None else self.poses.at(one.reference_stamp_ns)
        replaced = one.ego is not None and (one.ego.extrapolated or recorded is None)
        ego = one.ego if replaced else recorded
        views = {}
        for camera in self.cameras:
            native = self.calibrations.get(camera)
            if native is None:
                raise BagFramesError(f"bag {self.bag} has no usable camera_info or tf_static for {camera}")
            calibration = native if self.image_input is None else self.image_input.calibration(native)
            if camera in one.masked:
                views[camera] = CameraView(
                    calibration=calibration, stamp_ns=one.reference_stamp_ns, pixels=None, odom_from_base=None,
                    status=ViewStatus.MASKED,
                )  # fmt: skip
                continue
            if camera not in one.stamps:
                continue
            stamp = one.stamps[camera]
            pixels = None
            if self.image_input is not None:
                pixels = self.image_input.decode(images[camera, stamp]).pixels
            pose = None
            # A camera that the node could not compensate is not compensated here: the bag may know more than it did.
            if ego is not None and camera in one.ego_poses:
                at_stamp = None if replaced else self.poses.at(stamp)
                pose = one.ego_poses[camera] if at_stamp is None else at_stamp.odom_from_base
            views[camera] = CameraView(
                calibration=calibration, stamp_ns=stamp, pixels=pixels, odom_from_base=pose,
                status=ViewStatus.HELD if camera in one.held else ViewStatus.USED,
            )  # fmt: skip
        return Frame(
            reference_stamp_ns=one.reference_stamp_ns, views=views, ego=ego,
            command=one.command, command_source=one.command_source,
        )  # fmt: skip

    def _read_static_parts(self) -> tuple[BagPoses, dict[str, CameraCalibration]]:
        info_topics = {self.topics.camera_info.format(camera=name): name for name in self.cameras}
        infos: dict[str, object] = {}
        mounts: dict[str, tuple[str, np.ndarray]] = {}
        odometry: dict[int, object] = {}
        with BagReader(self.bag) as reader:
            for message in reader.messages(
                topics={*info_topics, self.topics.odometry, self.topics.tf_static}
            ):
                if message.topic in info_topics and info_topics[message.topic] in infos:
                    continue  # the first one counts: decoding all of them doubles the time of this pass
                decoded = reader.decode(message)
                if message.topic in info_topics:
                    infos[info_topics[message.topic]] = decoded
                elif message.topic == self.topics.odometry:
                    odometry[_stamp_ns(decoded.header.stamp)] = decoded
                else:
                    for one in decoded.transforms:
                        t, q = one.transform.translation, one.transform.rotation
                        mounts[one.child_frame_id] = (
                            one.header.frame_id,
                            se3.transform([t.x, t.y, t.z], [q.w, q.x, q.y, q.z]),
                        )
        calibrations = {}
        for camera, info in infos.items():
            base_from_camera = self._base_from(info.header.frame_id, mounts)
            if base_from_camera is not None:
                calibrations[camera] = CameraCalibration(
                    name=camera, width=int(info.width), height=int(info.height),
                    intrinsics=np.asarray(info.p, dtype=np.float64).reshape(3, 4)[:, :3],
                    base_from_camera=base_from_camera,
                )  # fmt: skip
        stamps = sorted(odometry)
        records = [odometry[stamp] for stamp in stamps]
        poses = BagPoses(
            stamps_ns=stamps,
            poses=[_pose_matrix(record.pose.pose) for record in records],
            linear=[_vector(record.twist.twist.linear) for record in records],
            angular=[_vector(record.twist.twist.angular) for record in records],
        )
        return poses, calibrations

    def _base_from(self, frame: str, mounts: Mapping[str, tuple[str, np.ndarray]]) -> np.ndarray | None:
        result, seen = np.eye(4), set()
        while frame != self.topics.base_frame:
            if frame not in mounts or frame in seen:
                return None
            seen.add(frame)
            parent, parent_from_frame = mounts[frame]
            result = parent_from_frame @ result
            frame = parent
        return result


def _stamp_ns(stamp: object) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _vector(value: object) -> np.ndarray:
    return np.array([value.x, value.y, value.z], dtype=np.float64)


def _pose_matrix(pose: object) -> np.ndarray:
    q = pose.orientation
    return se3.transform(_vector(pose.position), [q.w, q.x, q.y, q.z])
