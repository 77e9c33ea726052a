"""Milliseconds a sample of one optimisation step of every stage, with peak memory. Prints JSON.

    python benchmarks/training_step.py                                     # compact on one CPU thread
    python benchmarks/training_step.py --config medium --device cuda --precision bfloat16 --batch 32
    python benchmarks/training_step.py --stages world,student-full --threads 2

Samples are made up (data.synthetic_batch) and weights are seeded random numbers: time depends on neither. A step is what
the trainer does: losses, gradients, clipping, AdamW. "features" is the world model's F_0 of a sample, which is computed once and cached;
stages that read it are timed with the cache, except "teacher-uncached". Peak memory is the process' so far on a CPU, the
stage's own on a GPU. "processor" is CPU time, which other programs on a busy machine lengthen less than the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from wpt_training.configuration import CONFIGURATIONS, DistillationConfig, ExperimentConfig, configuration
from wpt_training.data.batch import Batch
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.experiments.rows import FULL
from wpt_training.stages.frozen_features import build_frozen_features
from wpt_training.stages.perception_stage import PerceptionStage
from wpt_training.stages.student_stage import StudentStage
from wpt_training.stages.teacher_stage import TeacherStage, TrainedTeacher
from wpt_training.stages.world_stage import WorldStage, make_world, start_from
from wpt_training.trainer.precision import autocast
from wpt_training.trainer.stage import Stage, freeze
from wpt_training.world.world_model import observe_batch

WARMUP_STEPS = 2


class MadeUp:
    """A source of one batch's samples."""

    signature = "made up"

    def __init__(self, batch: Batch):
        self.whole = batch

    def batch(self, rows: torch.Tensor) -> Batch:
        return self.whole[torch.as_tensor(rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", choices=tuple(CONFIGURATIONS), default="compact")
    parser.add_argument("--stages", help="comma-separated names; all by default")
    parser.add_argument("--batch", type=int, default=16, help="samples in a step (default 16)")
    parser.add_argument("--steps", type=int, default=6, help="timed steps after warm-up (default 6)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, config = torch.device(options.device), configuration(options.config)
    batch = make_batch(config, options.batch)

    with tempfile.TemporaryDirectory() as folder:
        stages = _steps(config, batch, Path(folder), device, options.precision)
        chosen = options.stages.split(",") if options.stages else list(stages)
        unknown = sorted(set(chosen) - set(stages))
        if unknown:
            parser.error(f"stages {', '.join(unknown)} are unknown: choose from {', '.join(stages)}")
        figures = {}
        for name in chosen:
            figures[name] = _timed(*stages[name](), options, device)
    facts = {
        "config": config.name, "batch": options.batch, "precision": options.precision,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores",
        "threads": options.threads, "load_average_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(), "torch": torch.__version__, "stages": figures,
    }  # fmt: skip
    print(json.dumps(facts, indent=2))


def _steps(
    config: ExperimentConfig, batch: Batch, folder: Path, device: torch.device, precision: str
) -> dict[str, Callable[[], tuple[Callable[[], object], int]]]:
    """By name, what makes (one step, how many parameters it trains)."""
    source, here = MadeUp(batch), batch.to(device)

    def world():
        torch.manual_seed(0)
        return freeze(make_world(config)).to(device, memory_format=torch.channels_last)

    def roll_out() -> WorldStage:
        """As jobs train it: on cached features where its encoder stays as pre-trained."""
        start = PerceptionStage(config, seed=0, world=True)
        if config.world.joint:
            return WorldStage(config, seed=0, start=start)
        observing = make_world(config)
        start_from(observing, start)
        observing = freeze(observing).to(device, memory_format=torch.channels_last)
        place = folder / "roll-out"
        features = build_frozen_features(observing, source, batch.row, place, device=device, progress=False)
        return WorldStage(config, seed=0, start=start, features=features)

    def teacher(cached: bool) -> TeacherStage:
        frozen, size = world(), (config.commands, config.teacher.candidates, config.steps, 2)
        place = folder / "features"
        features = build_frozen_features(frozen, source, batch.row, place, device=device, progress=False) if cached else None
        paths = torch.linspace(0.2, 6.0, size[1])[:, None] * torch.arange(1.0, size[2] + 1)
        anchors = torch.stack([paths, torch.zeros_like(paths)], dim=-1).expand(size).clone()
        return TeacherStage(config, frozen, anchors if config.teacher.kind == "compact" else None, seed=0, features=features)

    def student(distillation: DistillationConfig) -> StudentStage:
        taught = teacher(cached=True) if distillation.needs_teacher else None
        return StudentStage(
            config, distillation, None, seed=0,
            world=taught.world if taught else None,
            teacher=TrainedTeacher(teacher=taught.teacher, reward=taught.reward) if taught else None,
            features=taught.features if taught else None,
        )  # fmt: skip

    def trained(make: Callable[[], Stage]) -> Callable[[], tuple[Callable[[], object], int]]:
        return lambda: _optimised(make(), config, here, device, precision)

    def features() -> tuple[Callable[[], object], int]:
        frozen = world()
        def observe() -> None:
            with torch.no_grad(), autocast(device, precision):
                observe_batch(frozen, here)

        return observe, 0

    return {
        "perception": trained(lambda: PerceptionStage(config, seed=0)),
        "world-perception": trained(lambda: PerceptionStage(config, seed=0, world=True)),
        "world": trained(roll_out),
        "features": features,
        "teacher-uncached": trained(lambda: teacher(cached=False)),
        "teacher": trained(lambda: teacher(cached=True)),
        "student-baseline": trained(lambda: student(DistillationConfig())),
        "student-policy": trained(lambda: student(DistillationConfig(policy=1.0))),
        "student-full": trained(lambda: student(FULL)),
    }


def _optimised(
    stage: Stage, config: ExperimentConfig, batch: Batch, device: torch.device, precision: str
) -> tuple[Callable[[], object], int]:
    schedule = getattr(config, f"{stage.name}_stage")
    for module in (*stage.modules().values(), *stage.frozen_modules().values()):
        module.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(stage.parameter_groups(schedule), lr=1e-5, fused=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    stage.train_mode()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            total = stage.losses(batch, 0.6)["total"]
        total.backward()
        nn.utils.clip_grad_norm_(parameters, schedule.clip_norm)
        optimizer.step()

    return step, sum(p.numel() for p in parameters)


def _timed(
    step: Callable[[], object], parameters: int, options: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, processor = [], []
    for index in range(WARMUP_STEPS + options.steps):
        torch.manual_seed(index)
        begin, begin_processor = time.perf_counter(), time.process_time()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - begin_processor)
    timed = sorted(seconds[WARMUP_STEPS:])
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "median_ms_per_sample": round(1e3 * timed[len(timed) // 2] / options.batch, 2),
        "best_ms_per_sample": round(1e3 * timed[0] / options.batch, 2),
        "processor_ms_per_sample": round(1e3 * min(processor[WARMUP_STEPS:]) / options.batch, 2),
        "trained_parameters": parameters,
        "peak_memory_mib": round(peak / 2**20),
    }


if __name__ == "__main__":
    main()
