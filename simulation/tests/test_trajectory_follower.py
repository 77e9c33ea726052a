"""The follower drives plans as they were meant: speed, curve, halt, and plans that come twice a second."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wpt_sim.ego_vehicle import step_ego
from wpt_sim.episode import DT
from wpt_sim.trajectory_follower import TrajectoryFollower
from wpt_sim.world_state import EgoPose

TIMES = np.arange(7) * 0.5


def arc(distances: np.ndarray, curvature: float) -> np.ndarray:
    """Positions (T + 1, 2) in base_link after these metres along an arc."""
    if abs(curvature) < 1e-9:
        return np.stack([distances, np.zeros_like(distances)], axis=1)
    angles = distances * curvature
    return np.stack([np.sin(angles), 1 - np.cos(angles)], axis=1) / curvature


def follow(positions_of, ego: EgoPose, seconds: float, rate: float) -> tuple[EgoPose, list[EgoPose]]:
    """Drive with a new plan (positions_of(ego)) `rate` times a second."""
    follower, every, poses = TrajectoryFollower(), round(1 / (rate * DT)), []
    for tick in range(round(seconds / DT)):
        if tick % every == 0:
            follower.set_plan(positions_of(ego), 0.5, ego, tick * DT)
        ego = step_ego(ego, follower.control(ego, tick * DT))
        poses.append(ego)
    return ego, poses


@pytest.mark.parametrize("rate", [2, 10])
def test_constant_speed_is_kept(rate):
    ego, poses = follow(lambda e: arc(8.0 * TIMES, 0.0), EgoPose(x=0.0, y=0.0, yaw=0.0, speed=8.0), 5.0, rate)
    assert ego.x == pytest.approx(40.0, abs=0.3)
    assert max(abs(p.speed - 8.0) for p in poses) < 0.1
    assert max(abs(p.y) for p in poses) < 1e-6


@given(curvature=st.floats(-0.12, 0.12), speed=st.floats(3.0, 6.0))
@settings(max_examples=25, deadline=None)
def test_circles_are_kept(curvature, speed):
    _, poses = follow(
        lambda e: arc(speed * TIMES, curvature),
        EgoPose(x=0.0, y=0.0, yaw=0.0, speed=speed, steer=math.atan(2.588 * curvature)),
        3.0,
        2,
    )
    for pose in poses:
        expected = arc(np.array([pose_distance(pose, poses)]), curvature)[0]
        assert math.hypot(pose.x - expected[0], pose.y - expected[1]) < 0.35


def pose_distance(pose: EgoPose, poses: list[EgoPose]) -> float:
    """Metres driven until this pose."""
    way = [(0.0, 0.0), *((p.x, p.y) for p in poses[: poses.index(pose) + 1])]
    return sum(math.dist(a, b) for a, b in zip(way, way[1:], strict=False))


def test_constant_braking_to_a_halt_is_reproduced():
    speed, braking = 10.0, 4.0
    distances = np.where(
        TIMES < speed / braking, speed * TIMES - 0.5 * braking * TIMES**2, speed**2 / (2 * braking)
    )
    follower = TrajectoryFollower()
    ego = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=speed, acceleration=-braking)
    follower.set_plan(arc(distances, 0.0), 0.5, ego, 0.0)
    for tick in range(round(2.6 / DT)):
        ego = step_ego(ego, follower.control(ego, tick * DT))
    assert ego.x == pytest.approx(12.5, abs=0.5)
    assert ego.speed < 0.3


def test_a_plan_to_stand_stands_and_steers_no_more():
    ego, _ = follow(lambda e: np.zeros((7, 2)), EgoPose(x=0.0, y=0.0, yaw=0.0, speed=1.5, steer=0.1), 4.0, 2)
    assert ego.speed == 0.0
    assert ego.steer == pytest.approx(0.1)


def test_it_sets_off_from_standstill():
    ego, _ = follow(
        lambda e: arc(np.minimum(e.speed * TIMES + 0.75 * TIMES**2, 99.0), 0.0),
        EgoPose(x=0.0, y=0.0, yaw=0.0, speed=0.0),
        4.0,
        2,
    )
    assert ego.speed == pytest.approx(6.0, abs=0.6)


def test_the_end_of_a_plan_is_braked_for():
    follower = TrajectoryFollower()
    ego = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=6.0)
    follower.set_plan(arc(6.0 * TIMES, 0.0), 0.5, ego, 0.0)
    for tick in range(round(7.0 / DT)):
        ego = step_ego(ego, follower.control(ego, tick * DT))
    assert ego.speed == 0.0


def test_without_a_plan_it_brakes_with_the_wheels_as_they_are():
    control = TrajectoryFollower().control(EgoPose(x=0.0, y=0.0, yaw=0.0, speed=6.0, steer=0.2), 0.0)
    assert control.acceleration < -1.0
    assert control.steer == 0.2


@pytest.mark.parametrize("plan", [np.full((7, 2), math.nan), np.zeros((1, 2)), np.zeros((7, 3))])
def test_unusable_plans_are_refused(plan):
    with pytest.raises(ValueError, match="cannot be followed"):
        TrajectoryFollower().set_plan(plan, 0.5, EgoPose(x=0.0, y=0.0, yaw=0.0, speed=1.0), 0.0)


@given(noise=st.lists(st.floats(-3, 3), min_size=12, max_size=12), speed=st.floats(0, 20))
@settings(max_examples=40, deadline=None)
def test_any_finite_plan_gives_finite_control(noise, speed):
    positions = np.vstack([[0.0, 0.0], np.reshape(noise, (6, 2))])
    follower = TrajectoryFollower()
    ego = EgoPose(x=5.0, y=-3.0, yaw=1.0, speed=speed)
    follower.set_plan(positions, 0.5, ego, 0.0)
    for tick in range(20):
        control = follower.control(ego, tick * DT)
        assert math.isfinite(control.steer) and math.isfinite(control.acceleration)
        ego = step_ego(ego, control)
