"""Comfort ("smoothness") of a drive by Bench2Drive's bounds, with its quirks or in plain SI units.

A drive is cut into blocks of 20 samples at 20 Hz. A block is comfortable when six smoothed signals stay
within bounds; the score is the share of comfortable blocks. Variant "b2d" repeats what Bench2Drive's script
computes and is the only one comparable with published numbers: (1) it takes the step as 0.1 s although
samples are 0.05 s apart, so jerk is halved; (2) its "yaw acceleration" is the smoothed yaw rate once more;
(3) its yaw rate is in degrees per second but held against bounds in radians, so that a gentle turn fails.
Variant "si" does what the names say.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from wpt_sim.errors import SimulationError

BLOCK = 20  # samples
WINDOW, ORDER = 7, 2  # Savitzky-Golay
SAMPLE_S = 0.05
VARIANTS = ("b2d", "si")
# Bench2Drive's bounds, which are nuPlan's: m/s2, m/s3, rad/s2, rad/s.
LONGITUDINAL_ACCELERATION = (-4.05, 2.40)
LATERAL_ACCELERATION = 4.89
JERK_MAGNITUDE = 8.37
LONGITUDINAL_JERK = 4.13
YAW_ACCELERATION = 1.93
YAW_RATE = 0.95


class ComfortError(SimulationError):
    """Samples of unequal length, or an unknown variant."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionSamples:
    """One drive at 20 Hz: longitudinal, lateral (m/s2, left positive) and yaw_rate (rad/s), each (N,)."""

    longitudinal: np.ndarray
    lateral: np.ndarray
    yaw_rate: np.ndarray


@functools.lru_cache(maxsize=8)
def _fit(window: int, order: int) -> np.ndarray:
    """(order + 1, window) least-squares coefficients of a polynomial in sample steps about the window's
    middle.
    """
    positions = np.arange(window) - window // 2
    return np.linalg.pinv(np.vander(positions, order + 1, increasing=True).astype(float))


def savitzky_golay(
    values: np.ndarray, window: int = WINDOW, order: int = ORDER, derivative: int = 0, step: float = 1.0
) -> np.ndarray:
    """Smooth (N,) values, or their derivative per `step`, by local polynomials.

    The ends are taken from the polynomial of the outermost whole window (what SciPy calls mode 'interp').
    Raises ComfortError for fewer values than the window or a window that is even or too short for the order.
    """
    values = np.asarray(values, dtype=float)
    if window % 2 == 0 or window <= order or not 0 <= derivative <= order:
        raise ComfortError(
            f"a window of {window} with order {order} and derivative {derivative} cannot be fitted: take an "
            "odd window larger than the order."
        )
    if values.ndim != 1 or len(values) < window:
        raise ComfortError(f"{values.shape} values were given, expected one row of at least {window}.")
    half = window // 2
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    coefficients = windows @ _fit(window, order).T  # (N - window + 1, order + 1)

    def evaluate(polynomials: np.ndarray, at: np.ndarray) -> np.ndarray:
        result = np.zeros(np.broadcast_shapes(polynomials.shape[:-1], at.shape))
        for power in range(derivative, order + 1):
            scale = math.factorial(power) / math.factorial(power - derivative)
            result += scale * polynomials[..., power] * at.astype(float) ** (power - derivative)
        return result / step**derivative

    middle = evaluate(coefficients, np.zeros(1))
    first = evaluate(coefficients[0], np.arange(-half, 0))
    last = evaluate(coefficients[-1], np.arange(1, half + 1))
    return np.concatenate([first, middle, last])


def is_comfortable(block: MotionSamples, variant: str) -> bool:
    """Whether one block stays within all six bounds. Raises ComfortError."""
    if variant not in VARIANTS:
        raise ComfortError(f"comfort variant {variant!r} is unknown: choose one of {', '.join(VARIANTS)}.")
    quirks = variant == "b2d"
    step = 2 * SAMPLE_S if quirks else SAMPLE_S
    longitudinal = savitzky_golay(block.longitudinal)
    jerk_magnitude = savitzky_golay(np.hypot(block.longitudinal, block.lateral), derivative=1, step=step)
    longitudinal_jerk = savitzky_golay(block.longitudinal, derivative=1, step=step)
    if quirks:
        yaw_rate = savitzky_golay(np.degrees(block.yaw_rate))
        yaw_acceleration = yaw_rate
    else:
        yaw_rate = savitzky_golay(block.yaw_rate)
        yaw_acceleration = savitzky_golay(block.yaw_rate, derivative=1, step=step)
    low, high = LONGITUDINAL_ACCELERATION
    return bool(
        np.all((longitudinal > low) & (longitudinal < high))
        and np.all(np.abs(savitzky_golay(block.lateral)) < LATERAL_ACCELERATION)
        and np.all(np.abs(jerk_magnitude) < JERK_MAGNITUDE)
        and np.all(np.abs(longitudinal_jerk) < LONGITUDINAL_JERK)
        and np.all(np.abs(yaw_acceleration) < YAW_ACCELERATION)
        and np.all(np.abs(yaw_rate) < YAW_RATE)
    )


def comfort(samples: MotionSamples, variant: str) -> float | None:
    """Return the share 0..1 of comfortable blocks; a shorter last block is dropped; None without a whole
    block.
    """
    rows = (samples.longitudinal, samples.lateral, samples.yaw_rate)
    if len({len(row) for row in rows}) != 1:
        raise ComfortError(
            f"comfort signals have {', '.join(str(len(row)) for row in rows)} samples, expected equal "
            "numbers: record all of them each tick."
        )
    passed = []
    for start in range(0, len(rows[0]) - BLOCK + 1, BLOCK):
        cut = slice(start, start + BLOCK)
        block = MotionSamples(
            longitudinal=np.asarray(rows[0][cut]),
            lateral=np.asarray(rows[1][cut]),
            yaw_rate=np.asarray(rows[2][cut]),
        )
        passed.append(is_comfortable(block, variant))
    return sum(passed) / len(passed) if passed else None
