"""Losses of one plan against what was driven and who was there. Shape letters: B samples, T steps, M boxes.

Plans are positions [B, T, 2] of base_link at the end of each step, metres in the present base_link. A loss is
the mean over the known future steps of all samples; a sample without any counts nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.data.batch import Batch
from wpt_training.reward.footprint import poses_along

# Added to squared distances (m2): the gradient of a root at zero is not finite. An exact plan's loss is 1 mm,
# not 0.
SMALLEST_SQUARE = 1e-6
# The ego's box grows by these in length and in width (m), half to each side; as UniAD's collision loss.
INFLATIONS_M = (0.0, 0.5, 1.0)
FOOTPRINT = EgoFootprint()


def distances(positions: Tensor, future: Tensor) -> Tensor:
    """Return [..., T] metres between positions [..., T, 2] and the future [..., T, 2 or more], with a safe
    gradient.
    """
    squared = (positions.float() - future[..., :2].float()).square().sum(dim=-1)
    return (squared + SMALLEST_SQUARE).sqrt()


def mean_over_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of values where valid is True, 0 where it nowhere is; what stands elsewhere may even be
    NaN.
    """
    kept = torch.where(valid, values, torch.zeros_like(values))
    return kept.sum() / valid.sum().clamp(min=1)


def displacement_loss(positions: Tensor, future: Tensor, future_valid: Tensor) -> Tensor:
    """Return the mean distance (not squared) of positions [B, T, 2] to the future [B, T, 2 or more], metres."""
    known = torch.where(future_valid.unsqueeze(-1), future[..., :2], torch.zeros_like(future[..., :2]))
    return mean_over_valid(distances(positions, known), future_valid)


def sideways_loss(positions: Tensor, future: Tensor, future_valid: Tensor) -> Tensor:
    """Return the mean distance (metres) of positions [B, T, 2] from the line through the true place of the same step along
    the true heading; future: [B, T, 3].

    Beside displacement_loss, whose gradient points at the true place: where the speed is uncertain by metres, it points
    along the road, and decimetres to the side hardly turn it. Those decide whether a lane is kept.
    """
    valid = future_valid.unsqueeze(-1)
    known = torch.where(valid, future[..., :3].float(), torch.zeros_like(future[..., :3], dtype=torch.float32))
    gap = positions.float() - known[..., :2]
    aside = gap[..., 1] * known[..., 2].cos() - gap[..., 0] * known[..., 2].sin()
    return mean_over_valid((aside.square() + SMALLEST_SQUARE).sqrt(), future_valid)


def separation(
    centre: Tensor,
    direction: Tensor,
    half_size: Tensor,
    other_centre: Tensor,
    other_direction: Tensor,
    other_half: Tensor,
) -> Tensor:
    """Return [...] metres, the signed separation of two rectangles: the largest gap between them along their
    four axes.

    Positive: free, and a lower bound of their distance. Negative: minus the depth by which they overlap, the
    shortest way to push them apart (separating axes theorem). centre: [..., 2]; direction: [..., 2] unit
    vector along the length; half_size: [..., 2] half length, half width; all broadcast. Differentiable in all
    of them.
    """
    between = other_centre - centre
    left = torch.stack([-direction[..., 1], direction[..., 0]], dim=-1)
    other_left = torch.stack([-other_direction[..., 1], other_direction[..., 0]], dim=-1)
    gaps = []
    for axis in (direction, left, other_direction, other_left):
        reach = _reach(axis, direction, left, half_size) + _reach(
            axis, other_direction, other_left, other_half
        )
        gaps.append((between * axis).sum(-1).abs() - reach)
    return torch.stack(torch.broadcast_tensors(*gaps)).amax(dim=0)


def _reach(axis: Tensor, direction: Tensor, left: Tensor, half_size: Tensor) -> Tensor:
    """Half the extent of a rectangle along an axis."""
    along, across = (axis * direction).sum(-1).abs(), (axis * left).sum(-1).abs()
    return along * half_size[..., 0] + across * half_size[..., 1]


def collision_depths(positions: Tensor, batch: Batch, footprint: EgoFootprint = FOOTPRINT) -> Tensor:
    """Return [I, B, T] metres: for each of INFLATIONS_M the depths by which the plan's box overlaps others,
    summed.

    The box is placed as the rules place it: its centre ahead of base_link along the heading of the path. The
    heading is taken as given (no gradient): turning the car would otherwise be learnt from the noise of short
    steps. A box that the true future, grown alike, overlaps too is ignored, for the loss would contradict
    what was driven.
    """
    boxes = batch.boxes[:, 1:].float()
    valid = (batch.box_valid[:, 1:] & batch.future_valid.unsqueeze(-1)).unsqueeze(0)
    boxes = torch.where(valid[0].unsqueeze(-1), boxes, torch.zeros_like(boxes))
    yaw = boxes[..., 2]
    box_direction = torch.stack([yaw.cos(), yaw.sin()], dim=-1)
    grown = torch.tensor(INFLATIONS_M, device=boxes.device).view(-1, 1, 1, 1, 1)
    half_size = 0.5 * (torch.tensor([footprint.length_m, footprint.width_m], device=boxes.device) + grown)

    def depths(places: Tensor, direction: Tensor) -> Tensor:
        centre = (places + footprint.centre_ahead_m * direction).unsqueeze(2)
        gap = separation(
            centre, direction.unsqueeze(2), half_size, boxes[..., :2], box_direction, 0.5 * boxes[..., 3:]
        )
        return (-gap).clamp(min=0)

    future = torch.where(
        batch.future_valid.unsqueeze(-1), batch.future.float(), torch.zeros_like(batch.future)
    )
    true_yaw = future[..., 2]
    with torch.no_grad():
        driven = depths(future[..., :2], torch.stack([true_yaw.cos(), true_yaw.sin()], dim=-1)) > 0
    positions = positions.float()
    depth = depths(positions, poses_along(positions).direction.detach())
    return torch.where(valid & ~driven, depth, torch.zeros_like(depth)).sum(dim=-1)


def collision_loss(
    positions: Tensor,
    batch: Batch,
    weights: tuple[float, float, float],
    footprint: EgoFootprint = FOOTPRINT,
) -> Tensor:
    """Return the weighted collision loss (metres of depth) of plans [B, T, 2]; weights: of INFLATIONS_M. Zero
    when free.
    """
    depths = collision_depths(positions, batch, footprint)
    means = [mean_over_valid(depth, batch.future_valid) for depth in depths]
    return sum(weight * mean for weight, mean in zip(weights, means, strict=True))
