"""The ego's own part of a sample: motion now from the past alone, true future, history entries, the route
ahead.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from wpt_policy import se3
from wpt_policy.frame import EgoState
from wpt_policy.policy_config import HistorySpec
from wpt_scenes.ego import ego_state_at
from wpt_scenes.pose_track import PoseTrack

# Poses this long before an instant decide its motion (wpt_scenes.ego bridges at most 1.5 s).
_PAST_NS = 2_000_000_000
# A route is searched this far behind and ahead of where the ego was one keyframe (at most 1.5 s) before.
_BACK_M, _AHEAD_M = 5.0, 60.0


def past_motion(track: PoseTrack, stamp_ns: int) -> EgoState | None:
    """Return the ego at stamp_ns by the rule of wpt_scenes.ego applied to poses up to stamp_ns only, None if
    unknown.

    With the whole track the rule's window reaches 50 ms into the future, which a policy on the road does not
    have.
    """
    if not track.covers(stamp_ns):
        return None
    stamps = track.stamps_ns
    end = bisect_right(stamps, stamp_ns)
    begin = min(bisect_right(stamps, stamp_ns - _PAST_NS), max(end - 2, 0))
    known, poses = list(stamps[begin:end]), list(track.poses[begin:end])
    if known[-1] != stamp_ns:  # the ego's own odometry would have a pose here
        known.append(stamp_ns)
        poses.append(track.at(stamp_ns))
    return ego_state_at(PoseTrack(known, poses), stamp_ns)


def motion_of(now: EgoState | None, earlier: EgoState | None) -> np.ndarray:
    """Return (4,) forward speed, lateral speed, yaw rate, acceleration (Batch.motion); NaN when now is
    unknown.

    The acceleration is the mean since the earlier state (the keyframe before), 0 where there is none.
    """
    if now is None:
        return np.full(4, np.nan)
    acceleration = 0.0
    if earlier is not None:
        acceleration = (now.speed - earlier.speed) / ((now.stamp_ns - earlier.stamp_ns) / 1e9)
    return np.array([now.speed, now.linear_velocity[1], now.angular_velocity[2], acceleration])


def true_future(
    track: PoseTrack, reference_ns: int, steps: int, step_ns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return x, y, yaw (steps, 3) of the recorded poses step_ns, 2 step_ns ... after reference_ns, and valid
    (steps,).

    In base_link at the reference, time-interpolated. Zeros, and not valid, where the recording has ended.
    """
    base_from_global = se3.inverse(track.at(reference_ns))
    future, valid = np.zeros((steps, 3)), np.zeros(steps, dtype=bool)
    for step in range(steps):
        stamp = reference_ns + (step + 1) * step_ns
        if track.covers(stamp):
            pose = base_from_global @ track.at(stamp)
            future[step] = pose[0, 3], pose[1, 3], se3.yaw_of(pose)
            valid[step] = True
    return future, valid


def history_of(references_ns: Sequence[int], index: int, spec: HistorySpec) -> list[int]:
    """Return for each history entry of set ``index`` the number of the earlier set it is, -1 where none fits.

    references_ns: of all sets of a scene in order. The rule is that of wpt_policy.temporal_memory for sets
    seen in turn: entry i is nearest to i intervals before, within the tolerance (the newer of two equally
    near ones), and nothing from before a pause longer than largest_gap_s.
    """
    interval, tolerance, gap = (
        round(s * 1e9) for s in (spec.interval_s, spec.tolerance_s, spec.largest_gap_s)
    )
    result = []
    for entry in range(1, spec.entries + 1):
        wanted, best, off_by = references_ns[index] - entry * interval, -1, tolerance + 1
        for number in range(index - 1, -1, -1):
            if references_ns[number + 1] - references_ns[number] > gap:
                break
            distance = abs(references_ns[number] - wanted)
            if distance < off_by:
                best, off_by = number, distance
            if references_ns[number] < wanted - tolerance:
                break
        result.append(best)
    return result


class RouteAhead:
    """A scene's route and where along it the ego is at each keyframe.

    points: (P, 2) global. poses: (K, 4, 4) of the ego in order of time. Its place is followed from keyframe
    to keyframe, so that a route that crosses or meets itself is not taken at the wrong end.
    """

    def __init__(self, points: np.ndarray, poses: Sequence[np.ndarray]):
        keep = np.append(True, np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6)
        self._points = np.asarray(points, dtype=np.float64)[keep]
        self._along = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(self._points, axis=0), axis=1)))
        self.travelled: list[float] = []
        for pose in poses:
            low, high = 0.0, self._along[-1]
            if self.travelled:
                low, high = self.travelled[-1] - _BACK_M, self.travelled[-1] + _AHEAD_M
            self.travelled.append(self._nearest(pose, low, high))

    def _nearest(self, pose: np.ndarray, low: float, high: float) -> float:
        """Return the length along the route next to the ego, on pieces from low to high that lead its way if
        any do.
        """
        begin, piece = self._points[:-1], np.diff(self._points, axis=0)
        length = np.diff(self._along)
        share = np.clip(((pose[:2, 3] - begin) * piece).sum(1) / length**2, 0.0, 1.0)
        distance = np.linalg.norm(pose[:2, 3] - begin - share[:, None] * piece, axis=1)
        allowed = (self._along[1:] >= low) & (self._along[:-1] <= high)
        same_way = allowed & (piece @ pose[:2, 0] > 0)
        for choice in (same_way, allowed):
            if choice.any():
                best = int(np.where(choice, distance, math.inf).argmin())
                return float(self._along[best] + share[best] * length[best])
        return float(np.clip(low, 0.0, self._along[-1]))

    def ahead(self, keyframe: int, base_from_global: np.ndarray, count: int) -> np.ndarray:
        """Return (count, 2) points 1 m apart from beside the ego on, in base_link; NaN after the end."""
        start = self.travelled[keyframe]
        at = start + np.arange(count)
        at = at[at <= self._along[-1]]
        places = np.column_stack([np.interp(at, self._along, self._points[:, axis]) for axis in (0, 1)])
        result = np.full((count, 2), np.nan)
        result[: len(at)] = _to_base(places, base_from_global)
        return result


def _to_base(places: np.ndarray, base_from_global: np.ndarray) -> np.ndarray:
    """Move (Q, 2) global ground places into base_link; heights, which a plan view has none of, are those of
    the ego.
    """
    yaw_row = base_from_global[:2, :2]
    return places @ yaw_row.T + base_from_global[:2, 3]
