"""The reward model (Fig 3): world features and a candidate -> one imitation and several simulation logits.

Shape letters: B samples, K candidates, T future steps, C channels of the world's features, X, Y their cells,
R rules, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.network.plan_decoder import PeakGlance, SceneGlance
from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.configuration import RewardConfig
from wpt_training.errors import TrainingError
from wpt_training.reward.combination import combine
from wpt_training.reward.footprint import DT_S, Poses, chords, grid_of_points, placed, poses_along
from wpt_training.reward.rules import EGO

# Where features are read: shares of the half footprint, rows from front to rear and columns; and how long
# ahead at the
# candidate's own speed the front is read again, in the frame of that time.
_ROWS, _COLUMNS = (1.0, 0.33, -0.33, -1.0), (-1.0, 0.0, 1.0)
_AHEAD_STEPS = (1, 2)
_OFF_GRID = -1e4  # m
# Typical sizes (m, m/s) by which kinematic features are divided.
_DISPLACEMENT, _POSITION, _SPEED = 5.0, 20.0, 10.0


@dataclass(frozen=True, kw_only=True)
class RewardLogits:
    """imitation [B, K]; simulation [B, K, R] in the order of ``rules``. Raw, before softmax and sigmoid."""

    imitation: Tensor
    simulation: Tensor
    rules: tuple[str, ...]

    def probabilities(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return softmax over the candidates [B, K], and the sigmoid [B, K] by rule."""
        values = torch.sigmoid(self.simulation)
        return torch.softmax(self.imitation, -1), {rule: values[..., i] for i, rule in enumerate(self.rules)}

    def score(self, config: RewardConfig, rules: Sequence[str] | None = None) -> Tensor:
        """Return Eq 14 [B, K]; rules: those that count (all that the model has)."""
        imitation, simulation = self.probabilities()
        return combine(imitation, simulation, self.rules if rules is None else rules, config.weights)


class RewardModel(nn.Module):
    """Scores candidates on the present's and the predicted features.

    world_channels: C. steps: T. grid: of the features. Group and layer norms alone, since a batch may be few
    samples. Everything runs in float32, under autocast too.
    """

    def __init__(
        self,
        config: RewardConfig,
        world_channels: int,
        steps: int,
        grid: BevGrid,
        footprint: EgoFootprint = EGO,
    ):
        super().__init__()
        self.config, self.steps, self.grid = config, steps, grid
        channels = config.channels
        self.world = _WorldEncoder(world_channels, channels, 1 + steps)
        self.glance = self.peaks = None
        if config.sampled_features:
            self.glance = SceneGlance(grid, bev_channels=world_channels, channels=channels)
            self.peaks = PeakGlance(grid, bev_channels=world_channels, channels=channels)
        self.trajectory = _TrajectoryEncoder(
            world_channels if config.sampled_features else 0, channels, steps, grid, footprint
        )
        self.fusion = nn.Sequential(
            nn.Linear(2 * channels, channels),
            nn.LayerNorm(channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )
        self.imitation_head = _head(channels)
        self.simulation_heads = nn.ModuleDict({rule: _head(channels) for rule in config.rules})

    def forward(
        self, features: Tensor, candidates: Tensor, *, detach_simulation: bool | None = None
    ) -> RewardLogits:
        """features: [B, 1 + T, C, X, Y], now and predicted. candidates: [B, K, T, 2] cumulative positions.

        detach_simulation: whether simulation heads read a detached fused feature (the configuration's). With
        it no gradient of theirs reaches the candidates: Eq 16 on all heads needs False. Raises TrainingError
        for other shapes.
        """
        self._check(features, candidates)
        detach = self.config.detach_simulation if detach_simulation is None else detach_simulation
        with torch.autocast(features.device.type, enabled=False):
            features, candidates = features.float(), candidates.float()
            world = self.world(features)
            if self.glance is not None:
                # Means over cells do not tell where something is, and what is imitated depends on that; nor do they show
                # a signal's lamp, which fills one cell.
                world = world + self.glance(features[:, 0]) + self.peaks(features[:, 0])
            world = world.unsqueeze(1).expand(-1, candidates.shape[1], -1)
            fused = self.fusion(torch.cat([world, self.trajectory(features, candidates)], dim=-1))
            imitation = self.imitation_head(fused).squeeze(-1)
            if detach:
                fused = fused.detach()
            heads = [self.simulation_heads[rule](fused) for rule in self.config.rules]
            simulation = torch.cat(heads, dim=-1) if heads else fused.new_zeros(*fused.shape[:2], 0)
        return RewardLogits(imitation=imitation, simulation=simulation, rules=self.config.rules)

    def _check(self, features: Tensor, candidates: Tensor) -> None:
        frames = (len(features), 1 + self.steps, self.world.first.in_channels, *self.grid.shape)
        if tuple(features.shape) != frames:
            raise TrainingError(
                f"features have shape {tuple(features.shape)}, expected {frames}: now and each step's predicted features."
            )
        if candidates.dim() != 4 or (len(candidates), *candidates.shape[2:]) != (
            len(features),
            self.steps,
            2,
        ):
            raise TrainingError(
                f"candidates have shape {tuple(candidates.shape)}, expected ({len(features)}, any, {self.steps}, 2)."
            )


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels // 2), nn.ReLU(), nn.Linear(channels // 2, 1))


def _groups(channels: int) -> int:
    """At most eight groups that divide the channels."""
    return next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)


