"""What an observation encoder learns before anything is planned or rolled out: heads on its fused bird's-eye view.

Occupancy now, the state of the signal ahead, where the route of a command runs, how fast what stands in a cell moves, and
(in the network itself) how the ego moves. For training only; none of the heads is in a bundle.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.network.bev_encoder import cell_centres
from wpt_policy.policy_config import BevGrid

from wpt_training.data.batch import SIGNAL_STATES
from wpt_training.world.occupancy_head import OccupancyHead, upsampling_factor

# Where signals that count for the ego hang and whom they stop: ahead, within this much to either side (m).
AHEAD_HALF_WIDTH_M = 10.0
# m/s of a network's unit.
VELOCITY_UNIT = 5.0


class SignalHead(nn.Module):
    """[B, C, X, Y] -> logits [B, 4] of SIGNAL_STATES, from features ahead and of all the grid.

    The maximum finds one lamp's cell among hundreds; the means tell approach, junction and queue.
    """

    ahead: Tensor

    def __init__(self, channels: int, grid: BevGrid):
        super().__init__()
        x, y = cell_centres(grid)
        self.register_buffer("ahead", (x > 0.0) & (y.abs() < AHEAD_HALF_WIDTH_M), persistent=False)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.classify = nn.Sequential(
            nn.Linear(3 * channels, 64), nn.ReLU(), nn.Linear(64, len(SIGNAL_STATES))
        )

    def forward(self, bev: Tensor) -> Tensor:
        mixed = functional.relu(self.mix(bev))
        inside = mixed[..., self.ahead]
        pooled = torch.cat([inside.mean(dim=-1), inside.amax(dim=-1), mixed.mean(dim=(-2, -1))], dim=-1)
        return self.classify(pooled).float()


class Perceived(NamedTuple):
    """occupancy: logits [B, 3, OX, OY]; signal: logits [B, 4]; route: logits [B, commands, X, Y], whether a cell lies on
    the route that a command means; velocity: [B, 2, X, Y] m/s in base_link of what stands in a cell.
    """

    occupancy: Tensor
    signal: Tensor
    route: Tensor
    velocity: Tensor


class PerceptionHeads(nn.Module):
    """Heads on a fused bird's-eye view [B, C, X, Y]."""

    def __init__(self, bev_channels: int, grid: BevGrid, occupancy_cell_m: float, commands: int):
        super().__init__()
        self.occupancy = OccupancyHead(bev_channels, upsampling_factor(grid.cell_m, occupancy_cell_m))
        self.signal = SignalHead(bev_channels, grid)
        self.route = _cell_head(bev_channels, commands)
        self.velocity = _cell_head(bev_channels, 2)

    def forward(self, bev: Tensor) -> Perceived:
        return Perceived(
            self.occupancy(bev), self.signal(bev), self.route(bev).float(), VELOCITY_UNIT * self.velocity(bev).float()
        )


def _cell_head(channels: int, outputs: int) -> nn.Sequential:
    hidden = max(16, channels // 2)
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(hidden, outputs, 1)
    )
