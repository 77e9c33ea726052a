"""A route: the way an ego is asked to drive, as a chain of lanes and as a smooth line with a point every
metre.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpt_sim.road_map import Connection, Lane, LaneKind, RoadMap

SPACING = 1.0  # metres between route points
FINE = 0.5  # metres between samples while building
SMOOTHING = 2.0  # metres, standard deviation: rounds the vertices of SUMO's lane polylines
CHANGE_START = 0.25  # share of the shared lane's length at which a lane change begins
CHANGE_TIME = 3.0  # seconds that a lane change takes at the speed limit (at least SHORTEST_CHANGE metres)
SHORTEST_CHANGE = 20.0


class RouteError(ValueError):
    """The lanes do not form a drivable chain on this road map."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """lanes: ids in driving order, junction lanes included; a neighbour after its neighbour means a lane
    change.

    points: (N, 2) map metres, one per metre from s = 0; headings: (N,) rad, smooth, not wrapped;
    speed_limits: (N,) m/s (in junctions SUMO's turning speed, 3 m/s2 lateral); lane_index: (N,) index into
    lanes; length: metres.
    """

    lanes: tuple[str, ...]
    points: np.ndarray
    headings: np.ndarray
    speed_limits: np.ndarray
    lane_index: np.ndarray
    length: float

    def project(
        self, x: float, y: float, near: float | None = None, window: float = 30.0
    ) -> tuple[float, float]:
        """(s, lateral) of the nearest route point to (x, y); lateral is positive to the left.

        s lies in [0, length]. near: an s known from before; then only points within `window` metres of it
        count (a route may come close to itself).
        """
        first, last = 0, len(self.points) - 1
        if near is not None:
            first = min(max(0, int(near - window)), last - 1)
            last = max(min(last, int(near + window) + 1), first + 1)
        start = self.points[first:last]
        along = self.points[first + 1 : last + 1] - start
        offset = np.array([x, y]) - start
        squared = np.maximum((along**2).sum(1), 1e-12)
        share = np.clip((offset * along).sum(1) / squared, 0.0, 1.0)
        gap = offset - share[:, None] * along
        best = int(np.argmin((gap**2).sum(1)))
        distance = math.hypot(*gap[best])
        side = along[best, 0] * offset[best, 1] - along[best, 1] * offset[best, 0]
        s = min(self.length, (first + best + share[best]) * SPACING)
        return float(s), math.copysign(distance, side)

    def at(self, s: float) -> tuple[float, float, float]:
        """(x, y, heading) at s, interpolated; beyond its ends the route goes on straight."""
        clipped = min(max(s, 0.0), (len(self.points) - 1) * SPACING)
        i = min(int(clipped / SPACING), len(self.points) - 2)
        t = clipped / SPACING - i
        x, y = (1 - t) * self.points[i] + t * self.points[i + 1]
        heading = (1 - t) * self.headings[i] + t * self.headings[i + 1]
        rest = s - clipped
        return float(x + rest * math.cos(heading)), float(y + rest * math.sin(heading)), float(heading)

    def speed_limit(self, s: float) -> float:
        """m/s at s."""
        return float(self.speed_limits[min(max(int(s / SPACING), 0), len(self.points) - 1)])

    def lane_at(self, s: float) -> str:
        return self.lanes[self.lane_index[min(max(int(s / SPACING), 0), len(self.points) - 1)]]

    def span(self, lane: str) -> tuple[float, float] | None:
        """(first s, last s) on this lane, None where the route does not use it."""
        if lane not in self.lanes:
            return None
        mine = np.flatnonzero(self.lane_index == self.lanes.index(lane))
        return (float(mine[0] * SPACING), float(mine[-1] * SPACING)) if len(mine) else None

    def reference_speeds(
        self, start_speed: float, acceleration: float = 2.0, braking: float = 2.5
    ) -> np.ndarray:
        """(N,) m/s of a driver alone on the road: at the limits, changing speed at these rates (m/s2).

        A start_speed above what the route allows at its start is lowered to that.
        """
        speeds = self.speed_limits.astype(float)
        for i in range(len(speeds) - 2, -1, -1):
            speeds[i] = min(speeds[i], math.sqrt(speeds[i + 1] ** 2 + 2 * braking * SPACING))
        speeds[0] = min(start_speed, speeds[0])
        for i in range(1, len(speeds)):
            speeds[i] = min(speeds[i], math.sqrt(speeds[i - 1] ** 2 + 2 * acceleration * SPACING))
        return speeds

    def arrival_times(self, start_speed: float) -> np.ndarray:
        """(N,) seconds from s = 0 at which `reference_speeds` reaches each point."""
        speeds = self.reference_speeds(start_speed)
        steps = SPACING / np.maximum(0.5 * (speeds[1:] + speeds[:-1]), 0.1)
        return np.concatenate([[0.0], np.cumsum(steps)])


def line_length(line: np.ndarray) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def sample_line(line: np.ndarray, stations: np.ndarray) -> np.ndarray:
    """(len(stations), 2) points of a polyline at these metres from its start (clamped to its ends)."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return np.stack([np.interp(stations, along, line[:, k]) for k in range(2)], axis=1)


def _smooth(points: np.ndarray) -> np.ndarray:
    reach = int(3 * SMOOTHING / FINE)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * FINE / SMOOTHING) ** 2)
    kernel /= kernel.sum()
    # Beyond the ends the line is continued by point reflection, which keeps end points and end headings.
    before = 2 * points[0] - points[reach:0:-1]
    after = 2 * points[-1] - points[-2 : -reach - 2 : -1]
    padded = np.vstack([before, points, after])
    return np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in range(2)], axis=1)


