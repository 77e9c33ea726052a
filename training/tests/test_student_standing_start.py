"""A moving sample told as if the ego stood: its path from rest by hand, and a memory that shows no motion."""

from __future__ import annotations

import torch

from wpt_policy.network.temporal import BevWarp
from wpt_policy.policy_config import BevGrid

from wpt_training.data.batch import joined
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.student.standing_start import LAUNCH, from_rest, remembered_standing, standing_start

STEP_S = 0.5
TIMES = STEP_S * torch.arange(1, 7)
GRID = BevGrid(x_range_m=(-8.0, 16.0), y_range_m=(-8.0, 8.0), cell_m=1.0, heights_m=(0.0,))


def straight(speed: float) -> torch.Tensor:
    return torch.stack([speed * TIMES, 0 * TIMES, 0 * TIMES], dim=1)[None]


def test_a_fast_drive_starts_as_the_expert_does() -> None:
    found = from_rest(straight(10.0), STEP_S)
    torch.testing.assert_close(found[0, :, 0], 0.5 * LAUNCH * TIMES**2)
    assert float(found[..., 1:].abs().max()) == 0.0


def test_it_is_never_ahead_of_the_drive() -> None:
    torch.testing.assert_close(from_rest(straight(0.2), STEP_S), straight(0.2))
    halting = straight(3.0)
    halting[0, 2:] = halting[0, 2]  # stops after 1.5 s, 4.5 m on
    found = from_rest(halting, STEP_S)[0, :, 0]
    torch.testing.assert_close(found, torch.minimum(0.5 * LAUNCH * TIMES**2, halting[0, :, 0]))
    assert torch.equal(from_rest(torch.zeros(1, 6, 3), STEP_S), torch.zeros(1, 6, 3))


def test_a_turn_is_driven_on_its_own_path_and_headings_do_not_jump() -> None:
    angle = 8.0 * TIMES / 12.0
    circle = torch.stack([12 * angle.sin(), 12 * (1 - angle.cos()), angle], dim=1)[None]
    found = from_rest(circle, STEP_S)[0]
    radius = torch.stack([found[:, 0], found[:, 1] - 12.0], dim=1).norm(dim=1)
    assert float((radius - 12.0).abs().max()) < 0.25  # chords of a circle
    assert bool((found[:, 2].diff() > 0).all()) and float(found[-1, 2]) < float(angle[-1])
    over = circle.clone()
    over[..., 2] = torch.remainder(over[..., 2] + torch.pi + 2.9, 2 * torch.pi) - torch.pi
    assert float(from_rest(over, STEP_S)[0, :, 2].diff().abs().max()) < 2.9


def test_what_stands_does_not_move_in_the_remembered_view() -> None:
    warp = BevWarp(GRID)
    bev = torch.rand(1, 3, *GRID.shape)
    drove = torch.eye(2, 3).repeat(1, 1, 1, 1)
    drove[..., 0, 2] = 4.0  # the earlier base_link was 4 m behind
    history = torch.zeros(1, 1, 3, *GRID.shape)
    history[:, 0, :, 4:] = bev[:, :, :-4]  # the same world, seen from 4 m behind
    stood = remembered_standing(warp, bev, history, drove)
    torch.testing.assert_close(stood[:, 0], bev, rtol=0, atol=1e-5)
    history[:, 0, :, 6, 5] += 9.0  # something else was there: it has moved, not the ego
    changed = (remembered_standing(warp, bev, history, drove)[0, 0] - bev[0]).abs().amax(dim=0) > 1.0
    assert changed.nonzero().tolist() == [[2, 5]]


def test_a_sample_without_history_has_no_future_to_learn(small) -> None:
    batch = make_batch(small, 4)
    stood = standing_start(batch, STEP_S)
    assert torch.equal(stood.future_valid, batch.future_valid & batch.history_valid)
    assert float(stood.motion.abs().max()) == 0.0
    assert torch.equal(stood.earlier_from_present, torch.eye(2, 3).expand_as(stood.earlier_from_present))
    both = joined(batch, stood)
    assert len(both) == 8 and torch.equal(both.images[4:], batch.images)
    assert torch.equal(both.future[:4], batch.future) and torch.equal(both.future[4:], stood.future)

