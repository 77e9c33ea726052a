"""Brings a lifecycle node to active by itself, and leaves it alone once somebody else asks for a transition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_FIRST_DELAY_NS = 10**9
_LONGEST_DELAY_NS = 30 * 10**9


class Autostart:
    """Decides which transition is next and when. What fails is tried again after 1, 2, 4 ... 30 s: a bundle that is
    still being copied, a GPU that is not there yet. Times are steady nanoseconds."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._acting = False
        self._next_ns = 0
        self._delay_ns = _FIRST_DELAY_NS

    def next_action(self, state: str, now_ns: int) -> str | None:
        """Return configure, activate, or None. state: the lifecycle's label."""
        if not self.enabled or now_ns < self._next_ns:
            return None
        return {"unconfigured": "configure", "inactive": "activate"}.get(state)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Mark transitions in this block as its own."""
        self._acting = True
        try:
            yield
        finally:
            self._acting = False

    def tried(self, *, succeeded: bool, now_ns: int) -> None:
        """Take the outcome of an own transition."""
        if succeeded:
            self._next_ns, self._delay_ns = now_ns, _FIRST_DELAY_NS
        else:
            self._next_ns = now_ns + self._delay_ns
            self._delay_ns = min(2 * self._delay_ns, _LONGEST_DELAY_NS)

    def transition_begins(self) -> None:
        """Every transition says so here; one that is not its own ends autostart for good."""
        if not self._acting:
            self.enabled = False

    def seconds_to_next(self, now_ns: int) -> float | None:
        """Seconds until the next attempt, None when there will be none."""
        return max(0.0, (self._next_ns - now_ns) / 1e9) if self.enabled else None
