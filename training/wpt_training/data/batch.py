"""What every stage trains on. Shape letters:

B samples; S history entries; N cameras; H, W image size; T future steps (6 of 0.5 s); X, Y cells of the occupancy grid;
M boxes; R route points.

Everything metric is in base_link at the sample's reference stamp (the newest image stamp), present and future alike: x
forward, y left, metres, radians, seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

# Bits of Batch.occupancy.
VEHICLE = 1
VULNERABLE = 2  # pedestrians and riders of two-wheelers, with their vehicle
MOVING = 4  # beside one of the above: faster than MOVING_SPEED at that time
MOVING_SPEED = 0.5
# Values of Batch.signal.
SIGNAL_STATES = ("none", "green", "yellow", "red")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples stacked along the first axis.

    row: [B] int64 row of the sample cache. images: [B, 1 + S, N, H, W, 3] uint8 RGB, entry 0 the present set, entry i
    history entry i (nearest to i * 0.5 s ago). image_from_base: [B, 1 + S, N, 3, 4] float32, base_link at that entry's own
    reference stamp to homogeneous pixels. camera_mask: [B, 1 + S, N] bool, False where an image is missing.
    earlier_from_present: [B, S, 2, 3] float32 (wpt_policy.network.projection.ground_motion). history_valid: [B, S] bool.
    history_row: [B, S] int64 rows whose present sets the history entries are; of no meaning where not valid.

    command: [B] int64, index into the policy's commands. motion: [B, 4] float32 speed, lateral speed (m/s), yaw rate
    (rad/s), longitudinal acceleration (m/s2), now, from past poses.

    future: [B, T, 3] float32 true x, y, yaw. future_valid: [B, T] bool.
    occupancy: [B, 1 + T, X, Y] uint8 bits VEHICLE, VULNERABLE, MOVING, now and at each future step.
    visible: [B, X, Y] bool: in line of sight of the cameras now. drivable: [B, X, Y] bool.
    lane_direction: [B, X, Y] float32 driving direction, NaN where there is no lane or it is not known.

    boxes: [B, 1 + T, M, 5] float32 x, y, yaw, length, width; a column m is one actor at all times. box_velocity:
    [B, 1 + T, M, 2] m/s. box_valid: [B, 1 + T, M] bool. box_vulnerable: [B, M] bool.

    route: [B, R, 2] float32 points 1 m apart along the route from beside the ego on, NaN after its end or where there is
    no route. signal: [B] int64 index into SIGNAL_STATES, of the signal that counts for the ego. stop_line: [B, 2, 2]
    float32 its two ends, NaN without a signal.
    """

    row: Tensor
    images: Tensor
    image_from_base: Tensor
    camera_mask: Tensor
    earlier_from_present: Tensor
    history_valid: Tensor
    history_row: Tensor
    command: Tensor
    motion: Tensor
    future: Tensor
    future_valid: Tensor
    occupancy: Tensor
    visible: Tensor
    drivable: Tensor
    lane_direction: Tensor
    boxes: Tensor
    box_velocity: Tensor
    box_valid: Tensor
    box_vulnerable: Tensor
    route: Tensor
    signal: Tensor
    stop_line: Tensor

    def __len__(self) -> int:
        return self.row.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        return Batch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})

    def __getitem__(self, which: slice | Tensor) -> Batch:
        """Return some of the samples."""
        return Batch(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


def joined(first: Batch, second: Batch) -> Batch:
    """Return the samples of one batch and then of another."""
    return Batch(**{f.name: torch.cat([getattr(first, f.name), getattr(second, f.name)]) for f in fields(first)})


def forgetting(batch: Batch, share: float) -> Batch:
    """Return the batch with the history of a random ``share`` of its samples not valid, drawn by torch's generator.

    A data set's drives lack history at their first keyframe alone, a drive of a node at every start and after every gap.
    """
    kept = torch.rand(len(batch)) >= share
    return replace(batch, history_valid=batch.history_valid & kept[:, None].to(batch.history_valid.device))


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """Return the batch's tensors by field name, as they are saved when a run diverges."""
    return {f.name: getattr(batch, f.name) for f in fields(batch)}
