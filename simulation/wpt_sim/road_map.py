"""The static world: lanes and how they connect, junctions, signals, crossings, scenery.

Coordinates are metres in the fixed frame ``map`` (x east, y north, z up, flat ground at z = 0). A lane's centre line
runs in driving direction. Everything that a renderer, an expert, the command function or an infraction check may
ask about the road is here, so that none of them knows SUMO; ``network.py`` makes road maps from SUMO networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np


class LaneKind(Enum):
    DRIVING = "driving"
    JUNCTION = "junction"  # inside a junction: connects an incoming with an outgoing driving lane
    SIDEWALK = "sidewalk"
    CROSSING = "crossing"  # pedestrian crossing, drawn as zebra


class Turn(Enum):
    STRAIGHT = "straight"
    LEFT = "left"
    RIGHT = "right"
    U_TURN = "u_turn"


class Priority(Enum):
    """Who goes first where this connection enters its junction."""

    MAJOR = "major"  # no duty to yield
    YIELD = "yield"
    STOP = "stop"  # stop line with a stop sign
    SIGNAL = "signal"  # the signal decides; at green a left turn still yields to oncoming traffic


@dataclass(frozen=True, kw_only=True, eq=False)
class Connection:
    """One way through a junction.

    from_lane, to_lane: driving lanes; via: junction lanes passed, in order. signal, link: key of the controlling
    signal head (None, -1 without one). conflicts: junction lanes that cross or merge with this way and go first.
    """

    from_lane: str
    to_lane: str
    via: tuple[str, ...]
    turn: Turn
    priority: Priority
    signal: str | None = None
    link: int = -1
    yields_to: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Lane:
    """centre_line: (N, 2) float64, N >= 2; width: metres; speed_limit: m/s.

    left, right: neighbouring lanes in the same direction; opposite: the lane beyond the centre marking.
    """

    id: str
    kind: LaneKind
    centre_line: np.ndarray
    width: float
    speed_limit: float
    edge: str
    junction: str | None = None
    left: str | None = None
    right: str | None = None
    opposite: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SignalHead:
    """A visible signal for one incoming lane.

    lamp_position: (3,) centre of the lamp column at the far side of the junction; facing: heading (rad) that the lamps
    shine towards (against the traffic they control). lane: incoming lane; stop_line: (2, 2) its end points.
    lamp_diameter: metres, larger than life (0.6 m) so that a small network input still shows the colour.
    """

    signal: str
    links: tuple[int, ...]
    lane: str
    stop_line: np.ndarray
    lamp_position: np.ndarray
    facing: float
    lamp_diameter: float = 0.6


@dataclass(frozen=True, kw_only=True, eq=False)
class StopLine:
    """A painted line where a lane enters a junction with a duty to stop or yield. ends: (2, 2)."""

    lane: str
    ends: np.ndarray
    priority: Priority


@dataclass(frozen=True, kw_only=True, eq=False)
class Building:
    """footprint: (N, 2) polygon, anticlockwise; height: metres; colour_seed picks its look."""

    footprint: np.ndarray
    height: float
    colour_seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    position: np.ndarray  # (2,)
    height: float
    crown_radius: float


@dataclass(frozen=True, kw_only=True, eq=False)
class RoadMap:
    """name: unique with its content (used as nuScenes location). junction_areas: polygons (N, 2) by junction id."""

    name: str
    lanes: Mapping[str, Lane]
    connections: tuple[Connection, ...]
    junction_areas: Mapping[str, np.ndarray]
    signal_heads: tuple[SignalHead, ...] = ()
    stop_lines: tuple[StopLine, ...] = ()
    buildings: tuple[Building, ...] = ()
    trees: tuple[Tree, ...] = ()
    roundabouts: tuple[tuple[str, ...], ...] = field(default=())  # junction ids of each roundabout's ring
    walking_areas: tuple[np.ndarray, ...] = ()  # polygons (N, 2) between sidewalks and crossings, at kerb height
