"""The kinematic bicycle: arcs, limits, no rolling back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_sim.ego_vehicle import HARDEST_BRAKING, MAX_STEER, MAX_STEER_RATE, Control, step_ego
from wpt_sim.episode import DT
from wpt_sim.vehicles import EGO_WHEELBASE
from wpt_sim.world_state import EgoPose


def driven(ego: EgoPose, control: Control, steps: int) -> EgoPose:
    for _ in range(steps):
        ego = step_ego(ego, control)
    return ego


def test_straight_at_constant_speed():
    ego = driven(EgoPose(x=1.0, y=2.0, yaw=math.pi / 2, speed=10.0), Control(steer=0.0, acceleration=0.0), 40)
    assert (ego.x, ego.y, ego.speed) == pytest.approx((1.0, 22.0, 10.0))


def test_full_circle_closes_with_the_bicycles_radius():
    steer, speed = 0.3, 5.0
    radius = EGO_WHEELBASE / math.tan(steer)
    steps = 400
    dt = 2 * math.pi * radius / speed / steps
    ego = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=speed, steer=steer)
    furthest = 0.0
    for _ in range(steps):
        ego = step_ego(ego, Control(steer=steer, acceleration=0.0), dt)
        furthest = max(furthest, math.hypot(ego.x, ego.y))
    assert (ego.x, ego.y) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert furthest == pytest.approx(2 * radius, rel=1e-3)


def test_braking_stops_at_the_physical_distance_and_stays():
    start = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=12.0, acceleration=-4.0)
    ego = driven(start, Control(steer=0.0, acceleration=-4.0), 100)
    assert ego.speed == 0.0
    assert ego.x == pytest.approx(12.0**2 / 8.0, rel=0.01)
    assert driven(ego, Control(steer=0.0, acceleration=-4.0), 20).x == ego.x


def test_a_value_that_is_not_finite_brakes_straight():
    ego = driven(
        EgoPose(x=0.0, y=0.0, yaw=0.0, speed=8.0), Control(steer=math.nan, acceleration=math.inf), 60
    )
    assert ego.speed == 0.0
    assert ego.yaw == 0.0


@given(
    steer=st.floats(-3, 3),
    acceleration=st.floats(-30, 30),
    speed=st.floats(0, 25),
    before=st.floats(-0.6, 0.6),
)
def test_limits_hold_for_every_control(steer, acceleration, speed, before):
    ego = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=speed, steer=before)
    after = step_ego(ego, Control(steer=steer, acceleration=acceleration))
    assert 0.0 <= after.speed
    assert abs(after.steer) <= MAX_STEER + 1e-9
    assert abs(after.steer - before) <= MAX_STEER_RATE * DT + 1e-9
    assert after.speed >= speed - HARDEST_BRAKING * DT - 1e-9
    assert math.hypot(after.x, after.y) <= max(speed, after.speed) * DT + 1e-9
