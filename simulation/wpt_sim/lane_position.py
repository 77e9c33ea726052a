"""Where a point lies among the lanes: inside a driving lane or off the road, and against which driving
direction.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from wpt_sim.road_map import LaneKind, RoadMap

ALLOWED_OUTSIDE = (
    0.5  # metres that the centre may be beyond a lane's edge (leaderboard: ALLOWED_OUT_DISTANCE)
)
# Leaderboard: a vehicle that points away from its lane's direction by more than this drives in the wrong one.
WRONG_WAY_ANGLE = math.radians(120.0)


@dataclass(frozen=True, kw_only=True)
class LanePosition:
    """beyond_edge: metres outside the nearest driving or junction lane, negative inside. lane: the lane whose
    centre line is nearest; heading: its direction (rad) there. in_junction: a junction lane or area covers
    the point.
    """

    beyond_edge: float
    lane: str
    heading: float
    in_junction: bool


class LaneIndex:
    """Finds lanes near a point. Holds every driving and junction lane's segments in arrays."""

    def __init__(self, road_map: RoadMap):
        starts, ends, owners = [], [], []
        self._lanes = [
            lane for lane in road_map.lanes.values() if lane.kind in (LaneKind.DRIVING, LaneKind.JUNCTION)
        ]
        for number, lane in enumerate(self._lanes):
            starts.append(lane.centre_line[:-1])
            ends.append(lane.centre_line[1:])
            owners.append(np.full(len(lane.centre_line) - 1, number))
        self._starts, self._along = np.vstack(starts), np.vstack(ends) - np.vstack(starts)
        self._squared = np.maximum((self._along**2).sum(1), 1e-12)
        self._owners = np.concatenate(owners)
        self._half_widths = np.array([lane.width / 2 for lane in self._lanes])[self._owners]
        self._junction = np.array([lane.kind is LaneKind.JUNCTION for lane in self._lanes])[self._owners]
        self._areas = [np.asarray(area, dtype=float) for area in road_map.junction_areas.values()]
        self._boxes = np.array([[*area.min(0), *area.max(0)] for area in self._areas]).reshape(-1, 4)

    def locate(self, x: float, y: float) -> LanePosition:
        """Return where (x, y) lies."""
        offset = np.array([x, y]) - self._starts
        share = np.clip((offset * self._along).sum(1) / self._squared, 0.0, 1.0)
        distance = np.hypot(*(offset - share[:, None] * self._along).T)
        beyond = distance - self._half_widths
        nearest = int(np.argmin(distance))
        heading = math.atan2(self._along[nearest, 1], self._along[nearest, 0])
        on_junction_lane = bool(np.any(beyond[self._junction] < 0.0)) if self._junction.any() else False
        return LanePosition(
            beyond_edge=float(beyond.min()),
            lane=self._lanes[int(self._owners[nearest])].id,
            heading=heading,
            in_junction=on_junction_lane or self._in_area(x, y),
        )

    def _in_area(self, x: float, y: float) -> bool:
        boxes = self._boxes
        near = (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])
        return any(polygon_contains(self._areas[i], x, y) for i in np.flatnonzero(near))


@functools.lru_cache(maxsize=8)
def lane_index(road_map: RoadMap) -> LaneIndex:
    """The index of a map, made once."""
    return LaneIndex(road_map)


def polygon_contains(polygon: np.ndarray, x: float, y: float) -> bool:
    """Whether (x, y) is inside an (N, 2) polygon, convex or not (crossing number)."""
    following = np.roll(polygon, -1, axis=0)
    straddles = (polygon[:, 1] > y) != (following[:, 1] > y)
    rise = np.where(straddles, following[:, 1] - polygon[:, 1], 1.0)
    crossing_x = polygon[:, 0] + (y - polygon[:, 1]) / rise * (following[:, 0] - polygon[:, 0])
    return bool(np.count_nonzero(straddles & (x < crossing_x)) % 2)


def is_wrong_way(position: LanePosition, yaw: float) -> bool:
    """Whether a vehicle heading `yaw` (rad) drives against its lane; inside junctions never."""
    turned = abs(math.remainder(yaw - position.heading, math.tau))
    return not position.in_junction and position.beyond_edge <= 0.0 and turned > WRONG_WAY_ANGLE


def segments_cross(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two (2, 2) segments cross or touch; collinear ones do not count."""
    p, r = first[0], first[1] - first[0]
    q, t = second[0], second[1] - second[0]
    area = r[0] * t[1] - r[1] * t[0]
    if abs(area) < 1e-12:
        return False
    d = q - p
    a = (d[0] * t[1] - d[1] * t[0]) / area
    b = (d[0] * r[1] - d[1] * r[0]) / area
    return bool(0.0 <= a <= 1.0 and 0.0 <= b <= 1.0)


def box_meets_polygon(box: np.ndarray, polygon: np.ndarray) -> bool:
    """Whether a (4, 2) box and an (N, 2) polygon, convex or not, overlap."""
    if any(polygon_contains(polygon, *corner) for corner in box):
        return True
    if any(polygon_contains(box, *corner) for corner in polygon):
        return True
    return any(
        segments_cross(np.stack([box[i - 1], box[i]]), np.stack([polygon[k - 1], polygon[k]]))
        for i in range(len(box))
        for k in range(len(polygon))
    )
