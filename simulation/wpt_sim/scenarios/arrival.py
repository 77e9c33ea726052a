"""Bringing another road user and the ego to one place at one time, fairly.

A stream of scripted vehicles adjusts its speed while the ego approaches, so that one of them is at the
conflict point when an ego that drives on at the limit would be. It stops adjusting (and drives on at its
own speed) as soon as the ego yields, or shortly before they meet: who pays attention can always let it
pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wpt_sim.episode import DT
from wpt_sim.guard import Obstacle, distance_to_obstacle
from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.route import Route, build_route, line_length
from wpt_sim.vehicles import EGO_CENTRE_AHEAD, EGO_LENGTH, EGO_REAR_OVERHANG, EGO_WIDTH, VEHICLES, ego_centre
from wpt_sim.world_state import EgoPose

if TYPE_CHECKING:
    from wpt_sim.traffic import Traffic

EGO_FRONT = EGO_LENGTH - EGO_REAR_OVERHANG  # metres from base_link to the front bumper
SIGHT_RANGE = 60.0  # metres
FREEZE_TIME = 1.2  # seconds before the meeting at which the stream stops adjusting
YIELDING = 0.65  # share of the reference speed below which the ego counts as yielding
SLOWEST, FASTEST = 0.6, 1.3  # bounds of the adjustment, share of the stream's own speed
PATIENCE = 1.0  # seconds that the ego may be in a scripted vehicle's way before it brakes
EMERGENCY = 8.0  # m/s2
ACCELERATION = 2.0  # m/s2
SPAWN_GAP = 4.0  # metres
RECOVERY = 0.5  # m/s2
LONGEST_WAIT = 40.0  # seconds after which a stream drives on whatever the ego does


class Approach:
    """Where and how soon a driver alone on the route would be."""

    def __init__(self, route: Route):
        self.route = route
        self._cap = route.reference_speeds(1e3)  # limits, with braking in time for slower parts
        self._s: float | None = None

    def locate(self, ego: EgoPose) -> float:
        """s of base_link, tracked from call to call."""
        self._s = self.route.project(ego.x, ego.y, self._s)[0]
        return self._s

    def reference_speed(self, s: float) -> float:
        return float(self._cap[min(max(int(s), 0), len(self._cap) - 1)])

    def time_to(self, s: float, speed: float, goal: float) -> float:
        """Seconds from (s, speed) until base_link is at `goal`, accelerating at 2 m/s2 to the limits; 0 if
        passed.
        """
        elapsed = 0.0
        speed = max(speed, 0.5)
        while s < goal - 1e-6:
            step = min(1.0, goal - s)
            after = max(
                min(math.sqrt(speed * speed + 2 * ACCELERATION * step), self.reference_speed(s + step)), 0.5
            )
            elapsed += step / (0.5 * (speed + after))
            s, speed = s + step, after
        return elapsed


@dataclass(frozen=True)
class Meeting:
    """Where two ways first come too close: metres along the ego's route and along the other's way."""

    ego_s: float
    other_s: float


def first_meeting(ego: Route, other: Route, clearance: float = 1.6, ego_from: float = 0.0) -> Meeting | None:
    """The first point of the ego's route within `clearance` metres of the other's way; None where they keep
    apart.
    """
    gaps = np.hypot(*(ego.points[:, None] - other.points[None]).transpose(2, 0, 1))
    gaps[: int(ego_from)] = np.inf
    close = np.flatnonzero(gaps.min(1) < clearance)
    if not len(close):
        return None
    i = int(close[0])
    return Meeting(float(i), float(np.argmin(gaps[i])))


def sight_is_free(road_map: RoadMap, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether no building stands between two points."""
    direction = b - a
    for building in road_map.buildings:
        p = building.footprint
        q = np.roll(p, -1, axis=0) - p
        cross = direction[0] * q[:, 1] - direction[1] * q[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            offset = p - a
            t = (offset[:, 0] * q[:, 1] - offset[:, 1] * q[:, 0]) / cross
            u = (offset[:, 0] * direction[1] - offset[:, 1] * direction[0]) / cross
        if ((t > 0) & (t < 1) & (u >= 0) & (u <= 1)).any():
            return False
    return True


def needed_braking(
    road_map: RoadMap,
    route: Route,
    start_speed: float,
    other: Route,
    other_speed: float,
    meeting: Meeting,
    stop_s: float | None = None,
) -> float:
    """m/s2 that stop an ego at the limit before the meeting, braking from the moment it first sees the other.

    The other drives at a constant speed and is at the meeting when the ego is. Sight: 60 m, buildings hide.
    stop_s: where the ego's front must stop (2 m before the meeting by default).
    """
    stop_s = meeting.ego_s - 2.0 if stop_s is None else stop_s
    times = route.arrival_times(start_speed)
    speeds = route.reference_speeds(start_speed)
    goal = max(0, int(meeting.ego_s - EGO_CENTRE_AHEAD))
    seen: int | None = None
    for i in range(0, goal, 2):
        other_at = meeting.other_s - other_speed * (times[goal] - times[i])
        there = np.array(other.at(max(other_at, 0.0))[:2])
        visible = math.dist(route.points[i], there) < SIGHT_RANGE and sight_is_free(
            road_map, route.points[i], there
        )
        seen = (i if seen is None else seen) if visible else None
    if seen is None:
        return math.inf
    return float(speeds[seen] ** 2 / (2 * max(stop_s - EGO_FRONT - seen, 0.1)))


def place_on(
    road_map: RoadMap, lanes: Sequence[str], start: float, s: float
) -> tuple[str, float, int, float]:
    """(lane, metres along it, index in lanes, way metre) of way metre s; inside a junction, the lane's end
    before it.
    """
    reached = -start
    place = (lanes[0], min(start + s, line_length(road_map.lanes[lanes[0]].centre_line)), 0, s)
    for i, name in enumerate(lanes):
        length = line_length(road_map.lanes[name].centre_line)
        if road_map.lanes[name].kind is LaneKind.DRIVING:
            if s < reached + length:
                return name, max(s - reached, 0.1), i, s
            place = (name, length - 0.5, i, reached + length - 0.5)
        elif s < reached + length:
            return place
        reached += length
    return place


def edges_of(road_map: RoadMap, lanes: Sequence[str]) -> list[str]:
    """Edges of a chain of lanes, without junctions."""
    edges: list[str] = []
    for name in lanes:
        edge = road_map.lanes[name].edge
        if not edge.startswith(":") and (not edges or edges[-1] != edge):
            edges.append(edge)
    return edges


class ScriptedVehicle:
    """One vehicle on a fixed way, with its speed commanded here and blind to the ego (but see PATIENCE)."""

    def __init__(
        self,
        traffic: Traffic,
        name: str,
        kind: str,
        lanes: Sequence[str],
        start: float,
        s: float,
        speed: float,
    ):
        self.traffic, self.name, self.kind = traffic, name, kind
        self.lanes, self.start = list(lanes), start
        self.way = build_route(traffic.road_map, self.lanes, start)
        self.size = VEHICLES[kind]
        self.s, self.speed = s, speed
        self.spawned = False
        self.released = False
        self._blocked = 0.0

    def spawn(self) -> None:
        """Insert into SUMO at way metre s (front bumper)."""
        road_map = self.traffic.road_map
        lane, position, index, self.s = place_on(road_map, self.lanes, self.start, self.s)
        self.traffic.add_vehicle(
            self.name,
            self.kind,
            lane,
            position,
            edges_of(road_map, self.lanes[index:]),
            self.speed,
            scripted=True,
        )
        self.spawned = True

    @property
    def present(self) -> bool:
        return self.spawned and self.name in self.traffic.bodies

    def locate(self) -> float:
        """Way metres of the front bumper."""
        if self.present:
            body = self.traffic.bodies[self.name]
            half = self.size.length / 2
            x, y = body.x + half * math.cos(body.yaw), body.y + half * math.sin(body.yaw)
            self.s = self.way.project(x, y, self.s)[0]
        return self.s

    def drive(
        self, wanted: float, ego: EgoPose, acceleration: float = ACCELERATION, braking: float = 3.0
    ) -> None:
        """Command a speed nearer to `wanted`; brakes for vehicles ahead, and for an ego in the way after
        PATIENCE.
        """
        if not self.present or self.released:
            return
        self.locate()
        speed = min(max(wanted, self.speed - braking * DT), self.speed + acceleration * DT)
        leader = self.traffic.sumo.vehicle.getLeader(self.name, 40.0)
        if leader and leader[0] and leader[0] != "ego":
            gap = max(leader[1] - 1.5, 0.0)
            other = self.traffic.speeds.get(leader[0], 0.0)
            speed = min(speed, max(math.sqrt(other**2 + 2 * 3.5 * gap), self.speed - EMERGENCY * DT))
        speed = min(speed, self._for_ego(ego, speed))
        self.speed = max(speed, 0.0)
        self.traffic.command(self.name, self.speed)

    def _for_ego(self, ego: EgoPose, speed: float) -> float:
        reach = self.speed**2 / (2 * 4.0) + 4.0
        stations = np.arange(self.s, min(self.s + reach, self.way.length), 1.0).astype(int)
        x, y = ego_centre(ego)
        box = Obstacle(x, y, ego.yaw, EGO_LENGTH / 2, EGO_WIDTH / 2, ego.speed)
        distance = distance_to_obstacle(self.way.points[stations], self.size.width / 2, box)
        if distance is None:
            self._blocked = 0.0
            return speed
        self._blocked += DT
        if self._blocked < PATIENCE:
            return speed
        along = max(0.0, ego.speed * math.cos(ego.yaw - self.way.at(self.s)[2]))
        needed = max(0.0, self.speed**2 - along**2) / (2 * max(distance - 1.5, 0.1))
        if distance < 1.5:
            needed = EMERGENCY
        return max(0.0, self.speed - min(needed, EMERGENCY) * DT) if needed > 1.0 else speed

    def release(self) -> None:
        """From here on SUMO drives it."""
        if self.present and not self.released:
            self.traffic.release(self.name)
        self.released = True


class Stream:
    """Scripted vehicles on one way, `offsets` seconds apart, the one with offset 0 timed to meet the ego."""

    def __init__(
        self,
        traffic: Traffic,
        lanes: Sequence[str],
        start: float,
        kinds: Sequence[str],
        offsets: Sequence[float],
        speed: float,
        meeting: Meeting,
        ego_start_speed: float,
        freeze_time: float = FREEZE_TIME,
        lead: float = 0.0,
    ):
        """lead: metres by which the meeting vehicle's centre is to be ahead of the meeting when the ego's
        centre is there.
        """
        self.traffic, self.speed, self.meeting, self.offsets = traffic, speed, meeting, list(offsets)
        self.approach = Approach(traffic.route)
        self.frozen = False
        self._freeze_time, self._lead = freeze_time, lead
        self._goal = meeting.ego_s - EGO_CENTRE_AHEAD
        arrival = self.approach.time_to(0.0, ego_start_speed, self._goal)
        self.vehicles: list[ScriptedVehicle] = []
        self._spawn_at: list[float] = []
        for i, (kind, offset) in enumerate(zip(kinds, offsets, strict=True)):
            half = VEHICLES[kind].length / 2
            s = meeting.other_s + lead + half - speed * (arrival + offset)
            first = VEHICLES[kind].length + 0.5
            if self.vehicles:  # the one before may have been moved out of a junction
                s = min(s, self.vehicles[-1].s - self.vehicles[-1].size.length - SPAWN_GAP)
            s = place_on(traffic.road_map, lanes, start, max(s, first))[3] if s >= first else s
            self._spawn_at.append(max(0.0, (first - s) / speed))
            self.vehicles.append(ScriptedVehicle(traffic, f"script{i}", kind, lanes, start, s, speed))
        for vehicle, due in zip(self.vehicles, self._spawn_at, strict=True):
            if due == 0.0:
                vehicle.spawn()

    def before_step(self, ego: EgoPose, time_s: float) -> None:
        """Spawn those that are due, adjust, drive, release those that have passed."""
        s = self.approach.locate(ego)
        remaining = self.approach.time_to(s, ego.speed, self._goal)
        if not self.frozen:
            yielding = time_s > 1.5 and ego.speed < YIELDING * self._expected(s, time_s)
            self.frozen = remaining < self._freeze_time or yielding or time_s > LONGEST_WAIT
        for vehicle, offset, due in zip(self.vehicles, self.offsets, self._spawn_at, strict=True):
            if not vehicle.spawned and time_s >= due:
                vehicle.s = vehicle.size.length + 0.5
                vehicle.spawn()
            if not vehicle.present:
                continue
            wanted = self.speed
            gap = self.meeting.other_s + self._lead + vehicle.size.length / 2 - vehicle.locate()
            if not self.frozen and gap > 0:
                wanted = gap / max(remaining + offset, 0.2)
                wanted = min(max(wanted, SLOWEST * self.speed), FASTEST * self.speed)
            # Once frozen it returns to its own speed so gently that who watches it can foresee where it
            # will be
            # (at 3 m/s2 it closed a gap that had been one when the ego pulled out).
            vehicle.drive(wanted, ego, acceleration=RECOVERY if self.frozen else 3.0)
            if gap < -(vehicle.size.length + 10.0):
                vehicle.release()

    def _expected(self, s: float, time_s: float) -> float:
        return min(self.approach.reference_speed(s), self.traffic.spec.start_speed + 1.5 * time_s)
