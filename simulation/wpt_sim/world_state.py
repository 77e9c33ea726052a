"""The moving world at one instant, as logged, rendered, judged and (in part) shown to the expert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag


class ActorKind(Enum):
    """Values are nuScenes category names, so that tables, metrics and devkit drawing need no translation."""

    CAR = "vehicle.car"
    TRUCK = "vehicle.truck"
    BUS = "vehicle.bus.rigid"
    MOTORCYCLE = "vehicle.motorcycle"
    BICYCLE = "vehicle.bicycle"
    PEDESTRIAN = "human.pedestrian.adult"


class Lights(IntFlag):
    """Lit lamps of a vehicle, all rendered."""

    NONE = 0
    BRAKE = 1
    LEFT = 2
    RIGHT = 4


class SignalColour(Enum):
    RED = "r"
    YELLOW = "y"
    GREEN = "g"
    OFF = "o"


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """One other road user. x, y: centre of its box (map, metres); yaw: rad; speed: m/s along yaw; acceleration: m/s2.

    length, width, height: metres. colour_seed picks its look. parked: stands for the whole episode.
    """

    id: str
    kind: ActorKind
    x: float
    y: float
    yaw: float
    speed: float
    length: float
    width: float
    height: float
    acceleration: float = 0.0
    lights: Lights = Lights.NONE
    colour_seed: int = 0
    parked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class EgoPose:
    """The ego: x, y of base_link (rear axle centre on the ground), yaw; speed m/s; steer rad; acceleration m/s2."""

    x: float
    y: float
    yaw: float
    speed: float
    steer: float = 0.0
    acceleration: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldState:
    """time_s since the episode's start; signals: (signal id, link) -> colour."""

    time_s: float
    ego: EgoPose
    actors: tuple[Actor, ...]
    signals: Mapping[tuple[str, int], SignalColour] = field(default_factory=dict)
