"""Parked cars on the verge beyond the sidewalks: still scenery that hides what comes from behind it."""

from __future__ import annotations

import functools
import math

import numpy as np

from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.route import line_length, sample_line
from wpt_sim.vehicles import VEHICLES, box_corners
from wpt_sim.world_state import Actor

KERB_GAP = 0.3  # metres between the sidewalk's outer edge and the car
END_CLEARANCE = 12.0  # metres from a sidewalk's ends (junctions)
KINDS = ("car_small", "car", "car_large")


@functools.lru_cache(maxsize=32)
def _taken(road_map: RoadMap) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) along all lanes every 2 m and the half width (N,) there."""
    points, widths = [], []
    for lane in road_map.lanes.values():
        stations = np.arange(0.0, line_length(lane.centre_line) + 1.0, 2.0)
        points.append(sample_line(lane.centre_line, stations))
        widths.append(np.full(len(stations), lane.width / 2))
    return np.vstack(points), np.concatenate(widths)


def parked_actor(
    road_map: RoadMap, sidewalk: str, station: float, name: str, rng: np.random.Generator
) -> Actor | None:
    """A car on the verge beside a sidewalk at `station` metres; None where it would stand on a lane."""
    lane = road_map.lanes[sidewalk]
    size = VEHICLES[KINDS[int(rng.integers(len(KINDS)))]]
    (x0, y0), (x1, y1) = sample_line(lane.centre_line, np.array([station - 1.0, station + 1.0]))
    yaw = math.atan2(y1 - y0, x1 - x0)
    lateral = lane.width / 2 + KERB_GAP + size.width / 2
    x, y = (x0 + x1) / 2 + lateral * math.sin(yaw), (y0 + y1) / 2 - lateral * math.cos(yaw)
    corners = box_corners(x, y, yaw, size.length, size.width)
    points, half_widths = _taken(road_map)
    outline = np.vstack([corners, (corners + np.roll(corners, 1, axis=0)) / 2, [[x, y]]])
    gaps = np.hypot(*(outline[:, None] - points[None]).transpose(2, 0, 1)) - half_widths
    if gaps.min() < 0.15:
        return None
    return Actor(
        id=name,
        kind=size.kind,
        x=x,
        y=y,
        yaw=yaw,
        speed=0.0,
        length=size.length,
        width=size.width,
        height=size.height,
        colour_seed=int(rng.integers(2**31)),
        parked=True,
    )


def parked_along(road_map: RoadMap, count: int, rng: np.random.Generator, near: np.ndarray) -> list[Actor]:
    """`count` parked cars (or a few less) beside sidewalks within 70 m of the points `near` (N, 2)."""
    walks = sorted(lane.id for lane in road_map.lanes.values() if lane.kind is LaneKind.SIDEWALK)
    cars: list[Actor] = []
    for _ in range(20 * count):
        if len(cars) == count:
            break
        sidewalk = walks[int(rng.integers(len(walks)))]
        line = road_map.lanes[sidewalk].centre_line
        length = line_length(line)
        if length < 2 * END_CLEARANCE + 5:
            continue
        station = rng.uniform(END_CLEARANCE, length - END_CLEARANCE)
        spot = sample_line(line, np.array([station]))[0]
        if np.hypot(*(near - spot).T).min() > 70.0 or any(
            math.hypot(c.x - spot[0], c.y - spot[1]) < 8 for c in cars
        ):
            continue
        car = parked_actor(road_map, sidewalk, station, f"parked{len(cars)}", rng)
        if car is not None:
            cars.append(car)
    return cars
