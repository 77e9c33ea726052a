"""Samples of changing motion are found, and seen as often as the configuration says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wpt_training.configuration import EmphasisConfig
from wpt_training.data.changing_motion import changes_of, emphasised_rows
from wpt_training.errors import TrainingError

STEP_S = 0.5
TIMES = STEP_S * np.arange(1, 7)


class Rows:
    """Straight drives: present speed (m/s), constant acceleration (m/s2) down to standstill, number of valid steps."""

    def __init__(self, *drives: tuple[float, float, int]):
        self._fields = {
            "future": np.zeros((len(drives), 6, 3), np.float32),
            "future_valid": np.zeros((len(drives), 6), bool),
            "motion": np.zeros((len(drives), 4), np.float32),
        }
        for row, (speed, acceleration, valid) in enumerate(drives):
            fine = np.arange(0.0, 3.0001, 0.001)
            way = np.cumsum(np.maximum(speed + acceleration * fine, 0.0)) * 0.001
            self._fields["future"][row, :, 0] = np.interp(TIMES, fine, way)
            self._fields["future_valid"][row, :valid] = True
            self._fields["motion"][row, 0] = speed

    def field(self, name: str, rows: torch.Tensor) -> np.ndarray:
        return self._fields[name][rows.numpy()]


def test_the_error_of_going_on_is_worked_out_by_hand() -> None:
    cache = Rows((0.0, 0.0, 6), (8.0, 0.0, 6), (0.0, 2.0, 6), (8.0, 2.0, 2))
    found = changes_of(cache, torch.arange(4), STEP_S)
    started = (TIMES**2).mean()  # a/2 t^2 with 2 m/s2
    expected = [0.0, 0.0, started / 2.0, (TIMES[:2] ** 2).mean() / 10.0]
    np.testing.assert_allclose(found, expected, atol=2e-2)


def test_a_path_that_turns_at_constant_speed_does_not_change() -> None:
    cache = Rows((6.0, 0.0, 6))
    angles = 6.0 * TIMES / 12.0
    cache._fields["future"][0, :, 0], cache._fields["future"][0, :, 1] = 12 * np.sin(angles), 12 * (1 - np.cos(angles))
    assert changes_of(cache, torch.arange(1), STEP_S)[0] < 0.02


def test_rows_are_seen_as_often_as_asked_for() -> None:
    cache = Rows((0.0, 0.0, 6), (8.0, 0.0, 6), (0.0, 2.0, 6), (8.0, -4.0, 6))
    rows = torch.tensor([3, 0, 2, 1])
    found = emphasised_rows(cache, rows, EmphasisConfig(changing_from=0.25, changing=3, starting=5), STEP_S)
    assert {row: int((found == row).sum()) for row in range(4)} == {0: 1, 1: 1, 2: 5, 3: 3}
    assert torch.equal(found[:4], rows)
    once = emphasised_rows(cache, rows, EmphasisConfig(changing=1, starting=1), STEP_S)
    assert torch.equal(once, rows)


def test_a_row_seen_less_than_once_is_refused() -> None:
    with pytest.raises(TrainingError, match="starting"):
        EmphasisConfig(starting=0)
