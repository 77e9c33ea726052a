"""Losses of occupancy and signal against numbers computed by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from wpt_training.data.batch import MOVING, VEHICLE, VULNERABLE
from wpt_training.world.occupancy_losses import (
    binary_cross_entropy,
    current_occupancy_losses,
    frames_valid,
    moving_zone,
    occupancy_losses,
    occupancy_truth,
    soft_iou_loss,
    swept_by_moving,
    world_losses,
)
from wpt_training.world.perception_losses import signal_loss

LOG_2 = math.log(2.0)
# Cross entropy at probability 3/4: of an occupied cell, of a free one.
RIGHT, WRONG = -math.log(0.75), -math.log(0.25)
THREE_QUARTERS = math.log(3.0)  # its logit


def bits(*values: int) -> torch.Tensor:
    """One sample, one frame, a grid of one row."""
    return torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 1, -1)


def test_truth_reads_the_bits():
    occupancy = bits(0, VEHICLE, VULNERABLE | MOVING, VEHICLE | VULNERABLE)
    truth = occupancy_truth(occupancy, torch.tensor([[[True, False, True, False]]]))
    assert truth[0, 0, :, 0].tolist() == [[0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 1, 0]]


def test_swept_cells_stay_swept():
    occupancy = torch.zeros(1, 3, 1, 3, dtype=torch.uint8)
    occupancy[0, 0, 0, 0] = VEHICLE | MOVING
    occupancy[0, 1, 0, 1] = VEHICLE | MOVING
    occupancy[0, 2, 0, 2] = VEHICLE  # stands
    assert swept_by_moving(occupancy)[0, :, 0].tolist() == [
        [True, False, False], [True, True, False], [True, True, False]
    ]  # fmt: skip


def test_cross_entropy_by_hand():
    """Two cells at probability 3/4, the first occupied (weight 3), the second free (weight 1)."""
    logits = torch.full((1, 1, 3, 1, 2), THREE_QUARTERS)
    truth = torch.tensor([1.0, 0.0]).expand(1, 1, 3, 1, 2)
    weight = torch.tensor([3.0, 1.0]).expand(1, 1, 3, 1, 2)
    result = binary_cross_entropy(logits, truth, weight, torch.ones(1, 1, dtype=torch.bool))
    expected = [(3 * positive * RIGHT + WRONG) / 4 for positive in (4.0, 8.0, 1.0)]
    torch.testing.assert_close(result, torch.tensor(expected))


def test_soft_iou_by_hand():
    """Three cells at 1/2, one of them occupied: 0.5 in both, 2 in either, one cell of smoothing on each."""
    logits = torch.zeros(1, 1, 3, 1, 3)
    truth = torch.tensor([1.0, 0.0, 0.0]).expand(1, 1, 3, 1, 3)
    result = soft_iou_loss(logits, truth, torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(result, torch.full((3,), 1.0 - 1.5 / 3.0))


def test_soft_iou_is_pooled_over_the_batch():
    """A sample without the class adds its false alarms to the union and no ratio of its own."""
    logits = torch.zeros(2, 1, 3, 1, 1)
    truth = torch.zeros(2, 1, 3, 1, 1)
    truth[0] = 1.0
    result = soft_iou_loss(logits, truth, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(result, torch.full((3,), 1.0 - 1.5 / 2.5))


def test_frames_that_are_not_valid_do_not_count():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 3, 4, 4, requires_grad=True)
    occupancy = torch.randint(0, 8, (2, 3, 4, 4), dtype=torch.uint8)
    drivable = torch.rand(2, 4, 4) > 0.5
    valid = torch.tensor([[True, True, False], [True, False, False]])
    first = occupancy_losses(logits, occupancy, drivable, valid, 4.0)
    sum(first.values()).backward()
    assert (logits.grad[~valid] == 0).all() and (logits.grad[valid] != 0).all()
    other = occupancy.clone()
    other[~valid] = 0
    # A cell's sweep goes on from frame to frame, and no valid frame follows one that is not.
    second = occupancy_losses(logits, other, drivable, valid, 4.0)
    for name in first:
        torch.testing.assert_close(first[name], second[name], msg=name)


def test_moving_cells_weigh_more_in_vehicle_and_vulnerable_alone():
    """Now: a moving car in cell 0 of 2. Next: it is in cell 1, and cell 0 was swept; all logits 0."""
    occupancy = torch.zeros(1, 2, 1, 2, dtype=torch.uint8)
    occupancy[0, 0, 0, 0] = occupancy[0, 1, 0, 1] = VEHICLE | MOVING
    losses = occupancy_losses(
        torch.zeros(1, 2, 3, 1, 2), occupancy, torch.tensor([[[True, False]]]),
        torch.ones(1, 2, dtype=torch.bool), 4.0,
    )  # fmt: skip
    # Weights: frame 0 is 4, 1; frame 1 is 4, 4. Occupied vehicle cells count four times, and there is one in
    # each frame. Classes weigh 5, 3 and 1.
    assert losses["vehicle_bce"].item() == pytest.approx(5 * LOG_2 * (4 * 4 + 1 + 4 + 4 * 4) / 13)
    assert losses["vulnerable_bce"].item() == pytest.approx(3 * LOG_2)
    assert losses["drivable_bce"].item() == pytest.approx(LOG_2)
    assert losses["vehicle_iou"].item() == pytest.approx(5 * (1.0 - 1.5 / 2.5))
    assert losses["vulnerable_iou"].item() == pytest.approx(3 * (1.0 - 1.0 / 2.0))


def test_the_moving_zone_by_hand():
    """A car in motion passes cells 2 and 5 of ten, another stands in cell 4, a third moves without truth."""
    occupancy = torch.zeros(1, 3, 1, 10, dtype=torch.uint8)
    occupancy[0, 0, 0, 2] = occupancy[0, 1, 0, 5] = VEHICLE | MOVING
    occupancy[0, :, 0, 4] = VEHICLE
    occupancy[0, 2, 0, 9] = VULNERABLE | MOVING
    zone = moving_zone(occupancy, torch.tensor([[True, True, False]]), 1)
    near = [False, True, True, True, False, True, True, False, False, False]
    assert zone[0, :, 0].tolist() == [near, near, near]


def test_what_moves_has_a_term_of_its_own():
    """All logits 0. One moving car of one cell in a row of 20: the zone is its cell and 4 beside it."""
    occupancy = torch.zeros(1, 2, 1, 20, dtype=torch.uint8)
    occupancy[0, :, 0, 10] = VEHICLE | MOVING
    batch = SimpleNamespace(
        occupancy=occupancy, drivable=torch.ones(1, 1, 20).bool(), future_valid=torch.tensor([[True]])
    )
    losses = world_losses(torch.zeros(1, 2, 3, 1, 20), batch, 4.0)
    assert losses["vehicle_moving"].item() == pytest.approx(5 * (1.0 - (0.5 + 1.0) / (4.5 + 1.0 - 0.5 + 1.0)))
    assert losses["vulnerable_moving"].item() == pytest.approx(3 * (1.0 - 1.0 / (4.5 + 1.0)))


def test_the_losses_of_a_batch_mask_by_its_valid_future():
    torch.manual_seed(1)
    batch = SimpleNamespace(
        occupancy=torch.randint(0, 8, (1, 3, 4, 4), dtype=torch.uint8),
        drivable=torch.rand(1, 4, 4) > 0.5,
        future_valid=torch.tensor([[True, False]]),
    )
    assert frames_valid(batch.future_valid).tolist() == [[True, True, False]]
    logits = torch.randn(1, 3, 3, 4, 4)
    losses = world_losses(logits, batch, 4.0)
    valid = torch.ones(1, 2, dtype=torch.bool)
    expected = occupancy_losses(logits[:, :2], batch.occupancy[:, :2], batch.drivable, valid, 4.0)
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name], msg=name)
    now = current_occupancy_losses(logits[:, 0], batch)
    alone = occupancy_losses(logits[:, :1], batch.occupancy[:, :1], batch.drivable, valid[:, :1], 1.0)
    for name in alone:
        torch.testing.assert_close(now[name], alone[name], msg=name)


def test_perfect_logits_have_next_to_no_loss():
    occupancy = bits(VEHICLE, VULNERABLE, 0, 0)
    truth = occupancy_truth(occupancy, torch.tensor([[[True, True, False, False]]]))
    losses = occupancy_losses(
        truth * 40 - 20, occupancy, torch.tensor([[[True, True, False, False]]]), torch.ones(1, 1).bool(), 4.0
    )
    assert sum(losses.values()) < 1e-5


def test_signal_loss_by_hand():
    """A green and a yellow at equal logits: log 4 whatever the weights; a sure yellow counts twice."""
    assert signal_loss(torch.zeros(2, 4), torch.tensor([1, 2])).item() == pytest.approx(math.log(4.0))
    logits = torch.zeros(2, 4)
    logits[1, 2] = math.log(3.0)  # probability 3/6
    expected = (math.log(4.0) + 2.0 * math.log(2.0)) / 3.0
    assert signal_loss(logits, torch.tensor([1, 2])).item() == pytest.approx(expected)
