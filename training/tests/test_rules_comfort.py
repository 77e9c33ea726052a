"""Comfort by motions whose accelerations are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wpt_training.reward.comfort import comfort

TIMES = 0.5 * np.arange(1, 7)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def judge(path, motion=(8.0, 0.0, 0.0, 0.0), valid=None) -> float:
    positions = torch.tensor(np.asarray(path), dtype=torch.float32)[None, None]
    known = torch.tensor([[True] * 6 if valid is None else valid])
    return comfort(positions, known, torch.tensor([motion], dtype=torch.float32)).item()


def accelerating(speed: float, acceleration: float) -> np.ndarray:
    return np.stack([speed * TIMES + 0.5 * acceleration * TIMES**2, np.zeros(6)], axis=1)


def circling(speed: float, yaw_rate: float) -> np.ndarray:
    radius = speed / yaw_rate
    return np.stack([radius * np.sin(yaw_rate * TIMES), radius * (1 - np.cos(yaw_rate * TIMES))], axis=1)


@pytest.mark.parametrize(
    ("acceleration", "expected"), [(0.0, 1.0), (2.39, 1.0), (2.45, 0.0), (-4.0, 1.0), (-4.1, 0.0)]
)
def test_a_constant_acceleration_passes_up_to_the_bound(acceleration, expected):
    path = accelerating(15.0, acceleration)
    assert judge(path, (15.0, 0.0, 0.0, acceleration)) == expected


def test_the_first_difference_starts_from_the_speed_now():
    path = accelerating(8.0, 0.0)
    # 0.6 m/s within the first quarter second is 2.4 m/s2; a metre a second is braking with 4.05 at most.
    for speed, expected in ((7.45, 1.0), (7.35, 0.0), (8.95, 1.0), (9.05, 0.0)):
        assert judge(path, (speed, 0.0, 0.0, 0.0)) == expected


def test_a_stop_at_once_is_not_comfortable():
    assert judge(np.zeros((6, 2)), (6.0, 0.0, 0.0, 0.0)) == 0.0
    assert judge(np.zeros((6, 2)), (0.5, 0.0, 0.0, 0.0)) == 1.0


def test_jerk_starts_from_the_acceleration_now():
    # From -2 m/s2 to 0 within 0.5 s is 4 m/s3, from -2.2 it is 4.4; the true speed of a later step plays no
    # part.
    path = accelerating(8.0, 0.0)
    assert judge(path, (8.0, 0.0, 0.0, -2.0)) == 1.0
    assert judge(path, (8.0, 0.0, 0.0, -2.2)) == 0.0


def test_longitudinal_jerk_between_points():
    # Chord speeds 8, 8, 8, then a change of acceleration from 0 to a within 0.5 s.
    for change, expected in ((2.0, 1.0), (2.1, 0.0)):
        speeds = 8.0 + np.array([0, 0, 0, 0.5, 1.0, 1.5]) * change
        path = np.stack([np.cumsum(0.5 * speeds), np.zeros(6)], axis=1)
        assert judge(path) == expected


@pytest.mark.parametrize(
    ("speed", "yaw_rate", "expected"),
    [(10.0, 0.48, 1.0), (10.0, 0.5, 0.0), (3.0, 0.94, 1.0), (3.0, 0.97, 0.0)],
)
def test_lateral_acceleration_and_yaw_rate_have_bounds(speed, yaw_rate, expected):
    # On a circle chords are shorter than arcs: by 1 % at 0.48 rad/s and half a second.
    path = circling(speed, yaw_rate)
    chord = np.hypot(*path[0]) / 0.5
    assert judge(path, (chord, 0.0, yaw_rate, 0.0)) == expected
    assert judge(path * [1, -1], (chord, 0.0, -yaw_rate, 0.0)) == expected


def test_yaw_acceleration_starts_from_the_yaw_rate_now():
    path = circling(3.0, 0.4)
    speed = np.hypot(*path[0]) / 0.5
    assert judge(path, (speed, 0.0, -0.5, 0.0)) == 1.0  # 1.8 rad/s2
    assert judge(path, (speed, 0.0, -0.6, 0.0)) == 0.0  # 2 rad/s2


def test_jerk_magnitude_has_a_bound():
    # Straight on, then suddenly a turn with 4.4 m/s2: 8.8 m/s3 sideways, though each acceleration is allowed.
    for yaw_rate, expected in ((0.40, 1.0), (0.46, 0.0)):
        headings = np.cumsum([0, 0, 0, yaw_rate * 0.5, yaw_rate * 0.5, yaw_rate * 0.5])
        path = np.cumsum(5.0 * np.stack([np.cos(headings), np.sin(headings)], axis=1), axis=0)
        assert judge(path, (10.0, 0.0, 0.0, 0.0)) == expected


def test_standing_still_with_noise_below_the_chord_of_standstill_passes():
    noise = 0.03 * np.array([[1, 1], [-1, 1], [1, -1], [-1, -1], [1, 1], [0, 0]])
    assert judge(noise, (0.0, 0.0, 0.0, 0.0)) == 1.0


def test_only_signals_of_valid_steps_count():
    path = accelerating(8.0, 0.0)
    path[4:] += 5.0
    assert judge(path) == 0.0
    assert judge(path, valid=[True] * 4 + [False] * 2) == 1.0
    assert judge(path + 5.0, valid=[False] * 6) == 1.0
