"""Search of a speed profile over six seconds: a beam of states (metres, speed, acceleration), cheapest kept
per cell.

Acceleration is linear within a step, so that jerk is bounded and a profile can be driven as it was judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wpt_sim.expert_space_time import SpaceTime
from wpt_sim.prediction import STEP

ACTIONS = np.array([-8.0, -6.0, -4.6, -3.6, -2.8, -2.1, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.6, 2.2])
LATER_ACTIONS = np.array([-8.0, -5.0, -3.6, -2.4, -1.5, -0.7, 0.0, 0.8, 1.6, 2.2])
# Per step: seconds, actions, samples judged, and the cell (metres, m/s) in which only the cheapest state is
# kept.
_STAGES = (
    (0.5, ACTIONS, 2, 0.7, 0.4),
    (0.5, ACTIONS, 2, 1.0, 0.6),
    (0.5, ACTIONS, 2, 1.0, 0.6),
    (0.5, LATER_ACTIONS, 2, 1.5, 0.8),
    (1.0, LATER_ACTIONS, 4, 2.0, 1.0),
    (1.0, LATER_ACTIONS, 4, 2.0, 1.0),
    (1.0, LATER_ACTIONS, 2, 2.0, 1.0),
    (1.0, LATER_ACTIONS, 2, 2.0, 1.0),
)
STEPS = tuple(stage[0] for stage in _STAGES)
SPEED_WORTH = 1.0  # cost that a m/s more is worth within a cell
WORST_KEPT = 900.0  # states costlier than the cheapest by this are dropped
COMFORT_BRAKING = -3.9  # m/s2: Bench2Drive's bound is -4.05
COMFORT_JERK = 3.9  # m/s3: Bench2Drive's bound is 4.13
FOLLOW_GAP, FOLLOW_TIME = 3.0, 1.0  # metres at standstill, seconds of headway

# Costs. A metre driven earns 1; contact costs more than anything that avoids it.
PROGRESS = 1.0
OVER_CAP = 6.0
ACCELERATION, HARD_BRAKING = 0.25, 8.0
JERK = 0.06
CONTACT, CONTACT_SPEED = 2000.0, 60.0
CLOSE, CLOSE_FULL_SPEED, CLOSE_STANDING = 100.0, 6.0, 0.05  # all of it from this speed on, a share at rest
HEADWAY = 0.5
WALL = 400.0
# All of it below 1.5 m/s, nothing above 3: falling from 0 on, it would pay to creep into the others' way.
STANDING_IN_ZONE, ZONE_SLOW, ZONE_SPEED = 30.0, 1.5, 3.0


@dataclass(frozen=True, eq=False)
class SpeedProfile:
    """metres, speeds, accelerations at `times` (seconds from now), accelerations linear in between.

    cost: of the search; contact: every profile found touches somebody.
    """

    times: np.ndarray
    metres: np.ndarray
    speeds: np.ndarray
    accelerations: np.ndarray
    cost: float
    contact: bool

    def acceleration(self, t: float) -> float:
        return float(np.interp(t, self.times, self.accelerations))

    def distance(self, t: float, duration: float) -> float:
        """Metres driven between t and t + duration."""
        begin, end = np.interp((t, t + duration), self.times, self.metres)
        return float(end - begin)


@dataclass(frozen=True, eq=False)
class Road:
    """What the path itself asks. cap: (N,) m/s per sample; wall: metres ahead never to be passed (inf
    without); no_standing: (N,) bool, samples where base_link should not come to a halt."""

    cap: np.ndarray
    wall: float
    no_standing: np.ndarray


def search(road: Road, others: SpaceTime, speed: float, acceleration: float) -> SpeedProfile:
    """The cheapest profile from here; with contact only where every profile found has one."""
    s, v, a, cost = (np.array([value]) for value in (0.0, speed, acceleration, 0.0))
    hit = np.zeros(1, dtype=bool)
    history: list[tuple[np.ndarray, ...]] = []
    last = len(road.cap) - 1
    row = 0
    for dt, actions, samples, metres, width in _STAGES:
        count = len(s)
        parent = np.repeat(np.arange(count), len(actions))
        a0, a1 = a[parent], np.tile(actions, count)
        # Hard braking and releasing it may be sudden, everything else keeps the jerk bound.
        allowed = np.flatnonzero((np.abs(a1 - a0) <= COMFORT_JERK * dt + 0.3) | (a1 <= -3.0) | (a0 <= -3.0))
        parent, a0, a1 = parent[allowed], a0[allowed], a1[allowed]
        s1, v1 = s[parent], v[parent]
        begin = np.where((a1 < -3.0) & (a1 < a0), a1, a0)
        slope = (a1 - begin) / dt
        part = dt / samples
        standing = v1 < 0.05
        effort = ACCELERATION * (0.5 * (begin + a1)) ** 2
        effort += HARD_BRAKING * np.minimum(a1 - COMFORT_BRAKING - 0.6, 0.0) ** 2
        extra = dt * effort * ~standing + JERK / dt * np.minimum(np.abs(a1 - a0), 6.0) ** 2
        touched = hit[parent]
        halted = np.zeros(len(a1), dtype=bool)
        now = begin
        for _ in range(samples):
            then = now + slope * part
            v2 = v1 + 0.5 * (now + then) * part
            ends = halted | (v2 <= 0.0)
            moved = v1 * part + (2 * now + then) * (part * part / 6.0)
            # Who halts within a part drives on at falling speed for a share v / (v - v2) of it.
            short = 0.5 * v1 * part * v1 / np.maximum(v1 - v2, 1e-6)
            s1 = s1 + np.where(ends, np.where(halted, 0.0, short), np.maximum(moved, 0.0))
            v1 = np.where(ends, 0.0, v2)
            halted, now = ends, then
            row += round(part / STEP)
            p = np.minimum((s1 + 0.5).astype(np.intp), last)
            over = v1 - road.cap[p]
            # Progress counts by itself: measured against the cap, to stand where the cap is low would be
            # cheap.
            rate = OVER_CAP * np.maximum(over, 0.0) ** 2 - PROGRESS * v1
            rate += CLOSE * others.close[row][p] * np.minimum(CLOSE_STANDING + v1 / CLOSE_FULL_SPEED, 1.0)
            rate += HEADWAY * np.maximum(FOLLOW_GAP + FOLLOW_TIME * v1 - others.gap[row][p], 0.0) ** 2
            slowness = np.clip((ZONE_SPEED - v1) / (ZONE_SPEED - ZONE_SLOW), 0.0, 1.0)
            rate += STANDING_IN_ZONE * road.no_standing[p] * slowness
            rate += WALL * (s1 > road.wall)
            extra += part * rate
            touch = others.contact[row][p]
            if touch.any():
                first = touch & ~touched
                extra += first * (CONTACT + CONTACT_SPEED * v1 * (1 + v1)) / (1.0 + 0.15 * row)
                touched = touched | touch
        a_end = np.where(halted, 0.0, a1)
        total = cost[parent] + extra
        # Cheapest per cell, metres and speed gained within the cell counted: without that, and without cells
        # by acceleration, an ego at rest stays there, since setting off is dearer than standing for the first
        # half second.
        near = np.flatnonzero(total < total.min() + WORST_KEPT)
        worth = total[near] - PROGRESS * s1[near] - SPEED_WORTH * v1[near]
        order = near[np.argsort(-worth)]
        pushes = (a_end[order] > 0.7).astype(np.intp) + 2 * (a_end[order] < -0.7)
        cells = (s1[order] / metres).astype(np.intp) * 64 + np.minimum(v1[order] / width + 0.5, 63).astype(
            np.intp
        )
        cells = 3 * cells + pushes
        table = np.full(int(cells.max()) + 1, -1)
        table[cells] = order
        keep = table[table >= 0]
        s, v, a, cost, hit = s1[keep], v1[keep], a_end[keep], total[keep], touched[keep]
        history.append((parent[keep], s, v, begin[keep], a))
    best = int(np.argmin(cost))
    return _trace(history, best, speed, acceleration, float(cost[best]), bool(hit[best]))


def _trace(history, best: int, speed: float, acceleration: float, cost: float, contact: bool) -> SpeedProfile:
    rows = []
    at = best
    for parent, s, v, begin, a in reversed(history):
        rows.append((s[at], v[at], begin[at], a[at]))
        at = int(parent[at])
    rows.reverse()
    times = np.concatenate([[0.0], np.cumsum(STEPS)])
    metres = np.array([0.0, *(row[0] for row in rows)])
    speeds = np.array([speed, *(row[1] for row in rows)])
    accelerations = np.array([rows[0][2], *(row[3] for row in rows)])
    return SpeedProfile(times, metres, speeds, accelerations, cost, contact)
