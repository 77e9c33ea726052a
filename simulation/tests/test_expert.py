"""The expert's parts on their own, and whole drives of one episode per family."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wpt_sim.closed_loop import drive_route
from wpt_sim.driver_names import make_driver
from wpt_sim.ego_vehicle import HARDEST_BRAKING
from wpt_sim.episode import families, make_episode, scenario_names
from wpt_sim.expert import Expert
from wpt_sim.expert_path import REACH, SideStep, path_from, speed_cap
from wpt_sim.expert_space_time import OthersMotion, PathDiscs, space_time
from wpt_sim.expert_speed_search import COMFORT_BRAKING, Road, search
from wpt_sim.observation import Observation, ObservedActor
from wpt_sim.prediction import TIMES
from wpt_sim.scoring import is_success
from wpt_sim.world_state import ActorKind, EgoPose, Lights


@pytest.fixture(scope="module")
def spec():
    return make_episode("tuning", "overtaking", "parked_vehicle", 0)


def observation(spec, s: float, speed: float, *actors: ObservedActor, **changes) -> Observation:
    x, y, yaw = spec.route.at(s)
    values = dict(
        time_s=0.0, ego=EgoPose(x=x, y=y, yaw=yaw, speed=speed), s=s, lateral=0.0, actors=actors, signals={}
    )
    return Observation(**{**values, **changes})


def car_at(spec, s: float, speed: float = 0.0, lateral: float = 0.0, **changes) -> ObservedActor:
    x, y, yaw = spec.route.at(s)
    values = dict(
        kind=ActorKind.CAR,
        x=x - lateral * math.sin(yaw),
        y=y + lateral * math.cos(yaw),
        yaw=yaw,
        speed=speed,
        acceleration=0.0,
        length=4.5,
        width=1.8,
        lights=Lights.BRAKE if speed == 0 else Lights.NONE,
        still_s=5.0,
    )
    return ObservedActor(**{**values, **changes})


def straight_road(cap: float = 12.0, wall: float = math.inf) -> Road:
    stations = np.arange(REACH + 1.0)
    caps = np.minimum(cap, np.sqrt(2 * 2.2 * np.maximum(wall - stations, 0.0)))
    return Road(cap=caps, wall=wall + 0.5, no_standing=np.zeros(REACH + 1, dtype=bool))


def nobody():
    path = path_from(make_episode("tuning", "overtaking", "parked_vehicle", 0).route, 0.0, None)
    return space_time(PathDiscs(path), [])


def test_a_free_road_is_driven_at_its_limit():
    profile = search(straight_road(), nobody(), 6.0, 0.0)
    assert profile.speeds[-1] == pytest.approx(12.0, abs=1.0)
    assert not profile.contact
    assert np.diff(profile.accelerations).max() <= 3.9 * 1.0 + 0.3


def test_a_wall_is_stopped_at_within_comfort():
    profile = search(straight_road(wall=30.0), nobody(), 10.0, 0.0)
    assert profile.metres[-1] <= 30.5
    assert profile.speeds[-1] < 2.0
    assert profile.accelerations.min() >= COMFORT_BRAKING


def motion_across(at: int, from_t: float, to_t: float):
    """Space and time with one contact: sample `at` +- 2 between two times."""
    free = nobody()
    contact = np.zeros_like(free.contact)
    rows = (from_t <= TIMES) & (to_t >= TIMES)
    contact[np.ix_(rows, np.arange(at - 2, at + 3))] = True
    place = np.where(contact, np.arange(REACH + 1.0)[None], 1000.0)
    gap = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1] - np.arange(REACH + 1.0)[None]
    return type(free)(contact, contact.copy(), gap)


@pytest.mark.parametrize(
    ("at", "from_t", "to_t"), [(30, 2.0, 4.0), (20, 0.0, 6.0), (45, 3.0, 5.0), (12, 0.5, 2.5)]
)
def test_contact_is_avoided_where_braking_can(at, from_t, to_t):
    profile = search(straight_road(), motion_across(at, from_t, to_t), 9.0, 0.0)
    assert not profile.contact
    for t in np.arange(0.0, 6.01, 0.25):
        if from_t <= t <= to_t:
            assert abs(np.interp(t, profile.times, profile.metres) - at) > 1.0


def test_an_unavoidable_contact_is_braked_for_with_everything():
    profile = search(straight_road(), motion_across(8, 0.0, 6.0), 13.0, 0.0)
    assert profile.contact
    assert profile.acceleration(0.05) == pytest.approx(-HARDEST_BRAKING)


def test_space_time_marks_where_boxes_would_touch(spec):
    path = path_from(spec.route, 0.0, None)
    x, y, yaw = path.at(30.0)
    poses = np.tile([x, y, yaw], (len(TIMES), 1))
    taken = space_time(PathDiscs(path), [OthersMotion(poses, 4.0, 1.8)])
    marked = np.flatnonzero(taken.contact[0])
    # Bumper to bumper: from 3.4 m (front) + 2 m before to 0.7 m (rear) + 2 m behind, and the margin.
    assert marked[0] == pytest.approx(30 - 5.4, abs=1.3)
    assert marked[-1] == pytest.approx(30 + 2.7, abs=1.3)
    beside = poses + [-3.3 * math.sin(yaw), 3.3 * math.cos(yaw), 0.0]
    assert not space_time(PathDiscs(path), [OthersMotion(beside, 4.0, 1.8)]).close.any()


def test_speed_cap_brakes_before_what_is_slow(spec):
    path = path_from(spec.route, 0.0, None)
    cap = speed_cap(path, 2.0, [25.0])
    assert cap[25] == 0.0
    assert cap[9] == pytest.approx(8.0, abs=0.1)
    assert (np.diff(cap**2) >= -4.0 - 1e-6).all()


def test_side_step_is_smooth_and_complete():
    step = SideStep(10.0, 22.0, 30.0, 42.0, 2.5)
    offsets = step.at(np.arange(0.0, 60.0, 0.5))
    assert offsets.max() == 2.5 and offsets[0] == offsets[-1] == 0.0
    assert np.abs(np.diff(offsets, 2)).max() < 0.06


def test_a_parked_car_is_driven_around_and_a_waiting_one_is_not(spec):
    parked = car_at(spec, 40.0, lights=Lights.NONE)
    plan = Expert(spec.road_map, spec.route).plan(observation(spec, 22.0, 5.0, parked))
    waiting = Expert(spec.road_map, spec.route).plan(observation(spec, 22.0, 5.0, car_at(spec, 40.0)))
    assert plan.positions[-1, 1] > 1.0
    assert abs(waiting.positions[-1, 1]) < 0.5
    assert waiting.positions[-1, 0] < 40.0 - 22.0 - 2.25 - 3.4


def test_a_parked_car_with_oncoming_traffic_is_waited_for(spec):
    parked = car_at(spec, 40.0, lights=Lights.NONE)
    lane = spec.road_map.lanes[spec.lanes[0]]
    oncoming = car_at(spec, 62.0, speed=10.0, lateral=lane.width)
    oncoming = ObservedActor(
        **{
            **{f: getattr(oncoming, f) for f in oncoming.__slots__},
            "yaw": oncoming.yaw + math.pi,
            "still_s": 0.0,
        }
    )
    free = Expert(spec.road_map, spec.route).plan(observation(spec, 24.0, 6.0, parked))
    plan = Expert(spec.road_map, spec.route).plan(observation(spec, 24.0, 6.0, parked, oncoming))
    assert plan.positions[-1, 0] < free.positions[-1, 0] - 2.0


def test_a_pedestrian_at_the_kerb_who_faces_the_road_is_passed_slowly(spec):
    def plan_past(turn: float):
        x, y, yaw = spec.route.at(30.0)
        walker = ObservedActor(
            kind=ActorKind.PEDESTRIAN,
            x=x + 2.6 * math.sin(yaw),
            y=y - 2.6 * math.cos(yaw),
            yaw=yaw + turn,
            speed=0.0,
            acceleration=0.0,
            length=0.55,
            width=0.65,
            lights=Lights.NONE,
            still_s=6.0,
        )
        return Expert(spec.road_map, spec.route).plan(observation(spec, 5.0, 10.0, walker))

    def steps(plan):
        return np.hypot(*np.diff(plan.positions, axis=0).T)

    assert steps(plan_past(math.pi / 2))[-1] < 4.0 < steps(plan_past(-math.pi / 2))[-1]


def test_a_plan_is_six_waypoints_in_base_link(spec):
    plan = Expert(spec.road_map, spec.route).plan(observation(spec, 5.0, 8.0))
    assert plan.positions.shape == (7, 2)
    assert plan.positions[0] == pytest.approx((0.0, 0.0))
    assert plan.dt_s == 0.5
    assert plan.positions[1, 0] == pytest.approx(4.2, abs=0.4)
    assert (np.diff(plan.positions[:, 0]) > 0).all()


def test_a_second_drive_after_reset_is_the_same(spec):
    expert = Expert(spec.road_map, spec.route)
    first = expert.act(observation(spec, 5.0, 8.0, car_at(spec, 25.0)))
    expert.act(observation(spec, 20.0, 3.0, time_s=4.0))
    expert.reset()
    assert expert.act(observation(spec, 5.0, 8.0, car_at(spec, 25.0))) == first


@pytest.mark.parametrize(
    ("family", "scenario"),
    [("emergency_brake", "crossing_pedestrian"), ("overtaking", "parked_vehicle_two_lanes")],
)
def test_short_drives_are_clean(family, scenario):
    result = drive_route(make_episode("tuning", family, scenario, 0), make_driver("expert"))
    assert is_success(result), [entry.sentence for entry in result.infractions]


@pytest.mark.slow
@pytest.mark.parametrize("family", families())
def test_every_family_is_driven_clean_through_waypoints_and_follower(family):
    for scenario in scenario_names(family)[:2]:
        result = drive_route(
            make_episode("tuning", family, scenario, 0), make_driver("expert_plan", plan_rate=2.0)
        )
        assert is_success(result), [entry.sentence for entry in result.infractions]
