"""Where others may be in the next seconds: constant acceleration along each possible lane, walkers straight
on.

Nothing here knows an actor's route. A vehicle near a junction may take every connection of its lane; a lit
indicator rules the others out, as it does for a human. Positive acceleration is believed for a second only.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from wpt_sim.observation import ObservedActor
from wpt_sim.road_map import LaneKind, RoadMap, Turn
from wpt_sim.route import connections_from, line_length, sample_line
from wpt_sim.world_state import ActorKind, Lights

STEP = 0.25  # seconds between predicted poses
HORIZON = 6.0  # seconds
TIMES = np.arange(0.0, HORIZON + 1e-9, STEP)
WAY_BEYOND = 90.0  # metres of possible ways kept beyond a lane's end
MOST_WAYS = 8
RETURN_TIME = 2.0  # seconds in which a vehicle is back on its lane's centre line
CHANGE_TIME = 2.5  # seconds of a lane change
INDICATOR_TIME = 5.0  # seconds before a lane's end within which a turning driver has the indicator lit
INDICATOR_DISTANCE = 25.0  # metres, the same for slow ones
DRIFT = 0.035  # rad towards the neighbouring lane that, off the centre, announces a lane change
WALKING = 0.15  # m/s
AT_CROSSING, NEAR_CROSSING = 2.5, 4.0  # metres from a crossing's end, of one who stands and one who walks


@dataclass(frozen=True, eq=False)
class Way:
    """One way on from the start of a lane: lanes in order, starts[i] = metres at which lanes[i] begins."""

    lanes: tuple[str, ...]
    starts: tuple[float, ...]
    along: np.ndarray
    points: np.ndarray
    headings: np.ndarray

    @property
    def length(self) -> float:
        return float(self.along[-1])


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One vehicle on one way. s: metres along it; lateral: metres to the left of it, gone after `settle`
    seconds.
    """

    actor: ObservedActor
    way: Way
    s: float
    lateral: float
    settle: float

    def poses(self, stop_at: float | None = None) -> np.ndarray:
        """(len(TIMES), 3) x, y, yaw; stop_at: way metres of the box centre beyond which it is believed not to
        drive.
        """
        s = self.s + travelled(self.actor.speed, self.actor.acceleration, TIMES)
        if stop_at is not None:
            s = np.minimum(s, max(stop_at, self.s))
        t = np.clip(TIMES / self.settle, 0.0, 1.0)
        lateral = self.lateral * (1 - t * t * (3 - 2 * t))
        way = self.way
        x, y = np.interp(s, way.along, way.points[:, 0]), np.interp(s, way.along, way.points[:, 1])
        heading = np.interp(s, way.along, way.headings)
        beyond = np.maximum(s - way.along[-1], 0.0)
        x, y = x + beyond * np.cos(heading), y + beyond * np.sin(heading)
        # The box starts with the yaw that is seen and turns into the way's.
        turned = math.remainder(self.actor.yaw - float(heading[0]), math.tau)
        yaw = heading + turned * np.clip(1 - TIMES / 0.75, 0.0, 1.0)
        return np.stack([x - lateral * np.sin(heading), y + lateral * np.cos(heading), yaw], axis=1)


def travelled(speed: float, acceleration: float, times: np.ndarray) -> np.ndarray:
    """Metres driven after each time at constant acceleration: until it stands, or for one second when
    positive.
    """
    if acceleration < -0.3:
        until = np.minimum(times, speed / -acceleration)
        return speed * until + 0.5 * acceleration * until**2
    gaining = np.minimum(times, 1.0)
    rise = min(max(acceleration, 0.0), 2.0)
    return speed * times + 0.5 * rise * gaining**2 + rise * gaining * (times - gaining)


