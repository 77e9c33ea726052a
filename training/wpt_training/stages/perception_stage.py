"""Pre-training of an observation encoder on what can be seen now (world.perception). Once for all rows and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.data.batch import Batch
from wpt_training.stages.settings import plain_settings, seeded
from wpt_training.student.training_student import TrainingStudent
from wpt_training.trainer.checkpoint import load_weights
from wpt_training.trainer.schedule import ParameterGroup, parameter_groups
from wpt_training.trainer.stage import set_modes
from wpt_training.world.perception import PerceptionHeads
from wpt_training.world.perception_losses import LOSS_CONSTANTS, perception_losses


class PerceptionStage:
    """Trains "encoder" and "fusion" of the student's or (world) the world model's network, and "heads".

    seed: of the first weights.
    """

    name = "perception"

    def __init__(self, config: ExperimentConfig, *, seed: int, world: bool = False):
        network = config.world.network if world else config.student
        self.grid = network.bev
        self._settings = plain_settings(
            network=network, occupancy_cell_m=config.data.occupancy_cell_m, loss_constants=LOSS_CONSTANTS
        )
        self._settings["network"].pop("ego_inputs")  # read by the plan decoder alone
        with seeded(seed):
            self._student = TrainingStudent(network, config.data)
            self.encoder, self.fusion = self._student.student.encoder, self._student.student.fusion
            channels = network.architecture.bev_encoder.channels
            self.heads = PerceptionHeads(channels, network.bev, config.data.occupancy_cell_m, config.commands)

    def modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "fusion": self.fusion, "heads": self.heads}

    def frozen_modules(self) -> dict[str, nn.Module]:
        return {}

    def parameter_groups(self, schedule: Schedule) -> list[ParameterGroup]:
        return parameter_groups(self.modules(), schedule)

    def train_mode(self) -> None:
        set_modes(self.modules(), {})

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        _, fused, motion = self._student.observe(batch)
        scales = self.fusion.ego_motion.scales
        losses = perception_losses(self.heads(fused), motion, scales, batch, self.grid)
        return {**losses, "total": sum(losses.values())}

    def settings(self) -> dict[str, Any]:
        return self._settings


def load_perception(config: ExperimentConfig, folder: Path, *, world: bool = False) -> PerceptionStage:
    """Return the stage with the weights of a finished run."""
    stage = PerceptionStage(config, seed=0, world=world)
    load_weights(folder, stage.modules())
    return stage
