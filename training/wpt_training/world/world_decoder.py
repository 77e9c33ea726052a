"""One step of the world: features now, the ego's displacement and the command -> features half a second on.

Shape letters: world.interface; U, V coarse cells (half as many as X, Y along each side), D decoder channels,
A action channels.

Other road users move up to 7 m in a step. The decoder therefore works on cells of double size, which costs a
quarter, with dilated convolutions (reach with two blocks: 8 coarse cells, 16 m), and goes back and forth
between the sizes by 2x2 convolutions of stride 2, which have weights for each of the four fine cells and so
keep where in its cell a pedestrian stands. What it finds goes into the features through a gate: a cell that
nothing enters or leaves keeps its features as far as the gate stays shut, and one that something leaves can
be emptied in one step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.network.bev_encoder import cell_centres
from wpt_policy.policy_config import BevGrid

from wpt_training.errors import TrainingError
from wpt_training.world.occupancy_head import OCCUPANCY_CLASSES

# What actions are divided by, so that they lie within about +-1: 14 m/s for half a second; the far edge of
# the grid.
DISPLACEMENT_SCALE_M = 7.0
POSITION_SCALE_M = 40.0
# Spread of the mark that shows where the ego will be: about its own length.
EGO_MARK_M = 3.0
SEMANTIC_CHANNELS = 32  # of Drive-OccWorld's semantic conditional normalisation
# sigmoid(-1) = 0.27: at first three quarters of every feature are kept.
GATE_BIAS = -1.0


class Memory(NamedTuple):
    """What the decoder keeps of F_0 through a roll-out.

    reduced: [B, D, U, V], without conditional norm. normed: [B, C, X, Y] and semantics: [B, 3, X, Y]
    probabilities, with it. Empty tensors otherwise.
    """

    reduced: Tensor
    normed: Tensor
    semantics: Tensor


def norm_groups(channels: int) -> int:
    """Return the number of groups of a group norm: of at least 6 channels, at most 8 groups."""
    least = min(6, channels)
    return max(groups for groups in range(1, 9) if channels % groups == 0 and channels // groups >= least)


class ConditionedBlock(nn.Module):
    """Residual block on [B, D, U, V] whose first norm's scale and shift come from the action.

    Group norms, not batch norms: the six steps of a roll-out share the weights and need not share statistics.
    """

    def __init__(self, channels: int, action_channels: int, dilation: int):
        super().__init__()
        groups = norm_groups(channels)
        self.norm = nn.GroupNorm(groups, channels, affine=False)
        self.condition = nn.Linear(action_channels, 2 * channels)
        self.near = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.near_norm = nn.GroupNorm(groups, channels)
        self.far = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor, action: Tensor) -> Tensor:
        scale, shift = self.condition(action)[:, :, None, None].chunk(2, dim=1)
        h = functional.relu(self.norm(x) * (1.0 + scale) + shift)
        h = functional.relu(self.near_norm(self.near(h)))
        return x + self.far(h)


class ConditionalNorm(nn.Module):
    """Semantic conditional normalisation of the memory, after Drive-OccWorld, in a simplified form.

    Each cell's channels are brought to mean 0 and deviation 1; then scale and shift come from (i) the
    memory's own occupancy by two 3x3 convolutions and (ii) the action by a linear layer, summed. Simplified
    in three ways: three classes of the ground plane instead of 17 of a voxel grid; their probabilities
    (detached) instead of the one-hot best class; the ego's motion by the action's embedding instead of a
    Fourier embedding of a pose, whose rotation would have to be the true one.
    """

    def __init__(self, channels: int, action_channels: int):
        super().__init__()
        self.from_semantics = nn.Sequential(
            nn.Conv2d(len(OCCUPANCY_CLASSES), SEMANTIC_CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(SEMANTIC_CHANNELS, 2 * channels, 3, padding=1),
        )
        self.from_action = nn.Linear(action_channels, 2 * channels)

    def forward(self, normed: Tensor, semantics: Tensor, action: Tensor) -> Tensor:
        """normed: [B, C, X, Y] from ``normalised``; semantics: [B, 3, X, Y]; action: [B, A]."""
        scale, shift = (
            self.from_semantics(semantics) + self.from_action(action)[:, :, None, None]
        ).chunk(2, dim=1)
        return normed * (1.0 + scale) + shift

    @staticmethod
    def normalised(memory: Tensor) -> Tensor:
        """Return [B, C, X, Y] with each cell's channels at mean 0 and deviation 1."""
        deviation, mean = torch.std_mean(memory, dim=1, keepdim=True, correction=0)
        return (memory - mean) / (deviation + 1e-5)


