"""Eq 15 and Eq 16 by hand, and which way their gradients go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wpt_policy.policy_config import BevGrid

from wpt_training.configuration import RewardConfig
from wpt_training.errors import TrainingError
from wpt_training.reward.reward_model import RewardLogits, RewardModel
from wpt_training.student.distillation import (
    NEIGHBOURS,
    Target,
    neighbour_changes,
    path_logits,
    path_target,
    policy_loss,
    raw_logits,
    side_by_side,
    smooth_part,
    teacher_choice,
    teacher_target,
    truth_target,
    uses_truth,
    world_reward_loss,
)
from wpt_training.teacher.candidates import Candidates

GRID = BevGrid(x_range_m=(-8.0, 24.0), y_range_m=(-8.0, 8.0), cell_m=2.0, heights_m=(0.0,))
STEPS = 3


class Linear(nn.Module):
    """A reward model whose logits are a * x_T, b * y_T and c: imitation and two rules. It counts its passes."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([2.0, 3.0, 5.0]))
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, features, candidates, *, detach_simulation=None):
        assert detach_simulation is False
        self.passes += 1
        last = candidates[..., -1, :]
        simulation = torch.stack([self.weights[1] * last[..., 1], self.weights[2] + 0 * last[..., 0]], dim=-1)
        return RewardLogits(
            imitation=self.weights[0] * last[..., 0], simulation=simulation, rules=("NC", "DAC")
        )


def frames(batch: int = 1, channels: int = 4) -> torch.Tensor:
    return torch.randn(batch, 1 + STEPS, channels, *GRID.shape, generator=torch.Generator().manual_seed(2))


def plan(x: float, y: float) -> torch.Tensor:
    positions = torch.zeros(1, STEPS, 2)
    positions[0, -1] = torch.tensor([x, y])
    return positions.requires_grad_(True)


def test_policy_loss_is_a_mean_square_without_gradient_into_the_teacher():
    student = torch.zeros(2, STEPS, 4, requires_grad=True)
    teacher = torch.full((2, STEPS, 4), 3.0, requires_grad=True)
    loss = policy_loss(student, teacher)
    loss.backward()
    assert loss.item() == 9.0 and teacher.grad is None and student.grad.abs().sum() > 0


def test_a_projector_bridges_widths_and_is_trained():
    projector = nn.Linear(4, 6)
    student = torch.randn(2, STEPS, 4, requires_grad=True)
    policy_loss(student, torch.randn(2, STEPS, 6), projector).backward()
    assert projector.weight.grad.abs().sum() > 0 and student.grad.abs().sum() > 0
    with pytest.raises(TrainingError, match="the teacher's width"):
        policy_loss(student, torch.randn(2, STEPS, 6))


def test_world_reward_loss_by_hand_in_every_variant():
    reward, positions = Linear(), plan(1.0, 2.0)
    target = Target(torch.tensor([[3.0, 4.0, 5.0]]), torch.tensor([True]))
    # Logits of the student are 2, 6 and 5.
    loss = world_reward_loss(reward, frames(), positions, target)
    assert loss.item() == pytest.approx((1.0 + 4.0 + 0.0) / 3)
    loss.backward()
    # d/dx = 2 * (2 - 3) * 2 / 3, d/dy = 2 * (6 - 4) * 3 / 3.
    assert torch.allclose(positions.grad[0, -1], torch.tensor([-4.0 / 3, 4.0]))
    assert reward.weights.grad is None and reward.passes == 0
    assert world_reward_loss(reward, frames(), plan(1.0, 2.0), target, "imitation").item() == pytest.approx(
        1.0
    )
    unknown = Target(target.logits, torch.tensor([False]))
    assert world_reward_loss(reward, frames(), plan(1.0, 2.0), unknown).item() == 0.0
    with pytest.raises(TrainingError, match="best_per_head"):
        world_reward_loss(reward, frames(), plan(1.0, 2.0), target, "some")


def test_coupled_reaches_the_reward_model():
    reward, positions = Linear(), plan(1.0, 2.0)
    target = Target(torch.tensor([[3.0, 4.0, 5.0]]), torch.tensor([True]))
    world_reward_loss(reward, frames(), positions, target, coupled=True).backward()
    assert reward.weights.grad.abs().sum() > 0 and reward.passes == 1


def test_targets_from_the_teacher():
    logits = torch.tensor([[[1.0, 9.0], [4.0, 2.0], [0.0, 7.0]]], requires_grad=True)
    winner = torch.tensor([1])
    assert teacher_target(logits, winner).logits.tolist() == [[4.0, 2.0]]
    assert teacher_target(logits, winner, "best_per_head").logits.tolist() == [[4.0, 9.0]]
    assert teacher_target(logits, winner).known.tolist() == [True]
    assert not teacher_target(logits, winner).logits.requires_grad
    assert teacher_target(logits, winner, detached=False).logits.requires_grad


