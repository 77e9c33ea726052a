"""The per-step teacher at a tiny size: sampling, cost, chaining, choices and gradients."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from wpt_policy.frame import Command
from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.configuration import LossWeights, RewardConfig, TeacherConfig
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.errors import TrainingError
from wpt_training.reward.combination import choose
from wpt_training.reward.reward_model import RewardModel
from wpt_training.reward.rules import RuleInputs, rule_inputs
from wpt_training.teacher.occupancy_cost import occupancy_cost
from wpt_training.teacher.reference_teacher import ReferenceTeacher, StepDecision, cheapest
from wpt_training.teacher.step_choice import by_reward, by_targets, step_logits, step_targets
from wpt_training.teacher.teacher_losses import reference_teacher_losses
from wpt_training.teacher.trajectory_sampler import of_third, sample_trajectories
from wpt_training.world.interface import RollState

GRID = BevGrid(x_range_m=(-16.0, 32.0), y_range_m=(-16.0, 16.0), cell_m=2.0, heights_m=(0.0,))
FINE = BevGrid(x_range_m=(-16.0, 32.0), y_range_m=(-16.0, 16.0), cell_m=1.0, heights_m=(0.0,))
CHANNELS, STEPS = 5, 6
CONFIG = TeacherConfig(kind="reference", candidates=8, channels=16, heads=2, feedforward_channels=32)
COMMANDS = (Command.LEFT, Command.RIGHT, Command.STRAIGHT)


class FreeRoad(nn.Module):
    """A world whose features drift with the action; everything is drivable and nobody is there, except
    ``logits``.
    """

    channels, steps = CHANNELS, STEPS

    def __init__(self, logits: torch.Tensor | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.logits, self.moves = logits, []

    def start(self, current):
        self.moves = []
        return RollState(current, (), torch.zeros(len(current), 2))

    def roll_step(self, state, displacement, command):
        self.moves.append(displacement)
        features = state.features + self.weight * 0.1 * displacement.sum(-1)[:, None, None, None]
        return RollState(features, (), state.position + displacement)

    def occupancy(self, features):
        free = torch.tensor([-20.0, -20.0, 20.0]).view(3, 1, 1).expand(3, *FINE.shape)
        return (free if self.logits is None else self.logits).expand(len(features), -1, -1, -1)


def teacher(**options) -> ReferenceTeacher:
    torch.manual_seed(0)
    return ReferenceTeacher(CONFIG, CHANNELS, STEPS, GRID, COMMANDS, FINE, sampled=90, **options)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_samples_are_physical_sorted_and_seeded():
    drawn = sample_trajectories(2, 900, STEPS, 0.5, generator=seeded())
    assert drawn.positions.shape == (2, 900, STEPS, 2) and bool(torch.isfinite(drawn.positions).all())
    last = drawn.positions[:, :, -1, 1]
    assert bool((last[:, 1:] <= last[:, :-1] + 1e-5).all())
    assert drawn.speeds.min() >= 0 and drawn.speeds.max() <= 15.0 + 3.0 * 7.0 + 1e-3
    # A fifth drives straight on.
    straight = (drawn.positions[..., 1].abs() < 1e-5).all(-1).float().mean()
    assert 0.15 < straight < 0.3
    steps = torch.diff(drawn.positions, dim=2, prepend=torch.zeros(2, 900, 1, 2)).norm(dim=-1)
    assert bool((steps <= drawn.speeds * 0.5 + 1e-3).all())
    assert torch.equal(drawn.positions, sample_trajectories(2, 900, STEPS, 0.5, generator=seeded()).positions)


def test_no_ego_motion_is_read_unless_it_is_given():
    motion = torch.tensor([[7.0, 0.0, 0.7, 0.0]])
    without = sample_trajectories(1, 600, STEPS, 0.5, generator=seeded())
    known = sample_trajectories(1, 600, STEPS, 0.5, motion=motion, generator=seeded())
    assert not torch.equal(without.positions, known.positions)
    # A circle of the ego's curvature 0.1: y = (1 - cos(0.1 s)) / 0.1.
    turned = known.headings[0, :, -1]
    length = known.speeds[0].sum(-1) * 0.5
    on_circle = (turned - 0.1 * length).abs() < 1e-3
    assert 0.1 < on_circle.float().mean() < 0.35


def test_thirds_are_left_middle_and_right():
    drawn = sample_trajectories(3, 300, STEPS, 0.5, generator=seeded())
    y = of_third(drawn, torch.tensor([0, 1, 2])).positions[:, :, -1, 1]
    assert y.shape == (3, 100) and y[0].mean() > 1.0 and abs(y[1].mean()) < 1.0 and y[2].mean() < -1.0


def test_cost_of_free_occupied_and_off_road_places():
    logits = torch.tensor([-20.0, -20.0, 20.0]).view(1, 3, 1, 1).repeat(1, 1, *FINE.shape)
    logits[0, 0, 26:30, 15:17] = 20.0  # a car at x from 10 to 14, y from -1 to 1
    logits[0, 2, :, :8] = -20.0  # no road right of y = -8
    places = torch.tensor([[[0.0, 6.0], [11.0, 0.0], [0.0, -12.0], [1.0, 0.0]]])
    direction = torch.tensor([1.0, 0.0]).expand_as(places)
    cost = occupancy_cost(logits, places, direction, torch.full((1, 4), 2.0), FINE, EgoFootprint())[0]
    assert cost[0] < 1e-2  # free
    assert cost[1] > 5.0  # in the car
    assert cost[2] > 100.0  # off the road
    assert cost[3] > 1.0  # the car is 10 m ahead
    slow = occupancy_cost(logits, places, direction, torch.zeros(1, 4), FINE, EgoFootprint())[0]
    assert slow[1] < cost[1]


def test_a_chain_is_the_sum_of_the_chosen_moves():
    network, world = teacher(), FreeRoad()
    current = torch.randn(2, CHANNELS, *GRID.shape)
    picks: list[int] = []

    def second(decision):
        picks.append(decision.step)
        return torch.tensor([1, 2])

    plan = network.roll(world, current, torch.tensor([0, 2]), second, generator=seeded())
    assert picks == list(range(STEPS)) and plan.chosen.tolist() == [[1] * STEPS, [2] * STEPS]
    assert plan.positions.shape == (2, STEPS, 2) and plan.queries.shape == (2, STEPS, CONFIG.channels)
    assert plan.frames.shape == (2, 1 + STEPS, CHANNELS, *GRID.shape)
    assert plan.candidates.positions.shape == (2, 8, STEPS, 2)
    # The world was asked about exactly these moves, and each candidate continues what was chosen before it.
    assert torch.allclose(torch.stack(world.moves, 1).cumsum(1), plan.positions, atol=1e-5)
    assert torch.allclose(plan.candidates.positions[0, 1], plan.positions[0], atol=1e-5)
    assert torch.allclose(plan.candidates.positions[1, 2], plan.positions[1], atol=1e-5)
    third = plan.decisions[2]
    assert torch.allclose(third.before, plan.positions[:, :2]) and third.positions.shape == (2, 8, 2)


def test_a_decision_as_whole_trajectories():
    network, world = teacher(), FreeRoad()
    plan = network.roll(world, torch.randn(1, CHANNELS, *GRID.shape), torch.tensor([1]), generator=seeded())
    decision = plan.decisions[2]
    whole = decision.trajectories(STEPS)
    assert whole.shape == (1, 8, STEPS, 2)
    assert torch.allclose(whole[:, 0, :2], plan.positions[:, :2]) and torch.allclose(
        whole[:, :, 2], decision.positions
    )
    pace = decision.positions - plan.positions[:, 1:2]
    assert torch.allclose(whole[:, :, 4], decision.positions + 2 * pace, atol=1e-5)
    first = plan.decisions[0].trajectories(STEPS, anchors=True)
    assert torch.allclose(first[:, :, 1], 2 * plan.decisions[0].anchors, atol=1e-5)


def test_the_cheapest_come_first_and_the_draw_is_seeded():
    logits = torch.tensor([-20.0, -20.0, 20.0]).view(3, 1, 1).repeat(1, *FINE.shape)
    logits[0, 18:, :] = 20.0  # a wall from 2 m ahead of base_link on
    network, world = teacher(), FreeRoad(logits)
    current = torch.randn(1, CHANNELS, *GRID.shape)
    plan = network.roll(world, current, torch.tensor([2]), generator=seeded())
    for decision in plan.decisions:
        assert bool((decision.cost[:, :1] <= decision.cost).all())
        assert bool((decision.cost[:, :1] <= decision.cost[:, 1:2]).all())
        assert cheapest(decision).tolist() == [0]
    again = network.roll(world, current, torch.tensor([2]), generator=seeded())
    assert torch.equal(plan.positions, again.positions)
    other = network.roll(world, current, torch.tensor([2]), generator=seeded(4))
    assert not torch.equal(plan.candidates.anchors, other.candidates.anchors)


def test_gradients_reach_every_parameter_but_the_world(small):
    network, world = teacher(), FreeRoad()
    batch = make_batch(small, 2)
    plan = network.roll(world, torch.randn(2, CHANNELS, *GRID.shape), batch.command % 3, generator=seeded())
    losses = reference_teacher_losses(plan, batch, LossWeights())
    losses["total"].backward()
    assert set(losses) == {"displacement", "sideways", "collision", "total"}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        assert parameter.grad.abs().sum() > 0, name
    assert world.weight.grad is None


def test_eight_samples_are_learnt_by_heart(small):
    network, world = teacher(), FreeRoad()
    batch = make_batch(small, 8)
    current = torch.randn(8, CHANNELS, *GRID.shape, generator=seeded())
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    first = None
    for _ in range(100):
        plan = network.roll(world, current, batch.command % 3, generator=seeded())
        loss = reference_teacher_losses(plan, batch, LossWeights(collision=(0, 0, 0)))["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first = loss.item() if first is None else first
    assert loss.item() < 0.2 * first and math.isfinite(loss.item())


def test_missing_motion_and_too_few_samples_are_named():
    with pytest.raises(TrainingError, match="Batch.motion"):
        teacher(reads_motion=True).roll(FreeRoad(), torch.randn(1, CHANNELS, *GRID.shape), torch.tensor([0]))
    with pytest.raises(TrainingError, match="lower teacher.candidates"):
        ReferenceTeacher(CONFIG, CHANNELS, STEPS, GRID, COMMANDS, FINE, sampled=20)


def test_a_step_is_judged_where_and_when_it_arrives(small):
    """A car stands where the second step's fast candidate arrives, only then; the slow one stops short."""
    config = RewardConfig(rules=("NC", "DAC", "TTC", "EP", "Comf"), weights=(0.1, 0.5, 0.5, 1.0))
    inputs = free_rules(small)
    occupied = inputs.occupied.clone()
    x = round((14.0 - inputs.grid.x_range_m[0]) / inputs.grid.cell_m)
    occupied[:, 2, x : x + 2] = True
    inputs = dataclasses.replace(inputs, occupied=occupied)
    before = torch.tensor([[[5.0, 0.0]]])
    arrivals = torch.tensor([[[11.0, 0.0], [7.0, 0.0]]])  # the front is 3.5 m ahead of base_link
    decision = StepDecision(
        1,
        (torch.zeros(1, 1, 2, 2),) * 2,
        before,
        arrivals,
        arrivals + torch.tensor([0.5, 0.0]),
        torch.zeros(1, 2),
    )
    targets = step_targets(inputs, decision, config)
    assert targets.simulation[0, :, 0].tolist() == [0.0, 1.0]
    assert targets.chosen.tolist() == [1] and by_targets(inputs, config)(decision).tolist() == [1]
    # The true position then is (10, 0): anchors are 1.5 m and 2.5 m away.
    assert torch.allclose(targets.imitation, torch.softmax(-torch.tensor([[1.5, 2.5]]), -1))
    # One step later the car is gone.
    later = decision._replace(step=2, before=torch.tensor([[[2.5, 0.0], [5.0, 0.0]]]))
    assert step_targets(inputs, later, config).simulation[0, :, 0].tolist() == [1.0, 1.0]


