"""The line that the expert drives: the route, with a sideways step around something that blocks it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpt_sim.ego_vehicle import MAX_STEER
from wpt_sim.route import Route
from wpt_sim.vehicles import EGO_WHEELBASE

REACH = 60  # metres ahead that a path is sampled: as far as the expert may know the route
BEYOND = 90.0  # metres by which a route goes on straight for a driver who passes its end
COMFORTABLE_LATERAL = 2.6  # m/s2 in curves


@dataclass(frozen=True)
class SideStep:
    """A shift of the path by `offset` metres (left positive), full from `full_from` to `full_to` route
    metres.
    """

    begin: float
    full_from: float
    full_to: float
    end: float
    offset: float

    def at(self, s: np.ndarray) -> np.ndarray:
        """Offsets at route metres s."""
        up = np.clip((s - self.begin) / max(self.full_from - self.begin, 1e-6), 0.0, 1.0)
        down = np.clip((self.end - s) / max(self.end - self.full_to, 1e-6), 0.0, 1.0)
        t = np.minimum(up, down)
        return self.offset * t * t * (3 - 2 * t)


@dataclass(frozen=True, eq=False)
class Path:
    """Samples every metre from route metre `start` on: x, y, heading, curvature, limit (m/s), all (N,)."""

    start: float
    x: np.ndarray
    y: np.ndarray
    heading: np.ndarray
    curvature: np.ndarray
    limit: np.ndarray

    def at(self, s: float) -> tuple[float, float, float]:
        """(x, y, heading) at route metre s, clamped to the samples."""
        k = min(max(s - self.start, 0.0), len(self.x) - 1.001)
        i = int(k)
        t = k - i
        return (
            float(self.x[i] + t * (self.x[i + 1] - self.x[i])),
            float(self.y[i] + t * (self.y[i + 1] - self.y[i])),
            float(self.heading[i] + t * (self.heading[i + 1] - self.heading[i])),
        )


@functools.lru_cache(maxsize=64)
def _extended(route: Route) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y, heading, limit every metre from -10 m on, going on straight before and after the route."""
    heading = np.concatenate(
        [np.full(10, route.headings[0]), route.headings, np.full(int(BEYOND), route.headings[-1])]
    )
    before, after = np.arange(-10, 0)[:, None], np.arange(1, int(BEYOND) + 1)[:, None]
    first, last = route.headings[0], route.headings[-1]
    points = np.vstack(
        [
            route.points[0] + before * [math.cos(first), math.sin(first)],
            route.points,
            route.points[-1] + after * [math.cos(last), math.sin(last)],
        ]
    )
    limit = np.concatenate(
        [np.full(10, route.speed_limits[0]), route.speed_limits, np.full(int(BEYOND), route.speed_limits[-1])]
    )
    return points[:, 0], points[:, 1], heading, limit


def path_from(route: Route, s: float, step: SideStep | None) -> Path:
    """The path from route metre s on (a little before, so that an ego beside it finds itself)."""
    xs, ys, headings, limits = _extended(route)
    start = s
    stations = start + np.arange(REACH + 1.0)
    place = np.clip(stations + 10.0, 0.0, len(xs) - 1.001)
    i = place.astype(int)
    t = place - i
    x, y, heading, limit = (a[i] + t * (a[i + 1] - a[i]) for a in (xs, ys, headings, limits))
    if step is not None:
        offset = step.at(stations)
        slope = step.at(stations + 0.5) - step.at(stations - 0.5)
        x, y = x - offset * np.sin(heading), y + offset * np.cos(heading)
        heading = heading + np.arctan(slope)
    curvature = np.gradient(heading)
    return Path(start, x, y, heading, curvature, limit)


def speed_cap(
    path: Path, braking: float, walls: list[float], slow: Sequence[tuple[float, float]] = ()
) -> np.ndarray:
    """(N,) m/s: limits and curves, with room to brake at `braking` m/s2 for all that is slower ahead.

    walls: route metres of base_link that must not be passed; slow: (route metres, m/s) to be passed slowly.
    """
    # The curve is as tight as its tightest part within 1.5 m.
    bend = np.abs(path.curvature)
    bend[1:-1] = np.maximum(bend[1:-1], np.maximum(bend[:-2], bend[2:]))
    cap = np.minimum(path.limit, np.sqrt(COMFORTABLE_LATERAL / np.maximum(bend, 1e-3)))
    stations = path.start + np.arange(len(cap))
    for s, speed in slow:
        cap = np.where(np.abs(stations - s) < 2.5, np.minimum(cap, speed), cap)
    squared = cap**2
    for wall in walls:
        squared = np.minimum(squared, 2 * braking * np.maximum(wall - stations, 0.0))
    # Backward pass: v(s)^2 <= min over later s' of v(s')^2 + 2 b (s' - s).
    raised = squared + 2 * braking * stations
    squared = np.minimum.accumulate(raised[::-1])[::-1] - 2 * braking * stations
    return np.sqrt(np.maximum(squared, 0.0))


def steer_along(path: Path, x: float, y: float, yaw: float, speed: float, s: float) -> float:
    """Front wheel angle (rad) of pure pursuit from a pose near route metre s."""
    look = min(max(0.5 * speed + 1.0, 2.8), 8.0)
    tx, ty, _ = path.at(s + look)
    dx, dy = tx - x, ty - y
    ahead, left = math.cos(yaw) * dx + math.sin(yaw) * dy, -math.sin(yaw) * dx + math.cos(yaw) * dy
    squared = max(ahead * ahead + left * left, 1.0)
    steer = math.atan(EGO_WHEELBASE * 2.0 * left / squared)
    return min(max(steer, -MAX_STEER), MAX_STEER)