class WorldDecoder(nn.Module):
    """Features, memory of F_0 and action -> features one step on. blocks: of growing reach."""

    coarse_x: Tensor
    coarse_y: Tensor

    def __init__(
        self,
        grid: BevGrid,
        channels: int,
        *,
        blocks: int,
        action_channels: int,
        commands: int,
        conditional_norm: bool,
    ):
        super().__init__()
        if any(count % 2 for count in grid.shape):
            raise TrainingError(
                f"the bird's-eye view has {grid.shape[0]} x {grid.shape[1]} cells, expected even numbers, "
                "since the world decoder works on cells of double size; change the range or the cell."
            )
        x, y = cell_centres(grid)
        self.register_buffer("coarse_x", x[::2, ::2] + 0.5 * grid.cell_m, persistent=False)
        self.register_buffer("coarse_y", y[::2, ::2] + 0.5 * grid.cell_m, persistent=False)
        width = channels
        self.command_embedding = nn.Embedding(commands, action_channels)
        self.action = nn.Sequential(
            nn.Linear(4 + action_channels, action_channels),
            nn.ReLU(),
            nn.Linear(action_channels, action_channels),
            nn.ReLU(),
        )
        self.reduce = nn.Conv2d(channels, width, 2, stride=2)
        self.reduce_memory = nn.Conv2d(channels, width, 2, stride=2, bias=False)
        self.ego_mark = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.ego_mark, std=0.3)
        # Dilations 2, 4, 8, ...: with the undilated one before each, no cell within reach is passed over.
        self.blocks = nn.ModuleList(
            ConditionedBlock(width, action_channels, 2 ** (index + 1)) for index in range(blocks)
        )
        self.last_norm = nn.GroupNorm(norm_groups(width), width)
        self.expand = nn.ConvTranspose2d(width, 2 * channels, 2, stride=2)
        with torch.no_grad():
            self.expand.bias[channels:] = GATE_BIAS
        self.conditional_norm = ConditionalNorm(channels, action_channels) if conditional_norm else None

    def memorise(self, current: Tensor, occupancy_logits: Tensor | None) -> Memory:
        """Return what is kept of F_0 [B, C, X, Y]. occupancy_logits: [B, 3, OX, OY], for conditional norm."""
        empty = current.new_zeros(0)
        if self.conditional_norm is None:
            return Memory(self.reduce_memory(current), empty, empty)
        semantics = occupancy_logits.detach().sigmoid()
        factor = semantics.shape[-1] // current.shape[-1]
        if factor > 1:
            semantics = functional.avg_pool2d(semantics, factor)
        return Memory(empty, ConditionalNorm.normalised(current), semantics)

    def forward(
        self, features: Tensor, memory: Memory, displacement: Tensor, position: Tensor, command: Tensor
    ) -> Tensor:
        """features: [B, C, X, Y]; displacement: [B, 2] in this step; position: [B, 2] before
        it; command: [B].

        Returns [B, C, X, Y].
        """
        action = self.action(
            torch.cat(
                [
                    displacement / DISPLACEMENT_SCALE_M,
                    position / POSITION_SCALE_M,
                    self.command_embedding(command),
                ],
                dim=-1,
            )
        )
        reduced = memory.reduced
        if self.conditional_norm is not None:
            remembered = self.conditional_norm(memory.normed, memory.semantics, action)
            reduced = self.reduce_memory(remembered)
        h = self.reduce(features) + reduced
        h = h + self._mark(position + displacement) * self.ego_mark[:, None, None]
        for block in self.blocks:
            h = block(h, action)
        proposed, gate = self.expand(functional.relu(self.last_norm(h))).chunk(2, dim=1)
        return features + gate.sigmoid() * (proposed - features)

    def _mark(self, position: Tensor) -> Tensor:
        """[B, 2] metres -> [B, 1, U, V]: 1 where the ego will be, falling off around it."""
        x, y = position.float()[:, :, None, None].unbind(dim=1)
        squared = (self.coarse_x - x) ** 2 + (self.coarse_y - y) ** 2
        return torch.exp(squared * (-0.5 / EGO_MARK_M**2)).unsqueeze(1)
