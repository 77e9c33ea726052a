"""What a replay is asked to do and what became of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wpt_replay.errors import ReplayError
from wpt_replay.replay_schedule import DEFAULT_MAX_SKEW_NS, Lateness

# In lockstep the planner answers before time goes on, so the rate only bounds bursts: at 4 the hundred
# odometry messages of a keyframe interval come over 125 ms, and a reader with a queue of 50 loses none.
LOCKSTEP_RATE = 4.0


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """How to play a bag.

    rate: bag seconds a second; None is 1 in real time and 4 in lockstep, where it is an upper bound. loops: 0
    plays until interrupted. clock_hz: ticks of /clock a (wall) second in real time; 0 publishes no /clock.
    lockstep: hold time after each camera set until the planner has reported on it. topics: recorded names to
    play (None: all). exclude: recorded names not to play. remap: published name by recorded name. start_s,
    stop_s: seconds from the start of the bag. wait_for: recorded topics that must have a subscriber before
    anything is played; without any, see Replayer. wait_also: recorded topics that must have one too, beside the
    planner's (a recorder, a judge). wait_timeout_s: how long to wait for them; 0 does not wait.
    planner: full name of the planner node. report_timeout_s: how long lockstep waits for a report.
    max_skew_s: skew bound of the planner's sets.
    """

    rate: float | None = None
    loops: int = 1
    clock_hz: float = 100.0
    lockstep: bool = False
    topics: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    remap: Mapping[str, str] = field(default_factory=dict)
    start_s: float = 0.0
    stop_s: float | None = None
    wait_for: tuple[str, ...] = ()
    wait_also: tuple[str, ...] = ()
    wait_timeout_s: float = 30.0
    planner: str = "/planner"
    report_timeout_s: float = 10.0
    max_skew_s: float = DEFAULT_MAX_SKEW_NS / 1e9

    def __post_init__(self) -> None:
        numbers = {
            "rate": (self.rate, 0.001, 1000.0),
            "loops": (self.loops, 0, math.inf),
            "clock": (self.clock_hz, 0.0, 1000.0),
            "start": (self.start_s, 0.0, math.inf),
            "stop": (self.stop_s, self.start_s, math.inf),
            "wait-timeout": (self.wait_timeout_s, 0.0, math.inf),
            "report-timeout": (self.report_timeout_s, 0.001, math.inf),
            "max-skew": (self.max_skew_s, 0.0, math.inf),
        }
        for name, (value, lowest, highest) in numbers.items():
            if value is not None and not lowest <= value <= highest:
                raise ReplayError(
                    f"{name} is {value:g}, expected {lowest:g} to {highest:g}: give another value"
                )
        if not self.planner.startswith("/"):
            raise ReplayError(f"planner is {self.planner}, expected a full node name such as /planner")

    @property
    def playing_rate(self) -> float:
        if self.rate is not None:
            return self.rate
        return LOCKSTEP_RATE if self.lockstep else 1.0

    @property
    def set_report_topic(self) -> str:
        return f"{self.planner}/set_report"


@dataclass(kw_only=True)
class ReplayReport:
    """What was played.

    ended: ``end`` of the bag, ``interrupted``, or ``planner gone``. published: messages by recorded topic;
    primed: how many were sent once more ahead of time (tf_static, the first camera_info of each camera).
    skipped: reason by topic. cameras: topics that make up a camera set. cycles_complete, cycles_incomplete:
    camera cycles that were published. outcomes: SetReports that answered a cycle, by outcome. timed_out:
    cycles without an answer, by their newest stamp. resets: that the planner reported; resets_missed: jumps
    back of a looping clock that it reported none for.
    """

    bag: str
    lockstep: bool
    rate: float
    ended: str = "end"
    loops: int = 0
    bag_s: float = 0.0
    wall_s: float = 0.0
    published: Counter[str] = field(default_factory=Counter)
    primed: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()
    unheard_cameras: tuple[str, ...] = ()
    cycles_complete: int = 0
    cycles_incomplete: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    timed_out: list[int] = field(default_factory=list)
    resets: int = 0
    resets_missed: int = 0
    unmatched_reports: int = 0
    lateness: Lateness = field(default_factory=Lateness)

    @property
    def ok(self) -> bool:
        """False when lockstep went on without an answer."""
        return not self.timed_out and self.ended != "planner gone"

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        result: dict[str, Any] = {
            "bag": self.bag,
            "mode": "lockstep" if self.lockstep else "real_time",
            "ended": self.ended,
            "loops": self.loops,
            "rate": self.rate,
            "achieved_rate": self.bag_s / self.wall_s if self.wall_s > 0 else None,
            "bag_s": self.bag_s,
            "wall_s": self.wall_s,
            "messages": sum(self.published.values()),
            "published": dict(self.published),
            "primed": self.primed,
            "skipped": dict(self.skipped),
            "cameras": list(self.cameras),
            "cameras_without_subscriber": list(self.unheard_cameras),
            "cycles": {"complete": self.cycles_complete, "incomplete": self.cycles_incomplete},
        }
        if self.lockstep:
            result["sets"] = {
                "released_by_report": sum(self.outcomes.values()),
                "timed_out": len(self.timed_out),
                "timed_out_stamps_ns": list(self.timed_out),
                "outcomes": dict(self.outcomes),
                "resets": self.resets,
                "resets_missed": self.resets_missed,
                "unmatched_reports": self.unmatched_reports,
            }
        else:
            result["lateness_ms"] = self.lateness.milliseconds()
        return result

    def as_text(self) -> str:
        """Return the report in a few lines for people."""
        rate = f"{self.bag_s / self.wall_s:.3f}" if self.wall_s > 0 else "-"
        lines = [
            f"{sum(self.published.values())} messages of {self.bag_s:.2f} s played in {self.wall_s:.2f} s "
            f"(rate {rate}, asked {self.rate:g}), {self.loops} time(s), ended by: {self.ended}",
            f"camera cycles: {self.cycles_complete} complete, {self.cycles_incomplete} incomplete",
        ]
        if self.lockstep:
            outcomes = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items())) or "none"
            lines.append(f"released by report: {outcomes}; by time-out: {len(self.timed_out)}")
        elif late := self.lateness.milliseconds():
            lines.append(
                f"lateness p50 {late['p50']:.2f} ms, p99 {late['p99']:.2f} ms, max {late['max']:.2f} ms"
            )
        lines += [f"not played: {topic}: {reason}" for topic, reason in self.skipped.items()]
        return "\n".join(lines)
