"""Paths of base_link and of LIDAR_TOP made from each other by one heading rule, for many samples at once.

The public metrics follow LIDAR_TOP, a planner of this suite follows base_link 0.94 m behind it. One path is no rotation
of the other, so a heading is needed at every point. It is the plan rule of wpt_policy.plan.headings_and_speeds, applied
to the path as given. Truth is always moved by the same rule as the prediction that it judges (like with like): a
prediction that equals truth has distance 0 in both frames, and the rule's own error cancels.

Shape suffixes: N samples, D further draws (jitter), 6 steps. All angles in radians in base_link axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wpt_policy.plan import STANDSTILL_CHORD_M
from wpt_scenes.truth import NUM_STEPS, WaypointFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class Paths:
    """One path in both frames.

    ego: (..., 6, 2) base_link origins in base_link at the keyframe; lidar: (..., 6, 2) LIDAR_TOP origins in LIDAR_TOP at
    the keyframe (x right, y forward). headings: (..., 6) of the car in base_link axes. A frame that cannot be had
    because no mount of LIDAR_TOP is known is None; headings are always there.
    """

    ego: np.ndarray | None
    lidar: np.ndarray | None
    headings: np.ndarray

    def at(self, chosen: np.ndarray) -> Paths:
        """Return the paths of (S,) samples."""
        return Paths(
            ego=None if self.ego is None else self.ego[chosen],
            lidar=None if self.lidar is None else self.lidar[chosen],
            headings=self.headings[chosen],
        )

    def in_frame(self, frame: WaypointFrame) -> np.ndarray | None:
        """Return the (..., 6, 2) waypoints in ``frame``, None where they cannot be had."""
        return self.ego if frame is WaypointFrame.EGO else self.lidar

    def stacked_with(self, *others: Paths) -> Paths:
        """Return these (N, D, 6, 2) paths followed by ``others`` (N, D', 6, 2) along the draws."""
        everything = [self, *others]

        def stack(name: str) -> np.ndarray | None:
            parts = [getattr(paths, name) for paths in everything]
            return None if any(part is None for part in parts) else np.concatenate(parts, axis=1)

        return Paths(ego=stack("ego"), lidar=stack("lidar"), headings=stack("headings"))


def rule_headings(positions: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the (..., 6) headings of (..., 6, 2) waypoints by the plan rule, the ego at (0, 0) with heading 0.

    known: (..., 6) leading steps that exist; the last known step takes its last chord. The same numbers as
    wpt_policy.plan.headings_and_speeds gives for each path cut at its last known step; values beyond it mean nothing.
    """
    lead = positions.shape[:-2]
    path = np.concatenate([np.zeros((*lead, 1, 2)), np.nan_to_num(positions)], axis=-2)
    known = np.broadcast_to(known, (*lead, NUM_STEPS))
    heading = np.zeros(lead)
    result = np.zeros((*lead, NUM_STEPS))
    for step in range(1, NUM_STEPS + 1):
        if step < NUM_STEPS:
            ahead = np.where(known[..., step, None], path[..., step + 1, :], path[..., step, :])
        else:
            ahead = path[..., step, :]
        chord = ahead - path[..., step - 1, :]
        direction = np.arctan2(chord[..., 1], chord[..., 0])
        direction = np.where(np.cos(direction - heading) < 0, direction + np.pi, direction)
        direction = direction - 2 * np.pi * np.round(direction / (2 * np.pi))
        moving = np.hypot(chord[..., 0], chord[..., 1]) >= STANDSTILL_CHORD_M
        heading = np.where(moving, direction, heading)
        result[..., step - 1] = heading
    return result


def make_paths(
    positions: np.ndarray, known: np.ndarray, frame: WaypointFrame, base_from_lidar: np.ndarray | None
) -> Paths:
    """Return both frames' paths of (..., 6, 2) waypoints given in ``frame``.

    known: (..., 6) as in rule_headings. base_from_lidar: (..., 4, 4) mount of LIDAR_TOP, or None when unknown; its
    yaw and its place on the ground are used (a mount's tilt of about a degree moves a waypoint by less than 1 mm per
    metre and does so for truth and prediction alike).
    """
    if base_from_lidar is None:
        if frame is WaypointFrame.EGO:
            return Paths(ego=positions, lidar=None, headings=rule_headings(positions, known))
        return Paths(
            ego=None, lidar=positions, headings=rule_headings(_rotated(positions, -np.pi / 2), known)
        )
    mount = base_from_lidar[..., None, :, :]
    lever = mount[..., :2, 3]
    yaw = np.arctan2(mount[..., 1, 0], mount[..., 0, 0])
    if frame is WaypointFrame.EGO:
        headings = rule_headings(positions, known)
        moved = positions + _rotated(lever, headings) - lever
        return Paths(ego=positions, lidar=_rotated(moved, -yaw), headings=headings)
    along_base = _rotated(positions, yaw)
    headings = rule_headings(along_base, known)
    return Paths(ego=along_base + lever - _rotated(lever, headings), lidar=positions, headings=headings)


def _rotated(points: np.ndarray, angle: np.ndarray | float) -> np.ndarray:
    """Turn (..., 2) points counter-clockwise by (...) angles."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)
