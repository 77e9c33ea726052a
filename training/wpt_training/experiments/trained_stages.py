"""Training a teacher or student of a table: loads what it builds on, trains, and reports on the teacher's candidates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.data.sample_cache import SampleCache
from wpt_training.experiments.job_run import (
    Place,
    is_first_process,
    load_anchors,
    report_batches,
    train_stage,
)
from wpt_training.experiments.jobs import facts_of, job_name
from wpt_training.experiments.open_loop import trained_teacher
from wpt_training.experiments.rows import (
    DEFAULT_TEACHER,
    StudentVariant,
    student_config,
    student_variant,
    teacher_variant,
)
from wpt_training.reward.reward_losses import distance_to_future, imitation_target
from wpt_training.reward.rules import rule_inputs, score_rules
from wpt_training.stages.frozen_features import FrozenFeatures
from wpt_training.stages.perception_stage import load_perception
from wpt_training.stages.student_stage import StudentStage
from wpt_training.stages.teacher_stage import TeacherStage, load_teacher
from wpt_training.stages.world_stage import load_world
from wpt_training.teacher.candidate_report import CandidateReport
from wpt_training.teacher.candidates import picked

from wpt_training.world.world_model import OccupancyWorldModel, observe_batch

if TYPE_CHECKING:
    from wpt_training.evaluation.teacher_folder import TeacherParts

PARTS = ("all", "interactive")


def train_teacher(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    """Train a teacher's variant and report on its candidates on dev; None where the time was over."""
    config = teacher_variant(row).change(place.config)
    cache, world = place.cache("train"), load_world(config, place.folder("world") / "run")
    stage = TeacherStage(
        config,
        world,
        load_anchors(place),
        seed=seed,
        features=_features(place, world, cache),
        agreement=_agreement(place),
    )
    folder = place.folder("teacher", row, seed)
    facts = train_stage(place, stage, config.teacher_stage, folder, place.training_rows(cache), cache, seed)
    if facts is None or not is_first_process():
        return facts
    parts = trained_teacher(place, row, seed)
    return {**facts, "rules_truth_share": stage.rules.truth_share, "candidates": candidate_report(place, parts)}


def train_student(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    """Train a student's variant; None where the time was over."""
    variant = student_variant(row)
    config = student_config(place.config, variant)
    cache = place.cache("train")
    world = teacher = features = None
    if variant.needs_teacher:
        world = load_world(config, place.folder("world") / "run")
        teacher = load_teacher(config, place.folder("teacher", variant.teacher, seed) / "run")
        features = _features(place, world, cache)
    stage = StudentStage(
        config,
        variant.distillation,
        load_perception(config, place.folder("perception") / "run"),
        seed=seed,
        world=world,
        teacher=teacher,
        features=features,
        agreement=_agreement(place) if variant.needs_teacher else None,
    )
    schedule = _schedule(place, config, variant, seed)
    folder = place.folder("student", row, seed)
    return train_stage(place, stage, schedule, folder, place.training_rows(cache), cache, seed)


def _features(place: Place, world: OccupancyWorldModel, cache: SampleCache) -> FrozenFeatures:
    return FrozenFeatures.open(place.folder("frozen") / "features", world, cache)


def _agreement(place: Place) -> float | None:
    return facts_of(place.runs, "world-report")["agreement"]


def _schedule(place: Place, config: ExperimentConfig, variant: StudentVariant, seed: int) -> Schedule:
    """The shared schedule; a longer baseline gets as many samples as fit into the chain's time at the baseline's pace."""
    schedule = config.student_stage
    if not variant.longer:
        return schedule
    chain = ("world-perception", "frozen", "world", job_name("teacher", DEFAULT_TEACHER, seed), job_name("student", "full", seed))
    seconds = sum(facts_of(place.runs, name)["seconds"] for name in chain)
    pace = facts_of(place.runs, job_name("student", "baseline", seed))["seconds"] / schedule.samples
    return dataclasses.replace(schedule, samples=round(seconds / pace))


@torch.no_grad()
def candidate_report(place: Place, parts: TeacherParts) -> dict[str, dict[str, Any]]:
    """Return figures of a teacher's candidates on dev, by part, with the rank check of its reward.

    rank_*_m: mean distance to the truth of the chosen, a random and the best candidate. head_auroc: how well each
    simulation head tells passing from failing candidates.
    """
    config, cache = parts.config, place.cache("dev")
    grid = occupancy_grid(config.student, config.data)
    reports = {part: CandidateReport() for part in PARTS}
    heads: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    ranks: dict[str, list[torch.Tensor]] = {"chosen": [], "random": [], "oracle": []}
    for batch in report_batches(place, cache, "candidates"):
        decision = parts.decide(observe_batch(parts.world, batch), batch.command, batch.motion)
        found = decision.candidates
        inputs = rule_inputs(batch, grid)
        rules = score_rules(inputs, found.positions, config.reward.rules, progress=config.reward.progress)
        target = imitation_target(
            found.positions, batch.future, batch.future_valid, config.reward.imitation_temperature_m
        )
        interactive = torch.from_numpy(cache.interactive[batch.row.cpu().numpy()]).to(batch.row.device)
        for part, report in reports.items():
            at = interactive if part == "interactive" else torch.ones_like(interactive)
            if at.any():
                report.add(
                    type(found)(*(value[at] for value in found)),
                    batch.future[at],
                    batch.future_valid[at],
                    {rule: values[at] for rule, values in rules.items()},
                    target[at],
                    decision.chosen[at],
                )
        distance = distance_to_future(found.positions, batch.future, batch.future_valid)
        known = batch.future_valid.any(dim=1)
        ranks["chosen"].append(picked(distance, decision.chosen)[known])
        ranks["random"].append(distance.mean(dim=1)[known])
        ranks["oracle"].append(distance.amin(dim=1)[known])
        for rule in config.reward.rules:
            if rule in decision.terms:
                heads.setdefault(rule, []).append((decision.terms[rule][known], rules[rule][known] > 0.5))
    result: dict[str, dict[str, Any]] = {part: report.result() for part, report in reports.items()}
    result["rank"] = {f"rank_{name}_m": float(torch.cat(values).mean()) for name, values in ranks.items()}
    result["head_auroc"] = {
        rule: auroc(torch.cat([p for p, _ in pairs]).flatten(), torch.cat([t for _, t in pairs]).flatten())
        for rule, pairs in heads.items()
    }
    return result


def auroc(score: torch.Tensor, positive: torch.Tensor) -> float | None:
    """Return the area under the ROC curve (chance that a positive scores above a negative; ties count half), or None
    where one of the two never occurs.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return None
    values, places, counts = torch.unique(score.double(), return_inverse=True, return_counts=True)
    # The mean rank of equal scores.
    rank = (counts.cumsum(0).double() - 0.5 * (counts.double() - 1.0))[places]
    return float((rank[positive].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))
