"""Coloured convex bodies that the painter draws: cars, people, houses, trees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

GLASS: Colour = (52, 62, 74)
TYRE: Colour = (34, 34, 36)
HEADLIGHT: Colour = (244, 240, 214)
TAIL_LIGHT: Colour = (196, 32, 30)
SHADOW: Colour = (46, 46, 50)

# Wheels and lights lie this far outside the body, and so exactly in the annotated box.
_SKIN_M = 0.01


@dataclass(frozen=True, eq=False)
class Face:
    """A flat convex polygon. corners: (N, 3) counter-clockwise seen from outside; colour: RGB.

    one_sided: not drawn from behind. layer: faces of one object are drawn by layer (bodies 0, what lies on
    them 1, ...).
    """

    corners: np.ndarray
    colour: Colour
    layer: int = 0


def cuboid(
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    colour: Colour,
    *,
    layer: int = 0,
    top_inset: tuple[float, float, float] = (0.0, 0.0, 0.0),
    bottom: bool = False,
) -> list[Face]:
    """Return the faces of a box; top_inset (front, back, sides) narrows its top, as of a car's cabin."""
    front, back, side = top_inset
    lower = [(x[1], y[1], z[0]), (x[1], y[0], z[0]), (x[0], y[0], z[0]), (x[0], y[1], z[0])]
    upper = [
        (x[1] - front, y[1] - side, z[1]),
        (x[1] - front, y[0] + side, z[1]),
        (x[0] + back, y[0] + side, z[1]),
        (x[0] + back, y[1] - side, z[1]),
    ]
    polygons = [[lower[i], upper[i], upper[(i + 1) % 4], lower[(i + 1) % 4]] for i in range(4)]
    polygons.append([upper[0], upper[3], upper[2], upper[1]])
    if bottom:
        polygons.append([lower[0], lower[1], lower[2], lower[3]])
    faces = []
    for polygon in polygons:
        corners = np.array(polygon)
        faces.append(Face(_outward(corners, _middle(x, y, z)), colour, layer))
    return faces


def car(length: float, width: float, height: float, colour: Colour) -> list[Face]:
    """Return a passenger car, origin in the middle of its bounding box, x forward."""
    floor, waist, roof = -0.5 * height + 0.22, -0.5 * height + 0.56 * height, 0.5 * height
    half_length, half_width = 0.5 * length - _SKIN_M, 0.5 * width - _SKIN_M
    faces = _shadow(length, width, height)
    faces += cuboid(
        (-half_length, half_length), (-half_width, half_width), (floor, waist), colour,
        top_inset=(0.10, 0.05, 0.03), bottom=True,
    )  # fmt: skip
    faces += cuboid(
        (-0.43 * length, 0.22 * length), (-0.46 * width, 0.46 * width), (waist, roof), GLASS, layer=2,
        top_inset=(0.15 * length, 0.08 * length, 0.10),
    )  # fmt: skip
    faces += cuboid(
        (-0.36 * length, 0.08 * length), (-0.41 * width, 0.41 * width), (roof - 0.06, roof), colour, layer=3,
        top_inset=(0.06, 0.06, 0.04),
    )  # fmt: skip
    faces += _wheels(length, width, -0.5 * height, 0.32, (0.30, -0.30))
    faces += _lights(half_length, half_width, floor + 0.28)
    return faces


def truck(length: float, width: float, height: float, colour: Colour) -> list[Face]:
    """Return a box truck, origin in the middle of its bounding box, x forward."""
    half_length, half_width, ground = 0.5 * length - _SKIN_M, 0.5 * width - _SKIN_M, -0.5 * height
    cab_back = half_length - 1.9
    faces = _shadow(length, width, height)
    faces += cuboid(
        (cab_back, half_length), (-0.47 * width, 0.47 * width), (ground + 0.45, ground + 2.5), colour,
        top_inset=(0.35, 0.0, 0.05), bottom=True,
    )  # fmt: skip
    window = np.array(
        [
            (half_length - 0.10, 0.40 * width, ground + 1.45),
            (half_length - 0.10, -0.40 * width, ground + 1.45),
            (half_length - 0.30, -0.38 * width, ground + 2.30),
            (half_length - 0.30, 0.38 * width, ground + 2.30),
        ]
    )
    faces.append(
        Face(_outward(window + np.array([0.02, 0, 0]), np.array([0.0, 0.0, ground + 1.5])), GLASS, 1)
    )
    faces += cuboid(
        (-half_length, cab_back - 0.15), (-half_width, half_width), (ground + 0.85, 0.5 * height),
        (226, 226, 220), bottom=True,
    )  # fmt: skip
    faces += cuboid(
        (-half_length + 0.1, cab_back), (-0.4 * width, 0.4 * width), (ground + 0.55, ground + 0.85), TYRE
    )
    faces += _wheels(length, width, ground, 0.48, (0.36, -0.28))
    faces += _lights(half_length, half_width, ground + 0.9)
    return faces


def pedestrian(height: float, shirt: Colour, trousers: Colour, stride: float) -> list[Face]:
    """Return a person, origin in the middle of the bounding box; stride: metres between the feet along x."""
    ground = -0.5 * height
    hip, shoulder = ground + 0.50 * height, ground + 0.84 * height
    faces = []
    for side, step in ((0.10, 0.5 * stride), (-0.10, -0.5 * stride)):
        faces += cuboid((step - 0.09, step + 0.09), (side - 0.08, side + 0.08), (ground, hip), trousers)
    faces += cuboid(
        (-0.14, 0.14), (-0.24, 0.24), (hip, shoulder), shirt, layer=1, top_inset=(0.02, 0.02, 0.05)
    )
    for side, swing in ((0.26, -0.12), (-0.26, 0.12)):
        arm = (swing - 0.05, swing + 0.05), (side - 0.04, side + 0.04), (hip, shoulder - 0.08)
        faces += cuboid(*arm, shirt, layer=1)
    skin: Colour = (206, 164, 134)
    faces += cuboid((-0.10, 0.10), (-0.09, 0.09), (shoulder, 0.5 * height), skin, layer=2)
    return faces


