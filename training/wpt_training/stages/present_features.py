"""The frozen world model's features of the present, from the cache where there is one."""

from __future__ import annotations

import torch
from torch import Tensor

from wpt_training.data.batch import Batch
from wpt_training.stages.frozen_features import FrozenFeatures
from wpt_training.world.world_model import OccupancyWorldModel, observe_batch


def present_features(world: OccupancyWorldModel, batch: Batch, features: FrozenFeatures | None) -> Tensor:
    """Return F_0 [B, C, X, Y] without gradient on the batch's device."""
    if features is not None:
        return features.of(batch.row).to(batch.images.device)
    with torch.no_grad():
        return observe_batch(world, batch)
