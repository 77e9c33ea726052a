"""How plan queries read bird's-eye views: attention over all cells and samples at a place. Letters:
wpt_policy.network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.policy_config import BevGrid


# Cells along one side of a patch. All cells are attended to, four at a time: a quarter of the keys, half of
# the time.
PATCH_CELLS = 2


class FrameMemory(nn.Module):
    """Keys and values of frames, made once and read by every candidate: one of each for every patch of cells.

    patch: cells along its side.
    """

    def __init__(
        self, grid: BevGrid, world_channels: int, channels: int, heads: int, patch: int = PATCH_CELLS
    ):
        super().__init__()
        count_x, count_y = (-(-count // patch) for count in grid.shape)
        self.padding = (0, count_y * patch - grid.shape[1], 0, count_x * patch - grid.shape[0])
        self.heads = heads
        self.x_embedding = nn.Parameter(torch.empty(channels, count_x, 1))
        self.y_embedding = nn.Parameter(torch.empty(channels, 1, count_y))
        nn.init.normal_(self.x_embedding, std=0.5)
        nn.init.normal_(self.y_embedding, std=0.5)
        self.keys_and_values = nn.Conv2d(world_channels, 2 * channels, patch, stride=patch)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames: [N, C, X, Y]. Returns keys and values [N, heads, patches, D / heads]."""
        if any(self.padding):
            frames = functional.pad(frames, self.padding)
        keys, values = self.keys_and_values(frames).chunk(2, dim=1)
        return self._by_head(keys + (self.x_embedding + self.y_embedding)), self._by_head(values)

    def _by_head(self, patches: Tensor) -> Tensor:
        return patches.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)


class FrameAttention(nn.Module):
    """Attention of queries [N, Q, D] over the memory of their own frame."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, queries: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """queries: [N, Q, D]; memory of N frames. Returns [N, Q, D]."""
        query = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(query, *memory)
        return self.output(attended.transpose(1, 2).flatten(2))


def sampled(frames: Tensor, places: Tensor, grid: BevGrid) -> Tensor:
    """Return [N, Q, C] float32, features of frames [N, C, X, Y] at places [N, Q, 2] (m), bilinear, zero
    outside.
    """
    (x_low, x_high), (y_low, y_high) = grid.x_range_m, grid.y_range_m
    places = places.float()
    # grid_sample's first coordinate runs along the last axis, which is y.
    positions = torch.stack(
        [
            2.0 * (places[..., 1] - y_low) / (y_high - y_low) - 1.0,
            2.0 * (places[..., 0] - x_low) / (x_high - x_low) - 1.0,
        ],
        dim=-1,
    )
    values = functional.grid_sample(
        frames.float(), positions.unsqueeze(1), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return values.squeeze(2).transpose(1, 2)
