"""Rule Comf: NAVSIM's bounds (nuPlan's) on a trajectory of points 0.5 s apart, starting from the ego's motion
now.

Which differences are fair with such coarse points:

- speed i is the length of chord i over 0.5 s and belongs to the chord's middle (0.25, 0.75, ... s), as does
its direction;
- acceleration and yaw rate 1 .. T - 1 are differences of neighbouring chords over 0.5 s and belong to the
  points between them; the first ones, from now (speed now, heading 0) to the first chord, span 0.25 s only;
- jerk is a difference of accelerations at neighbouring points over 0.5 s, the first from the acceleration now
  to that at 0.5 s. The first quarter second's acceleration takes no part in jerk: there a centimetre would
  weigh 2.6 m/s3;
- yaw acceleration likewise, from the yaw rate now. Where a chord is shorter than STANDSTILL_CHORD_M it keeps
  the direction before it (footprint.directions).

So a constant acceleration within the bounds passes exactly, and the true speed of a later step is never read.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wpt_training.reward.footprint import DT_S, chords, directions

# NAVSIM, after nuPlan's ego-is-comfortable: m/s2, m/s3, rad/s, rad/s2.
LONGITUDINAL_ACCELERATION = (-4.05, 2.40)
LATERAL_ACCELERATION = 4.89
JERK = 8.37
LONGITUDINAL_JERK = 4.13
YAW_RATE = 0.95
YAW_ACCELERATION = 1.93
# Points are float32 and often of a policy: what is right on a bound passes.
_SLACK = 1e-3


def comfort(positions: Tensor, future_valid: Tensor, motion: Tensor, dt_s: float = DT_S) -> Tensor:
    """Comf [B, K]: 1 where every signal that rests on valid steps alone stays within its bound.

    positions: [B, K, T, 2]. future_valid: [B, T]. motion: [B, 4] speed, lateral speed, yaw rate, acceleration
    now.
    """
    arriving = chords(positions)
    units = directions(arriving)
    speed = (arriving * units).sum(-1) / dt_s
    now_speed, now_yaw_rate, now_acceleration = (
        motion[:, None, i, None].expand_as(speed[..., :1]) for i in (0, 2, 3)
    )

    yaw_rate = torch.cat([_angle(units[..., :1, :]) / (0.5 * dt_s), _turn(units) / dt_s], dim=-1)
    acceleration = torch.cat(
        [(speed[..., :1] - now_speed) / (0.5 * dt_s), torch.diff(speed, dim=-1) / dt_s], dim=-1
    )
    at_point = torch.cat([speed[..., :1], 0.5 * (speed[..., 1:] + speed[..., :-1])], dim=-1)
    lateral = at_point * yaw_rate
    # From here on: now, then the points 1 .. T - 1.
    longitudinal = torch.cat([now_acceleration, acceleration[..., 1:]], dim=-1)
    sideways = torch.cat([now_speed * now_yaw_rate, lateral[..., 1:]], dim=-1)
    turning = torch.cat([now_yaw_rate, yaw_rate[..., 1:]], dim=-1)

    known = future_valid.unsqueeze(1)  # [B, 1, T]: signal i of the first kind rests on step i (and i - 1)
    known = torch.cat([known[..., :1], known[..., 1:] & known[..., :-1]], dim=-1)
    # A difference of those at neighbouring points rests on both; the first, from now, on the point alone.
    known_pair = torch.cat([known[..., 1:2], known[..., 2:] & known[..., 1:-1]], dim=-1)
    low, high = LONGITUDINAL_ACCELERATION
    good = _within(acceleration, low, high, known)
    good &= _within(lateral, -LATERAL_ACCELERATION, LATERAL_ACCELERATION, known)
    good &= _within(yaw_rate, -YAW_RATE, YAW_RATE, known)
    for signal, bound in (
        (torch.hypot(longitudinal, sideways), JERK),
        (longitudinal, LONGITUDINAL_JERK),
        (turning, YAW_ACCELERATION),
    ):
        good &= _within(torch.diff(signal, dim=-1) / dt_s, -bound, bound, known_pair)
    return good.float()


def _angle(units: Tensor) -> Tensor:
    return torch.atan2(units[..., 1], units[..., 0])


def _turn(units: Tensor) -> Tensor:
    """[..., T, 2] -> [..., T - 1] rad from each unit vector to the next, in (-pi, pi]."""
    a, b = units[..., :-1, :], units[..., 1:, :]
    return torch.atan2(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0], (a * b).sum(-1))


def _within(signal: Tensor, low: float, high: float, known: Tensor) -> Tensor:
    outside = (signal < low - _SLACK) | (signal > high + _SLACK)
    return ~(outside & known).any(-1)
