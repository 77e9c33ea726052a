"""Training of the row that sees perfectly (truth_bev): the losses that students have on their plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.data.batch import Batch
from wpt_training.data.sample_cache import SampleCache
from wpt_training.evaluation.truth_bev import CHANNELS, TruthBev, truth_raster
from wpt_training.stages.settings import plain_settings, seeded
from wpt_training.teacher.planning_losses import collision_loss, displacement_loss, sideways_loss
from wpt_training.trainer.schedule import ParameterGroup, parameter_groups
from wpt_training.trainer.stage import set_modes

# What a sample's Batch holds of images, and is left out of one that reads none.
_OF_IMAGES = ("images", "image_from_base", "camera_mask", "earlier_from_present", "history_valid", "history_row")


class TruthSamples:
    """A cache's samples without images, which would be read from disk for nothing: their tensors are empty."""

    def __init__(self, cache: SampleCache):
        self.signature, self.tokens = cache.signature, cache.tokens
        self._cache = cache

    def batch(self, rows: Tensor | np.ndarray) -> Batch:
        """Return rows as SampleCache.batch does, without images."""
        number = np.asarray(rows, dtype=np.int64).reshape(-1)
        values: dict[str, Tensor] = {"row": torch.from_numpy(number.copy())}
        for name in Batch.__dataclass_fields__:
            if name in _OF_IMAGES:
                values[name] = torch.zeros(len(number), 0)
            elif name != "row":
                values[name] = torch.from_numpy(np.ascontiguousarray(self._cache.field(name, number)))
        values["lane_direction"] = values["lane_direction"].float()
        return Batch(**values)


class TruthBevStage:
    """Trains "truth_bev". seed: of the first weights. ego_inputs: names as in PolicyConfig; none in the main row."""

    name = "truth_bev"

    def __init__(self, config: ExperimentConfig, *, seed: int, ego_inputs: tuple[str, ...] = ()):
        self.raster, self.weights = truth_raster(config), config.losses
        with seeded(seed):
            self.network = TruthBev(config.student, ego_inputs=ego_inputs)
        self._settings = plain_settings(
            bev=config.student.bev,
            plan=config.student.plan,
            losses=config.losses,
            occupancy_cell_m=config.data.occupancy_cell_m,
            channels=CHANNELS,
            ego_inputs=ego_inputs,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
        )

    def modules(self) -> dict[str, nn.Module]:
        return {"truth_bev": self.network}

    def frozen_modules(self) -> dict[str, nn.Module]:
        return {}

    def parameter_groups(self, schedule: Schedule) -> list[ParameterGroup]:
        return parameter_groups(self.modules(), schedule)

    def train_mode(self) -> None:
        set_modes(self.modules(), {})

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        plan = self.network.plan(self.raster, batch)
        losses = {
            "displacement": displacement_loss(plan, batch.future, batch.future_valid),
            "sideways": sideways_loss(plan, batch.future, batch.future_valid),
            "collision": collision_loss(plan, batch, self.weights.collision),
        }
        total = self.weights.displacement * losses["displacement"] + self.weights.sideways * losses["sideways"]
        return {**losses, "total": total + losses["collision"]}

    def settings(self) -> dict[str, Any]:
        return self._settings
