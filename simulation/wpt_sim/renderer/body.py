"""Drawable bodies as arrays: convex faces with colours, in the order in which they hide each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpt_scenes.factory.solids import Colour, Face

from wpt_sim.world_state import Lights

NO_LAMP = 0
HEAD_LAMP, TAIL_LAMP = 8, 16  # further bits beside Lights: shine where the appearance has its lamps on


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Faces that are drawn one after another. lamp: bits of Lights (or HEAD_LAMP, TAIL_LAMP) that light them.

    lit: their colour when lit. glow: shine always, as a signal's lit lamp.
    """

    faces: Sequence[Face]
    lamp: int = NO_LAMP
    lit: Colour = (0, 0, 0)
    glow: bool = False


class FaceSet:
    """Faces of one body as arrays, first drawn first.

    corners: (P, 3) of all faces, one face after another, anticlockwise seen from outside. table: (F, COLUMNS)
    float64, by face: outward unit normal, the plane's distance from the origin along it, RGB, RGB when lit,
    lamp bits, whether it always glows, number of corners (see the slices below)."""

    __slots__ = ("corners", "table")

    def __init__(self, pieces: Sequence[Piece]):
        faces = [
            (face, piece) for piece in pieces for face in sorted(piece.faces, key=lambda face: face.layer)
        ]
        self.corners = np.concatenate([face.corners for face, _ in faces]).astype(np.float64)
        self.table = np.empty((len(faces), COLUMNS))
        for row, (face, piece) in zip(self.table, faces, strict=True):
            normal = np.cross(face.corners[1] - face.corners[0], face.corners[2] - face.corners[1])
            row[NORMAL] = normal / np.linalg.norm(normal)
            row[PLANE] = row[NORMAL] @ face.corners[0]
            row[COLOUR], row[LIT] = face.colour, piece.lit
            row[LAMP], row[GLOW], row[COUNT] = piece.lamp, piece.glow, len(face.corners)


NORMAL, PLANE, COLOUR, LIT = slice(0, 3), 3, slice(4, 7), slice(7, 10)
LAMP, GLOW, COUNT, COLUMNS = 10, 11, 12, 13


class Body:
    """A body's faces for every side that it may be seen from; origin on the ground.

    near: by the eye's place in the body's frame: ahead of and to the left of the origin (bit 0: x >=
    ``split_x``, bit 1: y >= 0). far: the same with few faces, for a body that is only some pixels high."""

    def __init__(self, near: Sequence[FaceSet], far: Sequence[FaceSet], split_x: float = 0.0):
        self._near = tuple(near) * (4 // len(near))
        self._far = tuple(far) * (4 // len(far))
        self._split_x = split_x

    def faces(self, eye_x: float, eye_y: float, detailed: bool) -> FaceSet:
        """Return the faces in drawing order for an eye at (x, y) in the body's frame."""
        return (self._near if detailed else self._far)[(eye_x >= self._split_x) + 2 * (eye_y >= 0.0)]


def disc(
    centre: tuple[float, float, float],
    radius: float,
    axis: int,
    direction: float,
    colour: Colour,
    corners: int = 10,
) -> Face:
    """Return a round face whose outside looks along +-x (axis 0), +-y (1) or +-z (2)."""
    angles = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False) * (1.0 if direction > 0 else -1.0)
    first, second = [(1, 2), (2, 0), (0, 1)][axis]
    points = np.tile(np.array(centre, dtype=np.float64), (corners, 1))
    points[:, first] += radius * np.cos(angles)
    points[:, second] += radius * np.sin(angles)
    return Face(points, colour)


def panel(
    centre: tuple[float, float, float], half: tuple[float, float], axis: int, direction: float, colour: Colour
) -> Face:
    """Return an upright rectangle that looks along +-x (axis 0; half: y, z) or +-y (axis 1; half: x, z)."""
    x, y, z = centre
    a, b = half
    if axis == 0:
        points = [(x, y - a, z - b), (x, y + a, z - b), (x, y + a, z + b), (x, y - a, z + b)]
        flip = direction < 0
    else:
        points = [(x - a, y, z - b), (x + a, y, z - b), (x + a, y, z + b), (x - a, y, z + b)]
        flip = direction > 0
    corners = np.array(points)
    return Face(corners[::-1].copy() if flip else corners, colour)


def lamp_piece(faces: Sequence[Face], lamp: Lights | int, lit: Colour) -> Piece:
    """Return faces that shine in ``lit`` when the lamp's bit is set."""
    return Piece(faces=faces, lamp=int(lamp), lit=lit)


def slanted(
    bottom_x: tuple[float, float],
    top_x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    colour: Colour,
    *,
    top_y: tuple[float, float] | None = None,
) -> list[Face]:
    """Return a solid between a lower and an upper upright-edged rectangle: a limb, a basket, a fairing.

    Unlike ``cuboid``'s, its top may lie wholly before or behind its bottom, and may be the wider one. It is
    open below."""
    top_y = y if top_y is None else top_y
    low = [(bottom_x[i], y[j], z[0]) for i, j in ((1, 1), (1, 0), (0, 0), (0, 1))]
    high = [(top_x[i], top_y[j], z[1]) for i, j in ((1, 1), (1, 0), (0, 0), (0, 1))]
    polygons = [[low[i], high[i], high[(i + 1) % 4], low[(i + 1) % 4]] for i in range(4)]
    polygons.append([high[0], high[3], high[2], high[1]])
    return [Face(np.array(polygon), colour) for polygon in polygons]
