"""A control without a teacher: the rules as soft losses from truth, straight on the student's plan.

If this does as well as distillation, the reward model's way around is not what helps. Shape letters: B
samples, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wpt_policy.policy_config import BevGrid

from wpt_training.data.batch import Batch
from wpt_training.reward.footprint import footprint_axes, grid_of_points, placed, poses_along
from wpt_training.teacher.frame_attention import sampled
from wpt_training.teacher.planning_losses import FOOTPRINT, collision_loss, mean_over_valid

# How far off the drivable area a loss still grows (m): beyond it only the nearest edge of that band pulls
# back.
REACH_M = 6.0
# Only the footprint itself, so that the loss is what NC asks.
COLLISION_WEIGHTS = (1.0, 0.0, 0.0)


def off_drivable_distance(drivable: Tensor, cell_m: float, reach_m: float = REACH_M) -> Tensor:
    """Return [B, X, Y] metres to the nearest drivable cell of [B, X, Y] bool, at most reach_m; 0 on drivable
    cells.

    Chamfer distance: steps along the axes and along the diagonals in turn, within 8 % of the Euclidean
    distance.
    """
    grown = drivable.unsqueeze(1).float()
    distance = torch.zeros_like(grown)
    cross = grown.new_tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    square = torch.ones_like(cross)
    for step in range(round(reach_m / cell_m)):
        distance = distance + (1.0 - grown) * cell_m
        # A cross alone grows diamonds, a square alone squares; in turn they grow octagons.
        grown = (functional.conv2d(grown, cross if step % 2 == 0 else square, padding=1) > 0).float()
    return distance.squeeze(1)


def drivable_loss(positions: Tensor, batch: Batch, grid: BevGrid) -> Tensor:
    """Return the mean over known steps of how far off the drivable area the footprint's worst point is,
    metres.

    positions: [B, T, 2]. grid: of batch.drivable. Off the grid nothing is known and costs nothing. Steps at
    which the true future is off the drivable area itself are left out.
    """
    with torch.no_grad():
        field = off_drivable_distance(batch.drivable, grid.cell_m).unsqueeze(1)
        points = grid_of_points(*footprint_axes(FOOTPRINT, 0.5 * grid.cell_m, positions.device))

    def worst(places: Tensor, direction: Tensor) -> Tensor:
        read = sampled(field, placed(points, places, direction).flatten(1, 2), grid)
        return read.squeeze(-1).unflatten(1, (places.shape[1], -1)).amax(dim=-1)

    positions = positions.float()
    off = worst(positions, poses_along(positions).direction)
    future = torch.where(
        batch.future_valid.unsqueeze(-1), batch.future.float(), torch.zeros_like(batch.future)
    )
    with torch.no_grad():
        driven = worst(future[..., :2], torch.stack([future[..., 2].cos(), future[..., 2].sin()], dim=-1))
    return mean_over_valid(off, batch.future_valid & (driven <= 0.5 * grid.cell_m))


def rule_losses(positions: Tensor, batch: Batch, grid: BevGrid) -> dict[str, Tensor]:
    """Return the soft losses of plans [B, T, 2] by name, to be summed and weighted with
    DistillationConfig.rule_losses.
    """
    return {
        "rule_collision": collision_loss(positions, batch, COLLISION_WEIGHTS),
        "rule_drivable": drivable_loss(positions, batch, grid),
    }