def test_targets_from_truth_leave_incomplete_futures_out():
    future = torch.zeros(2, STEPS, 3)
    future[:, -1, :2] = torch.tensor([1.0, 2.0])
    future[1, -1] = float("nan")
    valid = torch.tensor([[True] * 3, [True, True, False]])
    target = truth_target(Linear(), frames(2), future, valid)
    assert target.logits[0].tolist() == [2.0, 6.0, 5.0] and target.known.tolist() == [True, False]
    assert bool(torch.isfinite(target.logits).all()) and not target.logits.requires_grad


def test_the_curriculum_begins_with_truth():
    assert [uses_truth(share, 0.5) for share in (0.0, 0.49, 0.5, 0.9)] == [True, True, False, False]
    assert not uses_truth(0.0, 0.0)


@pytest.mark.parametrize("mode", [True, False])
def test_the_real_reward_model_moves_the_student_through_every_head_and_stays_as_it_is(mode):
    torch.manual_seed(0)
    reward = RewardModel(RewardConfig(channels=16), 4, STEPS, GRID).train(mode)
    before = {name: value.clone() for name, value in reward.state_dict().items()}
    seen = frames()
    with torch.no_grad():
        target = raw_logits(reward, seen, plan(6.0, 1.0).detach().unsqueeze(1))[:, 0]
    for head in range(target.shape[1]):
        positions = plan(3.0, 0.5)
        loss = world_reward_loss(reward, seen, positions, Target(target, torch.tensor([True])))
        logits = raw_logits(reward, seen, positions.unsqueeze(1))
        (gradient,) = torch.autograd.grad(logits[0, 0, head], positions)
        assert gradient.abs().sum() > 0, head
    loss.backward()
    assert all(parameter.grad is None for parameter in reward.parameters())
    assert all(torch.equal(value, before[name]) for name, value in reward.state_dict().items())
    assert side_by_side(reward(seen, positions.unsqueeze(1))).shape == (1, 1, 6)


