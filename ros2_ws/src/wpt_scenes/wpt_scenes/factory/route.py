"""The factory's road as a curve, and the ego's drive along it.

Places on the road are (s, d): metres along the ego lane's centre line, and metres to the left of it.
"""

from __future__ import annotations

import math

import numpy as np

from wpt_policy import se3

# Straight road before the start and after the end, so that the cameras never see a road end.
LEAD_IN_M = 90.0
LEAD_OUT_M = 120.0

_STEP_S = 0.002
# The first turn: yaw grows from 163 degrees by 75 and so passes 180 (the wrap is part of the test material).
_START_YAW = math.radians(163.0)
_START_XY = (260.0, 180.0)
# (centre time s, half width s, yaw change rad): smooth turns, the first to the left, the second to the right.
_TURNS = ((2.6, 2.0, math.radians(75.0)), (7.4, 2.2, math.radians(-60.0)))
# Body attitude from acceleration: pitch (nose down) per braking and roll per lateral m/s2, of a soft family
# car.
_PITCH_PER_MS2 = math.radians(0.35)
_ROLL_PER_MS2 = math.radians(0.45)


class Route:
    """The ego lane's centre line and the ego's progress on it. seed varies speed and turns a little."""

    def __init__(self, duration_s: float, seed: int):
        rng = np.random.default_rng([seed, 1])
        self._speed_scale = rng.uniform(0.92, 1.08)
        self._turn_scale = rng.uniform(0.9, 1.1)
        # A margin on both sides: cameras expose before the first keyframe, and velocities want neighbours.
        self._times = np.arange(-1.0, duration_s + 1.0, _STEP_S)
        middle = self._times[:-1] + _STEP_S / 2
        speed, yaw_rate = self.speed(middle), self.yaw_rate(middle)
        start = int(round(1.0 / _STEP_S))
        yaw = np.concatenate([[0.0], np.cumsum(yaw_rate * _STEP_S)])
        yaw += _START_YAW - yaw[start]
        heading = yaw[:-1] + yaw_rate * _STEP_S / 2
        self._s = np.concatenate([[0.0], np.cumsum(speed * _STEP_S)])
        self._s -= self._s[start]
        x = np.concatenate([[0.0], np.cumsum(speed * np.cos(heading) * _STEP_S)])
        y = np.concatenate([[0.0], np.cumsum(speed * np.sin(heading) * _STEP_S)])
        self._x = x - x[start] + _START_XY[0]
        self._y = y - y[start] + _START_XY[1]
        self._yaw = yaw

    def speed(self, time_s: np.ndarray | float) -> np.ndarray:
        """Return the ego's speed (m/s): it slows for the first turn and speeds up after it; never 0."""
        t = np.asarray(time_s, dtype=np.float64)
        return self._speed_scale * (
            7.5 - 2.2 * np.exp(-(((t - 2.6) / 1.3) ** 2)) + 1.2 * np.sin(0.9 * (t - 5.0)) * (t > 5.0)
        )

    def yaw_rate(self, time_s: np.ndarray | float) -> np.ndarray:
        """Return the ego's yaw rate (rad/s): raised-cosine pulses."""
        t = np.asarray(time_s, dtype=np.float64)
        rate = np.zeros_like(t)
        for centre, half_width, angle in _TURNS:
            inside = np.abs(t - centre) < half_width
            pulse = (1.0 + np.cos(math.pi * (t - centre) / half_width)) / (2.0 * half_width)
            rate += np.where(inside, self._turn_scale * angle * pulse, 0.0)
        return rate

    def arc_at(self, time_s: float) -> float:
        """Return the ego's s (m) at a time (s)."""
        return float(np.interp(time_s, self._times, self._s))

    @property
    def end_s(self) -> float:
        """s at the end of the drive."""
        return float(self._s[-1])

    def global_from_base(self, time_s: float) -> np.ndarray:
        """Return the ego pose (4, 4) at a time (s): on the lane's centre, z 0, tilted by acceleration."""
        yaw = float(np.interp(time_s, self._times, self._yaw))
        pose = se3.planar(
            float(np.interp(time_s, self._times, self._x)),
            float(np.interp(time_s, self._times, self._y)),
            yaw,
        )
        # Differences over +-5 ms, inside the margin.
        braking = float(self.speed(time_s - 0.005) - self.speed(time_s + 0.005)) / 0.01
        lateral = float(self.speed(time_s) * self.yaw_rate(time_s))
        pose[:3, :3] = pose[:3, :3] @ se3.exp_rotation(
            np.array([_ROLL_PER_MS2 * lateral, _PITCH_PER_MS2 * braking, 0.0])
        )
        return pose

    def place(self, s: float, d: float, turned: float = 0.0) -> np.ndarray:
        """Return the planar pose (4, 4) at (s, d), along the road, turned by an angle (rad)."""
        x, y, yaw = self._centre(np.array([s]))
        return se3.planar(x[0] - d * math.sin(yaw[0]), y[0] + d * math.cos(yaw[0]), float(yaw[0]) + turned)

    def line(self, d: float, start_s: float, end_s: float, step_m: float = 0.5) -> np.ndarray:
        """Return (N, 2) global points of the line at offset d between two s."""
        s = np.linspace(start_s, end_s, max(2, int(math.ceil((end_s - start_s) / step_m)) + 1))
        x, y, yaw = self._centre(s)
        return np.column_stack([x - d * np.sin(yaw), y + d * np.cos(yaw)])

    def strip(self, right_d: float, left_d: float, start_s: float, end_s: float) -> np.ndarray:
        """Return the (N, 2) global outline of the area between two offsets and two s."""
        right = self.line(right_d, start_s, end_s)
        return np.concatenate([right, self.line(left_d, start_s, end_s)[::-1]])

    def _centre(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre line at s: integrated inside the drive, straight on outside."""
        inside = np.clip(s, self._s[0], self._s[-1])
        beyond = s - inside
        yaw = np.interp(inside, self._s, self._yaw)
        x = np.interp(inside, self._s, self._x) + beyond * np.cos(yaw)
        y = np.interp(inside, self._s, self._y) + beyond * np.sin(yaw)
        return x, y, yaw
