"""Training of the student: every row of the tables, from the baseline to full distillation. Once for each row and seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wpt_training.configuration import DistillationConfig, ExperimentConfig, Schedule
from wpt_training.data.batch import Batch, forgetting, joined
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.errors import TrainingError
from wpt_training.reward.reward_losses import imitation_loss, reward_targets, simulation_loss
from wpt_training.reward.reward_model import RewardLogits
from wpt_training.stages.frozen_features import FrozenFeatures
from wpt_training.stages.perception_stage import PerceptionStage
from wpt_training.stages.present_features import present_features
from wpt_training.stages.rule_source import RuleSource
from wpt_training.stages.settings import plain_settings, seeded
from wpt_training.stages.step_rewards import TargetChoice
from wpt_training.stages.teacher_queries import CHOSEN, NEAREST
from wpt_training.stages.teacher_stage import TrainedTeacher
from wpt_training.student.distillation import (
    Target,
    neighbour_changes,
    path_target,
    policy_loss,
    raw_logits,
    side_by_side,
    teacher_choice,
    teacher_target,
    truth_target,
    uses_truth,
    world_reward_loss,
)
from wpt_training.student.planning_losses import student_losses
from wpt_training.student.rule_losses import rule_losses
from wpt_training.student.standing_start import standing_start
from wpt_training.student.training_student import StudentTraining, TrainingStudent
from wpt_training.teacher.candidates import Candidates, picked
from wpt_training.teacher.reference_teacher import ReferenceTeacher, StepDecision, cheapest
from wpt_training.teacher.step_choice import by_reward
from wpt_training.teacher.teacher_losses import nearest_candidate
from wpt_training.trainer.checkpoint import load_weights
from wpt_training.trainer.schedule import ParameterGroup, parameter_groups
from wpt_training.trainer.stage import freeze, set_modes, signature_of
from wpt_training.world.world_model import OccupancyWorldModel


class StudentStage:
    """Trains "student", and "reward" where it goes on learning. World model, teacher and else the reward model are frozen.

    Curriculum: for distillation.truth_share of the stage the student is pulled to the queries of the candidate nearest to
    the true future and to the reward logits of the true future itself; then to those of the teacher's choice.

    perception: the shared start (None: from first weights). world, teacher: None for rows that have no teacher. seed: of
    first weights. features, agreement: as in TeacherStage. views: of every set by the student's encoder, where that is frozen
    (config.student_joint off); None computes them from the images. queries: of the teacher as it was trained
    (stages.teacher_queries), read by policy distillation; None asks the teacher at every step.
    """

    name = "student"

    def __init__(
        self,
        config: ExperimentConfig,
        distillation: DistillationConfig,
        perception: PerceptionStage | None,
        *,
        seed: int,
        world: OccupancyWorldModel | None = None,
        teacher: TrainedTeacher | None = None,
        features: FrozenFeatures | None = None,
        views: FrozenFeatures | None = None,
        queries: FrozenFeatures | None = None,
        agreement: float | None = None,
    ):
        if queries is not None and (distillation.policy == 0 or distillation.teacher_choice != "reward"):
            raise TrainingError("kept queries are for policy distillation and of the teacher's choice by reward; give none.")
        if config.student_joint and views is not None:
            raise TrainingError("a student whose encoder learns has no cached views; give none, or set student_joint off.")
        self.config, self.distillation = config, distillation
        self.features, self.views, self.queries = features, views, queries
        self.grid = occupancy_grid(config.student, config.data)
        self.world = self.teacher = self.reward = self.rules = None
        if distillation.needs_teacher:
            if world is None or teacher is None:
                raise TrainingError("a student that is distilled needs a world model and a teacher; give both.")
            self._take(world, teacher, agreement)
        with seeded(seed):
            self.student = TrainingStudent(
                config.student, config.data, teacher_channels=config.teacher.channels if distillation.policy > 0 else None
            )
        if perception is not None:
            self.student.start_from(perception.encoder, perception.fusion, perception.heads)
        if not config.student_joint:
            freeze(self.student.student.encoder)
        taught = {"world": self.world, "teacher": self.teacher, "reward": self.reward}
        self._settings = plain_settings(
            student=config.student,
            occupancy_cell_m=config.data.occupancy_cell_m,
            losses=config.losses,
            distillation=distillation,
            joint=config.student_joint,
            forgotten_history=config.forgotten_history,
            standing_share=config.emphasis.standing_share,
            rules=config.reward if self.reward is not None else None,
            rules_truth_share=self.rules.truth_share if self.rules is not None else None,
            first_weights=signature_of(self.student),
            taught_by={name: signature_of(module) for name, module in taught.items() if module is not None},
            cached_features=self.world is not None and features is not None,
            cached_views=views is not None,
            cached_queries=queries is not None,
        )

    def _take(self, world: OccupancyWorldModel, teacher: TrainedTeacher, agreement: float | None) -> None:
        distillation = self.distillation
        unusual = distillation.teacher_choice != "reward" or distillation.logits != "all" or distillation.reward_model == "coupled"
        if isinstance(teacher.teacher, ReferenceTeacher) and unusual:
            raise TrainingError(
                f"a reference teacher with teacher_choice {distillation.teacher_choice!r}, logits {distillation.logits!r} and "
                f"reward_model {distillation.reward_model!r} is not supported; use 'reward', 'all' and one that is not coupled."
            )
        if teacher.reward is None and (distillation.world_reward > 0 or distillation.teacher_choice in ("reward", "imitation")):
            raise TrainingError(
                "this teacher has no reward model, which world-reward distillation and a choice by reward need; give "
                "another teacher, or set world_reward to 0 and teacher_choice to 'confidence'."
            )
        self.world, self.teacher, self.reward = freeze(world), freeze(teacher.teacher), teacher.reward
        self.rules = RuleSource(self.config, world, agreement)
        # Only world-reward distillation asks for a reward model that follows; for the choice it stays as the teacher's.
        self.reward_learns = distillation.world_reward > 0 and distillation.reward_model != "frozen"
        if self.reward is not None:
            self.reward.requires_grad_(True) if self.reward_learns else freeze(self.reward)

    def modules(self) -> dict[str, nn.Module]:
        trained: dict[str, nn.Module] = {"student": self.student}
        return {**trained, "reward": self.reward} if self.reward is not None and self.reward_learns else trained

    def frozen_modules(self) -> dict[str, nn.Module]:
        frozen: dict[str, nn.Module] = {} if self.config.student_joint else {"encoder": self.student.student.encoder}
        if self.world is not None:
            frozen |= {"world": self.world, "teacher": self.teacher}
        return frozen if self.reward is None or self.reward_learns else {**frozen, "reward": self.reward}

    def parameter_groups(self, schedule: Schedule) -> list[ParameterGroup]:
        return parameter_groups(self.modules(), schedule)

    def train_mode(self) -> None:
        set_modes(self.modules(), self.frozen_modules())

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        # Drawn first: all rows of a seed forget alike. The teacher, whose features are cached, remembers.
        views = None if self.views is None else self.views.of
        moving = batch[: round(self.config.emphasis.standing_share * len(batch))]
        stood = standing_start(moving, self.config.student.plan.dt_s)
        remembered = forgetting(batch, self.config.forgotten_history).history_valid
        told = joined(batch, stood)
        seen = dataclasses.replace(told, history_valid=torch.cat([remembered, stood.history_valid]))
        output = self.student(seen, views, moving.earlier_from_present)
        losses = student_losses(output, told, self.config.losses)
        # What is made up stays out of rules and distillation.
        output = _part(output, len(batch))
        if self.distillation.rule_losses > 0:
            by_rule = rule_losses(output.plan.positions, batch, self.grid)
            losses |= by_rule
            losses["total"] = losses["total"] + self.distillation.rule_losses * sum(by_rule.values())
        if self.queries is not None:
            losses["policy"] = self._by_kept_queries(output, batch, share)
            losses["total"] = losses["total"] + self.distillation.policy * losses["policy"]
            output, batch = self._asked_about(output, batch)
        if self.distillation.world_reward > 0 or (self.distillation.needs_teacher and self.queries is None):
            current = present_features(self.world, batch, self.features)
            distil = self._by_step if isinstance(self.teacher, ReferenceTeacher) else self._by_candidates
            added, weighted = distil(output, batch, current, share)
            losses |= added
            losses["total"] = losses["total"] + weighted
        return losses

    def _asked_about(self, output: StudentTraining, batch: Batch) -> tuple[StudentTraining, Batch]:
        """Return the part of a batch for which the future is rolled out: its first samples, whose order is random."""
        count = max(1, round(self.distillation.reward_share * len(batch)))
        return _part(output, count), batch[:count]

    def _by_kept_queries(self, output: StudentTraining, batch: Batch, share: float) -> Tensor:
        which = NEAREST if uses_truth(share, self.distillation.truth_share) else CHOSEN
        kept = self.queries.of(batch.row)[:, which].to(output.projected.device)
        return policy_loss(output.projected, kept)

    def _by_candidates(
        self, output: StudentTraining, batch: Batch, current: Tensor, share: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the distillation losses of a compact teacher by name, and their weighted sum."""
        distillation = self.distillation
        with torch.no_grad():
            candidates, frames = self.teacher.plan_candidates(self.world, current, batch.command, batch.motion)
        logits = self._reward_logits(candidates, frames)
        in_truth = uses_truth(share, distillation.truth_share)
        winner = self._winner(candidates, logits, batch, in_truth)
        losses, weighted = {}, output.projected.new_zeros(())
        if distillation.policy > 0 and self.queries is None:
            losses["policy"] = policy_loss(output.projected, picked(candidates.queries, winner))
            weighted = weighted + distillation.policy * losses["policy"]
        if distillation.world_reward > 0:
            changes = self._changes(output)
            target = self._target(logits, candidates, frames, batch, winner, in_truth, changes)
            losses["world_reward"] = self._eq_16(output, frames, target, changes)
            weighted = weighted + distillation.world_reward * losses["world_reward"]
        if self.reward_learns:
            inputs = self.rules.inputs(batch, frames, share)
            shuffle = (int(torch.randint(2**31, (1,))), 0)
            targets = reward_targets(inputs, candidates.positions, self.config.reward, shuffle=shuffle)
            imitation = imitation_loss(logits.imitation, targets.imitation, targets.valid)
            simulation = simulation_loss(logits.simulation, targets.simulation, targets.valid)
            return self._with_own(losses, weighted, imitation, simulation)
        return losses, weighted

    def _reward_logits(self, candidates: Candidates, frames: Tensor) -> RewardLogits | None:
        if self.reward is None:
            return None
        with torch.set_grad_enabled(self.reward_learns):
            return self.reward(frames, candidates.positions)

    def _winner(
        self, candidates: Candidates, logits: RewardLogits | None, batch: Batch, in_truth: bool
    ) -> Tensor:
        if in_truth:
            return nearest_candidate(candidates.positions, batch.future, batch.future_valid)
        with torch.no_grad():
            return teacher_choice(
                self.distillation.teacher_choice,
                candidates,
                reward_scores=None if logits is None else logits.score(self.config.reward),
                imitation_logits=None if logits is None else logits.imitation,
                future=batch.future,
                future_valid=batch.future_valid,
            )

    def _target(
        self,
        logits: RewardLogits,
        candidates: Candidates,
        frames: Tensor,
        batch: Batch,
        winner: Tensor,
        in_truth: bool,
        changes: Tensor | None,
    ) -> Target:
        if in_truth:
            return truth_target(self.reward, frames, batch.future, batch.future_valid, changes)
        if changes is not None:
            return path_target(self.reward, frames, picked(candidates.positions, winner), changes)
        coupled, variant = self.distillation.reward_model == "coupled", self.distillation.logits
        raw = raw_logits(self.reward, frames, candidates.positions, learns=True) if coupled else side_by_side(logits)
        return teacher_target(raw, winner, variant, detached=not coupled)

    def _changes(self, output: StudentTraining) -> Tensor | None:
        share = self.distillation.smoothing
        return neighbour_changes(output.plan.positions, share) if share > 0 else None

    def _eq_16(self, output: StudentTraining, frames: Tensor, target: Target, changes: Tensor | None) -> Tensor:
        coupled = self.distillation.reward_model == "coupled"
        return world_reward_loss(
            self.reward, frames, output.plan.positions, target, self.distillation.logits, coupled=coupled, changes=changes
        )

    def _by_step(
        self, output: StudentTraining, batch: Batch, current: Tensor, share: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The same for the reference teacher: its chain of choices is the one candidate, by truth in the first part."""
        distillation, in_truth = self.distillation, uses_truth(share, self.distillation.truth_share)
        by_target = TargetChoice(
            self.reward if self.reward_learns else None, self.config.reward, self.config.steps,
            lambda frames: self.rules.inputs(batch, frames, share), nearest=True,
        )  # fmt: skip
        by_teacher = by_reward(self.reward) if distillation.teacher_choice == "reward" else cheapest

        def choose(decision: StepDecision) -> Tensor:
            with torch.set_grad_enabled(self.reward_learns):
                nearest = by_target(decision)
            return nearest if in_truth else by_teacher(decision)

        with torch.no_grad():
            plan = self.teacher.roll(self.world, current, batch.command, choose, motion=batch.motion)
        losses, weighted = {}, output.projected.new_zeros(())
        if distillation.policy > 0:
            losses["policy"] = policy_loss(output.projected, plan.queries)
            weighted = weighted + distillation.policy * losses["policy"]
        if distillation.world_reward > 0:
            changes = self._changes(output)
            if in_truth:
                target = truth_target(self.reward, plan.frames, batch.future, batch.future_valid, changes)
            else:
                target = path_target(self.reward, plan.frames, plan.positions, changes)
            losses["world_reward"] = self._eq_16(output, plan.frames, target, changes)
            weighted = weighted + distillation.world_reward * losses["world_reward"]
        imitation, simulation = by_target.losses()
        return self._with_own(losses, weighted, imitation, simulation)

    def _with_own(
        self, losses: dict[str, Tensor], weighted: Tensor, imitation: Tensor | None, simulation: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Add the reward model's own losses where it learns."""
        if imitation is None or simulation is None:
            return losses, weighted
        losses |= {"imitation_reward": imitation, "simulation_reward": simulation}
        weights = self.config.losses
        return losses, weighted + weights.imitation_reward * imitation + weights.simulation_reward * simulation

    def settings(self) -> dict[str, Any]:
        return self._settings


def _part(output: StudentTraining, count: int) -> StudentTraining:
    """Return the first samples, in what rules and distillation read of them."""
    plan = output.plan._replace(positions=output.plan.positions[:count])
    return output._replace(plan=plan, projected=output.projected[:count])


def load_training_student(config: ExperimentConfig, distillation: DistillationConfig, folder: Path) -> TrainingStudent:
    """Return the student of a finished run with its training-only heads; evaluation.export takes the network alone."""
    width = config.teacher.channels if distillation.policy > 0 else None
    student = TrainingStudent(config.student, config.data, teacher_channels=width)
    load_weights(folder, {"student": student})
    return student
