"""What a CameraInfo says, judged by the rules of the planner node (wpt_planner/camera_model.py).

Rectified images take P, raw ones K and D; width, height, binning and roi give the size of the published
image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Lens models that the planner undoes, with the coefficient counts that belong to each.
LENS_COEFFICIENTS = {"plumb_bob": (5, 4, 8), "rational_polynomial": (8,), "equidistant": (4,)}
# A principal point is near the image's centre; both fractions beyond these bounds mean another resolution.
_MIN_CENTRE, _MAX_CENTRE = 0.3, 0.7


class CameraInfoProblem(ValueError):
    """A CameraInfo that the planner refuses. str() is what was found; remedy: what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.remedy = remedy


@dataclass(frozen=True, kw_only=True, eq=False)
class StatedCamera:
    """The camera that a CameraInfo states. width, height: of the published image. intrinsics: (3, 3) at that
    size.

    distorted: D has coefficients other than zero.
    """

    frame_id: str
    width: int
    height: int
    intrinsics: np.ndarray
    distorted: bool


def stated_camera(message: Any, *, images_rectified: bool) -> StatedCamera:
    """Judge a sensor_msgs/CameraInfo; raises CameraInfoProblem."""
    k, d = np.reshape(message.k, (3, 3)).astype(float), np.asarray(message.d, dtype=float)
    p = np.reshape(message.p, (3, 4)).astype(float)
    if message.width == 0 or message.height == 0:
        raise CameraInfoProblem(
            f"camera_info says {message.width}x{message.height} pixels, expected the sensor's size",
            "fix its publisher",
        )
    for name, numbers in (("K", k), ("D", d), ("P", p), ("R", np.asarray(message.r, dtype=float))):
        wrong = int(np.sum(~np.isfinite(numbers)))
        if wrong:
            raise CameraInfoProblem(
                f"camera_info has {wrong} values in {name} that are not finite, expected numbers",
                "calibrate the camera, or fix its publisher",
            )
    _require_pinhole(k, "K", message)
    intrinsics = k
    if images_rectified:
        if p[0, 0] == 0:
            raise CameraInfoProblem(
                "camera_info has P[0] = 0, expected the projection matrix of the rectified image",
                "publish P, or set images_rectified to false if the images are raw",
            )
        if np.any(p[:, 3] != 0):
            raise CameraInfoProblem(
                f"camera_info has P[3] = {p[0, 3]:g}, P[7] = {p[1, 3]:g} and P[11] = {p[2, 3]:g}, expected 0:"
                " that is the second camera of a stereo pair, whose centre is not the origin of its frame",
                "give the camera its own frame and a P without offset",
            )
        intrinsics = p[:, :3]
        _require_pinhole(intrinsics, "P", message)
    else:
        _require_lens(message.distortion_model, d)
    width, height, full_from_image = _readout(message)
    return StatedCamera(
        frame_id=message.header.frame_id.removeprefix("/"),
        width=width,
        height=height,
        intrinsics=np.linalg.inv(full_from_image) @ intrinsics,
        distorted=bool(np.any(d)),
    )


def _require_pinhole(matrix: np.ndarray, name: str, message: Any) -> None:
    if matrix[0, 0] == 0:
        raise CameraInfoProblem(
            f"camera_info has {name}[0] = 0, which marks an uncalibrated camera",
            "calibrate it, or fix its publisher",
        )
    if matrix[0, 0] < 0 or matrix[1, 1] <= 0 or matrix[1, 0] != 0 or np.any(matrix[2] != [0, 0, 1]):
        raise CameraInfoProblem(
            f"camera_info has {name}[:3, :3] = {matrix.tolist()}, expected positive focal lengths, zeros"
            " below the diagonal and 0 0 1 in the last row",
            "fix its publisher",
        )
    across, down = (matrix[0, 2] + 0.5) / message.width, (matrix[1, 2] + 0.5) / message.height
    if max(across, down) < _MIN_CENTRE or min(across, down) > _MAX_CENTRE:
        raise CameraInfoProblem(
            f"camera_info has the principal point of {name} at ({matrix[0, 2]:.0f}, {matrix[1, 2]:.0f}) of "
            f"{message.width}x{message.height} pixels, which fits an image of about {2 * matrix[0, 2]:.0f}x"
            f"{2 * matrix[1, 2]:.0f}: {name} belongs to another resolution",
            f"scale {name} to the image that is published",
        )


def _require_lens(model: str, d: np.ndarray) -> None:
    if not np.any(d) and model in ("", "plumb_bob", "rational_polynomial"):
        return
    if model not in LENS_COEFFICIENTS:
        raise CameraInfoProblem(
            f"camera_info has distortion_model {model!r}, expected one of {', '.join(LENS_COEFFICIENTS)}",
            "rectify the images before the planner and set images_rectified to true",
        )
    if len(d) not in LENS_COEFFICIENTS[model]:
        counts = " or ".join(map(str, sorted(LENS_COEFFICIENTS[model])))
        raise CameraInfoProblem(
            f"camera_info has {len(d)} coefficients in D for {model}, expected {counts}", "fix its publisher"
        )


def _readout(message: Any) -> tuple[int, int, np.ndarray]:
    """Return the published image's size and full_from_image (3, 3): its pixels to those of the full
    sensor.
    """
    roi = message.roi
    left, top, width, height = roi.x_offset, roi.y_offset, roi.width, roi.height
    if width in (0, message.width) and height in (0, message.height) and not (left or top):
        width, height = message.width, message.height
    elif width == 0 or height == 0 or left + width > message.width or top + height > message.height:
        raise CameraInfoProblem(
            f"camera_info has a roi of {width}x{height} at ({left}, {top}), expected one inside its"
            f" {message.width}x{message.height} pixels",
            "fix its publisher",
        )
    columns, rows = max(1, message.binning_x), max(1, message.binning_y)
    # The centre of a super-pixel lies in the middle of the pixels that it joins.
    full_from_image = np.array(
        [[columns, 0, left + 0.5 * columns - 0.5], [0, rows, top + 0.5 * rows - 0.5], [0, 0, 1]], dtype=float
    )
    return int(width // columns), int(height // rows), full_from_image
