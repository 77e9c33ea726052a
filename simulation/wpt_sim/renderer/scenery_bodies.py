"""What stands beside the road: buildings, trees, signal heads with mast and arm, stop and yield signs. Map
coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wpt_scenes.factory.solids import Colour, Face, cuboid, tree

from wpt_sim.drivable_raster import DrivableRaster, drivable_raster
from wpt_sim.renderer.body import FaceSet, Piece, disc, panel
from wpt_sim.road_map import Building, Priority, RoadMap, SignalHead, StopLine, Tree
from wpt_sim.world_state import SignalColour

WALLS: tuple[Colour, ...] = (
    (178, 122, 96),
    (204, 186, 152),
    (160, 152, 150),
    (190, 146, 120),
    (216, 206, 186),
    (148, 110, 98),
    (132, 140, 152),
    (196, 168, 128),
)
ROOFS: tuple[Colour, ...] = ((110, 76, 66), (96, 98, 104), (120, 112, 104))
GREENS: tuple[Colour, ...] = ((58, 96, 48), (70, 110, 52), (50, 86, 56), (88, 112, 48))
WINDOW, WINDOW_BRIGHT, DOOR = (70, 84, 100), (140, 158, 174), (84, 60, 48)
STEEL: Colour = (92, 96, 100)
CASE: Colour = (24, 26, 28)

# Dark and lit colours of the three lamps, top to bottom.
LAMPS: tuple[tuple[SignalColour, Colour, Colour], ...] = (
    (SignalColour.RED, (66, 18, 18), (255, 38, 26)),
    (SignalColour.YELLOW, (66, 54, 14), (255, 204, 20)),
    (SignalColour.GREEN, (12, 56, 28), (30, 250, 110)),
)
# A lit lamp dazzles: so much larger it looks, at this share of its colour. With lamps 24 m beyond the stop
# line, 40 m before it, a 0.6 m lamp alone covers 2 pixels of a 256 pixels wide image.
GLARE, GLARE_SHARE = 1.85, 0.6
LAMP_PITCH = 1.12  # distance of lamp centres over their diameter
_POLE_HALF = 0.09
_ARM_RISE = 0.25  # metres from the case's top to the arm


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """A thing that does not move. footprint: (4, 2) convex, anticlockwise; low, high: metres; near, far: its
    faces."""

    footprint: np.ndarray
    low: float
    high: float
    near: FaceSet
    far: FaceSet
    opaque: bool = True  # hides an actor that stands behind it (poles and arms are too thin)


def building(spec: Building) -> Standing:
    """Return a building with windows on every wall. Raises ValueError for a footprint that is not convex with
    4 corners."""
    corners = np.asarray(spec.footprint, dtype=np.float64)
    if corners.shape != (4, 2) or not _convex(corners):
        raise ValueError(
            f"a building's footprint {corners.tolist()} is not convex, anticlockwise and four-cornered; "
            "split the building into such parts"
        )
    rng = np.random.default_rng([spec.colour_seed, 31])
    wall, roof = _pick(rng, WALLS), _pick(rng, ROOFS)
    floors = max(1, round((spec.height - 0.6) / 3.2))
    floor_height = (spec.height - 0.5) / floors
    pitch = rng.uniform(2.6, 3.8)
    glass = WINDOW if rng.random() < 0.7 else WINDOW_BRIGHT
    walls, windows, bands, doors = [], [], [], []
    for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        walls.append(_upright(p, q, 0.0, 1.0, 0.0, spec.height, wall))
        length = math.hypot(*(q - p))
        count = max(1, int((length - 1.0) // pitch))
        for floor in range(floors):
            low = floor * floor_height + 0.33 * floor_height
            high = low + 0.48 * floor_height
            bands.append(_upright(p, q, 0.8 / length, 1.0 - 0.8 / length, low, high, glass, 0.02))
            for column in range(count):
                middle = (column + 0.5) / count
                if floor == 0 and column == count // 2:
                    half = 0.65 / length
                    doors.append(
                        _upright(p, q, middle - half, middle + half, 0.0, 0.72 * floor_height, DOOR, 0.02)
                    )
                    continue
                half = min(0.75, 0.27 * length / count) / length
                windows.append(_upright(p, q, middle - half, middle + half, low, high, glass, 0.02))
    top = Face(np.column_stack([corners, np.full(4, spec.height)]), roof)
    base = tuple(int(0.7 * value) for value in wall)
    plinth = [
        _upright(p, q, 0.0, 1.0, 0.0, 0.5, base, 0.01)
        for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    eaves = [
        _upright(p, q, 0.0, 1.0, spec.height - 0.45, spec.height, roof, 0.01)
        for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    shell = [Piece(faces=walls), Piece(faces=[top])]
    near = FaceSet(
        [*shell, Piece(faces=plinth), Piece(faces=windows), Piece(faces=doors), Piece(faces=eaves)]
    )
    far = FaceSet([*shell, Piece(faces=bands), Piece(faces=eaves)])
    return Standing(footprint=corners, low=0.0, high=spec.height, near=near, far=far)


def tree_body(spec: Tree, index: int) -> list[Standing]:
    """Return a tree: its trunk and, over it, its crown."""
    rng = np.random.default_rng([index, 32])
    green = _pick(rng, GREENS)
    x, y = spec.position
    place = np.array([x, y, 0.0])
    faces = [
        Face(face.corners + place, _shaded(face.colour, face.corners, spec.height))
        for face in tree(spec.height, spec.crown_radius, green)
    ]
    trunk, crown = (
        [f for f in faces if f.colour[0] > f.colour[1]],
        [f for f in faces if f.colour[0] <= f.colour[1]],
    )
    crown_low = 0.32 * spec.height
    simple = [
        Face(corners, _shaded(green, corners - place, spec.height))
        for corners in _storeys(place, spec.height, spec.crown_radius)
    ]
    half = 0.16
    return [
        Standing(
            footprint=_square(x, y, half),
            low=0.0,
            high=0.45 * spec.height,
            near=FaceSet([Piece(faces=trunk)]),
            far=FaceSet([Piece(faces=trunk[:4])]),
            opaque=False,
        ),
        Standing(
            footprint=_square(x, y, 0.92 * spec.crown_radius),
            low=crown_low,
            high=spec.height,
            near=FaceSet([Piece(faces=crown)]),
            far=FaceSet([Piece(faces=simple)]),
        ),
    ]


def signal_case(head: SignalHead, shown: SignalColour) -> Standing:
    """Return a signal's case with its three lamps, one of them lit (none when OFF)."""
    return _placed(
        head,
        _case_pieces(head, shown),
        *_case_extent(head),
        half_x=0.18,
        half_y=0.5 * 1.45 * head.lamp_diameter,
    )


