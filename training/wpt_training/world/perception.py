"""What the student's encoder learns before it plans: occupancy now and the state of the signal ahead."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.network.bev_encoder import cell_centres
from wpt_policy.policy_config import BevGrid

from wpt_training.data.batch import SIGNAL_STATES, Batch
from wpt_training.world.occupancy_head import OccupancyHead, upsampling_factor
from wpt_training.world.occupancy_losses import current_occupancy_losses

# none, green, yellow, red: "none" is the rule and yellow short.
SIGNAL_WEIGHTS = (0.5, 1.0, 2.0, 1.0)
# Where signals that count for the ego hang and whom they stop: ahead, within this much to either side (m).
AHEAD_HALF_WIDTH_M = 10.0


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


class PerceptionHeads(nn.Module):
    """Heads on the student's fused bird's-eye view [B, C, X, Y]; for training only, not in the bundle."""

    def __init__(self, bev_channels: int, grid: BevGrid, occupancy_cell_m: float):
        super().__init__()
        self.occupancy = OccupancyHead(bev_channels, upsampling_factor(grid.cell_m, occupancy_cell_m))
        self.signal = SignalHead(bev_channels, grid)

    def forward(self, bev: Tensor) -> tuple[Tensor, Tensor]:
        """Return occupancy logits [B, 3, OX, OY] and signal logits [B, 4]."""
        return self.occupancy(bev), self.signal(bev)


def signal_loss(logits: Tensor, signal: Tensor) -> Tensor:
    """Return cross entropy weighted by SIGNAL_WEIGHTS, over the sum of the samples' weights.

    logits: [B, 4]; signal: [B] int64 index into SIGNAL_STATES.
    """
    logits = logits.float()
    return functional.cross_entropy(logits, signal, weight=logits.new_tensor(SIGNAL_WEIGHTS))


def perception_losses(occupancy_logits: Tensor, signal_logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return the losses of the pre-training by name, to be summed."""
    return {
        **current_occupancy_losses(occupancy_logits, batch),
        "signal": signal_loss(signal_logits, batch.signal),
    }
