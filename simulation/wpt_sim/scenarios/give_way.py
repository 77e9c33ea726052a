"""Give way: others have the right of way, and keep coming until a gap opens."""

from __future__ import annotations

import numpy as np

from wpt_sim.road_map import Priority, RoadMap, Turn
from wpt_sim.scenarios.stream_meeting import (
    StreamMeeting,
    draw_meeting,
    foe_connections,
    in_roundabout,
    is_unsignalised,
    junction_of,
    pick,
)

HEADWAY = (1.6, 2.3)  # seconds between the cars of a stream: too short to slip through
COUNT = (3, 5)


class UnprotectedLeft(StreamMeeting):
    """A left turn, at green or from a major road, across an oncoming stream."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator):
        def oncoming(connection):
            return [
                foe
                for foe in foe_connections(road_map, connection)
                if foe.turn is Turn.STRAIGHT
                and foe.priority in (Priority.SIGNAL, Priority.MAJOR)
                and (foe.priority is Priority.SIGNAL) == (connection.priority is Priority.SIGNAL)
                and foe.to_lane != connection.to_lane
            ]

        connection = pick(
            rng,
            (
                c
                for c in road_map.connections
                if c.turn is Turn.LEFT
                and oncoming(c)
                and not in_roundabout(road_map, junction_of(road_map, c))
            ),
        )
        if connection is None:
            return None
        return draw_meeting(road_map, rng, connection, oncoming(connection), headway=HEADWAY, count=COUNT)


class PriorityRoad(StreamMeeting):
    """Across, or to the left onto, a road with the right of way."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator):
        def crossing(connection):
            return [
                foe
                for foe in foe_connections(road_map, connection)
                if foe.priority is Priority.MAJOR and foe.turn is Turn.STRAIGHT
            ]

        connection = pick(
            rng,
            (
                c
                for c in road_map.connections
                if is_unsignalised(c)
                and c.turn is not Turn.RIGHT
                and crossing(c)
                and not in_roundabout(road_map, junction_of(road_map, c))
            ),
        )
        if connection is None:
            return None
        return draw_meeting(road_map, rng, connection, crossing(connection), headway=HEADWAY, count=COUNT)


class Roundabout(StreamMeeting):
    """Into a roundabout with traffic on its ring."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator):
        connection = pick(
            rng,
            (
                c
                for c in road_map.connections
                if in_roundabout(road_map, junction_of(road_map, c))
                and is_unsignalised(c)
                and foe_connections(road_map, c)
            ),
        )
        if connection is None:
            return None
        return draw_meeting(
            road_map,
            rng,
            connection,
            foe_connections(road_map, connection),
            headway=HEADWAY,
            count=COUNT,
            speed_share=(0.85, 1.0),
        )
