"""The policy's memory: stamped, posed bird's-eye views, each made from its own set alone.

Nothing in it depends on what was remembered before, so a scene gives the same memories whether it is played
at 2 Hz or at 12 Hz, and leaving a set out changes no other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from wpt_policy.policy_config import HistorySpec

# Above every camera rate in use (30 Hz for 1.2 s of two entries is 36), so it only bounds memory on nonsense
# stamps.
MAX_ENTRIES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """bev: [1, C + 1, X, Y] on the planner's device, in base_link at stamp_ns; odom_from_base: (4, 4) at
    stamp_ns.
    """

    stamp_ns: int
    odom_from_base: np.ndarray
    bev: Tensor


class TemporalMemory:
    """Holds what HistorySpec may still ask for, and no more."""

    def __init__(self, spec: HistorySpec):
        self.spec = spec
        self._interval_ns = _nanoseconds(spec.interval_s)
        self._tolerance_ns = _nanoseconds(spec.tolerance_s)
        self._largest_gap_ns = _nanoseconds(spec.largest_gap_s)
        self._reach_ns = spec.entries * self._interval_ns + self._tolerance_ns
        self._memories: deque[Memory] = deque()
        self._newest_ns: int | None = None

    def __len__(self) -> int:
        return len(self._memories)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the latest set, remembered or not; None after a reset."""
        return self._newest_ns

    def reset(self) -> None:
        self._memories.clear()
        self._newest_ns = None

    def recall(self, stamp_ns: int) -> tuple[Memory | None, ...]:
        """Return the memory of each history entry for a set at stamp_ns, newest entry first; None where
        missing.

        Entry i is the memory nearest to i intervals before stamp_ns within the tolerance; of two equally near
        ones the newer. After a pause longer than the largest gap all are missing.
        """
        if self._is_gap(stamp_ns):
            return (None,) * self.spec.entries
        return tuple(
            self._nearest(stamp_ns - (entry + 1) * self._interval_ns) for entry in range(self.spec.entries)
        )

    def _is_gap(self, stamp_ns: int) -> bool:
        return self._newest_ns is not None and stamp_ns - self._newest_ns > self._largest_gap_ns

    def _nearest(self, wanted_ns: int) -> Memory | None:
        best: Memory | None = None
        for memory in self._memories:  # oldest first, so <= prefers the newer
            distance = abs(memory.stamp_ns - wanted_ns)
            if distance <= self._tolerance_ns and (
                best is None or distance <= abs(best.stamp_ns - wanted_ns)
            ):
                best = memory
        return best

    def observe(self, stamp_ns: int, odom_from_base: np.ndarray | None, bev: Tensor) -> None:
        """Take in the set at stamp_ns; without a pose only its stamp. The same stamp again replaces its
        memory.

        A pause longer than the largest gap empties the memory first.
        """
        if self._is_gap(stamp_ns):
            self.reset()
        self._newest_ns = stamp_ns
        if self._memories and self._memories[-1].stamp_ns == stamp_ns:
            self._memories.pop()
        if odom_from_base is not None and self.spec.entries > 0:
            self._memories.append(Memory(stamp_ns=stamp_ns, odom_from_base=np.array(odom_from_base), bev=bev))
        while self._memories and (
            self._memories[0].stamp_ns < stamp_ns - self._reach_ns or len(self._memories) > MAX_ENTRIES
        ):
            self._memories.popleft()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
