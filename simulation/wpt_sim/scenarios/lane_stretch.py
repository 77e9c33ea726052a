"""Places for scenarios that need a free stretch of one lane ahead of the ego."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wpt_sim.road_map import Lane, LaneKind, RoadMap
from wpt_sim.route import Route, RouteError, build_route, extend_forward, line_length
from wpt_sim.scenarios.stream_meeting import in_roundabout


@dataclass(frozen=True)
class Stretch:
    """A route that begins on `lane`; usable: route metres that lie on that lane."""

    lane: Lane
    lanes: list[str]
    start: float
    route: Route
    usable: float
    start_speed: float

    def fields(self) -> dict:
        """The EpisodeSpec fields that describe the route."""
        return dict(
            lanes=tuple(self.lanes),
            start=round(self.start, 2),
            length=round(self.route.length, 2),
            start_speed=round(self.start_speed, 2),
        )


def draw_stretch(
    road_map: RoadMap,
    rng: np.random.Generator,
    shortest: float,
    needs_neighbour: bool = False,
    needs_opposite: bool = False,
    needs_sidewalk: bool = False,
) -> Stretch | None:
    """A random lane of at least `shortest` metres and a route of up to 220 m that begins near its start."""
    sidewalks = {lane.edge for lane in road_map.lanes.values() if lane.kind is LaneKind.SIDEWALK}
    fits = []
    for lane in road_map.lanes.values():
        if lane.kind is not LaneKind.DRIVING or line_length(lane.centre_line) < shortest + 12.0:
            continue
        neighbours = [n for n in (lane.left, lane.right) if n and road_map.lanes[n].kind is LaneKind.DRIVING]
        if needs_neighbour and not neighbours or needs_opposite and (neighbours or not lane.opposite):
            continue
        if needs_sidewalk and lane.edge not in sidewalks:
            continue
        fits.append(lane)
    if not fits:
        return None
    lane = fits[int(rng.integers(len(fits)))]
    start = float(rng.uniform(3.0, 10.0))
    length = float(rng.uniform(max(shortest + 25.0, 110.0), 220.0))
    rest = length + start + 12.0 - line_length(lane.centre_line)
    ahead = extend_forward(road_map, lane.id, rest, rng) if rest > 0 else []
    if ahead is None or len(set(ahead)) < len(ahead):
        return None
    lanes = [lane.id, *ahead]
    if any(in_roundabout(road_map, road_map.lanes[name].junction) for name in lanes[:2]):
        return None
    try:
        route = build_route(road_map, lanes, start, length)
    except RouteError:
        return None
    usable = min(line_length(lane.centre_line) - start, route.length)
    if usable < shortest or route.length < shortest + 15.0:
        return None
    start_speed = float(rng.uniform(0.7, 1.0) * route.reference_speeds(1e3)[0])
    return Stretch(lane, lanes, start, route, usable, start_speed)
