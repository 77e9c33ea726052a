"""Pre-training of the world model W on true occupancy and the true action. Once for all rows and seeds; frozen after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.data.batch import Batch
from wpt_training.errors import TrainingError
from wpt_training.stages.frozen_features import FrozenFeatures
from wpt_training.stages.perception_stage import PerceptionStage
from wpt_training.stages.present_features import present_features
from wpt_training.stages.settings import plain_settings, seeded
from wpt_training.trainer.checkpoint import load_weights
from wpt_training.trainer.schedule import ParameterGroup, parameter_groups
from wpt_training.trainer.stage import freeze, set_modes, signature_of
from wpt_training.world.occupancy_losses import world_losses
from wpt_training.world.world_model import OccupancyWorldModel, observe_batch, true_displacements

# From so many numbers in a bird's-eye view on, roll-out steps are computed again in the backward pass instead of kept.
LARGE_FEATURES = 1_000_000


class WorldStage:
    """Trains "world", which starts from an observation encoder that can already see (PerceptionStage, world=True).

    Where config.world.joint is off, encoder and fusion stay as they are and the roll-out alone is learned, on the present
    features that never change (and may come from a cache). seed: of the first weights. start: None for first weights.
    """

    name = "world"

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        seed: int,
        start: PerceptionStage | None = None,
        features: FrozenFeatures | None = None,
    ):
        self.moving_weight, self.joint, self.features = config.world.moving_weight, config.world.joint, features
        with seeded(seed):
            self.world = make_world(config)
        if start is not None:
            start_from(self.world, start)
        if self.joint and features is not None:
            raise TrainingError("a world model whose encoder learns has no cached features; give none, or set joint off.")
        if not self.joint:
            for part in self._observation().values():
                freeze(part)
        self._settings = plain_settings(
            world=config.world,
            occupancy_cell_m=config.data.occupancy_cell_m,
            start=None if start is None else signature_of(start.encoder, start.fusion, start.heads.occupancy),
            cached_features=features is not None,
        )

    def _observation(self) -> dict[str, nn.Module]:
        return {"encoder": self.world.encoder, "fusion": self.world.fusion}

    def modules(self) -> dict[str, nn.Module]:
        return {"world": self.world}

    def frozen_modules(self) -> dict[str, nn.Module]:
        return {} if self.joint else self._observation()

    def parameter_groups(self, schedule: Schedule) -> list[ParameterGroup]:
        return parameter_groups(self.modules(), schedule)

    def train_mode(self) -> None:
        set_modes(self.modules(), self.frozen_modules())

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        current = observe_batch(self.world, batch) if self.joint else present_features(self.world, batch, self.features)
        moves = true_displacements(batch.future, batch.future_valid)
        frames = self.world.roll_out(current, moves, batch.command)
        logits = self.world.occupancy(torch.cat([current.unsqueeze(1), frames], dim=1))
        losses = world_losses(logits, batch, self.moving_weight)
        return {**losses, "total": sum(losses.values())}

    def settings(self) -> dict[str, Any]:
        return self._settings


def start_from(world: OccupancyWorldModel, perception: PerceptionStage) -> None:
    """Give a world model the encoder, fusion and occupancy head of a perception stage of its own network."""
    world.encoder.load_state_dict(perception.encoder.state_dict())
    world.fusion.load_state_dict(perception.fusion.state_dict())
    world.occupancy_head.load_state_dict(perception.heads.occupancy.state_dict())


def make_world(config: ExperimentConfig) -> OccupancyWorldModel:
    """Return a world model of a configuration with weights drawn from torch's random state."""
    network = config.world.network
    cells = network.bev.shape[0] * network.bev.shape[1]
    large = cells * network.architecture.bev_encoder.channels >= LARGE_FEATURES
    return OccupancyWorldModel(config.world, config.data, checkpoint_steps=large)


def load_world(config: ExperimentConfig, folder: Path) -> OccupancyWorldModel:
    """Return the frozen world model of a finished run."""
    world = make_world(config)
    load_weights(folder, {"world": world})
    return freeze(world)
