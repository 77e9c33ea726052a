"""Figures of one run of the line, and of the machine that it ran on, for report.json and benchmarks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import torch

from wpt_msgs.msg import SetReport
from wpt_replay.line_run import LineRun

_VERSIONED = (
    "torch",
    "numpy",
    "opencv-python-headless",
    "safetensors",
    "rosbags",
    "ros-jazzy-rclpy",
    "ros-jazzy-rmw-fastrtps-cpp",
)


def percentiles(values: Iterable[float]) -> dict[str, float | int | None]:
    """Return n, p50, p99 and max; None instead of a figure where there are no values."""
    array = np.asarray([value for value in values if np.isfinite(value)], dtype=np.float64)
    if array.size == 0:
        return {"n": 0, "p50": None, "p99": None, "max": None}
    return {
        "n": int(array.size),
        "p50": round(float(np.percentile(array, 50)), 3),
        "p99": round(float(np.percentile(array, 99)), 3),
        "max": round(float(array.max()), 3),
    }


def summary_of_run(run: LineRun) -> dict:
    """Return sets, plans, age_ms, latency_ms, stages_ms, skew_ms and the replay's own account.

    sets.expected: complete camera cycles that were played. sets.assembled: sets that the node formed complete.
    age_ms: publish() of a set's newest image to return of publish() of its plan, host monotonic clock.
    latency_ms: arrival of that image in the node to return of publish(), by the node's own account.
    """
    reports = run.set_reports
    planned = [report for report in reports if report.outcome == SetReport.PLANNED]
    refused = [report for report in reports if report.outcome == SetReport.REFUSED]
    stages: dict[str, list[float]] = defaultdict(list)
    for report in planned:
        for stage in report.stages:
            stages[stage.name].append(stage.milliseconds)
    incomplete = [report for report in reports if SetReport.CAMERA_MISSING in list(report.camera_status)]
    skipped = [
        report for report in reports if report.outcome in (SetReport.SKIPPED_BUSY, SetReport.SKIPPED_RATE)
    ]
    return {
        "sets": {
            "expected": run.replay.cycles_complete if run.replay else 0,
            "assembled": len(reports) - len(incomplete),
            "incomplete": len(incomplete),
            "skipped": len(skipped),
        },
        "plans": {
            "published": len(run.trajectories),
            "refused": len(refused),
            "repeated": run.repeated_plans,
            "refusal_reasons": dict(Counter(report.reason for report in refused)),
        },
        "resets": sum(report.outcome == SetReport.RESET for report in run.reports),
        "age_ms": percentiles(run.ages_ms()),
        "latency_ms": percentiles(report.latency_ms for report in planned),
        "stages_ms": {name: percentiles(values) for name, values in stages.items()},
        "skew_ms": percentiles(report.skew.sec * 1e3 + report.skew.nanosec / 1e6 for report in reports),
        "replay": run.replay.as_dict() if run.replay else None,
    }


def hardware() -> dict[str, str | int | None]:
    """Return what figures depend on: processor, cores, memory, graphics card."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "machine": platform.machine(),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what does the work; a package that is not installed by pip is left out."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
