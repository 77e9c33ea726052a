"""Pre-training of the student's encoder: occupancy now and the state of the signal. Once for all rows and seeds."""

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
from wpt_training.world.perception import PerceptionHeads, perception_losses


class PerceptionStage:
    """Trains "encoder" and "fusion" of a student, with "heads" that the student's stage goes on with (occupancy) or drops.

    seed: of the first weights.
    """

    name = "perception"

    def __init__(self, config: ExperimentConfig, *, seed: int):
        self._settings = plain_settings(student=config.student, occupancy_cell_m=config.data.occupancy_cell_m)
        self._settings["student"].pop("ego_inputs")  # read by the plan decoder alone
        with seeded(seed):
            self._student = TrainingStudent(config.student, config.data)
            self.encoder, self.fusion = self._student.student.encoder, self._student.student.fusion
            channels = config.student.architecture.bev_encoder.channels
            self.heads = PerceptionHeads(channels, config.student.bev, config.data.occupancy_cell_m)

    def modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "fusion": self.fusion, "heads": self.heads}

    def frozen_modules(self) -> dict[str, nn.Module]:
        return {}

    def parameter_groups(self, schedule: Schedule) -> list[ParameterGroup]:
        return parameter_groups(self.modules(), schedule)

    def train_mode(self) -> None:
        set_modes(self.modules(), {})

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        _, fused = self._student.observe(batch)
        losses = perception_losses(*self.heads(fused), batch)
        return {**losses, "total": sum(losses.values())}

    def settings(self) -> dict[str, Any]:
        return self._settings


def load_perception(config: ExperimentConfig, folder: Path) -> PerceptionStage:
    """Return the stage with the weights of a finished run."""
    stage = PerceptionStage(config, seed=0)
    load_weights(folder, stage.modules())
    return stage