def signal_mast(head: SignalHead, road_map: RoadMap) -> list[Standing]:
    """Return the mast beside the road and the arm that holds the case over its lane."""
    low, high = _case_extent(head)
    beam = high + _ARM_RISE
    # Seen by the driver the mast stands right: to the left of the way the lamps look.
    right = np.array([-math.sin(head.facing), math.cos(head.facing)])
    raster = drivable_raster(road_map)
    reach = 12.0
    for distance in np.arange(1.0, 12.0, 0.5):
        if not raster.contains(head.lamp_position[:2] + right * (distance + np.array([[-0.4], [0.4]]))).any():
            reach = float(distance)
            break
    foot = head.lamp_position[:2] + right * reach
    pole = cuboid(
        (foot[0] - _POLE_HALF, foot[0] + _POLE_HALF),
        (foot[1] - _POLE_HALF, foot[1] + _POLE_HALF),
        (0.0, beam + 0.1),
        STEEL,
    )
    pole_set = FaceSet([Piece(faces=pole)])
    arm_faces = cuboid((-0.07, 0.07), (-0.3, reach), (beam - 0.07, beam + 0.07), STEEL, bottom=True)
    hanger = cuboid((-0.05, 0.05), (-0.05, 0.05), (high, beam), STEEL)
    arm = _placed(
        head,
        [Piece(faces=hanger), Piece(faces=arm_faces)],
        high + 0.01,
        beam + 0.07,
        half_x=0.07,
        left=(-0.3, reach),
    )
    return [
        Standing(
            footprint=_square(*foot, _POLE_HALF),
            low=0.0,
            high=beam + 0.1,
            near=pole_set,
            far=pole_set,
            opaque=False,
        ),
        arm,
    ]


