"""Samples of a moving ego told again as if it stood there: the way out of a standstill that nothing asks for.

Recorded drivers stand for a reason nearly always, so that a policy that can tell its own speed learns that who stands goes
on standing (the inertia problem of imitation: Codevilla et al., arXiv 1904.08980). Here the present stays, the remembered
view is what it would be had the ego stood, and the true path is driven from rest, never ahead of the true drive.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from wpt_policy.network.temporal import BevWarp

from wpt_training.data.batch import Batch

# m/s2: of the simulated expert's 170 starts the median path is 0.17, 0.66, 3.0 and 7.2 m after 0.5, 1, 2 and 3 s.
LAUNCH = 1.5


def standing_start(batch: Batch, step_s: float) -> Batch:
    """Return the samples with the motion and the future of an ego that starts from rest; without a history, no future.

    The remembered views are not in a batch: remembered_standing changes them.
    """
    future = from_rest(batch.future, step_s)
    known = batch.history_valid.any(dim=1, keepdim=True)
    return dataclasses.replace(
        batch,
        motion=torch.zeros_like(batch.motion),
        future=future,
        future_valid=batch.future_valid & known,
        earlier_from_present=_identity(batch.earlier_from_present),
    )


def from_rest(future: Tensor, step_s: float) -> Tensor:
    """Return poses [B, T, 3] on the path of future [B, T, 3] (x, y, yaw), as far as LAUNCH and the future itself reach."""
    points = torch.cat([torch.zeros_like(future[:, :1]), future], dim=1)
    pieces = points.diff(dim=1)
    turns = torch.remainder(pieces[..., 2] + math.pi, 2 * math.pi) - math.pi
    lengths = pieces[..., :2].norm(dim=-1)
    along = torch.cat([torch.zeros_like(lengths[:, :1]), lengths.cumsum(dim=1)], dim=1)
    times = step_s * torch.arange(1, future.shape[1] + 1, device=future.device)
    reached = torch.minimum(along[:, 1:], 0.5 * LAUNCH * times.square())
    piece = torch.searchsorted(along[:, 1:].contiguous(), reached).clamp(max=lengths.shape[1] - 1)
    share = (reached - along.gather(1, piece)) / lengths.gather(1, piece).clamp(min=1e-6)
    moved = torch.cat([pieces[..., :2], turns.unsqueeze(-1)], dim=-1)
    index = piece.unsqueeze(-1).expand(-1, -1, 3)
    poses = points[..., :3].gather(1, index) + share.clamp(0, 1).unsqueeze(-1) * moved.gather(1, index)
    return torch.where((lengths.sum(dim=1) > 0)[:, None, None], poses, future)


def remembered_standing(warp: BevWarp, bev: Tensor, history: Tensor, earlier_from_present: Tensor) -> Tensor:
    """Return history [B, S, C, X, Y] as it would lie had the ego stood where it is: to be fused with no motion.

    bev: [B, C, X, Y] of the present, which stands in where an earlier view does not reach; what moves keeps its own
    motion. earlier_from_present: [B, S, 2, 3] of the drive.
    """
    flat, moves = history.flatten(0, 1), earlier_from_present.flatten(0, 1)
    warped = warp(flat, moves).unflatten(0, history.shape[:2])
    reached = warp(torch.ones_like(flat[:, :1]), moves).unflatten(0, history.shape[:2])
    return torch.where(reached > 0.999, warped, bev.unsqueeze(1).float())


def _identity(motion: Tensor) -> Tensor:
    return torch.eye(2, 3, dtype=motion.dtype, device=motion.device).expand_as(motion).clone()
