"""Junctions along a route as the map describes them: stop lines, right of way, where others' ways cross."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from wpt_sim.road_map import Connection, LaneKind, Priority, RoadMap, Turn
from wpt_sim.route import Route, connections_from, sample_line
from wpt_sim.vehicles import EGO_LENGTH, EGO_REAR_OVERHANG

EGO_FRONT = EGO_LENGTH - EGO_REAR_OVERHANG  # metres from base_link to the front bumper
# Metres between the route and another way's centre line within which its drivers halt for the ego: two half
# widths and a metre. With 1.9 one who waits at the edge made the other stop across its way, both for ever.
CLEARANCE = 2.8


@dataclass(frozen=True, eq=False)
class RouteJunction:
    """One connection on the route.

    line_s: route metres where the incoming lane ends; end_s: where the outgoing lane begins. priority_lanes:
    lanes and crossings that go first. conflict_s: route metres (first, last) at which the route is near a
    vehicle way that goes first, or a left turn, None without one: nobody should stop there.
    """

    connection: Connection
    line_s: float
    end_s: float
    priority_lanes: frozenset[str]
    conflict_s: tuple[float, float] | None

    @property
    def must_stop(self) -> bool:
        return self.connection.priority is Priority.STOP


@functools.lru_cache(maxsize=64)
def route_junctions(road_map: RoadMap, route: Route) -> tuple[RouteJunction, ...]:
    """Junctions of the route in driving order (those that begin on it)."""
    found = []
    lanes = route.lanes
    for i, name in enumerate(lanes[:-1]):
        for connection in connections_from(road_map).get(name, ()):
            count = len(connection.via)
            chain = connection.via + (connection.to_lane,)
            if not count or lanes[i + 1 : i + 2 + count] != chain[: len(lanes) - i - 1]:
                continue
            spans = [span for span in (route.span(via) for via in connection.via) if span]
            if not spans:
                continue
            line_s, end_s = spans[0][0], spans[-1][1]
            found.append(
                RouteJunction(
                    connection,
                    line_s,
                    end_s,
                    frozenset(connection.yields_to),
                    _conflict(road_map, route, connection, line_s, end_s),
                )
            )
            break
    return tuple(found)


def _conflict(road_map: RoadMap, route: Route, connection: Connection, line_s: float, end_s: float):
    stations = np.arange(line_s, min(end_s + 6.0, route.length), 1.0)
    if not len(stations):
        return None
    points = np.array([route.at(s)[:2] for s in stations])
    inside = np.zeros(len(stations), dtype=bool)
    for name in {*connection.yields_to, *_left_turns(road_map, connection)}:
        lane = road_map.lanes.get(name)
        if lane is None or lane.kind is not LaneKind.JUNCTION:
            continue
        line = sample_line(
            lane.centre_line, np.arange(0.0, 200.0, 0.5)[: max(2, int(2 * _length(lane.centre_line)) + 1)]
        )
        inside |= np.hypot(*(points[:, None] - line[None]).transpose(2, 0, 1)).min(1) < CLEARANCE
    if not inside.any():
        return None
    hit = stations[inside]
    return float(hit[0]), float(hit[-1])


def _left_turns(road_map: RoadMap, connection: Connection) -> set[str]:
    """Lanes of left turns from other roads: waiting across one and turning there block each other."""
    junction, edge = road_map.lanes[connection.via[0]].junction, road_map.lanes[connection.from_lane].edge
    return {
        name
        for other in road_map.connections
        if other.turn is Turn.LEFT and other.via and road_map.lanes[other.from_lane].edge != edge
        for name in other.via
        if road_map.lanes[name].junction == junction
    }


def _length(line: np.ndarray) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


@functools.lru_cache(maxsize=64)
def route_crossings(road_map: RoadMap, route: Route) -> tuple[tuple[str, float, float], ...]:
    """(crossing id, first s, last s) of every pedestrian crossing that the route drives over."""
    found = []
    for lane in road_map.lanes.values():
        if lane.kind is not LaneKind.CROSSING:
            continue
        a, b = lane.centre_line[0], lane.centre_line[-1]
        along = b - a
        t = np.clip((route.points - a) @ along / max(float(along @ along), 1e-9), 0.0, 1.0)
        near = np.hypot(*(route.points - a - t[:, None] * along).T) < lane.width / 2
        if near.any():
            hit = np.flatnonzero(near)
            found.append((lane.id, float(hit[0]), float(hit[-1])))
    return tuple(sorted(found, key=lambda c: c[1]))
