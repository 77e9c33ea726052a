"""From a plan (waypoints 0.5 s apart) to control at 20 Hz: what every policy is driven with.

Longitudinal: the acceleration with which the ego is, 0.5 s and 1 s from now, as far along the plan as the
plan says. Lateral: pure pursuit on a smooth curve through the waypoints. Plans may come at 2 to 10 Hz;
between plans the follower goes on along the last one by time, and brakes when it ends.
"""

from __future__ import annotations

import math

import numpy as np

from wpt_policy.plan import Plan

from wpt_sim.ego_vehicle import HARDEST_BRAKING, MAX_STEER, STRONGEST_ACCELERATION, Control
from wpt_sim.vehicles import EGO_WHEELBASE
from wpt_sim.world_state import EgoPose

LOOK = (0.5, 1.0)  # seconds ahead at which the distance is matched
WEIGHTS = (0.6, 0.4)
FINE = 20  # curve points per waypoint interval
STANDSTILL = 0.15  # metres within 1 s below which a plan means to stand
SHORTEST_CURVE = 0.4  # metres: a shorter plan does not steer
WITHOUT_PLAN = -2.5  # m/s2


class TrajectoryFollower:
    """Follows the newest plan. Time is the caller's (seconds, the same clock for both methods)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the plan."""
        self._curve: np.ndarray | None = None

    def set_plan(self, plan: Plan | np.ndarray, dt_s: float, ego: EgoPose, time_s: float) -> None:
        """Follow `plan` from now on.

        plan: Plan or (T + 1, 2) positions in base_link, row 0 the ego, rows dt_s seconds apart. ego: the pose
        that base_link was at the plan's reference time time_s. A plan with a value that is not finite is
        refused: ValueError.
        """
        positions = np.asarray(plan.positions if isinstance(plan, Plan) else plan, dtype=np.float64)
        if (
            positions.ndim != 2
            or positions.shape[0] < 2
            or positions.shape[1] != 2
            or not np.isfinite(positions).all()
        ):
            raise ValueError(
                f"a plan of shape {positions.shape} cannot be followed: give finite (T + 1, 2) positions."
            )
        curve = _smooth(positions)
        c, s = math.cos(ego.yaw), math.sin(ego.yaw)
        self._curve = curve @ np.array([[c, s], [-s, c]]) + (ego.x, ego.y)
        steps = np.hypot(*np.diff(self._curve, axis=0).T)
        self._along = np.concatenate([[0.0], np.cumsum(steps)])
        self._times = time_s + np.arange(len(curve)) * dt_s / FINE
        self._ends = float(self._times[-1])

    def control(self, ego: EgoPose, time_s: float) -> Control:
        """Control for the coming step."""
        if self._curve is None or time_s > self._ends - 0.25:
            return Control(steer=ego.steer, acceleration=WITHOUT_PLAN)
        here = self._project(ego.x, ego.y)
        return Control(steer=self._steer(ego, here), acceleration=self._acceleration(ego, here, time_s))

    def _project(self, x: float, y: float) -> float:
        """Metres along the curve of the nearest point; negative before its start."""
        gaps = np.hypot(self._curve[:, 0] - x, self._curve[:, 1] - y)
        i = int(np.argmin(gaps))
        j = min(max(i, 1), len(self._curve) - 1)
        along = self._curve[j] - self._curve[j - 1]
        length = math.hypot(*along)
        if length < 1e-6:
            return float(self._along[i])
        offset = (x - self._curve[j - 1, 0]) * along[0] + (y - self._curve[j - 1, 1]) * along[1]
        return float(self._along[j - 1] + offset / length)

    def _acceleration(self, ego: EgoPose, here: float, time_s: float) -> float:
        distances = [float(np.interp(time_s + t, self._times, self._along)) - here for t in LOOK]
        if distances[-1] < STANDSTILL and ego.speed < 0.5:
            return -1.0
        wanted = sum(
            w * 2.0 * (d - ego.speed * t) / (t * t) for w, d, t in zip(WEIGHTS, distances, LOOK, strict=True)
        )
        if ego.speed > 0.3 and distances[-1] < 0.5 * ego.speed * LOOK[-1]:
            # The plan halts within the look: the braking that halts there, not the one that would come back.
            rest = float(self._along[-1]) - here
            if rest - distances[-1] < 0.3:
                wanted = -(ego.speed**2) / (2 * max(rest, 0.05))
        return min(max(wanted, -HARDEST_BRAKING), STRONGEST_ACCELERATION)

    def _steer(self, ego: EgoPose, here: float) -> float:
        total = float(self._along[-1])
        if total < SHORTEST_CURVE:
            return ego.steer
        look = here + min(max(0.5 * ego.speed + 1.0, 2.6), 8.0)
        x, y = (float(np.interp(look, self._along, self._curve[:, k])) for k in range(2))
        beyond = look - total
        if beyond > 0.0:
            # Beyond its end the plan goes on with the curvature of its last part.
            x, y = self._continued(beyond)
        dx, dy = x - ego.x, y - ego.y
        left = -math.sin(ego.yaw) * dx + math.cos(ego.yaw) * dy
        steer = math.atan(EGO_WHEELBASE * 2.0 * left / max(dx * dx + dy * dy, 1.0))
        return min(max(steer, -MAX_STEER), MAX_STEER)

    def _continued(self, beyond: float) -> tuple[float, float]:
        total = float(self._along[-1])
        back = min(1.0, 0.5 * total)
        stations = (total - 2 * back, total - back, total)
        a, b, c = (
            np.array([np.interp(s, self._along, self._curve[:, k]) for k in range(2)]) for s in stations
        )
        first, second = math.atan2(*(b - a)[::-1]), math.atan2(*(c - b)[::-1])
        bend = math.remainder(second - first, math.tau) / back
        bend = min(max(bend, -0.2), 0.2)
        heading = second + 0.5 * bend * back + 0.5 * bend * beyond
        return float(c[0] + beyond * math.cos(heading)), float(c[1] + beyond * math.sin(heading))


def _smooth(positions: np.ndarray) -> np.ndarray:
    """Points of a cubic curve in time through the waypoints (base_link), FINE per interval; it starts along
    x.
    """
    count = len(positions)
    slopes = np.zeros_like(positions)
    slopes[1:-1] = 0.5 * (positions[2:] - positions[:-2])
    slopes[-1] = (
        1.5 * (positions[-1] - positions[-2]) - 0.5 * slopes[-2]
        if count > 2
        else positions[-1] - positions[-2]
    )
    slopes[0] = (max(1.5 * float(positions[1, 0] - positions[0, 0]) - 0.5 * float(slopes[1, 0]), 0.0), 0.0)
    for i in range(1, count):  # no slope may point back or overshoot: a plan that halts must not wiggle
        step = positions[i] - positions[i - 1]
        length = math.hypot(*step)
        for k in (i - 1, i):
            size = math.hypot(*slopes[k])
            if size > 3.0 * length:
                slopes[k] *= 3.0 * length / size if size > 0 else 0.0
    t = (np.arange(FINE) / FINE)[:, None]
    pieces = []
    for i in range(1, count):
        p0, p1, m0, m1 = positions[i - 1], positions[i], slopes[i - 1], slopes[i]
        pieces.append(
            (2 * t**3 - 3 * t**2 + 1) * p0
            + (t**3 - 2 * t**2 + t) * m0
            + (3 * t**2 - 2 * t**3) * p1
            + (t**3 - t**2) * m1
        )
    return np.vstack([*pieces, positions[-1:]])
