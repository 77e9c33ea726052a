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


class EgoMotionHead(nn.Module):
    """[B, C, X, Y] -> [B, 2]: the ego's speed (m/s) and yaw rate (rad/s) as the fused view shows them.

    Reads means over rows and over columns: where the present grid leaves the remembered one, and how what
    stands still has moved, is told by the place along an axis. No measured speed enters. The units hold after
    pre-training; training on plans goes on changing the scale. Without a remembered view it is a guess.
    """

    CHANNELS = 8
    SCALES = (5.0, 0.2)  # of a network's unit: m/s and rad/s

    scales: Tensor

    def __init__(self, channels: int, grid: BevGrid):
        super().__init__()
        self.register_buffer("scales", torch.tensor(self.SCALES), persistent=False)
        self.reduce = nn.Conv2d(channels, self.CHANNELS, 1)
        self.read = nn.Sequential(
            nn.Linear(self.CHANNELS * sum(grid.shape), 32), nn.ReLU(inplace=True), nn.Linear(32, 2)
        )

    def forward(self, bev: Tensor) -> Tensor:
        reduced = functional.relu(self.reduce(bev))
        profiles = torch.cat([reduced.mean(dim=3), reduced.mean(dim=2)], dim=2)
        return self.read(profiles.flatten(1)).float() * self.scales


class TemporalFusion(nn.Module):
    """Present and warped earlier bird's-eye views -> one fused bird's-eye view.

    The ego's own motion, which only the comparison of the views shows, is read from the whole view and
    written into every cell, so that whatever reads cells knows it.
    """

    def __init__(self, config: FusionConfig, grid: BevGrid, channels: int, entries: int):
        super().__init__()
        self.warp = BevWarp(grid)
        self.fuse = nn.Sequential(
            convolution_norm((1 + entries) * (channels + 1), channels, 3),
            *(ResidualBlock(channels, channels) for _ in range(config.blocks)),
        )
        self.ego_motion = EgoMotionHead(channels, grid)
        self.write_motion = nn.Linear(2, channels)

    def forward(
        self, bev: Tensor, history: Tensor, earlier_from_present: Tensor, history_valid: Tensor
    ) -> Tensor:
        """bev: [B, C + 1, X, Y]; history: [B, S, C + 1, X, Y]; earlier_from_present: [B, S, 2, 3];

        history_valid: [B, S] bool. Returns [B, C, X, Y]. A missing entry counts as zeros, its validity
        channel too.
        """
        return self.with_motion(bev, history, earlier_from_present, history_valid)[0]

    def with_motion(
        self, bev: Tensor, history: Tensor, earlier_from_present: Tensor, history_valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return forward's view, and the motion [B, 2] (EgoMotionHead) that was read and written into it."""
        fused = self.fuse(self._stacked(bev, history, earlier_from_present, history_valid))
        motion = self.ego_motion(fused)
        written = self.write_motion(motion / self.ego_motion.scales)
        return fused + written[:, :, None, None], motion

    def _stacked(
        self, bev: Tensor, history: Tensor, earlier_from_present: Tensor, history_valid: Tensor
    ) -> Tensor:
        batch, entries = history.shape[:2]
        if entries == 0:
            return bev
        warped = self.warp(history.flatten(0, 1), earlier_from_present.flatten(0, 1)).unflatten(
            0, (batch, entries)
        )
        # where, not a product: whatever stands in an unused entry must not matter, not even NaN.
        warped = torch.where(history_valid[:, :, None, None, None], warped, torch.zeros_like(warped))
        return torch.cat([bev, warped.flatten(1, 2)], dim=1)
