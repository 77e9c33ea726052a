"""Nobody drives through the ego: SUMO's drivers brake for a box in their way wherever it stands.

Seen with SUMO 1.28, ego standing for 20 s in each of 148 conflict zones of one network, with a car sent
through each: along its lane and with a way that crosses the junction, nobody touched it. Turned by 52
degrees and with a way that leads elsewhere, 10 zones were driven through (its box sticks out into lanes
that SUMO does not count it to) and two pedestrians walked through it. Nor do SUMO's drivers see a
pedestrian beside a crossing. So every driver near such an obstacle looks along its own lanes and, where its
stopping distance reaches the box, its speed is lowered by command; pedestrians stop before an ego that
stands in their way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from wpt_sim.episode import DT
from wpt_sim.road_map import RoadMap
from wpt_sim.route import connections_from, line_length, sample_line

STANDOFF = 1.5  # metres that a driver leaves before the box
COMFORTABLE = 2.5  # m/s2: below this needed braking, SUMO's own driver is left alone
STRONGEST = 8.0  # m/s2
STEP_AHEAD = 0.7  # metres that a pedestrian looks ahead
BODY = 0.45  # metres kept between a pedestrian's middle and the ego's box
SIDE_MARGIN = 0.35  # metres beside the driver's own width that must be free
JUNCTION_MARGIN = 0.65  # the same inside a junction, where a turning car's tail does not follow its front
LOOK = 1.0  # metres between tested points of the way ahead


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A box (centre, yaw, half sizes in metres) that drivers must not touch; speed: m/s along yaw."""

    x: float
    y: float
    yaw: float
    half_length: float
    half_width: float
    speed: float


def yaw_from_sumo(angle: float) -> float:
    """Yaw (rad, anticlockwise from east, in (-pi, pi]) of SUMO's angle (degrees clockwise from north)."""
    return math.remainder(math.radians(90.0 - angle), 2 * math.pi)


class WayAhead:
    """The line that a SUMO vehicle will follow, from its lane and its route's edges."""

    def __init__(self, road_map: RoadMap):
        self._road_map = road_map
        self._lines: dict[tuple[str, str | None], np.ndarray] = {}

    def _line(self, lane: str, next_edge: str | None) -> np.ndarray:
        key = (lane, next_edge)
        if key in self._lines:
            return self._lines[key]
        lanes = self._road_map.lanes
        pieces = [lanes[lane].centre_line]
        if lanes[lane].junction is not None:  # already inside: the rest of this connection
            for connection in self._road_map.connections:
                if lane in connection.via:
                    after = connection.via[connection.via.index(lane) + 1 :]
                    pieces += [lanes[name].centre_line for name in (*after, connection.to_lane)]
                    break
        elif next_edge is not None:
            for connection in connections_from(self._road_map).get(lane, ()):
                if lanes[connection.to_lane].edge == next_edge:
                    pieces += [lanes[name].centre_line for name in (*connection.via, connection.to_lane)]
                    break
        self._lines[key] = np.vstack(pieces)
        return self._lines[key]

    def points(self, lane: str, position: float, next_edge: str | None, reach: float) -> np.ndarray:
        """(N, 2) every LOOK metres from the front bumper on, up to `reach` metres."""
        if lane not in self._road_map.lanes:
            return np.empty((0, 2))
        line = self._line(lane, next_edge)
        stations = np.arange(position, min(position + reach, line_length(line)), LOOK)
        return sample_line(line, stations)


def distance_to_obstacle(
    points: np.ndarray, half_width: float, obstacle: Obstacle, margin: float = SIDE_MARGIN
) -> float | None:
    """Metres along `points` to the first within half_width + margin of the box; None if free."""
    if not len(points):
        return None
    c, s = math.cos(obstacle.yaw), math.sin(obstacle.yaw)
    dx, dy = points[:, 0] - obstacle.x, points[:, 1] - obstacle.y
    outside_x = np.maximum(np.abs(c * dx + s * dy) - obstacle.half_length, 0.0)
    outside_y = np.maximum(np.abs(-s * dx + c * dy) - obstacle.half_width, 0.0)
    hit = np.flatnonzero(np.hypot(outside_x, outside_y) < half_width + margin)
    return float(hit[0] * LOOK) if len(hit) else None


class Guard:
    """Commands the speeds of SUMO's drivers where they would touch an obstacle."""

    def __init__(self, road_map: RoadMap, libsumo: ModuleType):
        self.way = WayAhead(road_map)
        self._vehicle = libsumo.vehicle
        self._person = libsumo.person
        self._held: set[str] = set()
        self._waiting: dict[str, float] = {}

    def people_before_step(self, people: list[tuple[str, float, float, float]], ego: Obstacle) -> None:
        """Stop pedestrians (id, x, y, yaw) whose next step leads into the ego's box; let them go on."""
        c, s = math.cos(ego.yaw), math.sin(ego.yaw)
        for name, x, y, yaw in people:
            dx, dy = x + STEP_AHEAD * math.cos(yaw) - ego.x, y + STEP_AHEAD * math.sin(yaw) - ego.y
            inside = (
                abs(c * dx + s * dy) < ego.half_length + BODY
                and abs(-s * dx + c * dy) < ego.half_width + BODY
            )
            if inside and name not in self._waiting:
                self._waiting[name] = max(self._person.getMaxSpeed(name), 0.8)
                self._person.setSpeed(name, 0.0)
            elif not inside and name in self._waiting:
                self._person.setSpeed(name, self._waiting.pop(name))

    def before_step(self, names: list[str], half_widths: dict[str, float], obstacles: list[Obstacle]) -> None:
        """names: SUMO's own drivers (no ego, none that a script commands)."""
        vehicle = self._vehicle
        for name in names:
            x, y = vehicle.getPosition(name)
            speed = vehicle.getSpeed(name)
            reach = speed * speed / (2 * COMFORTABLE) + STANDOFF + 2.0
            near = [o for o in obstacles if math.hypot(o.x - x, o.y - y) < reach + o.half_length + 2.0]
            command = None
            if near:
                lane = vehicle.getLaneID(name)
                route, index = vehicle.getRoute(name), vehicle.getRouteIndex(name)
                next_edge = route[index + 1] if 0 <= index + 1 < len(route) else None
                points = self.way.points(lane, vehicle.getLanePosition(name), next_edge, reach)
                margin = JUNCTION_MARGIN if lane.startswith(":") else SIDE_MARGIN
                for obstacle in near:
                    distance = distance_to_obstacle(points, half_widths[name], obstacle, margin)
                    if distance is None:
                        continue
                    gap = max(distance - STANDOFF, 0.05)
                    # One that drives the same way is a leader: only the difference must be braked away.
                    along = obstacle.speed * math.cos(obstacle.yaw - yaw_from_sumo(vehicle.getAngle(name)))
                    if along > 0.5 and along >= speed:
                        continue
                    needed = (speed * speed - max(along, 0.0) ** 2) / (2 * gap)
                    if needed > COMFORTABLE or distance < STANDOFF + 0.5:
                        wanted = max(0.0, speed - min(needed * 1.05, STRONGEST) * DT) if speed > 0.3 else 0.0
                        command = wanted if command is None else min(command, wanted)
            if command is not None:
                vehicle.setSpeed(name, command)
                self._held.add(name)
            elif name in self._held:
                vehicle.setSpeed(name, -1)
                self._held.discard(name)
