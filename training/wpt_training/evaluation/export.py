"""`wpt-train export`: a trained student as a policy bundle. What only training needs is left behind."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wpt_policy.bundle import PolicyBundle, save_bundle, weights_of
from wpt_policy.network.student import Student
from wpt_policy.policy_config import PolicyConfig, Provenance

from wpt_training.configuration import CONFIGURATIONS, configuration
from wpt_training.errors import TrainingError
from wpt_training.evaluation.model_card import TrainingFacts, model_card
from wpt_training.trainer.checkpoint import RESULT, WEIGHTS, load_tensors, read_result

_COUNTER = "num_batches_tracked"


def student_tensors(tensors: Mapping[str, Tensor], config: PolicyConfig, source: str) -> dict[str, Tensor]:
    """Return the weights of ``config``'s Student among a run's tensors, by their names in a bundle.

    The student may lie under any one prefix (``student.``); everything else (training-only heads, projectors, counters of
    batch norms) is dropped. Raises TrainingError naming what is missing or does not fit.
    """
    with torch.device("meta"):
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in Student(config).state_dict().items()
            if not name.endswith(_COUNTER)
        }
    anchor = "plan_decoder.step_queries"
    prefixes = [
        name.removesuffix(anchor) for name in tensors if name == anchor or name.endswith("." + anchor)
    ]
    if len(prefixes) != 1:
        raise TrainingError(
            f"{source} holds {len(prefixes)} students (tensors that end in {anchor}), expected one; give the folder of a "
            "student's run."
        )
    found = {}
    for name, shape in shapes.items():
        tensor = tensors.get(prefixes[0] + name)
        if tensor is None or tuple(tensor.shape) != shape:
            there = "nothing" if tensor is None else f"shape {list(tensor.shape)}"
            raise TrainingError(
                f"{source} has {there} for {prefixes[0]}{name}, expected shape {list(shape)} of policy {config.name}; "
                "give the configuration that the run was trained with."
            )
        found[name] = tensor.detach().to("cpu", torch.float32).contiguous()
    return found


def load_student(run: Path, config: PolicyConfig) -> Student:
    """Return the trained student of a finished run, in evaluation mode. Raises TrainingError."""
    return _filled(config, run_tensors(run, config))


def run_tensors(run: Path, config: PolicyConfig) -> dict[str, Tensor]:
    """Return the student's weights of a finished run. Raises TrainingError."""
    if read_result(run) is None:
        raise TrainingError(
            f"{run} holds no finished training run ({RESULT} is missing): run that stage to its end first."
        )
    tensors, _ = load_tensors(run / WEIGHTS)
    return student_tensors(tensors, config, str(run / WEIGHTS))


def _filled(config: PolicyConfig, tensors: Mapping[str, Tensor]) -> Student:
    network = Student(config)
    network.load_state_dict(dict(tensors))
    return network.eval().requires_grad_(False)


def export_bundle(
    network: nn.Module | Mapping[str, Tensor],
    config: PolicyConfig,
    folder: Path,
    facts: TrainingFacts,
    *,
    report: Mapping[str, Any] | None = None,
    closed_loop: Mapping[str, Any] | None = None,
) -> PolicyBundle:
    """Write a bundle with provenance and model card; the bundle is called as its folder.

    network: a Student, a module around one, or its tensors. report, closed_loop: as in model_card; figures of the row
    named as the folder go into the provenance. Raises TrainingError or BundleError.
    """
    tensors = weights_of(network) if isinstance(network, nn.Module) else network
    config = replace(config, name=folder.name)
    provenance = Provenance(
        trained=True,
        dataset=facts.dataset,
        commit=facts.commit,
        seed=facts.seed,
        metrics=headline_metrics(config.name, report, closed_loop),
    )
    config = replace(config, provenance=provenance)
    card = model_card(config, facts, report, closed_loop)
    return save_bundle(folder, config, student_tensors(tensors, config, config.name), card)


def headline_metrics(
    name: str, report: Mapping[str, Any] | None, closed_loop: Mapping[str, Any] | None
) -> dict[str, float]:
    """Return the figures of a row that its provenance carries; empty where nothing was measured."""
    metrics: dict[str, float] = {}
    for part, found in ((report or {}).get("rows", {}).get(name) or {}).items():
        if found is None:
            continue
        collision = found["collision_at_fault"]
        values = {
            "l2_at_step_m": found["l2"]["at_step"]["avg"],
            "l2_over_time_m": found["l2"]["over_time"]["avg"],
            "collision_at_fault": collision["primary"],
            "collision_at_fault_events": collision["events"],
            "samples": found["samples"],
        }
        metrics |= {f"{part}/{key}": float(value) for key, value in values.items() if value is not None}
    for key, value in ((closed_loop or {}).get(name) or {}).items():
        metrics[f"closed_loop/{key}"] = float(value)
    return metrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `wpt-train export`."""
    parser.add_argument(
        "--run", type=Path, required=True, dest="folder", help="folder of a finished student's run"
    )
    parser.add_argument("--out", type=Path, required=True, help="bundle's folder; its name is the policy's")
    parser.add_argument(
        "--config", default="compact", choices=sorted(CONFIGURATIONS), help="configuration of the run"
    )
    parser.add_argument("--row", default="full", help="row of the tables that the run is of")
    parser.add_argument(
        "--data", required=True, help="on what it was trained, in words: name, version, number of samples"
    )
    parser.add_argument(
        "--evaluation", type=Path, help="report of `wpt-train evaluate` with a row named as the bundle"
    )
    parser.add_argument(
        "--closed-loop", type=Path, help="JSON {planner: {routes, driving_score, success_rate}}"
    )


def run(arguments: argparse.Namespace) -> int:
    from wpt_training.experiments.rows import student_config, student_variant

    variant = student_variant(arguments.row)
    config = student_config(configuration(arguments.config), variant)
    result = read_result(arguments.folder) or {}
    tensors = run_tensors(arguments.folder, config.student)
    facts = TrainingFacts(
        dataset=arguments.data,
        row=variant.title,
        commit=str(result.get("commit") or ""),
        seed=int(result.get("seed", result.get("identity", {}).get("seed", 0))),
        configuration=config.name,
        samples={
            "perception": config.perception_stage.samples,
            **({"perception of the world model": config.perception_stage.samples,
                "world model": config.world_stage.samples, "teacher": config.teacher_stage.samples}
               if variant.needs_teacher else {}),
            "student": config.student_stage.samples,
        },
        minutes=None if "seconds" not in result else float(result["seconds"]) / 60.0,
        device=str(result.get("device", "")),
        command=f"wpt-train export --run {arguments.folder.name} --out {arguments.out.name} --config {config.name} "
        f"--row {variant.name}",
    )  # fmt: skip
    bundle = export_bundle(
        tensors, config.student, arguments.out, facts, report=_json(arguments.evaluation),
        closed_loop=_json(arguments.closed_loop),
    )  # fmt: skip
    size = sum(tensor.numel() for tensor in bundle.tensors.values())
    print(f"{arguments.out}: {size:,} weights, sha256 {bundle.sha256[:16]}")
    return 0


def _json(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{path} cannot be read as a JSON object ({error}): give a report.") from None
