"""Heading, speed and curvature of plans, by their stated rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_policy import se3
from wpt_policy.frame import Command, CommandSource
from wpt_policy.plan import Plan, PlanFlag, curvatures, headings_and_speeds, moved


def arc(speed: float, yaw_rate: float, steps: int = 6, dt: float = 0.5) -> np.ndarray:
    twist = np.array([speed, 0, 0]), np.array([0, 0, yaw_rate])
    return np.array([se3.extrapolate(np.eye(4), *twist, i * dt)[:2, 3] for i in range(steps + 1)])


def test_straight_driving() -> None:
    headings, speeds = headings_and_speeds(arc(8.0, 0.0), 0.5, ego_speed=7.5)
    np.testing.assert_allclose(headings, 0.0)
    np.testing.assert_allclose(speeds, [7.5, *[8.0] * 6])


@given(st.floats(2.0, 15.0), st.floats(-0.5, 0.5))
def test_a_circle_turns_at_its_yaw_rate(speed: float, yaw_rate: float) -> None:
    headings, speeds = headings_and_speeds(arc(speed, yaw_rate), 0.5)
    # Between neighbours of a circle the chord has exactly the tangent's direction in the middle.
    np.testing.assert_allclose(headings[1:-1], yaw_rate * 0.5 * np.arange(1, 6), atol=1e-9)
    assert math.isclose(headings[-1], yaw_rate * 0.5 * 5.5, abs_tol=1e-9)  # the last chord's
    chord = speed * np.sinc(yaw_rate * 0.25 / math.pi)
    turned = np.r_[headings[1:-1] - yaw_rate * 0.25 - yaw_rate * 0.5 * np.arange(0, 5) - yaw_rate * 0.25]
    np.testing.assert_allclose(turned, 0.0, atol=1e-9)
    np.testing.assert_allclose(speeds[1:], chord, rtol=1e-9)
    np.testing.assert_allclose(curvatures(arc(speed, yaw_rate)), yaw_rate / speed, atol=1e-9)


def test_standing_still_keeps_the_ego_heading() -> None:
    jitter = 0.01 * np.array([[0, 0], [1, 3], [-2, 1], [0, -3], [1, 1], [2, -2], [-1, 0]])
    headings, speeds = headings_and_speeds(jitter, 0.5, ego_speed=0.0)
    np.testing.assert_array_equal(headings, 0.0)
    assert np.abs(speeds).max() < 0.2
    np.testing.assert_array_equal(curvatures(jitter), 0.0)


def test_stopping_keeps_the_last_heading() -> None:
    positions = np.array([[0.0, 0], [2, 2], [4, 4], [4, 4], [4, 4]])
    headings, speeds = headings_and_speeds(positions, 0.5)
    np.testing.assert_allclose(headings[2:], math.pi / 4)
    np.testing.assert_allclose(speeds[3:], 0.0, atol=1e-12)


def test_reversing_keeps_the_heading_and_has_negative_speed() -> None:
    headings, speeds = headings_and_speeds(arc(-3.0, 0.1), 0.5)
    assert np.abs(headings).max() < 0.5
    assert np.all(speeds < 0)


def test_first_speed_is_the_second_where_the_ego_speed_is_unknown() -> None:
    _, speeds = headings_and_speeds(arc(8.0, 0.1), 0.5)
    assert speeds[0] == speeds[1]
    headings, speeds = headings_and_speeds(np.zeros((1, 2)), 0.5)
    assert headings.tolist() == [0.0] and speeds.tolist() == [0.0]


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=2, max_size=8),
    st.floats(-math.pi, math.pi),
)
def test_moved_plans_keep_their_lengths(points: list[tuple[float, float]], yaw: float) -> None:
    positions = np.array(points)
    target_from_source = se3.planar(3.0, -2.0, yaw)
    result = moved(positions, target_from_source)
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(result, axis=0), axis=1),
        np.linalg.norm(np.diff(positions, axis=0), axis=1),
        atol=1e-9,
    )
    np.testing.assert_allclose(moved(result, se3.inverse(target_from_source)), positions, atol=1e-9)


def test_plan_times_and_waypoints() -> None:
    plan = Plan(reference_stamp_ns=5, positions=arc(4.0, 0.0), dt_s=0.5, planner="test")
    np.testing.assert_array_equal(plan.times_s, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    assert plan.waypoints.shape == (6, 2) and plan.flags is PlanFlag.NONE


@pytest.mark.parametrize("kind", [Command, CommandSource])
def test_numbers_of_commands_are_contiguous_from_zero(kind: type) -> None:
    assert [member.value for member in kind] == list(range(len(kind)))


def test_flags_are_single_bits() -> None:
    assert [flag.value for flag in PlanFlag] == [1 << bit for bit in range(7)]
