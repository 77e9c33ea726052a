"""Image features to bird's-eye view by calibration alone. Shape letters: wpt_policy.network.

Every cell is a pillar of points; each point is projected into every camera, features are read there, and the
cell attends over its samples. No parameter belongs to a camera or to a rig, so any rig works and the order of
cameras means nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.network.backbone import ResidualBlock, convolution_norm
from wpt_policy.policy_config import BevEncoderConfig, BevGrid, ImageInputSpec

# Points nearer to the image plane than this (m) are not seen: no road is there, and the division is safe.
MIN_DEPTH_M = 0.1
# Samples stay this far (feature rows) inside their camera's rows of the stacked maps: without it rounding let
# 3e-7 of a masked neighbour's features in.
ROW_MARGIN = 1e-3


class Sampling(NamedTuple):
    """Where the samples of a set lie; depends on poses and calibration only.

    positions: [B, 1, M * P, 2] float32, grid_sample coordinates (align_corners=True) in the cameras' feature
    maps stacked one below the other. visible: [B, M, P] bool.
    """

    positions: Tensor
    visible: Tensor


def cell_centres(grid: BevGrid) -> tuple[Tensor, Tensor]:
    """Return x [X, Y] and y [X, Y] float32 of the cell centres, metres in base_link."""
    count_x, count_y = grid.shape
    x = grid.x_range_m[0] + (torch.arange(count_x, dtype=torch.float64) + 0.5) * grid.cell_m
    y = grid.y_range_m[0] + (torch.arange(count_y, dtype=torch.float64) + 0.5) * grid.cell_m
    mesh_x, mesh_y = torch.meshgrid(x, y, indexing="ij")
    return mesh_x.float().contiguous(), mesh_y.float().contiguous()


def pillar_points(grid: BevGrid) -> Tensor:
    """Return [3, P] float32 points in base_link, ordered by height, then x, then y."""
    x, y = cell_centres(grid)
    heights = torch.tensor(grid.heights_m, dtype=torch.float32)
    count = x.numel()
    return torch.stack(
        [x.flatten().repeat(len(heights)), y.flatten().repeat(len(heights)), heights.repeat_interleave(count)]
    )


class CameraSampler(nn.Module):
    """Chooses, for each pillar point, the cameras that see it, and where in their feature maps."""

    points: Tensor

    def __init__(self, grid: BevGrid, image: ImageInputSpec, stride: int, cameras_per_point: int):
        super().__init__()
        self.width, self.height = image.width, image.height
        self.stride = stride
        self.cameras_per_point = cameras_per_point
        # Rows and columns of a map of odd-kernel stride-2 layers: ceil(size / stride).
        self.feature_width = math.ceil(image.width / stride)
        self.feature_height = math.ceil(image.height / stride)
        self.register_buffer("points", pillar_points(grid), persistent=False)

    def project(self, image_from_base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, 3, 4] -> pixel column, pixel row and depth (m), each [B, N, P] float32.

        Written as elementwise sums: a matrix product would run in half precision under autocast and in TF32
        on CUDA, and 60 m times a focal length of 600 pixels needs all of float32.
        """
        x, y, z = self.points
        m = image_from_base.float().unsqueeze(-1)
        column, row, depth = (
            m[:, :, axis, 0] * x + m[:, :, axis, 1] * y + m[:, :, axis, 2] * z + m[:, :, axis, 3]
            for axis in range(3)
        )
        safe = depth.clamp(min=MIN_DEPTH_M)
        return column / safe, row / safe, depth

    def forward(self, image_from_base: Tensor, camera_mask: Tensor) -> Sampling:
        """Return where the samples of a set lie.

        image_from_base: [B, N, 3, 4], base_link to homogeneous pixels; camera_mask: [B, N], True = use.
        """
        column, row, depth = self.project(image_from_base)
        # 1 in the image centre, 0 on the border: -0.5 and size - 0.5, as pixel centres are whole numbers.
        off_centre = torch.maximum(
            (column + 0.5 - 0.5 * self.width).abs() * (2.0 / self.width),
            (row + 0.5 - 0.5 * self.height).abs() * (2.0 / self.height),
        )
        seen = (depth > MIN_DEPTH_M) & (off_centre <= 1.0) & camera_mask.unsqueeze(-1)
        centrality = torch.where(seen, 1.0 - off_centre, torch.full_like(off_centre, -1.0))
        columns, rows, visible = [], [], []
        for chosen in range(self.cameras_per_point):
            best, camera = centrality.max(dim=1, keepdim=True)
            if chosen + 1 < self.cameras_per_point:
                centrality = centrality.scatter(1, camera, -1.0)
            # Beyond the last feature's centre its value holds on; no sample reads the next camera's rows.
            inner = (row.gather(1, camera) / self.stride).clamp(
                ROW_MARGIN, self.feature_height - 1.0 - ROW_MARGIN
            )
            columns.append((column.gather(1, camera) / self.stride).clamp(0.0, self.feature_width - 1.0))
            rows.append(inner + camera * self.feature_height)
            visible.append(best >= 0.0)
        last_row = image_from_base.shape[1] * self.feature_height - 1
        positions = torch.stack(
            [
                torch.cat(columns, dim=1) * (2.0 / (self.feature_width - 1)) - 1.0,
                torch.cat(rows, dim=1) * (2.0 / last_row) - 1.0,
            ],
            dim=-1,
        )
        return Sampling(positions.flatten(1, 2).unsqueeze(1), torch.cat(visible, dim=1))


