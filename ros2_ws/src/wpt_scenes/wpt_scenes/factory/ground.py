"""The factory's ground: a known pattern seen from above, and the drivable area."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from wpt_scenes.factory.route import LEAD_IN_M, LEAD_OUT_M, Route
from wpt_scenes.drivable_area import CELL_M

# Offsets (m, left of the ego lane's centre) of a street with two lanes, parking on the right and pavements.
ROAD_RIGHT, ROAD_LEFT = -4.4, 5.25
LANE_RIGHT, CENTRE_LINE = -1.75, 1.75
PAVEMENT_RIGHT, PAVEMENT_LEFT = -7.4, 8.0
CROSSING_HALF_WIDTH = 2.0

# The pattern beside the road: squares of this side, aligned to the global axes.
CHECKER_M = 4.0

# RGB
ASPHALT, PARKING = (92, 93, 97), (104, 102, 100)
PAVEMENT, KERB = (168, 164, 156), (202, 200, 194)
GRASS = ((96, 128, 72), (108, 140, 80))
MARKING = (232, 232, 226)
YELLOW = (214, 178, 62)

_MARGIN_M = 44.0
_SHIFT = 4  # fractional bits of polygon corners


@dataclass(frozen=True, eq=False)
class GroundTexture:
    """rgb: (H, W, 3) uint8; column u, row v lie at x = left + (u + .5) cell, y = top - (v + .5) cell."""

    rgb: np.ndarray
    left: float
    top: float
    cell: float

    def pixel_from_global(self) -> np.ndarray:
        """Return the (3, 3) homography from global (x, y, 1) to pixel (u, v, 1)."""
        return np.array(
            [
                [1.0 / self.cell, 0.0, -self.left / self.cell - 0.5],
                [0.0, -1.0 / self.cell, self.top / self.cell - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )

    def reduced(self, factor: int) -> GroundTexture:
        """Return the same ground with cells ``factor`` times as large (area means)."""
        height, width = self.rgb.shape[0] // factor, self.rgb.shape[1] // factor
        cropped = self.rgb[: height * factor, : width * factor]
        rgb = cv2.resize(cropped, (width, height), interpolation=cv2.INTER_AREA)
        return GroundTexture(rgb=rgb, left=self.left, top=self.top, cell=self.cell * factor)


def ground_texture(route: Route, crossings_s: tuple[float, ...], cell: float, seed: int) -> GroundTexture:
    """Paint the ground around the route at ``cell`` metres a pixel; crossings_s: zebra crossings."""
    start, end = -LEAD_IN_M, route.end_s + LEAD_OUT_M
    outline = route.strip(PAVEMENT_RIGHT, PAVEMENT_LEFT, start, end)
    left, bottom = np.floor((outline.min(axis=0) - _MARGIN_M) / CHECKER_M) * CHECKER_M
    right, top = np.ceil((outline.max(axis=0) + _MARGIN_M) / CHECKER_M) * CHECKER_M
    size = (int(round((top - bottom) / cell)), int(round((right - left) / cell)))
    texture = GroundTexture(rgb=_checkered(size, cell), left=float(left), top=float(top), cell=cell)

    def area(points: np.ndarray, colour: tuple[int, int, int]) -> None:
        _fill(texture, points, colour)

    area(outline, PAVEMENT)
    for d in np.arange(PAVEMENT_RIGHT + 1.0, ROAD_RIGHT, 1.0):
        area(route.strip(d - 0.03, d + 0.03, start, end), (150, 146, 138))
    for d in np.arange(ROAD_LEFT + 1.0, PAVEMENT_LEFT, 1.0):
        area(route.strip(d - 0.03, d + 0.03, start, end), (150, 146, 138))
    area(route.strip(ROAD_RIGHT - 0.2, ROAD_LEFT + 0.2, start, end), KERB)
    area(route.strip(ROAD_RIGHT, ROAD_LEFT, start, end), ASPHALT)
    area(route.strip(ROAD_RIGHT, LANE_RIGHT, start, end), PARKING)
    area(route.strip(LANE_RIGHT - 0.06, LANE_RIGHT + 0.06, start, end), MARKING)
    for s in np.arange(start, end, 6.0):
        area(route.strip(ROAD_RIGHT, LANE_RIGHT, s, s + 0.1), MARKING)
    for s in np.arange(start, end, 9.0):
        area(route.strip(CENTRE_LINE - 0.075, CENTRE_LINE + 0.075, s, s + 4.5), MARKING)
    area(route.strip(ROAD_LEFT - 0.32, ROAD_LEFT - 0.2, start, end), YELLOW)
    for crossing in crossings_s:
        first, last = crossing - CROSSING_HALF_WIDTH, crossing + CROSSING_HALF_WIDTH
        area(route.strip(ROAD_RIGHT, ROAD_LEFT, first - 1.6, last + 1.6), ASPHALT)
        for d in np.arange(ROAD_RIGHT + 0.35, ROAD_LEFT - 0.5, 1.0):
            area(route.strip(d, d + 0.5, first, last), MARKING)
        area(route.strip(LANE_RIGHT, CENTRE_LINE, first - 1.5, first - 1.1), MARKING)
    _add_grain(texture.rgb, seed)
    return texture


def drivable_mask(route: Route, texture: GroundTexture) -> np.ndarray:
    """Return the (H, W) uint8 mask (255 drivable) for MapMask, from (0, 0) to the texture's far corner."""
    width = int(round((texture.left + texture.rgb.shape[1] * texture.cell) / CELL_M))
    height = int(round(texture.top / CELL_M))
    mask = np.zeros((height, width), dtype=np.uint8)
    outline = route.strip(ROAD_RIGHT, ROAD_LEFT, -LEAD_IN_M, route.end_s + LEAD_OUT_M)
    pixels = np.column_stack([outline[:, 0] / CELL_M, height - outline[:, 1] / CELL_M])
    cv2.fillPoly(mask, [np.round(pixels * 2**_SHIFT).astype(np.int32)], 255, shift=_SHIFT)
    return mask


def _checkered(size: tuple[int, int], cell: float) -> np.ndarray:
    side = int(round(CHECKER_M / cell))
    squares = np.add.outer(np.arange(-(-size[0] // side)), np.arange(-(-size[1] // side))) % 2
    small = np.array(GRASS, dtype=np.uint8)[squares]
    large = cv2.resize(small, (small.shape[1] * side, small.shape[0] * side), interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(large[: size[0], : size[1]])


def _fill(texture: GroundTexture, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    pixel_from_global = texture.pixel_from_global()
    pixels = points @ pixel_from_global[:2, :2].T + pixel_from_global[:2, 2]
    corners = np.round(pixels * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(texture.rgb, [corners], colour, lineType=cv2.LINE_AA, shift=_SHIFT)


def _add_grain(rgb: np.ndarray, seed: int) -> None:
    """Rough the surface, in place: brightness varies by a few grey levels, alike in all channels."""
    rng = np.random.default_rng([seed, 2])
    tile = rng.integers(0, 13, size=(256, 256, 1), dtype=np.uint8)
    tile = np.repeat(cv2.GaussianBlur(tile, (3, 3), 0)[..., None], 3, axis=2)
    for top in range(0, rgb.shape[0], 256):
        for left in range(0, rgb.shape[1], 256):
            block = rgb[top : top + 256, left : left + 256]
            cv2.subtract(block, tile[: block.shape[0], : block.shape[1]], dst=block)