def signs(road_map: RoadMap) -> Iterator[Standing]:
    """Yield stop and yield signs at the right end of painted stop lines, off the road."""
    for line in road_map.stop_lines:
        if line.priority in (Priority.STOP, Priority.YIELD) and road_map.lanes[line.lane].right is None:
            sign = _sign(line, drivable_raster(road_map))
            if sign is not None:
                yield sign


def shown_colour(head: SignalHead, signals: dict) -> SignalColour:
    """Return the colour that a head shows: the first of red, yellow, green that any of its links has; else
    OFF.

    So a head never shows green while a link of its lane must wait.
    """
    colours = {signals.get((head.signal, link), SignalColour.OFF) for link in head.links}
    return next((colour for colour, _, _ in LAMPS if colour in colours), SignalColour.OFF)


def _case_extent(head: SignalHead) -> tuple[float, float]:
    half = (LAMP_PITCH + 0.5) * head.lamp_diameter + 0.1
    return float(head.lamp_position[2]) - half, float(head.lamp_position[2]) + half


def _case_pieces(head: SignalHead, shown: SignalColour) -> list[Piece]:
    low, high = _case_extent(head)
    half_width = 0.5 * 1.45 * head.lamp_diameter
    case = cuboid((-0.18, 0.14), (-half_width, half_width), (low, high), CASE, bottom=True)
    border = panel((0.145, 0.0, 0.5 * (low + high)), (half_width, 0.5 * (high - low)), 0, 1, CASE)
    pieces = [Piece(faces=case), Piece(faces=[border])]
    radius = 0.5 * head.lamp_diameter
    for row, (colour, dark, lit) in enumerate(LAMPS):
        z = head.lamp_position[2] + (1 - row) * LAMP_PITCH * head.lamp_diameter
        if colour is not shown:
            pieces.insert(2, Piece(faces=[disc((0.16, 0.0, z), radius, 0, 1, dark, 12)]))
            continue
        glare = tuple(
            int(GLARE_SHARE * on + (1.0 - GLARE_SHARE) * off) for on, off in zip(lit, CASE, strict=True)
        )
        pieces.append(Piece(faces=[disc((0.17, 0.0, z), GLARE * radius, 0, 1, glare, 12)], glow=True))
        pieces.append(Piece(faces=[disc((0.18, 0.0, z), radius, 0, 1, lit, 12)], glow=True))
    return pieces


def _placed(
    head: SignalHead, pieces: list[Piece], low: float, high: float, *, half_x: float, half_y: float = 0.0,
    left: tuple[float, float] | None = None,
) -> Standing:  # fmt: skip
    """Move pieces from the head's frame (x where its lamps look, z = 0 on the ground) into the map."""
    c, s = math.cos(head.facing), math.sin(head.facing)
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    place = np.array([head.lamp_position[0], head.lamp_position[1], 0.0])
    moved = [
        Piece(
            faces=[Face(face.corners @ rotation.T + place, face.colour, face.layer) for face in piece.faces],
            glow=piece.glow,
        )
        for piece in pieces
    ]
    y0, y1 = (-half_y, half_y) if left is None else left
    outline = (
        np.array([[-half_x, y0], [half_x, y0], [half_x, y1], [-half_x, y1]]) @ rotation[:2, :2].T + place[:2]
    )
    faces = FaceSet(moved)
    return Standing(footprint=outline, low=low, high=high, near=faces, far=faces, opaque=False)


