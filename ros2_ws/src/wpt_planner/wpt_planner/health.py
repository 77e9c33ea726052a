"""What /diagnostics says: counts, percentiles and findings, the culprit first. ROS-free; steady times are given in ns."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from wpt_policy.plan import PlanFlag

from wpt_planner.findings import Finding, Level, Rank
from wpt_planner.set_outcome import Outcome

# A finding about a single message (a broken image, a refused set) stays on display this long after its last case.
_DISPLAY_NS = 5 * 10**9
# The same finding is logged again after this.
_LOG_AGAIN_NS = 5 * 10**9
_WINDOW_NS = 60 * 10**9
_RATE_WINDOW_NS = 10 * 10**9


@dataclass
class _Noted:
    finding: Finding
    last_ns: int
    logged_ns: int
    count: int = 1


@dataclass(kw_only=True)
class Tally:
    """Counts since activation and measurements of the last minute. Ages, latencies and skews are milliseconds."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    images: dict[str, Counter[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    resets: int = 0
    last_plan_ns: int | None = None
    last_flags: PlanFlag = PlanFlag.NONE
    last_degraded: tuple[str, ...] = ()
    last_reset_reason: str = ""
    measurements: dict[str, deque[tuple[int, float]]] = field(default_factory=dict)

    def measure(self, name: str, now_ns: int, value: float) -> None:
        """Add a measurement of the last minute."""
        window = self.measurements.setdefault(name, deque())
        window.append((now_ns, value))
        while window and now_ns - window[0][0] > _WINDOW_NS:
            window.popleft()

    def values(self, name: str, now_ns: int) -> list[float]:
        """Return the measurements of the last minute."""
        return [value for at, value in self.measurements.get(name, ()) if now_ns - at <= _WINDOW_NS]

    def skipped_share(self, now_ns: int) -> float:
        """Share of the last ten seconds' sets that came while the planner was working; 0 of fewer than ten."""
        recent = [
            value for at, value in self.measurements.get("skipped_busy", ()) if now_ns - at <= _RATE_WINDOW_NS
        ]
        return sum(recent) / len(recent) if len(recent) >= 10 else 0.0

    def rate_hz(self, name: str, now_ns: int) -> float:
        """How often per second something was measured, over the last ten seconds."""
        times = [at for at, _ in self.measurements.get(name, ()) if now_ns - at <= _RATE_WINDOW_NS]
        if len(times) < 2:
            return 0.0
        # Up to now, not up to the last one, so that the rate falls when something stops.
        return len(times) / ((now_ns - times[0]) / 1e9) if now_ns > times[0] else 0.0


class Health:
    """Collects findings: `note` for events, which fade, and `summary` with those that hold at this moment."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._noted: dict[tuple[Rank, str], _Noted] = {}

    def forget(self) -> None:
        """Begin anew, at activation."""
        self.tally = Tally()
        self._noted.clear()

    def note(self, finding: Finding, now_ns: int) -> bool:
        """Take an event; return whether it is to be logged now (first case, other words, or not for 5 s)."""
        key = (finding.rank, finding.subject)
        noted = self._noted.get(key)
        if noted is None or now_ns - noted.last_ns > _DISPLAY_NS:
            self._noted[key] = _Noted(finding=finding, last_ns=now_ns, logged_ns=now_ns)
            return True
        is_new = _without_numbers(noted.finding.sentence) != _without_numbers(finding.sentence)
        noted.finding, noted.last_ns = finding, now_ns
        noted.count += 1
        if is_new or now_ns - noted.logged_ns > _LOG_AGAIN_NS:
            noted.logged_ns = now_ns
            return True
        return False

    def clear(self, rank: Rank, subject: str) -> None:
        """Take a noted finding off: it has healed."""
        self._noted.pop((rank, subject), None)

    def findings(self, standing: Iterable[Finding], now_ns: int) -> list[Finding]:
        """Return standing and noted findings, causes first and the worse first within a rank."""
        noted = [entry.finding for entry in self._noted.values() if now_ns - entry.last_ns <= _DISPLAY_NS]
        everything = {(finding.rank, finding.subject): finding for finding in [*noted, *standing]}
        return sorted(
            everything.values(), key=lambda finding: (finding.rank, -finding.level, finding.subject)
        )


def summary(findings: list[Finding], good: str) -> tuple[Level, str]:
    """Return level and line of one status: the culprit first, how many more there are, or ``good`` when nothing is."""
    if not findings:
        return Level.OK, good
    level = max(finding.level for finding in findings)
    more = len(findings) - 1
    return level, findings[0].sentence + (f" (and {more} more)" if more else "")


def percentiles(values: list[float]) -> Mapping[str, float]:
    """Return p50, p99 and max by nearest rank; NaN of nothing."""
    if not values:
        return {"p50": math.nan, "p99": math.nan, "max": math.nan}
    ordered = sorted(values)
    return {
        "p50": ordered[max(0, math.ceil(0.50 * len(ordered)) - 1)],
        "p99": ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)],
        "max": ordered[-1],
    }


def _without_numbers(sentence: str) -> str:
    """A sentence whose figures alone changed is no news for the log."""
    return "".join(character for character in sentence if not character.isdigit())
