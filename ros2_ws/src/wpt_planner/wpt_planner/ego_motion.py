"""The ego's pose and velocity at any recent stamp, from odometry alone."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from wpt_policy import se3

from wpt_planner.ego_sample import (
    EgoFinding,
    EgoFindingKind,
    EgoSample,
    EgoSource,
    checked_sample,
    frozen,
)

__all__ = ["EgoFinding", "EgoFindingKind", "EgoMotion", "EgoSample", "EgoSource"]

# Odometry stamps that go back, or forward, by this much are another time line (a bag that restarted, a clock
# that was set) and no reordering.
_BACKWARD_JUMP_NS = 1_000_000_000
_FORWARD_JUMP_NS = 60_000_000_000

# Bounds for what a pose may differ from its prediction. 1 m: a localisation that corrects itself moves by
# decimetres, and a car that brakes with all its grip (10 m/s^2) over the longest interval judged moves 1.25 m
# less than predicted, of which the share of speed allows for a wheel-speed error, or a twist measured up to
# half the interval ago.
_JUMP_METRES = 1.0
_JUMP_SHARE_OF_STEP = 0.5
# 0.35 rad (20 degrees): beyond any change of yaw rate within half a second, with the same share for the turn
# itself.
_JUMP_RADIANS = 0.35
_LONGEST_JUDGED_NS = 500_000_000

# Samples in a row whose poses are smooth but contradict their twist, before it is said.
_MISMATCHES_TO_TELL = 10


class EgoMotion:
    """Bounded history of odometry with interpolation on SE(3); thread-safe.

    ``add`` is O(1) amortised, ``at`` O(log n). Between two samples the position moves on a straight line and
    the rotation at constant rate, which over a gap dt misses the true path by at most a dt^2 / 8: 2 cm at 3
    m/s^2 and the default largest gap.
    """

    def __init__(
        self,
        *,
        horizon_ns: int = 2_000_000_000,
        capacity: int = 2000,
        max_gap_ns: int = 250_000_000,
        max_extrapolation_ns: int = 100_000_000,
        wait_ns: int = 20_000_000,
    ) -> None:
        """horizon_ns, capacity: how far back and how many samples are kept. max_gap_ns: longest interpolated.

        max_extrapolation_ns: continued by twist beyond the newest sample. wait_ns: for wait_deadline_ns.
        Raises ValueError.
        """
        if horizon_ns <= 0 or capacity < 2 or max_gap_ns <= 0 or max_extrapolation_ns < 0 or wait_ns < 0:
            raise ValueError(
                f"horizon {horizon_ns} ns, capacity {capacity}, gap {max_gap_ns} ns, extrapolation"
                f" {max_extrapolation_ns} ns, wait {wait_ns} ns: expected positive values and capacity >= 2"
            )
        self._horizon = horizon_ns
        self._capacity = capacity
        self._max_gap = max_gap_ns
        self._max_extrapolation = max_extrapolation_ns
        self._wait = wait_ns
        self._changed = threading.Condition()
        self._stamps: list[int] = []
        self._samples: list[EgoSample] = []
        self._start = 0  # index of the oldest sample in use; what lies before is cut off now and then
        self._aside: EgoSample | None = None
        self._mismatches = 0
        self._counts = dict.fromkeys(EgoFindingKind, 0)
        self._added = 0

    def add(
        self,
        stamp_ns: int,
        odom_from_base: np.ndarray,
        linear: Sequence[float] | np.ndarray,
        angular: Sequence[float] | np.ndarray,
    ) -> list[EgoFinding]:
        """Take one odometry message: pose (4, 4), velocities (3,) in base_link. Its content never raises."""
        try:
            sample = checked_sample(stamp_ns, odom_from_base, linear, angular)
        except se3.TransformError as error:
            return self._refuse(stamp_ns, error)
        with self._changed:
            findings = self._take(sample)
            for finding in findings:
                self._counts[finding.kind] += 1
            self._changed.notify_all()
        return findings

    def add_odometry(
        self,
        stamp_ns: int,
        position: Sequence[float] | np.ndarray,
        quaternion_wxyz: Sequence[float] | np.ndarray,
        linear: Sequence[float] | np.ndarray,
        angular: Sequence[float] | np.ndarray,
    ) -> list[EgoFinding]:
        """As ``add``, from position (3,) in metres and a unit quaternion (w, x, y, z)."""
        try:
            pose = se3.transform(
                np.asarray(position, dtype=np.float64), np.asarray(quaternion_wxyz, dtype=np.float64)
            )
        except se3.TransformError as error:
            return self._refuse(stamp_ns, error)
        return self.add(stamp_ns, pose, linear, angular)

    def covers(self, stamp_ns: int) -> bool:
        """Whether odometry as new as this stamp has arrived, so that nothing need be extrapolated."""
        with self._changed:
            return self._covers(stamp_ns)

    def wait_deadline_ns(self, stamp_ns: int, now_ns: int) -> int | None:
        """Steady time until which a set of this stamp should wait for odometry; None when it need not."""
        return None if self.covers(stamp_ns) else now_ns + self._wait

    def wait_covered(self, stamp_ns: int, timeout_s: float) -> bool:
        """Wait at most ``timeout_s`` until odometry covers the stamp; returns whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._covers(stamp_ns), timeout_s)

    def at(self, stamp_ns: int) -> EgoSample | None:
        """The ego at a stamp; exact where a sample has it. None: see ``problem``."""
        with self._changed:
            found = self._neighbours(stamp_ns)
        if isinstance(found, str):
            return None
        before, after = found
        if after is None:
            seconds = (stamp_ns - before.stamp_ns) * 1e-9
            pose = se3.extrapolate(before.odom_from_base, before.linear, before.angular, seconds)
            return EgoSample(stamp_ns, frozen(pose), before.linear, before.angular, EgoSource.EXTRAPOLATED)
        if after is before:
            return before
        fraction = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
        return EgoSample(
            stamp_ns,
            frozen(se3.interpolate(before.odom_from_base, after.odom_from_base, fraction)),
            frozen((1.0 - fraction) * before.linear + fraction * after.linear),
            frozen((1.0 - fraction) * before.angular + fraction * after.angular),
            EgoSource.INTERPOLATED,
        )

    def problem(self, stamp_ns: int) -> str | None:
        """One sentence why ``at`` gives None; None where it gives a sample."""
        with self._changed:
            found = self._neighbours(stamp_ns)
        return found if isinstance(found, str) else None

    def move_to(self, stamp_ns: int) -> bool:
        """Follow a clock jump seen elsewhere: forget all samples on another time line than ``stamp_ns``.

        Samples of the new time line that have already arrived are kept. Returns whether any were dropped.
        """
        with self._changed:
            aside, self._aside = self._aside, None
            newest = self._samples[-1] if self._samples else None
            if newest is not None and _same_time_line(newest.stamp_ns, stamp_ns):
                return False
            self._clear()
            if aside is not None and _same_time_line(aside.stamp_ns, stamp_ns):
                self._append(aside)
                self._changed.notify_all()
            return newest is not None

    def reset(self) -> None:
        """Forget all samples; the counts stay."""
        with self._changed:
            self._clear()
            self._aside = None

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample."""
        with self._changed:
            return self._stamps[-1] if self._stamps else None

    @property
    def oldest_ns(self) -> int | None:
        """Stamp of the oldest sample kept."""
        with self._changed:
            return self._stamps[self._start] if self._stamps else None

    @property
    def size(self) -> int:
        """Samples kept."""
        with self._changed:
            return len(self._stamps) - self._start

    @property
    def added(self) -> int:
        """Samples taken since construction."""
        return self._added

    @property
    def counts(self) -> dict[EgoFindingKind, int]:
        """Findings by kind since construction."""
        with self._changed:
            return dict(self._counts)

    # ---- the lock is held from here on ----

    def _refuse(self, stamp_ns: int, error: Exception) -> list[EgoFinding]:
        with self._changed:
            self._counts[EgoFindingKind.INVALID] += 1
        sentence = f"odometry of {_seconds(stamp_ns)} is refused: {error}"
        return [EgoFinding(EgoFindingKind.INVALID, stamp_ns, sentence)]

    def _take(self, sample: EgoSample) -> list[EgoFinding]:
        stamp = sample.stamp_ns
        if not self._samples:
            self._append(sample)
            return []
        step = stamp - self._stamps[-1]
        if step <= -_BACKWARD_JUMP_NS or step >= _FORWARD_JUMP_NS:
            return self._take_from_other_time_line(sample)
        if step == 0:
            return [EgoFinding(EgoFindingKind.DUPLICATE, stamp, f"odometry of {_seconds(stamp)} came twice")]
        if step < 0:
            sentence = (
                f"odometry of {_seconds(stamp)} is dropped, its stamp is {-step / 1e6:.1f} ms behind the"
                " one before it; is it published by two nodes?"
            )
            return [EgoFinding(EgoFindingKind.OUT_OF_ORDER, stamp, sentence)]
        self._aside = None
        findings = self._judge_motion(sample)
        if any(finding.resets_memory for finding in findings):
            self._clear()
        self._append(sample)
        return findings

    def _take_from_other_time_line(self, sample: EgoSample) -> list[EgoFinding]:
        """Two messages in a row make a time line, one is a stray: a single bad stamp drops no history."""
        stamp, newest = sample.stamp_ns, self._stamps[-1]
        aside = self._aside
        if aside is None or not 0 < stamp - aside.stamp_ns < _BACKWARD_JUMP_NS:
            if aside is not None and stamp == aside.stamp_ns:
                return [
                    EgoFinding(EgoFindingKind.DUPLICATE, stamp, f"odometry of {_seconds(stamp)} came twice")
                ]
            self._aside = sample
            sentence = (
                f"odometry of {_seconds(stamp)} is {(stamp - newest) / 1e9:+.3f} s from the one before"
                " it and waits for a second one to confirm that the clock was set"
            )
            return [EgoFinding(EgoFindingKind.STRAY, stamp, sentence)]
        self._clear()
        self._aside = None
        self._append(aside)
        self._append(sample)
        sentence = (
            f"odometry stamps jumped by {(stamp - newest) / 1e9:+.3f} s to {_seconds(stamp)}, as when a"
            " bag restarts; earlier ego motion was dropped"
        )
        return [EgoFinding(EgoFindingKind.RESTART, stamp, sentence)]

    def _judge_motion(self, sample: EgoSample) -> list[EgoFinding]:
        """Hold a pose against what twist and earlier motion predict; it has jumped when both are wrong."""
        previous = self._samples[-1]
        step = sample.stamp_ns - previous.stamp_ns
        if step > _LONGEST_JUDGED_NS:
            return []
        seconds = step * 1e-9
        # The mean twist is right to second order where a car brakes or turns in.
        by_twist = se3.extrapolate(
            previous.odom_from_base,
            0.5 * (previous.linear + sample.linear),
            0.5 * (previous.angular + sample.angular),
            seconds,
        )
        speed = float(np.linalg.norm(previous.linear))
        rate = float(np.linalg.norm(previous.angular))
        metres, radians = _difference(by_twist, sample.odom_from_base)
        if not _exceeds(metres, radians, speed * seconds, rate * seconds):
            self._mismatches = 0
            return []
        by_history = self._predicted_by_history(sample.stamp_ns)
        if by_history is not None:
            predicted, moved, turned = by_history
            history_metres, history_radians = _difference(predicted, sample.odom_from_base)
            if not _exceeds(history_metres, history_radians, moved, turned):
                return self._mismatch(sample, metres / seconds)
        elif len(self._samples) - self._start < 2:
            return []  # one earlier sample cannot tell a jump from a twist that is always wrong
        self._mismatches = 0
        sentence = (
            f"the pose jumped by {metres:.2f} m and {np.degrees(radians):.1f} degrees against its twist"
            f" within {step / 1e6:.0f} ms at {_seconds(sample.stamp_ns)}; earlier ego motion was dropped"
        )
        return [EgoFinding(EgoFindingKind.JUMP, sample.stamp_ns, sentence)]

    def _predicted_by_history(self, stamp_ns: int) -> tuple[np.ndarray, float, float] | None:
        """Pose if the ego goes on as before, with the way and turn (m, rad) that this takes.

        "Before" is measured over at least half the interval to predict, since the noise of two poses 7 ms
        apart, as nuScenes has them, is off by metres half a second later.
        """
        second = self._samples[-1]
        ahead = stamp_ns - second.stamp_ns
        index = max(bisect_left(self._stamps, second.stamp_ns - ahead // 2, lo=self._start) - 1, self._start)
        first = self._samples[index]
        step = second.stamp_ns - first.stamp_ns
        if not 0 < step <= 2 * _LONGEST_JUDGED_NS:
            return None
        scale = ahead / step
        motion = se3.inverse(first.odom_from_base) @ second.odom_from_base
        translation, rotation = scale * motion[:3, 3], scale * se3.log_rotation(motion[:3, :3])
        onward = np.eye(4)
        onward[:3, :3] = se3.exp_rotation(rotation)
        onward[:3, 3] = translation
        return (
            second.odom_from_base @ onward,
            float(np.linalg.norm(translation)),
            float(np.linalg.norm(rotation)),
        )

    def _mismatch(self, sample: EgoSample, speed_error: float) -> list[EgoFinding]:
        self._mismatches += 1
        if self._mismatches != _MISMATCHES_TO_TELL:
            return []
        sentence = (
            f"odometry twist disagrees with the poses by {speed_error:.1f} m/s at"
            f" {_seconds(sample.stamp_ns)}; fill twist in child_frame_id, the ego's speed is taken from it"
        )
        return [EgoFinding(EgoFindingKind.TWIST_MISMATCH, sample.stamp_ns, sentence)]

    def _append(self, sample: EgoSample) -> None:
        self._stamps.append(sample.stamp_ns)
        self._samples.append(sample)
        self._added += 1
        count = len(self._stamps)
        # The one sample before the horizon stays, so that the horizon itself can be interpolated.
        while count - self._start > 2 and (
            count - self._start > self._capacity
            or self._stamps[self._start + 1] < sample.stamp_ns - self._horizon
        ):
            self._start += 1
        if self._start > count // 2:
            del self._stamps[: self._start], self._samples[: self._start]
            self._start = 0

    def _clear(self) -> None:
        self._stamps.clear()
        self._samples.clear()
        self._start = 0
        self._mismatches = 0

    def _covers(self, stamp_ns: int) -> bool:
        return bool(self._stamps) and self._stamps[-1] >= stamp_ns

    def _neighbours(self, stamp_ns: int) -> tuple[EgoSample, EgoSample | None] | str:
        """The samples around a stamp (twice one where exact, None after the newest), or what is wrong."""
        if not self._stamps:
            return "no odometry has arrived; check that localization publishes it"
        index = bisect_left(self._stamps, stamp_ns, lo=self._start)
        if index == len(self._stamps):
            newest = self._samples[-1]
            beyond = stamp_ns - newest.stamp_ns
            if beyond <= self._max_extrapolation:
                return newest, None
            return (
                f"the newest odometry is {beyond / 1e6:.0f} ms older than needed, at most"
                f" {self._max_extrapolation / 1e6:.0f} ms are extrapolated; check its rate and delay"
            )
        after = self._samples[index]
        if after.stamp_ns == stamp_ns:
            return after, after
        if index == self._start:
            return (
                f"the oldest odometry kept is {(after.stamp_ns - stamp_ns) / 1e6:.0f} ms newer than"
                " needed; it has just started, was reset, or its stamps are off"
            )
        before = self._samples[index - 1]
        gap = after.stamp_ns - before.stamp_ns
        if gap > self._max_gap:
            return (
                f"odometry has a gap of {gap / 1e6:.0f} ms there, at most {self._max_gap / 1e6:.0f} ms"
                " are interpolated; check for lost messages"
            )
        return before, after


def _difference(predicted: np.ndarray, pose: np.ndarray) -> tuple[float, float]:
    """Distance (m) and angle (rad) between two poses."""
    metres = float(np.linalg.norm(pose[:3, 3] - predicted[:3, 3]))
    return metres, float(np.linalg.norm(se3.log_rotation(predicted[:3, :3].T @ pose[:3, :3])))


def _exceeds(metres: float, radians: float, moved: float, turned: float) -> bool:
    return (
        metres > _JUMP_METRES + _JUMP_SHARE_OF_STEP * moved
        or radians > _JUMP_RADIANS + _JUMP_SHARE_OF_STEP * turned
    )


def _same_time_line(first_ns: int, second_ns: int) -> bool:
    return abs(first_ns - second_ns) < _BACKWARD_JUMP_NS


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns / 1e9:.6f} s"