class _WorldEncoder(nn.Module):
    """[B, F, C, X, Y] -> [B, channels]: two convolutions on each frame, mean over cells, frames combined in
    order.

    Each convolution halves the cells: the mean over cells needs no finer ones, and the time falls by eight.
    """

    def __init__(self, world_channels: int, channels: int, frames: int):
        super().__init__()
        hidden = max(channels // 2, 8)
        self.first = nn.Conv2d(world_channels, hidden, 3, stride=2, padding=1)
        self.first_norm = nn.GroupNorm(_groups(hidden), hidden)
        self.second = nn.Conv2d(hidden, channels, 3, stride=2, padding=1)
        self.second_norm = nn.GroupNorm(_groups(channels), channels)
        self.over_time = nn.Sequential(nn.Linear(frames * channels, channels), nn.LayerNorm(channels))

    def forward(self, features: Tensor) -> Tensor:
        cells = functional.relu(self.first_norm(self.first(features.flatten(0, 1))))
        cells = functional.relu(self.second_norm(self.second(cells)))
        return self.over_time(cells.mean((-2, -1)).unflatten(0, features.shape[:2]).flatten(1))


class _TrajectoryEncoder(nn.Module):
    """Candidates [B, K, T, 2] -> [B, K, channels].

    Each step: displacement, position, heading and speed; and, with features (world_channels > 0), what the
    footprint stands on at its arrival time, and what its front would stand on one and two steps later at its
    own speed, in the frames of those times (the last one stays). Points are embedded alone and joined by the
    maximum over the footprint, as a contact anywhere counts.
    """

    def __init__(
        self, world_channels: int, channels: int, steps: int, grid: BevGrid, footprint: EgoFootprint
    ):
        super().__init__()
        width = max(channels // 2, 8)
        self.grid, self.sampled = grid, world_channels > 0
        half_length, half_width = 0.5 * footprint.length_m, 0.5 * footprint.width_m
        rows = footprint.centre_ahead_m + half_length * torch.tensor(_ROWS)
        columns = half_width * torch.tensor(_COLUMNS)
        self.register_buffer("body", grid_of_points(rows, columns), persistent=False)
        self.register_buffer("front", grid_of_points(rows[:2], columns), persistent=False)
        inputs = 7
        if self.sampled:
            self.point = nn.Linear(world_channels, width)
            inputs += (1 + len(_AHEAD_STEPS)) * width
        self.step = nn.Sequential(
            nn.Linear(inputs, channels),
            nn.LayerNorm(channels),
            nn.ReLU(),
            nn.Linear(channels, width),
            nn.ReLU(),
        )
        self.over_time = nn.Sequential(
            nn.Linear(steps * width, channels),
            nn.LayerNorm(channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )

    def forward(self, features: Tensor, candidates: Tensor) -> Tensor:
        poses = poses_along(candidates)
        parts = [
            chords(candidates) / _DISPLACEMENT,
            candidates / _POSITION,
            poses.direction,
            poses.speed.unsqueeze(-1) / _SPEED,
        ]
        if self.sampled:
            parts += self._under_footprint(features, poses)
        return self.over_time(self.step(torch.cat(parts, dim=-1)).flatten(2))

    def _under_footprint(self, features: Tensor, poses: Poses) -> list[Tensor]:
        """Return [B, K, T, width] for the footprint on arrival and for each time ahead."""
        steps = features.shape[1] - 1
        sets = [placed(self.body, poses.positions, poses.direction)]
        for later in _AHEAD_STEPS:
            travelled = poses.speed.unsqueeze(-1) * poses.direction * (DT_S * later)
            sets.append(placed(self.front, poses.positions + travelled, poses.direction))
        delays = [min(delay, steps) for delay in (0, *_AHEAD_STEPS)]
        # Points of step t are read in frame t + delay. All frames are read in one go, as copies of frames
        # would cost more
        # than reading them; what falls behind the last frame is read there apart.
        regular = torch.cat(
            [
                functional.pad(points[:, :, : steps - delay], (0, 0, 0, 0, 1 + delay, 0), value=_OFF_GRID)
                for points, delay in zip(sets, delays, strict=True)
            ],
            dim=3,
        )  # [B, K, 1 + T, all points, 2]
        read = self._read(features.flatten(0, 1), regular.transpose(1, 2).flatten(0, 1))
        read = read.unflatten(0, features.shape[:2]).transpose(1, 2)  # [B, K, 1 + T, all points, width]
        found = []
        for part, points, delay in zip(
            read.split([p.shape[3] for p in sets], dim=3), sets, delays, strict=True
        ):
            joined = part[:, :, 1 + delay :].amax(3)
            if delay:
                beyond = points[:, :, steps - delay :]
                late = self._read(features[:, -1], beyond.flatten(1, 2)).amax(2)
                joined = torch.cat([joined, late.unflatten(1, beyond.shape[1:3])], dim=2)
            found.append(joined)
        return found

    def _read(self, frames: Tensor, points: Tensor) -> Tensor:
        """frames [N, C, X, Y] read at points [N, Q, P, 2] and embedded: [N, Q, P, width]. Zeros are read off
        the grid."""
        low_x, high_x = self.grid.x_range_m
        low_y, high_y = self.grid.y_range_m
        # grid_sample's first coordinate runs along the last axis, which is y here.
        x = (points[..., 0] - low_x) * (2.0 / (high_x - low_x)) - 1.0
        y = (points[..., 1] - low_y) * (2.0 / (high_y - low_y)) - 1.0
        read = functional.grid_sample(
            frames, torch.stack([y, x], dim=-1), mode="bilinear", align_corners=False
        )
        return functional.relu(self.point(read.movedim(1, -1)))
