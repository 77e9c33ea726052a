"""Step queries attend over the bird's-eye view, look where their plan goes, and become a plan.

Shape letters: wpt_policy.network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.policy_config import BevGrid, PlanDecoderConfig

# Where a step looks at the bird's-eye view, metres forward and left of its first position along base_link's
# axes: there, where its lane's edges are on a straight road (lanes are about 3 m wide), in the middle of the
# lanes beside it, and ahead.
LOOK_OFFSETS_M = ((0.0, 0.0), (0.0, 1.5), (0.0, -1.5), (0.0, 3.0), (0.0, -3.0), (3.0, 0.0))
# The scene at a glance: square blocks of about this size (m), each with so many features.
BLOCK_M = 8.0
BLOCK_CHANNELS = 16
# Positions are divided by this (m) on their way into the network: 3 s at city speed are about 2.
POSITION_SCALE_M = 20.0
# The correction of one step stays within this (m, each axis): the first plan has to be nearly right, else what
# is read around it says nothing. Unbounded, a trained first plan lay 5 m from the corrected one after 1.5 s.
LARGEST_CORRECTION_M = 0.4


def feedforward(channels: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two linear layers with a ReLU between."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))


def coarse_blocks(grid: BevGrid) -> tuple[int, int]:
    """Return how many blocks of about BLOCK_M the grid has along x and y."""
    count_x, count_y = (max(1, round(cells * grid.cell_m / BLOCK_M)) for cells in grid.shape)
    return count_x, count_y


class SceneGlance(nn.Module):
    """The whole bird's-eye view in coarse blocks, each at its own place -> one embedding.

    Attention has to learn where to look before it sees anything of use; here every block has weights of its
    own from the first step on.
    """

    def __init__(self, grid: BevGrid, *, bev_channels: int, channels: int):
        super().__init__()
        self.blocks = coarse_blocks(grid)
        self.reduce = nn.Linear(bev_channels, BLOCK_CHANNELS)
        self.mix = feedforward(BLOCK_CHANNELS * self.blocks[0] * self.blocks[1], channels, channels)

    def forward(self, bev: Tensor) -> Tensor:
        """bev: [B, C, X, Y]. Returns [B, D]."""
        blocks = functional.adaptive_avg_pool2d(bev, self.blocks).flatten(2).transpose(1, 2)
        return self.mix(self.reduce(blocks).flatten(1))


class PeakGlance(nn.Module):
    """What stands out anywhere in coarse blocks -> one embedding.

    A signal's lamp fills one cell of thousands: it is lost in a block's mean, and attention has to find it first.
    """

    def __init__(self, grid: BevGrid, *, bev_channels: int, channels: int):
        super().__init__()
        self.blocks = coarse_blocks(grid)
        self.reduce = nn.Conv2d(bev_channels, BLOCK_CHANNELS, 1)
        self.mix = feedforward(BLOCK_CHANNELS * self.blocks[0] * self.blocks[1], channels, channels)

    def forward(self, bev: Tensor) -> Tensor:
        """bev: [B, C, X, Y]. Returns [B, D]."""
        peaks = functional.adaptive_max_pool2d(functional.relu(self.reduce(bev)), self.blocks)
        return self.mix(peaks.flatten(1))


class PlanRefinement(nn.Module):
    """Features read around each step's first position -> refined queries.

    Attention over all cells finds what matters and blurs where it is; a lane's edge half a metre aside shows
    in the features read at the step itself.
    """

    offsets: Tensor

    def __init__(self, config: PlanDecoderConfig, grid: BevGrid, *, bev_channels: int):
        super().__init__()
        channels = config.channels
        self.x_range, self.y_range = grid.x_range_m, grid.y_range_m
        self.register_buffer("offsets", torch.tensor(LOOK_OFFSETS_M), persistent=False)
        self.look = feedforward(len(LOOK_OFFSETS_M) * bev_channels + 2, channels, channels)
        self.look_norm = nn.LayerNorm(channels)
        self.self_attention = nn.MultiheadAttention(channels, config.heads, batch_first=True)
        self.self_norm = nn.LayerNorm(channels)
        self.feedforward = feedforward(channels, config.feedforward_channels, channels)
        self.feedforward_norm = nn.LayerNorm(channels)

    def features_at(self, bev: Tensor, positions: Tensor) -> Tensor:
        """bev: [B, C, X, Y]; positions: [B, T, 2] metres. Returns [B, T, C * L], at L points around each.

        Between cell centres by bilinear interpolation; beyond the grid its border holds on, so that a fast
        plan still reads the farthest cells on its way.
        """
        points = positions.float().unsqueeze(2) + self.offsets
        (x_low, x_high), (y_low, y_high) = self.x_range, self.y_range
        # grid_sample's first coordinate runs along the last axis, which is y.
        places = torch.stack(
            [
                2.0 * (points[..., 1] - y_low) / (y_high - y_low) - 1.0,
                2.0 * (points[..., 0] - x_low) / (x_high - x_low) - 1.0,
            ],
            dim=-1,
        )
        samples = functional.grid_sample(
            bev.float(), places, mode="bilinear", padding_mode="border", align_corners=False
        )
        return samples.permute(0, 2, 1, 3).flatten(2)

    def forward(self, queries: Tensor, bev: Tensor, positions: Tensor) -> Tensor:
        """queries: [B, T, D]; bev: [B, C, X, Y]; positions: [B, T, 2] metres in base_link.

        Returns [B, T, D].
        """
        seen = torch.cat([self.features_at(bev, positions), positions.float() / POSITION_SCALE_M], dim=-1)
        queries = self.look_norm(queries + self.look(seen))
        attended, _ = self.self_attention(queries, queries, queries, need_weights=False)
        queries = self.self_norm(queries + attended)
        return self.feedforward_norm(queries + self.feedforward(queries))


class PlanDecoder(nn.Module):
    """One learned query per plan step, command, ego inputs and a glance -> first plan -> refined plan.

    First: self-attention among the steps, cross-attention over all cells, feed-forward; a norm after each.
    Cells carry their place in keys and in values, so that attention can tell where it looked. Then
    PlanRefinement and a small correction of each displacement. The sum is supervised; that the correction is
    bounded keeps the first plan, and with it the look, near the right place.
    """

    def __init__(
        self,
        config: PlanDecoderConfig,
        grid: BevGrid,
        *,
        bev_channels: int,
        steps: int,
        commands: int,
        ego_inputs: int,
    ):
        super().__init__()
        channels = config.channels
        count_x, count_y = grid.shape
        self.step_queries = nn.Parameter(torch.empty(steps, channels))
        self.x_embedding = nn.Parameter(torch.empty(count_x, 1, channels))
        self.y_embedding = nn.Parameter(torch.empty(1, count_y, channels))
        for parameter in (self.step_queries, self.x_embedding, self.y_embedding):
            nn.init.normal_(parameter, std=0.5)
        self.command_embedding = nn.Embedding(commands, channels)
        self.query_fuser = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.LayerNorm(channels), nn.ReLU(inplace=True)
        )
        self.ego_embedding = feedforward(ego_inputs, channels, channels) if ego_inputs else None
        self.glance = SceneGlance(grid, bev_channels=bev_channels, channels=channels)
        self.peaks = PeakGlance(grid, bev_channels=bev_channels, channels=channels)
        self.tokens = nn.Linear(bev_channels, channels)
        self.self_attention = nn.MultiheadAttention(channels, config.heads, batch_first=True)
        self.self_norm = nn.LayerNorm(channels)
        self.cross_attention = nn.MultiheadAttention(channels, config.heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(channels)
        self.feedforward = feedforward(channels, config.feedforward_channels, channels)
        self.feedforward_norm = nn.LayerNorm(channels)
        self.head = feedforward(channels, channels, 2)
        self.refinement = PlanRefinement(config, grid, bev_channels=bev_channels)
        self.correction_head = feedforward(channels, channels, 2)

    def forward(self, bev: Tensor, command: Tensor, ego: Tensor) -> tuple[Tensor, Tensor]:
        """bev: [B, C, X, Y]; command: [B] int64 index into the policy's commands; ego: [B, E] scaled ego
        inputs.

        Returns refined queries [B, T, D] and displacements [B, T, 2], metres in base_link from step to step.
        """
        batch = bev.shape[0]
        steps = self.step_queries.unsqueeze(0).expand(batch, -1, -1)
        commands = self.command_embedding(command).unsqueeze(1).expand(-1, steps.shape[1], -1)
        queries = self.query_fuser(torch.cat([steps, commands], dim=-1))
        if self.ego_embedding is not None:
            queries = queries + self.ego_embedding(ego).unsqueeze(1)
        queries = queries + (self.glance(bev) + self.peaks(bev)).unsqueeze(1)

        places = (self.x_embedding + self.y_embedding).flatten(0, 1)
        cells = self.tokens(bev.flatten(2).transpose(1, 2)) + places
        attended, _ = self.self_attention(queries, queries, queries, need_weights=False)
        queries = self.self_norm(queries + attended)
        attended, _ = self.cross_attention(queries, cells, cells, need_weights=False)
        queries = self.cross_norm(queries + attended)
        queries = self.feedforward_norm(queries + self.feedforward(queries))
        first = self.head(queries).float()

        # Detached: where to look is no matter of the features' slopes, which are steep and noisy.
        queries = self.refinement(queries, bev, first.detach().cumsum(dim=1))
        correction = self.correction_head(queries).float() / LARGEST_CORRECTION_M
        return queries, first + LARGEST_CORRECTION_M * torch.tanh(correction)
