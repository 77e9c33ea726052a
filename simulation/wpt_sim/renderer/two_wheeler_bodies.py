"""What cyclists and motorcyclists look like; frame and lamps as in ``vehicle_bodies``.

A bare two-wheeler is a thin thing across a box that its handlebars make wide: seen obliquely it would cover a
good half of the box's width, and a detector trained on it would learn boxes that nothing in the image bounds.
These carry luggage at both ends (panniers, a basket, cases, a fairing), so that the body reaches the faces of
its box in every view; that is a simplification of this world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wpt_scenes.factory.solids import GLASS, HEADLIGHT, TYRE, Colour, Face, cuboid

from wpt_sim.renderer.body import (
    HEAD_LAMP,
    TAIL_LAMP,
    Body,
    FaceSet,
    Piece,
    disc,
    lamp_piece,
    panel,
    slanted,
)
from wpt_sim.renderer.body_colours import (
    AMBER_OFF,
    AMBER_ON,
    BRAKE_OFF,
    BRAKE_ON,
    CLOTHES,
    HEAD_ON,
    LUGGAGE,
    PAINTS,
    SKIN,
    TAIL_ON,
    TROUSERS,
    pick,
)
from wpt_sim.world_state import Lights

_METAL: Colour = (150, 154, 156)
_DARK: Colour = (40, 40, 44)
_SHOE: Colour = (34, 32, 32)
_SKIN_M = 0.006  # lamps and the box's faces lie so far outside the luggage
_CRANK_M = 0.17


def bicycle(length: float, width: float, height: float, rng: np.random.Generator, crank: float) -> Body:
    """Return a cyclist with luggage. crank: angle of the left pedal, rad, 0 ahead, growing upwards."""
    paint, shirt = pick(rng, PAINTS), pick(rng, CLOTHES)
    trousers, helmet = pick(rng, TROUSERS), pick(rng, CLOTHES)
    luggage = pick(rng, LUGGAGE)
    front, side = 0.5 * length - _SKIN_M, 0.5 * width - _SKIN_M
    radius = min(0.35, 0.2 * length)
    hip, shoulder = 0.52 * height, 0.82 * height

    tube = 0.035
    frame = slanted((-0.12, 0.02), (0.10, 0.24 * length), (-tube, tube), (0.30, 0.50 * height), paint)
    seat_post = slanted((-0.10, -0.02), (-0.24, -0.10), (-tube, tube), (0.32, hip), paint)
    saddle = cuboid((-0.30, -0.02), (-0.08, 0.08), (hip - 0.03, hip + 0.02), _DARK)
    stays = cuboid((-front + radius, -0.02), (-tube, tube), (radius - 0.03, radius + 0.03), paint)
    fork = slanted(
        (front - radius - 0.03, front - radius + 0.03), (0.20 * length, 0.25 * length), (-tube, tube),
        (radius, 0.58 * height), paint,
    )  # fmt: skip

    rear = _panniers((-front, -front + 0.36), side, (0.16 * height, 0.46 * height), luggage)
    roll = cuboid((-front + 0.02, -front + 0.38), (-0.15, 0.15), (0.46 * height, 0.54 * height), luggage)
    ahead = _NO_BAGS
    if rng.random() < 0.5:
        ahead = _panniers((front - 0.32, front), side, (0.14 * height, 0.44 * height), luggage)
        basket = cuboid((front - 0.32, front - 0.06), (-0.12, 0.12), (0.45 * height, 0.53 * height), luggage)
    else:
        basket = slanted(
            (front - 0.30, front - 0.03), (front - 0.34, front), (-side + 0.05, side - 0.05),
            (0.43 * height, 0.60 * height), pick(rng, LUGGAGE), top_y=(-side, side),
        )  # fmt: skip
    legs = {}
    for hand in (1, -1):
        pedal_x = 0.02 + hand * _CRANK_M * np.cos(crank)
        pedal_z = 0.30 + hand * _CRANK_M * np.sin(crank)
        legs[hand] = _leg((-0.18, hip), (pedal_x, pedal_z), hand * 0.22 * width, 0.075, trousers)
    rider = _Rider(
        torso=slanted(
            (-0.30, -0.04), (-0.16, 0.16), (-0.38 * width, 0.38 * width), (hip, shoulder), shirt,
            top_y=(-0.40 * width, 0.40 * width),
        ),
        head=_head(0.06, (shoulder, height), helmet, pick(rng, SKIN)),
        arms=_arms((0.02, 0.78 * height), (0.23 * length, 0.61 * height), 0.40 * width, shirt),
        legs=legs,
        lap=cuboid((-0.22, 0.14), (-0.36 * width, 0.36 * width), (0.24, hip + 0.04), trousers),
    )  # fmt: skip
    bar = cuboid((0.20 * length, 0.25 * length), (-side, side), (0.58 * height, 0.62 * height), _DARK)
    return _assembled(
        rear=_End(wheel=_wheel(-front + radius, radius, 0.04, 0.84), bags=rear, top=roll),
        front=_End(wheel=_wheel(front - radius, radius, 0.04, 0.84), bags=ahead, top=basket),
        frame=frame,
        middle=stays + seat_post + frame + saddle,
        steering=fork + bar,
        rider=rider,
        lamps=_lamps(front, side, 0.37 * height, (0.52 if ahead is _NO_BAGS else 0.37) * height),
    )


def motorcycle(length: float, width: float, height: float, rng: np.random.Generator) -> Body:
    """Return a motorcyclist on a touring machine: fairing, cases, perhaps a top case."""
    paint, shirt = pick(rng, PAINTS), pick(rng, CLOTHES)
    trousers, helmet = pick(rng, TROUSERS), pick(rng, CLOTHES)
    case = pick(rng, (paint, _DARK, _METAL))
    front, side = 0.5 * length - _SKIN_M, 0.5 * width - _SKIN_M
    radius = min(0.32, 0.15 * length)
    hip, shoulder = 0.52 * height, 0.82 * height

    engine = cuboid((-0.26 * length, 0.24 * length), (-0.17, 0.17), (0.16, 0.34), (70, 72, 78))
    trunk = cuboid((-0.34 * length, 0.26 * length), (-0.18, 0.18), (0.34, hip - 0.04), paint)
    tank = slanted(
        (0.02, 0.24 * length), (0.06, 0.22 * length), (-0.18, 0.18), (hip - 0.04, hip + 0.12), paint,
        top_y=(-0.13, 0.13),
    )  # fmt: skip
    seat = cuboid((-0.34 * length, 0.02), (-0.17, 0.17), (hip - 0.04, hip), _DARK)
    rack = cuboid((-front + 0.02, -front + 0.40), (-0.12, 0.12), (0.50 * height, 0.55 * height), _DARK)
    if rng.random() < 0.5:
        rack = cuboid(
            (-front + 0.02, -front + 0.40),
            (-0.32 * width, 0.32 * width),
            (0.53 * height, 0.73 * height),
            case,
        )  # fmt: skip
    nose = slanted(
        (0.22 * length, front), (0.22 * length, front - 0.12), (-side, side),
        (0.39 * height, 0.56 * height), paint,
        top_y=(-side + 0.04, side - 0.04),
    )  # fmt: skip
    screen = slanted(
        (0.26 * length, front - 0.14), (0.22 * length, 0.28 * length), (-0.70 * side, 0.70 * side),
        (0.56 * height, 0.78 * height), GLASS, top_y=(-0.55 * side, 0.55 * side),
    )  # fmt: skip
    rider = _Rider(
        torso=slanted(
            (-0.34, -0.04), (-0.24, 0.08), (-0.25 * width, 0.25 * width), (hip, shoulder), shirt,
            top_y=(-0.34 * width, 0.34 * width),
        ),
        head=_head(-0.02, (shoulder, height), helmet, GLASS),
        arms=_arms((-0.06, 0.76 * height), (0.19 * length, 0.66 * height), 0.37 * width, shirt),
        legs={
            hand: _leg((-0.20, hip), (-0.06, 0.24), hand * 0.30 * width, 0.085, trousers) for hand in (1, -1)
        },
        lap=cuboid((-0.26, 0.18), (-0.40 * width, 0.40 * width), (0.20, hip + 0.04), trousers),
    )  # fmt: skip
    bar = cuboid((0.17 * length, 0.22 * length), (-side, side), (0.62 * height, 0.67 * height), _DARK)
    return _assembled(
        rear=_End(
            wheel=_wheel(-front + radius, radius, 0.10, 0.50),
            bags=_panniers((-front, -front + 0.46), side, (0.23 * height, 0.53 * height), case),
            top=rack,
        ),
        front=_End(wheel=_wheel(front - radius, radius, 0.10, 0.50), bags=_NO_BAGS, top=nose + screen),
        frame=trunk,
        middle=engine + trunk + seat + tank,
        steering=bar,
        rider=rider,
        lamps=_lamps(front, side, 0.44 * height, 0.47 * height),
    )


@dataclass(frozen=True, kw_only=True)
class _Bags:
    """What hangs on the sides of a wheel: left (1) and right (-1); across: both as one solid."""

    sides: dict[int, list[Face]]
    across: list[Face]


_NO_BAGS = _Bags(sides={1: [], -1: []}, across=[])


@dataclass(frozen=True, kw_only=True)
class _End:
    """A wheel with its bags and what lies above it."""

    wheel: list[Face]
    bags: _Bags
    top: list[Face]

    def near(self, left: int) -> list[Face]:
        """Faces in drawing order for an eye on the left (1) or the right (-1)."""
        return self.bags.sides[-left] + self.wheel + self.bags.sides[left] + self.top

    def far(self) -> list[Face]:
        return self.wheel + self.bags.across + self.top


@dataclass(frozen=True, kw_only=True)
class _Rider:
    """legs: left (1) and right (-1); lap: both as one solid."""

    torso: list[Face]
    head: list[Face]
    arms: list[Face]
    legs: dict[int, list[Face]]
    lap: list[Face]


def _assembled(
    *,
    rear: _End,
    front: _End,
    frame: list[Face],
    middle: list[Face],
    steering: list[Face],
    rider: _Rider,
    lamps: list[Piece],
) -> Body:
    """Put the parts in order for every side that they may be seen from; of ``middle`` the frame shows from
    afar."""
    near, far = [], []
    for quadrant in range(4):
        ahead, left = bool(quadrant & 1), 1 if quadrant & 2 else -1
        first, last = (rear, front) if ahead else (front, rear)
        lower = rider.legs[-left] + middle + rider.legs[left]
        rough = frame + rider.lap + rider.torso + rider.head
        if ahead:
            fine = lower + rider.torso + rider.head + rider.arms + steering
            rough = rough + steering
        else:
            fine = steering + lower + rider.arms + rider.torso + rider.head
            rough = steering + rough
        near.append(FaceSet([Piece(faces=first.near(left) + fine + last.near(left)), *lamps]))
        far.append(FaceSet([Piece(faces=first.far() + rough + last.far()), *lamps]))
    return Body(near, far)


def _wheel(x: float, radius: float, half_thickness: float, hub: float) -> list[Face]:
    reach = 0.8 * radius
    tread = cuboid((x - reach, x + reach), (-half_thickness, half_thickness), (0.0, 1.9 * radius), TYRE)
    faces = [tread[0], tread[2]]  # front and rear of the tread only: its sides are the discs
    for side in (1, -1):
        y = half_thickness + 0.002
        faces.append(disc((x, side * y, radius), radius, 1, side, TYRE, 14))
        faces.append(disc((x, side * (y + 0.004), radius), hub * radius, 1, side, _METAL, 12))
    return faces


def _panniers(x: tuple[float, float], side: float, z: tuple[float, float], colour: Colour) -> _Bags:
    """A bag or case on each side of a wheel, from close to the wheel out to ``side``."""
    inner = 0.3 * side
    return _Bags(
        sides={1: cuboid(x, (inner, side), z, colour), -1: cuboid(x, (-side, -inner), z, colour)},
        across=cuboid(x, (-side, side), z, colour),
    )


def _head(x: float, z: tuple[float, float], helmet: Colour, front: Colour) -> list[Face]:
    """A helmet over a face or a visor."""
    low, high = z
    brow = low + 0.55 * (high - low)
    face = cuboid((x - 0.09, x + 0.11), (-0.09, 0.09), (low, brow), front)
    back = panel((x - 0.095, 0.0, 0.5 * (low + brow)), (0.09, 0.5 * (brow - low)), 0, -1, helmet)
    shell = cuboid((x - 0.14, x + 0.14), (-0.12, 0.12), (brow, high), helmet, top_inset=(0.05, 0.04, 0.03))
    return [*face, back, *shell]


def _arms(shoulder: tuple[float, float], hand: tuple[float, float], out: float, colour: Colour) -> list[Face]:
    """Both arms from the shoulders to the handlebar; places are (x, z), out: metres from the middle."""
    faces = []
    for side in (1, -1):
        y = (side * out - 0.055, side * out + 0.055)
        faces += slanted(
            (hand[0] - 0.06, hand[0] + 0.06), (shoulder[0] - 0.07, shoulder[0] + 0.07), y,
            (hand[1], shoulder[1]), colour,
        )  # fmt: skip
    return faces


def _leg(
    hip: tuple[float, float], foot: tuple[float, float], y: float, half: float, colour: Colour
) -> list[Face]:
    """Shoe, shin and thigh; places are (x, z), half: half the leg's thickness."""
    across = (y - half, y + half)
    knee_x, knee_z = hip[0] + 0.36, max(0.62 * hip[1], foot[1] + 0.16)
    shoe = cuboid((foot[0] - 0.10, foot[0] + 0.17), across, (foot[1] - 0.06, foot[1] + 0.03), _SHOE)
    shin = slanted(
        (foot[0] - 0.07, foot[0] + 0.07),
        (knee_x - 0.10, knee_x + 0.07),
        across,
        (foot[1] + 0.03, knee_z),
        colour,
    )
    thigh = slanted(
        (knee_x - 0.16, knee_x + 0.07), (hip[0] - 0.12, hip[0] + 0.16), across,
        (knee_z - 0.04, hip[1] + 0.06), colour,
    )  # fmt: skip
    return shoe + shin + thigh


