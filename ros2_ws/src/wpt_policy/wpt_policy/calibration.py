"""Pinhole cameras and the rig they form: intrinsics, mounts, projection, and a self-test that finds wrong ones.

Frames: ``base`` is base_link (on the ground under the rear axle centre, x forward, y left, z up); a camera frame is
optical (x right, y down, z forward). Pixel (0, 0) is the CENTRE of the top left pixel, as in OpenCV.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from wpt_policy import se3


class CalibrationError(ValueError):
    """A camera calibration that cannot be right."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraCalibration:
    """One rectified pinhole camera.

    name: camera name, e.g. ``cam_front``. width, height: pixels. intrinsics: (3, 3) float64 at that size.
    base_from_camera: (4, 4) float64, optical camera frame to base_link, metres.
    Raises CalibrationError on construction when a value is impossible.
    """

    name: str
    width: int
    height: int
    intrinsics: np.ndarray
    base_from_camera: np.ndarray

    def __post_init__(self) -> None:
        k = np.array(self.intrinsics, dtype=np.float64)
        if k.shape != (3, 3) or not np.all(np.isfinite(k)):
            raise CalibrationError(f"intrinsics of {self.name} are not a finite 3x3 matrix")
        if self.width <= 0 or self.height <= 0:
            raise CalibrationError(
                f"image size of {self.name} is {self.width}x{self.height}, expected positive pixels"
            )
        if k[0, 0] <= 0 or k[1, 1] <= 0:
            raise CalibrationError(
                f"intrinsics of {self.name} have focal lengths {k[0, 0]:g}, {k[1, 1]:g}, expected positive pixels"
            )
        if k[1, 0] != 0 or np.any(k[2] != [0, 0, 1]):
            raise CalibrationError(
                f"intrinsics of {self.name} are not upper triangular with last row 0 0 1: {k.tolist()}"
            )
        if not (
            -0.5 * self.width < k[0, 2] < 1.5 * self.width
            and -0.5 * self.height < k[1, 2] < 1.5 * self.height
        ):
            raise CalibrationError(
                f"principal point of {self.name} is ({k[0, 2]:g}, {k[1, 2]:g}), far outside its "
                f"{self.width}x{self.height} image: the intrinsics seem to belong to another resolution"
            )
        try:
            mount = se3.require_rigid(self.base_from_camera, f"base_from_{self.name}")
        except se3.TransformError as error:
            raise CalibrationError(str(error)) from None
        k.flags.writeable = False
        mount = mount.copy()
        mount.flags.writeable = False
        object.__setattr__(self, "intrinsics", k)
        object.__setattr__(self, "base_from_camera", mount)

    def project(self, points_base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project (N, 3) points in base_link; return pixels (N, 2) and depths (N,) along the optical axis in metres.

        Points at or behind the camera (depth <= 0) get NaN pixels.
        """
        points = se3.apply(se3.inverse(self.base_from_camera), points_base)
        depth = points[:, 2]
        safe = np.where(depth > 0, depth, np.nan)
        pixels = (points / safe[:, None]) @ self.intrinsics.T
        return pixels[:, :2], depth

    def visible(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return (N,) bool: the projection lies in front of the camera and inside its image."""
        with np.errstate(invalid="ignore"):
            return (
                (depth > 0)
                & (pixels[:, 0] >= -0.5)
                & (pixels[:, 0] < self.width - 0.5)
                & (pixels[:, 1] >= -0.5)
                & (pixels[:, 1] < self.height - 0.5)
            )

    def resized(self, width: int, height: int) -> CameraCalibration:
        """Return the calibration of the image resized to width x height.

        Pixel centres move as cv2.resize moves them: u' = (u + 0.5) * s - 0.5.
        """
        sx, sy = width / self.width, height / self.height
        shift = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
        return replace(self, width=width, height=height, intrinsics=shift @ self.intrinsics)

    def cropped(self, left: int, top: int, width: int, height: int) -> CameraCalibration:
        """Return the calibration of the crop that starts at pixel (left, top); raises CalibrationError outside."""
        if left < 0 or top < 0 or left + width > self.width or top + height > self.height:
            raise CalibrationError(
                f"crop {width}x{height} at ({left}, {top}) leaves the {self.width}x{self.height} image of {self.name}"
            )
        k = self.intrinsics.copy()
        k[0, 2] -= left
        k[1, 2] -= top
        return replace(self, width=width, height=height, intrinsics=k)

    def optical_axis(self) -> np.ndarray:
        """Return the viewing direction (3,) in base_link."""
        return self.base_from_camera[:3, 2]

    def yaw(self) -> float:
        """Return the viewing direction's angle (rad) about base z, 0 ahead, positive to the left."""
        axis = self.optical_axis()
        return math.atan2(axis[1], axis[0])


class CameraRig(Mapping[str, CameraCalibration]):
    """An ordered set of cameras. The order is part of the rig: networks see cameras in it."""

    def __init__(self, cameras: list[CameraCalibration] | tuple[CameraCalibration, ...]):
        self._cameras = {camera.name: camera for camera in cameras}
        if len(self._cameras) != len(cameras):
            raise CalibrationError(f"camera names are not unique: {[camera.name for camera in cameras]}")

    def __getitem__(self, name: str) -> CameraCalibration:
        return self._cameras[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cameras)

    def __len__(self) -> int:
        return len(self._cameras)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._cameras)


