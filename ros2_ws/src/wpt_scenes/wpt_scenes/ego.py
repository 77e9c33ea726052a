"""The ego's motion from its recorded poses.

The rule, for a stamp t: the constant twist that leads from the pose at t - 50 ms to the pose at t + 50 ms,
both interpolated. Recorded poses more than 100 ms apart are not bridged while there is another way: at the
edge of such a gap (and at the ends of a recording) the window is cut there, and so one-sided. Only where less
than 20 ms would remain, or inside a gap, the window reaches to the next recorded poses on both sides, at most
1.5 s apart.

Why these numbers: nuScenes poses are recorded per sensor, 0.2 to 100 ms apart, with a precision that makes
differences over 0.2 ms worthless (10.2 m/s where 8.5 were driven, scene-0103) and over 40 ms good to 0.02
m/s. The keyframes of a scene without sweeps are clusters of seven poses in 43 ms every 0.5 s: a difference
across the gap would lag by half of it, 0.6 m/s while braking at 2.5 m/s2.
"""

from __future__ import annotations

import math

import numpy as np

from wpt_policy import se3
from wpt_policy.frame import EgoState

from wpt_scenes.pose_track import PoseTrack
from wpt_scenes.scene_types import Scene

HALF_WINDOW_NS = 50_000_000
MAX_GAP_NS = 100_000_000
MIN_SPAN_NS = 20_000_000
MAX_SPAN_NS = 1_500_000_000


def ego_state_at(track: PoseTrack, stamp_ns: int) -> EgoState | None:
    """Return the ego at stamp_ns by the rule above, odom_from_base being the track's pose.

    None where no velocity can be known: outside the track, with one pose alone, or with neighbours more than
    1.5 s apart. A zero twist is never made up; planners that need the ego refuse such a frame.
    """
    if not track.covers(stamp_ns):
        return None
    window = _window(track, stamp_ns)
    if window is None:
        return None
    before, after = window
    linear, angular = twist_between(track.at(before), track.at(after), (after - before) / 1e9)
    return EgoState(
        stamp_ns=stamp_ns, odom_from_base=track.at(stamp_ns), linear_velocity=linear, angular_velocity=angular
    )


def ego_states(scene: Scene) -> list[EgoState]:
    """Return the ego at every recorded pose stamp at which its velocity is known, by stamp."""
    states = [ego_state_at(scene.poses, stamp) for stamp in scene.poses.stamps_ns]
    return [state for state in states if state is not None]


def twist_between(first: np.ndarray, second: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the constant twist that leads from one pose to another: linear, angular, in the moving frame.

    The inverse of se3.extrapolate (the SE(3) logarithm): on a circle it is exact however long the arc, below
    half a turn.
    """
    relative = se3.inverse(first) @ second
    turn = se3.log_rotation(relative[:3, :3])
    angle = float(np.linalg.norm(turn))
    skew = np.array([[0.0, -turn[2], turn[1]], [turn[2], 0.0, -turn[0]], [-turn[1], turn[0], 0.0]])
    if angle < 1e-6:  # second-order series: the closed form divides by angle^3
        left_jacobian = np.eye(3) + 0.5 * skew
    else:
        left_jacobian = (
            np.eye(3)
            + (1.0 - math.cos(angle)) / angle**2 * skew
            + (angle - math.sin(angle)) / angle**3 * (skew @ skew)
        )
    return np.linalg.solve(left_jacobian, relative[:3, 3]) / seconds, turn / seconds


def _window(track: PoseTrack, stamp_ns: int) -> tuple[int, int] | None:
    """Return the two stamps between which the twist at stamp_ns is taken, None when there are no two."""
    first, last = track.run_around(stamp_ns, MAX_GAP_NS)
    before = max(first, stamp_ns - HALF_WINDOW_NS)
    after = min(last, stamp_ns + HALF_WINDOW_NS)
    if after - before < MIN_SPAN_NS:
        before, after = track.neighbours(before, after)
        if not 0 < after - before <= MAX_SPAN_NS:
            return None
    return before, after
