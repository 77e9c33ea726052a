"""Losses, targets and combination of rewards against cases computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from wpt_policy.policy_config import BevGrid

from wpt_training.configuration import RULES, RewardConfig
from wpt_training.errors import TrainingError
from wpt_training.reward.combination import choose, combine, combine_targets
from wpt_training.reward.reward_losses import (
    distance_to_future,
    imitation_loss,
    imitation_target,
    reward_targets,
    shuffled_targets,
    simulation_loss,
    stacked,
)
from wpt_training.reward.rules import RuleInputs

WEIGHTS = (0.1, 0.5, 0.5, 1.0)
GRID = BevGrid(x_range_m=(-8.0, 24.0), y_range_m=(-8.0, 8.0), cell_m=0.5, heights_m=(0.0,))


def every(**values: list[float]) -> dict[str, torch.Tensor]:
    """[1, K] by rule; those that are not named are 1."""
    count = len(next(iter(values.values())))
    return {rule: torch.tensor([values.get(rule, [1.0] * count)]) for rule in (*RULES, "TLC", "DDC")}


def test_the_combination_is_equation_14():
    imitation = torch.tensor([[0.7, 0.3]])
    simulation = every(NC=[0.9, 0.5], DAC=[0.8, 1.0], TTC=[0.6, 0.1], EP=[0.4, 1.0], Comf=[0.5, 0.0])
    scores = combine(imitation, simulation, RULES, WEIGHTS)
    first = (
        0.1 * math.log(0.7)
        + 0.5 * math.log(0.9)
        + 0.5 * math.log(0.8)
        + math.log(5 * 0.6 + 5 * 0.4 + 2 * 0.5)
    )
    second = 0.1 * math.log(0.3) + 0.5 * math.log(0.5) + math.log(0.5 + 5.0)
    assert torch.allclose(scores, torch.tensor([[first, second]]), atol=1e-6)


def test_a_rule_left_out_leaves_its_term():
    imitation = torch.tensor([[0.7, 0.3]])
    simulation = every(NC=[0.9, 0.5], TTC=[0.6, 0.1])
    assert torch.allclose(
        combine(imitation, simulation, ("NC", "TTC"), WEIGHTS),
        torch.tensor(
            [
                [
                    0.1 * math.log(p) + 0.5 * math.log(n) + math.log(5 * t)
                    for p, n, t in ((0.7, 0.9, 0.6), (0.3, 0.5, 0.1))
                ]
            ]
        ),
    )
    assert torch.allclose(combine(imitation, {}, (), WEIGHTS), 0.1 * imitation.log())
    assert torch.allclose(combine(None, simulation, ("NC",), WEIGHTS), 0.5 * simulation["NC"].log())
    assert torch.allclose(
        combine(None, every(TLC=[0.5]), ("NC", "TLC"), WEIGHTS), torch.tensor([[0.5 * math.log(0.5)]])
    )
    with pytest.raises(TrainingError, match="neither"):
        combine(None, simulation, (), WEIGHTS)
    with pytest.raises(TrainingError, match="DAC"):
        combine(imitation, {"NC": imitation}, ("NC", "DAC"), WEIGHTS)


def test_zero_probabilities_stay_finite():
    zeros = every(**{rule: [0.0, 0.0] for rule in RULES})
    scores = combine(torch.zeros(1, 2), zeros, RULES, WEIGHTS)
    assert torch.allclose(scores, torch.full((1, 2), 2.1 * math.log(1e-6)))


def test_a_candidate_that_fails_a_gate_is_never_chosen_while_another_passes():
    imitation = torch.tensor([[0.9, 0.05, 0.05]])
    for gate in ("NC", "DAC", "TLC", "DDC"):
        rules = (*RULES, "TLC", "DDC")
        # The only one that passes has nothing else to show.
        targets = every(
            **{gate: [0.0, 0.0, 1.0]}, TTC=[1.0, 1.0, 0.0], EP=[1.0, 1.0, 0.0], Comf=[1.0, 1.0, 0.0]
        )
        scores = combine_targets(imitation, targets, rules, WEIGHTS)
        assert choose(scores).tolist() == [2]
        assert torch.isfinite(scores).all()


def test_without_a_passing_candidate_the_rest_decides():
    imitation = torch.tensor([[0.5, 0.3, 0.2]])
    targets = every(NC=[0.0, 0.0, 1.0], DAC=[1.0, 0.0, 0.0], TTC=[0.0, 1.0, 0.0], EP=[0.5, 0.5, 0.5])
    assert choose(combine_targets(imitation, targets, RULES, WEIGHTS)).tolist() == [1]


def test_among_equals_imitation_decides_and_then_the_first():
    targets = every(NC=[1.0, 1.0, 1.0, 0.0])
    assert choose(
        combine_targets(torch.tensor([[0.2, 0.4, 0.1, 0.3]]), targets, RULES, WEIGHTS)
    ).tolist() == [1]
    assert choose(torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])).tolist() == [1, 0]


def test_a_gate_that_is_left_out_excludes_nobody():
    targets = every(NC=[0.0, 1.0], EP=[1.0, 0.5])
    assert choose(combine_targets(None, targets, RULES, WEIGHTS)).tolist() == [1]
    assert choose(combine_targets(None, targets, ("DAC", "TTC", "EP", "Comf"), WEIGHTS)).tolist() == [0]


def test_the_imitation_target_is_a_softmax_of_minus_the_mean_distance():
    future = torch.zeros(1, 2, 3)
    candidates = torch.tensor(
        [[[[0.0, 0.0], [0.0, 0.0]], [[3.0, 4.0], [0.0, 1.0]]]]
    )  # 0 and (5 + 1) / 2 m away
    both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert distance_to_future(candidates, future, both).tolist() == [[0.0, 3.0]]
    for valid, temperature, apart in ((both, 1.0, 3.0), (both, 2.0, 1.5), (first, 1.0, 5.0)):
        expected = 1.0 / (1.0 + math.exp(-apart))
        assert imitation_target(candidates, future, valid, temperature)[0, 0].item() == pytest.approx(
            expected
        )
    nothing = imitation_target(candidates, future, torch.zeros(1, 2, dtype=torch.bool), 1.0)
    assert nothing.tolist() == [[0.5, 0.5]]


def test_positions_of_steps_that_are_not_valid_may_be_anything():
    future = torch.full((1, 2, 3), math.nan)
    future[:, 0] = 0.0
    target = imitation_target(torch.zeros(1, 3, 2, 2), future, torch.tensor([[True, False]]), 1.0)
    assert torch.allclose(target, torch.full((1, 3), 1 / 3))


def test_the_imitation_loss_is_a_cross_entropy():
    logits = torch.tensor([[math.log(0.6), math.log(0.4)], [5.0, 5.0]], requires_grad=True)
    target = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    first = -(0.25 * math.log(0.6) + 0.75 * math.log(0.4))
    assert imitation_loss(logits, target).item() == pytest.approx((first + math.log(2)) / 2, abs=1e-6)
    assert imitation_loss(logits, target, torch.tensor([True, False])).item() == pytest.approx(
        first, abs=1e-6
    )
    nothing = imitation_loss(logits, target, torch.tensor([False, False]))
    nothing.backward()
    assert nothing.item() == 0.0 and logits.grad.abs().sum() == 0.0


def test_the_simulation_loss_is_a_binary_cross_entropy():
    probability = torch.tensor([[[0.8, 0.3]], [[0.5, 0.5]]])
    target = torch.tensor([[[1.0, 0.25]], [[0.0, 1.0]]])
    each = [-math.log(0.8), -(0.25 * math.log(0.3) + 0.75 * math.log(0.7)), math.log(2), math.log(2)]
    logits = torch.logit(probability)
    assert simulation_loss(logits, target).item() == pytest.approx(sum(each) / 4, abs=1e-6)
    assert simulation_loss(logits, target, torch.tensor([True, False])).item() == pytest.approx(
        sum(each[:2]) / 2, abs=1e-6
    )
    assert simulation_loss(logits, target, torch.tensor([False, False])).item() == 0.0
    assert simulation_loss(logits[..., :0], target[..., :0]).item() == 0.0
    assert torch.isfinite(simulation_loss(torch.full((1, 1, 1), 1e4), torch.zeros(1, 1, 1)))


def test_shuffled_targets_keep_what_there_is_and_follow_from_seed_and_step():
    target = torch.rand(4, 5, 3)
    dealt = shuffled_targets(target, seed=1, step=7)
    assert torch.equal(dealt, shuffled_targets(target, seed=1, step=7))
    assert not torch.equal(dealt, shuffled_targets(target, seed=1, step=8))
    assert not torch.equal(dealt, shuffled_targets(target, seed=2, step=7))
    # Rows of rules stay together, across the whole batch.
    rows = sorted(map(tuple, target.reshape(-1, 3).tolist()))
    assert rows == sorted(map(tuple, dealt.reshape(-1, 3).tolist()))
    assert any(tuple(row) not in set(map(tuple, target[0].tolist())) for row in dealt[0].tolist())


def inputs(samples: int = 2) -> RuleInputs:
    """A straight road of 4 m with a wall of a car at x = 16, the expert stopping before it; sample 1 is not
    valid."""
    x, y = (
        torch.arange(count) * 0.5 + low + 0.25 for count, low in zip(GRID.shape, (-8.0, -8.0), strict=True)
    )
    occupied = ((x > 16) & (x < 20))[:, None] & (y.abs() < 1)[None]
    future = torch.zeros(samples, 6, 3)
    future[..., 0] = torch.tensor([3.0, 5.5, 7.5, 9.0, 10.0, 10.5])
    valid = torch.ones(samples, 6, dtype=torch.bool)
    valid[1:] = False
    return RuleInputs(
        occupied=occupied.expand(samples, 7, -1, -1),
        drivable=(y.abs() < 2)[None].expand(samples, len(x), -1),
        motion=torch.tensor([[6.2, 0.0, 0.0, -2.0]]).expand(samples, -1),
        route=torch.full((samples, 30, 2), math.nan),
        future=future,
        future_valid=valid,
        signal=torch.zeros(samples, dtype=torch.int64),
        stop_line=torch.full((samples, 2, 2), math.nan),
        lane_direction=torch.full((samples, *GRID.shape), math.nan),
        grid=GRID,
    )


def candidates() -> torch.Tensor:
    """The expert's, one that runs into the car, one that leaves the road."""
    expert = inputs().future[..., :2]
    fast, aside = expert.clone(), expert.clone()
    fast[..., 0] = 3.0 * torch.arange(1, 7)
    aside[..., 1] = 0.6 * torch.arange(1, 7)
    return torch.stack([fast, expert, aside], dim=1)


