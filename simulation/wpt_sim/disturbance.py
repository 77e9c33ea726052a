"""Pushes off the expert's way, so that the data shows how one gets back.

A disturbance lasts 0.5 to 1.5 s and is noise on the steering, on the acceleration, or on the pose itself, while the
expert goes on driving and answers to it. It ends early where it has moved the ego by MAX_OFFSET_M sideways, MAX_TURN or
MAX_SPEED_CHANGE against where it began. What the expert does afterwards is a true recovery; what it did before, with the
disturbance in its future, is not (see ``excluded``).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wpt_sim.ego_vehicle import Control
from wpt_sim.episode import DT, EpisodeSpec
from wpt_sim.scene_log import Disturbance
from wpt_sim.vehicles import EGO_WHEELBASE
from wpt_sim.world_state import EgoPose

SHARE = 0.3  # of the episodes
KINDS = ("steer", "throttle", "pose")
DURATION_S = (0.5, 1.5)
MAX_OFFSET_M, MAX_TURN, MAX_SPEED_CHANGE = 1.0, math.radians(10.0), 3.0
# A disturbance ends at this share of a bound: its last step moves the ego on by a quarter of it at most.
_WATCHED = 0.75
_SLOWEST = 2.0  # m/s: a standing car is not pushed
_ROUTE_SHARE = (0.10, 0.75)  # of the route in which a disturbance begins


@dataclass(frozen=True, kw_only=True)
class PlannedDisturbance:
    """kind: of KINDS. s: route metre from which it begins as soon as the ego is fast enough. duration_s.

    strength: -1..1 of what the kind may do at most (left, faster: positive). turn: -1..1, of a pose disturbance.
    """

    kind: str
    s: float
    duration_s: float
    strength: float
    turn: float = 0.0


def draw_disturbances(spec: EpisodeSpec, share: float = SHARE) -> tuple[PlannedDisturbance, ...]:
    """Return one or two disturbances for a share of the episodes, none for the others; by the episode's name and seed."""
    rng = np.random.default_rng([spec.seed, zlib.crc32(f"disturbance/{spec.name}".encode())])
    if rng.uniform() >= share:
        return ()
    places = np.sort(rng.uniform(*_ROUTE_SHARE, size=int(rng.integers(1, 3)))) * spec.length
    return tuple(
        PlannedDisturbance(
            kind=KINDS[int(rng.integers(len(KINDS)))],
            s=float(place),
            duration_s=float(rng.uniform(*DURATION_S)),
            strength=float(rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.0)),
            turn=float(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0)),
        )
        for place in places
    )


def excluded(time_s: float, disturbances: Iterable[Disturbance], horizon_s: float = 3.0) -> bool:
    """Whether a sample at this time gets no label: it lies before the end of a disturbance that its future reaches.

    From the end on the future is what the expert really drove; more than horizon_s before it began, too.
    """
    return any(d.begin_s - horizon_s < time_s < d.end_s for d in disturbances)


class Disturber:
    """Applies planned disturbances during one drive: every step first control(), then pose() after the ego has moved."""

    def __init__(self, planned: Sequence[PlannedDisturbance]):
        self._waiting = sorted(planned, key=lambda p: p.s)
        self._running: _Running | None = None
        self.happened: list[Disturbance] = []

    def control(self, control: Control, ego: EgoPose, time_s: float, s: float, lateral: float) -> Control:
        """Return the driver's control with what is pushing it at this moment. s, lateral: of the ego on its route."""
        if self._running is None and self._waiting and s >= self._waiting[0].s and ego.speed >= _SLOWEST:
            self._running = _Running(self._waiting.pop(0), time_s, ego, lateral)
        if self._running is None:
            return control
        if self._running.is_over(ego, time_s, lateral):
            self.finish(time_s)
            return control
        return self._running.pushed(control, time_s)

    def pose(self, ego: EgoPose, time_s: float) -> EgoPose:
        """Return where the ego is at the end of the step that began at time_s."""
        return ego if self._running is None else self._running.moved(ego, time_s)

    def finish(self, time_s: float) -> None:
        """End what is running (also at the end of a drive)."""
        if self._running is not None:
            planned = self._running.planned
            self.happened.append(
                Disturbance(kind=planned.kind, begin_s=self._running.begin_s, end_s=round(time_s, 6))
            )
            self._running = None


class _Running:
    def __init__(self, planned: PlannedDisturbance, begin_s: float, ego: EgoPose, lateral: float):
        self.planned, self.begin_s = planned, begin_s
        self._ego, self._lateral = ego, lateral

    def is_over(self, ego: EgoPose, time_s: float, lateral: float) -> bool:
        return (
            time_s - self.begin_s > self.planned.duration_s - 0.5 * DT
            or abs(lateral - self._lateral) > _WATCHED * MAX_OFFSET_M
            or abs(ego.speed - self._ego.speed) > _WATCHED * MAX_SPEED_CHANGE
        )

    def pushed(self, control: Control, time_s: float) -> Control:
        planned = self.planned
        if planned.kind == "steer":
            # A half sine whose turn, unanswered at the speed of the beginning, is the largest one.
            amplitude = planned.strength * MAX_TURN * EGO_WHEELBASE * math.pi / (2.0 * self._ego.speed * planned.duration_s)
            share = (time_s - self.begin_s) / planned.duration_s
            return replace(control, steer=control.steer + amplitude * math.sin(math.pi * share))
        if planned.kind == "throttle":
            push = planned.strength * MAX_SPEED_CHANGE / planned.duration_s
            return replace(control, acceleration=control.acceleration + push)
        return control

    def moved(self, ego: EgoPose, time_s: float) -> EgoPose:
        planned = self.planned
        if planned.kind != "pose":
            return ego
        step = _eased((time_s + DT - self.begin_s) / planned.duration_s) - _eased(
            (time_s - self.begin_s) / planned.duration_s
        )
        aside = planned.strength * MAX_OFFSET_M * step
        yaw = ego.yaw + planned.turn * MAX_TURN * step
        return replace(
            ego,
            x=ego.x - aside * math.sin(ego.yaw),
            y=ego.y + aside * math.cos(ego.yaw),
            yaw=math.remainder(yaw, math.tau),
        )


def _eased(share: float) -> float:
    """0 to 1 with no speed at either end."""
    return 0.5 - 0.5 * math.cos(math.pi * min(max(share, 0.0), 1.0))
