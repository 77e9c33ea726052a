"""Bird's-eye-view features -> occupancy logits. One for the present, every future step and the student."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_training.errors import TrainingError

# Channels of the logits, in this order.
OCCUPANCY_CLASSES = ("vehicle", "vulnerable", "drivable")
# Shares of cells that are occupied, about: training starts there instead of at one half, whose gradients
# would spend the first hundred steps on turning every cell off.
PRIOR = (0.02, 0.004, 0.35)


class OccupancyHead(nn.Module):
    """[..., C, X, Y] -> logits [..., 3, X * factor, Y * factor] of OCCUPANCY_CLASSES.

    factor: occupancy cells along one side of a cell of the features. A 3x3 convolution on the coarse cells,
    then each fine cell has weights of its own (a transposed convolution whose stride is its size, which is a
    pixel shuffle without the copy). No norm, as features of the present and of six predicted steps need not
    have the same statistics.
    """

    def __init__(self, channels: int, factor: int):
        super().__init__()
        hidden = max(16, channels // 2)
        self.mix = nn.Conv2d(channels, hidden, 3, padding=1)
        self.output = nn.ConvTranspose2d(hidden, len(OCCUPANCY_CLASSES), factor, stride=factor)
        prior = torch.tensor([math.log(share / (1.0 - share)) for share in PRIOR])
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.copy_(prior)

    def forward(self, features: Tensor) -> Tensor:
        flat = features.flatten(0, -4) if features.dim() > 3 else features.unsqueeze(0)
        # Frames stacked along time have lost the layout that convolutions are fastest in.
        flat = flat.contiguous(memory_format=torch.channels_last)
        logits = self.output(functional.relu(self.mix(flat))).float()
        return logits.unflatten(0, features.shape[:-3]) if features.dim() > 3 else logits.squeeze(0)


def upsampling_factor(bev_cell_m: float, occupancy_cell_m: float) -> int:
    """Return occupancy cells along a bird's-eye-view cell; raises TrainingError unless a whole number."""
    factor = round(bev_cell_m / occupancy_cell_m)
    if factor < 1 or abs(factor * occupancy_cell_m - bev_cell_m) > 1e-6:
        raise TrainingError(
            f"a bird's-eye-view cell of {bev_cell_m:g} m cannot be cut into occupancy cells of "
            f"{occupancy_cell_m:g} m, expected a whole number of them; change DataConfig.occupancy_cell_m."
        )
    return factor