def test_reward_targets_choose_the_safe_candidate_though_it_is_not_first():
    targets = reward_targets(inputs(), candidates(), RewardConfig())
    assert targets.simulation.shape == (2, 3, 5) and targets.imitation.shape == targets.scores.shape == (2, 3)
    assert targets.simulation[0, :, RULES.index("NC")].tolist() == [0.0, 1.0, 1.0]
    assert targets.simulation[0, :, RULES.index("DAC")].tolist() == [1.0, 1.0, 0.0]
    assert targets.chosen[0] == 1
    assert targets.valid.tolist() == [True, False]
    assert targets.simulation[1].min() == 1.0


def test_without_simulation_rules_the_nearest_is_chosen():
    targets = reward_targets(inputs(), candidates(), RewardConfig(rules=()))
    assert targets.simulation.shape == (2, 3, 0)
    assert targets.chosen[0] == 1


def test_imitation_follows_the_anchors_where_they_are_given():
    anchors = candidates().flip(1)
    anchors[:, 1, :, 0] += 4.0  # the expert's own anchor lies far off
    targets = reward_targets(inputs(), candidates(), RewardConfig(), anchors=anchors)
    assert targets.imitation[0].argmax() != 1
    assert targets.simulation[0, 1, RULES.index("NC")] == 1.0


def test_shuffled_targets_are_dealt_before_the_choice():
    config = RewardConfig(shuffled_targets=True)
    with pytest.raises(TrainingError, match="seed, step"):
        reward_targets(inputs(), candidates(), config)
    honest = reward_targets(inputs(), candidates(), RewardConfig())
    dealt = reward_targets(inputs(), candidates(), config, shuffle=(3, 4))
    assert torch.equal(dealt.simulation, shuffled_targets(honest.simulation, 3, 4))
    scores = {rule: dealt.simulation[..., i] for i, rule in enumerate(RULES)}
    assert torch.equal(dealt.scores, combine_targets(dealt.imitation, scores, RULES, config.weights))
    assert torch.equal(dealt.imitation, honest.imitation)


def test_scores_are_stacked_in_the_order_asked_for():
    scores = {"NC": torch.zeros(1, 2), "EP": torch.ones(1, 2)}
    assert stacked(scores, ("EP", "NC"))[0, 0].tolist() == [1.0, 0.0]
    with pytest.raises(TrainingError, match="DAC"):
        stacked(scores, ("NC", "DAC"))
