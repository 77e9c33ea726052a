"""A planned trajectory and the candidates it was chosen from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from types import MappingProxyType

import numpy as np

# Below this chord (m) between neighbouring points a heading cannot be read from positions: at 0.5 s it is 0.2 m/s.
STANDSTILL_CHORD_M = 0.1


class PlanFlag(IntFlag):
    """What a consumer must know about a plan. Values are those of wpt_msgs/Trajectory."""

    NONE = 0
    WARMING_UP = 1
    CAMERA_MASKED = 2
    CAMERA_HELD = 4
    UNCOMPENSATED = 8
    EGO_EXTRAPOLATED = 16
    DEFAULT_COMMAND = 32
    UNTRAINED = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One considered trajectory. positions: (T + 1, 2) as in Plan; score: higher is better within one plan."""

    positions: np.ndarray
    score: float
    reward_terms: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Where the ego is to be.

    positions: (T + 1, 2) float64 metres in base_link at reference_stamp_ns; row 0 is the ego (0, 0), row i is the
    place at i * dt_s seconds after the reference stamp.
    selected: index into candidates of this plan, or -1.
    Values are not judged here: see plausibility.plan_problem.
    """

    reference_stamp_ns: int
    positions: np.ndarray
    dt_s: float
    planner: str
    flags: PlanFlag = PlanFlag.NONE
    candidates: tuple[Candidate, ...] = ()
    selected: int = -1
    weights_sha256: str = ""

    @property
    def times_s(self) -> np.ndarray:
        """(T + 1,) seconds since the reference stamp."""
        return np.arange(len(self.positions)) * self.dt_s

    @property
    def waypoints(self) -> np.ndarray:
        """(T, 2) the future points, without the ego's own."""
        return self.positions[1:]


def headings_and_speeds(
    positions: np.ndarray, dt_s: float, ego_speed: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Derive heading (rad, base_link) and signed speed (m/s) of each point of (T + 1, 2) positions.

    The rule: the first heading is the ego's (0). Every other heading is the direction of the chord between the
    neighbours (the last: of the last chord); a chord shorter than STANDSTILL_CHORD_M keeps the heading before it, and
    a chord that points backwards against the heading before it is driven in reverse: the heading is the chord's
    opposite and the speed negative. Speed is the length of the arriving chord over dt_s; the first speed is
    ``ego_speed`` where known, else the second point's.
    """
    positions = np.asarray(positions, dtype=np.float64)
    count = len(positions)
    headings, speeds = np.zeros(count), np.zeros(count)
    for i in range(1, count):
        chord = positions[min(i + 1, count - 1)] - positions[i - 1]
        heading = headings[i - 1]
        if math.hypot(chord[0], chord[1]) >= STANDSTILL_CHORD_M:
            direction = math.atan2(chord[1], chord[0])
            if math.cos(direction - heading) < 0:
                direction += math.pi
            heading = math.remainder(direction, math.tau)
        headings[i] = heading
        arriving = positions[i] - positions[i - 1]
        forward = arriving[0] * math.cos(heading) + arriving[1] * math.sin(heading)
        speeds[i] = math.copysign(math.hypot(arriving[0], arriving[1]), forward) / dt_s
    speeds[0] = ego_speed if ego_speed is not None else (speeds[1] if count > 1 else 0.0)
    return headings, speeds


def curvatures(positions: np.ndarray) -> np.ndarray:
    """Return the signed curvature (1/m, left positive) at each of (T + 1, 2) positions by the circle through three points.

    Ends copy their neighbour; where the three points are closer than STANDSTILL_CHORD_M the curvature is 0.
    """
    p = np.asarray(positions, dtype=np.float64)
    result = np.zeros(len(p))
    for i in range(1, len(p) - 1):
        a, b, c = p[i] - p[i - 1], p[i + 1] - p[i], p[i + 1] - p[i - 1]
        lengths = [math.hypot(v[0], v[1]) for v in (a, b, c)]
        if min(lengths) >= STANDSTILL_CHORD_M:
            result[i] = 2.0 * (a[0] * b[1] - a[1] * b[0]) / math.prod(lengths)
    if len(p) > 2:
        result[0], result[-1] = result[1], result[-2]
    return result


def moved(positions: np.ndarray, target_from_source: np.ndarray) -> np.ndarray:
    """Move (N, 2) ground positions by a (4, 4) transform; roll, pitch and height drop out only after the move."""
    points = np.column_stack([positions, np.zeros(len(positions))])
    return (points @ target_from_source[:3, :3].T + target_from_source[:3, 3])[:, :2]
