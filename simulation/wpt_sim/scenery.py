"""Buildings and trees beside the roads, drawn from the network's name: the same name, the same town.

Nothing stands on a lane, sidewalk or walking area (with a margin), nor near the corners of junctions, where
a driver needs to see crossing traffic; a test checks both.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import cv2
import numpy as np

from wpt_sim.road_map import Building, LaneKind, RoadMap, Tree

CELL = 0.5  # metres per cell of the occupancy raster
MARGIN = 1.5  # metres kept free beside any lane
CORNER_CLEARANCE = 14.0  # metres around junction areas kept free of buildings: sight lines
TREE_CORNER_CLEARANCE = 20.0


class _FreeGround:
    """Raster of what is taken; cells are True where building is forbidden."""

    def __init__(self, road_map: RoadMap):
        points = np.vstack([lane.centre_line for lane in road_map.lanes.values()])
        self.origin = points.min(0) - 80.0
        size = np.ceil((points.max(0) + 80.0 - self.origin) / CELL).astype(int)
        road = np.zeros((size[1], size[0]), np.uint8)
        corner = np.zeros_like(road)
        for lane in road_map.lanes.values():
            thickness = max(1, math.ceil((lane.width + 2 * MARGIN) / CELL))
            cv2.polylines(road, [self.cells(lane.centre_line)], False, 1, thickness)
        for area in (*road_map.junction_areas.values(), *road_map.walking_areas):
            cv2.fillPoly(road, [self.cells(area)], 1)
        for area in road_map.junction_areas.values():
            cv2.fillPoly(corner, [self.cells(area)], 1)
        self.road = road
        # Distance in metres of every cell to the nearest junction.
        self.to_corner = cv2.distanceTransform(1 - corner, cv2.DIST_L2, 3) * CELL

    def cells(self, points: np.ndarray) -> np.ndarray:
        return np.round((points - self.origin) / CELL).astype(np.int32)

    def mask(self, polygon: np.ndarray) -> np.ndarray:
        mask = np.zeros_like(self.road)
        cv2.fillPoly(mask, [self.cells(polygon)], 1)
        return mask

    def take(self, polygon: np.ndarray, clearance: float) -> bool:
        """Claim the polygon if it is free and far enough from every junction."""
        cells = self.cells(polygon)
        low, high = cells.min(0) - 1, cells.max(0) + 2
        if (low < 0).any() or high[0] > self.road.shape[1] or high[1] > self.road.shape[0]:
            return False
        window = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(window, [cells - low], 1)
        inside = window.astype(bool)
        part = (slice(low[1], high[1]), slice(low[0], high[0]))
        if self.road[part][inside].any() or self.to_corner[part][inside].min() < clearance:
            return False
        self.road[part][inside] = 1
        return True


def add_scenery(road_map: RoadMap) -> RoadMap:
    """A copy of the road map with buildings and trees, drawn from its name."""
    rng = np.random.default_rng(zlib.crc32(road_map.name.encode()))
    ground = _FreeGround(road_map)
    buildings: list[Building] = []
    trees: list[Tree] = []
    outer = [lane for lane in road_map.lanes.values() if lane.kind is LaneKind.SIDEWALK]
    sidewalk_edges = {lane.edge for lane in outer}
    outer += [
        lane
        for lane in road_map.lanes.values()
        if lane.kind is LaneKind.DRIVING and lane.right is None and lane.edge not in sidewalk_edges
    ]
    for lane in outer:
        line = lane.centre_line
        steps = np.hypot(*np.diff(line, axis=0).T)
        stations = np.concatenate([[0.0], np.cumsum(steps)])
        rural = lane.kind is LaneKind.DRIVING
        position = rng.uniform(4, 12)
        while position < stations[-1] - 4:
            length = rng.uniform(10, 24)
            middle = min(position + length / 2, stations[-1])
            index = int(np.clip(np.searchsorted(stations, middle) - 1, 0, len(steps) - 1))
            along = (line[index + 1] - line[index]) / max(steps[index], 1e-9)
            right = np.array([along[1], -along[0]])
            foot = line[index] + along * (middle - stations[index])
            if rng.random() < (0.25 if rural else 0.8):
                depth = rng.uniform(9, 16)
                near = foot + right * (lane.width / 2 + rng.uniform(3.0, 8.0))
                half = along * length / 2
                footprint = np.stack(
                    [near - half, near - half + right * depth, near + half + right * depth, near + half]
                )
                if ground.take(footprint, CORNER_CLEARANCE):
                    buildings.append(
                        Building(
                            footprint=footprint,
                            height=float(rng.uniform(4, 17)),
                            colour_seed=int(rng.integers(2**31)),
                        )
                    )
            for _ in range(int(rng.integers(0, 4))):
                radius = rng.uniform(1.2, 2.6)
                spot = foot + along * rng.uniform(-length / 2, length / 2)
                spot = spot + right * (lane.width / 2 + MARGIN + radius + rng.uniform(1.2, 9.0))
                square = spot + radius * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
                if ground.take(square, TREE_CORNER_CLEARANCE):
                    trees.append(
                        Tree(position=spot, height=float(rng.uniform(4, 10)), crown_radius=float(radius))
                    )
            position += length + rng.uniform(2, 14)
    return replace(road_map, buildings=tuple(buildings), trees=tuple(trees))