def test_time_to_collision_looks_on_from_this_arrival_alone(small):
    config = RewardConfig(rules=("TTC",))
    inputs = free_rules(small)
    occupied = inputs.occupied.clone()
    x = round((16.0 - inputs.grid.x_range_m[0]) / inputs.grid.cell_m)
    occupied[:, :, x : x + 2] = True  # a wall at x = 16 for good
    inputs = dataclasses.replace(inputs, occupied=occupied)
    arrivals = torch.tensor([[[5.0, 0.0], [2.0, 0.0]]])  # 10 m/s: 15 m a second later; 4 m/s: 6 m
    decision = StepDecision(
        0, (torch.zeros(1, 1, 2, 2),), torch.zeros(1, 0, 2), arrivals, arrivals, torch.zeros(1, 2)
    )
    assert step_targets(inputs, decision, config).simulation[0, :, 0].tolist() == [0.0, 1.0]


def test_a_reward_model_chooses_on_the_frames_that_are_known(small):
    network, world = teacher(), FreeRoad()
    reward = RewardModel(RewardConfig(channels=16), CHANNELS, STEPS, GRID)
    current = torch.randn(2, CHANNELS, *GRID.shape)
    plan = network.roll(world, current, torch.tensor([0, 1]), by_reward(reward), generator=seeded())
    for decision in plan.decisions:
        frames = decision.all_frames(STEPS)
        assert frames.shape == (2, 1 + STEPS, CHANNELS, *GRID.shape)
        assert torch.equal(frames[:, : decision.step + 1], plan.frames[:, : decision.step + 1])
        assert torch.equal(frames[:, -1], plan.frames[:, decision.step])
        best = choose(step_logits(reward, decision).score(reward.config))
        assert torch.equal(plan.chosen[:, decision.step], best)
    loss = sum(step_logits(reward, decision).imitation.square().mean() for decision in plan.decisions)
    loss.backward()
    # The imitation reward trains the plan head through the positions it scores.
    assert network.decoder.head[-1].weight.grad.abs().sum() > 0 and world.weight.grad is None


def free_rules(small) -> RuleInputs:
    """One sample on an endless road without anybody; the true future drives on at 10 m/s."""
    batch = make_batch(small, 1)
    future = torch.zeros(1, STEPS, 3)
    future[..., 0] = 5.0 * torch.arange(1, STEPS + 1)
    motion = torch.tensor([[10.0, 0.0, 0.0, 0.0]])
    inputs = rule_inputs(batch, occupancy_grid(small.student, small.data))
    return dataclasses.replace(
        inputs,
        occupied=torch.zeros_like(inputs.occupied),
        drivable=torch.ones_like(inputs.drivable),
        future=future,
        future_valid=torch.ones(1, STEPS, dtype=torch.bool),
        motion=motion,
    )
