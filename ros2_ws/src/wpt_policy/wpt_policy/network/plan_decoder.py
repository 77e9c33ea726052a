"""Step queries attend over the bird's-eye view and become a plan. Shape letters: wpt_policy.network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wpt_policy.policy_config import BevGrid, PlanDecoderConfig


class PlanDecoder(nn.Module):
    """One learned query per plan step, command and ego inputs -> one decoder layer -> displacements.

    The layer: self-attention among the steps, cross-attention over all cells, feed-forward; a norm after
    each.
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
        self.ego_embedding = (
            nn.Sequential(
                nn.Linear(ego_inputs, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels)
            )
            if ego_inputs
            else None
        )
        self.tokens = nn.Linear(bev_channels, channels)
        self.self_attention = nn.MultiheadAttention(channels, config.heads, batch_first=True)
        self.self_norm = nn.LayerNorm(channels)
        self.cross_attention = nn.MultiheadAttention(channels, config.heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(channels)
        self.feedforward = nn.Sequential(
            nn.Linear(channels, config.feedforward_channels),
            nn.ReLU(inplace=True),
            nn.Linear(config.feedforward_channels, channels),
        )
        self.feedforward_norm = nn.LayerNorm(channels)
        self.head = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, 2)
        )

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

        tokens = self.tokens(bev.flatten(2).transpose(1, 2))
        keys = tokens + (self.x_embedding + self.y_embedding).flatten(0, 1)
        attended, _ = self.self_attention(queries, queries, queries, need_weights=False)
        queries = self.self_norm(queries + attended)
        attended, _ = self.cross_attention(queries, keys, tokens, need_weights=False)
        queries = self.cross_norm(queries + attended)
        queries = self.feedforward_norm(queries + self.feedforward(queries))
        return queries, self.head(queries).float()
