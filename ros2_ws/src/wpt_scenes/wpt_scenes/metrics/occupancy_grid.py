"""Object rectangles drawn into occupancy grids, and look-ups of the cells that an ego covers."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def cells_in_rectangle(
    first: tuple[float, float], second: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (C,) pairs of integers within two [low, high] bounds, every first with every second.

    The cells that skimage.draw.polygon gives for a rectangle whose edges hit no integer, as those of all public
    footprints do not.
    """
    one = np.arange(np.ceil(first[0]), np.floor(first[1]) + 1)
    two = np.arange(np.ceil(second[0]), np.floor(second[1]) + 1)
    grid = np.meshgrid(one, two, indexing="ij")
    return grid[0].ravel(), grid[1].ravel()


def occupied(
    polygons: np.ndarray,
    owner: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    cells_of: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    draws: int,
    size: int,
) -> np.ndarray:
    """Return (G, draws) bool: whether any cell of a path is covered by one of its group's polygons.

    A group is one step of one sample. polygons: (Q, 4, 2) integer (column, row) vertices, drawn with cv2.fillPoly one by
    one, as all the public labels are (the outline itself is filled too, and polygons that overlap do not cancel).
    owner: (Q,) group of each. low, high: (G, 2) bounds (column, row) of everything that a group looks up; polygons that
    do not meet them are never drawn. cells_of: (M,) groups to rows and columns (M, draws, C) inside the grid, and a mask
    of the same shape, False where a cell reads as free (None: all count). size: cells per side.
    """
    result = np.zeros((len(low), draws), dtype=bool)
    meets = np.all((polygons.min(axis=1) <= high[owner]) & (polygons.max(axis=1) >= low[owner]), axis=1)
    order = np.flatnonzero(meets)[np.argsort(owner[meets], kind="stable")]
    polygons, owner = np.ascontiguousarray(polygons[order], dtype=np.int32), owner[order]
    groups, starts = np.unique(owner, return_index=True)
    if len(groups) == 0:
        return result
    rows, columns, inside = cells_of(groups)
    flat = rows.astype(np.intp) * size + columns  # one index per cell: half the time of two
    ends = np.append(starts, len(owner))[1:]
    grid = np.zeros((size, size), dtype=np.uint8)
    for number, group in enumerate(groups):
        grid.fill(0)
        for polygon in polygons[starts[number] : ends[number]]:
            cv2.fillPoly(grid, [polygon], 1)
        covered = grid.ravel().take(flat[number])
        if inside is not None:
            covered &= inside[number]
        result[group] = covered.max(axis=-1)
    return result
