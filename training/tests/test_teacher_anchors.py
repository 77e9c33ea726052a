"""Anchors: determinism, coverage, and the four that are made by hand."""

from __future__ import annotations

import pytest
import torch

from wpt_training.errors import TrainingError
from wpt_training.teacher import anchors as module
from wpt_training.teacher.anchors import (
    HARD_BRAKE,
    LATERAL_M,
    LEFT,
    RIGHT,
    STOP,
    along,
    cluster,
    hard_brake,
    make_anchors,
    mean_distance,
    moved_sideways,
    oracle_distance,
)

TIMES = torch.arange(1, 7) * 0.5


def drives(count: int, seed: int = 0) -> torch.Tensor:
    """Straight drives at constant speeds of 0 to 15 m/s."""
    speed = torch.rand(count, generator=torch.Generator().manual_seed(seed)) * 15.0
    return torch.stack([speed[:, None] * TIMES, torch.zeros(count, 6)], dim=-1)


def test_mean_distance_by_hand():
    first = torch.zeros(1, 2, 2)
    second = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    assert mean_distance(first, second).tolist() == [[3.0]]


def test_two_groups_give_their_medians_and_not_their_means():
    near, far = torch.zeros(9, 6, 2), torch.full((3, 6, 2), 20.0)
    near[:, :, 0] = torch.tensor([1.0] * 8 + [4.0])[:, None]  # an outlier moves a mean, not a median
    centres = cluster(torch.cat([near, far]), 2, seed=3)
    assert torch.allclose(centres[0, :, 0], torch.ones(6, dtype=torch.float64), atol=0.02)
    assert torch.allclose(centres[1], torch.full((6, 2), 20.0, dtype=torch.float64), atol=1e-3)


def test_the_same_seed_gives_the_same_anchors_and_another_may_not():
    futures, commands = drives(500), torch.arange(500) % 2
    first = make_anchors(futures, commands, 9, seed=4, command_count=3)
    assert first.shape == (3, 9, 6, 2) and first.dtype == torch.float32
    assert torch.equal(first, make_anchors(futures, commands, 9, seed=4, command_count=3))
    assert not torch.equal(first, make_anchors(futures, commands, 9, seed=5, command_count=3))


def test_every_speed_has_an_anchor():
    futures = drives(2000)
    anchors = make_anchors(futures, torch.zeros(2000, dtype=torch.int64), 20, seed=0)
    distance = oracle_distance(anchors, futures, torch.zeros(2000, dtype=torch.int64))
    # 16 centres over 15 m/s: at most half a metre a second off, over 1.75 s on average.
    assert distance.mean() < 0.45 and distance.max() < 1.6


def test_a_rare_command_borrows_and_keeps_its_own():
    futures, commands = drives(400), torch.zeros(400, dtype=torch.int64)
    turn = drives(150, seed=1)
    turn[:, :, 1] = 12.0 * TIMES
    anchors = make_anchors(
        torch.cat([futures, turn]),
        torch.cat([commands, torch.ones(150, dtype=torch.int64)]),
        12,
        0,
        command_count=4,
    )
    assert oracle_distance(anchors, turn, torch.ones(150, dtype=torch.int64)).mean() < 1.5
    # Commands that never occur have anchors of everything.
    assert oracle_distance(anchors, futures, torch.full((400,), 3)).mean() < 2.5
    assert bool(torch.isfinite(anchors).all())


def test_the_four_made_by_hand():
    futures = torch.stack([10.0 * TIMES, torch.zeros(6)], dim=-1).repeat(300, 1, 1)
    anchors = make_anchors(futures, torch.zeros(300, dtype=torch.int64), 6, seed=0)[0]
    assert torch.equal(anchors[STOP], torch.zeros(6, 2))
    # 10 m/s braking at 4 m/s2: 10 t - 2 t^2 until it stands after 2.5 s and 12.5 m.
    expected = torch.tensor([4.5, 8.0, 10.5, 12.0, 12.5, 12.5])
    assert torch.allclose(anchors[HARD_BRAKE, :, 0], expected, atol=1e-5)
    assert torch.allclose(anchors[LEFT, -1], torch.tensor([30.0, LATERAL_M]), atol=1e-5)
    assert torch.allclose(anchors[RIGHT, -1], torch.tensor([30.0, -LATERAL_M]), atol=1e-5)
    assert 0.0 < anchors[LEFT, 0, 1] < 0.3  # eased in


def test_the_path_goes_straight_on_after_its_end_and_braking_follows_its_bend():
    path = torch.tensor([[2.0, 0.0], [2.0, 2.0]], dtype=torch.float64)
    points = along(path, torch.tensor([1.0, 3.0, 6.0], dtype=torch.float64))
    assert torch.allclose(points, torch.tensor([[1.0, 0.0], [2.0, 1.0], [2.0, 4.0]], dtype=torch.float64))
    braked = hard_brake(path, 0.5)  # 4 m/s: stands after 1 s and 2 m
    assert torch.allclose(braked, torch.tensor([[1.5, 0.0], [2.0, 0.0]], dtype=torch.float64))
    assert torch.allclose(moved_sideways(path, 1.0)[-1], torch.tensor([1.0, 2.0], dtype=torch.float64))


def test_more_clusters_than_different_futures_are_filled_without_nan(monkeypatch):
    monkeypatch.setattr(module, "RESTARTS", 1)
    centres = cluster(drives(3), 8, seed=0)
    assert centres.shape == (8, 6, 2) and bool(torch.isfinite(centres).all())


@pytest.mark.parametrize(
    ("futures", "k", "words"),
    [
        (torch.zeros(10, 6, 2), 20, "none of 10 futures moves"),
        (torch.full((10, 6, 2), float("nan")), 20, "complete futures"),
        (drives(10), 4, "raise teacher.candidates"),
    ],
)
def test_unusable_input_is_named(futures, k, words):
    with pytest.raises(TrainingError, match=words):
        make_anchors(futures, torch.zeros(10, dtype=torch.int64), k, 0)
