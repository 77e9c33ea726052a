"""What road users look like: cars, trucks, buses and pedestrians, filling their boxes (for two-wheelers see
``two_wheeler_bodies``).

Frame: origin on the ground under the box centre, x forward, y left, z up. Lamps are larger than real ones
(about 0.35 m), so that small images still show them; indicators do not blink."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from wpt_scenes.factory.solids import GLASS, HEADLIGHT, TYRE, Colour, cuboid

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
    BUS_PAINTS,
    CLOTHES,
    HEAD_ON,
    PAINTS,
    SKIN,
    TAIL_ON,
    TROUSERS,
    TRUCK_PAINTS,
    pick,
)
from wpt_sim.renderer.two_wheeler_bodies import bicycle, motorcycle
from wpt_sim.world_state import Actor, ActorKind, Lights

_SILL: Colour = (28, 28, 30)
_SKIN_M = 0.012  # decals lie so far outside the surface under them
_STRIDE_PHASES = 6
_STRIDE_M = 1.5  # metres a person walks with two steps


def body_of(actor: Actor) -> Body:
    """Return the body of a road user; pedestrians and two-wheelers move their legs with the way they went."""
    phase = 0
    if actor.kind in (ActorKind.PEDESTRIAN, ActorKind.BICYCLE) and actor.speed > 0.2:
        along = actor.x * np.cos(actor.yaw) + actor.y * np.sin(actor.yaw)
        phase = 1 + int(along / _STRIDE_M * _STRIDE_PHASES) % _STRIDE_PHASES
    size = (round(actor.length, 2), round(actor.width, 2), round(actor.height, 2))
    return _body(actor.kind, *size, actor.colour_seed, phase)


@lru_cache(maxsize=4096)
def _body(kind: ActorKind, length: float, width: float, height: float, seed: int, phase: int) -> Body:
    rng = np.random.default_rng([seed, 21])
    if kind is ActorKind.CAR:
        return _car(length, width, height, pick(rng, PAINTS), estate=length > 4.6 or rng.random() < 0.4)
    if kind is ActorKind.TRUCK:
        cargo = pick(rng, ((222, 222, 216), (196, 200, 206), (170, 150, 110), (88, 110, 140)))
        return _truck(length, width, height, pick(rng, TRUCK_PAINTS), cargo)
    if kind is ActorKind.BUS:
        return _bus(length, width, height, pick(rng, BUS_PAINTS))
    if kind is ActorKind.PEDESTRIAN:
        return _pedestrian(length, width, height, rng, phase)
    if kind is ActorKind.MOTORCYCLE:
        return motorcycle(length, width, height, rng)
    return bicycle(length, width, height, rng, crank=2.0 * np.pi * phase / _STRIDE_PHASES)


def _lamps(length: float, width: float, z: float, size: float = 0.15) -> list[Piece]:
    """Head, tail, brake lamps and indicators at the four corners; brake lamps cover the inner part of the
    tail."""
    front, back, side = 0.5 * length, -0.5 * length, 0.5 * width
    half = (1.25 * size, size)
    inner, outer = side - 2.9 * size, side - 0.75 * size
    pieces = [
        lamp_piece(
            [panel((front, s * inner, z), half, 0, 1, HEADLIGHT) for s in (1, -1)], HEAD_LAMP, HEAD_ON
        ),
        lamp_piece(
            [panel((back, s * inner, z + 0.1), half, 0, -1, BRAKE_OFF) for s in (1, -1)], TAIL_LAMP, TAIL_ON
        ),
    ]
    brake = [panel((back - _SKIN_M, s * inner, z + 0.1), half, 0, -1, BRAKE_OFF) for s in (1, -1)]
    pieces.append(lamp_piece(brake, Lights.BRAKE, BRAKE_ON))
    for bit, sign in ((Lights.LEFT, 1), (Lights.RIGHT, -1)):
        tall = (0.75 * size, 1.1 * size)
        faces = [
            panel((front, sign * outer, z), tall, 0, 1, AMBER_OFF),
            panel((back, sign * outer, z + 0.1), tall, 0, -1, AMBER_OFF),
        ]
        for x in (front - 1.1 * size, back + 1.1 * size):
            faces.append(panel((x, sign * side, z + 0.05), (1.1 * size, 0.8 * size), 1, sign, AMBER_OFF))
        pieces.append(lamp_piece(faces, bit, AMBER_ON))
    return pieces


def _wheels(length: float, width: float, radius: float, places: tuple[float, ...]) -> list[Piece]:
    tyres = [
        disc((place * length, side * 0.5 * width, radius), radius, 1, side, TYRE)
        for place in places
        for side in (1, -1)
    ]
    rims = [
        disc(
            (place * length, side * (0.5 * width + 0.004), radius), 0.58 * radius, 1, side, (158, 160, 164), 8
        )
        for place in places
        for side in (1, -1)
    ]
    return [Piece(faces=tyres), Piece(faces=rims)]


def _car(length: float, width: float, height: float, paint: Colour, estate: bool) -> Body:
    half_length, half_width = 0.5 * length - _SKIN_M, 0.5 * width - _SKIN_M
    waist, floor = 0.57 * height, 0.17
    tail = -0.49 * length if estate else -0.42 * length
    nose = 0.24 * length
    rake = 0.06 * length if estate else 0.12 * length
    dark = tuple(int(0.72 * value) for value in paint)
    sill = cuboid(
        (-half_length + 0.03, half_length - 0.03),
        (-half_width + 0.02, half_width - 0.02),
        (0.03, floor + 0.1),
        _SILL,
    )
    lower = cuboid(
        (-half_length, half_length),
        (-half_width, half_width),
        (floor, waist),
        paint,
        top_inset=(0.05, 0.03, 0.02),
    )
    cabin = cuboid(
        (tail, nose),
        (-0.47 * width, 0.47 * width),
        (waist, height),
        GLASS,
        top_inset=(0.16 * length, rake, 0.11),
    )
    roof = cuboid(
        (tail + 0.86 * rake, nose - 0.13 * length), (-0.47 * width + 0.10, 0.47 * width - 0.10),
        (height - 0.10, height), paint, top_inset=(0.05, 0.03, 0.02),
    )  # fmt: skip
    bumpers = [
        panel((half_length + 0.004, 0.0, 0.30), (0.36 * width, 0.09), 0, 1, _SILL),
        panel((-half_length - 0.004, 0.0, 0.30), (0.40 * width, 0.07), 0, -1, dark),
    ]
    pillars = []
    for side in (1, -1):
        y = side * (0.47 * width - 0.05)
        pillars.append(
            panel((-0.06 * length, y, 0.5 * (waist + height)), (0.05, 0.5 * (height - waist)), 1, side, dark)
        )
    plates = [
        panel((half_length + 0.008, 0.0, 0.42), (0.24, 0.055), 0, 1, (236, 236, 228)),
        panel((-half_length - 0.008, 0.0, 0.52 * waist + 0.12), (0.24, 0.055), 0, -1, (236, 236, 228)),
    ]
    high_brake = panel((tail + 0.92 * rake - 0.03, 0.0, height - 0.07), (0.26, 0.05), 0, -1, BRAKE_OFF)
    lamps = _lamps(length, width, 0.74 * waist)
    near = [
        Piece(faces=sill),
        Piece(faces=lower),
        *_wheels(length, width, 0.31, (0.31, -0.30)),
        Piece(faces=bumpers),
    ]
    near += [Piece(faces=cabin), Piece(faces=pillars), Piece(faces=roof), Piece(faces=plates), *lamps]
    near.append(lamp_piece([high_brake], Lights.BRAKE, BRAKE_ON))
    whole = cuboid((-half_length, half_length), (-half_width, half_width), (0.05, waist), paint)
    far = [Piece(faces=whole), Piece(faces=cabin), Piece(faces=roof[4:]), *lamps]
    return Body([FaceSet(near)], [FaceSet(far)])


def _truck(length: float, width: float, height: float, paint: Colour, cargo: Colour) -> Body:
    half_length, half_width = 0.5 * length - _SKIN_M, 0.5 * width - _SKIN_M
    # A high-roof cab: a low one would leave the upper front of the box empty.
    cab_back, cab_top = half_length - 1.9, height - 0.08
    chassis = cuboid(
        (-half_length, half_length - 0.1), (-half_width + 0.1, half_width - 0.1), (0.12, 0.85), _SILL
    )
    cab = slanted(
        (cab_back, half_length),
        (cab_back, half_length - 0.22),
        (-half_width, half_width),
        (0.30, cab_top),
        paint,
        top_y=(-half_width + 0.04, half_width - 0.04),
    )
    glass = [panel((half_length - 0.10, 0.0, 0.60 * cab_top), (0.42 * width, 0.14 * cab_top), 0, 1, GLASS)]
    for side in (1, -1):
        window = panel(
            (half_length - 0.9, side * half_width, 0.62 * cab_top), (0.5, 0.12 * cab_top), 1, side, GLASS
        )
        glass.append(window)
    box = cuboid((-half_length, cab_back - 0.12), (-half_width, half_width), (0.80, height), cargo)
    stripe = [
        panel(
            (0.5 * (cab_back - half_length), side * (half_width + 0.01), 0.55 * height),
            (0.5 * (cab_back + half_length) - 0.14, 0.22),
            1,
            side,
            paint,
        )
        for side in (1, -1)
    ]
    doors = [
        panel(
            (-half_length - 0.01, 0.0, 0.5 * (0.9 + height)),
            (0.03, 0.46 * (height - 0.9)),
            0,
            -1,
            (96, 96, 96),
        )
    ]
    wheels = _wheels(length, width, 0.46, (0.36, -0.22, -0.36))
    lamps = _lamps(length, width, 0.72, 0.17)
    front = [Piece(faces=cab), Piece(faces=glass)]
    rear = [Piece(faces=box), Piece(faces=stripe), Piece(faces=doors)]
    ground = [Piece(faces=chassis), *wheels]
    from_behind = FaceSet(ground + front + rear + lamps)
    from_ahead = FaceSet(ground + rear + front + lamps)
    far_behind = FaceSet([Piece(faces=chassis), front[0], rear[0], *lamps])
    far_ahead = FaceSet([Piece(faces=chassis), rear[0], *front, *lamps])
    return Body([from_behind, from_ahead], [far_behind, far_ahead], split_x=cab_back - 0.06)


def _bus(length: float, width: float, height: float, paint: Colour) -> Body:
    half_length, half_width = 0.5 * length - _SKIN_M, 0.5 * width - _SKIN_M
    shell = cuboid(
        (-half_length, half_length),
        (-half_width, half_width),
        (0.16, height),
        paint,
        top_inset=(0.1, 0.05, 0.05),
    )
    sill = cuboid(
        (-half_length + 0.05, half_length - 0.05), (-half_width + 0.03, half_width - 0.03), (0.05, 0.4), _SILL
    )
    windows = [
        panel((half_length - 0.03, 0.0, 0.64 * height), (0.44 * width, 0.20 * height), 0, 1, GLASS),
        panel((-half_length + 0.01, 0.0, 0.70 * height), (0.40 * width, 0.13 * height), 0, -1, GLASS),
    ]
    count = max(3, int(length // 1.6))
    for i in range(count):
        x = (i + 0.5) * (length - 0.8) / count - 0.5 * (length - 0.8)
        for side in (1, -1):
            windows.append(
                panel(
                    (x, side * (half_width - 0.01), 0.64 * height),
                    (0.44 * (length - 0.8) / count, 0.15 * height),
                    1,
                    side,
                    GLASS,
                )
            )
    band = [
        panel((0.0, side * half_width, 0.64 * height), (0.45 * length, 0.15 * height), 1, side, GLASS)
        for side in (1, -1)
    ]
    doors = [
        panel((x * length, -half_width - 0.004, 0.40 * height), (0.55, 0.34 * height), 1, -1, (70, 84, 96))
        for x in (0.40, -0.08)
    ]
    sign = [
        panel((half_length - 0.04, 0.0, 0.91 * height), (0.34 * width, 0.05 * height), 0, 1, (250, 170, 40))
    ]
    lamps = _lamps(length, width, 0.85, 0.17)
    body = [Piece(faces=sill), Piece(faces=shell)]
    near = FaceSet(
        [
            *body,
            Piece(faces=windows),
            Piece(faces=doors),
            *_wheels(length, width, 0.48, (0.30, -0.28)),
            Piece(faces=sign),
            *lamps,
        ]
    )
    far = FaceSet([*body, Piece(faces=windows[:2] + band), *lamps])
    return Body([near], [far])


def _pedestrian(length: float, width: float, height: float, rng: np.random.Generator, phase: int) -> Body:
    shirt, trousers, skin = pick(rng, CLOTHES), pick(rng, TROUSERS), pick(rng, SKIN)
    hair = pick(rng, ((46, 36, 30), (90, 66, 44), (150, 130, 100), (30, 30, 32)))
    hip, shoulder, neck = 0.49 * height, 0.80 * height, 0.85 * height
    half_length, half_width = 0.5 * length, 0.5 * width
    swing = (half_length - 0.11) * (np.sin(2.0 * np.pi * phase / _STRIDE_PHASES) if phase else 0.0)
    legs, arms = {}, {}
    for side in (1, -1):
        x = side * swing
        foot = cuboid(
            (x - 0.10, x + 0.12), (side * 0.13 - 0.07, side * 0.13 + 0.07), (0.0, 0.09), (40, 34, 32)
        )
        lean = (-0.0 - x) if abs(x) > 1e-6 else 0.0
        leg = cuboid(
            (x - 0.09, x + 0.09), (side * 0.12 - 0.08, side * 0.12 + 0.08), (0.08, hip), trousers,
            top_inset=(-lean, lean, 0.0),
        )  # fmt: skip
        legs[side] = Piece(faces=foot + leg)
        outer = half_width - 0.05
        hand_x = -0.8 * x
        arm = cuboid(
            (hand_x - 0.05, hand_x + 0.06),
            (side * outer - 0.05, side * outer + 0.05),
            (hip - 0.06, shoulder),
            shirt,
            top_inset=(hand_x, -hand_x, 0.0),
        )
        arms[side] = Piece(faces=arm)
    torso = Piece(
        faces=cuboid(
            (-0.14, 0.14),
            (-half_width + 0.10, half_width - 0.10),
            (hip, neck),
            shirt,
            top_inset=(0.03, 0.03, 0.05),
        )
    )
    face = cuboid((-0.11, 0.11), (-0.10, 0.10), (neck, 0.95 * height), skin)
    crown = cuboid((-0.12, 0.10), (-0.11, 0.11), (0.95 * height, height), hair, top_inset=(0.03, 0.02, 0.02))
    nape = panel((-0.115, 0.0, 0.91 * height), (0.105, 0.05 * height), 0, -1, hair)
    head = [Piece(faces=face), Piece(faces=[nape]), Piece(faces=crown)]
    views = []
    for quadrant in range(4):
        left = 1 if quadrant & 2 else -1
        middle = [legs[-left], arms[-left], legs[left], torso, arms[left]]
        views.append(FaceSet([*middle, *head]))
    return Body(views, views)
