"""Recorded ego poses over time, with SE(3) interpolation between them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from wpt_policy import se3

from wpt_scenes.dataset_error import DatasetError


class PoseTrack:
    """Ego poses at increasing stamps.

    stamps_ns: N integer stamps, strictly increasing. global_from_base: N (4, 4) poses in one fixed frame.
    Raises DatasetError when there are none, when lengths differ or when stamps do not increase.
    """

    def __init__(self, stamps_ns: Sequence[int], global_from_base: Sequence[np.ndarray]):
        if len(stamps_ns) != len(global_from_base) or len(stamps_ns) == 0:
            raise DatasetError(
                f"pose track has {len(stamps_ns)} stamps and {len(global_from_base)} poses, "
                "expected the same number and at least one; give one pose per stamp"
            )
        self._stamps = [int(stamp) for stamp in stamps_ns]
        for i in range(1, len(self._stamps)):
            if self._stamps[i] <= self._stamps[i - 1]:
                raise DatasetError(
                    f"pose track goes from stamp {self._stamps[i - 1]} to {self._stamps[i]} ns, "
                    "expected increasing stamps; sort the poses and drop repeated stamps"
                )
        self._poses = np.array(global_from_base, dtype=np.float64)
        self._poses.flags.writeable = False
        self._runs: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def stamps_ns(self) -> tuple[int, ...]:
        return tuple(self._stamps)

    @property
    def poses(self) -> np.ndarray:
        """(N, 4, 4) global_from_base, read-only."""
        return self._poses

    @property
    def first_stamp_ns(self) -> int:
        return self._stamps[0]

    @property
    def last_stamp_ns(self) -> int:
        return self._stamps[-1]

    def covers(self, stamp_ns: int) -> bool:
        """Whether a pose at stamp_ns can be had without going beyond the recorded ones."""
        return self._stamps[0] <= stamp_ns <= self._stamps[-1]

    def at(self, stamp_ns: int) -> np.ndarray:
        """Return the (4, 4) pose at stamp_ns: the recorded one there, else interpolated in SE(3).

        Raises DatasetError outside the recorded span.
        """
        if not self.covers(stamp_ns):
            raise self._not_covered(stamp_ns)
        after = bisect_left(self._stamps, stamp_ns)
        if self._stamps[after] == stamp_ns:
            return self._poses[after].copy()
        before = after - 1
        span = self._stamps[after] - self._stamps[before]
        fraction = (stamp_ns - self._stamps[before]) / span
        return se3.interpolate(self._poses[before], self._poses[after], fraction)

    def run_around(self, stamp_ns: int, max_gap_ns: int) -> tuple[int, int]:
        """Return first and last stamp of the run of poses around stamp_ns, no neighbours further apart.

        Inside a wider gap there is no run, and both are stamp_ns. Raises DatasetError outside the recorded
        span.
        """
        if not self.covers(stamp_ns):
            raise self._not_covered(stamp_ns)
        run = bisect_right(self._stamps, stamp_ns) - 1
        starts = self._run_starts(max_gap_ns)
        number = bisect_right(starts, run) - 1
        first = self._stamps[starts[number]]
        last = self._stamps[starts[number + 1] - 1 if number + 1 < len(starts) else -1]
        return (first, last) if stamp_ns <= last else (stamp_ns, stamp_ns)

    def neighbours(self, first_ns: int, last_ns: int) -> tuple[int, int]:
        """Return the recorded stamps next before first_ns and after last_ns; at an end, the end itself."""
        before = bisect_left(self._stamps, first_ns) - 1
        after = bisect_right(self._stamps, last_ns)
        return self._stamps[max(before, 0)], self._stamps[min(after, len(self._stamps) - 1)]

    def _run_starts(self, max_gap_ns: int) -> list[int]:
        if max_gap_ns not in self._runs:
            gaps = np.diff(np.array(self._stamps, dtype=np.int64))
            self._runs[max_gap_ns] = [0, *(np.flatnonzero(gaps > max_gap_ns) + 1).tolist()]
        return self._runs[max_gap_ns]

    def _not_covered(self, stamp_ns: int) -> DatasetError:
        return DatasetError(
            f"no ego pose is known at {stamp_ns} ns, expected a stamp between {self._stamps[0]} and "
            f"{self._stamps[-1]} ns; ask for a stamp that the recording covers"
        )
