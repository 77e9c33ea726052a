"""Sizes of the ego and of the other road users."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wpt_sim.world_state import Actor, ActorKind, EgoPose

# The nuScenes car (Renault Zoe): length 4.084 m, width 1.730 m, height 1.562 m, wheelbase 2.588 m.
EGO_LENGTH = 4.084
EGO_WIDTH = 1.730
EGO_HEIGHT = 1.562
EGO_WHEELBASE = 2.588
EGO_REAR_OVERHANG = 0.68  # metres from the rear axle to the rear bumper
EGO_CENTRE_AHEAD = EGO_LENGTH / 2 - EGO_REAR_OVERHANG  # metres from base_link to the centre of the box


@dataclass(frozen=True, kw_only=True)
class VehicleSize:
    """Metres; highest_speed m/s and acceleration, braking m/s2 as SUMO's car-following model uses them."""

    kind: ActorKind
    length: float
    width: float
    height: float
    highest_speed: float = 40.0
    acceleration: float = 2.2
    braking: float = 4.0


VEHICLES = {
    "car_small": VehicleSize(kind=ActorKind.CAR, length=3.95, width=1.70, height=1.50),
    "car": VehicleSize(kind=ActorKind.CAR, length=4.50, width=1.82, height=1.48),
    "car_large": VehicleSize(kind=ActorKind.CAR, length=4.85, width=1.92, height=1.72),
    "truck": VehicleSize(
        kind=ActorKind.TRUCK, length=7.40, width=2.40, height=3.20, acceleration=1.3, braking=3.5
    ),
    "bus": VehicleSize(
        kind=ActorKind.BUS, length=11.0, width=2.55, height=3.10, acceleration=1.2, braking=3.5
    ),
    "motorcycle": VehicleSize(kind=ActorKind.MOTORCYCLE, length=2.15, width=0.80, height=1.50),
    "bicycle": VehicleSize(
        kind=ActorKind.BICYCLE,
        length=1.75,
        width=0.60,
        height=1.70,
        highest_speed=5.5,
        acceleration=1.0,
        braking=3.0,
    ),
}
PEDESTRIAN = VehicleSize(kind=ActorKind.PEDESTRIAN, length=0.55, width=0.65, height=1.75, highest_speed=2.5)


def box_corners(x: float, y: float, yaw: float, length: float, width: float) -> np.ndarray:
    """(4, 2) corners of a box centred at (x, y): front left, rear left, rear right, front right."""
    c, s = math.cos(yaw), math.sin(yaw)
    local = np.array([[length, width], [-length, width], [-length, -width], [length, -width]]) / 2
    return local @ np.array([[c, s], [-s, c]]) + (x, y)


def actor_corners(actor: Actor) -> np.ndarray:
    """(4, 2) corners of an actor's box."""
    return box_corners(actor.x, actor.y, actor.yaw, actor.length, actor.width)


def ego_centre(ego: EgoPose) -> tuple[float, float]:
    """(x, y) of the centre of the ego's box; EgoPose itself is the rear axle."""
    return ego.x + EGO_CENTRE_AHEAD * math.cos(ego.yaw), ego.y + EGO_CENTRE_AHEAD * math.sin(ego.yaw)


def ego_corners(ego: EgoPose) -> np.ndarray:
    """(4, 2) corners of the ego's box."""
    return box_corners(*ego_centre(ego), ego.yaw, EGO_LENGTH, EGO_WIDTH)


def boxes_overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two convex quadrilaterals (4, 2) overlap (separating axes); touching does not count."""
    for corners in (first, second):
        edges = np.roll(corners, -1, axis=0) - corners
        for normal in np.stack([-edges[:2, 1], edges[:2, 0]], axis=1):
            a, b = first @ normal, second @ normal
            if a.max() <= b.min() or b.max() <= a.min():
                return False
    return True
