"""Merging: the ego's way joins a stream that goes on in the lane it needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from wpt_sim.episode import HARDEST_BRAKING
from wpt_sim.road_map import LaneKind, Priority, RoadMap, Turn
from wpt_sim.route import (
    RouteError,
    build_route,
    connections_from,
    connections_to,
    extend_backward,
    line_length,
)
from wpt_sim.scenarios.stream_meeting import (
    STREAM_CARS,
    StreamMeeting,
    draw_meeting,
    foe_connections,
    in_roundabout,
    is_unsignalised,
    junction_of,
    pick,
)

BESIDE = (
    2.6  # metres between two lane centres' ways at which boxes side by side begin to touch (with 3.3 m lanes)
)


def draw_lane_change(
    road_map: RoadMap,
    rng: np.random.Generator,
    lanes: list[str],
    start: float,
    stream_lanes: list[str],
    stream_start: float,
    speed: float,
) -> dict[str, Any] | None:
    """Fields for a route whose lane change meets a stream in the target lane."""
    try:
        route = build_route(road_map, lanes, start, 220.0)
        way = build_route(road_map, stream_lanes, stream_start)
    except RouteError:
        return None
    change = next(
        i for i in range(1, len(lanes)) if road_map.lanes[lanes[i]].edge == road_map.lanes[lanes[i - 1]].edge
    )
    target = np.flatnonzero(route.lane_index >= change)
    if not len(target) or target[0] > route.length - 20.0 or target[0] < 12.0 or route.length < 60.0:
        return None
    # The meeting: the change has gone half the way. The stream drives beside the ego there.
    ego_s = float(target[0]) - 4.0
    x, y, _ = route.at(ego_s)
    other_s = way.project(x, y)[0]
    start_speed = float(rng.uniform(0.75, 1.0) * route.reference_speeds(1e3)[0])
    cars = int(rng.integers(3, 6))
    step = float(rng.uniform(1.1, 1.6))
    first = -int(rng.integers(1, cars))  # at least one car before the one that the ego meets
    # The others drive beside the ego in plain sight: what is asked is to adapt the speed by one car's place.
    gap = step * speed
    needed = max(0.0, gap / max((ego_s / max(start_speed, 3.0)) ** 2, 1.0))
    if needed > HARDEST_BRAKING:
        return None
    return dict(
        lanes=tuple(lanes),
        start=round(start, 2),
        length=round(route.length, 2),
        start_speed=round(start_speed, 2),
        vehicles=int(rng.integers(3, 9)),
        pedestrians=int(rng.integers(0, 5)),
        parked=int(rng.integers(0, 6)),
        conflict_s=ego_s,
        parameters=dict(
            stream_lanes=list(stream_lanes),
            stream_start=round(stream_start, 2),
            stream_speed=round(speed, 2),
            offsets=[round(step * (i + first), 2) for i in range(cars)],
            kinds=[STREAM_CARS[int(rng.integers(3))] for _ in range(cars)],
            meeting_other_s=other_s,
            stop_s=ego_s,
            needed_braking=round(needed, 2),
            signal="",
            link=-1,
            foe_link=-1,
        ),
    )


class LaneChangeMeeting(StreamMeeting):
    freeze_time = 0.6
    lead = 1.0  # beside the ego, a little ahead: the contact is with the ego's front or side


class OnRamp(LaneChangeMeeting):
    """From a ramp's acceleration lane, which ends, onto a fast road."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator):
        def ends(lane: str) -> bool:
            return lane not in connections_from(road_map) and road_map.lanes[lane].left in connections_from(
                road_map
            )

        accelerations = [
            lane
            for lane, road in road_map.lanes.items()
            if road.kind is LaneKind.DRIVING and ends(lane) and lane in connections_to(road_map)
        ]
        if not accelerations:
            return None
        acceleration = accelerations[int(rng.integers(len(accelerations)))]
        target = road_map.lanes[acceleration].left
        ramp = connections_to(road_map)[acceleration][0]
        beyond = connections_from(road_map)[target][0]
        lanes = [ramp.from_lane, *ramp.via, acceleration, target, *beyond.via, beyond.to_lane]
        start = max(0.0, line_length(road_map.lanes[ramp.from_lane].centre_line) - rng.uniform(30, 55))
        main = connections_to(road_map)[target][0]
        stream = [main.from_lane, *main.via, target, *beyond.via, beyond.to_lane]
        speed = float(rng.uniform(0.72, 0.92)) * road_map.lanes[target].speed_limit
        return draw_lane_change(road_map, rng, lanes, start, stream, 0.0, speed)


class LaneChange(LaneChangeMeeting):
    """On a road of two lanes, into the neighbouring lane that the route needs, beside a stream."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator):
        pairs = [
            (lane.id, other)
            for lane in road_map.lanes.values()
            if lane.kind is LaneKind.DRIVING
            and line_length(lane.centre_line) > 85
            and lane.id in connections_to(road_map)
            for other in (lane.left, lane.right)
            if other
            and road_map.lanes[other].kind is LaneKind.DRIVING
            and other in connections_from(road_map)
            and lane.id in connections_from(road_map)
        ]
        if not pairs:
            return None
        lane, target = pairs[int(rng.integers(len(pairs)))]
        beyond = pick(rng, connections_from(road_map)[target])
        lanes = [lane, target, *beyond.via, beyond.to_lane]
        before = extend_backward(road_map, target, 60.0, rng)
        if before is None or beyond.priority is Priority.SIGNAL and beyond.turn is not Turn.STRAIGHT:
            return None
        stream = [*before, target, *beyond.via, beyond.to_lane]
        if len(set(stream)) < len(stream):
            return None
        speed = float(rng.uniform(0.7, 0.9)) * road_map.lanes[target].speed_limit
        return draw_lane_change(road_map, rng, lanes, float(rng.uniform(3.0, 12.0)), stream, 0.0, speed)


class SideRoadRight(StreamMeeting):
    """To the right into a stream on a road with the right of way."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator):
        def joining(connection):
            return [
                foe
                for foe in foe_connections(road_map, connection)
                if foe.to_lane == connection.to_lane and foe.priority is Priority.MAJOR
            ]

        connection = pick(
            rng,
            (
                c
                for c in road_map.connections
                if is_unsignalised(c)
                and c.turn is Turn.RIGHT
                and joining(c)
                and not in_roundabout(road_map, junction_of(road_map, c))
            ),
        )
        if connection is None:
            return None
        return draw_meeting(
            road_map, rng, connection, joining(connection), headway=(1.4, 2.0), count=(4, 6), lead_cars=2
        )
