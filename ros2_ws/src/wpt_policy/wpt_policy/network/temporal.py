"""Earlier bird's-eye views moved into the present base_link and fused with the present one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.network.backbone import ResidualBlock, convolution_norm
from wpt_policy.network.bev_encoder import cell_centres
from wpt_policy.policy_config import BevGrid, FusionConfig


class BevWarp(nn.Module):
    """Resamples bird's-eye views taken at earlier ego poses onto the grid of the present pose."""

    x: Tensor
    y: Tensor

    def __init__(self, grid: BevGrid):
        super().__init__()
        x, y = cell_centres(grid)
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", y, persistent=False)
        self.x_range, self.y_range = grid.x_range_m, grid.y_range_m

    def forward(self, bev: Tensor, earlier_from_present: Tensor) -> Tensor:
        """bev: [B, C, X, Y]; earlier_from_present: [B, 2, 3] rotation and translation on the ground, metres.

        Returns [B, C, X, Y]; zero where the present grid leaves the earlier one.
        """
        m = earlier_from_present.float()[..., None, None]
        earlier_x = m[:, 0, 0] * self.x + m[:, 0, 1] * self.y + m[:, 0, 2]
        earlier_y = m[:, 1, 0] * self.x + m[:, 1, 1] * self.y + m[:, 1, 2]
        # grid_sample's first coordinate runs along the last axis, which is y.
        positions = torch.stack(
            [
                2.0 * (earlier_y - self.y_range[0]) / (self.y_range[1] - self.y_range[0]) - 1.0,
                2.0 * (earlier_x - self.x_range[0]) / (self.x_range[1] - self.x_range[0]) - 1.0,
            ],
            dim=-1,
        )
        return functional.grid_sample(
            bev.float(), positions, mode="bilinear", padding_mode="zeros", align_corners=False
        )


class TemporalFusion(nn.Module):
    """Present and warped earlier bird's-eye views -> one fused bird's-eye view."""

    def __init__(self, config: FusionConfig, grid: BevGrid, channels: int, entries: int):
        super().__init__()
        self.warp = BevWarp(grid)
        self.fuse = nn.Sequential(
            convolution_norm((1 + entries) * (channels + 1), channels, 3),
            *(ResidualBlock(channels, channels) for _ in range(config.blocks)),
        )

    def forward(
        self, bev: Tensor, history: Tensor, earlier_from_present: Tensor, history_valid: Tensor
    ) -> Tensor:
        """bev: [B, C + 1, X, Y]; history: [B, S, C + 1, X, Y]; earlier_from_present: [B, S, 2, 3];

        history_valid: [B, S] bool. Returns [B, C, X, Y]. A missing entry counts as zeros, its validity
        channel too.
        """
        batch, entries = history.shape[:2]
        if entries == 0:
            return self.fuse(bev)
        warped = self.warp(history.flatten(0, 1), earlier_from_present.flatten(0, 1)).unflatten(
            0, (batch, entries)
        )
        # where, not a product: whatever stands in an unused entry must not matter, not even NaN.
        warped = torch.where(history_valid[:, :, None, None, None], warped, torch.zeros_like(warped))
        return self.fuse(torch.cat([bev, warped.flatten(1, 2)], dim=1))
