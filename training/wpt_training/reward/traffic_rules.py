"""Rules beyond the paper: TLC, traffic-light compliance, and DDC, driving-direction compliance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.data.batch import SIGNAL_STATES
from wpt_training.reward.footprint import Poses, chords, looked_up

FIRM_BRAKING = 3.0  # m/s2: who can stop before a yellow signal with it must
LINE_MARGIN_M = 1.0  # a stop line is longer by this at both ends: one does not pass beside it
# Who stands with the bumper a little over the line has stopped at it: the expert does so by 0.15 m.
OVER_LINE_M = 0.5
WRONG_WAY_M = 2.0  # NAVSIM: so far may one drive against the direction
_SAMPLES = 4  # for each 0.5 s


def signal_compliance(
    poses: Poses,
    future_valid: Tensor,
    motion: Tensor,
    signal: Tensor,
    stop_line: Tensor,
    footprint: EgoFootprint,
) -> Tensor:
    """TLC [B, K]: 0 where the middle of the front bumper goes more than OVER_LINE_M over the stop line although
    the signal now forbids it. A line crossed after the signal turns green counts too: the signal is known now alone.

    Forbidden by red; by yellow where FIRM_BRAKING stops the ego before the line. An ego already beyond the
    line, and one without a signal, pass. Only moves that end in a valid step count.
    """
    ahead = footprint.centre_ahead_m + 0.5 * footprint.length_m
    front = poses.positions + ahead * poses.direction
    now = torch.zeros_like(front[..., :1, :])
    now[..., 0] = ahead
    begin, end = torch.cat([now, front[..., :-1, :]], dim=-2), front

    line = stop_line.nan_to_num(0.0)
    along = line[:, 1] - line[:, 0]
    length = torch.linalg.vector_norm(along, dim=-1, keepdim=True)
    unit = along / length.clamp(min=1e-6)
    normal = torch.stack([-unit[:, 1], unit[:, 0]], dim=-1)
    side_begin, side_end = (
        ((p - line[:, None, None, 0]) * normal[:, None, None]).sum(-1) for p in (begin, end)
    )
    # Crossing means: from the ego's side now to the other one.
    ego_side = torch.sign(side_begin[..., :1])
    before_begin, before_end = side_begin * ego_side + OVER_LINE_M, side_end * ego_side + OVER_LINE_M
    crosses = (before_begin >= 0) & (before_end < 0)
    share = (before_begin / (before_begin - before_end).where(crosses, torch.ones_like(side_end))).unsqueeze(-1)
    place = begin + share * (end - begin)
    at = ((place - line[:, None, None, 0]) * unit[:, None, None]).sum(-1)
    within = (at >= -LINE_MARGIN_M) & (at <= length[:, None] + LINE_MARGIN_M)
    crosses &= within & future_valid.unsqueeze(1)

    distance = side_begin[:, 0, 0].abs()  # [B] of the front now
    # The line must lie ahead: the ego's heading now points towards it.
    towards = -normal[:, 0] * ego_side[:, 0, 0] > 0
    can_stop = motion[:, 0].clamp(min=0).square() / (2.0 * FIRM_BRAKING) <= distance
    red, yellow = (signal == SIGNAL_STATES.index(colour) for colour in ("red", "yellow"))
    known = torch.isfinite(stop_line).flatten(1).all(1) & (length.squeeze(-1) > 1e-3)
    forbidden = (red | (yellow & can_stop)) & known & towards
    return (~(crosses.any(-1) & forbidden.unsqueeze(1))).float()


def direction_compliance(poses: Poses, future_valid: Tensor, lane_direction: Tensor, grid: BevGrid) -> Tensor:
    """DDC [B, K]: 1 where less than WRONG_WAY_M is driven on cells whose direction is more than 90 degrees
    off.

    Looked at under base_link, at four places of each move that ends in a valid step. Cells without a known
    direction, and places off the grid, pass. Reversing counts by the car's heading.
    """
    moves = chords(poses.positions)
    begin = poses.positions - moves
    share = (torch.arange(_SAMPLES, device=moves.device, dtype=moves.dtype) + 0.5) / _SAMPLES
    places = begin.unsqueeze(-2) + share.unsqueeze(-1) * moves.unsqueeze(-2)
    lane = looked_up(lane_direction, None, places, grid, math.nan)
    agreement = (
        torch.cos(lane) * poses.direction[..., None, 0] + torch.sin(lane) * poses.direction[..., None, 1]
    )
    wrong = (agreement < 0).float()  # NaN compares as False
    driven = torch.linalg.vector_norm(moves, dim=-1) * wrong.mean(-1)
    return ((driven * future_valid.unsqueeze(1)).sum(-1) < WRONG_WAY_M).float()
