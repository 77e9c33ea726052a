"""What a sensor_msgs/CameraInfo says about a camera, judged before anything is computed with it. No ROS imports.

The rules are those of the message's own definition:

- Rectified images (``images_rectified`` true): the intrinsics are P[:3, :3]. D is ignored. R is ignored too:
  points given in the frame that frame_id names are projected by P alone, as image_geometry does it, so for a
  rectified image frame_id names the rectified frame. P[3] or P[7] other than zero belongs to the second
  camera of a stereo pair, whose optical centre is not the origin of frame_id, and is refused.
- Raw images (``images_rectified`` false): K and D describe the image; P and R are not read. The image is to be
  rectified to the pinhole camera K by whoever reads it.
- K[0] = 0 marks an uncalibrated camera, whichever matrix is used.
- width and height are those of the full sensor. binning and roi describe the part that was read out; they are
  applied to the intrinsics, or refused where they contradict themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Coefficient counts per lens model, as in sensor_msgs/distortion_models and OpenCV: plumb_bob (k1, k2, p1,
# p2[, k3]), rational_polynomial (k1, k2, p1, p2, k3, k4, k5, k6), equidistant (k1, k2, k3, k4 of the fisheye
# angle). Some drivers call eight coefficients plumb_bob; OpenCV reads them as the rational model, which
# contains it.
LENS_COEFFICIENTS: dict[str, tuple[int, ...]] = {
    "plumb_bob": (5, 4, 8),
    "rational_polynomial": (8,),
    "equidistant": (4,),
}

# A principal point is near the image's centre (nuScenes: within 5 % of the size in both axes). Both of its
# fractions beyond these bounds mean a matrix for an image of at least 1.4 times, or at most 0.6 times, the
# size.
_MIN_CENTRE, _MAX_CENTRE = 0.3, 0.7


class CameraInfoError(ValueError):
    """A camera_info that cannot be used; the message is one sentence without the camera's name."""


