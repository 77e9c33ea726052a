"""Hand-made cost of an anchor on predicted occupancy: which anchors the reference teacher puts forward."""

from __future__ import annotations

import torch
from torch import Tensor

from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.reward.footprint import footprint_axes, grid_of_points, placed
from wpt_training.teacher.frame_attention import sampled

# As Drive-OccWorld and ST-P3: safety also looks at a copy grown by 2 m on every side, weighted with speed;
# headway at the footprint 10 m ahead; each term lies within [0, 100] and has a factor. Its learned cost
# volume is left out: the teacher that follows is what learns.
GROWN_M = 2.0
AHEAD_M = 10.0
LARGEST_TERM = 100.0
SAFETY_FACTOR, HEADWAY_FACTOR, DRIVABLE_FACTOR = 0.1, 1.0, 5.0


@torch.no_grad()
def occupancy_cost(
    logits: Tensor,
    positions: Tensor,
    direction: Tensor,
    speed: Tensor,
    grid: BevGrid,
    footprint: EgoFootprint,
) -> Tensor:
    """Return [B, N], low for a place that is free and drivable.

    logits: [B, 3, X, Y] of vehicle, vulnerable and drivable on ``grid``. positions, direction: [B, N, 2]
    accumulated places and unit headings in the present base_link; speed: [B, N] m/s. Off the grid nothing is
    known: it is free, and drivable.
    """
    occupied = logits[:, :2].amax(dim=1).sigmoid()
    not_drivable = 1.0 - logits[:, 2].sigmoid()
    maps = torch.stack([occupied, not_drivable, occupied * (1.0 - not_drivable)], dim=1).float()
    body = grid_of_points(*footprint_axes(footprint, device=logits.device))
    grown = grid_of_points(*footprint_axes(footprint, -GROWN_M, device=logits.device))
    ahead = body + body.new_tensor([AHEAD_M, 0.0])

    def under(points: Tensor, channel: int) -> Tensor:
        places = placed(points, positions, direction)
        read = sampled(maps[:, channel : channel + 1], places.flatten(1, 2), grid)
        return read.squeeze(-1).unflatten(1, places.shape[1:3]).sum(dim=-1)

    safety = (under(body, 0) + speed * under(grown, 0)).clamp(0.0, LARGEST_TERM)
    headway = under(ahead, 2).clamp(0.0, LARGEST_TERM)
    drivable = under(body, 1).clamp(0.0, LARGEST_TERM)
    return SAFETY_FACTOR * safety + HEADWAY_FACTOR * headway + DRIVABLE_FACTOR * drivable
