"""Draws a plan into a camera image as a ribbon on the ground, and captions. Colours are RGB."""

from __future__ import annotations

import cv2
import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration

PLAN_COLOUR = (40, 220, 90)
RIBBON_WIDTH_M = 0.5
# Nothing nearer to the camera than this is drawn: there the projection grows without bound.
NEAR_PLANE_M = 0.3
_FARTHEST_M = 1e5
_SHIFT = 4  # polygon corners are given to OpenCV in 1/16 pixel
_MARGIN_PX = (
    16.0  # polygons are cut this far outside the image, so that no corner overflows OpenCV's integers
)


def draw_plan(
    image: np.ndarray,
    calibration: CameraCalibration,
    positions: np.ndarray,
    *,
    colour: tuple[int, int, int] = PLAN_COLOUR,
    width_m: float = RIBBON_WIDTH_M,
    opacity: float = 0.55,
    waypoints: bool = True,
    camera_base_from_plan_base: np.ndarray | None = None,
) -> int:
    """Draw ``positions`` into ``image`` in place; return how many pixels were touched (0 when the plan is out
    of view).

    image: (H, W, 3) uint8 RGB, contiguous. calibration: of this image. positions: (N, 2) metres in base_link
    at the plan's reference stamp, on the ground (z = 0). width_m: of the ribbon, so nearer parts look wider.
    waypoints: a bar across the ribbon at every position but the first. Rows that are not finite or farther
    than 100 km are left out. camera_base_from_plan_base: (4, 4), base_link at the plan's stamp to base_link
    at the image's stamp; None when they are the same. Raises ValueError when image and calibration differ in
    size.
    """
    if image.shape != (calibration.height, calibration.width, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"image has shape {image.shape} and type {image.dtype}, expected ({calibration.height}, "
            f"{calibration.width}, 3) uint8 as in the calibration of {calibration.name}"
        )
    ground = np.asarray(positions, dtype=np.float64)
    ground = ground[np.all(np.abs(ground) <= _FARTHEST_M, axis=1)]
    camera_from_plan = se3.inverse(calibration.base_from_camera)
    if camera_base_from_plan_base is not None:
        camera_from_plan = camera_from_plan @ camera_base_from_plan_base
    sides = _view_sides(calibration)
    mask = np.zeros(image.shape[:2], dtype=np.uint8)
    shapes = [(polygon, 128) for polygon in _ribbon(ground, width_m)]
    if waypoints:
        shapes += [(polygon, 255) for polygon in _bars(ground, 1.6 * width_m)]
    for polygon, value in shapes:
        corners = se3.apply(camera_from_plan, np.column_stack([polygon, np.zeros(len(polygon))]))
        for normal, least in sides:
            corners = _clipped(corners, normal, least)
        if len(corners) >= 3:
            pixels = (corners / corners[:, 2:]) @ calibration.intrinsics.T
            cv2.fillPoly(
                mask, [np.round(pixels[:, :2] * (1 << _SHIFT)).astype(np.int32)], value, cv2.LINE_8, _SHIFT
            )
    rows, columns = np.nonzero(mask)
    if rows.size:
        # 128 is the ribbon's opacity; bars are twice as opaque, at most fully.
        share = np.minimum(mask[rows, columns].astype(np.float64) / 128.0 * opacity, 1.0)[:, None]
        image[rows, columns] = np.round((1 - share) * image[rows, columns] + share * np.array(colour)).astype(
            np.uint8
        )
    return int(rows.size)


def draw_caption(image: np.ndarray, text: str, *, colour: tuple[int, int, int] = (255, 255, 255)) -> None:
    """Write one line of text at the lower left of a (H, W, 3) uint8 image, in place, on a dark rim.

    The size follows the image's height; a line that is too long is made smaller. Characters beyond ASCII
    become '?'.
    """
    text = text.encode("ascii", "replace").decode()
    scale = max(0.3, image.shape[0] / 900.0)
    (wide, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, 0.96 * image.shape[1] / max(1, wide))
    at = (max(2, image.shape[1] // 100), image.shape[0] - max(4, image.shape[0] // 60))
    thickness = max(1, round(scale * 1.5))
    for shade, thick in (((0, 0, 0), thickness + 2), (colour, thickness)):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, shade, thick, cv2.LINE_AA)


def _directions(ground: np.ndarray) -> np.ndarray:
    """Return (N, 2) unit directions along a polyline; at standstill the last direction, at first ahead."""
    result = np.empty_like(ground)
    direction = np.array([1.0, 0.0])
    for i in range(len(ground)):
        chord = ground[min(i + 1, len(ground) - 1)] - ground[max(i - 1, 0)]
        length = float(np.hypot(chord[0], chord[1]))
        if length > 1e-6:
            direction = chord / length
        result[i] = direction
    return result


def _edges(ground: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the left and right edge (N, 2) of a ribbon along a polyline."""
    directions = _directions(ground)
    normals = np.stack([-directions[:, 1], directions[:, 0]], axis=1)
    return ground + 0.5 * width * normals, ground - 0.5 * width * normals


def _ribbon(ground: np.ndarray, width: float) -> list[np.ndarray]:
    """Return one quadrilateral (4, 2) per step; straight on the ground, so straight in the image."""
    if len(ground) < 2:
        return []
    left, right = _edges(ground, width)
    lengths = np.hypot(*np.diff(ground, axis=0).T)
    return [
        np.array([left[i], left[i + 1], right[i + 1], right[i]])
        for i in range(len(lengths))
        if lengths[i] > 1e-6
    ]


def _bars(ground: np.ndarray, width: float) -> list[np.ndarray]:
    """Return a rectangle (4, 2) across the way at each position but the first."""
    if len(ground) < 2:
        return []
    left, right = _edges(ground, width)
    along = 0.25 * width * _directions(ground)
    return [
        np.array([left[i] - along[i], left[i] + along[i], right[i] + along[i], right[i] - along[i]])
        for i in range(1, len(ground))
    ]


def _view_sides(calibration: CameraCalibration) -> list[tuple[np.ndarray, float]]:
    """Return the planes that bound what is drawn: (normal (3,), least), kept is normal . p >= least."""
    k, ahead = calibration.intrinsics, np.array([0.0, 0.0, 1.0])
    return [
        (ahead, NEAR_PLANE_M),
        (k[0] + _MARGIN_PX * ahead, 0.0),
        (k[1] + _MARGIN_PX * ahead, 0.0),
        ((calibration.width + _MARGIN_PX) * ahead - k[0], 0.0),
        ((calibration.height + _MARGIN_PX) * ahead - k[1], 0.0),
    ]


def _clipped(corners: np.ndarray, normal: np.ndarray, least: float) -> np.ndarray:
    """Return the part of a polygon (N, 3) on the side of a plane where normal . p >= least."""
    heights = corners @ normal - least
    kept = []
    for i in range(len(corners)):
        j = (i + 1) % len(corners)
        if heights[i] >= 0:
            kept.append(corners[i])
        if (heights[i] >= 0) != (heights[j] >= 0):
            kept.append(corners[i] + heights[i] / (heights[i] - heights[j]) * (corners[j] - corners[i]))
    return np.array(kept).reshape(-1, 3)
