"""Losses and targets of the perception heads (world.perception)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wpt_policy.network.bev_encoder import cell_centres
from wpt_policy.policy_config import BevGrid

from wpt_training.data.batch import Batch
from wpt_training.world.occupancy_losses import current_occupancy_losses
from wpt_training.world.perception import VELOCITY_UNIT, Perceived

# none, green, yellow, red: "none" is the rule and yellow short.
SIGNAL_WEIGHTS = (0.5, 1.0, 2.0, 1.0)
# A cell belongs wholly to the route within the first distance of its middle and not at all from the second on (m): a lane
# is about 3.2 m wide, and the slope between tells the middle more finely than a cell of 1 m does.
ROUTE_INNER_M, ROUTE_OUTER_M = 0.75, 1.75
# Beside occupancy losses that begin near 10: lanes are what a plan follows sideways.
ROUTE_WEIGHT, VELOCITY_WEIGHT, EGO_MOTION_WEIGHT = 2.0, 2.0, 1.0
# What a run's identity must name.
LOSS_CONSTANTS = {
    "signal_weights": SIGNAL_WEIGHTS,
    "route_m": (ROUTE_INNER_M, ROUTE_OUTER_M),
    "weights": (ROUTE_WEIGHT, VELOCITY_WEIGHT, EGO_MOTION_WEIGHT),
}


def signal_loss(logits: Tensor, signal: Tensor) -> Tensor:
    """Return cross entropy weighted by SIGNAL_WEIGHTS, over the sum of the samples' weights.

    logits: [B, 4]; signal: [B] int64 index into SIGNAL_STATES.
    """
    logits = logits.float()
    return functional.cross_entropy(logits, signal, weight=logits.new_tensor(SIGNAL_WEIGHTS))


def route_target(route: Tensor, grid: BevGrid) -> Tensor:
    """Return [B, X, Y] in [0, 1]: how far a cell belongs to the route. route: [B, R, 2], NaN where there is none."""
    x, y = (axis.to(route.device).flatten() for axis in cell_centres(grid))
    points = torch.nan_to_num(route.float(), nan=1e4)
    # Squares as differences, not as cdist's products: those lose centimetres in float32.
    square = (x - points[..., :1]).square_() + (y - points[..., 1:]).square_()  # [B, R, X * Y]
    distance = square.amin(dim=1).sqrt().unflatten(-1, grid.shape)
    return ((ROUTE_OUTER_M - distance) / (ROUTE_OUTER_M - ROUTE_INNER_M)).clamp(0.0, 1.0)


def route_loss(logits: Tensor, route: Tensor, command: Tensor, grid: BevGrid) -> Tensor:
    """Return binary cross entropy plus one minus soft intersection over union, of the cells of the batch's samples that
    have a route; 0 without any.

    logits: [B, commands, X, Y], of which those of ``command`` [B] count.
    """
    known = torch.isfinite(route).all(dim=-1).any(dim=1)
    if not bool(known.any()):
        return logits.sum() * 0.0
    logits = logits[known, command[known]].float()
    target = route_target(route[known], grid)
    entropy = functional.binary_cross_entropy_with_logits(logits, target)
    share = logits.sigmoid()
    both = (share * target).sum()
    return entropy + 1.0 - (both + 1.0) / (share.square().sum() + target.square().sum() - both + 1.0)


def velocity_target(batch: Batch, grid: BevGrid) -> tuple[Tensor, Tensor]:
    """Return velocities [B, 2, X, Y] (m/s) of what covers a cell's middle now, and where that is, [B, X, Y] bool."""
    x, y = (axis.to(batch.boxes.device).flatten() for axis in cell_centres(grid))
    middle_x, middle_y, yaw, length, width = (v.unsqueeze(-1) for v in batch.boxes[:, 0].float().unbind(dim=-1))
    dx, dy = x - middle_x, y - middle_y  # [B, M, X * Y]
    along, across = dx * yaw.cos() + dy * yaw.sin(), dy * yaw.cos() - dx * yaw.sin()
    inside = (along.abs() <= 0.5 * length) & (across.abs() <= 0.5 * width) & batch.box_valid[:, 0].unsqueeze(-1)
    covered, actor = inside.max(dim=1)
    velocity = batch.box_velocity[:, 0].float().gather(1, actor.unsqueeze(-1).expand(-1, -1, 2))
    return velocity.transpose(1, 2).unflatten(-1, grid.shape), covered.unflatten(-1, grid.shape)


def velocity_loss(velocity: Tensor, batch: Batch, grid: BevGrid) -> Tensor:
    """Return smooth L1 in units of VELOCITY_UNIT over cells that something covers; 0 where nothing does."""
    target, covered = velocity_target(batch, grid)
    covered = covered & torch.isfinite(target).all(dim=1)
    target = torch.nan_to_num(target)
    error = functional.smooth_l1_loss(velocity.float() / VELOCITY_UNIT, target / VELOCITY_UNIT, reduction="none")
    return (error.sum(dim=1) * covered).sum() / covered.sum().clamp(min=1)


def ego_motion_loss(motion: Tensor, batch: Batch, scales: Tensor) -> Tensor:
    """Return smooth L1 of speed and yaw rate, each over its scale, over samples that remember a view; 0 without any.

    motion: [B, 2] as of TemporalFusion.with_motion. Truth comes from the poses and is read here alone.
    """
    known = batch.history_valid.any(dim=1)
    truth = torch.stack([batch.motion[:, 0], batch.motion[:, 2]], dim=1)
    error = functional.smooth_l1_loss(motion.float() / scales, truth / scales, reduction="none").sum(dim=1)
    return (error * known).sum() / known.sum().clamp(min=1)


def perception_losses(
    perceived: Perceived, motion: Tensor, motion_scales: Tensor, batch: Batch, grid: BevGrid
) -> dict[str, Tensor]:
    """Return the losses of the pre-training by name, to be summed. motion: [B, 2], of the network's fusion."""
    return {
        **current_occupancy_losses(perceived.occupancy, batch),
        "signal": signal_loss(perceived.signal, batch.signal),
        "route": ROUTE_WEIGHT * route_loss(perceived.route, batch.route, batch.command, grid),
        "velocity": VELOCITY_WEIGHT * velocity_loss(perceived.velocity, batch, grid),
        "ego_motion": EGO_MOTION_WEIGHT * ego_motion_loss(motion, batch, motion_scales),
    }
