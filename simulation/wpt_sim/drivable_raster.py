"""Where vehicles may drive, as a raster of the whole road map: the ground truth that the ground is painted
by.

Drivable: driving lanes, junction lanes and junction areas, without sidewalks and walking areas (both behind a
kerb). Crossings are drivable. A cell belongs to the area that covers its centre."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from wpt_policy import se3
from wpt_scenes.drivable_area import CELL_M

from wpt_sim.lane_strip import points_along, strip
from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.world_state import EgoPose

MARGIN_M = 60.0  # around the outermost lane
SEAM_M = 0.05  # lanes are widened by it on both sides, so that no gap is left between neighbours
_KERB_TOLERANCE_M = 0.4  # a lane's centre line deeper than this in a walking area shows that the area is road
_SHIFT = 8
_DRIVABLE = 255


def map_bounds(road_map: RoadMap) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top (whole metres) around everything of the road map, with a margin."""
    points = np.vstack(
        [lane.centre_line for lane in road_map.lanes.values()]
        + [np.asarray(a) for a in road_map.junction_areas.values()]
    )
    low, high = np.floor(points.min(axis=0) - MARGIN_M), np.ceil(points.max(axis=0) + MARGIN_M)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def drivable_polygons(road_map: RoadMap) -> list[np.ndarray]:
    """Return the polygons (N, 2) whose union, without ``kerb_polygons``, is drivable."""
    polygons = [np.asarray(area) for area in road_map.junction_areas.values()]
    for lane in road_map.lanes.values():
        if lane.kind in (LaneKind.DRIVING, LaneKind.JUNCTION):
            half = 0.5 * lane.width + SEAM_M
            polygons.append(strip(lane.centre_line, -half, half))
    return polygons


def kerb_polygons(road_map: RoadMap) -> list[np.ndarray]:
    """Return the polygons (N, 2) at kerb height: walking areas and sidewalks.

    Where a junction has no crossings, a SUMO network gives it one walking area all over its road: such an
    area, which a junction lane's centre line runs through, is left out."""
    ways = np.vstack(
        [
            points_along(lane.centre_line, 1.0)
            for lane in road_map.lanes.values()
            if lane.kind is LaneKind.JUNCTION
        ]
        or [np.zeros((0, 2))]
    )
    polygons = []
    for area in road_map.walking_areas:
        outline = np.asarray(area, dtype=np.float32)
        near = ((ways > outline.min(axis=0)) & (ways < outline.max(axis=0))).all(axis=1)
        depths = [cv2.pointPolygonTest(outline, (float(x), float(y)), True) for x, y in ways[near]]
        if max(depths, default=0.0) < _KERB_TOLERANCE_M:
            polygons.append(np.asarray(area))
    for lane in road_map.lanes.values():
        if lane.kind is LaneKind.SIDEWALK:
            polygons.append(strip(lane.centre_line, -0.5 * lane.width, 0.5 * lane.width))
    return polygons


@dataclass(frozen=True, eq=False)
class DrivableRaster:
    """mask: (H, W) uint8, 255 drivable; the cell in column u, row v covers x from left + u cell, y down from
    top - v cell."""

    mask: np.ndarray
    left: float
    top: float
    cell: float

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return (N,) bool for (N, 2) map points: drivable. Outside the raster is not."""
        points = np.asarray(points, dtype=np.float64)
        columns = np.floor((points[:, 0] - self.left) / self.cell).astype(np.int64)
        rows = np.floor((self.top - points[:, 1]) / self.cell).astype(np.int64)
        inside = (columns >= 0) & (columns < self.mask.shape[1]) & (rows >= 0) & (rows < self.mask.shape[0])
        result = np.zeros(len(points), dtype=bool)
        result[inside] = self.mask[rows[inside], columns[inside]] == _DRIVABLE
        return result

    def crop(
        self,
        pose: EgoPose | np.ndarray,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        cell: float,
    ) -> np.ndarray:
        """Return the (nx, ny) bool grid around an ego pose (or (4, 4) map_from_base); true where a cell's
        centre is drivable.

        Entry [i, j] is the place x = x_range[0] + (i + 0.5) cell ahead, y = y_range[0] + (j + 0.5) cell to
        the left."""
        x, y = cell_centres(x_range, cell), cell_centres(y_range, cell)
        grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
        matrix = map_from_base(pose)
        points = grid @ matrix[:2, :2].T + matrix[:2, 3]
        return self.contains(points).reshape(len(x), len(y))


@lru_cache(maxsize=4)
def drivable_raster(road_map: RoadMap) -> DrivableRaster:
    """Return the raster of a road map at 0.1 m (nuScenes' cell); the same object on later calls."""
    left, bottom, right, top = map_bounds(road_map)
    shape = (round((top - bottom) / CELL_M), round((right - left) / CELL_M))
    mask = np.zeros(shape, dtype=np.uint8)
    for polygons, value in ((drivable_polygons(road_map), _DRIVABLE), (kerb_polygons(road_map), 0)):
        for polygon in polygons:
            # cv2 paints a pixel where its centre (integer coordinates) lies inside.
            pixels = (polygon - (left, top)) / (CELL_M, -CELL_M) - 0.5
            cv2.fillPoly(mask, [np.round(pixels * 2**_SHIFT).astype(np.int32)], value, shift=_SHIFT)
    mask.flags.writeable = False
    return DrivableRaster(mask=mask, left=left, top=top, cell=CELL_M)


def map_from_base(pose: EgoPose | np.ndarray) -> np.ndarray:
    """Return the (4, 4) transform of an ego pose; a matrix is returned as it is."""
    return se3.planar(pose.x, pose.y, pose.yaw) if isinstance(pose, EgoPose) else np.asarray(pose)


def cell_centres(bounds: tuple[float, float], cell: float) -> np.ndarray:
    """Return the centres of the cells in a range; raises ValueError when it is no whole number of cells."""
    count = round((bounds[1] - bounds[0]) / cell)
    if count < 1 or abs(count * cell - (bounds[1] - bounds[0])) > 1e-6:
        raise ValueError(f"range {bounds[0]} to {bounds[1]} m is no whole number of cells of {cell} m")
    return bounds[0] + (np.arange(count) + 0.5) * cell
