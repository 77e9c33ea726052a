"""Where Eq 16 pushes a plan, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wpt_training.experiments.slope_report import MOVED_M, _effect, _slope
from wpt_training.reward.reward_model import RewardLogits
from wpt_training.student.distillation import Target

STEPS = 2


class Last(nn.Module):
    """A reward model with one logit: 2 x of the last step."""

    def forward(self, features: Tensor, candidates: Tensor, *, detach_simulation: bool | None = None) -> RewardLogits:
        return RewardLogits(imitation=2.0 * candidates[..., -1, 0], simulation=candidates.new_zeros(*candidates.shape[:2], 0), rules=())


def test_each_sample_has_its_own_gradient_whoever_else_is_known():
    plans = torch.zeros(3, STEPS, 2)
    plans[:, -1, 0] = torch.tensor([1.0, 2.0, 5.0])
    target = Target(torch.tensor([[0.0], [6.0], [0.0]]), torch.tensor([True, True, False]))
    slope = _slope(Last(), torch.zeros(3, 1), plans, target, None)
    # d (2 x - t)^2 / dx = 4 (2 x - t)
    assert slope[:, -1, 0].tolist() == [8.0, -8.0, 0.0] and not slope[:, 0].any() and not slope[..., 1].any()


def test_the_effect_of_a_push_along_and_against_the_way_to_the_truth():
    plans = torch.zeros(2, STEPS, 2)
    future = torch.tensor([3.0, 0.0]).expand(2, STEPS, 2)
    slope = torch.zeros(2, STEPS, 2)
    slope[0, :, 0], slope[1, :, 0] = -4.0, 4.0
    effect = _effect(slope, plans, future, lambda positions: positions[:, -1, :1])
    assert effect[:, 0].tolist() == pytest.approx([32.0**0.5] * 2)
    assert effect[:, 1].tolist() == pytest.approx([1.0, -1.0])
    assert effect[:, 2].tolist() == pytest.approx([-MOVED_M, MOVED_M], abs=1e-6)
    assert effect[:, 3].tolist() == pytest.approx([MOVED_M, -MOVED_M], abs=1e-6)
