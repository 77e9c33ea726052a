"""One full-size optimisation step of each stage at `reference`, on a real nuScenes keyframe.

    python benchmarks/reference_step.py --data DIR --version v1.0-mini --scene scene-0061

Proves that the code runs at the paper's size: finite losses, a gradient in every trained parameter, none in a frozen one.
A keyframe whose future is not in the data (a scene with one keyframe) gets one of constant velocity, and says so: a step
needs a target, and this is no training. Needs about 16 GiB of memory and some minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import resource
import sys
import time
from pathlib import Path

import torch

from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

from wpt_training.configuration import configuration
from wpt_training.data.batch import Batch
from wpt_training.data.sample_reader import SampleReader
from wpt_training.data.side_tables import SideTables
from wpt_training.evaluation.predictions import constant_velocity
from wpt_training.experiments.rows import FULL
from wpt_training.stages.perception_stage import PerceptionStage
from wpt_training.stages.student_stage import StudentStage
from wpt_training.stages.teacher_stage import TeacherStage, TrainedTeacher
from wpt_training.stages.world_stage import WorldStage
from wpt_training.trainer.stage import named_parameters


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--version", default="v1.0-mini")
    parser.add_argument("--scene", default="scene-0061")
    parser.add_argument("--keyframe", type=int, default=0)
    parser.add_argument("--config", default="reference")
    parser.add_argument("--stages", nargs="+", default=["perception", "world-perception", "world", "teacher", "student"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = configuration(arguments.config)
    tables = NuScenesTables.load(arguments.data, arguments.version)
    scene = load_scene(tables, arguments.scene)
    side = SideTables.load(arguments.data / arguments.version)
    batch = SampleReader(tables, scene, config.student, config.data, side).sample(arguments.keyframe)
    made_up = not bool(batch.future_valid.any())
    if made_up:
        batch = with_constant_velocity(batch)
    images = "x".join(str(size) for size in batch.images.shape[1:])
    print(f"{arguments.scene} keyframe {arguments.keyframe}: images {images}, {int(batch.box_valid[0, 0].sum())} boxes"
          + (", future of constant velocity" if made_up else ""))  # fmt: skip
    report = {"configuration": config.name, "scene": arguments.scene, "future_made_up": made_up, "stages": {}}
    failed = False
    for name in arguments.stages:
        found = step(name, config, batch)
        report["stages"][name] = found
        failed |= bool(found["without_gradient"] or found["frozen_with_gradient"] or not found["finite"])
        print(
            f"{name}: total {found['losses']['total']:.4f}, {found['parameters'] / 1e6:.1f} M trained parameters, "
            f"{found['seconds']:.0f} s, peak {found['peak_gib']:.1f} GiB, finite {found['finite']}, "
            f"without gradient: {found['without_gradient'] or 'none'}, frozen with gradient: "
            f"{found['frozen_with_gradient'] or 'none'}",
            flush=True,
        )
        gc.collect()
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


def with_constant_velocity(batch: Batch) -> Batch:
    """Return the sample with a future that goes on as the ego moves now, and occupancy kept still."""
    future = torch.cat([constant_velocity(batch), torch.zeros_like(batch.future[..., :1])], dim=-1)
    return dataclasses.replace(
        batch,
        future=future,
        future_valid=torch.ones_like(batch.future_valid),
        occupancy=batch.occupancy[:, :1].expand_as(batch.occupancy).contiguous(),
        boxes=batch.boxes[:, :1].expand_as(batch.boxes).contiguous(),
        box_valid=batch.box_valid[:, :1].expand_as(batch.box_valid).contiguous(),
    )


def step(name: str, config, batch: Batch) -> dict:
    """Run one optimisation step of a stage with first weights of its own."""
    stage, schedule = build(name, config)
    for module in stage.frozen_modules().values():
        module.requires_grad_(False)
    optimizer = torch.optim.AdamW(stage.parameter_groups(schedule), lr=schedule.learning_rate)
    stage.train_mode()
    begin = time.monotonic()
    losses = stage.losses(batch, 0.75)
    losses["total"].backward()
    trained = dict(named_parameters(stage.modules()))
    missing = [key for key, parameter in trained.items() if parameter.grad is None]
    finite = bool(torch.isfinite(losses["total"])) and all(
        bool(torch.isfinite(p.grad).all()) for p in trained.values() if p.grad is not None
    )
    frozen = [
        f"{module}.{key}"
        for module, owner in stage.frozen_modules().items()
        for key, parameter in owner.named_parameters()
        if parameter.grad is not None
    ]
    torch.nn.utils.clip_grad_norm_(trained.values(), schedule.clip_norm)
    optimizer.step()
    return {
        "losses": {key: float(value) for key, value in losses.items()},
        "parameters": sum(parameter.numel() for parameter in trained.values()),
        "seconds": time.monotonic() - begin,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "finite": finite,
        "without_gradient": missing,
        "frozen_with_gradient": frozen,
    }


def build(name: str, config):
    """Return a stage with first weights, and its schedule."""
    if name == "perception":
        return PerceptionStage(config, seed=0), config.perception_stage
    if name == "world-perception":
        return PerceptionStage(config, seed=0, world=True), config.perception_stage
    if name == "world":
        return WorldStage(config, seed=0), config.world_stage
    world = WorldStage(config, seed=0).world
    teacher_stage = TeacherStage(config, world, None, seed=0)
    if name == "teacher":
        return teacher_stage, config.teacher_stage
    teacher = TrainedTeacher(teacher=teacher_stage.teacher, reward=teacher_stage.reward)
    stage = StudentStage(config, FULL, PerceptionStage(config, seed=0), seed=0, world=world, teacher=teacher)
    return stage, config.student_stage


if __name__ == "__main__":
    sys.exit(main())
