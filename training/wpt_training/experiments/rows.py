"""The rows of the tables: what is trained how, by tier, and what a row needs to be trained first.

Tier A carries the claims (3 seeds), B the hypotheses about the teacher (3 seeds), C single-seed looks without a claim.
All students of one seed see the same samples in the same order, for the same number of steps, from the same start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from wpt_training.configuration import (
    EXTRA_RULES,
    RULES,
    DistillationConfig,
    ExperimentConfig,
)
from wpt_training.errors import TrainingError

SEEDS = {"A": (1, 2, 3), "B": (1, 2, 3), "C": (1,)}
# Chosen on dev (training/README.md): not smoothed, weights of 0, 0.2 and 1 gave driving scores of 74, 63 and 45; smoothed, 0.2
# gave 86. A roll-out costs twice what the rest of a student's step does: a quarter of the samples gets one.
FULL = DistillationConfig(policy=1.0, world_reward=0.2, reward_share=0.25, smoothing=0.15)
AS_PRINTED = replace(FULL, smoothing=0.0)
DEFAULT_TEACHER = "teacher"


def _same(config: ExperimentConfig) -> ExperimentConfig:
    return config


@dataclass(frozen=True, kw_only=True)
class TeacherVariant:
    """name: of its folder. change: of the configuration."""

    name: str
    tier: str
    title: str
    change: Callable[[ExperimentConfig], ExperimentConfig] = _same


@dataclass(frozen=True, kw_only=True)
class StudentVariant:
    """distillation: what it learns from; teacher: from which variant. longer: gets the wall-clock of the whole chain.

    speed: also reads the ego's speed.
    """

    name: str
    tier: str
    title: str
    distillation: DistillationConfig = DistillationConfig()
    teacher: str = DEFAULT_TEACHER
    longer: bool = False
    speed: bool = False

    @property
    def needs_teacher(self) -> bool:
        return self.distillation.needs_teacher


def _without(rule: str) -> Callable[[ExperimentConfig], ExperimentConfig]:
    def change(config: ExperimentConfig) -> ExperimentConfig:
        rules = tuple(name for name in RULES if name != rule)
        return config.with_(reward=replace(config.reward, rules=rules))

    return change


def _reward(**changes: object) -> Callable[[ExperimentConfig], ExperimentConfig]:
    return lambda config: config.with_(reward=replace(config.reward, **changes))


def _no_reward(config: ExperimentConfig) -> ExperimentConfig:
    return config.with_(
        teacher=replace(config.teacher, select_by="nearest"),
        losses=replace(config.losses, imitation_reward=0.0, simulation_reward=0.0),
    )


TEACHERS = (
    TeacherVariant(name=DEFAULT_TEACHER, tier="A", title="teacher"),
    TeacherVariant(name="teacher-plain", tier="B", title="Baseline-T (teacher's network, no reward)", change=_no_reward),
    TeacherVariant(name="teacher-no-ttc", tier="B", title="teacher without TTC", change=_without("TTC")),
    TeacherVariant(
        name="teacher-truth", tier="B", title="teacher, rules from true occupancy only", change=_reward(truth_share=1.0)
    ),
    TeacherVariant(name="teacher-no-nc", tier="C", title="teacher without NC", change=_without("NC")),
    TeacherVariant(name="teacher-no-dac", tier="C", title="teacher without DAC", change=_without("DAC")),
    TeacherVariant(name="teacher-no-ep", tier="C", title="teacher without EP", change=_without("EP")),
    TeacherVariant(
        name="teacher-detached", tier="C", title="teacher, simulation heads read a detached feature (authors' way)",
        change=_reward(detach_simulation=True),
    ),
    TeacherVariant(
        name="teacher-pooled", tier="C", title="teacher, reward reads pooled features only",
        change=_reward(sampled_features=False),
    ),
    TeacherVariant(
        name="teacher-shuffled", tier="C", title="teacher, shuffled simulation targets",
        change=_reward(shuffled_targets=True),
    ),
    TeacherVariant(
        name="teacher-full-plus", tier="C", title="teacher with signal and direction heads",
        change=_reward(rules=RULES + EXTRA_RULES),
    ),
)  # fmt: skip

STUDENTS = (
    StudentVariant(name="baseline", tier="A", title="baseline (imitation)"),
    StudentVariant(name="policy", tier="A", title="+ policy distillation", distillation=DistillationConfig(policy=1.0)),
    StudentVariant(name="full", tier="A", title="+ policy and world-reward distillation (smoothed, weight 0.2)", distillation=FULL),
    StudentVariant(name="baseline-long", tier="B", title="baseline, wall-clock of the whole chain", longer=True),
    StudentVariant(
        name="full-as-printed", tier="C", title="full, logits of Eq 16 not smoothed", distillation=AS_PRINTED
    ),
    StudentVariant(
        name="full-heavy", tier="C", title="full, world-reward distillation weighs 1",
        distillation=replace(FULL, world_reward=1.0),
    ),
    StudentVariant(
        name="imitation-reward", tier="C", title="full, imitation reward only", distillation=replace(FULL, logits="imitation")
    ),
    StudentVariant(
        name="shuffled", tier="C", title="full, from shuffled simulation targets", distillation=FULL,
        teacher="teacher-shuffled",
    ),
    StudentVariant(
        name="rule-losses", tier="C", title="rule losses from truth, no teacher",
        distillation=DistillationConfig(rule_losses=1.0),
    ),
    StudentVariant(
        name="full-plus", tier="C", title="full, with signal and direction heads", distillation=FULL,
        teacher="teacher-full-plus",
    ),
    StudentVariant(
        name="frozen-reward", tier="C", title="full, reward model frozen", distillation=replace(FULL, reward_model="frozen")
    ),
    StudentVariant(
        name="coupled-reward", tier="C", title="full as printed, Eq 16 reaches the reward model (authors' variant)",
        distillation=replace(AS_PRINTED, reward_model="coupled"),
    ),
    StudentVariant(
        name="best-per-head", tier="C", title="full as printed, each head's own best candidate (authors' variant)",
        distillation=replace(AS_PRINTED, logits="best_per_head"),
    ),
    *(
        StudentVariant(
            name=f"teacher-by-{choice}", tier="C", title=f"full, teacher chosen by {choice}",
            distillation=replace(FULL, teacher_choice=choice),
        )
        for choice in ("confidence", "imitation", "random", "oracle")
    ),
    StudentVariant(name="baseline-speed", tier="C", title="baseline that reads speed", speed=True),
    StudentVariant(name="full-speed", tier="C", title="full that reads speed", speed=True, distillation=FULL),
)  # fmt: skip


def teacher_variant(name: str) -> TeacherVariant:
    """Return a teacher variant; raises TrainingError for an unknown name."""
    return _named(TEACHERS, name)


def student_variant(name: str) -> StudentVariant:
    """Return a student variant; raises TrainingError for an unknown name."""
    return _named(STUDENTS, name)


def keeps_queries(config: ExperimentConfig, variant: StudentVariant) -> bool:
    """Whether a row's policy distillation reads queries that are computed once (stages.teacher_queries)."""
    distillation = variant.distillation
    return distillation.policy > 0 and distillation.teacher_choice == "reward" and config.teacher.kind == "compact"


def student_config(config: ExperimentConfig, variant: StudentVariant) -> ExperimentConfig:
    """Return the configuration of a student's stage: its ego inputs, and the teacher variant's own settings."""
    config = teacher_variant(variant.teacher).change(config)
    if variant.speed:
        config = config.with_(student=replace(config.student, ego_inputs=("speed",)))
    return config


def _named(variants, name: str):
    for variant in variants:
        if variant.name == name:
            return variant
    raise TrainingError(f"row {name!r} is unknown: choose one of {', '.join(v.name for v in variants)}.")
