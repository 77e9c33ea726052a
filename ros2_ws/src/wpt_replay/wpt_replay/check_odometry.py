"""Odometry: there, of base_link, often enough for the images, and with a twist that agrees with its own
poses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from wpt_policy import se3

from wpt_replay.check_frames import FrameTree
from wpt_replay.check_images import type_remedy
from wpt_replay.check_observer import ODOMETRY, Observer, OdometryTrack, StampTrack
from wpt_replay.check_planner import PlannerNeeds
from wpt_replay.check_qos import Offer
from wpt_replay.check_report import Finding, Status, fail, ok, warn
from wpt_replay.check_settings import PlannerSettings
from wpt_replay.check_twist import judge_twist

# The node interpolates over at most this much (wpt_planner/ego_motion.py).
LONGEST_GAP_NS = 250_000_000
# A step of the pose that no car makes: the node's bound of 1 m, and half more than the fastest the recording
# goes.
_JUMP_M = 1.0
_JUMP_SHARE = 1.5
_COVERED_SHARE = 0.95


@dataclass(frozen=True, eq=False)
class Motion:
    """Odometry as arrays. seconds (N,) from its first; stamps_ns (N,); position (N, 3); rotation (N, 3, 3)
    odom_from_child;
    linear, angular (N, 3) as published."""

    stamps_ns: np.ndarray
    position: np.ndarray
    rotation: np.ndarray
    linear: np.ndarray
    angular: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        return (self.stamps_ns - self.stamps_ns[0]) / 1e9


def judge_odometry(
    topic: str,
    offer: Offer | None,
    seen: Observer,
    images: Mapping[str, StampTrack],
    needs: PlannerNeeds,
    settings: PlannerSettings,
) -> list[Finding]:
    """Judge the odometry for the images of the cameras in use."""
    track = seen.odometry.get(topic)
    if track is None or not track.times.count:
        return [_absent(topic, offer, seen, needs, settings)]
    if track.times.zero == track.times.count:
        return [
            fail(
                topic,
                f"all {track.times.count} messages have stamp 0, expected the time of measurement",
                "let the publisher fill header.stamp",
            )
        ]
    findings = _frames(topic, track, seen.frames)
    if any(finding.status is Status.FAIL for finding in findings):
        return findings
    stamps_ns, values = track.rows
    whole, refused = _valid(values)
    if refused:
        report = fail if refused == len(values) else warn
        findings.append(
            report(
                topic,
                f"{refused} of {len(values)} messages are refused: not finite, or a quaternion that is not of"
                " length 1",
                "fix the publisher",
            )
        )
    if not whole.any():
        return findings
    motion = _motion(stamps_ns[whole], values[whole])
    findings += _coverage(topic, track, motion, images, needs, settings)
    findings += _jumps(topic, motion)
    child = track.child_frame_ids.most_common(1)[0][0].removeprefix("/")
    base_from_child = seen.frames.base_from(child)
    base_axes = np.eye(3) if base_from_child is None else base_from_child[:3, :3]
    odom = track.frame_ids.most_common(1)[0][0]
    return findings + judge_twist(
        topic,
        seconds=motion.seconds,
        position=motion.position,
        rotation=motion.rotation,
        linear=motion.linear,
        angular=motion.angular,
        base_from_child=base_axes,
        odom_frame=odom,
        child_frame=child,
    )


def _absent(
    topic: str, offer: Offer | None, seen: Observer, needs: PlannerNeeds, settings: PlannerSettings
) -> Finding:
    if offer is not None and offer.type_name != ODOMETRY:
        found, remedy = f"has type {offer.type_name}, expected {ODOMETRY}", type_remedy(offer.type_name)
    elif topic in seen.unreadable:
        found, remedy = f"cannot be read: {seen.unreadable[topic]}", "fix its publisher"
    else:
        found = "there is no odometry" if offer is None else "is there and holds no message"
        remedy = "record or publish nav_msgs/Odometry there (pose of base_link, twist in base_link)"
        others = [name for name in seen.odometry if name != topic]
        if others:
            remedy = f"remap: -r localization/kinematic_state:={others[0]}"
    if needs.needs_ego:
        return fail(topic, f"{found}, and {needs.name} plans from the ego's speed", remedy)
    if settings.require_ego:
        return fail(topic, f"{found}, and require_ego is set", remedy)
    return warn(
        topic,
        f"{found}: plans are flagged uncompensated, and the memory knows nothing of the ego's motion",
        remedy,
    )


def _frames(topic: str, track: OdometryTrack, frames: FrameTree) -> list[Finding]:
    findings = []
    frame = track.frame_ids.most_common(1)[0][0]
    child = track.child_frame_ids.most_common(1)[0][0].removeprefix("/")
    if not frame or not child:
        findings.append(
            fail(
                topic,
                f"has frame_id {frame!r} and child_frame_id {child!r}, expected the fixed frame and"
                f" {frames.base_frame}",
                "fix its publisher",
            )
        )
    elif child != frames.base_frame and frames.base_from(child) is None:
        found, remedy = frames.why_unknown(child)
        findings.append(
            fail(
                topic,
                f"is of frame {child}, which cannot be moved to {frames.base_frame}: {found}",
                f"publish it for {frames.base_frame}, or: {remedy}",
            )
        )
    if len(track.frame_ids) > 1 or len(track.child_frame_ids) > 1:
        names = ", ".join(sorted({*track.frame_ids, *track.child_frame_ids}))
        findings.append(
            warn(topic, f"changes its frames ({names}), expected one pair", "let one node publish the topic")
        )
    return findings


def _valid(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return which rows the node would take, and how many it would refuse."""
    norms = np.linalg.norm(np.nan_to_num(values[:, 3:7]), axis=1)
    whole = np.all(np.isfinite(values), axis=1) & (np.abs(norms - 1.0) <= se3.QUATERNION_NORM_TOLERANCE)
    return whole, int((~whole).sum())


