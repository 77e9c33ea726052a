"""Is the twist of odometry the derivative of its poses? Finds wrong units, wrong axes, zeros, and wrong
headings.
"""

from __future__ import annotations

import numpy as np

from wpt_replay.check_report import Finding, fail, ok, warn

# Velocity is measured over this much: over less, the noise of two poses counts; over more, a turn blurs it.
_SPAN_S = 0.2
_LONGEST_SPAN_S = 0.6
_MOST_PAIRS = 20_000
# Below this speed nothing is told, neither scale nor direction.
_MOVING_MPS = 1.0
_FEWEST_PAIRS = 3
# Twist and poses agree when they differ by less than this share of the speed, plus this speed for their
# noise.
_AGREES = 0.15
_NOISE_MPS = 0.2
_ZERO_SHARE = 0.02
_TURNING_RADPS = 0.03
_TURN_AGREES = 0.35
# Pose heading and direction of motion: a car's side slip stays far below it.
_LARGEST_SLIP_DEG = 30.0

_SPEED_UNITS = {3.6: "km/h", 2.23694: "mph", 1.94384: "knots", 3.28084: "ft/s", 100.0: "cm/s", 1000.0: "mm/s"}


def judge_twist(
    topic: str,
    *,
    seconds: np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    linear: np.ndarray,
    angular: np.ndarray,
    base_from_child: np.ndarray,
    odom_frame: str,
    child_frame: str,
) -> list[Finding]:
    """Compare the twist (N, 3) with the poses that it comes with.

    seconds (N,) rising; position (N, 3); rotation (N, 3, 3) odom_from_child; base_from_child (3, 3).
    """
    first, last = _pairs(seconds)
    if len(first) < _FEWEST_PAIRS:
        return [
            warn(
                topic,
                "is too short or too sparse to compare its twist with its poses",
                "check a longer recording",
            )
        ]
    span = (seconds[last] - seconds[first])[:, None]
    in_odom = (position[last] - position[first]) / span
    middle = rotation[(first + last) // 2]
    in_child = np.einsum("nji,nj->ni", middle, in_odom)
    twist, turn = _mean(linear, first, last), _mean(angular, first, last)
    speed = np.linalg.norm(in_odom, axis=1)
    moving = speed > _MOVING_MPS
    if moving.sum() < _FEWEST_PAIRS:
        stated = float(np.median(np.linalg.norm(twist, axis=1)))
        if stated > _MOVING_MPS:
            return [
                fail(
                    topic,
                    f"the twist says {stated:.1f} m/s and the poses do not move (at most {speed.max():.2f}"
                    " m/s)",
                    "fill the pose: the planner moves its memory by it",
                )
            ]
        return [
            ok(
                topic,
                f"the vehicle stands (at most {speed.max():.2f} m/s), so that its twist cannot be checked",
            )
        ]
    findings = _linear(topic, twist[moving], in_child[moving], in_odom[moving], odom_frame, child_frame)
    if not findings:
        difference = float(np.median(np.linalg.norm(twist[moving] - in_child[moving], axis=1)))
        findings = [
            ok(
                topic,
                f"twist agrees with the poses: {float(np.median(speed[moving])):.1f} m/s, {difference:.2f}"
                " m/s apart (median)",
                speed_mps=float(np.median(speed[moving])),
            )
        ]
    findings += _heading(topic, in_child[moving] @ base_from_child.T)
    relative = np.einsum("nji,njk->nik", rotation[first], rotation[last])
    findings += _turning(topic, turn[:, 2], np.arctan2(relative[:, 1, 0], relative[:, 0, 0]) / span[:, 0])
    return findings


def _pairs(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of samples about _SPAN_S apart."""
    last = np.searchsorted(seconds, seconds + _SPAN_S - 1e-6)
    first = np.arange(len(seconds))
    inside = last < len(seconds)
    first, last = first[inside], last[inside]
    near = seconds[last] - seconds[first] <= _LONGEST_SPAN_S
    step = max(1, int(near.sum()) // _MOST_PAIRS)
    return first[near][::step], last[near][::step]


def _mean(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return the means (M, 3) of rows first..last."""
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(values, axis=0)])
    return (sums[last + 1] - sums[first]) / (last + 1 - first)[:, None]