def _lamps(front: float, side: float, rear_z: float, front_z: float) -> list[Piece]:
    """Lamps on the outermost faces: the tail lamp over the brake lamp in the middle, indicators outside."""
    reach, outer = front + 0.5 * _SKIN_M, side - 0.09
    tail = panel((-reach, 0.0, rear_z + 0.09), (0.12, 0.05), 0, -1, BRAKE_OFF)
    brake = panel((-reach, 0.0, rear_z - 0.05), (0.12, 0.09), 0, -1, BRAKE_OFF)
    head = panel((reach, 0.0, front_z), (0.10, 0.09), 0, 1, HEADLIGHT)
    pieces = [
        lamp_piece([tail], TAIL_LAMP, TAIL_ON),
        lamp_piece([brake], Lights.BRAKE, BRAKE_ON),
        lamp_piece([head], HEAD_LAMP, HEAD_ON),
    ]
    for bit, hand in ((Lights.LEFT, 1), (Lights.RIGHT, -1)):
        faces = [
            panel((-reach, hand * outer, rear_z), (0.08, 0.09), 0, -1, AMBER_OFF),
            panel((reach, hand * outer, front_z), (0.08, 0.09), 0, 1, AMBER_OFF),
        ]
        pieces.append(lamp_piece(faces, bit, AMBER_ON))
    return pieces