def _sign(line: StopLine, raster: DrivableRaster) -> Standing | None:
    right_end, left_end = line.ends
    across = (right_end - left_end) / math.hypot(*(right_end - left_end))
    along = np.array([-across[1], across[0]])  # driving direction
    foot = None
    for offset in np.arange(0.6, 5.0, 0.2):
        place = right_end + across * offset - along * 0.5
        if not raster.contains(place[None]).any():
            foot = place + across * 0.35
            break
    if foot is None:
        return None
    width = 0.45 if line.priority is Priority.STOP else 0.52
    centre = 2.35
    corners = 8 if line.priority is Priority.STOP else 3
    start = math.pi / 8 if corners == 8 else -math.pi / 2
    angles = start + 2.0 * math.pi * np.arange(corners) / corners

    def plate(radius: float, ahead: float, colour: Colour, back: bool = False) -> Face:
        # Seen by the driver: right is ``across``; the plate lies ``ahead`` metres towards the driver.
        points = [
            [*(foot + across * radius * math.cos(a) - along * ahead), centre + radius * math.sin(a)]
            for a in angles
        ]
        return Face(np.array(points[::-1] if back else points), colour)

    if line.priority is Priority.STOP:
        plates = [plate(width, 0.06, (240, 240, 236)), plate(0.92 * width, 0.065, (196, 24, 30))]
        for x in (-0.27, -0.09, 0.09, 0.27):  # as far as one can read "STOP"
            mark = [(x - 0.06, -0.12), (x + 0.06, -0.12), (x + 0.06, 0.12), (x - 0.06, 0.12)]
            corners = [[*(foot + across * u - along * 0.07), centre + v] for u, v in mark]
            plates.append(Face(np.array(corners), (244, 244, 240)))
    else:
        plates = [plate(width, 0.06, (206, 30, 34)), plate(0.62 * width, 0.065, (244, 244, 240))]
    pole = cuboid((foot[0] - 0.04, foot[0] + 0.04), (foot[1] - 0.04, foot[1] + 0.04), (0.0, centre), STEEL)
    faces = FaceSet(
        [
            Piece(faces=pole),
            Piece(faces=[plate(width, 0.055, (120, 122, 124), back=True)]),
            Piece(faces=plates),
        ]
    )
    square = _square(*foot, 0.1)
    return Standing(footprint=square, low=0.0, high=centre + width, near=faces, far=faces, opaque=False)


def _upright(
    p: np.ndarray,
    q: np.ndarray,
    start: float,
    end: float,
    low: float,
    high: float,
    colour: Colour,
    out: float = 0.0,
) -> Face:
    """A rectangle on the wall from p to q of an anticlockwise footprint, between two shares of its length."""
    normal = np.array([q[1] - p[1], p[0] - q[0]])
    offset = out * normal / math.hypot(*normal)
    a, b = p + start * (q - p) + offset, p + end * (q - p) + offset
    return Face(np.array([[*a, low], [*b, low], [*b, high], [*a, high]]), colour)


def _storeys(place: np.ndarray, height: float, radius: float) -> Iterator[np.ndarray]:
    """A crown of five sides and two storeys."""
    for (low, low_scale), (high, high_scale) in (((0.32, 0.6), (0.6, 1.0)), ((0.6, 1.0), (1.0, 0.2))):
        for i in range(5):
            angles = (2 * math.pi * i / 5, 2 * math.pi * (i + 1) / 5)
            ring = ((angles[0], low_scale, low), (angles[1], low_scale, low), (angles[1], high_scale, high),
                    (angles[0], high_scale, high))  # fmt: skip
            yield place + np.array(
                [(radius * s * math.cos(a), radius * s * math.sin(a), height * z) for a, s, z in ring]
            )


def _shaded(colour: Colour, corners: np.ndarray, height: float) -> Colour:
    """Leaves are darker below, as a crown shades itself."""
    if colour[0] > colour[1]:
        return colour
    share = float(np.clip(corners[:, 2].mean() / height, 0.0, 1.0))
    return tuple(int(value * (0.62 + 0.5 * share)) for value in colour)


def _square(x: float, y: float, half: float) -> np.ndarray:
    return np.array([[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]])


def _convex(corners: np.ndarray) -> bool:
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    return bool((edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > 0).all())


def _pick(rng: np.random.Generator, choices: tuple[Colour, ...]) -> Colour:
    return choices[int(rng.integers(len(choices)))]