class PillarAttention(nn.Module):
    """One attention layer of every cell over the samples of its pillar in all cameras.

    Keys and values are one projection of the image features, made before sampling (a feature map has far
    fewer pixels than there are samples), plus an embedding of the sample's height.
    """

    def __init__(self, inputs: int, channels: int, heads: int, heights: int):
        super().__init__()
        self.heads = heads
        self.value = nn.Conv2d(inputs, channels, 1)
        self.query = nn.Conv2d(channels, channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        self.height_embedding = nn.Parameter(torch.zeros(heights, channels))
        nn.init.normal_(self.height_embedding, std=0.1)

    def forward(self, bev: Tensor, features: Tensor, sampling: Sampling) -> Tensor:
        """bev: [B, C, X, Y] queries; features: [B, N, C, h, w]. Returns [B, C, X, Y], zero where nothing is
        seen.
        """
        batch, cameras, _, rows, columns = features.shape
        _, channels, count_x, count_y = bev.shape
        heights = len(self.height_embedding)
        head_channels = channels // self.heads

        value = self.value(features.flatten(0, 1)).unflatten(0, (batch, cameras))
        # [B, N, C, h, w] -> [B, C, N * h, w]: one map, so that one grid_sample reads from any camera.
        stacked = value.transpose(1, 2).reshape(batch, channels, cameras * rows, columns)
        samples = functional.grid_sample(
            stacked.float(), sampling.positions, mode="bilinear", padding_mode="border", align_corners=True
        )
        samples = samples.reshape(batch, channels, -1, heights, count_x * count_y)
        samples = samples + self.height_embedding.t().reshape(1, channels, 1, heights, 1)
        samples = samples.reshape(batch, self.heads, head_channels, -1, count_x * count_y)

        query = self.query(bev).float().reshape(batch, self.heads, head_channels, 1, count_x * count_y)
        logits = (query * samples).sum(dim=2) * head_channels**-0.5
        visible = sampling.visible.reshape(batch, 1, -1, count_x * count_y)
        # A finite number instead of -inf: a cell that nobody sees would otherwise become NaN.
        weights = logits.masked_fill(~visible, torch.finfo(logits.dtype).min).softmax(dim=2) * visible
        attended = (weights.unsqueeze(2) * samples).sum(dim=3).reshape(batch, channels, count_x, count_y)
        seen = visible.any(dim=2).reshape(batch, 1, count_x, count_y)
        return self.output(attended) * seen


class BevEncoder(nn.Module):
    """Image features of one set -> its bird's-eye view with a validity channel."""

    def __init__(self, config: BevEncoderConfig, grid: BevGrid, inputs: int):
        super().__init__()
        count_x, count_y = grid.shape
        # A learned query for every cell, as the sum of one for its row and one for its column.
        self.x_embedding = nn.Parameter(torch.empty(config.channels, count_x, 1))
        self.y_embedding = nn.Parameter(torch.empty(config.channels, 1, count_y))
        nn.init.normal_(self.x_embedding, std=0.5)
        nn.init.normal_(self.y_embedding, std=0.5)
        self.attention = nn.ModuleList(
            PillarAttention(inputs, config.channels, config.heads, len(grid.heights_m))
            for _ in range(config.layers)
        )
        self.mix = nn.ModuleList(
            nn.Sequential(
                convolution_norm(config.channels + 1, config.channels, 3),
                *(ResidualBlock(config.channels, config.channels) for _ in range(config.blocks)),
            )
            for _ in range(config.layers)
        )

    def forward(self, features: Tensor, sampling: Sampling) -> Tensor:
        """features: [B, N, C, h, w]. Returns [B, C + 1, X, Y]: features, zero where no camera sees, then
        validity.
        """
        batch = features.shape[0]
        bev = (self.x_embedding + self.y_embedding).unsqueeze(0).expand(batch, -1, -1, -1)
        count_x, count_y = bev.shape[-2:]
        pillars = sampling.visible.reshape(batch, -1, count_x, count_y)
        validity = pillars.any(dim=1, keepdim=True).to(torch.float32)
        for attention, mix in zip(self.attention, self.mix, strict=True):
            bev = bev + attention(bev, features, sampling)
            bev = mix(torch.cat([bev, validity], dim=1))
        return torch.cat([bev * validity, validity], dim=1)
