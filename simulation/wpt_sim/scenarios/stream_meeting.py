"""Scenarios in which a stream of others crosses or joins the ego's way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from wpt_sim.episode import HARDEST_BRAKING
from wpt_sim.road_map import Connection, LaneKind, Priority, RoadMap
from wpt_sim.route import RouteError, build_route, lane_chain_around, line_length
from wpt_sim.scenarios.arrival import (
    EGO_FRONT,
    FREEZE_TIME,
    Approach,
    Meeting,
    Stream,
    first_meeting,
    needed_braking,
)
from wpt_sim.scenarios.script import Scenario
from wpt_sim.scenarios.signal_control import SignalControl
from wpt_sim.world_state import EgoPose

STREAM_CARS = ("car_small", "car", "car_large")


def foe_connections(road_map: RoadMap, connection: Connection) -> list[Connection]:
    """Connections through the junction lanes that go first of `connection`."""
    first = set(connection.yields_to)
    return [other for other in road_map.connections if first & set(other.via) and other is not connection]


def stop_metre(road_map: RoadMap, lanes: list[str], start: float, connection: Connection) -> float:
    """Route metres of the end of the connection's incoming lane."""
    reached = sum(
        line_length(road_map.lanes[name].centre_line)
        for name in lanes[: lanes.index(connection.from_lane) + 1]
    )
    return reached - start


def draw_meeting(
    road_map: RoadMap,
    rng: np.random.Generator,
    connection: Connection,
    foes: list[Connection],
    *,
    headway: tuple[float, float],
    count: tuple[int, int],
    before: tuple[float, float] = (45.0, 85.0),
    after: tuple[float, float] = (40.0, 80.0),
    speed_share: tuple[float, float] = (0.75, 0.95),
    lead_cars: int = 1,
) -> dict[str, Any] | None:
    """A route through `connection` and a stream through one of `foes`; None where they do not fit or are
    unfair.
    """
    around = lane_chain_around(road_map, connection, rng.uniform(*before), rng.uniform(*after), rng)
    if around is None or not foes:
        return None
    lanes, start = around
    foe = foes[int(rng.integers(len(foes)))]
    other = lane_chain_around(road_map, foe, 170.0, 90.0, rng)
    if other is None:
        return None
    other_lanes, other_start = other
    if len(set(lanes)) < len(lanes) or len(set(other_lanes)) < len(other_lanes):
        return None
    try:
        route, way = (
            build_route(road_map, lanes, start, 220.0),
            build_route(road_map, other_lanes, other_start),
        )
    except RouteError:
        return None
    stop_s = stop_metre(road_map, lanes, start, connection)
    meeting = first_meeting(route, way, ego_from=stop_s)
    # 50 m of the stream's way at least, or it would appear in plain sight.
    if (
        meeting is None
        or route.length < 60.0
        or meeting.ego_s > route.length - 20.0
        or meeting.other_s < 50.0
    ):
        return None
    foe_limit = road_map.lanes[foe.via[0]].speed_limit
    speed = float(rng.uniform(*speed_share)) * min(
        road_map.lanes[foe.from_lane].speed_limit, max(foe_limit, 6.0)
    )
    start_speed = float(rng.uniform(0.6, 1.0) * route.reference_speeds(1e3)[0])
    braking = needed_braking(road_map, route, start_speed, way, speed, meeting, stop_s=stop_s)
    if braking > HARDEST_BRAKING:
        return None
    cars = int(rng.integers(count[0], count[1] + 1))
    step = float(rng.uniform(*headway))
    offsets = [round(step * (i - min(lead_cars, cars - 1)), 2) for i in range(cars)]
    kinds = [STREAM_CARS[int(rng.integers(3))] for _ in range(cars)]
    return dict(
        lanes=tuple(lanes),
        start=round(start, 2),
        length=round(route.length, 2),
        start_speed=round(start_speed, 2),
        vehicles=int(rng.integers(4, 12)),
        pedestrians=int(rng.integers(0, 6)),
        parked=int(rng.integers(2, 8)),
        conflict_s=meeting.ego_s,
        parameters=dict(
            stream_lanes=list(other_lanes),
            stream_start=round(other_start, 2),
            stream_speed=round(speed, 2),
            offsets=offsets,
            kinds=kinds,
            meeting_other_s=meeting.other_s,
            stop_s=round(stop_s, 2),
            needed_braking=round(braking, 2),
            signal=connection.signal or "",
            link=connection.link,
            foe_link=foe.link if foe.signal else -1,
        ),
    )


class StreamMeeting(Scenario):
    """The script of all of them: one stream, timed to meet an ego that does not slow down."""

    freeze_time = FREEZE_TIME
    lead = 0.0
    foe_is_green = True  # at signals: whether the stream has green too

    def prepare(self, traffic) -> None:
        p = self.spec.parameters
        traffic.quiet_lanes |= {
            lane
            for lane in (*p["stream_lanes"], *self.spec.lanes)
            if traffic.road_map.lanes[lane].kind is LaneKind.DRIVING
        }
        self.stream = Stream(
            traffic,
            p["stream_lanes"],
            p["stream_start"],
            p["kinds"],
            p["offsets"],
            p["stream_speed"],
            Meeting(self.spec.conflict_s, p["meeting_other_s"]),
            self.spec.start_speed,
            freeze_time=self.freeze_time,
            lead=self.lead,
        )
        if p["signal"]:
            arrival = Approach(self.route).time_to(0.0, self.spec.start_speed, p["stop_s"] - EGO_FRONT)
            control = SignalControl(traffic.sumo, p["signal"])
            control.hold_green(p["link"], arrival + 20.0, p["foe_link"] if self.foe_is_green else None)

    def before_step(self, traffic, ego: EgoPose, time_s: float) -> None:
        self.stream.before_step(ego, time_s)


def pick(rng: np.random.Generator, connections: Iterable[Connection]) -> Connection | None:
    candidates = list(connections)
    return candidates[int(rng.integers(len(candidates)))] if candidates else None


def in_roundabout(road_map: RoadMap, junction: str | None) -> bool:
    return any(junction in ring for ring in road_map.roundabouts)


def junction_of(road_map: RoadMap, connection: Connection) -> str | None:
    return road_map.lanes[connection.via[0]].junction if connection.via else None


def is_unsignalised(connection: Connection) -> bool:
    return connection.priority in (Priority.YIELD, Priority.STOP)
