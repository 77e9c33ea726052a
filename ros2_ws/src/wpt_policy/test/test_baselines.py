"""The planners without a network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_policy import se3
from wpt_policy.baselines import ConstantVelocityPlanner, StopPlanner
from wpt_policy.frame import Command, EgoState, Frame
from wpt_policy.plan import PlanFlag
from wpt_policy.planner import Planner, PlannerError
from wpt_policy.plausibility import PlausibilityLimits, plan_problem


def frame(
    linear: tuple[float, ...] = (0, 0, 0), yaw_rate: float = 0.0, *, extrapolated: bool = False
) -> Frame:
    ego = EgoState(
        stamp_ns=7,
        odom_from_base=se3.planar(100.0, -3.0, 2.0),
        linear_velocity=np.array(linear, dtype=float),
        angular_velocity=np.array([0.0, 0.0, yaw_rate]),
        extrapolated=extrapolated,
    )
    return Frame(reference_stamp_ns=7, views={}, ego=ego, command=Command.STRAIGHT)


@pytest.mark.parametrize("planner", [ConstantVelocityPlanner(), StopPlanner()])
def test_they_are_planners(planner: Planner) -> None:
    assert isinstance(planner, Planner)
    plan = planner.plan(frame((5.0, 0, 0)))
    assert plan.positions.shape == (7, 2) and plan.dt_s == 0.5 and plan.reference_stamp_ns == 7
    np.testing.assert_array_equal(plan.positions[0], 0.0)
    planner.reset()


def test_stop_stays() -> None:
    np.testing.assert_array_equal(StopPlanner().plan(frame((9.0, 0, 0))).positions, 0.0)


def test_constant_velocity_goes_straight_on() -> None:
    plan = ConstantVelocityPlanner().plan(frame((8.0, 0, 0)))
    np.testing.assert_allclose(plan.positions, [[4.0 * i, 0.0] for i in range(7)], atol=1e-12)


@given(st.floats(0.0, 30.0), st.floats(-0.25, 0.25))
def test_constant_velocity_turns_on_a_circle(speed: float, yaw_rate: float) -> None:
    planned = ConstantVelocityPlanner().plan(frame((speed, 0, 0), yaw_rate))
    assert plan_problem(planned, PlausibilityLimits(), ego_speed=speed) is None
    for step, position in enumerate(planned.positions):
        half = 0.5 * yaw_rate * 0.5 * step
        chord = speed * 0.5 * step * np.sinc(half / np.pi)
        np.testing.assert_allclose(position, [chord * np.cos(half), chord * np.sin(half)], atol=1e-6)


def test_constant_velocity_says_when_the_ego_was_extrapolated() -> None:
    assert ConstantVelocityPlanner().plan(frame(extrapolated=True)).flags == PlanFlag.EGO_EXTRAPOLATED
    assert ConstantVelocityPlanner().plan(frame()).flags == PlanFlag.NONE


def test_constant_velocity_needs_the_ego() -> None:
    blind = Frame(reference_stamp_ns=7, views={}, ego=None, command=Command.STRAIGHT)
    with pytest.raises(PlannerError, match="odometry"):
        ConstantVelocityPlanner().plan(blind)
    assert StopPlanner().plan(blind).flags == PlanFlag.NONE
