"""Training a teacher or student of a table: loads what it builds on and trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.data.changing_motion import emphasised_rows
from wpt_training.data.sample_cache import SampleCache
from wpt_training.experiments.job_run import Place, load_anchors, train_stage
from wpt_training.experiments.jobs import facts_of, job_name
from wpt_training.experiments.rows import (
    DEFAULT_TEACHER,
    StudentVariant,
    keeps_queries,
    student_config,
    student_variant,
    teacher_variant,
)
from wpt_training.stages.frozen_features import FrozenFeatures, PresentFeatures, SetViews, build_frozen_features
from wpt_training.stages.perception_stage import load_perception
from wpt_training.stages.student_stage import StudentStage
from wpt_training.stages.teacher_queries import TeacherQueries
from wpt_training.stages.teacher_stage import TeacherStage, load_teacher
from wpt_training.stages.world_stage import load_world
from wpt_training.world.world_model import OccupancyWorldModel


def train_teacher(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    """Train a teacher's variant; None where the time was over."""
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
    if facts is None:
        return None
    return {**facts, "rules_truth_share": stage.rules.truth_share}


def train_student(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    """Train a student's variant; None where the time was over."""
    variant = student_variant(row)
    config = student_config(place.config, variant)
    cache = place.cache("train")
    world = teacher = features = queries = None
    if variant.needs_teacher:
        world = load_world(config, place.folder("world") / "run")
        teacher = load_teacher(config, place.folder("teacher", variant.teacher, seed) / "run")
        features = _features(place, world, cache)
    if keeps_queries(place.config, variant):
        observer = TeacherQueries(config, world, teacher, features)
        queries = FrozenFeatures.open(_queries_folder(place, variant.teacher, seed), observer, cache)
    perception = load_perception(config, place.folder("perception") / "run")
    views = None
    if not config.student_joint:
        views = FrozenFeatures.open(place.folder("views") / "features", SetViews(perception.encoder), cache)
    stage = StudentStage(
        config,
        variant.distillation,
        perception,
        seed=seed,
        views=views,
        queries=queries,
        world=world,
        teacher=teacher,
        features=features,
        agreement=_agreement(place) if variant.needs_teacher else None,
    )
    schedule = _schedule(place, config, variant, seed)
    folder = place.folder("student", row, seed)
    rows = emphasised_rows(cache, place.training_rows(cache), config.emphasis, config.student.plan.dt_s)
    return train_stage(place, stage, schedule, folder, rows, cache, seed)


def keep_queries(place: Place, row: str, seed: int) -> dict[str, Any]:
    """Compute what policy distillation asks a teacher for, of all training rows."""
    config, cache = teacher_variant(row).change(place.config), place.cache("train")
    world = load_world(config, place.folder("world") / "run")
    teacher = load_teacher(config, place.folder("teacher", row, seed) / "run")
    observer = TeacherQueries(config, world, teacher, _features(place, world, cache))
    precision = facts_of(place.runs, job_name("teacher", row, seed))["precision"]
    rows = place.training_rows(cache)
    build_frozen_features(
        observer, cache, rows, _queries_folder(place, row, seed), device=place.device, precision=precision
    )
    return {"rows": len(rows)}


def _queries_folder(place: Place, row: str, seed: int) -> Path:
    return place.folder("queries", row, seed) / "features"


def _features(place: Place, world: OccupancyWorldModel, cache: SampleCache) -> FrozenFeatures:
    return FrozenFeatures.open(place.folder("frozen") / "features", PresentFeatures(world), cache)


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