class LaneGraph:
    """Possible ways on one road map; `lane_graph` keeps one per map."""

    def __init__(self, road_map: RoadMap):
        self.road_map = road_map
        self.lengths = {lane.id: line_length(lane.centre_line) for lane in road_map.lanes.values()}
        self._names: list[str] = []
        starts, ends, owners, stations = [], [], [], []
        for lane in road_map.lanes.values():
            if lane.kind not in (LaneKind.DRIVING, LaneKind.JUNCTION):
                continue
            line = lane.centre_line
            pieces = np.hypot(*np.diff(line, axis=0).T)
            starts.append(line[:-1])
            ends.append(line[1:])
            owners.append(np.full(len(line) - 1, len(self._names)))
            stations.append(np.concatenate([[0.0], np.cumsum(pieces)[:-1]]))
            self._names.append(lane.id)
        self._p = np.vstack(starts)
        self._d = np.vstack(ends) - self._p
        self._squared = np.maximum((self._d**2).sum(1), 1e-9)
        self._length = np.sqrt(self._squared)
        self._heading = np.arctan2(self._d[:, 1], self._d[:, 0])
        self._owner, self._station = np.concatenate(owners), np.concatenate(stations)
        self._half_width = np.array([road_map.lanes[name].width / 2 for name in self._names])
        self._ways: dict[str, tuple[Way, ...]] = {}

    def locate(self, x: float, y: float, yaw: float) -> list[tuple[str, float, float]]:
        """(lane, station, lateral) of the lanes that a vehicle there may be driving on, nearest first."""
        ox, oy = x - self._p[:, 0], y - self._p[:, 1]
        dx, dy = self._d[:, 0], self._d[:, 1]
        share = np.clip((ox * dx + oy * dy) / self._squared, 0.0, 1.0)
        distance = np.hypot(ox - share * dx, oy - share * dy)
        near = np.flatnonzero(distance < 2.2)
        found: dict[int, tuple[float, str, float, float]] = {}
        for i in near:
            turn = abs(math.remainder(yaw - self._heading[i], math.tau))
            lane = int(self._owner[i])
            if turn > 0.7 or distance[i] > self._half_width[lane] + 0.1:
                continue
            cost = float(distance[i]) + 2.0 * turn
            if lane in found and found[lane][0] <= cost:
                continue
            side = dx[i] * oy[i] - dy[i] * ox[i]
            found[lane] = (
                cost,
                self._names[lane],
                float(self._station[i] + share[i] * self._length[i]),
                math.copysign(float(distance[i]), side),
            )
        best = sorted(found.values())
        return [(name, s, lateral) for cost, name, s, lateral in best if cost < best[0][0] + 0.6][:4]

    def ways(self, lane: str) -> tuple[Way, ...]:
        """All ways from the start of a lane to WAY_BEYOND metres after its end."""
        if lane not in self._ways:
            chains: list[tuple[str, ...]] = []
            self._extend((lane,), WAY_BEYOND, chains)
            self._ways[lane] = tuple(self._way(chain) for chain in chains)
        return self._ways[lane]

    def _extend(self, chain: tuple[str, ...], rest: float, chains: list[tuple[str, ...]]) -> None:
        road = self.road_map.lanes[chain[-1]]
        steps: list[tuple[str, ...]] = []
        if road.kind is LaneKind.DRIVING:
            steps = [(*c.via, c.to_lane) for c in connections_from(self.road_map).get(road.id, ())]
        else:
            for c in self.road_map.connections:
                if road.id in c.via:
                    step = (*c.via[c.via.index(road.id) + 1 :], c.to_lane)
                    steps = steps if step in steps else [*steps, step]
        if rest <= 0 or not steps:
            chains.append(chain)
            return
        for step in steps:
            self._extend(chain + step, rest - sum(self.lengths[name] for name in step), chains)

    def _way(self, chain: tuple[str, ...]) -> Way:
        line = np.vstack([self.road_map.lanes[name].centre_line for name in chain])
        keep = np.concatenate([[True], np.hypot(*np.diff(line, axis=0).T) > 0.02])
        line = line[keep]
        points = sample_line(line, np.arange(0.0, line_length(line), 1.0))
        if len(points) < 2:
            points = line[[0, -1]]
        step = np.gradient(points, axis=0)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        starts = np.concatenate([[0.0], np.cumsum([self.lengths[name] for name in chain[:-1]])])
        return Way(
            chain,
            tuple(float(s) for s in starts),
            along,
            points,
            np.unwrap(np.arctan2(step[:, 1], step[:, 0])),
        )


@functools.lru_cache(maxsize=16)
def lane_graph(road_map: RoadMap) -> LaneGraph:
    return LaneGraph(road_map)


def vehicle_hypotheses(graph: LaneGraph, actor: ObservedActor) -> list[Hypothesis]:
    """What a moving vehicle may do; empty where it is on no lane (then it goes straight on:
    `straight_poses`).
    """
    found: list[Hypothesis] = []
    reach = actor.speed * HORIZON + 6.0
    for lane, s, lateral in graph.locate(actor.x, actor.y, actor.yaw):
        found += _along(graph, actor, lane, s, lateral, RETURN_TIME, reach)
        neighbour = _announced_lane(graph, actor, lane, s, lateral)
        if neighbour is not None:
            other = graph.road_map.lanes[neighbour]
            share = graph.lengths[neighbour] / max(graph.lengths[lane], 1e-6)
            spacing = 0.5 * (other.width + graph.road_map.lanes[lane].width)
            side = -1.0 if neighbour == graph.road_map.lanes[lane].left else 1.0
            found += _along(graph, actor, neighbour, s * share, lateral + side * spacing, CHANGE_TIME, reach)
    return found[:MOST_WAYS]


