"""Losses on occupancy logits. Shape letters: world.interface; F frames.

Two terms for each class, and for W a third, summed:

- weighted binary cross entropy, the mean over cells. It gives every cell a gradient at all times. Occupied
  cells weigh POSITIVE_WEIGHT: a pedestrian covers two of 15,360 cells and three seconds ahead nobody knows
  which two; unweighted, the best probability stays below one half everywhere and the rules, which cut at one
  half, would see nobody. Cells that something moving has swept so far weigh ``moving_weight``: there, and
  only there, the future differs from the present.
- soft intersection over union, pooled over the batch for each class and frame. It does not count the empty
  cells that drown small objects in the cross entropy, and needs no sorting as the Lovasz extension does
  (18 ms a sample). Pooled, since a sample without pedestrians would have a union of nothing but its own
  noise.
- W only: the same on the moving zone alone (``moving_zone``). To draw a cell pays for an intersection over
  union J when its chance is above J / (1 + J): 0.3 for all cars together, most of which stand (J 0.4), but
  0.09 where something has moved for two seconds (J 0.1). Pooled over both, a model does best by drawing
  nothing there. On made-up drives, the moving cells' J at 1.5 s was 0.10 instead of 0.03 after the same 150
  steps.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from wpt_training.data.batch import MOVING, VEHICLE, VULNERABLE, Batch
from wpt_training.world.occupancy_head import OCCUPANCY_CLASSES

# vehicle, vulnerable, drivable. A cell counts as occupied from a probability of 1 / (1 + weight) on.
POSITIVE_WEIGHT = (4.0, 8.0, 1.0)
# Of all terms of a class. With 1 for vehicles the encoder learned ground and signals from 3,600 samples and no vehicle
# (soft IoU 0.01); with 5, beside a POSITIVE_WEIGHT of 4 instead of 2, 0.23, and the ground hardly slower.
CLASS_WEIGHT = (5.0, 3.0, 1.0)
# Cells added to intersection and union, so that a class that is absent costs its false alarms and no more.
SMOOTHING_CELLS = 1.0
# About the moving zone: 2 m of half-metre cells.
MOVING_MARGIN_CELLS = 4


def occupancy_truth(occupancy: Tensor, drivable: Tensor) -> Tensor:
    """Return [B, F, 3, OX, OY] float32 truth from bits [B, F, OX, OY] and drivable [B, OX, OY], constant."""
    return torch.stack(
        [
            (occupancy & VEHICLE) != 0,
            (occupancy & VULNERABLE) != 0,
            drivable.unsqueeze(1).expand(occupancy.shape),
        ],
        dim=2,
    ).float()


def swept_by_moving(occupancy: Tensor) -> Tensor:
    """Return [B, F, OX, OY] bool: something moving was in the cell at that frame or an earlier one."""
    frames = ((occupancy & MOVING) != 0).unbind(dim=1)
    # Six fast steps: cummax took 2 ms a sample.
    return torch.stack(list(accumulate(frames, torch.logical_or)), dim=1)


def moving_zone(occupancy: Tensor, valid: Tensor, margin: int) -> Tensor:
    """Return [B, F, OX, OY] bool: cells near what moves, and not taken by what stands still.

    Near: within ``margin`` cells (along both axes) of where something moving is at any valid frame. So the
    place that a moving car leaves, the one it comes to and those where a model wrongly puts it all belong to
    it. occupancy: [B, F, OX, OY] uint8 bits; valid: [B, F] bool.
    """
    moving = (occupancy & MOVING) != 0
    swept = (moving & valid[:, :, None, None]).any(dim=1, keepdim=True).float()
    # One axis after the other: 18 comparisons a cell instead of 81.
    near = functional.max_pool2d(swept, (2 * margin + 1, 1), stride=1, padding=(margin, 0))
    near = functional.max_pool2d(near, (1, 2 * margin + 1), stride=1, padding=(0, margin)) > 0.0
    still = ((occupancy & (VEHICLE | VULNERABLE)) != 0) & ~moving
    return near & ~still


def frames_valid(future_valid: Tensor) -> Tensor:
    """[B, T] bool -> [B, 1 + T]: the present is always valid."""
    return torch.cat([torch.ones_like(future_valid[:, :1]), future_valid], dim=1)


def binary_cross_entropy(logits: Tensor, truth: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
    """Return [3] weighted mean of binary cross entropy over the cells of valid frames, for each class.

    logits, truth, weight: [B, F, 3, OX, OY]; valid: [B, F] bool. Occupied cells weigh POSITIVE_WEIGHT more.
    """
    positive = logits.new_tensor(POSITIVE_WEIGHT)[:, None, None]
    entropy = functional.binary_cross_entropy_with_logits(
        logits, truth, weight=weight, pos_weight=positive, reduction="none"
    )
    kept = valid[:, :, None].to(entropy.dtype)
    return (entropy.sum(dim=(-2, -1)) * kept).sum(dim=(0, 1)) / (
        (weight.sum(dim=(-2, -1)) * kept).sum(dim=(0, 1)).clamp(min=1.0)
    )


def soft_iou_loss(logits: Tensor, truth: Tensor, valid: Tensor, cells: Tensor | None = None) -> Tensor:
    """Return [classes] one minus soft intersection over union, the mean over frames, for each class.

    logits, truth: [B, F, classes, OX, OY]; valid: [B, F] bool; cells: [B, F, OX, OY] bool, those that count
    (all).
    """
    counted = valid[:, :, None, None, None]
    if cells is not None:
        counted = counted & cells.unsqueeze(2)
    share, truth = logits.sigmoid() * counted, truth * counted
    both = (share * truth).sum(dim=(0, -2, -1))
    either = share.sum(dim=(0, -2, -1)) + truth.sum(dim=(0, -2, -1)) - both
    loss = 1.0 - (both + SMOOTHING_CELLS) / (either + SMOOTHING_CELLS)
    seen = valid.any(dim=0).to(loss.dtype)[:, None]
    return (loss * seen).sum(dim=0) / seen.sum().clamp(min=1.0)


def occupancy_losses(
    logits: Tensor, occupancy: Tensor, drivable: Tensor, valid: Tensor, moving_weight: float
) -> dict[str, Tensor]:
    """Return "<class>_bce" and "<class>_iou" for each of OCCUPANCY_CLASSES, with CLASS_WEIGHT in them; their plain sum is the loss.

    logits: [B, F, 3, OX, OY]; occupancy: [B, F, OX, OY] uint8 bits; drivable: [B, OX, OY] bool; valid: [B, F]
    bool. Drivable ground is weighted alike everywhere.
    """
    logits = logits.float()
    truth = occupancy_truth(occupancy, drivable)
    weight = torch.ones_like(truth)
    weight[:, :, :2] += (moving_weight - 1.0) * swept_by_moving(occupancy).unsqueeze(2).float()
    entropy = binary_cross_entropy(logits, truth, weight, valid)
    overlap = soft_iou_loss(logits, truth, valid)
    losses = {}
    for index, name in enumerate(OCCUPANCY_CLASSES):
        losses[f"{name}_bce"] = CLASS_WEIGHT[index] * entropy[index]
        losses[f"{name}_iou"] = CLASS_WEIGHT[index] * overlap[index]
    return losses


def world_losses(logits: Tensor, batch: Batch, moving_weight: float) -> dict[str, Tensor]:
    """Return the losses of W by name, to be summed: occupancy_losses and "<class>_moving".

    logits: [B, 1 + T, 3, OX, OY] of F_0 and F^w_1..T.
    """
    valid = frames_valid(batch.future_valid)
    losses = occupancy_losses(logits, batch.occupancy, batch.drivable, valid, moving_weight)
    truth = occupancy_truth(batch.occupancy, batch.drivable)[:, :, :2]
    zone = moving_zone(batch.occupancy, valid, MOVING_MARGIN_CELLS)
    moving = soft_iou_loss(logits[:, :, :2].float(), truth, valid, zone)
    return {
        **losses,
        "vehicle_moving": CLASS_WEIGHT[0] * moving[0],
        "vulnerable_moving": CLASS_WEIGHT[1] * moving[1],
    }


def current_occupancy_losses(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the losses of occupancy now by name, to be summed; every cell alike. logits: [B, 3, OX, OY]."""
    present = torch.ones_like(batch.future_valid[:, :1])
    return occupancy_losses(logits.unsqueeze(1), batch.occupancy[:, :1], batch.drivable, present, 1.0)
