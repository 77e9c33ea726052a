"""The compact teacher: anchors at first, frames by arrival time, gradients, and eight samples learnt by
heart.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wpt_policy.policy_config import BevGrid

from wpt_training.configuration import LossWeights, TeacherConfig
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.errors import TrainingError
from wpt_training.teacher.build_teacher import build_teacher
from wpt_training.teacher.candidates import scaled_ego_inputs
from wpt_training.teacher.compact_teacher import RESIDUAL_M, CompactTeacher
from wpt_training.teacher.frame_attention import FrameMemory, sampled
from wpt_training.teacher.teacher_losses import nearest_candidate, teacher_losses

GRID = BevGrid(x_range_m=(-8.0, 24.0), y_range_m=(-8.0, 8.0), cell_m=2.0, heights_m=(0.0,))
CHANNELS, STEPS, COUNT = 5, 6, 8
CONFIG = TeacherConfig(candidates=COUNT, channels=16, heads=2, feedforward_channels=32)


class Drift(nn.Module):
    """A world whose next frame is the one before plus the displacement: easy to follow."""

    channels, steps = CHANNELS, STEPS

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def roll_out(self, current, displacements, command):
        self.asked = displacements
        moved = displacements.cumsum(1).sum(-1)[:, :, None, None, None]
        return current.unsqueeze(1) + self.weight * moved


def anchors(commands: int = 3, count: int = COUNT) -> torch.Tensor:
    speed = torch.linspace(0.0, 10.0, count)
    ahead = speed[:, None] * torch.arange(1, STEPS + 1) * 0.5
    return torch.stack([ahead, 0.1 * ahead], dim=-1).expand(commands, -1, -1, -1).clone()


def teacher(**options) -> CompactTeacher:
    torch.manual_seed(0)
    return CompactTeacher(CONFIG, CHANNELS, STEPS, GRID, anchors(), **options)


def frames(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 1 + STEPS, CHANNELS, *GRID.shape, generator=torch.Generator().manual_seed(1))


def test_a_new_teacher_puts_its_anchors_forward():
    found = teacher().decode(frames(), torch.tensor([0, 2]))
    assert found.positions.shape == found.anchors.shape == (2, COUNT, STEPS, 2)
    assert found.queries.shape == (2, COUNT, STEPS, CONFIG.channels) and found.confidence.shape == (2, COUNT)
    assert (found.positions - found.anchors).abs().max() < 0.1
    assert torch.equal(found.anchors[0], anchors()[0])


def test_a_residual_stays_within_its_bound():
    network = teacher()
    with torch.no_grad():
        network.residual[-1].bias.fill_(100.0)
    found = network.decode(frames(), torch.tensor([0, 1]))
    moved = (found.positions - found.anchors)[..., -1, :]
    assert torch.allclose(moved, torch.full_like(moved, RESIDUAL_M * STEPS), atol=1e-3)


def test_a_single_frame_is_the_same_as_the_frame_repeated():
    network, present = teacher(), frames()[:, 0]
    once = network.decode(present, torch.tensor([0, 1]))
    repeated = network.decode(present.unsqueeze(1).expand(-1, 1 + STEPS, -1, -1, -1), torch.tensor([0, 1]))
    for first, second in zip(once, repeated, strict=True):
        assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("frame", [0, 1, 4, 6])
def test_a_step_reads_the_frame_of_its_arrival(frame):
    network = teacher()
    # Without self-attention a step knows nothing but its own frame.
    nn.init.zeros_(network.self_attention.out_proj.weight)
    seen = frames()
    changed = seen.clone()
    changed[:, frame] += 3.0
    command = torch.tensor([0, 1])
    moved = (
        (network.decode(changed, command).queries - network.decode(seen, command).queries)
        .abs()
        .amax((0, 1, 3))
    )
    # A glance at the present is every step's.
    expected = [frame in (0, step + 1) for step in range(STEPS)]
    assert [bool(m > 1e-4) for m in moved] == expected


def test_candidates_do_not_disturb_each_other():
    network, seen = teacher(), frames(1)
    before = network.decode(seen, torch.tensor([0])).queries
    with torch.no_grad():
        network.anchors[:, 3] += 1.0
    moved = (network.decode(seen, torch.tensor([0])).queries - before).abs().amax((0, 2, 3))
    assert [bool(m > 1e-4) for m in moved] == [k == 3 for k in range(COUNT)]


def test_samples_are_read_where_they_lie():
    field = torch.zeros(1, 1, *GRID.shape)
    field[0, 0, 5, 2] = 1.0  # centre at x = -8 + 5.5 * 2 = 3, y = -8 + 2.5 * 2 = -3
    places = torch.tensor([[[3.0, -3.0], [4.0, -3.0], [3.0, 3.0], [900.0, 0.0]]])
    assert torch.allclose(
        sampled(field, places, GRID)[0, :, 0], torch.tensor([1.0, 0.5, 0.0, 0.0]), atol=1e-6
    )


def test_a_grid_of_an_odd_number_of_cells_is_filled_up():
    grid = BevGrid(x_range_m=(0.0, 5.0), y_range_m=(0.0, 3.0), cell_m=1.0, heights_m=(0.0,))
    keys, values = FrameMemory(grid, 4, 8, 2)(torch.randn(2, 4, 5, 3))
    assert keys.shape == values.shape == (2, 2, 3 * 2, 4)


def test_the_roll_out_is_conditioned_on_the_most_confident_first_candidate_without_gradient():
    network, world = teacher(), Drift()
    current = frames()[:, 0].requires_grad_(True)
    planned = network.plan_with_first_pass(world, current, torch.tensor([0, 1]))
    best = planned.first_pass.confidence.argmax(1)
    expected = planned.first_pass.chosen(best)[0]
    assert torch.allclose(world.asked.cumsum(1), expected, atol=1e-5)
    assert not world.asked.requires_grad
    assert torch.equal(planned.frames[:, 0], current)
    planned.candidates.positions.square().mean().backward()
    assert world.weight.grad is None
    again, seen = network.plan_candidates(world, current, torch.tensor([0, 1]))
    assert torch.equal(again.positions, planned.candidates.positions) and torch.equal(seen, planned.frames)


def test_gradients_reach_every_parameter_through_the_losses(small):
    network, world = teacher(), Drift()
    batch = make_batch(small, 4)
    planned = network.plan_with_first_pass(world, frames(4)[:, 0], batch.command % 3)
    chosen = nearest_candidate(planned.candidates.positions, batch.future, batch.future_valid)
    losses = teacher_losses(planned.candidates, planned.first_pass, batch, LossWeights(), chosen)
    losses["total"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        # A number added to all confidences changes no softmax.
        assert parameter.grad.abs().sum() > 0 or name == "confidence.2.bias", name
    assert world.weight.grad is None


def test_eight_samples_are_learnt_by_heart(small):
    network, world = teacher(), Drift()
    batch = make_batch(small, 8)
    current = torch.randn(8, CHANNELS, *GRID.shape, generator=torch.Generator().manual_seed(5))
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    first = last = None
    for _ in range(250):
        planned = network.plan_with_first_pass(world, current, batch.command % 3)
        chosen = nearest_candidate(planned.candidates.positions, batch.future, batch.future_valid)
        losses = teacher_losses(
            planned.candidates, planned.first_pass, batch, LossWeights(collision=(0, 0, 0)), chosen
        )
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        last = losses["displacement"].item()
        first = last if first is None else first
    assert last < 0.25 * first and last < 0.3, (first, last)
    # The teacher's own choice is among the nearest, too.
    confident = planned.candidates.confidence.argmax(1)
    assert (confident == chosen).float().mean() >= 0.75


def test_ego_inputs_are_scaled_as_the_runner_does_and_needed_where_named():
    motion = torch.tensor([[5.0, 0.5, 0.25, 1.0]])
    assert torch.allclose(scaled_ego_inputs(motion, ("yaw_rate", "speed")), torch.tensor([[0.5, 0.5]]))
    assert scaled_ego_inputs(motion, ()).shape == (1, 0)
    network = teacher(ego_inputs=("speed",))
    with pytest.raises(TrainingError, match="no motion is given"):
        network.decode(frames(1), torch.tensor([0]))
    slow = network.decode(frames(1), torch.tensor([0]), motion)
    fast = network.decode(frames(1), torch.tensor([0]), 2 * motion)
    assert not torch.allclose(slow.queries, fast.queries)
    blind = teacher()
    assert torch.equal(
        blind.decode(frames(1), torch.tensor([0]), motion).queries,
        blind.decode(frames(1), torch.tensor([0]), 2 * motion).queries,
    )


def test_wrong_anchors_and_unknown_ego_inputs_are_named(small):
    with pytest.raises(TrainingError, match="anchors have the shape"):
        CompactTeacher(CONFIG, CHANNELS, STEPS, GRID, anchors(count=7))
    with pytest.raises(TrainingError, match="height"):
        teacher(ego_inputs=("height",))
    with pytest.raises(TrainingError, match="make_anchors"):
        build_teacher(small)


def test_a_teacher_is_built_from_a_configuration(small):
    given = torch.zeros(small.commands, small.teacher.candidates, small.steps, 2)
    network = build_teacher(small, given)
    channels = small.world.network.architecture.bev_encoder.channels
    found = network.decode(torch.randn(1, channels, *small.student.bev.shape), torch.tensor([1]))
    assert found.positions.shape == (1, small.teacher.candidates, small.steps, 2)
    assert "anchors" in network.state_dict()
