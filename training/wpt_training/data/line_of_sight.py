"""Which cells of the bird's-eye view the cameras can see now: inside some camera's image, and not behind a
vehicle.

What is hidden follows a polar sweep around the cameras' middle: along each bearing everything beyond the far
side of the nearest vehicle box is in its shadow. A vehicle's own cells are so never in its own shadow, and
one that stands wholly behind another is. Heights are left out: a car hides a truck behind it.
"""

from __future__ import annotations

import math

import numpy as np

from wpt_policy.policy_config import BevGrid

from wpt_training.data.occupancy_truth import cell_centres

# A cell is in the view when its ground or the air 1 m above it is: near the car the ground leaves the image
# first.
HEIGHTS_M = (0.0, 1.0)
# A quarter of a degree: 0.17 m wide at 40 m.
BEARINGS = 1440


def cells_in_view(
    image_from_base: np.ndarray, camera_mask: np.ndarray, image_size: tuple[int, int], grid: BevGrid
) -> np.ndarray:
    """Return (X, Y) bool: some used camera has the cell in its image.

    image_from_base: (N, 3, 4) to homogeneous pixels, centre of the first pixel at 0. camera_mask: (N,) bool.
    image_size: (width, height) of the pixels.
    """
    centres = cell_centres(grid)
    xs, ys = centres[:, :1, 0], centres[:1, :, 1]
    seen = np.zeros(grid.shape, dtype=bool)
    width, height = image_size
    for matrix in np.asarray(image_from_base, dtype=np.float64)[np.asarray(camera_mask, dtype=bool)]:
        u, v, depth = matrix
        # Where all four are positive the pixel lies inside, and in front of the camera: their sums are size *
        # depth.
        sides = (u + 0.5 * depth, (width - 0.5) * depth - u, v + 0.5 * depth, (height - 0.5) * depth - v)
        for above in HEIGHTS_M:
            inside = np.ones(grid.shape, dtype=bool)
            for side in sides:
                inside &= (side[0] * xs + (side[2] * above + side[3])) + side[1] * ys > 0
            seen |= inside
    return seen


def shadow_distance(boxes: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return (BEARINGS,) the distance from origin beyond which each bearing is in shadow, inf where it is in
    none.

    boxes: (Q, 5) x, y, yaw, length, width of vehicles; one that holds the origin casts no shadow. Entry b is
    the ray at the angle (b + 0.5) / BEARINGS * 2 pi - pi.
    """
    angles = (np.arange(BEARINGS) + 0.5) * (2 * math.pi / BEARINGS) - math.pi
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 5)
    cosine, sine = np.cos(boxes[:, 2]), np.sin(boxes[:, 2])
    offset = np.asarray(origin, dtype=np.float64) - boxes[:, :2]
    start = (offset[:, 0] * cosine + offset[:, 1] * sine, offset[:, 1] * cosine - offset[:, 0] * sine)
    turned = angles - boxes[:, 2:3]
    entry, leave = np.full(turned.shape, -np.inf), np.full(turned.shape, np.inf)
    for begin, slope, half in (
        (start[0], np.cos(turned), 0.5 * boxes[:, 3]),
        (start[1], np.sin(turned), 0.5 * boxes[:, 4]),
    ):
        slope = np.where(np.abs(slope) < 1e-12, 1e-12, slope)
        one = (-half - begin)[:, None] / slope
        other = (half - begin)[:, None] / slope
        entry = np.maximum(entry, np.minimum(one, other))
        leave = np.minimum(leave, np.maximum(one, other))
    return np.where((entry > 0) & (entry <= leave), leave, np.inf).min(axis=0, initial=np.inf)


def in_shadow(boxes: np.ndarray, origin: np.ndarray, grid: BevGrid) -> np.ndarray:
    """Return (X, Y) bool: the cell's centre lies behind a vehicle box as seen from origin."""
    away = cell_centres(grid) - np.asarray(origin, dtype=np.float64)
    bearing = ((np.arctan2(away[..., 1], away[..., 0]) + math.pi) * (BEARINGS / (2 * math.pi))).astype(
        np.int64
    )
    distance = np.hypot(away[..., 0], away[..., 1])
    return distance > shadow_distance(boxes, origin)[np.clip(bearing, 0, BEARINGS - 1)] + 1e-9


def camera_middle(image_from_base: np.ndarray, camera_mask: np.ndarray) -> np.ndarray:
    """Return (2,) the mean place of the used cameras in base_link, the origin without one."""
    used = np.asarray(image_from_base, dtype=np.float64)[np.asarray(camera_mask, dtype=bool)]
    if len(used) == 0:
        return np.zeros(2)
    # A camera's centre is the place that it projects to nothing.
    return -np.linalg.solve(used[:, :, :3], used[:, :, 3:])[:, :2, 0].mean(axis=0)


def line_of_sight(
    image_from_base: np.ndarray,
    camera_mask: np.ndarray,
    image_size: tuple[int, int],
    vehicles: np.ndarray,
    grid: BevGrid,
) -> np.ndarray:
    """Return (X, Y) bool: cells in view and in no shadow. vehicles: (Q, 5) boxes of now."""
    seen = cells_in_view(image_from_base, camera_mask, image_size, grid)
    return seen & ~in_shadow(vehicles, camera_middle(image_from_base, camera_mask), grid)
