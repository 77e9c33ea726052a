"""Losses of plans and teachers against cases worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wpt_scenes.metrics.rectangles import overlap

from wpt_training.configuration import LossWeights
from wpt_training.data.batch import Batch
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.errors import TrainingError
from wpt_training.teacher.candidates import Candidates
from wpt_training.teacher.planning_losses import (
    FOOTPRINT,
    INFLATIONS_M,
    collision_depths,
    collision_loss,
    displacement_loss,
    sideways_loss,
    separation,
)
from wpt_training.teacher.teacher_losses import (
    confidence_loss,
    nearest_candidate,
    teacher_losses,
    trained_candidate,
)

STEPS = 6
PLAIN = (1.0, 0.0, 0.0)


def empty_road(small, size: int = 1) -> Batch:
    """Nobody there; the true future drives on at 10 m/s."""
    batch = make_batch(small, size)
    future = torch.zeros(size, STEPS, 3)
    future[..., 0] = 5.0 * torch.arange(1, STEPS + 1)
    return dataclasses.replace(
        batch,
        future=future,
        future_valid=torch.ones(size, STEPS, dtype=torch.bool),
        boxes=torch.full_like(batch.boxes, float("nan")),
        box_valid=torch.zeros_like(batch.box_valid),
    )


def with_box(batch: Batch, step: int, box: list[float], sample: int = 0) -> Batch:
    """Add a box x, y, yaw, length, width at future step ``step`` (0 the first)."""
    boxes, valid = batch.boxes.clone(), batch.box_valid.clone()
    free = int((~valid[sample, 1 + step]).nonzero()[0])
    boxes[sample, 1 + step, free] = torch.tensor(box)
    valid[sample, 1 + step, free] = True
    return dataclasses.replace(batch, boxes=boxes, box_valid=valid)


def ahead(*metres: float) -> torch.Tensor:
    """A plan straight ahead: [1, T, 2]."""
    return torch.stack([torch.tensor(metres), torch.zeros(len(metres))], dim=-1).unsqueeze(0)


def test_sideways_is_the_distance_across_the_true_heading():
    future = torch.tensor([[[3.0, 0.0, 0.0], [6.0, 4.0, torch.pi / 2], [float("nan")] * 3]])
    valid = torch.tensor([[True, True, False]])
    positions = torch.tensor([[[5.0, -0.5], [7.5, 9.0], [1.0, 1.0]]])
    assert sideways_loss(positions, future, valid).item() == pytest.approx((0.5 + 1.5) / 2, abs=2e-3)
    assert sideways_loss(positions, future, torch.zeros_like(valid)).item() == 0.0
    exact = future[..., :2].nan_to_num().requires_grad_()
    sideways_loss(exact, future, valid).backward()
    assert torch.isfinite(exact.grad).all()


def test_displacement_is_a_mean_of_distances_over_known_steps():
    future = torch.zeros(2, 3, 3)
    future[1, 2] = float("nan")
    valid = torch.tensor([[True, True, False], [True, True, False]])
    positions = torch.zeros(2, 3, 2)
    positions[0, 0] = torch.tensor([3.0, 4.0])
    positions[1, 1] = torch.tensor([0.0, 1.0])
    positions[0, 2] = 100.0  # not known: does not count
    assert displacement_loss(positions, future, valid).item() == pytest.approx((5.0 + 1.0) / 4, abs=2e-3)
    assert displacement_loss(positions, future, torch.zeros_like(valid)).item() == 0.0


def test_an_exact_plan_has_a_finite_gradient():
    positions = torch.zeros(1, 3, 2, requires_grad=True)
    loss = displacement_loss(positions, torch.zeros(1, 3, 3), torch.ones(1, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(1e-3) and torch.equal(positions.grad, torch.zeros(1, 3, 2))


def test_separation_by_hand():
    def of(x: float, y: float, yaw: float) -> float:
        other = torch.tensor([math.cos(yaw), math.sin(yaw)])
        return separation(
            torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0]),
            torch.tensor([x, y]), other, torch.tensor([2.0, 1.0]),
        ).item()  # fmt: skip

    assert of(5.0, 0.0, 0.0) == pytest.approx(1.0)  # 2 + 2 m of half lengths
    assert of(3.5, 0.0, 0.0) == pytest.approx(-0.5)
    assert of(3.0, 1.8, 0.0) == pytest.approx(-0.2)  # the shorter way out is sideways
    assert of(3.5, 0.0, math.pi / 2) == pytest.approx(0.5)
    # A square's corner: 4 x 4 turned by 45 degrees reaches 2.83 m.
    corner = separation(
        torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2.0]),
        torch.tensor([5.0, 0.0]), torch.tensor([math.sqrt(0.5), math.sqrt(0.5)]), torch.tensor([2.0, 2.0]),
    )  # fmt: skip
    assert corner.item() == pytest.approx(5.0 - 2.0 - 2.0 * math.sqrt(2.0), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-6, 6),
    st.floats(-6, 6),
    st.floats(-3.2, 3.2),
    st.floats(-3.2, 3.2),
    st.floats(0.3, 4),
    st.floats(0.3, 3),
)
def test_separation_agrees_with_exact_overlap(x, y, first_yaw, second_yaw, half_length, half_width):
    def unit(yaw: float) -> torch.Tensor:
        return torch.tensor([math.cos(yaw), math.sin(yaw)], dtype=torch.float64)

    half = torch.tensor([2.0, 0.9], dtype=torch.float64)
    other = torch.tensor([half_length, half_width], dtype=torch.float64)
    centre = torch.tensor([x, y], dtype=torch.float64)
    gap = separation(
        torch.zeros(2, dtype=torch.float64), unit(first_yaw), half, centre, unit(second_yaw), other
    ).item()
    touching = overlap(
        torch.zeros(2).numpy(), torch.tensor(first_yaw).numpy(), half.numpy(),
        centre.numpy(), torch.tensor(second_yaw).numpy(), other.numpy(),
    )  # fmt: skip
    if abs(gap) > 1e-4:
        assert bool(touching) == (gap < 0)


def test_a_free_road_costs_nothing_whatever_stands_in_unused_boxes(small):
    batch = empty_road(small, 2)
    positions = torch.zeros(2, STEPS, 2, requires_grad=True)
    loss = collision_loss(positions, batch, LossWeights().collision)
    loss.backward()
    assert loss.item() == 0.0 and torch.equal(positions.grad, torch.zeros_like(positions))


def test_depth_by_hand_for_every_inflation(small):
    front = FOOTPRINT.centre_ahead_m + 0.5 * FOOTPRINT.length_m
    # A plan that stands at x = 0 in step 3; a car whose rear is 0.2 m inside the ego's front there. The true
    # future is 20 m ahead by then.
    batch = with_box(empty_road(small), 3, [front - 0.2 + 2.0, 0.0, 0.0, 4.0, 1.8])
    depths = collision_depths(torch.zeros(1, STEPS, 2), batch)
    assert depths.shape == (len(INFLATIONS_M), 1, STEPS)
    assert torch.allclose(depths[:, 0, 3], torch.tensor([0.2, 0.45, 0.7]), atol=1e-5)
    assert depths[:, 0, [0, 1, 2, 4, 5]].abs().max() == 0.0
    loss = collision_loss(torch.zeros(1, STEPS, 2), batch, (2.5, 1.0, 0.25))
    assert loss.item() == pytest.approx((2.5 * 0.2 + 0.45 + 0.25 * 0.7) / STEPS, abs=1e-5)


def test_the_gradient_pushes_apart(small):
    batch = with_box(empty_road(small), 2, [4.0, 1.5, 0.0, 4.0, 1.8])
    positions = torch.zeros(1, STEPS, 2, requires_grad=True)
    collision_loss(positions, batch, PLAIN).backward()
    # The box is to the left and overlaps least sideways: going right lowers the loss.
    assert positions.grad[0, 2, 1] > 0 and positions.grad[0, 2, 0] == 0
    assert positions.grad[0, [0, 1, 3, 4, 5]].abs().max() == 0


def test_the_box_turns_with_the_plan(small):
    # 5 m to the left of the path's end, where only a car that heads left would reach.
    left = torch.tensor([[[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0], [0.0, 5.0], [0.0, 6.0]]])
    batch = with_box(empty_road(small), 5, [0.0, 9.0, 0.0, 1.0, 1.0])
    assert collision_loss(left, batch, PLAIN) > 0
    standing = left.clone()
    standing[:, :] = torch.tensor([0.0, 0.0])
    assert collision_loss(standing, batch, PLAIN) == 0


def test_boxes_that_the_true_future_overlaps_and_unknown_steps_are_left_out(small):
    road = empty_road(small)
    overlapped = with_box(road, 1, [10.0 + 1.5, 0.0, 0.0, 4.0, 1.8])
    assert collision_loss(ahead(5.0, 10.0, 15.0, 20.0, 25.0, 30.0), overlapped, PLAIN) == 0
    hit = with_box(road, 1, [1.5, 0.0, 0.0, 4.0, 1.8])
    assert collision_loss(torch.zeros(1, STEPS, 2), hit, PLAIN) > 0
    valid = hit.future_valid.clone()
    valid[0, 1] = False
    future = hit.future.clone()
    future[0, 1] = float("nan")
    unknown = dataclasses.replace(hit, future_valid=valid, future=future)
    assert collision_loss(torch.zeros(1, STEPS, 2), unknown, PLAIN) == 0


def candidates(positions: torch.Tensor, confidence: torch.Tensor) -> Candidates:
    return Candidates(positions, positions, torch.zeros(*positions.shape[:3], 4), confidence)


def test_the_nearest_by_known_steps():
    positions = torch.zeros(1, 3, 2, 2)
    positions[0, :, :, 1] = torch.tensor([[2.0, 2.0], [1.0, 0.5], [4.0, 0.0]])
    future = torch.zeros(1, 2, 3)
    both = torch.ones(1, 2, dtype=torch.bool)
    assert nearest_candidate(positions, future, both).tolist() == [1]
    future[0, 0] = float("nan")
    second = torch.tensor([[False, True]])
    assert nearest_candidate(positions, future, second).tolist() == [2]


def test_which_candidate_is_trained(small):
    batch = empty_road(small)
    positions = batch.future[:, None, :, :2] + torch.tensor([2.0, 0.5, 1.0]).view(1, 3, 1, 1)
    found = candidates(positions, torch.zeros(1, 3))
    assert trained_candidate("nearest", found, batch, None).tolist() == [1]
    assert trained_candidate("reward", found, batch, torch.tensor([[0.0, -9.0, 1.0]])).tolist() == [2]
    with pytest.raises(TrainingError, match="reward_targets"):
        trained_candidate("reward", found, batch, None)


def test_confidence_by_hand(small):
    batch = empty_road(small)
    positions = batch.future[:, None, :, :2] + torch.tensor([[[0.0, 0.0]], [[0.0, math.log(3.0)]]])
    target = torch.tensor([0.75, 0.25])  # softmax(0, -ln 3)
    share = torch.tensor([0.5, 0.5])
    found = confidence_loss(candidates(positions, share.log().unsqueeze(0)), batch)
    assert found.item() == pytest.approx(-(target * share.log()).sum().item(), abs=1e-5)
    unknown = dataclasses.replace(batch, future_valid=torch.zeros_like(batch.future_valid))
    assert confidence_loss(candidates(positions, share.unsqueeze(0)), unknown).item() == 0.0


def test_only_the_chosen_candidate_moves_and_the_total_is_the_weighted_sum(small):
    batch = empty_road(small)
    positions = (
        batch.future[:, None, :, :2] + torch.tensor([3.0, 1.0, 2.0]).view(1, 3, 1, 1)
    ).requires_grad_(True)
    first = (batch.future[:, None, :, :2] + torch.tensor([3.0, 1.0, 2.0]).view(1, 3, 1, 1)).requires_grad_(
        True
    )
    confidence = torch.zeros(1, 3, requires_grad=True)
    weights = LossWeights(displacement=2.0, sideways=0.7, confidence=0.5, imitation_reward=0.3, simulation_reward=0.2)
    losses = teacher_losses(
        candidates(positions, confidence), candidates(first, confidence), batch, weights, torch.tensor([2]),
        imitation_reward=torch.tensor(7.0), simulation_reward=torch.tensor(5.0),
    )  # fmt: skip
    root = math.sqrt(2.0)
    assert losses["displacement"].item() == pytest.approx(2.0 * root, abs=1e-3)
    assert losses["first_displacement"].item() == pytest.approx(root, abs=1e-3)
    assert losses["sideways"].item() == pytest.approx(2.0, abs=1e-3)
    expected = 2.0 * 3.0 * root + 0.7 * 2.0 + 0.5 * losses["confidence"].item() + 0.3 * 7.0 + 0.2 * 5.0
    assert losses["total"].item() == pytest.approx(expected, abs=1e-3)
    losses["total"].backward()
    assert [bool(g.abs().sum() > 0) for g in positions.grad[0]] == [False, False, True]
    assert [bool(g.abs().sum() > 0) for g in first.grad[0]] == [False, True, False]
    assert confidence.grad.abs().sum() > 0
