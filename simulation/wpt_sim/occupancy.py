"""Bird's-eye occupancy from actor boxes, now and in the future.

Rule: each cell is sampled at 4 x 4 points, evenly spread; its coverage is the share of them inside any
actor's box, and it is occupied when at least one of them is. So nothing wider than a quarter of a cell is
lost, and an occupied cell's centre is at most 0.7 cells away from a box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wpt_policy import se3

from wpt_sim.drivable_raster import cell_centres, map_from_base
from wpt_sim.world_state import Actor, EgoPose, WorldState

SAMPLES = 4  # per cell and axis


def coverage(
    actors: Sequence[Actor],
    pose: EgoPose | np.ndarray,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    cell: float = 0.5,
) -> np.ndarray:
    """Return the (nx, ny) float32 share of each cell that actors cover, by the rule above.

    Entry [i, j] is the cell with its centre at x = x_range[0] + (i + 0.5) cell ahead of the ego, y =
    y_range[0] + (j + 0.5) cell to its left. pose: of the ego, or (4, 4) map_from_base. Raises ValueError when
    a range is no whole number of cells."""
    step = cell / SAMPLES
    # The centres of the fine cells are the samples.
    shape = (len(cell_centres(x_range, cell)), len(cell_centres(y_range, cell)))
    x, y = (
        low + (np.arange(SAMPLES * count) + 0.5) * step
        for low, count in zip((x_range[0], y_range[0]), shape, strict=True)
    )
    fine = np.zeros((len(x), len(y)), dtype=bool)
    base_from_map = se3.inverse(map_from_base(pose))
    for actor in actors:
        centre = base_from_map[:2, :2] @ (actor.x, actor.y) + base_from_map[:2, 3]
        axis = base_from_map[:2, :2] @ (np.cos(actor.yaw), np.sin(actor.yaw))
        reach = 0.5 * np.hypot(actor.length, actor.width)
        rows = slice(*np.searchsorted(x, (centre[0] - reach, centre[0] + reach)))
        columns = slice(*np.searchsorted(y, (centre[1] - reach, centre[1] + reach)))
        dx, dy = x[rows, None] - centre[0], y[None, columns] - centre[1]
        if dx.size and dy.size:
            inside = (np.abs(dx * axis[0] + dy * axis[1]) <= 0.5 * actor.length) & (
                np.abs(dy * axis[0] - dx * axis[1]) <= 0.5 * actor.width
            )
            fine[rows, columns] |= inside
    blocks = fine.reshape(shape[0], SAMPLES, shape[1], SAMPLES)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def occupancy(
    actors: Sequence[Actor],
    pose: EgoPose | np.ndarray,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    cell: float = 0.5,
) -> np.ndarray:
    """Return the (nx, ny) bool grid of cells that an actor touches, by the rule above; arguments as of
    ``coverage``."""
    return coverage(actors, pose, x_range, y_range, cell) > 0.0


def future_occupancy(
    states: Sequence[WorldState],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    cell: float = 0.5,
    pose: EgoPose | np.ndarray | None = None,
) -> np.ndarray:
    """Return (T, nx, ny) bool: the occupancy of each state, all in one frame.

    pose: of that frame; None: the ego's in the first state. Raises ValueError for no states.
    """
    if not states:
        raise ValueError("no states were given, expected the present and the future ones")
    frame = states[0].ego if pose is None else pose
    return np.stack([occupancy(state.actors, frame, x_range, y_range, cell) for state in states])
