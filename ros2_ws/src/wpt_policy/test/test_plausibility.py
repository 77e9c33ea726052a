"""Which plans are refused, and with which words; whatever a car can do passes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_policy import se3
from wpt_policy.plan import Plan
from wpt_policy.plausibility import PlausibilityLimits, plan_problem

LIMITS = PlausibilityLimits()


def plan(positions: np.ndarray, dt_s: float = 0.5) -> Plan:
    return Plan(reference_stamp_ns=0, positions=np.asarray(positions), dt_s=dt_s, planner="tried")


def driven(speed: float, acceleration: float, curvature: float, steps: int = 6) -> np.ndarray:
    """Positions of a car that keeps its curvature and accelerates evenly, never into reverse."""
    pose, positions = np.eye(4), [np.zeros(2)]
    for _ in range(steps):
        mean = max(0.0, speed + 0.25 * acceleration)
        pose = se3.extrapolate(pose, np.array([mean, 0, 0]), np.array([0, 0, mean * curvature]), 0.5)
        positions.append(pose[:2, 3])
        speed = max(0.0, speed + 0.5 * acceleration)
    return np.array(positions)


@given(st.floats(0.0, 35.0), st.floats(-8.0, 4.0), st.floats(-0.18, 0.18))
def test_everything_a_car_can_do_passes(speed: float, acceleration: float, curvature: float) -> None:
    # Up to 8 m/s2 sideways at the highest speed of the plan; 0.18 is a 5.5 m radius, a car's tightest turn.
    top = max(speed, speed + 3.0 * acceleration, 0.1)
    curvature = math.copysign(min(abs(curvature), 8.0 / top**2), curvature)
    assert plan_problem(plan(driven(speed, acceleration, curvature)), LIMITS, ego_speed=speed) is None


@given(st.floats(0.0, 8.0), st.floats(-0.15, 0.15))
def test_reversing_passes(speed: float, curvature: float) -> None:
    positions = driven(speed, 0.0, curvature)
    positions[:, 0] *= -1.0
    assert plan_problem(plan(positions), LIMITS, ego_speed=-speed) is None


def test_standing_passes() -> None:
    assert plan_problem(plan(np.zeros((7, 2))), LIMITS, ego_speed=0.0) is None


def straight(*steps: float) -> np.ndarray:
    return np.column_stack([np.cumsum([0.0, *steps]), np.zeros(len(steps) + 1)])


@pytest.mark.parametrize(
    ("positions", "ego_speed", "words"),
    [
        (np.zeros((7, 3)), None, r"shape \(7, 3\)"),
        (np.zeros((1, 2)), None, r"shape \(1, 2\)"),
        (straight(1, math.nan, 1), None, "2 values that are not finite|3 values that are not finite"),
        (straight(1, 1) + 0.1, None, r"starts at \(0.100, 0.100\) m"),
        (straight(31, 31), None, r"speed of 62.00 m/s at 0.0 s"),
        (straight(5, 5), 2.0, r"starts at 10.0 m/s while the ego drives 2.0 m/s"),
        (straight(-5, -5), 2.0, r"starts at -10.0 m/s"),
        (
            straight(1, 1, 5, 5),
            None,
            r"acceleration of 16.00 m/s2 at 0.5 s|acceleration of 16.00 m/s2 at 1.0 s",
        ),
        (np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]), None, "curvature of 1.57 1/m"),
        (np.array([[0.0, 0], [0, 2], [0, 4]]), None, "curvature of 1.00 1/m at 0.0 s"),
        (np.array([[0.0, 0], [10, 0], [19, 4]]), None, "lateral acceleration of"),
    ],
)
def test_impossible_plans_are_refused_with_the_reason(
    positions: np.ndarray, ego_speed: float | None, words: str
) -> None:
    problem = plan_problem(plan(positions), LIMITS, ego_speed=ego_speed)
    assert problem is not None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(problem)


def test_a_time_step_of_zero_is_refused() -> None:
    assert "time step" in str(plan_problem(plan(straight(1, 1), dt_s=0.0), LIMITS))
    assert "time step" in str(plan_problem(plan(straight(1, 1), dt_s=math.nan), LIMITS))


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=1, max_size=6))
def test_any_plan_is_judged_without_an_exception(points: list[tuple[float, float]]) -> None:
    problem = plan_problem(plan(np.array([(0.0, 0.0), *points])), LIMITS, ego_speed=3.0)
    assert problem is None or problem.startswith("plan of tried")
