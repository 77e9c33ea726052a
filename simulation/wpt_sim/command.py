"""The driving command, from the route and the map alone: what the next manoeuvre within 40 m is."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from wpt_policy.frame import Command

from wpt_sim.road_map import RoadMap, Turn
from wpt_sim.route import Route, connections_from, line_length

LOOK_AHEAD = 40.0  # metres before a manoeuvre at which its command begins
STRAIGHT_EXIT = math.radians(40.0)  # a roundabout exit turning less than this in all counts as straight on

_TURN_COMMAND = {
    Turn.LEFT: Command.LEFT,
    Turn.RIGHT: Command.RIGHT,
    Turn.STRAIGHT: Command.STRAIGHT,
    Turn.U_TURN: Command.LEFT,
}


@dataclass(frozen=True)
class Manoeuvre:
    """Route metres (begin, end) between which the way of the command is driven."""

    command: Command
    begin: float
    end: float


def route_command(road_map: RoadMap, route: Route, s: float) -> Command:
    """The command for an ego (base_link) at route metre s.

    The manoeuvre at hand, else the next one that begins within 40 m: a turn (or straight on) at a junction
    where the incoming lane's road offers a choice, a roundabout by its exit relative to its entry, a lane
    change that the route needs; LANE_FOLLOW where there is none. Depends on nothing that moves.
    """
    for manoeuvre in manoeuvres(road_map, route):
        if s <= manoeuvre.end:
            return manoeuvre.command if manoeuvre.begin - s <= LOOK_AHEAD else Command.LANE_FOLLOW
    return Command.LANE_FOLLOW


@functools.lru_cache(maxsize=256)
def manoeuvres(road_map: RoadMap, route: Route) -> tuple[Manoeuvre, ...]:
    """All manoeuvres of a route in driving order."""
    rings = {junction: number for number, ring in enumerate(road_map.roundabouts) for junction in ring}
    found: list[Manoeuvre] = []
    ring_begin: float | None = None
    i = 0
    lanes = route.lanes
    while i < len(lanes) - 1:
        here, after = road_map.lanes[lanes[i]], road_map.lanes[lanes[i + 1]]
        if after.id in (here.left, here.right):
            begin, end = _change_span(route, i)
            command = Command.CHANGE_LANE_LEFT if after.id == here.left else Command.CHANGE_LANE_RIGHT
            found.append(Manoeuvre(command, begin, end))
            i += 1
            continue
        connection = next(
            (
                c
                for c in connections_from(road_map).get(here.id, ())
                if lanes[i + 1 : i + 1 + len(c.via)] == c.via
                and (i + 1 + len(c.via) >= len(lanes) or lanes[i + 1 + len(c.via)] == c.to_lane)
            ),
            None,
        )
        if connection is None:
            i += 1
            continue
        spans = [span for span in (route.span(name) for name in connection.via) if span]
        if spans:
            begin, end = spans[0][0], spans[-1][1]
            junction = road_map.lanes[connection.via[0]].junction
            if junction in rings:
                ring_begin = begin if ring_begin is None else ring_begin
                if not _stays_in_ring(
                    road_map, rings, rings[junction], connection.to_lane, lanes[i + 1 + len(connection.via) :]
                ):
                    found.append(Manoeuvre(_exit_command(route, ring_begin, end), ring_begin, end))
                    ring_begin = None
            elif _is_choice(road_map, here.edge):
                found.append(Manoeuvre(_TURN_COMMAND[connection.turn], begin, end))
        i += 1 + len(connection.via)
    if ring_begin is not None:  # the route ends inside a roundabout
        found.append(Manoeuvre(_exit_command(route, ring_begin, route.length), ring_begin, route.length))
    return tuple(sorted(found, key=lambda m: m.begin))


def _is_choice(road_map: RoadMap, edge: str) -> bool:
    """Whether more than one road can be taken at the end of this one."""
    ends = {
        road_map.lanes[c.to_lane].edge
        for c in road_map.connections
        if road_map.lanes[c.from_lane].edge == edge
    }
    return len(ends) > 1


def _change_span(route: Route, i: int) -> tuple[float, float]:
    """Route metres around the change from lane i to lane i + 1: 12 m before to 12 m after its middle."""
    later = [k for k in range(len(route.lane_index)) if route.lane_index[k] >= i + 1]
    middle = float(later[0]) if later else route.length
    earlier, until = route.span(route.lanes[i]), route.span(route.lanes[i + 1])
    first = earlier[0] if earlier else 0.0
    last = until[1] if until else route.length
    return max(first, middle - 12.0), min(last, middle + 12.0)


def _stays_in_ring(
    road_map: RoadMap, rings: dict[str, int], ring: int, lane: str, after: tuple[str, ...]
) -> bool:
    """Whether a lane that leaves a ring junction is a part of the ring: it is short and ends at the same
    ring.
    """
    follows = connections_from(road_map).get(lane, ())
    ends_in_ring = any(c.via and rings.get(road_map.lanes[c.via[0]].junction) == ring for c in follows)
    return ends_in_ring and line_length(road_map.lanes[lane].centre_line) < 60.0


def _exit_command(route: Route, begin: float, end: float) -> Command:
    """By the angle from 15 m before the ring to 10 m after it; the ring itself turns left all the way."""
    turned = route.at(min(end + 10.0, route.length))[2] - route.at(max(begin - 15.0, 0.0))[2]
    if abs(turned) < STRAIGHT_EXIT:
        return Command.STRAIGHT
    return Command.LEFT if turned > 0 else Command.RIGHT
