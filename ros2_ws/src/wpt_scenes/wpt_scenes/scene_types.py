"""One scene of a nuScenes-format data set as typed, posed, stamped values.

Frames: ``global`` is the data set's map frame; ``base`` is base_link, nuScenes' ego frame (x forward, y left,
z up, on the ground under the rear axle centre); camera frames are optical. nuScenes stamps (microseconds)
become integer nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration, CameraRig

from wpt_scenes.pose_track import PoseTrack


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxInBase:
    """An annotated object seen from one ego pose.

    base_from_box: (4, 4), box frame x forward, y left, z up, origin in the box centre. size_lwh: (3,) length,
    width, height in metres. velocity: (3,) m/s along base axes, relative to the ground (not to the ego); NaN
    when unknown.
    """

    token: str
    instance_token: str
    category: str
    base_from_box: np.ndarray
    size_lwh: np.ndarray
    velocity: np.ndarray
    visibility: int | None = None
    num_lidar_pts: int | None = None
    num_radar_pts: int | None = None
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Box3D:
    """An annotated object.

    global_from_box: (4, 4), box frame x forward, y left, z up, origin in the box centre. size_lwh: (3,)
    length, width, height in metres (the tables hold width, length, height). velocity: (3,) global, m/s, NaN
    when unknown (the rule is that of box_velocity). visibility: nuScenes level 1 (0-40 %) to 4 (80-100 %),
    None when not given. num_lidar_pts, num_radar_pts: None when not given. attributes: names.
    """

    token: str
    instance_token: str
    category: str
    global_from_box: np.ndarray
    size_lwh: np.ndarray
    velocity: np.ndarray
    visibility: int | None = None
    num_lidar_pts: int | None = None
    num_radar_pts: int | None = None
    attributes: tuple[str, ...] = ()

    def in_base(self, global_from_base: np.ndarray) -> BoxInBase:
        """Return this box seen from an ego pose (4, 4)."""
        base_from_global = se3.inverse(global_from_base)
        return BoxInBase(
            token=self.token,
            instance_token=self.instance_token,
            category=self.category,
            base_from_box=base_from_global @ self.global_from_box,
            size_lwh=self.size_lwh,
            velocity=base_from_global[:3, :3] @ self.velocity,
            visibility=self.visibility,
            num_lidar_pts=self.num_lidar_pts,
            num_radar_pts=self.num_radar_pts,
            attributes=self.attributes,
        )

    def corners(self) -> np.ndarray:
        """Return (8, 3) global corners: front, then back; left top, left bottom, right bottom, right top."""
        length, width, height = self.size_lwh / 2.0
        x = [length] * 4 + [-length] * 4
        y = [width, width, -width, -width] * 2
        z = [height, -height, -height, height] * 2
        return se3.apply(self.global_from_box, np.array([x, y, z]).T)


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraFrame:
    """One recorded image, on disk or missing from it.

    camera: lower-case channel (cam_front). stamp_ns: of this exposure. path: absolute. exists: at loading
    time. global_from_base: (4, 4) the ego pose recorded for this image. calibration: at the native size of
    the image. sample_token: the keyframe it belongs to (for a sweep: the NEXT keyframe, as nuScenes has it).
    token: sample_data.
    """

    camera: str
    stamp_ns: int
    path: Path
    exists: bool
    is_key_frame: bool
    global_from_base: np.ndarray
    calibration: CameraCalibration
    sample_token: str
    token: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Keyframe:
    """One annotated instant (about every 0.5 s, never exactly).

    stamp_ns: of the LIDAR_TOP sweep, else sample.timestamp. global_from_base: (4, 4) recorded for LIDAR_TOP,
    else the recorded poses interpolated at stamp_ns. base_from_lidar: (4, 4) LIDAR_TOP's mount (x right, y
    forward, z up), None in a scene without LIDAR_TOP. boxes: in the global frame. images: by camera, in the
    scene's camera order.
    """

    index: int
    sample_token: str
    stamp_ns: int
    global_from_base: np.ndarray
    base_from_lidar: np.ndarray | None
    boxes: tuple[Box3D, ...]
    images: Mapping[str, CameraFrame]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Scene:
    """One scene.

    location, vehicle: of its log. keyframes: in time order. camera_names: in rig order (cam_front,
    cam_front_right, cam_back_right, cam_back, cam_back_left, cam_front_left, then others by name). images: by
    camera all frames (keyframes and sweeps) by stamp. ego_poses: (stamp_ns, global_from_base) unique and by
    stamp, over the recordings of every sensor. findings: sentences on what is odd but usable.
    """

    name: str
    token: str
    location: str
    vehicle: str
    description: str
    dataset_version: str
    dataroot: Path
    log_token: str
    keyframes: tuple[Keyframe, ...]
    camera_names: tuple[str, ...]
    images: Mapping[str, tuple[CameraFrame, ...]]
    ego_poses: tuple[tuple[int, np.ndarray], ...]
    findings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Scene({self.name!r}, {len(self.keyframes)} keyframes, {len(self.camera_names)} cameras)"

    @cached_property
    def poses(self) -> PoseTrack:
        """The recorded ego poses, ready for interpolation."""
        return PoseTrack([stamp for stamp, _ in self.ego_poses], [pose for _, pose in self.ego_poses])

    @cached_property
    def rig(self) -> CameraRig:
        """The cameras at native size, as calibrated for the scene's first image of each."""
        return CameraRig([self.images[camera][0].calibration for camera in self.camera_names])

    def missing_images(self) -> tuple[CameraFrame, ...]:
        """Return the images that the tables list and the disk lacked at loading time."""
        return tuple(frame for frames in self.images.values() for frame in frames if not frame.exists)
