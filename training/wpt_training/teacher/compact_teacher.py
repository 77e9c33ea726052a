"""The compact teacher: K whole trajectories at once, each an anchor and a residual, on one roll-out a sample.

Shape letters: B samples, K candidates, T steps, D width of the queries, C channels of the world model's
features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wpt_policy.network.plan_decoder import PeakGlance, SceneGlance
from wpt_policy.policy_config import BevGrid

from wpt_training.configuration import TeacherConfig
from wpt_training.errors import TrainingError
from wpt_training.reward.footprint import chords, poses_along
from wpt_training.teacher.candidates import (
    Candidates,
    PlannedCandidates,
    check_ego_inputs,
    picked,
    scaled_ego_inputs,
)
from wpt_training.teacher.frame_attention import FrameAttention, FrameMemory, sampled
from wpt_training.world.interface import FutureModel

# Metres ahead of base_link where a token reads its frame: the rear axle, the footprint's centre, just before
# the bumper.
SAMPLED_AHEAD_M = (0.0, 1.5, 5.0)
# A step's residual displacement stays within +-RESIDUAL_M (3 m/s of speed), so a candidate that is never
# trained stays near its anchor.
RESIDUAL_M = 1.5
# Divisors that bring an anchor's positions and displacements to about +-1.
POSITION_SCALE_M = 20.0
DISPLACEMENT_SCALE_M = 5.0


class CompactTeacher(nn.Module):
    """Tokens (k, t): a query for the step, an embedding of the command, the whole anchor and its step t, a
    glance at the present (means and what stands out), and the features of its frame where the anchor would be
    then. Self-attention among a candidate's steps, attention of each step over all cells of the frame of its
    arrival time, feed-forward; a norm after each; then the residual and the confidence.

    The residual's last layer starts near zero: at first every candidate is its anchor.
    """

    anchors: Tensor

    def __init__(
        self,
        config: TeacherConfig,
        world_channels: int,
        steps: int,
        grid: BevGrid,
        anchors: Tensor,
        *,
        ego_inputs: tuple[str, ...] = (),
    ):
        """anchors: [commands, K, T, 2] (teacher.anchors.make_anchors), kept with the weights. ego_inputs:
        names as in PolicyConfig; none in the main rows.
        """
        super().__init__()
        if anchors.ndim != 4 or tuple(anchors.shape[1:]) != (config.candidates, steps, 2):
            raise TrainingError(
                f"anchors have the shape {list(anchors.shape)}, expected "
                f"[commands, {config.candidates}, {steps}, 2]; "
                "make them with the same configuration."
            )
        check_ego_inputs(ego_inputs)
        channels = config.channels
        self.grid, self.ego_inputs = grid, ego_inputs
        self.register_buffer("anchors", anchors.float().clone())
        self.step_queries = nn.Parameter(torch.empty(steps, channels))
        nn.init.normal_(self.step_queries, std=0.5)
        self.command_embedding = nn.Embedding(len(anchors), channels)
        self.trajectory_embedding = _mlp(2 * steps, channels, channels)
        self.step_embedding = _mlp(6, channels, channels)
        self.sample_embedding = _mlp(len(SAMPLED_AHEAD_M) * world_channels, channels, channels)
        self.glance = SceneGlance(grid, bev_channels=world_channels, channels=channels)
        self.peaks = PeakGlance(grid, bev_channels=world_channels, channels=channels)
        self.ego_embedding = _mlp(len(ego_inputs), channels, channels) if ego_inputs else None
        self.query_norm = nn.LayerNorm(channels)
        self.self_attention = nn.MultiheadAttention(channels, config.heads, batch_first=True)
        self.self_norm = nn.LayerNorm(channels)
        self.memory = FrameMemory(grid, world_channels, channels, config.heads)
        self.cross_attention = FrameAttention(channels, config.heads)
        self.cross_norm = nn.LayerNorm(channels)
        self.feedforward = _mlp(channels, config.feedforward_channels, channels)
        self.feedforward_norm = nn.LayerNorm(channels)
        self.residual = _mlp(channels, channels, 2)
        self.confidence = _mlp(channels, channels, 1)
        with torch.no_grad():
            self.residual[-1].weight.mul_(0.01)
            self.residual[-1].bias.zero_()

    def decode(self, features: Tensor, command: Tensor, motion: Tensor | None = None) -> Candidates:
        """Return candidates decoded on frames.

        features: [B, 1 + T, C, X, Y], of which step t reads frame t + 1, or [B, C, X, Y], the present alone,
        which then stands for all frames (as if repeated, at a sixth of the cost). command: [B] int64. motion:
        [B, 4] as in Batch, read only where the teacher has ego inputs.
        """
        anchors = self.anchors[command]
        batch, count, steps, _ = anchors.shape
        # [N, C, X, Y]: a frame a step, or one for all steps. Made contiguous once: it is read twice.
        frames = features if features.ndim == 4 else features[:, 1:].flatten(0, 1)
        present = features if features.ndim == 4 else features[:, 0]
        queries = self._queries(anchors, frames, present, command, motion)  # [B, K, T, D]

        tokens = queries.flatten(0, 1)
        attended, _ = self.self_attention(tokens, tokens, tokens, need_weights=False)
        queries = self.self_norm(tokens + attended).unflatten(0, (batch, count))

        by_frame = self._to_frames(queries, len(frames))
        attended = self.cross_attention(by_frame, self.memory(frames))
        queries = self.cross_norm(queries + self._from_frames(attended, batch, count, steps))
        queries = self.feedforward_norm(queries + self.feedforward(queries))

        residual = RESIDUAL_M * torch.tanh(self.residual(queries).float() / RESIDUAL_M)
        positions = anchors + residual.cumsum(dim=2)
        confidence = self.confidence(queries.mean(dim=2)).squeeze(-1).float()
        return Candidates(positions, anchors, queries, confidence)

    def plan_with_first_pass(
        self, world: FutureModel, current: Tensor, command: Tensor, motion: Tensor | None = None
    ) -> PlannedCandidates:
        """Decode on F_0 [B, C, X, Y], roll out on the most confident candidate, decode again on the predicted
        frames.

        No gradient passes the roll-out: neither into the world model nor through the displacements it is
        given.
        """
        first = self.decode(current, command, motion)
        with torch.no_grad():
            plan = picked(first.positions, first.confidence.argmax(dim=1))
            future = world.roll_out(current, chords(plan), command)
        frames = torch.cat([current.unsqueeze(1), future], dim=1)
        return PlannedCandidates(self.decode(frames, command, motion), frames, first)

    def plan_candidates(
        self, world: FutureModel, current: Tensor, command: Tensor, motion: Tensor | None = None
    ) -> tuple[Candidates, Tensor]:
        """Return plan_with_first_pass's candidates and frames [B, 1 + T, C, X, Y]."""
        planned = self.plan_with_first_pass(world, current, command, motion)
        return planned.candidates, planned.frames

    def _queries(
        self, anchors: Tensor, frames: Tensor, present: Tensor, command: Tensor, motion: Tensor | None
    ) -> Tensor:
        batch, count, steps, _ = anchors.shape
        direction = poses_along(anchors).direction
        of_step = torch.cat(
            [anchors / POSITION_SCALE_M, chords(anchors) / DISPLACEMENT_SCALE_M, direction], dim=-1
        )
        ahead = torch.tensor(SAMPLED_AHEAD_M, device=anchors.device)[:, None]
        places = anchors.unsqueeze(3) + ahead * direction.unsqueeze(3)  # [B, K, T, P, 2]
        by_frame = self._to_frames(places.flatten(3), len(frames)).unflatten(-1, (len(ahead), 2))
        read = sampled(frames, by_frame.flatten(1, 2), self.grid)
        read = self._from_frames(read.unflatten(1, by_frame.shape[1:3]).flatten(2), batch, count, steps)

        present = present.float()
        queries = (
            self.step_queries
            + self.command_embedding(command)[:, None, None]
            + self.trajectory_embedding(anchors.flatten(2) / POSITION_SCALE_M).unsqueeze(2)
            + self.step_embedding(of_step)
            + self.sample_embedding(read)
            + (self.glance(present) + self.peaks(present))[:, None, None]
        )
        if self.ego_embedding is not None:
            if motion is None:
                raise TrainingError(
                    f"this teacher reads {', '.join(self.ego_inputs)} but no motion is given; "
                    "pass Batch.motion."
                )
            queries = queries + self.ego_embedding(scaled_ego_inputs(motion, self.ego_inputs))[:, None, None]
        return self.query_norm(queries)

    @staticmethod
    def _to_frames(values: Tensor, frames: int) -> Tensor:
        """[B, K, T, E] -> [B, K * T, E] for B frames, [B * T, K, E] where each step has a frame of its own."""
        return values.flatten(1, 2) if frames == len(values) else values.transpose(1, 2).flatten(0, 1)

    @staticmethod
    def _from_frames(values: Tensor, batch: int, count: int, steps: int) -> Tensor:
        """The reverse of _to_frames: [B, K, T, E]."""
        if len(values) == batch:
            return values.unflatten(1, (count, steps))
        return values.unflatten(0, (batch, steps)).transpose(1, 2)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))
