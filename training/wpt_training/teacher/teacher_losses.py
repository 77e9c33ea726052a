"""What the teacher's plan decoder learns from. Shape letters: B samples, K candidates, T steps.

The reward model's own losses (reward.reward_losses) are handed in, since they train the decoder too, through
the positions that the reward model scores.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wpt_training.configuration import LossWeights
from wpt_training.data.batch import Batch
from wpt_training.errors import TrainingError
from wpt_training.reward.combination import choose
from wpt_training.reward.reward_losses import distance_to_future
from wpt_training.teacher.candidates import Candidates, picked
from wpt_training.teacher.planning_losses import collision_loss, displacement_loss, sideways_loss
from wpt_training.teacher.reference_teacher import ReferencePlan

# Softness (m) of the confidence's target, softmax(-distance / this).
CONFIDENCE_TEMPERATURE_M = 1.0


@torch.no_grad()
def nearest_candidate(positions: Tensor, future: Tensor, future_valid: Tensor) -> Tensor:
    """Return [B] int64, the candidate of [B, K, T, 2] nearest to the true future."""
    return distance_to_future(positions, future, future_valid).argmin(dim=1)


def trained_candidate(select_by: str, candidates: Candidates, batch: Batch, scores: Tensor | None) -> Tensor:
    """Return [B] int64, which candidate learns from the true future.

    select_by: "nearest", or "reward": the best by ``scores`` [B, K], Eq 14 computed from the targets
    (reward.reward_losses.reward_targets), as at inference it is computed from predictions.
    """
    if select_by == "nearest":
        return nearest_candidate(candidates.positions, batch.future, batch.future_valid)
    if scores is None:
        raise TrainingError(
            "the trained candidate is chosen by reward but no scores are given; pass those of reward_targets."
        )
    return choose(scores)


def confidence_loss(
    candidates: Candidates, batch: Batch, temperature_m: float = CONFIDENCE_TEMPERATURE_M
) -> Tensor:
    """Return the cross entropy of the confidences to softmax(-distance / temperature), over samples with a
    known future.

    The distance is that of the refined positions, which get no gradient by it.
    """
    distance = distance_to_future(candidates.positions.detach(), batch.future, batch.future_valid)
    target = (-distance / temperature_m).softmax(dim=1)
    entropy = -(target * functional.log_softmax(candidates.confidence.float(), dim=1)).sum(dim=1)
    known = batch.future_valid.any(dim=1)
    return torch.where(known, entropy, torch.zeros_like(entropy)).sum() / known.sum().clamp(min=1)


def teacher_losses(
    candidates: Candidates,
    first_pass: Candidates,
    batch: Batch,
    weights: LossWeights,
    chosen: Tensor,
    *,
    imitation_reward: Tensor | None = None,
    simulation_reward: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return scalar losses by name, "total" their sum by ``weights``.

    chosen: [B] of trained_candidate: alone it gets the displacement, sideways and collision losses. The first pass's
    nearest candidate gets a displacement loss too, and both passes' confidences are trained, so that the most
    confident candidate of the first pass is a good condition for the roll-out. imitation_reward,
    simulation_reward: the reward model's losses; None without a reward model.
    """
    positions = picked(candidates.positions, chosen)
    nearest = nearest_candidate(first_pass.positions, batch.future, batch.future_valid)
    losses = {
        "displacement": displacement_loss(positions, batch.future, batch.future_valid),
        "sideways": sideways_loss(positions, batch.future, batch.future_valid),
        "collision": collision_loss(positions, batch, weights.collision),
        "first_displacement": displacement_loss(
            picked(first_pass.positions, nearest), batch.future, batch.future_valid
        ),
        "confidence": confidence_loss(candidates, batch) + confidence_loss(first_pass, batch),
    }
    total = (
        weights.displacement * (losses["displacement"] + losses["first_displacement"])
        + weights.sideways * losses["sideways"]
        + losses["collision"]
        + weights.confidence * losses["confidence"]
    )
    return _with_rewards(losses, total, weights, imitation_reward, simulation_reward)


def reference_teacher_losses(
    plan: ReferencePlan,
    batch: Batch,
    weights: LossWeights,
    *,
    imitation_reward: Tensor | None = None,
    simulation_reward: Tensor | None = None,
) -> dict[str, Tensor]:
    """teacher_losses of the per-step teacher: on the plan that was chosen step by step; it has no confidence
    to train.
    """
    losses = {
        "displacement": displacement_loss(plan.positions, batch.future, batch.future_valid),
        "sideways": sideways_loss(plan.positions, batch.future, batch.future_valid),
        "collision": collision_loss(plan.positions, batch, weights.collision),
    }
    total = (
        weights.displacement * losses["displacement"]
        + weights.sideways * losses["sideways"]
        + losses["collision"]
    )
    return _with_rewards(losses, total, weights, imitation_reward, simulation_reward)


def _with_rewards(
    losses: dict[str, Tensor],
    total: Tensor,
    weights: LossWeights,
    imitation: Tensor | None,
    simulation: Tensor | None,
) -> dict[str, Tensor]:
    for name, loss, weight in (
        ("imitation_reward", imitation, weights.imitation_reward),
        ("simulation_reward", simulation, weights.simulation_reward),
    ):
        if loss is not None:
            losses[name] = loss
            total = total + weight * loss
    return {**losses, "total": total}