def _announced_lane(
    graph: LaneGraph, actor: ObservedActor, lane: str, s: float, lateral: float
) -> str | None:
    """The neighbouring lane that indicator or drift show it to be changing to."""
    road = graph.road_map.lanes[lane]
    for neighbour, lamp, side in ((road.left, Lights.LEFT, 1.0), (road.right, Lights.RIGHT, -1.0)):
        if neighbour is None or graph.road_map.lanes[neighbour].kind is not LaneKind.DRIVING:
            continue
        way = graph.ways(lane)[0]
        heading = float(np.interp(s, way.along, way.headings))
        drift = side * math.remainder(actor.yaw - heading, math.tau)
        if lamp in actor.lights or (side * lateral > 0.3 and drift > DRIFT):
            return neighbour
    return None


def _along(
    graph: LaneGraph, actor: ObservedActor, lane: str, s: float, lateral: float, settle: float, reach: float
) -> list[Hypothesis]:
    rest = graph.lengths[lane] - s
    turns = _indicated(graph, actor, lane, rest)
    found, seen = [], set()
    for way in graph.ways(lane):
        if turns is not None and len(way.lanes) > 1 and way.lanes[1] not in turns:
            continue
        within = tuple(name for name, start in zip(way.lanes, way.starts, strict=True) if start < s + reach)
        if within in seen:
            continue
        seen.add(within)
        found.append(Hypothesis(actor, way, s, lateral, settle))
    return found


def _indicated(graph: LaneGraph, actor: ObservedActor, lane: str, rest: float) -> frozenset[str] | None:
    """First lanes of the connections that fit the indicator; None where it tells nothing."""
    if rest > max(INDICATOR_DISTANCE, INDICATOR_TIME * actor.speed):
        return None
    connections = [c for c in connections_from(graph.road_map).get(lane, ()) if c.via]
    if len(connections) < 2:
        return None
    wanted = {Turn.STRAIGHT}
    if Lights.LEFT in actor.lights:
        wanted = {Turn.LEFT, Turn.U_TURN}
    elif Lights.RIGHT in actor.lights:
        wanted = {Turn.RIGHT}
    fitting = frozenset(c.via[0] for c in connections if c.turn in wanted)
    return fitting or None


def straight_poses(actor: ObservedActor) -> np.ndarray:
    """(len(TIMES), 3) straight on along the yaw."""
    ahead = (
        travelled(actor.speed, actor.acceleration, TIMES) if actor.speed > WALKING else np.zeros(len(TIMES))
    )
    return np.stack(
        [
            actor.x + ahead * math.cos(actor.yaw),
            actor.y + ahead * math.sin(actor.yaw),
            np.full(len(TIMES), actor.yaw),
        ],
        axis=1,
    )


def crossing_poses(road_map: RoadMap, actor: ObservedActor, crossing: str, speed: float) -> np.ndarray | None:
    """(len(TIMES), 3) of a pedestrian near one end of a crossing who walks over it; None where it is not
    near.

    Near: within 2.5 m of an end when standing, 4 m when walking and facing across or towards it.
    """
    if actor.kind is not ActorKind.PEDESTRIAN:
        return None
    line = road_map.lanes[crossing].centre_line
    for a, b in ((line[0], line[-1]), (line[-1], line[0])):
        distance = math.hypot(actor.x - a[0], actor.y - a[1])
        across = math.atan2(b[1] - a[1], b[0] - a[0])
        if distance > (NEAR_CROSSING if actor.speed > WALKING else AT_CROSSING):
            continue
        facing = abs(math.remainder(actor.yaw - across, math.tau))
        if distance > 0.6:
            towards = math.atan2(a[1] - actor.y, a[0] - actor.x)
            facing = min(facing, abs(math.remainder(actor.yaw - towards, math.tau)))
        if actor.speed > WALKING and facing > 1.0:
            continue
        ahead = np.clip(speed * TIMES, 0.0, math.hypot(b[0] - a[0], b[1] - a[1]) + 1.0)
        return np.stack(
            [
                actor.x + ahead * math.cos(across),
                actor.y + ahead * math.sin(across),
                np.full(len(TIMES), across),
            ],
            axis=1,
        )
    return None
