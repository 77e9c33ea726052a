"""A world state without SUMO: road users spread over the lanes around an ego. For benchmarks, tests and
pictures."""

from __future__ import annotations

import math

import numpy as np

from wpt_sim.lane_strip import length_of_line, points_along
from wpt_sim.road_map import Lane, LaneKind, RoadMap
from wpt_sim.vehicles import VEHICLES, PEDESTRIAN, boxes_overlap, box_corners, ego_corners
from wpt_sim.world_state import Actor, EgoPose, Lights, SignalColour, WorldState

_SPACING_M = 9.0
_LIGHTS = (Lights.NONE, Lights.BRAKE, Lights.LEFT, Lights.RIGHT, Lights.NONE)


def ego_on_lane(lane: Lane, station: float, speed: float = 6.0) -> EgoPose:
    """Return an ego on a lane's centre line, ``station`` metres from its start (clipped to the lane)."""
    steps = np.diff(lane.centre_line, axis=0)
    stations = np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
    station = float(np.clip(station, 0.0, stations[-1]))
    index = int(np.clip(np.searchsorted(stations, station, side="right") - 1, 0, len(steps) - 1))
    x, y = (float(np.interp(station, stations, lane.centre_line[:, axis])) for axis in (0, 1))
    return EgoPose(x=x, y=y, yaw=math.atan2(steps[index, 1], steps[index, 0]), speed=speed)


def still_state(
    road_map: RoadMap, ego: EgoPose, *, count: int = 30, reach: float = 90.0, seed: int = 0
) -> WorldState:
    """Return a state with at most ``count`` road users within ``reach`` metres; none touches another or the
    ego.

    One in five is a pedestrian on a sidewalk or crossing; signals show a colour each, drawn from the seed.
    """
    rng = np.random.default_rng([seed, 51])
    places: list[tuple[float, float, float, bool]] = []
    for lane in road_map.lanes.values():
        if lane.kind is LaneKind.JUNCTION or length_of_line(lane.centre_line) < 2.0:
            continue
        line = points_along(lane.centre_line, _SPACING_M)
        on_foot = lane.kind in (LaneKind.SIDEWALK, LaneKind.CROSSING)
        for p, q in zip(line, line[1:], strict=False):
            x, y = p + rng.uniform(0.2, 0.8) * (q - p)
            if math.hypot(x - ego.x, y - ego.y) < reach:
                places.append((float(x), float(y), math.atan2(q[1] - p[1], q[0] - p[0]), on_foot))
    kinds = list(VEHICLES.values())
    taken = [ego_corners(ego)]
    actors: list[Actor] = []
    for index in rng.permutation(len(places)):
        x, y, yaw, on_foot = places[int(index)]
        walkers = sum(actor.kind is PEDESTRIAN.kind for actor in actors)
        if len(actors) == count or (on_foot and walkers >= max(1, count // 5)):
            continue
        size = PEDESTRIAN if on_foot else kinds[int(rng.integers(len(kinds)))]
        corners = box_corners(x, y, yaw, size.length + 0.6, size.width + 0.4)
        if any(boxes_overlap(corners, other) for other in taken):
            continue
        taken.append(corners)
        lights = Lights.NONE if on_foot else _LIGHTS[int(rng.integers(len(_LIGHTS)))]
        actors.append(
            Actor(
                id=f"actor{len(actors)}",
                kind=size.kind,
                x=x,
                y=y,
                yaw=yaw,
                speed=float(rng.uniform(0.0, 8.0)),
                length=size.length,
                width=size.width,
                height=size.height,
                lights=lights,
                colour_seed=int(rng.integers(2**31)),
            )
        )
    colours = (SignalColour.RED, SignalColour.YELLOW, SignalColour.GREEN)
    signals = {
        (head.signal, link): colour
        for head in road_map.signal_heads
        for colour in [colours[int(rng.integers(3))]]
        for link in head.links
    }
    return WorldState(time_s=0.0, ego=ego, actors=tuple(actors), signals=signals)