def _runs(road_map: RoadMap, lanes: Sequence[str]) -> list[list[int]]:
    """Indices grouped by edge: a run of two or more is a lane change. Checks the chain."""
    follows = following_lanes(road_map)
    runs: list[list[int]] = []
    for i, name in enumerate(lanes):
        lane = road_map.lanes.get(name)
        if lane is None or lane.kind not in (LaneKind.DRIVING, LaneKind.JUNCTION):
            raise RouteError(
                f"lane {name!r} is no driving lane of network {road_map.name}: choose lanes of this network."
            )
        if i and name in (road_map.lanes[lanes[i - 1]].left, road_map.lanes[lanes[i - 1]].right):
            runs[-1].append(i)
        elif i and name not in follows.get(lanes[i - 1], ()):
            raise RouteError(
                f"lane {name!r} neither follows nor neighbours {lanes[i - 1]!r} on network {road_map.name}: "
                "give a chain of connected lanes."
            )
        else:
            runs.append([i])
    return runs


def build_route(
    road_map: RoadMap, lanes: Sequence[str], start: float = 0.0, length: float | None = None
) -> Route:
    """The smooth route along `lanes`, from `start` metres along the first lane, at most `length` metres long.

    Raises RouteError where lanes are unknown or unconnected, or where less than 5 m remain.
    """
    if not lanes:
        raise RouteError("a route needs at least one lane, and none was given.")
    pieces, owners = [], []
    for number, run in enumerate(_runs(road_map, lanes)):
        members = [road_map.lanes[lanes[i]] for i in run]
        first_length = line_length(members[0].centre_line)
        begin = min(start, first_length) if number == 0 else 0.0
        count = max(2, int(math.ceil((first_length - begin) / FINE)) + 1)
        stations = np.linspace(begin, first_length, count)
        shares = stations / max(first_length, 1e-9)
        points = sample_line(members[0].centre_line, stations)
        owner = np.full(count, run[0])
        usable = first_length - begin
        for k in range(1, len(run)):
            span = max(SHORTEST_CHANGE, CHANGE_TIME * members[k].speed_limit)
            share = usable / (len(run) - 1)
            change_from = begin + (k - 1) * share + CHANGE_START * share
            change_to = min(change_from + span, begin + k * share - 0.1 * share)
            t = np.clip((stations - change_from) / max(change_to - change_from, 1e-6), 0.0, 1.0)
            weight = (t * t * (3 - 2 * t))[:, None]
            other = sample_line(members[k].centre_line, shares * line_length(members[k].centre_line))
            points = (1 - weight) * points + weight * other
            owner[t > 0.5] = run[k]
        pieces.append(points)
        owners.append(owner)
    points, owner = np.vstack(pieces), np.concatenate(owners)
    keep = np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 0.05])
    points, owner = points[keep], owner[keep]
    total = line_length(points)
    if total < 5.0:
        raise RouteError(
            f"the route is {total:.1f} m long, at least 5 m are needed: start earlier or add lanes."
        )
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    even = np.arange(0.0, total, FINE)
    owner = owner[np.clip(np.searchsorted(along, even, side="right") - 1, 0, len(owner) - 1)]
    smooth = (
        _smooth(sample_line(points, even))
        if len(even) > 6 * SMOOTHING / FINE + 2
        else sample_line(points, even)
    )
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(smooth, axis=0).T))])
    stop = arc[-1] if length is None else min(arc[-1], length)
    stations = np.arange(0.0, stop + 1e-9, SPACING)
    points = np.stack([np.interp(stations, arc, smooth[:, k]) for k in range(2)], axis=1)
    lane_index = owner[np.clip(np.searchsorted(arc, stations, side="right") - 1, 0, len(owner) - 1)]
    step = np.gradient(points, axis=0)
    headings = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    limits = np.array([road_map.lanes[lanes[i]].speed_limit for i in lane_index])
    return Route(
        lanes=tuple(lanes),
        points=points,
        headings=headings,
        speed_limits=limits,
        lane_index=lane_index.astype(int),
        length=float((len(points) - 1) * SPACING),
    )


