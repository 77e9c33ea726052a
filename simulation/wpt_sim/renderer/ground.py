"""The ground as textures seen from above: painted once, warped into every camera image.

Near the ego the texture has 5 cm cells and is kept in tiles that are painted when first needed; the whole map
is kept at 20 cm and coarser. Each image row uses the level whose cells fit the row's distance."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np

from wpt_scenes.factory.ground import ASPHALT, GRASS, KERB, PAVEMENT, GroundTexture

from wpt_sim.appearance import Appearance
from wpt_sim.drivable_raster import map_bounds
from wpt_sim.renderer.road_paint import Patch, road_patches
from wpt_sim.road_map import RoadMap

FINE_CELL = 0.05
COARSE_CELL = 0.2
TILE = 512  # cells of one tile's side: 25.6 m
WINDOW = 4  # tiles of the window's side: 102.4 m
TILE_M = TILE * FINE_CELL
# The ego is never nearer to the window's border than this.
WINDOW_REACH_M = (0.5 * WINDOW - 0.5) * TILE_M
_KEPT_TILES = 64
_COARSE_LEVELS = 4  # 0.2, 0.4, 0.8 and 1.6 m
_SHIFT = 6

PaintGround = Callable[[float, float, float, tuple[int, int]], np.ndarray]
"""(left, top, cell, (rows, columns)) -> (rows, columns, 3) uint8 RGB of the ground in neutral light."""


class GroundSource:
    """A ground in neutral light: ``whole`` at 20 cm, and fine tiles. bounds: left, bottom, right, top
    painted, map metres."""

    def __init__(self, paint: PaintGround, bounds: tuple[float, float, float, float]):
        self._paint = paint
        left, bottom, right, top = bounds
        shape = (int(np.ceil((top - bottom) / COARSE_CELL)), int(np.ceil((right - left) / COARSE_CELL)))
        self.whole = GroundTexture(paint(left, top, COARSE_CELL, shape), left, top, COARSE_CELL)
        self._tiles: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def tile(self, column: int, row: int) -> np.ndarray:
        """Return the (TILE, TILE, 3) fine tile whose lower left corner is (column, row) * TILE_M."""
        key = (column, row)
        tile = self._tiles.get(key)
        if tile is None:
            tile = self._paint(column * TILE_M, (row + 1) * TILE_M, FINE_CELL, (TILE, TILE))
            self._tiles[key] = tile
            if len(self._tiles) > _KEPT_TILES:
                self._tiles.popitem(last=False)
        else:
            self._tiles.move_to_end(key)
        return tile


@lru_cache(maxsize=2)
def map_ground(road_map: RoadMap) -> GroundSource:
    """Return the ground of a road map; the same object on later calls (about 60 MB each)."""
    return GroundSource(_PatchPainter(road_patches(road_map)), map_bounds(road_map))


def mask_ground(
    drivable: Callable[[np.ndarray], np.ndarray], bounds: tuple[float, float, float, float]
) -> GroundSource:
    """Return a ground that shows no more than where one may drive: asphalt, and pavement elsewhere.

    drivable: (N, 2) map points -> (N,) bool. For real scenes, whose map has no markings.
    """

    def paint(left: float, top: float, cell: float, shape: tuple[int, int]) -> np.ndarray:
        # The mask is sampled at no less than its own 0.1 m and its steps are smoothed; the margin hides where
        # tiles meet.
        step = max(1, round(0.1 / cell))
        size, margin = step * cell, 6
        rows, columns = (-(-extent // step) + 2 * margin for extent in shape)
        y = top + (margin - np.arange(rows) - 0.5) * size
        x = left + (np.arange(columns) + 0.5 - margin) * size
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        inside = cv2.GaussianBlur(drivable(grid).reshape(rows, columns).astype(np.float32), (0, 0), 1.6)
        inside = cv2.resize(inside, (columns * step, rows * step), interpolation=cv2.INTER_LINEAR)
        inside = inside[margin * step :, margin * step :][: shape[0], : shape[1], None]
        road = np.clip((inside - 0.5) * 4.0 + 0.5, 0.0, 1.0)
        kerb = np.clip(1.0 - np.abs(inside - 0.3) * 6.0, 0.0, 1.0)
        ground = PAVEMENT + kerb * (np.array(KERB, dtype=np.float32) - PAVEMENT)
        rgb = np.round(ground + road * (np.array(ASPHALT, dtype=np.float32) - ground)).astype(np.uint8)
        return _with_grain(rgb, left, top, cell)

    return GroundSource(paint, bounds)


class GroundView:
    """A ground source in an appearance's light, as levels around the ego. rgb of all levels has a fourth
    channel of zeros."""

    def __init__(self, source: GroundSource, appearance: Appearance):
        self._source = source
        self._matrix = appearance.ground_matrix()
        whole = source.whole
        self._coarse = [GroundTexture(self._lit(whole.rgb), whole.left, whole.top, whole.cell)]
        for _ in range(_COARSE_LEVELS - 1):
            self._coarse.append(self._coarse[-1].reduced(2))
        self._centre: tuple[int, int] | None = None
        self._fine: list[GroundTexture] = []

    def levels(self, x: float, y: float) -> Sequence[GroundTexture]:
        """Return the textures, finest first, for an ego at (x, y); the first two reach WINDOW_REACH_M around
        it."""
        centre = (int(np.floor(x / TILE_M + 0.5)), int(np.floor(y / TILE_M + 0.5)))
        if centre != self._centre:
            self._move_window(centre)
        return self._fine + self._coarse

    @property
    def outside_colour(self) -> np.ndarray:
        """(3,) RGB of the ground beyond the map."""
        return np.clip(np.mean(GRASS, axis=0) @ self._matrix.T, 0.0, 255.0)

    def _move_window(self, centre: tuple[int, int]) -> None:
        size = WINDOW * TILE
        half = WINDOW // 2
        window = np.empty((size, size, 4), dtype=np.uint8)
        old = self._fine[0].rgb if self._fine else None
        for i in range(WINDOW):
            for j in range(WINDOW):
                column, row = centre[0] - half + j, centre[1] - half + i
                place = (slice((WINDOW - 1 - i) * TILE, (WINDOW - i) * TILE), slice(j * TILE, (j + 1) * TILE))
                if old is not None:
                    old_j, old_i = column - self._centre[0] + half, row - self._centre[1] + half
                    if 0 <= old_i < WINDOW and 0 <= old_j < WINDOW:
                        window[place] = old[
                            (WINDOW - 1 - old_i) * TILE : (WINDOW - old_i) * TILE,
                            old_j * TILE : (old_j + 1) * TILE,
                        ]
                        continue
                window[place] = self._lit(self._source.tile(column, row))
        left, top = (centre[0] - half) * TILE_M, (centre[1] + half) * TILE_M
        fine = GroundTexture(window, left, top, FINE_CELL)
        self._fine = [fine, fine.reduced(2)]
        self._centre = centre

    def _lit(self, rgb: np.ndarray) -> np.ndarray:
        result = np.zeros((*rgb.shape[:2], 4), dtype=np.uint8)
        cv2.mixChannels([cv2.transform(rgb, self._matrix)], [result], [0, 0, 1, 1, 2, 2])
        return result


class _PatchPainter:
    """Paints patches over grass; finds those that touch a tile by their bounding boxes."""

    def __init__(self, patches: Sequence[Patch]):
        self._patches = patches
        self._low = np.array([patch.polygon.min(axis=0) for patch in patches]).reshape(-1, 2)
        self._high = np.array([patch.polygon.max(axis=0) for patch in patches]).reshape(-1, 2)

    def __call__(self, left: float, top: float, cell: float, shape: tuple[int, int]) -> np.ndarray:
        rgb = _grass(left, top, cell, shape)
        right, bottom = left + shape[1] * cell, top - shape[0] * cell
        touching = (self._low < (right, top)).all(axis=1) & (self._high > (left, bottom)).all(axis=1)
        for index in np.flatnonzero(touching):
            patch = self._patches[index]
            pixels = (patch.polygon - (left, top)) / (cell, -cell) - 0.5
            corners = np.round(pixels * 2**_SHIFT).astype(np.int32)
            cv2.fillPoly(rgb, [corners], patch.colour, cv2.LINE_AA, _SHIFT)
        return _with_grain(rgb, left, top, cell)


def _pattern(name: int, cell: float, low: int, high: int, blur: float) -> np.ndarray:
    """A square of TILE_M that repeats without seams at any tile's border: (n, n) uint8."""
    rng = np.random.default_rng([name, 41])
    noise = rng.normal(0.0, 1.0, (TILE, TILE)).astype(np.float32)
    noise = cv2.GaussianBlur(np.tile(noise, (3, 3)), (0, 0), blur)[TILE : 2 * TILE, TILE : 2 * TILE]
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    side = round(TILE_M / cell)
    if side != TILE:
        noise = cv2.resize(noise, (side, side), interpolation=cv2.INTER_AREA)
    return np.round(low + noise * (high - low)).astype(np.uint8)


