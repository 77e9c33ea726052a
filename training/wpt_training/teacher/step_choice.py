"""How the reference teacher's displacement is chosen at a step: by targets in training, by predictions at
inference.

A step's candidates are judged as trajectories: what was chosen before, the candidate, then on at its pace. So
footprints stand at accumulated poses and meet the occupancy of their arrival time, and one reward model of T
steps serves all steps. Only the arrival that is being chosen is judged. Shape letters: B samples, K
candidates, T steps.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from wpt_training.configuration import RewardConfig
from wpt_training.reward.combination import choose, combine_targets
from wpt_training.reward.contacts import FootprintProbe, step_contacts, time_to_collision
from wpt_training.reward.footprint import poses_along
from wpt_training.reward.reward_losses import RewardTargets, imitation_target, stacked
from wpt_training.reward.reward_model import RewardLogits, RewardModel
from wpt_training.reward.rules import EGO, RuleInputs, score_rules
from wpt_training.teacher.reference_teacher import StepChooser, StepDecision


@torch.no_grad()
def step_targets(inputs: RuleInputs, decision: StepDecision, config: RewardConfig) -> RewardTargets:
    """Return the targets of one step's candidates [B, K] and the best of them by Eq 14.

    The imitation target's distance is that of the anchor's arrival to the true position then; rules judge the
    refined arrival. Where the step is not known everything passes and ``valid`` is False.
    """
    step, steps = decision.step, inputs.future_valid.shape[1]
    arrives = torch.arange(steps, device=inputs.future_valid.device) == step
    paths = decision.trajectories(steps)
    only_now = dataclasses.replace(inputs, future_valid=inputs.future_valid & arrives)
    rules = [rule for rule in config.rules if rule != "TTC"]
    scores = score_rules(only_now, paths, rules, progress=config.progress) if rules else {}
    if "TTC" in config.rules:
        scores["TTC"] = _time_to_collision_at(step, inputs, paths)
    anchors = decision.anchors.unsqueeze(2)
    now = slice(step, step + 1)
    imitation = imitation_target(
        anchors, inputs.future[:, now], inputs.future_valid[:, now], config.imitation_temperature_m
    )
    simulation = stacked(scores, config.rules) if config.rules else imitation.new_zeros(*imitation.shape, 0)
    combined = combine_targets(imitation, scores, config.rules, config.weights)
    return RewardTargets(
        imitation=imitation,
        simulation=simulation,
        scores=combined,
        chosen=choose(combined),
        valid=inputs.future_valid[:, step],
    )


def _time_to_collision_at(step: int, inputs: RuleInputs, paths: Tensor) -> Tensor:
    """TTC [B, K] from the arrival at one step alone, against the occupancy of all known times after it."""
    poses = poses_along(paths.float())
    probe = FootprintProbe(EGO, inputs.grid, paths.device)
    contacts = step_contacts(probe, inputs.occupied, inputs.future_valid, poses)
    # Steps in which a follower is in contact are not judged: all others are declared such.
    others = torch.arange(paths.shape[2], device=paths.device) != step
    only_now = dataclasses.replace(contacts, follower=contacts.follower | others)
    return time_to_collision(probe, inputs.occupied, inputs.future_valid, poses, only_now)


def by_targets(inputs: RuleInputs, config: RewardConfig) -> StepChooser:
    """Choose by Eq 14 from the targets: in training."""
    return lambda decision: step_targets(inputs, decision, config).chosen


def step_logits(reward_model: RewardModel, decision: StepDecision) -> RewardLogits:
    """Return a reward model's logits of one step's candidates, on the frames that are known by then."""
    steps = reward_model.steps
    return reward_model(decision.all_frames(steps), decision.trajectories(steps))


def by_reward(reward_model: RewardModel) -> StepChooser:
    """Choose by Eq 14 from predictions: at inference."""

    @torch.no_grad()
    def chooser(decision: StepDecision) -> Tensor:
        return choose(step_logits(reward_model, decision).score(reward_model.config))

    return chooser
