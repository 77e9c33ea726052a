"""Candidates as poses, the ego's footprint as points, and what lies under them on a grid.

Shape letters: B samples, K candidates, T future steps (0.5 s), F frames (the present and T steps), P points
of the footprint. Positions are base_link origins in base_link now, metres; x forward, y left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from wpt_policy.plan import STANDSTILL_CHORD_M
from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

DT_S = 0.5
SPACING_M = 0.5  # between neighbouring footprint points, at most


@dataclass(frozen=True, kw_only=True)
class Poses:
    """positions [..., T, 2] m; direction [..., T, 2] unit vectors of the heading; speed [..., T] m/s,
    negative in reverse."""

    positions: Tensor
    direction: Tensor
    speed: Tensor


def chords(positions: Tensor) -> Tensor:
    """Return [..., T, 2] displacements that lead to each of [..., T, 2] positions, the first from the
    origin."""
    return torch.diff(positions, dim=-2, prepend=torch.zeros_like(positions[..., :1, :]))


def poses_along(positions: Tensor, dt_s: float = DT_S) -> Poses:
    """Derive heading and speed at each of [..., T, 2] positions by the rule of
    wpt_policy.plan.headings_and_speeds.

    The present is the origin with heading 0. A heading is the direction of the chord between both neighbours
    (at the end: of the last chord); a chord shorter than STANDSTILL_CHORD_M keeps the heading before it; one
    that points backwards is driven in reverse. Differentiable, with finite gradients at standstill.
    """
    arriving = chords(positions)
    spanning = torch.cat([arriving[..., :-1, :] + arriving[..., 1:, :], arriving[..., -1:, :]], dim=-2)
    direction = directions(spanning)
    forward = (arriving * direction).sum(-1)
    length = _length(arriving)
    return Poses(
        positions=positions, direction=direction, speed=torch.where(forward < 0, -length, length) / dt_s
    )


def directions(spans: Tensor) -> Tensor:
    """Return [..., T, 2] unit vectors: each span's direction by the rule above, the one before the first
    being (1, 0)."""
    length = _length(spans)
    moves = (length >= STANDSTILL_CHORD_M).unsqueeze(-1)
    units = torch.where(moves, spans, torch.ones_like(spans)) / torch.where(moves, length.unsqueeze(-1), 1.0)
    last = torch.zeros_like(spans[..., 0, :])
    last[..., 0] = 1.0
    found = []
    for step in range(spans.shape[-2]):
        unit = units[..., step, :]
        backwards = ((unit * last).sum(-1, keepdim=True) < 0).to(unit.dtype)
        last = torch.where(moves[..., step, :], unit * (1.0 - 2.0 * backwards), last)
        found.append(last)
    return torch.stack(found, dim=-2)


def _length(vectors: Tensor) -> Tensor:
    """[..., 2] -> [...]; its gradient at zero is zero instead of NaN."""
    squared = vectors.square().sum(-1)
    zero = squared == 0
    return torch.where(zero, torch.zeros_like(squared), torch.where(zero, 1.0, squared).sqrt())


@lru_cache(maxsize=32)
def _rows_and_columns(
    length_m: float, width_m: float, ahead_m: float, shrink_m: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    axes = []
    for size, centre in ((length_m, ahead_m), (width_m, 0.0)):
        half = max(0.5 * size - shrink_m, 0.0)
        count = max(2, 1 + math.ceil(2.0 * half / SPACING_M - 1e-9))
        axes.append(tuple(centre - half + 2.0 * half * k / (count - 1) for k in range(count)))
    return axes[0], axes[1]


def footprint_axes(
    footprint: EgoFootprint, shrink_m: float = 0.0, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Return the footprint's points as rows (metres ahead of base_link, rear first) and columns (metres to
    the left).

    Neighbours are at most SPACING_M apart and the corners are among them. shrink_m: taken off on every side.
    """
    rows, columns = _rows_and_columns(
        float(footprint.length_m), float(footprint.width_m), float(footprint.centre_ahead_m), float(shrink_m)
    )
    return torch.tensor(rows, device=device), torch.tensor(columns, device=device)


def placed(points: Tensor, positions: Tensor, direction: Tensor) -> Tensor:
    """Put points [P, 2] (ahead, left) at poses [..., 2] with unit headings [..., 2]: [..., P, 2]."""
    c, s = direction[..., None, 0], direction[..., None, 1]
    x = positions[..., None, 0] + points[:, 0] * c - points[:, 1] * s
    y = positions[..., None, 1] + points[:, 0] * s + points[:, 1] * c
    return torch.stack([x, y], dim=-1)


def grid_of_points(rows: Tensor, columns: Tensor) -> Tensor:
    """Return [R * C, 2] points (ahead, left), columns running fastest."""
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)


def looked_up(
    values: Tensor, frame: Tensor | None, points: Tensor, grid: BevGrid, outside: bool | float
) -> Tensor:
    """Return what each point's cell holds: [B, ...] of values' type.

    values: [B, F, X, Y], or [B, X, Y] with frame None. frame: int64, broadcast against points' shape [B, ...,
    2] without its last axis. outside: the answer for points off the grid.
    """
    cells_x, cells_y = values.shape[-2:]
    i = torch.floor((points[..., 0] - grid.x_range_m[0]) / grid.cell_m)
    j = torch.floor((points[..., 1] - grid.y_range_m[0]) / grid.cell_m)
    inside = (i >= 0) & (i < cells_x) & (j >= 0) & (j < cells_y)
    # NaN is no cell: not inside, and clamped only after it is replaced.
    index = (i.nan_to_num(0).clamp(0, cells_x - 1) * cells_y + j.nan_to_num(0).clamp(0, cells_y - 1)).to(
        torch.int64
    )
    samples = torch.arange(len(values), device=values.device).view(-1, *[1] * (points.dim() - 2))
    block = samples if frame is None else samples * values.shape[1] + frame
    found = values.reshape(-1)[index + block * (cells_x * cells_y)]
    return torch.where(inside, found, torch.as_tensor(outside, dtype=values.dtype, device=values.device))
