"""Rule EP: progress along the route, as a share of the expert's."""

from __future__ import annotations

import torch
from torch import Tensor

SHORT_M = 5.0  # a shorter reference says nothing: everything passes (NAVSIM)
_EXTENSION_M = 200.0


def filled_future(positions: Tensor, valid: Tensor) -> Tensor:
    """Return [B, T, 2] with steps that are not valid replaced by going on as in the step before (standing
    still at first)."""
    last = torch.zeros_like(positions[:, 0])
    move = torch.zeros_like(last)
    found = []
    for step in range(positions.shape[1]):
        known = valid[:, step, None]
        place = torch.where(known, positions[:, step], last + move)
        move, last = place - last, place
        found.append(place)
    return torch.stack(found, dim=1)


def reference_lines(route: Tensor, future: Tensor, future_valid: Tensor) -> Tensor:
    """Return [B, L, 2] polylines to measure progress along, extended straight at the end.

    route: [B, R, 2], NaN after its end; with fewer than two points the true path from the origin on is taken
    instead. Repeated points (a line that is shorter than others of the batch) measure nothing.
    """
    routed = _padded_with_last(route)
    path = torch.cat([torch.zeros_like(future[:, :1]), filled_future(future, future_valid)], dim=1)
    size = max(routed.shape[1], path.shape[1])
    known = torch.isfinite(route).all(-1).sum(1) >= 2
    line = torch.where(known[:, None, None], _lengthened(routed, size), _lengthened(path, size))
    return torch.cat([line, line[:, -1:] + _EXTENSION_M * _last_direction(line)], dim=1)


def _padded_with_last(line: Tensor) -> Tensor:
    known = torch.isfinite(line).all(-1)
    number = torch.arange(line.shape[1], device=line.device).expand(line.shape[:2])
    last = torch.where(known, number, -1).cummax(dim=1).values.clamp(min=0)
    return torch.gather(line.nan_to_num(0.0), 1, last.unsqueeze(-1).expand_as(line))


def _lengthened(line: Tensor, size: int) -> Tensor:
    return torch.cat([line, line[:, -1:].expand(-1, size - line.shape[1], -1)], dim=1)


def _last_direction(line: Tensor) -> Tensor:
    """[B, 1, 2] unit vector of the last piece that is longer than nothing (else along x)."""
    pieces = torch.diff(line, dim=1)
    length = torch.linalg.vector_norm(pieces, dim=-1)
    number = torch.arange(pieces.shape[1], device=line.device).expand(length.shape)
    last = torch.where(length > 1e-3, number, -1).max(dim=1).values
    chosen = torch.gather(pieces, 1, last.clamp(min=0)[:, None, None].expand(-1, 1, 2))
    unit = chosen / torch.linalg.vector_norm(chosen, dim=-1, keepdim=True).clamp(min=1e-6)
    ahead = torch.zeros_like(unit)
    ahead[..., 0] = 1.0
    return torch.where((last >= 0)[:, None, None], unit, ahead)


def progress_along(lines: Tensor, points: Tensor) -> Tensor:
    """Return [B, Q] metres from the line's start to the foot of each point [B, Q, 2] on its nearest piece, 0
    at least."""
    begin, piece = lines[:, None, :-1], torch.diff(lines, dim=1)[:, None]
    squared = piece.square().sum(-1)
    offset = points.unsqueeze(2) - begin
    share = ((offset * piece).sum(-1) / squared.clamp(min=1e-9)).clamp(0.0, 1.0)
    distance = (offset - share.unsqueeze(-1) * piece).square().sum(-1)
    length = squared.sqrt()
    before = torch.cumsum(length, dim=-1) - length
    nearest = distance.masked_fill(squared < 1e-6, float("inf")).argmin(dim=-1, keepdim=True)
    return torch.gather(before + share * length, 2, nearest).squeeze(-1)


def _last_valid(positions: Tensor, future_valid: Tensor) -> Tensor:
    """[B, K, T, 2] -> [B, K, 2] at the last valid step (the first step where none is valid)."""
    number = torch.arange(future_valid.shape[1], device=positions.device)
    last = (number * future_valid).max(dim=1).values
    return torch.gather(positions, 2, last[:, None, None, None].expand(-1, positions.shape[1], 1, 2)).squeeze(
        2
    )


def progress_share(route: Tensor, future: Tensor, future_valid: Tensor, positions: Tensor) -> Tensor:
    """EP [B, K] in [0, 1]: progress up to the last valid step over the expert's; 1 where that is below SHORT_M.

    The rule's reference, the larger of the expert's progress and that of safe candidates capped at the
    expert's, is the expert's whatever the candidates are.
    """
    lines = reference_lines(route, future, future_valid)
    expert_end = _last_valid(filled_future(future, future_valid).unsqueeze(1), future_valid)
    expert = progress_along(lines, expert_end)
    own = progress_along(lines, _last_valid(positions, future_valid))
    share = (own / expert.clamp(min=SHORT_M)).clamp(0.0, 1.0)
    return torch.where(expert < SHORT_M, 1.0, share)


def progress_share_of_the_paper(future_valid: Tensor, positions: Tensor, safe: Tensor) -> Tensor:
    """EP [B, K] as the paper's relatives compute it: displacement forward, 0 unless safe, over the
    candidates' largest.

    Where the largest is 5 m or less: 1 for every displacement that is not negative, else 0.
    """
    forward = _last_valid(positions, future_valid)[..., 0] * safe
    largest = forward.amax(dim=1, keepdim=True)
    share = (forward / largest.clamp(min=SHORT_M)).clamp(min=0.0)
    return torch.where(largest > SHORT_M, share, (forward >= 0).float())
