"""What `wpt-replay check` found: one line for each finding, an exit code, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

# Subjects longer than this push their own line's text to the right and leave the other lines as they are.
WIDEST_SUBJECT = 32


class Status(Enum):
    """FAIL: there would be no plan, or a plan from wrong numbers. WARN: plans come, and something is to be
    known.
    """

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line. found: what is there, with figures, and what was expected. remedy: what to do, empty when
    all is well.
    """

    status: Status
    subject: str
    found: str
    remedy: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def line(self, width: int = 0) -> str:
        """Return the finding as one line of text. width: of the column of subjects."""
        line = f"{self.status.value:<5} {self.subject:<{width}}  {self.found}"
        return f"{line} -> {self.remedy}" if self.remedy else line


def ok(subject: str, found: str, **figures: Any) -> Finding:
    return Finding(status=Status.OK, subject=subject, found=found, figures=figures)


def warn(subject: str, found: str, remedy: str, **figures: Any) -> Finding:
    return Finding(status=Status.WARN, subject=subject, found=found, remedy=remedy, figures=figures)


def fail(subject: str, found: str, remedy: str, **figures: Any) -> Finding:
    return Finding(status=Status.FAIL, subject=subject, found=found, remedy=remedy, figures=figures)


def per_camera(cameras: Sequence[str], findings: Mapping[str, Finding]) -> list[Finding]:
    """Join the findings of cameras that say the same. cameras: all of the rig, in its order; findings: by
    camera.
    """
    groups: dict[tuple[Status, str, str], list[str]] = {}
    for camera in cameras:
        if camera in findings:
            finding = findings[camera]
            groups.setdefault((finding.status, finding.found, finding.remedy), []).append(camera)
    joined = []
    for (status, found, remedy), names in groups.items():
        subject = f"all {len(names)} cameras" if len(names) == len(cameras) > 1 else ", ".join(names)
        figures = findings[names[0]].figures
        joined.append(Finding(status=status, subject=subject, found=found, remedy=remedy, figures=figures))
    return joined


@dataclass(kw_only=True)
class CheckReport:
    """All findings of one check. source: the bag, or ``live``. remaps: our relative topic name -> theirs."""

    source: str
    planner: str
    preset: str = ""
    start: str = ""
    remaps: Mapping[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def count(self, status: Status) -> int:
        return sum(finding.status is status for finding in self.findings)

    @property
    def can_run(self) -> bool:
        return bool(self.findings) and not self.count(Status.FAIL)

    @property
    def exit_code(self) -> int:
        return 0 if self.can_run else 1

    def as_text(self) -> str:
        """Return one line for each finding in the order of the check, then the verdict."""
        widths = [len(finding.subject) for finding in self.findings]
        width = max((entry for entry in widths if entry <= WIDEST_SUBJECT), default=0)
        lines = [finding.line(width) for finding in self.findings]
        fails, warnings = self.count(Status.FAIL), self.count(Status.WARN)
        counted = f"{fails} FAIL, {warnings} warn, {self.count(Status.OK)} ok"
        verdict = "can run" if self.can_run else "cannot run"
        lines.append(f"{self.planner} {verdict} on {self.source}: {counted}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "source": self.source,
            "planner": self.planner,
            "can_run": self.can_run,
            "preset": self.preset,
            "remaps": dict(self.remaps),
            "start": self.start,
            "findings": [
                {
                    "status": finding.status.value,
                    "subject": finding.subject,
                    "found": finding.found,
                    "remedy": finding.remedy,
                    "figures": dict(finding.figures),
                }
                for finding in self.findings
            ],
        }
