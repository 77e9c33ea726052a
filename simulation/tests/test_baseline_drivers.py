"""The baselines do what their names say, and no more."""

from __future__ import annotations

import math

import pytest

from wpt_sim.baseline_drivers import BlindDriver, ConstantVelocityDriver, LaneLeaderDriver, StopDriver
from wpt_sim.ego_vehicle import step_ego
from wpt_sim.episode import DT, make_episode
from wpt_sim.observation import Observation, ObservedActor
from wpt_sim.world_state import ActorKind, EgoPose, Lights, SignalColour


@pytest.fixture(scope="module")
def spec():
    return make_episode("tuning", "give_way", "unprotected_left", 0)


def observation(spec, ego: EgoPose, near: float | None, *actors: ObservedActor, signals=None) -> Observation:
    s, lateral = spec.route.project(ego.x, ego.y, near)
    return Observation(time_s=0.0, ego=ego, s=s, lateral=lateral, actors=actors, signals=signals or {})


def drive(spec, driver, seconds: float, speed: float, actors_at=lambda t: ()) -> tuple[EgoPose, list[float]]:
    x, y, yaw = spec.route.at(0.0)
    ego, s, laterals = EgoPose(x=x, y=y, yaw=yaw, speed=speed), 0.0, []
    for tick in range(round(seconds / DT)):
        seen = observation(spec, ego, s, *actors_at(tick * DT))
        s = seen.s
        laterals.append(abs(seen.lateral))
        ego = step_ego(ego, driver.act(seen))
    return ego, laterals


def leader(spec, s: float, speed: float) -> ObservedActor:
    x, y, yaw = spec.route.at(s)
    return ObservedActor(
        kind=ActorKind.CAR,
        x=x,
        y=y,
        yaw=yaw,
        speed=speed,
        acceleration=0.0,
        length=4.5,
        width=1.8,
        lights=Lights.NONE,
    )


def test_stop_driver_stands():
    spec = make_episode("tuning", "natural", "natural", 0)
    ego, _ = drive(spec, StopDriver(spec.road_map, spec.route), 6.0, 10.0)
    assert ego.speed == 0.0


def test_constant_velocity_driver_keeps_speed_and_direction(spec):
    ego, _ = drive(spec, ConstantVelocityDriver(spec.road_map, spec.route), 3.0, 7.0)
    assert (ego.speed, ego.yaw) == pytest.approx((7.0, math.remainder(spec.route.headings[0], math.tau)))


def test_the_blind_driver_stays_on_the_route_through_the_turn_and_near_the_limit(spec):
    ego, laterals = drive(spec, BlindDriver(spec.road_map, spec.route), 18.0, 8.0)
    assert max(laterals) < 0.5
    assert spec.route.project(ego.x, ego.y)[0] > 80.0


def test_the_blind_driver_sees_neither_signals_nor_others(spec):
    x, y, yaw = spec.route.at(0.0)
    ego = EgoPose(x=x, y=y, yaw=yaw, speed=9.0)
    driver = BlindDriver(spec.road_map, spec.route)
    red = {(c.signal, c.link): SignalColour.RED for c in spec.road_map.connections}
    assert driver.act(observation(spec, ego, None)) == driver.act(
        observation(spec, ego, None, leader(spec, 12.0, 0.0), signals=red)
    )


def test_the_lane_leader_driver_stops_behind_a_standing_car(spec):
    ego, _ = drive(
        spec, LaneLeaderDriver(spec.road_map, spec.route), 14.0, 9.0, lambda t: (leader(spec, 40.0, 0.0),)
    )
    gap = 40.0 - 2.25 - 3.4 - spec.route.project(ego.x, ego.y)[0]
    assert ego.speed < 0.3
    assert 0.5 < gap < 6.0


def test_the_lane_leader_driver_follows_at_the_leaders_speed(spec):
    ego, _ = drive(
        spec,
        LaneLeaderDriver(spec.road_map, spec.route),
        8.0,
        6.0,
        lambda t: (leader(spec, 20.0 + 5.0 * t, 5.0),),
    )
    assert ego.speed == pytest.approx(5.0, abs=1.0)


def test_the_lane_leader_driver_ignores_who_is_beside_its_way(spec):
    x, y, yaw = spec.route.at(0.0)
    ego = EgoPose(x=x, y=y, yaw=yaw, speed=9.0)
    beside = leader(spec, 15.0, 0.0)
    beside = ObservedActor(
        **{
            **{f: getattr(beside, f) for f in beside.__slots__},
            "x": beside.x - 3.4 * math.sin(yaw),
            "y": beside.y + 3.4 * math.cos(yaw),
        }
    )
    driver = LaneLeaderDriver(spec.road_map, spec.route)
    assert driver.act(observation(spec, ego, None, beside)) == driver.act(observation(spec, ego, None))
