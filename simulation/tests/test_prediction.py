"""Others are predicted from what is seen: along every lane they may take, walkers straight on and over
crossings.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from wpt_sim.network import load_road_map
from wpt_sim.observation import ObservedActor
from wpt_sim.prediction import (
    HORIZON,
    STEP,
    TIMES,
    crossing_poses,
    lane_graph,
    straight_poses,
    travelled,
    vehicle_hypotheses,
)
from wpt_sim.road_map import LaneKind, Turn
from wpt_sim.route import connections_from, line_length, sample_line
from wpt_sim.world_state import ActorKind, Lights


@pytest.fixture(scope="module")
def road_map():
    return load_road_map("tuning_00")


def on_lane(road_map, name: str, from_end: float, speed: float = 8.0, **changes) -> ObservedActor:
    line = road_map.lanes[name].centre_line
    s = line_length(line) - from_end
    (x, y), (u, v) = sample_line(line, np.array([s, s + 0.5]))
    values = dict(
        kind=ActorKind.CAR,
        x=x,
        y=y,
        yaw=math.atan2(v - y, u - x),
        speed=speed,
        acceleration=0.0,
        length=4.5,
        width=1.8,
        lights=Lights.NONE,
    )
    return ObservedActor(**{**values, **changes})


def lane_with_turns(road_map, *turns: Turn) -> str:
    for name, connections in connections_from(road_map).items():
        if {c.turn for c in connections} >= set(turns) and line_length(road_map.lanes[name].centre_line) > 60:
            return name
    pytest.skip("no lane with these turns")


def test_travelled_keeps_speed_brakes_to_a_halt_and_believes_acceleration_for_a_second():
    assert travelled(10.0, 0.0, TIMES) == pytest.approx(10.0 * TIMES)
    assert travelled(6.0, -3.0, TIMES).max() == pytest.approx(6.0)
    gaining = travelled(5.0, 2.0, TIMES)
    assert np.diff(gaining)[-1] / STEP == pytest.approx(7.0)


def test_every_connection_of_the_lane_is_possible_without_an_indicator_far_away(road_map):
    lane = lane_with_turns(road_map, Turn.STRAIGHT, Turn.RIGHT)
    exits = {c.to_lane for c in connections_from(road_map)[lane]}
    far = vehicle_hypotheses(lane_graph(road_map), on_lane(road_map, lane, 55.0, speed=10.5))
    reached = {name for h in far for name in h.way.lanes}
    assert exits <= reached


@pytest.mark.parametrize(("lights", "turn"), [(Lights.RIGHT, Turn.RIGHT), (Lights.NONE, Turn.STRAIGHT)])
def test_near_the_junction_the_indicator_decides(road_map, lights, turn):
    lane = lane_with_turns(road_map, Turn.STRAIGHT, Turn.RIGHT)
    chosen = {c.via[0] for c in connections_from(road_map)[lane] if c.turn is turn}
    found = vehicle_hypotheses(lane_graph(road_map), on_lane(road_map, lane, 12.0, lights=lights))
    along = [h for h in found if h.way.lanes[0] == lane and len(h.way.lanes) > 1]
    assert along
    assert {h.way.lanes[1] for h in along} <= chosen


def test_poses_stay_on_the_lanes_and_move_at_the_speed(road_map):
    graph = lane_graph(road_map)
    lane = lane_with_turns(road_map, Turn.STRAIGHT)
    for hypothesis in vehicle_hypotheses(graph, on_lane(road_map, lane, 30.0)):
        poses = hypothesis.poses()
        steps = np.hypot(*np.diff(poses[:, :2], axis=0).T)
        assert steps == pytest.approx(8.0 * STEP, rel=0.12)
        lines = np.vstack(
            [
                sample_line(road_map.lanes[name].centre_line, np.arange(0, 200, 0.5))
                for name in hypothesis.way.lanes
            ]
        )
        for x, y, _ in poses:
            assert np.hypot(*(lines - (x, y)).T).min() < 0.8


def test_one_who_is_expected_to_wait_halts_there(road_map):
    lane = lane_with_turns(road_map, Turn.STRAIGHT)
    hypothesis = vehicle_hypotheses(lane_graph(road_map), on_lane(road_map, lane, 30.0))[0]
    stop = hypothesis.s + 20.0
    poses = hypothesis.poses(stop_at=stop)
    assert math.dist(poses[0, :2], poses[-1, :2]) == pytest.approx(20.0, abs=0.7)


def test_an_indicator_on_a_road_with_two_lanes_announces_a_lane_change(road_map):
    lane = next(
        lane
        for lane in road_map.lanes.values()
        if lane.kind is LaneKind.DRIVING
        and lane.left
        and road_map.lanes[lane.left].kind is LaneKind.DRIVING
        and line_length(lane.centre_line) > 60
    )
    plain = vehicle_hypotheses(lane_graph(road_map), on_lane(road_map, lane.id, 45.0))
    lit = vehicle_hypotheses(lane_graph(road_map), on_lane(road_map, lane.id, 45.0, lights=Lights.LEFT))
    assert all(h.way.lanes[0] == lane.id for h in plain)
    change = next(h for h in lit if h.way.lanes[0] == lane.left)
    poses = change.poses()
    assert (
        math.dist(poses[0, :2], (on_lane(road_map, lane.id, 45.0).x, on_lane(road_map, lane.id, 45.0).y))
        < 0.7
    )
    target = sample_line(road_map.lanes[lane.left].centre_line, np.arange(0, 300, 0.5))
    assert np.hypot(*(target - poses[12, :2]).T).min() < 0.5


def test_walkers_go_straight_on_and_standing_ones_stay():
    walker = ObservedActor(
        kind=ActorKind.PEDESTRIAN,
        x=3.0,
        y=4.0,
        yaw=math.pi / 2,
        speed=1.5,
        acceleration=0.0,
        length=0.5,
        width=0.6,
        lights=Lights.NONE,
    )
    assert straight_poses(walker)[-1] == pytest.approx((3.0, 4.0 + 1.5 * HORIZON, math.pi / 2))


def test_a_walker_at_a_crossing_may_step_onto_it(road_map):
    crossing = next(lane for lane in road_map.lanes.values() if lane.kind is LaneKind.CROSSING)
    a, b = crossing.centre_line[0], crossing.centre_line[-1]
    across = math.atan2(b[1] - a[1], b[0] - a[0])

    def walker(x, y, yaw, speed):
        return ObservedActor(
            kind=ActorKind.PEDESTRIAN,
            x=x,
            y=y,
            yaw=yaw,
            speed=speed,
            acceleration=0.0,
            length=0.5,
            width=0.6,
            lights=Lights.NONE,
        )

    at_kerb = walker(*a, across, 1.3)
    poses = crossing_poses(road_map, at_kerb, crossing.id, 1.4)
    assert math.dist(poses[8, :2], a) == pytest.approx(2.8)
    assert (
        crossing_poses(
            road_map,
            walker(a[0] - 30 * math.cos(across), a[1] - 30 * math.sin(across), across, 1.3),
            crossing.id,
            1.4,
        )
        is None
    )
    assert crossing_poses(road_map, walker(*a, across + math.pi, 1.3), crossing.id, 1.4) is None
