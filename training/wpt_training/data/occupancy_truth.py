"""True occupancy of the bird's-eye view, drawn from boxes: a cell is occupied when its centre lies in a box.

Exact and without a loop over boxes: each box is tested against the cells of its own bounding square only.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from wpt_policy.policy_config import BevGrid, PolicyConfig

from wpt_training.configuration import DataConfig
from wpt_training.data.batch import MOVING, MOVING_SPEED, VEHICLE, VULNERABLE


def occupancy_grid(policy: PolicyConfig, data: DataConfig) -> BevGrid:
    """Return the grid of occupancy: the range of the policy's bird's-eye view in cells of
    data.occupancy_cell_m.
    """
    return dataclasses.replace(policy.bev, cell_m=data.occupancy_cell_m)


def cell_centres(grid: BevGrid) -> np.ndarray:
    """Return (X, Y, 2) float64 x, y of the cells' centres, metres."""
    xs, ys = (
        low + (np.arange(count) + 0.5) * grid.cell_m
        for (low, _), count in zip((grid.x_range_m, grid.y_range_m), grid.shape, strict=True)
    )
    return np.stack(np.meshgrid(xs, ys, indexing="ij"), axis=-1)


def cells_in_boxes(boxes: np.ndarray, grid: BevGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which cell centres lie in which box (its edge included).

    boxes: (Q, 5) x, y, yaw, length, width in the grid's frame; finite. Returns three (P,) arrays, one entry
    for each pair of a box and a cell in it: number of the box, i and j of the cell. Nearest cells of a box
    thinner than a cell may be none.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 5)
    x, y, yaw, length, width = boxes.T
    cosine, sine = np.cos(yaw), np.sin(yaw)
    reach = (
        0.5 * (length * np.abs(cosine) + width * np.abs(sine)),
        0.5 * (length * np.abs(sine) + width * np.abs(cosine)),
    )
    first, count = [], []
    for centre, half, (low, _), cells in zip(
        (x, y), reach, (grid.x_range_m, grid.y_range_m), grid.shape, strict=True
    ):
        # One cell more on each side than rounding allows; the exact test below decides.
        start = np.clip(np.floor((centre - half - low) / grid.cell_m - 0.5), 0, cells).astype(np.int64)
        stop = np.clip(np.ceil((centre + half - low) / grid.cell_m + 0.5), 0, cells).astype(np.int64)
        first.append(start)
        count.append(np.maximum(stop - start, 0))
    tested = count[0] * count[1]
    owner = np.repeat(np.arange(len(boxes)), tested)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(tested) - tested, tested)
    i = first[0][owner] + number // np.maximum(count[1][owner], 1)
    j = first[1][owner] + number % np.maximum(count[1][owner], 1)
    dx = grid.x_range_m[0] + (i + 0.5) * grid.cell_m - x[owner]
    dy = grid.y_range_m[0] + (j + 0.5) * grid.cell_m - y[owner]
    along = dx * cosine[owner] + dy * sine[owner]
    across = dy * cosine[owner] - dx * sine[owner]
    inside = (np.abs(along) <= 0.5 * length[owner] + 1e-9) & (np.abs(across) <= 0.5 * width[owner] + 1e-9)
    return owner[inside], i[inside], j[inside]


def draw_occupancy(
    boxes: np.ndarray, velocity: np.ndarray, valid: np.ndarray, vulnerable: np.ndarray, grid: BevGrid
) -> np.ndarray:
    """Return (F, X, Y) uint8 occupancy bits (data.batch) of F frames.

    boxes: (F, M, 5) x, y, yaw, length, width; velocity: (F, M, 2) m/s; valid: (F, M) bool; vulnerable: (M,)
    bool.
    """
    frames = len(boxes)
    result = np.zeros((frames, *grid.shape), dtype=np.uint8)
    frame, actor = np.nonzero(valid)
    owner, i, j = cells_in_boxes(boxes[frame, actor], grid)
    if len(owner) == 0:
        return result
    bits = np.where(vulnerable[actor], VULNERABLE, VEHICLE)
    bits |= np.where(np.linalg.norm(velocity[frame, actor], axis=-1) > MOVING_SPEED, MOVING, 0)
    for bit in (VEHICLE, VULNERABLE, MOVING):
        has = (bits[owner] & bit) != 0
        result[frame[owner[has]], i[has], j[has]] |= np.uint8(bit)
    return result
