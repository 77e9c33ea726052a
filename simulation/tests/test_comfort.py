"""The smoothing filter against the defining least squares, and each bound and quirk of the comfort score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_sim.comfort import ComfortError, MotionSamples, comfort, is_comfortable, savitzky_golay

VALUES = np.array([0.0, 1.0, -2.0, 3.5, 4.0, 4.2, -1.0, 0.3, 7.0, 2.0, 2.5])


def samples(
    longitudinal: float | np.ndarray = 0.0,
    lateral: float | np.ndarray = 0.0,
    yaw_rate: float | np.ndarray = 0.0,
    count: int = 20,
) -> MotionSamples:
    rows = [
        np.broadcast_to(np.asarray(v, dtype=float), (count,)).copy()
        for v in (longitudinal, lateral, yaw_rate)
    ]
    return MotionSamples(longitudinal=rows[0], lateral=rows[1], yaw_rate=rows[2])


@pytest.mark.parametrize("derivative", [0, 1, 2])
def test_filter_equals_a_polynomial_fitted_to_each_window(derivative: int) -> None:
    step, count = 0.1, len(VALUES)
    expected = []
    for i in range(count):
        centre = min(max(i, 3), count - 4)  # the outermost whole window serves the ends
        fit = np.polynomial.Polynomial.fit(
            step * np.arange(centre - 3, centre + 4), VALUES[centre - 3 : centre + 4], 2
        )
        expected.append((fit.deriv(derivative) if derivative else fit)(step * i))
    assert savitzky_golay(VALUES, derivative=derivative, step=step) == pytest.approx(np.array(expected))


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.integers(7, 40))
def test_filter_keeps_a_parabola_and_differentiates_it(coefficients: list[float], count: int) -> None:
    t = 0.05 * np.arange(count)
    a, b, c = coefficients
    values = a + b * t + c * t**2
    assert np.allclose(savitzky_golay(values), values, atol=1e-8)
    assert np.allclose(savitzky_golay(values, derivative=1, step=0.05), b + 2 * c * t, atol=1e-6)


def test_filter_refuses_what_it_cannot_fit() -> None:
    with pytest.raises(ComfortError, match="at least 7"):
        savitzky_golay(np.zeros(6))
    with pytest.raises(ComfortError, match="odd window"):
        savitzky_golay(np.zeros(20), window=6)


@pytest.mark.parametrize(
    ("block", "comfortable"),
    [
        (samples(), True),
        (samples(longitudinal=2.3), True),
        (samples(longitudinal=2.5), False),
        (samples(longitudinal=-4.0), True),
        (samples(longitudinal=-4.1), False),
        (samples(lateral=4.8), True),
        (samples(lateral=-4.9), False),
        (samples(yaw_rate=0.9), True),
        (samples(yaw_rate=-1.0), False),
        (samples(longitudinal=0.05 * 4.0 * np.arange(20) - 2.0), True),  # 4.0 m/s3
        (samples(longitudinal=0.05 * 4.3 * np.arange(20) - 2.0), False),
        (samples(lateral=0.05 * 8.0 * np.arange(20) / 2), True),  # magnitude of the jerk 4 m/s3
        (samples(lateral=0.05 * 9.0 * np.arange(20) - 4.3), False),
        (samples(yaw_rate=0.05 * 1.8 * np.arange(20) - 0.9), True),
        (samples(yaw_rate=0.05 * 2.0 * np.arange(20) - 0.94), False),  # 2.0 rad/s2
    ],
)
def test_si_bounds(block: MotionSamples, comfortable: bool) -> None:
    assert is_comfortable(block, "si") is comfortable


def test_b2d_halves_jerk() -> None:
    block = samples(longitudinal=0.05 * 6.0 * np.arange(20) - 4.0)  # 6 m/s3 looks like 3
    assert is_comfortable(block, "b2d")
    assert not is_comfortable(block, "si")


def test_b2d_fails_a_gentle_turn() -> None:
    """0.2 rad/s is 11.5 degrees per second, which is held against 0.95."""
    assert not is_comfortable(samples(yaw_rate=0.2), "b2d")
    assert is_comfortable(samples(yaw_rate=0.2), "si")
    assert is_comfortable(samples(yaw_rate=math.radians(0.9)), "b2d")


def test_b2d_never_differentiates_the_yaw_rate() -> None:
    """A yaw rate that swings within 0.9 degrees per second stays comfortable whatever its slope."""
    swing = np.radians(0.9) * np.sign(np.sin(np.arange(20)))
    assert is_comfortable(samples(yaw_rate=swing), "b2d")


def test_blocks_are_twenty_samples_and_a_short_rest_is_dropped() -> None:
    rough = np.concatenate([np.zeros(20), np.full(20, 3.0), np.full(19, 3.0)])
    assert comfort(samples(longitudinal=rough, count=59), "si") == pytest.approx(0.5)
    assert comfort(samples(count=19), "si") is None


def test_bad_samples_and_variants_are_named() -> None:
    with pytest.raises(ComfortError, match="equal"):
        comfort(MotionSamples(longitudinal=np.zeros(20), lateral=np.zeros(20), yaw_rate=np.zeros(19)), "si")
    with pytest.raises(ComfortError, match="choose one of b2d, si"):
        is_comfortable(samples(), "metric")