def cone(height: float) -> list[Face]:
    """Return a traffic cone, origin in the middle of its bounding box."""
    ground = -0.5 * height
    faces = cuboid((-0.2, 0.2), (-0.2, 0.2), (ground, ground + 0.05), (60, 60, 60))
    orange: Colour = (232, 104, 28)
    widths = (0.15, 0.11, 0.075, 0.03)
    levels = (ground + 0.05, ground + 0.35 * height, ground + 0.65 * height, 0.5 * height)
    for i in range(3):
        inset = widths[i] - widths[i + 1]
        faces += cuboid(
            (-widths[i], widths[i]), (-widths[i], widths[i]), (levels[i], levels[i + 1]),
            (238, 236, 230) if i == 1 else orange, layer=i + 1, top_inset=(inset, inset, inset),
        )  # fmt: skip
    return faces


def house(length: float, depth: float, height: float, colour: Colour, floors: int) -> list[Face]:
    """Return a house standing on z = 0, windows on the long sides, origin in the middle of its floor."""
    faces = cuboid((-0.5 * length, 0.5 * length), (-0.5 * depth, 0.5 * depth), (0.0, height), colour)
    columns = max(2, int(length // 3.2))
    floor_height = height / floors
    for side in (0.5 * depth + 0.03, -0.5 * depth - 0.03):
        for floor in range(floors):
            for column in range(columns):
                x = (column + 0.5) * length / columns - 0.5 * length
                z = floor * floor_height + 0.35 * floor_height
                corners = np.array(
                    [(x - 0.6, side, z), (x + 0.6, side, z), (x + 0.6, side, z + 0.45 * floor_height),
                     (x - 0.6, side, z + 0.45 * floor_height)]
                )  # fmt: skip
                faces.append(Face(_outward(corners, np.array([x, 0.0, z])), (84, 98, 114), 1))
    return faces


def tree(height: float, radius: float, colour: Colour) -> list[Face]:
    """Return a tree standing on z = 0: a trunk and a crown of two eight-sided storeys."""
    faces = cuboid((-0.16, 0.16), (-0.16, 0.16), (0.0, 0.45 * height), (104, 82, 60))
    rings = ((0.32, 0.55), (0.52, 1.0), (0.78, 0.8), (1.0, 0.15))
    for (low, low_scale), (high, high_scale) in zip(rings, rings[1:], strict=False):
        for i in range(8):
            angles = (2 * math.pi * i / 8, 2 * math.pi * (i + 1) / 8)
            corners = np.array(
                [
                    (radius * scale * math.cos(angle), radius * scale * math.sin(angle), height * level)
                    for angle, scale, level in (
                        (angles[0], low_scale, low), (angles[1], low_scale, low),
                        (angles[1], high_scale, high), (angles[0], high_scale, high),
                    )
                ]
            )  # fmt: skip
            faces.append(Face(_outward(corners, np.array([0.0, 0.0, 0.65 * height])), colour, 1))
    return faces


def _shadow(length: float, width: float, height: float) -> list[Face]:
    """The dark ground under a vehicle, drawn before it."""
    x, y, z = 0.49 * length, 0.47 * width, -0.5 * height + 0.005
    return [Face(np.array([(x, y, z), (-x, y, z), (-x, -y, z), (x, -y, z)]), SHADOW, -1)]


def _wheels(
    length: float, width: float, ground: float, radius: float, places: tuple[float, ...]
) -> list[Face]:
    faces = []
    for place in places:
        for side in (0.5 * width, -0.5 * width):
            for size, colour, layer in ((radius, TYRE, 1), (0.55 * radius, (150, 152, 156), 2)):
                angles = np.linspace(0.0, 2.0 * math.pi, 12, endpoint=False)
                corners = np.column_stack(
                    [
                        place * length + size * np.cos(angles),
                        np.full(12, side),
                        ground + radius + size * np.sin(angles),
                    ]
                )
                faces.append(
                    Face(_outward(corners, np.array([place * length, 0.0, ground + radius])), colour, layer)
                )
    return faces


def _lights(half_length: float, half_width: float, z: float) -> list[Face]:
    faces = []
    for x, colour in ((half_length + _SKIN_M, HEADLIGHT), (-half_length - _SKIN_M, TAIL_LIGHT)):
        for side in (0.72 * half_width, -0.72 * half_width):
            corners = np.array(
                [
                    (x, side - 0.17, z),
                    (x, side + 0.17, z),
                    (x, side + 0.17, z + 0.16),
                    (x, side - 0.17, z + 0.16),
                ]
            )
            faces.append(Face(_outward(corners, np.array([0.0, side, z])), colour, 1))
    return faces


def _middle(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> np.ndarray:
    return np.array([sum(x) / 2, sum(y) / 2, sum(z) / 2])


def _outward(corners: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Order corners counter-clockwise seen from outside, the side away from ``inside``."""
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[1])
    return corners if normal @ (corners.mean(axis=0) - inside) > 0 else corners[::-1].copy()
