"""Targets and losses of the reward model (Eq 11 to 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wpt_training.configuration import RewardConfig
from wpt_training.errors import TrainingError
from wpt_training.reward.combination import choose, combine_targets
from wpt_training.reward.rules import RuleInputs, score_rules


def distance_to_future(candidates: Tensor, future: Tensor, valid: Tensor) -> Tensor:
    """Return [B, K] the mean distance (m) over valid steps of candidates [B, K, T, 2] to future [B, T, 2 or
    more].

    0 for a sample without a valid step.
    """
    apart = torch.linalg.vector_norm(candidates.float() - future[:, None, :, :2].float(), dim=-1)
    apart = torch.where(valid.unsqueeze(1), apart, 0.0)
    return apart.sum(-1) / valid.sum(-1, keepdim=True).clamp(min=1)


@torch.no_grad()
def imitation_target(
    candidates_or_anchors: Tensor, future: Tensor, valid: Tensor, temperature: float
) -> Tensor:
    """Return [B, K]: softmax over candidates of minus the mean distance to the true future, over the
    temperature (m).

    Eq 11; as printed its two minus signs cancel. Uniform for a sample without a valid step.
    """
    return torch.softmax(-distance_to_future(candidates_or_anchors, future, valid) / temperature, dim=-1)


def imitation_loss(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Eq 12: cross entropy of softmax(logits [B, K]) against target [B, K], mean over samples.

    valid: [B] bool, samples that count (all); without any the loss is 0.
    """
    each = -(target * torch.log_softmax(logits.float(), dim=-1)).sum(-1)
    return _masked_mean(each, valid)


def simulation_loss(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Eq 13: binary cross entropy of sigmoid(logits) against target, [B, K, R] both, mean over everything.

    valid: [B] bool, samples that count (all); without any, or without a rule, the loss is 0.
    """
    if logits.shape[-1] == 0:
        return logits.sum()
    each = functional.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    return _masked_mean(each.mean((-2, -1)), valid)


def _masked_mean(each: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return each.mean()
    return torch.where(valid, each, 0.0).sum() / valid.sum().clamp(min=1)


def stacked(scores: Mapping[str, Tensor], rules: Sequence[str]) -> Tensor:
    """Return [B, K, R] in the order of rules."""
    missing = [rule for rule in rules if rule not in scores]
    if missing:
        raise TrainingError(
            f"scores of {', '.join(missing)} are missing, expected one of each rule; score them as well."
        )
    if not rules:
        some = next(iter(scores.values()), torch.zeros(0, 0))
        return some.new_zeros(*some.shape, 0)
    return torch.stack([scores[rule] for rule in rules], dim=-1)


def shuffled_targets(target: Tensor, seed: int, step: int) -> Tensor:
    """Return simulation targets [B, K, R] dealt out anew among all candidates of the batch: a control.

    A candidate's targets stay together, so each rule's frequency and their correlation remain; what is lost
    is which candidate they belong to. The order follows from seed and step alone.
    """
    flat = target.flatten(0, 1)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    order = torch.randperm(len(flat), generator=generator).to(target.device)
    return flat[order].reshape(target.shape)


@dataclass(frozen=True, kw_only=True)
class RewardTargets:
    """imitation [B, K]; simulation [B, K, R] in the order of RewardConfig.rules; scores [B, K] Eq 14 from the
    targets; chosen [B] the candidate that gets the imitation loss of the plan; valid [B], samples with a
    valid step."""

    imitation: Tensor
    simulation: Tensor
    scores: Tensor
    chosen: Tensor
    valid: Tensor


@torch.no_grad()
def reward_targets(
    inputs: RuleInputs,
    candidates: Tensor,
    config: RewardConfig,
    *,
    anchors: Tensor | None = None,
    shuffle: tuple[int, int] | None = None,
) -> RewardTargets:
    """Return what the reward model is to say of candidates [B, K, T, 2], and the best of them by Eq 14.

    anchors: [B, K, T, 2], whose distance to the future is the imitation target (the paper's way), else the
    candidates'. shuffle: (seed, step), needed when config.shuffled_targets; the choice then follows from the
    shuffled targets too, as it would from a world that knows nothing.
    """
    scores = score_rules(inputs, candidates, config.rules, progress=config.progress)
    imitation = imitation_target(
        candidates if anchors is None else anchors,
        inputs.future, inputs.future_valid, config.imitation_temperature_m,
    )  # fmt: skip
    simulation = stacked(scores, config.rules) if config.rules else imitation.new_zeros(*imitation.shape, 0)
    if config.shuffled_targets:
        if shuffle is None:
            raise TrainingError(
                "shuffled targets need (seed, step), so that a resumed run deals the same; hand them over."
            )
        simulation = shuffled_targets(simulation, *shuffle)
        scores = {rule: simulation[..., i] for i, rule in enumerate(config.rules)}
    combined = combine_targets(imitation, scores, config.rules, config.weights)
    return RewardTargets(
        imitation=imitation,
        simulation=simulation,
        scores=combined,
        chosen=choose(combined),
        valid=inputs.future_valid.any(1),
    )