def _motion(stamps_ns: np.ndarray, values: np.ndarray) -> Motion:
    x, y, z, w = (values[:, 3:7] / np.linalg.norm(values[:, 3:7], axis=1, keepdims=True)).T
    rotation = np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=-1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=-1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1),
        ],
        axis=1,
    )
    return Motion(stamps_ns, values[:, :3], rotation, values[:, 7:10], values[:, 10:13])


def _coverage(
    topic: str,
    track: OdometryTrack,
    motion: Motion,
    images: Mapping[str, StampTrack],
    needs: PlannerNeeds,
    settings: PlannerSettings,
) -> list[Finding]:
    """Judge rate, gaps and delay by what the images need: a pose at every stamp."""
    stamps = motion.stamps_ns
    needed = (
        np.sort(np.concatenate([image.stamps_ns for image in images.values()]))
        if images
        else np.zeros(0, np.int64)
    )
    must = needs.needs_ego or settings.require_ego
    report = fail if must else warn
    gaps = np.diff(stamps)
    rate = len(gaps) * 1e9 / float(stamps[-1] - stamps[0]) if len(gaps) else 0.0
    longest = int(gaps.max()) if len(gaps) else 0
    if not len(needed):
        return [ok(topic, f"{len(stamps)} messages at {rate:.1f} Hz", rate_hz=rate)]
    extrapolated_ns = round(settings.max_extrapolation * 1e9)
    after = np.searchsorted(stamps, needed)
    inside = (after > 0) & (after < len(stamps))
    gap_there = stamps[np.minimum(after, len(stamps) - 1)] - stamps[np.maximum(after - 1, 0)]
    exact = stamps[np.minimum(after, len(stamps) - 1)] == needed
    ends = (needed >= stamps[-1]) & (needed - stamps[-1] <= extrapolated_ns)
    covered = exact | (inside & (gap_there <= LONGEST_GAP_NS)) | ends
    share = float(covered.mean())
    rates = f"{rate:.1f} Hz, longest gap {longest / 1e6:.0f} ms"
    figures = {"rate_hz": rate, "longest_gap_ms": longest / 1e6, "covered_percent": 100 * share}
    if share < 0.5:
        found = f"gives a pose for {100 * share:.0f} % of the images only ({rates}; "
        found += f"the planner interpolates over {LONGEST_GAP_NS / 1e6:.0f} ms at most)"
        reach = (int(stamps[0]) - int(needed[-1]), int(needed[0]) - int(stamps[-1]))
        if max(reach) > 0:
            found += f"; its stamps and those of the images lie {max(reach) / 1e9:.1f} s apart"
        return [
            report(
                topic,
                found,
                "publish it at 20 Hz or more, by the same clock as the images, over their whole time",
                **figures,
            )
        ]
    findings = []
    if share < _COVERED_SHARE:
        findings.append(
            warn(
                topic,
                f"gives no pose for {100 * (1 - share):.0f} % of the images ({rates}); their sets are "
                + ("refused" if must else "flagged uncompensated"),
                "look for lost messages; record it over the whole drive",
                **figures,
            )
        )
    else:
        findings.append(
            ok(
                topic,
                f"{len(stamps)} messages, {rates}, a pose for {100 * share:.0f} % of the images",
                **figures,
            )
        )
    lag = _lag_s(track, images, settings.ego_wait)
    if lag is not None and lag > settings.max_extrapolation:
        findings.append(
            report(
                topic,
                f"comes {lag * 1e3:.0f} ms (median) behind the images that it belongs to, expected at most"
                f" max_extrapolation {settings.max_extrapolation * 1e3:.0f} ms: sets would find no pose yet",
                "reduce its delay, or raise ego_wait (each set then waits longer)",
                lag_ms=lag * 1e3,
            )
        )
    elif lag is not None and lag > 0.02:
        findings.append(
            ok(
                topic,
                f"comes {lag * 1e3:.0f} ms (median) behind the images; the planner continues it by its twist",
            )
        )
    return findings


