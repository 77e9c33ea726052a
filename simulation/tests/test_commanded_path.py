"""The way that a command means: found from map, pose and command, and the same as the route's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wpt_policy.frame import Command
from wpt_sim.command import route_command
from wpt_sim.commanded_path import CommandedPath
from wpt_sim.episode import EpisodeSpec, families, make_episode
from wpt_sim.network import load_road_map
from wpt_sim.world_state import EgoPose

LOOK = 25.0  # metres ahead at which path and route are compared


def worst_gap(spec: EpisodeSpec, command: Command | None = None) -> float:
    """Largest distance between commanded path and route, looking ahead from every fourth metre."""
    road_map, route = spec.road_map, spec.route
    follower = CommandedPath(road_map)
    worst = 0.0
    for s in np.arange(0.0, route.length - 35.0, 4.0):
        x, y, yaw = route.at(s)
        told = route_command(road_map, route, s) if command is None else command
        path = follower.update(EgoPose(x=x, y=y, yaw=yaw, speed=8.0), told)
        assert follower.s + 2.0 < path.length
        worst = max(worst, math.dist(path.at(follower.s + LOOK)[:2], route.at(s + LOOK)[:2]))
    return worst


@pytest.mark.parametrize("family", families())
def test_following_commands_is_following_the_route(family: str) -> None:
    gaps = [worst_gap(make_episode("dev", family, None, seed)) for seed in range(6)]
    assert sum(gap < 2.5 for gap in gaps) >= 5, gaps


def test_the_command_and_not_the_route_decides() -> None:
    """Told the contrary at a junction, the path leaves the route."""
    spec = make_episode("dev", "give_way", "unprotected_left", 0)
    road_map, route = spec.road_map, spec.route
    left = next(s for s in np.arange(0.0, route.length) if route_command(road_map, route, s) is Command.LEFT)
    x, y, yaw = route.at(left)
    ends = {}
    for command in (Command.LEFT, Command.STRAIGHT):
        follower = CommandedPath(road_map)
        path = follower.update(EgoPose(x=x, y=y, yaw=yaw, speed=8.0), command)
        ends[command] = math.dist(path.at(follower.s + 65.0)[:2], route.at(left + 65.0)[:2])
    assert ends[Command.LEFT] < 3.0 < ends[Command.STRAIGHT]


def test_an_ego_that_was_carried_away_finds_a_lane_again() -> None:
    spec = make_episode("dev", "natural", None, 0)
    follower = CommandedPath(spec.road_map)
    x, y, yaw = spec.route.at(10.0)
    follower.update(EgoPose(x=x, y=y, yaw=yaw, speed=8.0), Command.LANE_FOLLOW)
    x, y, yaw = spec.route.at(spec.route.length - 20.0)
    follower.update(EgoPose(x=x, y=y, yaw=yaw, speed=8.0), Command.LANE_FOLLOW)
    assert abs(follower.lateral) < 1.0


@pytest.mark.parametrize("network", ["train_00", "dev_00", "test_04"])
def test_a_path_begins_at_the_end_of_any_lane(network: str) -> None:
    """Also of stumps at the network's edge, on which alone no path can be built."""
    road_map = load_road_map(network)
    for lane in list(road_map.lanes.values())[::3]:
        (x0, y0), (x, y) = lane.centre_line[-2][:2], lane.centre_line[-1][:2]
        ego = EgoPose(x=float(x), y=float(y), yaw=math.atan2(y - y0, x - x0), speed=3.0)
        path = CommandedPath(road_map).update(ego, Command.LANE_FOLLOW)
        assert path.length > 0.0
