"""The way that a command means on the lanes around the ego: from map, pose and command, without the route.

A driver that is told "left" looks for the lane that turns left. So does this: of all chains of lanes that go
on from the ego's lane it takes one for which `route_command` would give this very command. It remembers its
chain, as a driver in a roundabout remembers where it came in.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from wpt_policy.frame import Command

from wpt_sim.command import route_command
from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.route import Route, RouteError, build_route, connections_from, line_length, sample_line
from wpt_sim.world_state import EgoPose

AHEAD = 75.0  # metres of lanes wanted beyond the ego
LOST = 4.0  # metres beside its path at which the ego looks for a lane anew
MAX_CHAINS = 64
_HEADING_WEIGHT = 4.0  # metres that a radian of wrong heading counts as, when a first lane is looked for


class CommandedPath:
    """Follows one ego on one map. `path` is None before the first update; s: the ego on it (metres)."""

    def __init__(self, road_map: RoadMap):
        self._road_map = road_map
        self._start = 0.0
        self.path: Route | None = None
        self.s = 0.0
        self.lateral = 0.0

    def update(self, ego: EgoPose, command: Command) -> Route:
        """Return the path ahead for this command; call a few times a second. s and lateral are brought up to
        date.
        """
        if self.path is not None:
            self._locate(ego)
        if self.path is None or abs(self.lateral) > LOST or self.s >= self.path.length - 1.0:
            self._begin(ego)
        self._choose(ego, command)
        return self.path

    def _locate(self, ego: EgoPose) -> None:
        self.s, self.lateral = self.path.project(ego.x, ego.y, near=self.s)

    def _begin(self, ego: EgoPose) -> None:
        """Start on the lane that lies nearest and points most nearly where the ego does, of those on which a path can be
        built: the stump of a lane at the network's edge may be too short for one. Raises RouteError where there is none.
        """
        lanes = []
        for lane in self._road_map.lanes.values():
            if lane.kind in (LaneKind.DRIVING, LaneKind.JUNCTION):
                station, gap, heading = _nearest(lane.centre_line, ego.x, ego.y)
                cost = gap + _HEADING_WEIGHT * abs(math.remainder(heading - ego.yaw, math.tau))
                lanes.append((cost, lane.id, station))
        for _, lane, station in sorted(lanes):
            # build_route needs some metres: an ego at the very end of its lane begins a little earlier.
            start = max(0.0, min(station, line_length(self._road_map.lanes[lane].centre_line) - 1.0))
            for chain in _chains(self._road_map, (lane,), AHEAD + start):
                path = _route(self._road_map, chain, round(start, 1))
                if path is not None:
                    self._start, self.path, self.s = start, path, 0.0
                    self._locate(ego)
                    return
        raise RouteError(f"no lane of the network has a way on for an ego at ({ego.x:.1f}, {ego.y:.1f}).")

    def _choose(self, ego: EgoPose, command: Command) -> None:
        now = self.path.lane_at(self.s)
        driven = self.path.lanes[: self.path.lanes.index(now) + 1]
        need = self.s + AHEAD
        if self.path.length >= need and route_command(self._road_map, self.path, self.s) is command:
            return
        chains = [self.path.lanes, *_chains(self._road_map, driven, need + self._start)]
        if command in (Command.CHANGE_LANE_LEFT, Command.CHANGE_LANE_RIGHT):
            lane = self._road_map.lanes[now]
            beside = lane.left if command is Command.CHANGE_LANE_LEFT else lane.right
            if beside is not None:
                chains += _chains(self._road_map, (*driven, beside), need + self._start)
            chains += _later_changes(self._road_map, driven, command, need + self._start)
        fallback = None
        for chain in chains:
            path = _route(self._road_map, chain, round(self._start, 1))
            if path is None:
                continue
            if route_command(self._road_map, path, self.s) is command:
                if (
                    path.length > self.path.length
                    or route_command(self._road_map, self.path, self.s) is not command
                ):
                    self.path = path
                self._locate(ego)
                return
            if fallback is None and path.length > self.path.length:
                fallback = path
        if fallback is not None:  # no chain means this command: go on somewhere
            self.path = fallback
            self._locate(ego)


@functools.lru_cache(maxsize=4096)
def _route(road_map: RoadMap, chain: tuple[str, ...], start: float) -> Route | None:
    try:
        return build_route(road_map, chain, start)
    except RouteError:
        return None


@functools.lru_cache(maxsize=4096)
def _chains(road_map: RoadMap, driven: tuple[str, ...], metres: float) -> list[tuple[str, ...]]:
    """All chains that begin with `driven` and are `metres` long in all (or end with the network), at most
    MAX_CHAINS.
    """
    done: list[tuple[str, ...]] = []
    open_chains = [driven]
    while open_chains and len(done) + len(open_chains) < 4 * MAX_CHAINS:
        chain = open_chains.pop(0)
        last = chain[-1]
        length = _length(road_map, chain)
        following: list[tuple[str, ...]] = []
        if length < metres:
            if road_map.lanes[last].kind is LaneKind.JUNCTION:
                for connection in road_map.connections:
                    if last in connection.via:
                        rest = connection.via[connection.via.index(last) + 1 :]
                        following.append((*chain, *rest, connection.to_lane))
            else:
                for connection in connections_from(road_map).get(last, ()):
                    following.append((*chain, *connection.via, connection.to_lane))
        following = [f for f in dict.fromkeys(following) if len(set(f)) == len(f)]
        if following:
            open_chains += following
        else:
            done.append(chain)
    return (done + open_chains)[:MAX_CHAINS]


def _length(road_map: RoadMap, chain: tuple[str, ...]) -> float:
    """Metres along a chain; neighbours in it lie side by side and count once."""
    lanes = [road_map.lanes[name] for name in chain]
    beside = {i for i in range(1, len(lanes)) if lanes[i].id in (lanes[i - 1].left, lanes[i - 1].right)}
    return sum(line_length(lane.centre_line) for i, lane in enumerate(lanes) if i not in beside)


def _later_changes(
    road_map: RoadMap, driven: tuple[str, ...], command: Command, metres: float
) -> list[tuple[str, ...]]:
    """Chains that change lane on a lane ahead and not on the present one."""
    found = []
    for chain in _chains(road_map, driven, metres):
        for i in range(len(driven), len(chain)):
            lane = road_map.lanes[chain[i]]
            beside = lane.left if command is Command.CHANGE_LANE_LEFT else lane.right
            if beside is not None and lane.kind is LaneKind.DRIVING:
                found += _chains(road_map, (*chain[: i + 1], beside), metres)
    return found[:MAX_CHAINS]


def _nearest(line: np.ndarray, x: float, y: float) -> tuple[float, float, float]:
    """(station, distance, heading) of the point of a polyline nearest to (x, y), to about half a metre."""
    stations = np.arange(0.0, line_length(line) + 0.5, 0.5)
    points = sample_line(line, stations)
    gaps = np.hypot(*(points - (x, y)).T)
    i = int(np.argmin(gaps))
    a, b = points[max(i - 1, 0)], points[min(i + 1, len(points) - 1)]
    return float(stations[i]), float(gaps[i]), math.atan2(b[1] - a[1], b[0] - a[0])
