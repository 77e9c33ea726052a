"""The reference teacher: one displacement of 0.5 s at a time, each chosen among K, chained through the world
model.

As in the authors' development code (plan head of OccWD4E2E), except: displacements are placed at the
accumulated pose, not around the grid's centre, and no ego speed is read unless it is asked for. Shape
letters: B samples, K candidates, T steps, D width of the queries, C channels of the world model's features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wpt_policy.frame import Command
from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.configuration import TeacherConfig
from wpt_training.errors import TrainingError
from wpt_training.reward.footprint import poses_along
from wpt_training.teacher.candidates import Candidates, picked
from wpt_training.teacher.frame_attention import FrameAttention, FrameMemory
from wpt_training.teacher.occupancy_cost import occupancy_cost
from wpt_training.teacher.trajectory_sampler import SampledTrajectories, of_third, sample_trajectories
from wpt_training.world.interface import FutureModel

# 600 trajectories for each third: left, middle, right.
SAMPLED = 1800
LEFT_COMMANDS = (Command.LEFT, Command.CHANGE_LANE_LEFT)
RIGHT_COMMANDS = (Command.RIGHT, Command.CHANGE_LANE_RIGHT)
BEST_SHARE = 0.25  # of the candidates are the cheapest ones (5 of 20), the others are drawn
ADAPTER_BLOCKS = 3
DISPLACEMENT_SCALE_M = 5.0


class StepDecision(NamedTuple):
    """What there is to choose from at one step, all in the present base_link, metres.

    step: 0 for the first. frames: F_0 and those predicted so far, [B, C, X, Y] each; the last one was
    decoded. before: [B, step, 2] positions chosen so far. positions, anchors: [B, K, 2] where each candidate
    and its anchor would arrive. cost: [B, K] of anchors; candidate 0 is the cheapest.
    """

    step: int
    frames: tuple[Tensor, ...]
    before: Tensor
    positions: Tensor
    anchors: Tensor
    cost: Tensor

    def trajectories(self, steps: int, *, anchors: bool = False) -> Tensor:
        """Return [B, K, steps, 2]: what was chosen before, the candidate (or its anchor), then on at its
        pace.
        """
        arrival = self.anchors if anchors else self.positions
        count = arrival.shape[1]
        start = self.before[:, -1] if self.step else torch.zeros_like(arrival[:, 0])
        pace = (arrival - start.unsqueeze(1)).unsqueeze(2)
        onward = torch.arange(steps - self.step, device=arrival.device, dtype=arrival.dtype).view(1, 1, -1, 1)
        earlier = self.before.unsqueeze(1).expand(-1, count, -1, -1)
        return torch.cat([earlier, arrival.unsqueeze(2) + onward * pace], dim=2)

    def all_frames(self, steps: int) -> Tensor:
        """Return [B, 1 + steps, C, X, Y]: the frames that are known, the last one again for later times."""
        return torch.stack([*self.frames, *[self.frames[-1]] * (1 + steps - len(self.frames))], dim=1)


StepChooser = Callable[[StepDecision], Tensor]


def cheapest(decision: StepDecision) -> Tensor:
    """Choose the candidate of the cheapest anchor [B]: the choice without a reward model."""
    return decision.cost.argmin(dim=1)


class ReferencePlan(NamedTuple):
    """positions: [B, T, 2] the chain of choices; queries: [B, T, D] theirs; chosen: [B, T] int64, which
    candidate.

    candidates: for every step the K that there were: positions [B, K, T, 2] continue what was chosen before
    by one step and are no whole trajectories; confidence [B, K] is minus the anchors' cost, summed over
    steps. frames: [B, 1 + T, C, X, Y]. decisions: one a step, with gradients.
    """

    positions: Tensor
    queries: Tensor
    chosen: Tensor
    candidates: Candidates
    frames: Tensor
    decisions: tuple[StepDecision, ...]


class BevAdapter(nn.Module):
    """Frozen world features -> what the plan decoder reads: three narrow blocks with one residual connection
    around.
    """

    def __init__(self, channels: int):
        super().__init__()
        narrow = max(1, channels // 2)
        layers: list[nn.Module] = []
        for _ in range(ADAPTER_BLOCKS):
            layers += [
                nn.Conv2d(channels, narrow, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(narrow, channels, 1),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


class StepDecoder(nn.Module):
    """One plan query with the command, told an anchor, attends over a frame and becomes an absolute
    displacement.
    """

    def __init__(self, config: TeacherConfig, world_channels: int, grid: BevGrid, commands: int):
        super().__init__()
        channels = config.channels
        self.plan_query = nn.Parameter(torch.empty(channels))
        nn.init.normal_(self.plan_query, std=0.5)
        self.command_embedding = nn.Embedding(commands, channels)
        self.query_fuser = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.LayerNorm(channels), nn.ReLU(inplace=True)
        )
        self.anchor_embedding = nn.Sequential(
            nn.Linear(3, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels)
        )
        self.adapter = BevAdapter(world_channels)
        self.anchor_attention = nn.MultiheadAttention(channels, config.heads, batch_first=True)
        self.anchor_norm = nn.LayerNorm(channels)
        self.memory = FrameMemory(grid, world_channels, channels, config.heads, patch=1)
        self.cross_attention = FrameAttention(channels, config.heads)
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

    def forward(self, features: Tensor, command: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """features: [B, C, X, Y]; anchors: [B, K, 3] dx, dy, dyaw. Returns queries [B, K, D], displacements
        [B, K, 2].
        """
        batch, count, _ = anchors.shape
        scaled = anchors * anchors.new_tensor([1 / DISPLACEMENT_SCALE_M, 1 / DISPLACEMENT_SCALE_M, 1.0])
        told = self.anchor_embedding(scaled).flatten(0, 1).unsqueeze(1)  # [B * K, 1, D]
        plan = torch.cat([self.plan_query.expand(batch, -1), self.command_embedding(command)], dim=-1)
        query = self.query_fuser(plan).repeat_interleave(count, dim=0).unsqueeze(1)
        both = torch.cat([told, query], dim=1)
        attended, _ = self.anchor_attention(query, both, both, need_weights=False)
        queries = self.anchor_norm(query + attended).view(batch, count, -1)
        attended = self.cross_attention(queries, self.memory(self.adapter(features)))
        queries = self.cross_norm(queries + attended)
        queries = self.feedforward_norm(queries + self.feedforward(queries))
        return queries, self.head(queries).float()


class ReferenceTeacher(nn.Module):
    """Chooses T displacements in turn. Its anchors are sampled, not learnt, so it needs no training futures.

    commands: the policy's, in its order. occupancy_grid: of the world model's occupancy logits. reads_motion:
    whether the sampler may know the ego's speed and yaw rate (the decoder never reads them). Anchors are
    judged on the frame that is decoded, the latest there is before the step's action is known, at the
    accumulated place of arrival.
    """

    def __init__(
        self,
        config: TeacherConfig,
        world_channels: int,
        steps: int,
        grid: BevGrid,
        commands: tuple[Command, ...],
        occupancy_grid: BevGrid,
        *,
        step_s: float = 0.5,
        reads_motion: bool = False,
        sampled: int = SAMPLED,
    ):
        super().__init__()
        if sampled // 3 < config.candidates:
            raise TrainingError(
                f"{sampled} trajectories are sampled for {config.candidates} candidates, expected three times "
                "as many at least; sample more or lower teacher.candidates."
            )
        self.candidates, self.steps, self.step_s = config.candidates, steps, step_s
        self.occupancy_grid, self.footprint = occupancy_grid, EgoFootprint()
        self.reads_motion, self.sampled = reads_motion, sampled
        thirds = [0 if c in LEFT_COMMANDS else 2 if c in RIGHT_COMMANDS else 1 for c in commands]
        self.register_buffer("third_of_command", torch.tensor(thirds), persistent=False)
        self.decoder = StepDecoder(config, world_channels, grid, len(commands))

    def roll(
        self,
        world: FutureModel,
        current: Tensor,
        command: Tensor,
        choose: StepChooser | None = None,
        *,
        motion: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> ReferencePlan:
        """Plan T steps from F_0 [B, C, X, Y] and command [B].

        choose: called at every step, returns which candidate [B] is taken (default: the cheapest anchor's).
        motion: [B, 4], needed where the sampler reads it. generator: of anchors and random candidates; None
        uses torch's own, which the trainer seeds at every step. No gradient passes the world model; the
        chain's positions keep theirs.
        """
        if self.reads_motion and motion is None:
            raise TrainingError(
                "this teacher's sampler reads the ego's motion but none is given; pass Batch.motion."
            )
        choose = choose or cheapest
        sampled = of_third(
            sample_trajectories(
                len(command), self.sampled, self.steps, self.step_s,
                motion=motion if self.reads_motion else None, generator=generator, device=current.device,
            ),
            self.third_of_command[command],
        )  # fmt: skip
        with torch.no_grad():
            state = world.start(current)
        place = current.new_zeros(len(command), 2, dtype=torch.float32)  # of the chain, with gradient
        chain: list[Tensor] = []
        frames, decisions, chosen, queries_of_chain, candidates = [current], [], [], [], []
        for step in range(self.steps):
            start = place.detach()
            moves, turns, cost = self._anchors(world, state.features, sampled, step, start, chain, generator)
            queries, displacement = self.decoder(
                state.features, command, torch.cat([moves, turns.unsqueeze(-1)], dim=-1)
            )
            before = torch.stack(chain, dim=1).detach() if chain else moves.new_zeros(len(command), 0, 2)
            decision = StepDecision(
                step,
                tuple(frames),
                before,
                start.unsqueeze(1) + displacement,
                start.unsqueeze(1) + moves,
                cost,
            )
            index = choose(decision)
            taken = picked(displacement, index)
            place = place + taken
            with torch.no_grad():
                state = world.roll_step(state, taken.detach(), command)
            frames.append(state.features)
            chain.append(place)
            decisions.append(decision)
            chosen.append(index)
            queries_of_chain.append(picked(queries, index))
            candidates.append(queries)
        return ReferencePlan(
            positions=torch.stack(chain, dim=1),
            queries=torch.stack(queries_of_chain, dim=1),
            chosen=torch.stack(chosen, dim=1),
            candidates=Candidates(
                positions=torch.stack([d.positions for d in decisions], dim=2),
                anchors=torch.stack([d.anchors for d in decisions], dim=2),
                queries=torch.stack(candidates, dim=2),
                confidence=-torch.stack([d.cost for d in decisions]).sum(dim=0),
            ),
            frames=torch.stack(frames, dim=1),
            decisions=tuple(decisions),
        )

    def plan_candidates(
        self, world: FutureModel, current: Tensor, command: Tensor, motion: Tensor | None = None
    ) -> tuple[Candidates, Tensor]:
        """Return the candidates and frames of a roll by the cheapest anchors."""
        plan = self.roll(world, current, command, motion=motion)
        return plan.candidates, plan.frames

    @torch.no_grad()
    def _anchors(
        self,
        world: FutureModel,
        features: Tensor,
        sampled: SampledTrajectories,
        step: int,
        start: Tensor,
        chain: list[Tensor],
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return displacements [B, K, 2], turns [B, K] and costs [B, K] of this step's anchors, cheapest
        first.
        """
        logits = world.occupancy(features)
        moves = torch.diff(sampled.positions, dim=2, prepend=torch.zeros_like(sampled.positions[:, :, :1]))[
            :, :, step
        ]
        turns = torch.diff(sampled.headings, dim=2, prepend=torch.zeros_like(sampled.headings[:, :, :1]))[
            :, :, step
        ]
        arrival = start.unsqueeze(1) + moves
        count = arrival.shape[1]
        path = torch.stack([*[p.detach().unsqueeze(1).expand(-1, count, -1) for p in chain], arrival], dim=2)
        direction = poses_along(path).direction[:, :, -1]
        cost = occupancy_cost(
            logits, arrival, direction, sampled.speeds[:, :, step], self.occupancy_grid, self.footprint
        )
        best = max(1, round(BEST_SHARE * self.candidates))
        order = cost.argsort(dim=1, stable=True)
        chance = torch.rand(len(cost), count - best, generator=generator).to(cost.device)
        drawn = chance.topk(self.candidates - best, dim=1).indices + best
        index = torch.cat([order[:, :best], order.gather(1, drawn)], dim=1)
        return (
            moves.gather(1, index.unsqueeze(-1).expand(-1, -1, 2)), turns.gather(1, index), cost.gather(1,
            index)
        )  # fmt: skip
