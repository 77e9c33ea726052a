"""Which occupancy the rules judge by at a point of a stage: the truth first, later the world model's own."""

from __future__ import annotations

import torch
from torch import Tensor

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.batch import Batch
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.reward.rules import RuleInputs, rule_inputs, with_predicted
from wpt_training.world.interface import FutureModel


class RuleSource:
    """agreement: balanced accuracy of NC on the world model's occupancy against the true one (world.world_report); None
    where it was not measured. Below RewardConfig.least_agreement, and where it is None or NaN, the truth is used
    throughout.
    """

    def __init__(self, config: ExperimentConfig, world: FutureModel, agreement: float | None):
        reward = config.reward
        self._world = world
        self.grid = occupancy_grid(config.student, config.data)
        self.truth_share = reward.truth_share if agreement is not None and agreement >= reward.least_agreement else 1.0

    def inputs(self, batch: Batch, frames: Tensor, share: float) -> RuleInputs:
        """Return what the rules read. frames: [B, 1 + T, C, X, Y] F_0 and predicted. share: done part of the stage."""
        inputs = rule_inputs(batch, self.grid)
        if share < self.truth_share:
            return inputs
        with torch.no_grad():
            return with_predicted(inputs, self._world.occupancy(frames))