def _lag_s(track: OdometryTrack, images: Mapping[str, StampTrack], ego_wait_s: float) -> float | None:
    """Return how much newer an image is than the newest odometry at hand when its set stops waiting,
    median.
    """
    records, stamps = track.times.records_ns, track.times.stamps_ns
    order = np.argsort(records, kind="stable")
    records, newest = records[order], np.maximum.accumulate(stamps[order])
    lags = []
    for image in images.values():
        at_hand = np.searchsorted(records, image.records_ns + round(ego_wait_s * 1e9), side="right") - 1
        known = at_hand >= 0
        lags.append((image.stamps_ns[known] - newest[at_hand[known]]) / 1e9)
    joined = np.concatenate(lags) if lags else np.zeros(0)
    return float(np.median(joined)) if len(joined) else None


def _jumps(topic: str, motion: Motion) -> list[Finding]:
    """Find steps of the pose that no car makes."""
    steps = np.linalg.norm(np.diff(motion.position, axis=0), axis=1)
    seconds = np.diff(motion.stamps_ns) / 1e9
    judged = seconds <= 0.5
    if not judged.any():
        return []
    # Speed over a tenth of a second: two poses a few milliseconds apart have the noise of their difference.
    later = np.searchsorted(motion.seconds, motion.seconds + 0.1)
    inside = later < len(motion.seconds)
    span = motion.seconds[later[inside]] - motion.seconds[inside]
    way = np.linalg.norm(motion.position[later[inside]] - motion.position[inside], axis=1)
    fastest = float(np.percentile(way / span, 90)) if inside.any() else 0.0
    jumped = judged & (steps > _JUMP_M + _JUMP_SHARE * fastest * seconds)
    if not jumped.any():
        return []
    largest = int(np.argmax(np.where(jumped, steps, 0.0)))
    return [
        warn(
            topic,
            f"the pose jumps {int(jumped.sum())} times, by {steps[largest]:.1f} m at most"
            f" ({motion.seconds[largest]:.1f} s into it); each jump empties the planner's memory",
            "use a pose that is continuous (odom frame), or mend the localisation",
            jumps=int(jumped.sum()),
        )
    ]