def _linear(
    topic: str,
    twist: np.ndarray,
    in_child: np.ndarray,
    in_odom: np.ndarray,
    odom_frame: str,
    child_frame: str,
) -> list[Finding]:
    """Compare velocities (M, 3); empty where they agree."""
    speed = float(np.median(np.linalg.norm(in_child, axis=1)))
    stated = float(np.median(np.linalg.norm(twist, axis=1)))
    both = f"the twist says {stated:.1f} m/s where the poses move at {speed:.1f} m/s (median)"
    if stated < _ZERO_SHARE * speed:
        return [
            fail(
                topic,
                f"the twist is zero while the poses move at {speed:.1f} m/s (median): the planner would plan"
                " for a standing ego",
                f"fill twist with the velocity in {child_frame}, m/s and rad/s (wheel speed, or the"
                " difference of poses)",
                speed_mps=speed,
            )
        ]

    def misses(scale: float, reference: np.ndarray) -> float:
        return float(np.median(np.linalg.norm(twist / scale - reference, axis=1))) / speed

    allowed = _AGREES + _NOISE_MPS / speed
    if misses(1.0, in_child) <= allowed:
        return []
    best = min(_SPEED_UNITS, key=lambda scale: misses(scale, in_child))
    hypotheses = [
        (
            misses(1.0, in_odom),
            f"the twist is in the axes of {odom_frame}, expected those of {child_frame} (nav_msgs/Odometry)",
            f"rotate it into {child_frame}",
        ),
        (
            misses(best, in_child),
            f"the twist is in {_SPEED_UNITS[best]}, expected m/s: {both}",
            f"divide it by {best:g} in its publisher",
        ),
        (
            misses(-1.0, in_child),
            f"the twist points backward: {both}, the other way",
            "turn its sign in its publisher: x is forward",
        ),
    ]
    miss, found, remedy = min(hypotheses, key=lambda entry: entry[0])
    if miss <= allowed:
        return [fail(topic, found, remedy, speed_mps=speed, twist_mps=stated)]
    angle = _median_angle(twist, in_child)
    off = f", turned by {angle:.0f} degrees" if angle > 10.0 else f", {stated / speed:.2f} times as much"
    return [
        fail(
            topic,
            f"the twist disagrees with the poses: {both}{off}",
            f"fill it with the velocity in {child_frame} (x forward, y left), m/s and rad/s",
            speed_mps=speed,
            twist_mps=stated,
        )
    ]


def _median_angle(first: np.ndarray, second: np.ndarray) -> float:
    """Median angle (degrees) between vectors in the plane of the road."""
    cross = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    dot = first[:, 0] * second[:, 0] + first[:, 1] * second[:, 1]
    return float(np.degrees(np.median(np.abs(np.arctan2(cross, dot)))))


def _heading(topic: str, in_base: np.ndarray) -> list[Finding]:
    """Compare the pose's heading with the direction in which the vehicle moves."""
    angle = np.degrees(np.arctan2(in_base[:, 1], in_base[:, 0]))
    slip = float(np.median(np.abs(angle)))
    if slip <= _LARGEST_SLIP_DEG:
        return []
    if slip > 180.0 - _LARGEST_SLIP_DEG:
        return [
            warn(
                topic,
                f"the vehicle moves backward all the time, {slip:.0f} degrees (median) off its heading",
                "if it does not reverse, turn the pose: x of base_link is forward",
            )
        ]
    return [
        fail(
            topic,
            f"the pose's heading is {slip:.0f} degrees (median) off the direction of motion, expected x"
            " forward, y left, z up (REP-103)",
            "turn the orientation in its publisher; 90 degrees mean a heading counted from north, or a NED"
            " frame",
        )
    ]


def _turning(topic: str, stated: np.ndarray, turned: np.ndarray) -> list[Finding]:
    """Compare yaw rates (M,), rad/s, to the left; nothing is told where the vehicle hardly turns."""
    turning = np.abs(turned) > _TURNING_RADPS
    if turning.sum() < _FEWEST_PAIRS:
        return []
    stated, turned = stated[turning], turned[turning]
    rate = float(np.median(np.abs(turned)))

    def misses(scale: float) -> float:
        return float(np.median(np.abs(stated / scale - turned))) / rate

    said = float(np.median(np.abs(stated)))
    both = f"twist.angular.z is {said:.2f} where the poses turn at {rate:.2f} rad/s (median)"
    if misses(1.0) <= _TURN_AGREES:
        return []
    if said < _ZERO_SHARE * rate:
        return [
            fail(
                topic,
                f"twist.angular.z is zero while the poses turn at {rate:.2f} rad/s: plans would not turn",
                "fill it, rad/s, positive to the left",
            )
        ]
    if misses(np.degrees(1.0)) <= _TURN_AGREES:
        return [
            fail(
                topic, f"the yaw rate is in degrees/s, expected rad/s: {both}", "convert it in its publisher"
            )
        ]
    if misses(-1.0) <= _TURN_AGREES:
        return [
            fail(
                topic,
                f"the yaw rate has the wrong sign: {both}, the other way",
                "positive is to the left (REP-103)",
            )
        ]
    return [
        warn(
            topic, f"the yaw rate disagrees with the poses: {both}", "fill it in rad/s, positive to the left"
        )
    ]
