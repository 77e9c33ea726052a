"""Red lights and stop signs, by the leaderboard's rules.

Red light: a strip behind the ego, from 0.8 of its half length behind the centre to 1 m behind the bumper,
crosses a stop line (0.6 lane widths to each side) whose light is red now. So it is the ego's rear that must
have passed before red. Stop sign: the ego must come to a stop (below 0.1 m/s) in the last metres before the
line.
"""

from __future__ import annotations

import math

import numpy as np

from wpt_sim.lane_position import segments_cross
from wpt_sim.road_map import Priority, RoadMap, SignalHead, StopLine
from wpt_sim.route import Route
from wpt_sim.vehicles import EGO_LENGTH, ego_centre
from wpt_sim.world_state import EgoPose, SignalColour, WorldState

LIGHT_RANGE = 15.0  # metres from the ego's centre to the stop line
HALF_LINE = 0.6  # lane widths
STRIP_FROM = 0.8  # of the half length
STRIP_BEYOND = 1.0  # metres behind the bumper
STOP_AREA = 4.0  # metres before the line that the front bumper may stand in
STANDING_SPEED = 0.1  # m/s


def _wide_line(ends: np.ndarray, width: float) -> np.ndarray:
    """(2, 2) end points of a stop line that reaches 0.6 lane widths to each side of its middle."""
    ends = np.asarray(ends, dtype=float)
    middle, along = ends.mean(0), ends[1] - ends[0]
    along = along / max(float(np.hypot(*along)), 1e-9)
    return np.stack([middle - HALF_LINE * width * along, middle + HALF_LINE * width * along])


def _lane_direction(road_map: RoadMap, lane: str) -> np.ndarray:
    last = np.diff(road_map.lanes[lane].centre_line[-2:], axis=0)[0]
    return last / max(float(np.hypot(*last)), 1e-9)


class RedLightMonitor:
    """Watches all signals of a map; which of a lane's links counts is decided by the route."""

    def __init__(self, road_map: RoadMap, route: Route):
        self._heads = road_map.signal_heads
        self._lines = [_wide_line(h.stop_line, road_map.lanes[h.lane].width) for h in self._heads]
        self._middles = np.array([line.mean(0) for line in self._lines]).reshape(-1, 2)
        self._directions = [_lane_direction(road_map, head.lane) for head in self._heads]
        # One light stands for all lanes of its approach.
        self._approaches = [(head.signal, road_map.lanes[head.lane].edge) for head in self._heads]
        self._links = _links_on_route(road_map, route)
        self._last: tuple[str, str] | None = None

    def update(self, state: WorldState) -> SignalHead | None:
        """Return the signal that is being run in this tick, None otherwise."""
        ego = state.ego
        x, y = ego_centre(ego)
        direction = np.array([math.cos(ego.yaw), math.sin(ego.yaw)])
        strip = (
            np.array([x, y])
            - np.array([[STRIP_FROM * EGO_LENGTH / 2], [EGO_LENGTH / 2 + STRIP_BEYOND]]) * direction
        )
        for i in (
            np.flatnonzero(np.hypot(*(self._middles - (x, y)).T) < LIGHT_RANGE) if len(self._heads) else ()
        ):
            head = self._heads[i]
            if self._approaches[i] == self._last or direction @ self._directions[i] <= 0.0:
                continue
            if self._is_red(head, state) and segments_cross(strip, self._lines[i]):
                self._last = self._approaches[i]
                return head
        return None

    def _is_red(self, head: SignalHead, state: WorldState) -> bool:
        """The route's link where the route uses this lane, else every link of the lane."""
        link = self._links.get(head.lane)
        links = head.links if link is None else (link,)
        return all(state.signals.get((head.signal, k)) is SignalColour.RED for k in links)


def _links_on_route(road_map: RoadMap, route: Route) -> dict[str, int]:
    """Signal link by incoming lane, for the connections that the route takes."""
    pairs = set(zip(route.lanes, route.lanes[1:], strict=False))
    return {
        connection.from_lane: connection.link
        for connection in road_map.connections
        if connection.signal is not None
        and connection.via
        and (connection.from_lane, connection.via[0]) in pairs
    }


class StopSignMonitor:
    """Watches the stop signs of a map."""

    def __init__(self, road_map: RoadMap):
        self._stops = [line for line in road_map.stop_lines if line.priority is Priority.STOP]
        self._lines = [_wide_line(s.ends, road_map.lanes[s.lane].width) for s in self._stops]
        self._middles = np.array([line.mean(0) for line in self._lines]).reshape(-1, 2)
        self._directions = [_lane_direction(road_map, stop.lane) for stop in self._stops]
        self._stopped: set[int] = set()
        self._before: set[int] = set()  # signs whose area the ego's centre is in

    def update(self, ego: EgoPose) -> StopLine | None:
        """Return the stop line that the ego has just passed without having stopped, None otherwise."""
        if not self._stops:
            return None
        centre = np.array(ego_centre(ego))
        heading = np.array([math.cos(ego.yaw), math.sin(ego.yaw)])
        passed = None
        reach = STOP_AREA + EGO_LENGTH / 2
        for i in np.flatnonzero(np.hypot(*(self._middles - centre).T) < reach + 5.0):
            direction, line = self._directions[i], self._lines[i]
            to_line = float((self._middles[i] - centre) @ direction)
            beside = abs(float((self._middles[i] - centre) @ np.array([-direction[1], direction[0]])))
            inside = beside <= 0.5 * float(np.hypot(*(line[1] - line[0]))) and heading @ direction > 0.5
            if inside and 0.0 <= to_line <= reach:
                self._before.add(int(i))
                if abs(ego.speed) < STANDING_SPEED:
                    self._stopped.add(int(i))
            elif int(i) in self._before:
                self._before.discard(int(i))
                if inside and to_line < 0.0 and int(i) not in self._stopped:
                    passed = self._stops[i]
                self._stopped.discard(int(i))
        return passed
