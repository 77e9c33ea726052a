"""Training of the teacher and its reward model on the frozen world model's predictions. Once for each variant and seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.data.batch import Batch
from wpt_training.reward.combination import choose, combine_targets
from wpt_training.reward.reward_losses import (
    distance_to_future,
    imitation_loss,
    imitation_target,
    reward_targets,
    simulation_loss,
)
from wpt_training.reward.reward_model import RewardModel
from wpt_training.reward.rules import RuleInputs
from wpt_training.stages.frozen_features import FrozenFeatures
from wpt_training.stages.present_features import present_features
from wpt_training.stages.rule_source import RuleSource
from wpt_training.stages.settings import plain_settings, seeded
from wpt_training.stages.step_rewards import TargetChoice
from wpt_training.teacher.build_teacher import build_teacher
from wpt_training.teacher.candidates import Candidates
from wpt_training.teacher.compact_teacher import CompactTeacher
from wpt_training.teacher.reference_teacher import ReferenceTeacher
from wpt_training.teacher.teacher_losses import (
    nearest_candidate,
    reference_teacher_losses,
    teacher_losses,
)
from wpt_training.trainer.checkpoint import load_weights
from wpt_training.trainer.schedule import ParameterGroup, parameter_groups
from wpt_training.trainer.stage import freeze, set_modes, signature_of
from wpt_training.world.world_model import OccupancyWorldModel


class TeacherStage:
    """Trains "teacher" and "reward" (none where both reward losses weigh nothing and candidates are chosen by distance).

    Two things are judged apart. The reward model is to score the refined trajectory it is given, so its targets are those
    of that trajectory. Which candidate learns from the true future is decided by its anchor's distance, with the rules of
    the refined trajectory: by the refined one's distance, whichever candidate is ahead would win ever more often and the
    others never learn (the authors too measure the anchor).

    world: frozen here. anchors: [commands, K, T, 2] of the compact kind. seed: of the first weights. features: cached F_0.
    agreement: of the world model's occupancy with the truth (RuleSource).
    """

    name = "teacher"

    def __init__(
        self,
        config: ExperimentConfig,
        world: OccupancyWorldModel,
        anchors: Tensor | None,
        *,
        seed: int,
        features: FrozenFeatures | None = None,
        agreement: float | None = None,
        ego_inputs: tuple[str, ...] = (),
    ):
        self.config, self.world, self.features = config, freeze(world), features
        self.rules = RuleSource(config, world, agreement)
        with seeded(seed):
            self.teacher = build_teacher(config, anchors, ego_inputs=ego_inputs)
            self.reward = build_reward(config)
        self._settings = plain_settings(
            teacher=config.teacher,
            reward=config.reward,
            losses=config.losses,
            bev=config.student.bev,
            truth_share=self.rules.truth_share,
            ego_inputs=ego_inputs,
            anchors=signature_of(self.teacher) if anchors is not None else None,
            world=signature_of(world),
            cached_features=features is not None,
        )

    def modules(self) -> dict[str, nn.Module]:
        trained: dict[str, nn.Module] = {"teacher": self.teacher}
        return trained if self.reward is None else {**trained, "reward": self.reward}

    def frozen_modules(self) -> dict[str, nn.Module]:
        return {"world": self.world}

    def parameter_groups(self, schedule: Schedule) -> list[ParameterGroup]:
        return parameter_groups(self.modules(), schedule)

    def train_mode(self) -> None:
        set_modes(self.modules(), self.frozen_modules())

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        current = present_features(self.world, batch, self.features)
        if isinstance(self.teacher, ReferenceTeacher):
            return self._reference_losses(batch, current, share)
        weights = self.config.losses
        planned = self.teacher.plan_with_first_pass(self.world, current, batch.command, batch.motion)
        candidates = planned.candidates
        if self.reward is None:
            chosen = nearest_candidate(candidates.anchors, batch.future, batch.future_valid)
            imitation = simulation = None
        else:
            inputs = self.rules.inputs(batch, planned.frames, share)
            chosen, imitation, simulation = self._judged(candidates, planned.frames, inputs)
        losses = teacher_losses(
            candidates, planned.first_pass, batch, weights, chosen,
            imitation_reward=imitation, simulation_reward=simulation,
        )  # fmt: skip
        distances = distance_to_future(candidates.positions, batch.future, batch.future_valid)
        return {**losses, "oracle_m": distances.amin(dim=1).mean()}

    def _judged(self, candidates: Candidates, frames: Tensor, inputs: RuleInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return which candidate learns [B], and the reward model's two losses."""
        reward = self.config.reward
        shuffle = (int(torch.randint(2**31, (1,))), 0)
        targets = reward_targets(inputs, candidates.positions.detach(), reward, shuffle=shuffle)
        by_rule = {rule: targets.simulation[..., i] for i, rule in enumerate(reward.rules)}
        anchored = imitation_target(
            candidates.anchors, inputs.future, inputs.future_valid, reward.imitation_temperature_m
        )
        if self.config.teacher.select_by == "nearest":
            chosen = choose(anchored)
        else:
            chosen = choose(combine_targets(anchored, by_rule, reward.rules, reward.weights))
        # The reward model judges trajectories and does not shape them: where its simulation heads train the feature that
        # they share with the imitation head, a failing candidate would be moved to where it fails more plainly.
        positions = candidates.positions if reward.detach_simulation else candidates.positions.detach()
        logits = self.reward(frames, positions)
        return (
            chosen,
            imitation_loss(logits.imitation, targets.imitation, targets.valid),
            simulation_loss(logits.simulation, targets.simulation, targets.valid),
        )

    def _reference_losses(self, batch: Batch, current: Tensor, share: float) -> dict[str, Tensor]:
        choice = TargetChoice(
            self.reward, self.config.reward, self.config.steps,
            lambda frames: self.rules.inputs(batch, frames, share),
            nearest=self.config.teacher.select_by == "nearest",
        )  # fmt: skip
        plan = self.teacher.roll(self.world, current, batch.command, choice, motion=batch.motion)
        imitation, simulation = choice.losses()
        return reference_teacher_losses(
            plan, batch, self.config.losses, imitation_reward=imitation, simulation_reward=simulation
        )

    def settings(self) -> dict[str, Any]:
        return self._settings


def build_reward(config: ExperimentConfig) -> RewardModel | None:
    """Return a reward model with weights drawn from torch's random state; None for a teacher without one."""
    weights = config.losses
    if config.teacher.select_by == "nearest" and weights.imitation_reward == weights.simulation_reward == 0:
        return None
    channels = config.world.network.architecture.bev_encoder.channels
    return RewardModel(config.reward, channels, config.steps, config.student.bev)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedTeacher:
    """A teacher and its reward model (None without one), frozen."""

    teacher: CompactTeacher | ReferenceTeacher
    reward: RewardModel | None


def load_teacher(config: ExperimentConfig, folder: Path, *, ego_inputs: tuple[str, ...] = ()) -> TrainedTeacher:
    """Return the teacher of a finished run; the anchors come with the weights."""
    anchors = None
    if config.teacher.kind == "compact":
        anchors = torch.zeros(config.commands, config.teacher.candidates, config.steps, 2)
    teacher, reward = build_teacher(config, anchors, ego_inputs=ego_inputs), build_reward(config)
    modules: dict[str, nn.Module] = {"teacher": teacher}
    if reward is not None:
        modules["reward"] = reward
    load_weights(folder, modules)
    for module in modules.values():
        freeze(module)
    return TrainedTeacher(teacher=teacher, reward=reward)
