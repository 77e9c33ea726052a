"""One thing that is wrong now, and its place in the line of causes. ROS-free."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """Values are those of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


class Rank(IntEnum):
    """Which finding explains which: lower ranks are causes of higher ones and come first on the line."""

    STATE = 0  # not configured, inactive, disabled
    CLOCK = 1
    CONNECTION = 2  # incompatible quality of service
    CAMERA = 3  # silent, broken images
    CALIBRATION = 4
    EGO = 5
    PLANNER = 6
    SET = 7  # why a set was refused
    COMMAND = 8
    RATE = 9  # losses, skew bound, skipped sets
    SILENCE = 10  # no plans: always a consequence


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong now. subject: the topic, camera or part at fault, unique with rank."""

    rank: Rank
    level: Level
    subject: str
    sentence: str


def span(nanoseconds: int) -> str:
    """A duration in words that a person can judge: 0.043 s, 3.2 s, 5.0 minutes, 2.9 years."""
    seconds = nanoseconds / 1e9
    for limit, unit, name in (
        (120.0, 1.0, "s"),
        (7200.0, 60.0, "minutes"),
        (48 * 3600.0, 3600.0, "hours"),
        (730 * 86400.0, 86400.0, "days"),
    ):
        if abs(seconds) < limit:
            return (
                f"{seconds / unit:.3f} s"
                if name == "s" and abs(seconds) < 2
                else f"{seconds / unit:.1f} {name}"
            )
    return f"{seconds / (365.25 * 86400.0):.1f} years"
