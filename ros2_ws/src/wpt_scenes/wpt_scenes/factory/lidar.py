"""A small LiDAR: rays against ground and annotated boxes, from which point counts and visibility follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpt_policy import se3

# 32 beams from -30 to +10 degrees, as nuScenes' LiDAR; its 1100 columns a turn are thinned to 360.
_ELEVATIONS = np.radians(np.linspace(-30.0, 10.0, 32))
_AZIMUTHS = np.radians(np.arange(360.0))
RANGE_M = 70.0


@dataclass(frozen=True, eq=False)
class Scan:
    """points: (N, 3) in the LiDAR frame; rings: (N,) beam numbers. hits, alone: rays that end on each box,
    and that would if it stood alone.
    """

    points: np.ndarray
    rings: np.ndarray
    hits: np.ndarray
    alone: np.ndarray

    def to_bytes(self) -> bytes:
        """Return the .pcd.bin file of nuScenes: float32 x, y, z, intensity, ring."""
        columns = [self.points, np.full((len(self.points), 1), 20.0), self.rings[:, None]]
        return np.hstack(columns).astype("<f4").tobytes()


def scan(
    global_from_lidar: np.ndarray, boxes: Sequence[tuple[np.ndarray, tuple[float, float, float]]]
) -> Scan:
    """Cast one turn. boxes: (global_from_box (4, 4), (length, width, height)); the ground is z = 0."""
    cos = np.cos(_ELEVATIONS)
    rays = np.stack(
        [
            np.outer(cos, np.cos(_AZIMUTHS)),
            np.outer(cos, np.sin(_AZIMUTHS)),
            np.repeat(np.sin(_ELEVATIONS)[:, None], len(_AZIMUTHS), axis=1),
        ],
        axis=-1,
    ).reshape(-1, 3)
    rings = np.repeat(np.arange(len(_ELEVATIONS)), len(_AZIMUTHS))
    directions = rays @ global_from_lidar[:3, :3].T
    origin = global_from_lidar[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], math.inf)
    distances = np.full((len(boxes) + 1, len(rays)), math.inf)
    distances[-1] = ground
    for i, (global_from_box, size) in enumerate(boxes):
        distances[i] = _box_distances(global_from_box, np.asarray(size), origin, directions)
    distances[distances > RANGE_M] = math.inf
    nearest = np.argmin(distances, axis=0)
    reach = distances[nearest, np.arange(len(rays))]
    returned = np.isfinite(reach)
    return Scan(
        points=rays[returned] * reach[returned, None],
        rings=rings[returned],
        hits=np.array([int(np.sum(returned & (nearest == i))) for i in range(len(boxes))]),
        alone=np.array([int(np.sum(distances[i] < ground)) for i in range(len(boxes))]),
    )


def _box_distances(global_from_box, size, origin, directions) -> np.ndarray:
    """Distance along each ray to a box by the slab method; infinite where it is missed."""
    box_from_global = se3.inverse(global_from_box)
    start = box_from_global[:3, :3] @ origin + box_from_global[:3, 3]
    toward = directions @ box_from_global[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        first = (-0.5 * size - start) / toward
        second = (0.5 * size - start) / toward
    enter = np.nanmax(np.minimum(first, second), axis=1)
    leave = np.nanmin(np.maximum(first, second), axis=1)
    return np.where((enter <= leave) & (enter > 0), enter, math.inf)
