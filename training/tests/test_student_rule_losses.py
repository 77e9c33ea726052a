"""Soft rule losses by hand: distances off the road, the worst point of the footprint, and where gradients
pull.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from wpt_policy.policy_config import BevGrid

from wpt_training.data.batch import Batch
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.student.rule_losses import drivable_loss, off_drivable_distance, rule_losses
from wpt_training.teacher.planning_losses import FOOTPRINT

GRID = BevGrid(x_range_m=(-16.0, 32.0), y_range_m=(-12.0, 12.0), cell_m=0.5, heights_m=(0.0,))
STEPS = 6


def road(small, half_width: float = 4.0) -> Batch:
    """A straight road along x; the true future drives on it at 8 m/s and nobody is there."""
    batch = make_batch(small, 1)
    y = GRID.y_range_m[0] + (torch.arange(GRID.shape[1]) + 0.5) * GRID.cell_m
    future = torch.zeros(1, STEPS, 3)
    future[..., 0] = 4.0 * torch.arange(1, STEPS + 1)
    return dataclasses.replace(
        batch,
        drivable=(y.abs() < half_width).expand(1, *GRID.shape).clone(),
        future=future,
        future_valid=torch.ones(1, STEPS, dtype=torch.bool),
        box_valid=torch.zeros_like(batch.box_valid),
    )


def beside(y: float) -> torch.Tensor:
    """A plan along the road, y to its left from the first step on, going straight."""
    positions = torch.zeros(1, STEPS, 2)
    positions[..., 0] = 2.0 * torch.arange(1, STEPS + 1)
    positions[..., 1] = y
    return positions


def test_distances_grow_along_axes_and_diagonals():
    drivable = torch.zeros(1, 21, 21, dtype=torch.bool)
    drivable[0, 10, 10] = True
    distance = off_drivable_distance(drivable, 0.5, reach_m=4.0)[0]
    assert distance[10, 10] == 0.0
    assert distance[10, 14].item() == pytest.approx(2.0) and distance[6, 10].item() == pytest.approx(2.0)
    assert distance[14, 14].item() == pytest.approx(8**0.5, rel=0.1)
    assert distance[0, 0].item() == pytest.approx(4.0)  # as far as it reaches
    assert off_drivable_distance(torch.ones(1, 4, 4, dtype=torch.bool), 0.5).abs().sum() == 0


def test_a_plan_on_the_road_costs_nothing(small):
    positions = beside(0.0).requires_grad_(True)
    loss = drivable_loss(positions, road(small), GRID)
    loss.backward()
    assert loss.item() == 0.0 and positions.grad.abs().sum() == 0


def test_off_the_road_costs_what_the_worst_point_is_off_and_pulls_back(small):
    positions = beside(5.0)
    positions[0, 0, 1] = 5.0
    straight = positions.clone().requires_grad_(True)
    loss = drivable_loss(straight, road(small), GRID)
    # From the second step on the car points ahead: its left side is at 5 + 0.925 - 0.25 m, and a cell's
    # centre beyond the edge at 4 m is half a cell nearer than the field says.
    side = 5.0 + 0.5 * FOOTPRINT.width_m - 0.25
    assert loss.item() == pytest.approx(side - 4.0 + 0.25, abs=0.6)
    loss.backward()
    assert bool((straight.grad[0, 1:, 1] > 0).all())


def test_steps_driven_off_the_road_in_truth_and_unknown_ones_are_left_out(small):
    batch = road(small)
    future = batch.future.clone()
    future[..., 1] = 8.0
    assert drivable_loss(beside(6.0), dataclasses.replace(batch, future=future), GRID) == 0
    unknown = dataclasses.replace(
        batch, future_valid=torch.zeros_like(batch.future_valid), future=torch.full_like(future, float("nan"))
    )
    assert drivable_loss(beside(6.0), unknown, GRID) == 0


def test_both_rules_have_a_loss(small):
    losses = rule_losses(beside(5.0), road(small), GRID)
    assert set(losses) == {"rule_collision", "rule_drivable"}
    assert losses["rule_collision"] == 0 and losses["rule_drivable"] > 0