# What a camera name says about its viewing direction: part of the name -> (centre yaw, half width), degrees.
# nuScenes side cameras look at +-55 and +-110 degrees (nuScenes schema), Bench2Drive's alike; mounts of other cars
# vary, so the sectors are wide and neighbours overlap.
_NAMED_SECTORS: tuple[tuple[tuple[str, ...], float, float], ...] = (
    (("front", "left"), 55.0, 50.0),
    (("front", "right"), -55.0, 50.0),
    (("back", "left"), 120.0, 50.0),
    (("back", "right"), -120.0, 50.0),
    (("rear", "left"), 120.0, 50.0),
    (("rear", "right"), -120.0, 50.0),
    (("front",), 0.0, 35.0),
    (("back",), 180.0, 35.0),
    (("rear",), 180.0, 35.0),
    (("left",), 90.0, 60.0),
    (("right",), -90.0, 60.0),
)

MAX_MOUNT_DISTANCE_M = 12.0  # the longest vehicles are buses and trucks of about 12 m
MAX_MOUNT_HEIGHT_M = 4.5  # legal vehicle height in Europe and most of Asia is 4.0 to 4.5 m


def camera_problem(camera: CameraCalibration) -> str | None:
    """Return one sentence about what looks wrong with a mount on a road vehicle, or None.

    Finds inverted transforms (camera_from_base given as base_from_camera), a body frame given as optical frame and
    other swapped axes, upside-down mounts, impossible places, and a name that contradicts the viewing direction.
    """
    finding = _mount_problem(camera.base_from_camera)
    if finding is not None:
        remedy = "check its transform to base_link"
        if _mount_problem(se3.inverse(camera.base_from_camera)) is None:
            remedy = "the transform seems inverted: give base_link <- camera, not camera <- base_link"
        elif _mount_problem(camera.base_from_camera @ _BODY_FROM_OPTICAL) is None:
            remedy = "its frame seems to be a body frame (x forward): give the optical frame (x right, y down, z forward)"
        return f"camera {camera.name} {finding}; {remedy}"
    words = camera.name.lower()
    for parts, centre, half_width in _NAMED_SECTORS:
        if all(part in words for part in parts):
            yaw = math.degrees(camera.yaw())
            if abs((yaw - centre + 180.0) % 360.0 - 180.0) > half_width:
                return (
                    f"camera {camera.name} looks {yaw:.0f} degrees to the left of straight ahead, but its name says "
                    f"about {centre:.0f}; check whether cameras are swapped or left and right are mixed up"
                )
            break
    return None


# Optical axes expressed in a body frame (x forward, y left, z up).
_BODY_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def _mount_problem(base_from_camera: np.ndarray) -> str | None:
    position = base_from_camera[:3, 3]
    if not 0.0 < position[2] < MAX_MOUNT_HEIGHT_M:
        return (
            f"is mounted {position[2]:.2f} m above the ground, expected between 0 and {MAX_MOUNT_HEIGHT_M} m"
        )
    if math.hypot(position[0], position[1]) > MAX_MOUNT_DISTANCE_M:
        return f"is mounted {math.hypot(position[0], position[1]):.1f} m from the rear axle, expected on the vehicle"
    down = -base_from_camera[2, 1]
    if down < math.cos(math.radians(45.0)):
        tilt = math.degrees(math.acos(max(-1.0, min(1.0, down))))
        return f"has its image's down direction {tilt:.0f} degrees away from the ground's"
    return None


def rig_problems(rig: CameraRig) -> list[str]:
    """Return one sentence for each camera that looks wrong (see camera_problem) and for cameras that coincide."""
    problems = [problem for camera in rig.values() if (problem := camera_problem(camera)) is not None]
    cameras = list(rig.values())
    for i, first in enumerate(cameras):
        for second in cameras[i + 1 :]:
            if np.allclose(first.base_from_camera, second.base_from_camera, atol=1e-6):
                problems.append(
                    f"cameras {first.name} and {second.name} have the same mount; each needs its own transform"
                )
    return problems
