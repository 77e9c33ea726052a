"""Training of the reference teacher's reward model, which judges one displacement at a time (teacher.step_choice)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wpt_training.configuration import RewardConfig
from wpt_training.reward.combination import choose
from wpt_training.reward.reward_losses import imitation_loss, shuffled_targets, simulation_loss
from wpt_training.reward.reward_model import RewardModel
from wpt_training.reward.rules import RuleInputs
from wpt_training.teacher.reference_teacher import StepDecision
from wpt_training.teacher.step_choice import step_logits, step_targets


class KnownFrames:
    """Frames of a roll-out at a decision. steps: T."""

    def __init__(self, steps: int):
        self._steps = steps

    def at(self, decision: StepDecision) -> Tensor:
        """Return [B, 1 + T, C, X, Y]: frames up to this decision, the newest standing for those to come."""
        return decision.all_frames(self._steps)


class TargetChoice:
    """A chooser for ReferenceTeacher.roll in training: the best candidate by the targets; keeps the reward model's losses.

    rule_inputs: frames [B, 1 + T, C, X, Y] -> what the rules read. nearest: choose by the anchors' distance alone.
    reward: None without a reward model.
    """

    def __init__(
        self,
        reward: RewardModel | None,
        config: RewardConfig,
        steps: int,
        rule_inputs: Callable[[Tensor], RuleInputs],
        *,
        nearest: bool,
    ):
        self._reward, self._config, self._steps = reward, config, steps
        self._inputs_of, self._nearest = rule_inputs, nearest
        self._imitation: list[Tensor] = []
        self._simulation: list[Tensor] = []

    def __call__(self, decision: StepDecision) -> Tensor:
        targets = step_targets(self._inputs_of(decision.all_frames(self._steps)), decision, self._config)
        if self._reward is not None:
            simulation = targets.simulation
            if self._config.shuffled_targets:
                simulation = shuffled_targets(simulation, int(torch.randint(2**31, (1,))), decision.step)
            judged = decision
            if not self._config.detach_simulation:
                # It judges what is put forward and does not move it (TeacherStage._judged).
                judged = decision._replace(positions=decision.positions.detach(), before=decision.before.detach())
            logits = step_logits(self._reward, judged)
            self._imitation.append(imitation_loss(logits.imitation, targets.imitation, targets.valid))
            self._simulation.append(simulation_loss(logits.simulation, simulation, targets.valid))
        return choose(targets.imitation) if self._nearest else targets.chosen

    def losses(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the means over steps of the imitation and simulation losses, None without a reward model."""
        if self._reward is None:
            return None, None
        return torch.stack(self._imitation).mean(), torch.stack(self._simulation).mean()