@lru_cache(maxsize=16)
def _patterns(cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Grass (n, n, 3) and grain (n, n, 3) of one period."""
    share = _pattern(1, cell, 0, 255, 14.0).astype(np.float32)[..., None] / 255.0
    dark, bright = (np.array(colour, dtype=np.float32) for colour in GRASS)
    share = np.clip((share - 0.35) / 0.3, 0.0, 1.0)
    grass = np.round(dark * (1.0 - share) + bright * share).astype(np.uint8)
    grain = cv2.add(_pattern(2, cell, 0, 14, 0.8), _pattern(3, cell, 0, 10, 20.0))
    return grass, np.repeat(grain[..., None], 3, axis=2)


def _grass(left: float, top: float, cell: float, shape: tuple[int, int]) -> np.ndarray:
    return _repeated(_patterns(cell)[0], left, top, cell, shape)


def _with_grain(rgb: np.ndarray, left: float, top: float, cell: float) -> np.ndarray:
    """Rough the surface: brightness varies by a few grey levels, at fixed places of the map."""
    return cv2.subtract(rgb, _repeated(_patterns(cell)[1], left, top, cell, rgb.shape[:2]))


def _repeated(
    pattern: np.ndarray, left: float, top: float, cell: float, shape: tuple[int, int]
) -> np.ndarray:
    side = pattern.shape[0]
    column, row = round(left / cell) % side, round(-top / cell) % side
    if (column, row) == (0, 0) and shape == pattern.shape[:2]:
        return pattern.copy()
    rows = (row + np.arange(shape[0])) % side
    columns = (column + np.arange(shape[1])) % side
    return np.ascontiguousarray(pattern[rows[:, None], columns[None, :]])
