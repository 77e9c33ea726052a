"""The command comes from route and map alone, early enough and no earlier."""

from __future__ import annotations

import numpy as np
import pytest

from wpt_policy.frame import Command

from wpt_sim.command import LOOK_AHEAD, manoeuvres, route_command
from wpt_sim.episode import make_episode
from wpt_sim.road_map import RoadMap, Turn
from wpt_sim.route import Route, build_route, connections_from, line_length
from wpt_sim.network import load_road_map, network_names


def through(road_map: RoadMap, turn: Turn) -> Route:
    """A route through an ordinary junction with this turn, from a road that has other ways on too."""
    ring = {junction for ring in road_map.roundabouts for junction in ring}
    for connection in road_map.connections:
        junction = road_map.lanes[connection.via[0]].junction if connection.via else None
        edge = road_map.lanes[connection.from_lane].edge
        exits = {
            road_map.lanes[c.to_lane].edge
            for c in road_map.connections
            if road_map.lanes[c.from_lane].edge == edge
        }
        incoming = line_length(road_map.lanes[connection.from_lane].centre_line)
        if connection.turn is turn and junction and junction not in ring and len(exits) > 1 and incoming > 60:
            return build_route(road_map, [connection.from_lane, *connection.via, connection.to_lane])
    pytest.skip(f"network {road_map.name} has no such turn")


@pytest.mark.parametrize(
    ("turn", "command"),
    [(Turn.LEFT, Command.LEFT), (Turn.RIGHT, Command.RIGHT), (Turn.STRAIGHT, Command.STRAIGHT)],
)
def test_a_turn_is_announced_forty_metres_before_and_held_until_it_is_done(turn, command):
    road_map = load_road_map("tuning_00")
    route = through(road_map, turn)
    (manoeuvre,) = manoeuvres(road_map, route)
    assert manoeuvre.command is command
    assert route_command(road_map, route, manoeuvre.begin - LOOK_AHEAD - 1.0) is Command.LANE_FOLLOW
    for s in (manoeuvre.begin - LOOK_AHEAD + 1.0, manoeuvre.begin, 0.5 * (manoeuvre.begin + manoeuvre.end)):
        assert route_command(road_map, route, s) is command
    assert route_command(road_map, route, manoeuvre.end + 1.0) is Command.LANE_FOLLOW


def test_a_left_turn_turns_left():
    """Commands agree with the geometry, whatever the map's words are."""
    for seed in range(12):
        spec = make_episode("tuning", "natural", "natural", seed)
        for manoeuvre in manoeuvres(spec.road_map, spec.route):
            turned = spec.route.at(manoeuvre.end + 4.0)[2] - spec.route.at(manoeuvre.begin - 4.0)[2]
            if manoeuvre.command is Command.LEFT:
                assert turned > 0.3
            if manoeuvre.command is Command.RIGHT:
                assert turned < -0.3


def test_a_mandatory_lane_change_has_its_own_command():
    seen = set()
    for seed in range(8):
        spec = make_episode("tuning", "merging", "lane_change", seed)
        first, second = spec.lanes[:2]
        lane = spec.road_map.lanes[first]
        expected = Command.CHANGE_LANE_LEFT if second == lane.left else Command.CHANGE_LANE_RIGHT
        change = next(m for m in manoeuvres(spec.road_map, spec.route) if m.command is expected)
        x, y, _ = spec.route.at(change.end)
        assert route_command(spec.road_map, spec.route, change.begin + 1.0) is expected
        # At its end the route is on the new lane's centre line.
        assert np.hypot(*(spec.road_map.lanes[second].centre_line - (x, y)).T).min() < 60.0
        seen.add(expected)
    assert seen == {Command.CHANGE_LANE_LEFT, Command.CHANGE_LANE_RIGHT}


def test_a_roundabout_is_one_manoeuvre_by_its_exit():
    found = set()
    for seed in range(16):
        spec = make_episode("tuning", "give_way", "roundabout", seed)
        rings = {junction for ring in spec.road_map.roundabouts for junction in ring}
        inside = [
            m
            for m in manoeuvres(spec.road_map, spec.route)
            if spec.road_map.lanes[spec.route.lane_at(m.begin + 1.0)].junction in rings
        ]
        assert len(inside) == 1
        found.add(inside[0].command)
    assert len(found) >= 2


def test_every_junction_with_a_choice_is_announced():
    """Nowhere does the way leave a road with several exits under LANE_FOLLOW."""
    for split in ("tuning", "dev"):
        for name in network_names(split)[:2]:
            road_map = load_road_map(name)
            for lane, connections in connections_from(road_map).items():
                edges = {road_map.lanes[c.to_lane].edge for c in connections}
                if len(edges) < 2:
                    continue
                for connection in connections:
                    route = build_route(road_map, [lane, *connection.via, connection.to_lane])
                    line_s = route.span(connection.via[0])
                    assert line_s is not None
                    assert route_command(road_map, route, line_s[0] - 5.0) is not Command.LANE_FOLLOW


def test_it_depends_on_route_and_place_alone():
    spec = make_episode("tuning", "give_way", "unprotected_left", 0)
    copy = make_episode("tuning", "give_way", "unprotected_left", 0)
    stations = np.arange(0.0, spec.length, 3.0)
    assert [route_command(spec.road_map, spec.route, s) for s in stations] == [
        route_command(copy.road_map, copy.route, s) for s in stations
    ]
