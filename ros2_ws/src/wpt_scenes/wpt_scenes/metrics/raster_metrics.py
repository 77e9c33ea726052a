"""The occupancy-grid collision tests of the public metrics, each with its own drawing, offsets and rounding.

Shared by ST-P3, UniAD and VAD: +-50 m at 0.5 m (200 x 200 cells); an ego of 4.084 x 1.85 m drawn axis-aligned (never
turned with the heading) with its centre 0.5 m ahead of the path point, as 8 x 4 = 32 whole cells; objects drawn with
vertices rounded to whole cells and outlines filled. The ego's cells are the footprint's, shifted by path / 0.5, cut to
integers and clipped into the grid. A cell index means a cell centre for the ego and a cell edge for the objects, so that
all three have a bias of up to one cell; it is reproduced, not repaired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wpt_scenes.metrics import obstacles
from wpt_scenes.metrics.occupancy_grid import cells_in_rectangle, occupied
from wpt_scenes.metrics.paths import Paths
from wpt_scenes.metrics.rectangles import corners
from wpt_scenes.metrics.scene_record import SceneRecord
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

HALF_RANGE_M = 50.0
CELL_M = 0.5
SIZE = 200
EGO_LENGTH_M, EGO_WIDTH_M, EGO_SHIFT_M = 4.084, 1.85, 0.5
# Centre of the first cell: what the sources call bx and bev_start_position.
FIRST_CENTRE_M = -HALF_RANGE_M + CELL_M / 2.0

BEVPLANNER_CELL_M = 0.1
BEVPLANNER_SIZE = 1000
BEVPLANNER_FIRST_CENTRE_M = -HALF_RANGE_M + BEVPLANNER_CELL_M / 2.0
BEVPLANNER_LIDAR_AHEAD_M = 0.985793
# Steps shorter than this keep the ego straight in BEV-Planner.
BEVPLANNER_SHORT_STEP_M = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchors:
    """Where path points lie in a grid: fractional rows and columns relative to the origin's cell, (N, D, 6) each.

    turn: (N, D, 6) heading by which the footprint is turned, None for a footprint that stays straight.
    """

    rows: np.ndarray
    columns: np.ndarray
    turn: np.ndarray | None = None

    def flat(self, draws: slice) -> Anchors:
        """Return (N * 6, D') anchors of some of the draws, a row for each step of each sample."""

        def arranged(values: np.ndarray) -> np.ndarray:
            values = np.nan_to_num(values[:, draws])
            return values.transpose(0, 2, 1).reshape(-1, values.shape[1])

        turn = None if self.turn is None else arranged(self.turn)
        return Anchors(rows=arranged(self.rows), columns=arranged(self.columns), turn=turn)


@dataclass(frozen=True, kw_only=True, eq=False)
class RasterMetric:
    """One published grid test.

    frame: whose path is read. obstacle_rule: the objects. vertices: (Q, 4, 2) corners in metres to integer
    (column, row). anchors: paths to grid places. footprint: rows (C,) and columns (C,) of the ego at the origin.
    centre: row and column added to the anchor for the test of the path point alone, None where there is none.
    warped: objects are drawn in each future keyframe's own grid (ST-P3).
    """

    frame: WaypointFrame
    obstacle_rule: obstacles.ObstacleRule
    vertices: Callable[[np.ndarray], np.ndarray]
    anchors: Callable[[Paths], Anchors]
    footprint: tuple[np.ndarray, np.ndarray]
    centre: tuple[float, float]
    size: int = SIZE
    warped: bool = False

    def hits(self, record: SceneRecord, keyframes: np.ndarray, paths: Paths) -> tuple[np.ndarray, np.ndarray]:
        """Return box hits (N, D, 6) of all paths and centre hits (N, 6) of the first, at (N,) keyframes."""
        found = self.obstacle_rule(record, keyframes)
        polygons = self.vertices(corners(found.centre, found.heading, found.half_size))
        warp = Stp3Warp.of(record, keyframes) if self.warped else None
        anchors = self.anchors(paths)
        rows, columns = self.footprint
        single = (np.array([self.centre[0]]), np.array([self.centre[1]]))
        count = len(keyframes)
        box = self._look_up(
            polygons, found.owner, anchors.flat(slice(None)), rows, columns, warp, clipped=True
        )
        centre = self._look_up(polygons, found.owner, anchors.flat(slice(1)), *single, warp, clipped=False)
        return box.reshape(count, NUM_STEPS, -1).transpose(0, 2, 1), centre.reshape(count, NUM_STEPS)

    def _look_up(
        self,
        polygons: np.ndarray,
        owner: np.ndarray,
        anchors: Anchors,
        rows: np.ndarray,
        columns: np.ndarray,
        warp: Stp3Warp | None,
        clipped: bool,
    ) -> np.ndarray:
        """clipped: cells outside the grid are moved to its border, as the box tests do; else they read as free."""

        def cells_of(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
            turn = None if anchors.turn is None or not clipped else anchors.turn[groups, :, None]
            row_offset, column_offset = (rows, columns) if turn is None else self._turned(rows, columns, turn)
            # Cut towards zero, as astype(int32) and long() do: -0.5 becomes cell 0.
            row = np.trunc(anchors.rows[groups, :, None] + row_offset).astype(np.int32)
            column = np.trunc(anchors.columns[groups, :, None] + column_offset).astype(np.int32)
            inside = None
            if not clipped:
                inside = (row >= 0) & (row < self.size) & (column >= 0) & (column < self.size)
            row, column = np.clip(row, 0, self.size - 1), np.clip(column, 0, self.size - 1)
            if warp is None:
                return row, column, inside
            row, column, there = warp.cells(row, column, groups)
            return row, column, there if inside is None else there & inside

        # Bounds: the footprint's circle around its middle, around all draws, with one cell for cutting and rounding.
        middle = np.array([columns.mean(), rows.mean()])
        reach = np.hypot(columns - middle[0], rows - middle[1]).max() + 2.0
        if anchors.turn is not None:
            origin = (self.size - 1) / 2.0
            reach += np.hypot(*(middle - origin)) * (1.0 if clipped else 0.0)
            middle = np.full(2, origin) if clipped else middle
        place = np.stack([anchors.columns, anchors.rows], axis=-1) + middle
        low = np.clip(place.min(axis=1) - reach, 0, self.size - 1)
        high = np.clip(place.max(axis=1) + reach, 0, self.size - 1)
        if warp is not None:
            low, high = warp.bounds(low, high)
        return occupied(polygons, owner, low, high, cells_of, anchors.rows.shape[1], self.size)

    def _turned(
        self, rows: np.ndarray, columns: np.ndarray, turn: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn the footprint's cells around the grid's middle and round them to cells again."""
        middle = (self.size - 1) / 2.0
        cosine, sine = np.cos(turn), np.sin(turn)
        along, aside = columns - middle, rows - middle
        return np.rint(sine * along + cosine * aside + middle), np.rint(
            cosine * along - sine * aside + middle
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Stp3Warp:
    """ST-P3's nearest-neighbour warp of each future keyframe's grid into the present one, read backwards.

    With (tx, ty, yaw) of the future ego in the present base_link, a present cell is filled from the future cell at its
    place turned by -yaw and moved by (-tx, +ty). The sign of ty is the source's; together with the unturned translation
    it is exact for a circular arc and off sideways for an S-curve (stp3/utils/geometry.py,
    cumulative_warp_features_reverse and warp_features). All (G,), G = sample * 6 + step.
    """

    yaw: np.ndarray
    forward: np.ndarray
    left: np.ndarray

    @staticmethod
    def of(record: SceneRecord, keyframes: np.ndarray) -> Stp3Warp:
        future = np.minimum(keyframes[:, None] + 1 + np.arange(NUM_STEPS), record.keyframe_count - 1)
        pose = (record.base_from_global[keyframes][:, None] @ record.global_from_base[future]).reshape(
            -1, 4, 4
        )
        return Stp3Warp(
            yaw=np.arctan2(-pose[:, 0, 1], pose[:, 0, 0]), forward=pose[:, 0, 3], left=pose[:, 1, 3]
        )

    def cells(
        self, rows: np.ndarray, columns: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the future cells of (M, D, C) present ones, and False where they lie outside the future grid."""
        row, column = self._moved(rows, columns, groups[:, None, None])
        row, column = np.rint(row).astype(np.int32), np.rint(column).astype(np.int32)
        inside = (row >= 0) & (row < SIZE) & (column >= 0) & (column < SIZE)
        return np.clip(row, 0, SIZE - 1), np.clip(column, 0, SIZE - 1), inside

    def bounds(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return bounds in the future grids that hold the present (G, 2) ones (column, row)."""
        middle, reach = (low + high) / 2.0, np.hypot(*((high - low) / 2.0).T) + 1.0
        row, column = self._moved(middle[:, 1], middle[:, 0], np.arange(len(middle)))
        place = np.stack([column, row], axis=-1)
        return place - reach[:, None], place + reach[:, None]

    def _moved(self, rows: np.ndarray, columns: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = rows * CELL_M + FIRST_CENTRE_M, columns * CELL_M + FIRST_CENTRE_M
        cosine, sine = np.cos(self.yaw)[at], np.sin(self.yaw)[at]
        moved_x = sine * y + cosine * x - self.forward[at]
        moved_y = cosine * y - sine * x + self.left[at]
        return (moved_x - FIRST_CENTRE_M) / CELL_M, (moved_y - FIRST_CENTRE_M) / CELL_M


def _bounds(half_m: float, centre_m: float, first_centre_m: float, cell_m: float) -> tuple[float, float]:
    low, high = ((centre_m + sign * half_m - first_centre_m) / cell_m for sign in (-1, 1))
    return low, high


# Forward cells 97..104, sideways cells 98..101: 32 in all.
_FORWARD, _SIDEWAYS = cells_in_rectangle(
    _bounds(EGO_LENGTH_M / 2.0, EGO_SHIFT_M, FIRST_CENTRE_M, CELL_M),
    _bounds(EGO_WIDTH_M / 2.0, 0.0, FIRST_CENTRE_M, CELL_M),
)
_ORIGIN = -FIRST_CENTRE_M / CELL_M


def _rounded(points: np.ndarray) -> np.ndarray:
    """(x, y) metres to whole cells as the labels of ST-P3, UniAD and VAD round them: half to even."""
    return np.round((points - FIRST_CENTRE_M + CELL_M / 2.0) / CELL_M).astype(np.int32)


# UniAD: row = forward (LiDAR y), column = right (LiDAR x).
# projects/mmdet3d_plugin/uniad/dense_heads/planning_head_plugin/planning_metrics.py
UNIAD = RasterMetric(
    frame=WaypointFrame.LIDAR,
    obstacle_rule=obstacles.uniad_vehicles,
    vertices=_rounded,
    anchors=lambda paths: Anchors(rows=paths.lidar[..., 1] / CELL_M, columns=paths.lidar[..., 0] / CELL_M),
    footprint=(_FORWARD, _SIDEWAYS),
    centre=(_ORIGIN, _ORIGIN),
)

# OccWD4E2E: UniAD's test transposed (row = right, column = forward) over another set of objects.
# projects/mmdet3d_plugin/bevformer/utils/planning_metrics.py, PlanningMetric_v2
OCCWD = RasterMetric(
    frame=WaypointFrame.LIDAR,
    obstacle_rule=obstacles.occwd_occupying,
    vertices=lambda points: _rounded(points)[..., ::-1],
    anchors=lambda paths: Anchors(rows=paths.lidar[..., 0] / CELL_M, columns=paths.lidar[..., 1] / CELL_M),
    footprint=(_SIDEWAYS, _FORWARD),
    centre=(_ORIGIN, _ORIGIN),
)

# VAD: an image with row = backward (LiDAR -y), column = right (LiDAR x). For the path point the source halves bx, so that
# it reads a cell 25 m ahead and 25 m to the left: its obj_col is no test of the path point, and no paper reports it.
# projects/mmdet3d_plugin/VAD/planner/metric_stp3.py
VAD = RasterMetric(
    frame=WaypointFrame.LIDAR,
    obstacle_rule=obstacles.vad_agents,
    vertices=lambda points: _rounded(points * np.array([1.0, -1.0])),
    anchors=lambda paths: Anchors(rows=-paths.lidar[..., 1] / CELL_M, columns=paths.lidar[..., 0] / CELL_M),
    footprint=(SIZE - _FORWARD, _SIDEWAYS),
    centre=(_ORIGIN / 2.0, _ORIGIN / 2.0),
)

# ST-P3: row = forward, column = left; objects in base_link, the path in LIDAR_TOP's frame laid over them unmoved.
# evaluate.py, stp3/metrics.py, stp3/datas/NuscenesData.py, stp3/utils/geometry.py
STP3 = RasterMetric(
    frame=WaypointFrame.LIDAR,
    obstacle_rule=obstacles.stp3_agents,
    vertices=lambda points: _rounded(points)[..., ::-1],
    anchors=lambda paths: Anchors(rows=paths.lidar[..., 1] / CELL_M, columns=-paths.lidar[..., 0] / CELL_M),
    footprint=(_FORWARD, _SIDEWAYS),
    centre=(_ORIGIN, _ORIGIN),
    warped=True,
)


def _bevplanner_anchors(paths: Paths) -> Anchors:
    steps = np.diff(paths.ego, axis=-2, prepend=0.0)
    turn = np.arctan2(steps[..., 1], steps[..., 0])
    turn = np.where(np.hypot(steps[..., 0], steps[..., 1]) < BEVPLANNER_SHORT_STEP_M, 0.0, turn)
    place = paths.ego / BEVPLANNER_CELL_M
    return Anchors(rows=place[..., 1], columns=place[..., 0], turn=turn)


_FINE_FORWARD, _FINE_SIDEWAYS = cells_in_rectangle(
    _bounds(
        EGO_LENGTH_M / 2.0,
        EGO_SHIFT_M + BEVPLANNER_LIDAR_AHEAD_M,
        BEVPLANNER_FIRST_CENTRE_M,
        BEVPLANNER_CELL_M,
    ),
    _bounds(EGO_WIDTH_M / 2.0, 0.0, BEVPLANNER_FIRST_CENTRE_M, BEVPLANNER_CELL_M),
)

# BEV-Planner: row = left, column = forward, 0.1 m, base_link, the ego turned with each step and its centre 0.985793 m
# further ahead. mmdet3d/models/fbbev/planner_head/metric_stp3.py, mmdet3d/datasets/pipelines/loading.py
BEVPLANNER = RasterMetric(
    frame=WaypointFrame.EGO,
    obstacle_rule=obstacles.bevplanner_vehicles,
    vertices=lambda points: np.trunc((points - BEVPLANNER_FIRST_CENTRE_M) / BEVPLANNER_CELL_M).astype(
        np.int32
    ),
    anchors=_bevplanner_anchors,
    footprint=(_FINE_SIDEWAYS, _FINE_FORWARD),
    centre=(-BEVPLANNER_FIRST_CENTRE_M / BEVPLANNER_CELL_M,) * 2,
    size=BEVPLANNER_SIZE,
)