@functools.lru_cache(maxsize=32)
def connections_from(road_map: RoadMap) -> dict[str, list[Connection]]:
    """Connections by their incoming lane."""
    result: dict[str, list[Connection]] = {}
    for connection in road_map.connections:
        result.setdefault(connection.from_lane, []).append(connection)
    return result


@functools.lru_cache(maxsize=32)
def connections_to(road_map: RoadMap) -> dict[str, list[Connection]]:
    """Connections by their outgoing lane."""
    result: dict[str, list[Connection]] = {}
    for connection in road_map.connections:
        result.setdefault(connection.to_lane, []).append(connection)
    return result


@functools.lru_cache(maxsize=32)
def following_lanes(road_map: RoadMap) -> dict[str, tuple[str, ...]]:
    """Lanes that come next after each lane, junction lanes included."""
    result: dict[str, list[str]] = {}
    for connection in road_map.connections:
        chain = (connection.from_lane, *connection.via, connection.to_lane)
        for before, after in zip(chain, chain[1:], strict=False):
            if after not in result.setdefault(before, []):
                result[before].append(after)
    return {name: tuple(after) for name, after in result.items()}


def connection_length(road_map: RoadMap, connection: Connection) -> float:
    return sum(line_length(road_map.lanes[name].centre_line) for name in connection.via)


def extend_forward(road_map: RoadMap, lane: str, metres: float, rng: np.random.Generator) -> list[str] | None:
    """Lanes after `lane` (not itself) that give `metres` more; None where the network ends before."""
    chain: list[str] = []
    reached = 0.0
    while reached < metres:
        choices = connections_from(road_map).get(lane, [])
        if not choices:
            return None
        connection = choices[int(rng.integers(len(choices)))]
        chain += [*connection.via, connection.to_lane]
        lane = connection.to_lane
        reached += connection_length(road_map, connection) + line_length(road_map.lanes[lane].centre_line)
    return chain


def extend_backward(
    road_map: RoadMap, lane: str, metres: float, rng: np.random.Generator
) -> list[str] | None:
    """Lanes before `lane` (not itself) that give `metres` more; None where the network ends before."""
    chain: list[str] = []
    reached = 0.0
    while reached < metres:
        choices = connections_to(road_map).get(lane, [])
        if not choices:
            return None
        connection = choices[int(rng.integers(len(choices)))]
        chain = [connection.from_lane, *connection.via, *chain]
        lane = connection.from_lane
        reached += connection_length(road_map, connection) + line_length(road_map.lanes[lane].centre_line)
    return chain


def lane_chain_around(
    road_map: RoadMap, connection: Connection, before: float, after: float, rng: np.random.Generator
) -> tuple[list[str], float] | None:
    """(lanes, start on the first lane) with `before` metres up to the junction of `connection` and `after`
    beyond.

    None where the network is too small for that, even with 30 m before and 25 m after.
    """
    lanes = [connection.from_lane, *connection.via, connection.to_lane]
    first, last = (line_length(road_map.lanes[name].centre_line) for name in (lanes[0], lanes[-1]))
    ahead: list[str] | None = []
    if first < before:
        behind = extend_backward(road_map, lanes[0], before - first, rng)
        if behind:
            lanes = behind + lanes
        elif first < 30.0:
            return None
    if last < after:
        ahead = extend_forward(road_map, connection.to_lane, after - last, rng)
        if ahead:
            lanes = lanes + ahead
        elif last < 25.0:
            return None
    upstream = sum(
        line_length(road_map.lanes[name].centre_line)
        for name in lanes[: lanes.index(connection.from_lane) + 1]
    )
    return lanes, max(0.0, upstream - before)


def lane_heading(lane: Lane, end: bool) -> float:
    """Heading (rad) at a lane's end or start."""
    p, q = lane.centre_line[-2:] if end else lane.centre_line[:2]
    return math.atan2(q[1] - p[1], q[0] - p[0])