@dataclass(frozen=True, kw_only=True)
class RegionOfInterest:
    """Part of the full sensor that was read out, in unbinned pixels; all zero means all of it."""

    x_offset: int = 0
    y_offset: int = 0
    width: int = 0
    height: int = 0
    do_rectify: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraInfoValues:
    """The values of a sensor_msgs/CameraInfo without its stamp.

    k: (3, 3), r: (3, 3), p: (3, 4), d: (N,) float64. frame_id: the camera's optical frame.
    """

    frame_id: str
    width: int
    height: int
    distortion_model: str
    d: np.ndarray
    k: np.ndarray
    r: np.ndarray
    p: np.ndarray
    binning_x: int = 0
    binning_y: int = 0
    roi: RegionOfInterest = RegionOfInterest()

    def changes_to(self, other: CameraInfoValues) -> list[str]:
        """Return one phrase per field that differs in ``other``; compares bits, so that NaN equals NaN."""
        changes = []
        for name in ("frame_id", "width", "height", "distortion_model", "binning_x", "binning_y", "roi"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                changes.append(f"{name} from {mine!r} to {theirs!r}" if name != "roi" else "roi")
        for name in ("d", "k", "r", "p"):
            if getattr(self, name).tobytes() != getattr(other, name).tobytes():
                changes.append(name.upper())
        return changes


@dataclass(frozen=True, kw_only=True, eq=False)
class LensModel:
    """Lens of a raw image. name: a key of LENS_COEFFICIENTS; coefficients: (N,) float64, OpenCV's order."""

    name: str
    coefficients: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraModel:
    """The camera of the images as they are published (after roi and binning).

    width, height: expected image size, pixels. intrinsics: (3, 3) at that size. lens: what must be undone
    before the intrinsics hold; None for a pinhole image. notes: sentences (without the camera's name) worth a
    warning.
    """

    width: int
    height: int
    intrinsics: np.ndarray
    lens: LensModel | None
    notes: tuple[str, ...] = ()


def camera_info_values(message: Any) -> CameraInfoValues:
    """Return a plain copy of the values of a CameraInfo message, of rclpy or of rosbags; judges nothing."""
    return CameraInfoValues(
        frame_id=message.header.frame_id.removeprefix("/"),
        width=int(message.width),
        height=int(message.height),
        distortion_model=message.distortion_model,
        d=np.array(message.d, dtype=np.float64),
        k=np.array(message.k, dtype=np.float64).reshape(3, 3),
        r=np.array(message.r, dtype=np.float64).reshape(3, 3),
        p=np.array(message.p, dtype=np.float64).reshape(3, 4),
        binning_x=int(message.binning_x),
        binning_y=int(message.binning_y),
        roi=RegionOfInterest(
            x_offset=int(message.roi.x_offset),
            y_offset=int(message.roi.y_offset),
            width=int(message.roi.width),
            height=int(message.roi.height),
            do_rectify=bool(message.roi.do_rectify),
        ),
    )


def camera_model(values: CameraInfoValues, *, images_rectified: bool) -> CameraModel:
    """Judge ``values`` by the rules at the top of this module; raises CameraInfoError."""
    if values.width <= 0 or values.height <= 0:
        raise CameraInfoError(
            f"camera_info says {values.width}x{values.height} pixels, expected the sensor's size; fix its "
            "publisher"
        )
    for name in ("k", "d", "r", "p"):
        numbers = getattr(values, name)
        if not np.all(np.isfinite(numbers)):
            raise CameraInfoError(
                f"camera_info has {int(np.sum(~np.isfinite(numbers)))} values in {name.upper()} that are not "
                "finite, expected numbers; calibrate the camera or fix its publisher"
            )
    _require_pinhole(values.k, "K", values)
    if images_rectified:
        intrinsics, lens, notes = _rectified(values)
    else:
        intrinsics, lens, notes = values.k, _lens(values), ()
    width, height, full_from_image = _readout(values, images_rectified)
    return CameraModel(
        width=width,
        height=height,
        intrinsics=np.linalg.inv(full_from_image) @ intrinsics,
        lens=lens,
        notes=notes,
    )


def _rectified(values: CameraInfoValues) -> tuple[np.ndarray, None, tuple[str, ...]]:
    if values.p[0, 0] == 0:
        raise CameraInfoError(
            "camera_info has P[0] = 0, expected the projection matrix of the rectified image; "
            "publish P, or set images_rectified to false if the images are raw"
        )
    if values.p[0, 3] != 0 or values.p[1, 3] != 0 or values.p[2, 3] != 0:
        raise CameraInfoError(
            f"camera_info has P[3] = {values.p[0, 3]:g}, P[7] = {values.p[1, 3]:g} and P[11] = "
            f"{values.p[2, 3]:g}, expected 0: this is the second camera of a stereo pair, whose centre is "
            "not the origin of its frame; give the camera its own frame and a P without offset"
        )
    intrinsics = values.p[:, :3]
    _require_pinhole(intrinsics, "P", values)
    notes = []
    if np.any(values.r != 0) and np.abs(values.r - np.eye(3)).max() > 1e-6:
        notes.append(
            "camera_info has an R other than the identity, which is ignored for rectified images: "
            "its frame_id must name the rectified frame"
        )
    return intrinsics, None, tuple(notes)


def _require_pinhole(matrix: np.ndarray, name: str, values: CameraInfoValues) -> None:
    if matrix[0, 0] == 0:
        raise CameraInfoError(
            f"camera_info has {name}[0] = 0, which marks an uncalibrated camera; calibrate it or fix its "
            "publisher"
        )
    if matrix[0, 0] < 0 or matrix[1, 1] <= 0 or matrix[1, 0] != 0 or np.any(matrix[2] != [0, 0, 1]):
        raise CameraInfoError(
            f"camera_info has {name}[:3, :3] = {matrix.tolist()}, expected positive focal lengths, zeros "
            "below the diagonal and 0 0 1 in the last row; fix its publisher"
        )
    across, down = (matrix[0, 2] + 0.5) / values.width, (matrix[1, 2] + 0.5) / values.height
    if max(across, down) < _MIN_CENTRE or min(across, down) > _MAX_CENTRE:
        raise CameraInfoError(
            f"camera_info has the principal point of {name} at ({matrix[0, 2]:.0f}, {matrix[1, 2]:.0f}) of "
            f"{values.width}x{values.height} pixels, which fits an image of about "
            f"{2 * matrix[0, 2]:.0f}x{2 * matrix[1, 2]:.0f}: {name} belongs to another resolution; scale it "
            "to the image"
        )


def _lens(values: CameraInfoValues) -> LensModel | None:
    model, count = values.distortion_model, len(values.d)
    if model == "" and not np.any(values.d):
        return None
    if model not in LENS_COEFFICIENTS:
        raise CameraInfoError(
            f"camera_info has distortion_model {model!r}, expected one of {', '.join(LENS_COEFFICIENTS)}; "
            "rectify the images before the planner and set images_rectified to true"
        )
    if model != "equidistant" and not np.any(values.d):
        return None  # no coefficients, or all zero: a pinhole (an equidistant lens of zeros is none)
    allowed = LENS_COEFFICIENTS[model]
    if count not in allowed:
        raise CameraInfoError(
            f"camera_info has {count} coefficients in D for {model}, expected "
            f"{' or '.join(map(str, sorted(allowed)))}; fix its publisher"
        )
    return LensModel(name=model, coefficients=values.d)


def _readout(values: CameraInfoValues, images_rectified: bool) -> tuple[int, int, np.ndarray]:
    """Return the published image's size and full_from_image (3, 3), its pixels to full-sensor pixels."""
    roi = values.roi
    whole = (
        roi.width in (0, values.width)
        and roi.height in (0, values.height)
        and not (roi.x_offset or roi.y_offset)
    )
    if whole:
        left, top, width, height = 0, 0, values.width, values.height
    else:
        left, top, width, height = roi.x_offset, roi.y_offset, roi.width, roi.height
        if width == 0 or height == 0 or left + width > values.width or top + height > values.height:
            raise CameraInfoError(
                f"camera_info has a roi of {width}x{height} at ({left}, {top}), expected one inside its "
                f"{values.width}x{values.height} pixels; fix its publisher"
            )
        if images_rectified and roi.do_rectify:
            raise CameraInfoError(
                "camera_info asks by roi.do_rectify for a region of the rectified image that it does not "
                "state; rectify and crop before the planner and publish K, P, width and height of the result"
            )
    binning = np.array([max(1, values.binning_x), max(1, values.binning_y)])
    if binning[0] > width or binning[1] > height:
        raise CameraInfoError(
            f"camera_info has a binning of {binning[0]}x{binning[1]} for a region of {width}x{height} "
            "pixels; fix its publisher"
        )
    # The centre of a super-pixel lies in the middle of the pixels that it joins.
    offset = np.array([left, top]) + 0.5 * binning - 0.5
    full_from_image = np.array(
        [[binning[0], 0, offset[0]], [0, binning[1], offset[1]], [0, 0, 1]], dtype=np.float64
    )
    return int(width // binning[0]), int(height // binning[1]), full_from_image