def test_a_student_learns_to_score_as_its_target():
    torch.manual_seed(0)
    reward = RewardModel(RewardConfig(channels=16), 4, STEPS, GRID).eval()
    seen = frames(4)
    wanted = torch.tensor([2.0, 0.1]) * torch.arange(1, STEPS + 1)[:, None] * torch.ones(4, 1, 1)
    with torch.no_grad():
        target = Target(raw_logits(reward, seen, wanted.unsqueeze(1))[:, 0], torch.ones(4, dtype=torch.bool))
    positions = (wanted + 0.4 * torch.randn(4, STEPS, 2)).requires_grad_(True)
    optimiser = torch.optim.Adam([positions], lr=0.02)
    losses = []
    for _ in range(60):
        loss = world_reward_loss(reward, seen, positions, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def smooth_path(speed: float, acceleration: float, steps: int = STEPS) -> torch.Tensor:
    time = torch.arange(1, steps + 1) / steps
    along = speed * time + acceleration * time.square()
    return torch.stack([along, 0.1 * along], dim=-1).unsqueeze(0)


def test_the_smooth_part_keeps_constant_acceleration_and_drops_the_rest():
    path = smooth_path(20.0, -6.0, steps=6)
    assert torch.allclose(smooth_part(path), path, atol=1e-4)
    shaken = path.clone()
    shaken[0, ::2, 1] += 0.2
    shaken[0, 1::2, 1] -= 0.2
    assert (smooth_part(shaken) - path).norm(dim=-1).mean() < 0.06
    assert torch.allclose(smooth_part(smooth_part(shaken)), smooth_part(shaken), atol=1e-4)


def test_neighbours_are_smooth_and_spread_by_a_share_of_the_length():
    torch.manual_seed(0)
    paths = torch.cat([smooth_path(20.0, 0.0, steps=6), torch.zeros(1, 6, 2)])
    length = 20.0 * 1.01**0.5
    changes = neighbour_changes(paths, 0.1, count=4000)
    assert changes.shape == (2, 4000, 6, 2) and torch.allclose(smooth_part(changes), changes, atol=1e-4)
    # a t + b t^2: variances add to t^2 + t^4. Who stands has no neighbours.
    assert changes[0, :, -1].std() == pytest.approx(0.1 * length * 2.0**0.5, rel=0.05)
    assert changes[0, :, 2].std() == pytest.approx(0.1 * length * (0.5**2 + 0.5**4) ** 0.5, rel=0.05)
    assert not changes[1].any()
    torch.manual_seed(3)
    first = neighbour_changes(paths, 0.1)
    torch.manual_seed(3)
    assert first.shape[1] == NEIGHBOURS and torch.equal(first, neighbour_changes(paths, 0.1))


def test_smoothed_logits_are_the_mean_over_neighbours_by_hand():
    path = smooth_path(3.0, 1.0)
    changes = torch.zeros(1, 2, STEPS, 2)
    changes[0, 0, -1], changes[0, 1, -1] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    # Logits 2 x, 3 y, 5 at (4, 0.4), moved by (1, 0) and by (0, 2).
    found = path_logits(Linear(), frames(), path, changes)[0].tolist()
    assert found == pytest.approx([9.0, 4.2, 5.0], abs=1e-4)
    assert path_target(Linear(), frames(), path, changes).logits[0].tolist() == pytest.approx(found, abs=1e-4)
    assert path_logits(Linear(), frames(), path, None)[0].tolist() == pytest.approx([8.0, 1.2, 5.0])
    # A path that brakes to a stop is judged as it is.
    stop = torch.tensor([[[4.0, 0.0], [5.0, 0.0], [5.0, 0.0]]])
    assert path_logits(Linear(), frames(), stop, torch.zeros(1, 1, STEPS, 2))[0, 0].item() == pytest.approx(10.0, abs=1e-4)


def test_a_smoothed_reward_asks_for_smooth_changes_alone():
    torch.manual_seed(0)
    reward = RewardModel(RewardConfig(channels=16), 4, STEPS, GRID).eval()
    seen, positions = frames(), (smooth_path(9.0, -2.0) + 0.2 * torch.randn(1, STEPS, 2)).requires_grad_(True)
    changes = neighbour_changes(positions, 0.15)
    target = path_target(reward, seen, smooth_path(12.0, 0.0), changes)
    world_reward_loss(reward, seen, positions, target, changes=changes).backward()
    gradient = positions.grad
    assert gradient.abs().sum() > 0 and torch.allclose(smooth_part(gradient), gradient, atol=1e-5)
    same = world_reward_loss(reward, seen, smooth_path(12.0, 0.0), target, changes=changes)
    assert same.item() == pytest.approx(0.0, abs=1e-6)
    assert not target.logits.requires_grad and all(parameter.grad is None for parameter in reward.parameters())
    with pytest.raises(TrainingError, match="do not go together"):
        world_reward_loss(reward, seen, positions, target, changes=changes, coupled=True)


def test_autocast_changes_nothing_of_smoothed_logits():
    torch.manual_seed(0)
    reward = RewardModel(RewardConfig(channels=16), 4, STEPS, GRID).eval()
    seen, positions = frames(), smooth_path(40.0, -3.0)
    torch.manual_seed(1)
    changes = neighbour_changes(positions, 0.15)
    found = path_logits(reward, seen, positions, changes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(1)
        again = neighbour_changes(positions, 0.15)
        assert torch.equal(again, changes) and torch.equal(smooth_part(positions), smooth_part(positions.clone()))
        assert torch.allclose(path_logits(reward, seen, positions, again), found, atol=1e-5)


def candidates() -> Candidates:
    positions = torch.tensor([3.0, 1.0, 2.0]).view(1, 3, 1, 1).expand(2, 3, STEPS, 2)
    return Candidates(positions, positions, torch.zeros(2, 3, STEPS, 4), torch.tensor([[0.0, 1.0, 2.0]] * 2))


def test_every_way_to_choose_the_teacher():
    found, future = candidates(), torch.zeros(2, STEPS, 3)
    valid = torch.ones(2, STEPS, dtype=torch.bool)
    scores = torch.tensor([[5.0, 1.0, 5.0], [0.0, 1.0, 5.0]])
    assert teacher_choice("reward", found, reward_scores=scores).tolist() == [0, 2]
    assert teacher_choice("imitation", found, imitation_logits=scores).tolist() == [0, 2]
    assert teacher_choice("confidence", found).tolist() == [2, 2]
    assert teacher_choice("oracle", found, future=future, future_valid=valid).tolist() == [1, 1]
    seeds = [torch.Generator().manual_seed(7) for _ in range(2)]
    first, again = (teacher_choice("random", found, generator=seed) for seed in seeds)
    assert torch.equal(first, again) and first.shape == (2,)
    for kind in ("reward", "imitation", "oracle", "best"):
        with pytest.raises(TrainingError, match=kind):
            teacher_choice(kind, found)
