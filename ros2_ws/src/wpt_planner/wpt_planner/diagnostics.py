"""The /diagnostics message: one status, the culprit first, and the figures behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from wpt_policy.plan import PlanFlag

from wpt_planner.findings import Finding
from wpt_planner.health import Tally, percentiles, summary
from wpt_planner.planning_line import PlanningLine
from wpt_planner.set_outcome import Outcome


def diagnostic_msg(
    *,
    node: str,
    stamp: Time,
    hardware: str,
    findings: list[Finding],
    good: str,
    values: Sequence[tuple[str, str]],
) -> DiagnosticArray:
    """Return the message. node: full name; hardware: device in words; good: the line when there are no findings."""
    level, line = summary(findings, good)
    status = DiagnosticStatus(
        level=bytes([level]),
        name=f"{node.lstrip('/')}: planning",
        message=line,
        hardware_id=hardware,
        values=[
            *(
                KeyValue(key=f"finding {number}", value=f"{finding.level.name}: {finding.sentence}")
                for number, finding in enumerate(findings, start=1)
            ),
            *(KeyValue(key=key, value=value) for key, value in values),
        ],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def planner_values(line: PlanningLine) -> list[tuple[str, str]]:
    """What is planned with: constant while configured."""
    planner, parameters = line.planner, line.parameters
    weights = getattr(planner, "weights_sha256", "")
    return [
        ("planner", planner.name),
        ("device", getattr(planner, "device_description", "none")),
        ("weights sha256", weights or "none"),
        ("untrained", str(bool(getattr(planner, "untrained", False))).lower()),
        ("cameras", ", ".join(line.camera_names)),
        ("raw image converter", f"{line.converter.name} ({line.converter.reason})"),
        ("missing camera rule", parameters.missing_camera),
        ("max age", f"{parameters.max_age:g} s"),
        ("max skew", f"{parameters.max_skew:g} s"),
        ("threads", f"{parameters.decode_threads} decode, {parameters.torch_threads} torch, "
                    f"{parameters.opencv_threads} OpenCV"),
    ]  # fmt: skip


def running_values(line: PlanningLine, now_ns: int) -> list[tuple[str, str]]:
    """Counts since activation and figures of the last minute. Hold line.book."""
    tally = line.health.tally
    values = [
        ("plan rate", f"{tally.rate_hz('age_ms', now_ns):.1f} Hz"),
        ("plan age, last minute", _percentiles_in_words(tally, "age_ms", now_ns)),
        ("latency, last minute", _percentiles_in_words(tally, "latency_ms", now_ns)),
        ("skew, last minute", _percentiles_in_words(tally, "skew_ms", now_ns)),
    ]
    values += [(f"sets {outcome.name.lower()}", str(tally.outcomes[outcome])) for outcome in Outcome]
    values.append(
        ("resets", str(tally.resets) + (f" (last: {tally.last_reset_reason})" if tally.resets else ""))
    )
    flags = [flag.name.lower() for flag in PlanFlag if flag and flag in tally.last_flags]
    values.append(("flags of the last plan", ", ".join(flags) or "none"))
    values.append(("cameras held or masked", ", ".join(tally.last_degraded) or "none"))
    for name in line.camera_names:
        timing = line.statistics.timing(name)
        fates = ", ".join(f"{count} {fate}" for fate, count in sorted(tally.images.get(name, {}).items()))
        rate = "no rate yet" if timing is None else (
            f"{timing.rate_hz:.1f} Hz, {timing.lost_percent:.1f} % lost before this node"
        )  # fmt: skip
        failed = line.cameras[name].failed_images
        values.append(
            (f"images of {name}", f"{rate}; {fates or 'none'}" + (f"; {failed} unusable" if failed else ""))
        )
    values += [(f"noted: {subject}", str(count)) for subject, count in sorted(tally.notes.items())]
    return values


def good_line(line: PlanningLine, now_ns: int) -> str:
    """The line while nothing is wrong. Hold line.book."""
    tally = line.health.tally
    ages = percentiles(tally.values("age_ms", now_ns))
    if math.isnan(ages["p50"]):
        return f"active with {line.planner.name}, waiting for images"
    return (
        f"planning at {tally.rate_hz('age_ms', now_ns):.1f} Hz with {line.planner.name}, "
        f"plans {ages['p50']:.0f} ms old (p99 {ages['p99']:.0f})"
    )


def _percentiles_in_words(tally: Tally, name: str, now_ns: int) -> str:
    figures = percentiles(tally.values(name, now_ns))
    if math.isnan(figures["p50"]):
        return "none"
    return ", ".join(f"{key} {value:.1f}" for key, value in figures.items()) + " ms"
