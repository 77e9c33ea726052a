"""Targets and losses of the perception heads against geometry by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from wpt_policy.policy_config import BevGrid
from wpt_training.data.synthetic_batch import make_batch, small_config
from wpt_training.world.perception_losses import (
    ego_motion_loss,
    route_loss,
    route_target,
    velocity_loss,
    velocity_target,
)

GRID = BevGrid(x_range_m=(-4.0, 8.0), y_range_m=(-4.0, 4.0), cell_m=1.0, heights_m=(0.0,))


def straight_route(points: int = 12) -> torch.Tensor:
    route = torch.full((1, 20, 2), float("nan"))
    route[0, :points] = torch.stack([torch.arange(points).float(), torch.zeros(points)], dim=1)
    return route


def test_a_cell_belongs_to_the_route_by_its_distance():
    target = route_target(straight_route(), GRID)
    assert target.shape == (1, 12, 8)
    # Cell centres at y = 0.5 lie sqrt(0.5) m from the nearest of points 1 m apart, those at y = 1.5 sqrt(2.5).
    beside = target[0, 6]
    assert beside[4].item() == pytest.approx(1.0)
    assert beside[5].item() == pytest.approx(1.75 - math.sqrt(0.25 + 2.25), abs=1e-5)
    assert beside[6].item() == 0.0 and torch.allclose(beside, beside.flip(0))
    assert target[0, 0].max() == 0.0  # 3.5 m behind its start


def test_route_loss_reads_the_command_and_ignores_samples_without_a_route():
    route = torch.cat([straight_route(), torch.full((1, 20, 2), float("nan"))])
    target = route_target(route, GRID)
    logits = torch.zeros(2, 3, 12, 8)
    logits[:, 2] = 20.0 * (target - 0.5)
    command = torch.tensor([2, 2])
    right = route_loss(logits, route, command, GRID)
    assert right < 0.3 and route_loss(logits, route, torch.tensor([1, 2]), GRID) > 1.0
    other = logits.clone()
    other[1] = 7.0
    assert route_loss(other, route, command, GRID) == right
    nothing = logits.clone().requires_grad_()
    route_loss(nothing, route[1:].expand(2, -1, -1), command, GRID).backward()
    assert nothing.grad.abs().sum() == 0.0


def test_velocity_of_what_covers_a_cell():
    config = small_config()
    batch = make_batch(config, 1)
    boxes, velocity, valid = torch.zeros_like(batch.boxes), torch.zeros_like(batch.box_velocity), torch.zeros_like(batch.box_valid)
    boxes[0, 0, 1] = torch.tensor([2.5, 1.0, math.pi / 2, 4.0, 1.0])  # stands across: y from -1 to 3
    velocity[0, 0, 1] = torch.tensor([-3.0, 4.0])
    valid[0, 0, 1] = True
    boxes[0, 0, 2] = torch.tensor([-2.5, -2.5, 0.0, 2.0, 2.0])  # not valid
    batch = dataclasses.replace(batch, boxes=boxes, box_velocity=velocity, box_valid=valid)
    target, covered = velocity_target(batch, GRID)
    assert covered.nonzero()[:, 1:].tolist() == [[6, 3], [6, 4], [6, 5], [6, 6]]
    assert target[0, :, 6, 4].tolist() == [-3.0, 4.0]
    assert velocity_loss(target, batch, GRID).item() == 0.0
    wrong = target.clone()
    wrong[0, 0, 0, 0] = 50.0  # nobody is there
    assert velocity_loss(wrong, batch, GRID).item() == 0.0
    wrong[0, 0, 6, 4] += 10.0  # two units: smooth L1 1.5, one of four cells
    assert velocity_loss(wrong, batch, GRID).item() == pytest.approx(1.5 / 4)


def test_ego_motion_counts_where_a_view_is_remembered():
    config = small_config()
    batch = make_batch(config, 2)
    assert batch.history_valid[:, 0].tolist() == [True, False]
    scales = torch.tensor([5.0, 0.2])
    truth = torch.stack([batch.motion[:, 0], batch.motion[:, 2]], dim=1)
    assert ego_motion_loss(truth, batch, scales).item() == 0.0
    truth[1] += 100.0
    assert ego_motion_loss(truth, batch, scales).item() == 0.0
    truth[0, 0] += 10.0
    assert ego_motion_loss(truth, batch, scales).item() == pytest.approx(1.5)
    none = dataclasses.replace(batch, history_valid=torch.zeros_like(batch.history_valid))
    assert ego_motion_loss(truth, none, scales).item() == 0.0
