"""`wpt-train latency`: what encoder, planner and the whole take, teacher without and with reward and student in one run.

Batch 1, each planner through the very code that runs it in closed loop, a full memory, one planner after the other in
every round, so that a machine that slows down slows all of them. Encoder: images to the bird's-eye view fused with memory.
Planner: from there to the plan (the teacher's: candidates, roll-out, candidates again, reward, choice). Total: with checks
and copies.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from wpt_policy.bundle import PolicyBundle, load_bundle
from wpt_policy.frame import Frame
from wpt_policy.plan import Plan
from wpt_policy.policy_config import PolicyConfig
from wpt_policy.runner import PolicyRunner, grey_frame
from wpt_policy.seeded_weights import seeded_tensors

from wpt_training.configuration import CONFIGURATIONS, ExperimentConfig, configuration
from wpt_training.errors import TrainingError
from wpt_training.evaluation.teacher_folder import new_parts, save_teacher
from wpt_training.evaluation.teacher_planner import TeacherPlanner

STAGES = {"encoder": ("encode", "memory"), "planner": ("decode",)}
STUDENT, TEACHER, TEACHER_REWARD = "student", "teacher without reward", "teacher with reward"


class TimedPlanner(Protocol):
    """A planner that says what its latest plan took, milliseconds by stage."""

    config: PolicyConfig
    last_stage_ms: Mapping[str, float]

    def plan(self, frame: Frame) -> Plan: ...

    def reset(self) -> None: ...


def measure(
    planners: Mapping[str, TimedPlanner], *, repetitions: int = 50, warm_up: int = 5
) -> dict[str, Any]:
    """Return p50 and p99 milliseconds by planner and part, JSON-ready. Every planner plans once a round."""
    if repetitions < 1:
        raise TrainingError(f"repetitions is {repetitions}, expected at least 1.")
    times: dict[str, dict[str, list[float]]] = {
        name: {"encoder": [], "planner": [], "total": []} for name in planners
    }
    for planner in planners.values():
        planner.reset()
    for round_ in range(warm_up + repetitions):
        for name, planner in planners.items():
            step_ns = round(planner.config.history.interval_s * 1e9)
            planner.plan(grey_frame(planner.config, round_ * step_ns))
            if round_ < warm_up:
                continue
            found = planner.last_stage_ms
            for part, stages in STAGES.items():
                times[name][part].append(sum(found[stage] for stage in stages))
            times[name]["total"].append(sum(found.values()))
    return {
        name: {
            part: {"p50_ms": float(np.percentile(values, 50)), "p99_ms": float(np.percentile(values, 99))}
            for part, values in parts.items()
        }
        for name, parts in times.items()
    }


def speed_ups(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return by how much the student is faster than each teacher, p50 by part."""
    student = found[STUDENT]
    return {
        name: {part: parts[part]["p50_ms"] / student[part]["p50_ms"] for part in parts}
        for name, parts in found.items()
        if name != STUDENT
    }


def compare_latency(
    config: ExperimentConfig,
    *,
    student: Path | None = None,
    teacher: Path | None = None,
    device: str = "cpu",
    precision: str = "float32",
    repetitions: int = 50,
) -> dict[str, Any]:
    """Return the comparison of a bundle and a teacher's folder; random weights of ``config`` where none is given.

    Sizes decide the time, weights hardly do. Raises what PolicyRunner and TeacherPlanner raise.
    """
    with tempfile.TemporaryDirectory() as temporary:
        if teacher is None:
            teacher = Path(temporary) / "teacher"
            save_teacher(teacher, new_parts(config).eval(), dataset="none: random weights")
        bundle = _random_student(config) if student is None else load_bundle(student)
        runner = PolicyRunner(bundle, device=device, precision=precision)
        make: Callable[[str], TeacherPlanner] = lambda choice: TeacherPlanner(  # noqa: E731 - three keywords, twice
            teacher, device=device, precision=precision, choice=choice
        )
        planners: dict[str, TimedPlanner] = {
            STUDENT: runner,
            TEACHER: make("confidence"),
            TEACHER_REWARD: make("reward"),
        }
        found = measure(planners, repetitions=repetitions)
    return {
        "configuration": config.name,
        "device": runner.device_description,
        "torch": torch.__version__,
        "repetitions": repetitions,
        "random_weights": {"student": student is None, "teacher": teacher.parent == Path(temporary)},
        "planners": found,
        "student_is_faster_by": speed_ups(found),
    }


def _random_student(config: ExperimentConfig) -> PolicyBundle:
    policy = dataclasses.replace(
        config.student, provenance=dataclasses.replace(config.student.provenance, trained=False)
    )
    return PolicyBundle(config=policy, tensors=seeded_tensors(policy, seed=0), sha256="")


def table(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [
        f"{report['configuration']} on {report['device']}, {report['repetitions']} rounds, p50 / p99 in ms",
        "",
        "| planner | encoder | planner | total |",
        "|---|---|---|---|",
    ]
    for name, parts in report["planners"].items():
        cells = [
            f"{parts[part]['p50_ms']:.1f} / {parts[part]['p99_ms']:.1f}"
            for part in ("encoder", "planner", "total")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name, faster in report["student_is_faster_by"].items():
        lines.append(f"| student against {name} | {' | '.join(f'{faster[p]:.1f}x' for p in faster)} |")
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `wpt-train latency`."""
    parser.add_argument("--config", default="compact", choices=sorted(CONFIGURATIONS))
    parser.add_argument("--student", type=Path, help="bundle; random weights of the configuration without it")
    parser.add_argument(
        "--teacher", type=Path, help="teacher's folder with a reward model; random weights without it"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write the report here")


def run(arguments: argparse.Namespace) -> int:
    report = compare_latency(
        configuration(arguments.config), student=arguments.student, teacher=arguments.teacher, device=arguments.device,
        precision=arguments.precision, repetitions=arguments.repetitions,
    )  # fmt: skip
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report), end="")
    return 0
