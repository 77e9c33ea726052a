"""What the student learns from the teacher: its queries (Eq 15) and what its reward model thinks of the
student (Eq 16).

Shape letters: B samples, K candidates, T steps, R simulation heads; a reward model's raw logits stand side by
side as [B, K, 1 + R], the imitation head first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wpt_training.errors import TrainingError
from wpt_training.reward.combination import choose
from wpt_training.reward.footprint import chords
from wpt_training.reward.reward_model import RewardLogits, RewardModel
from wpt_training.teacher.candidates import Candidates, picked
from wpt_training.teacher.teacher_losses import nearest_candidate

VARIANTS = ("all", "imitation", "best_per_head")
# Neighbours of a path over which its logits are averaged where they are smoothed.
NEIGHBOURS = 16


class Target(NamedTuple):
    """What Eq 16 pulls the student's logits to. logits: [B, 1 + R]; known: [B] bool, False leaves a sample
    out.
    """

    logits: Tensor
    known: Tensor


def policy_loss(
    student_queries: Tensor, teacher_queries: Tensor, projector: nn.Module | None = None
) -> Tensor:
    """Eq 15 as a mean squared error. student_queries: [B, T, Ds]; teacher_queries: [B, T, Dt] of the chosen
    candidate, which get no gradient. projector: Ds to Dt, where the widths differ.
    """
    projected = student_queries if projector is None else projector(student_queries)
    if projected.shape != teacher_queries.shape:
        raise TrainingError(
            f"the student's queries are {list(projected.shape)} and the teacher's "
            f"{list(teacher_queries.shape)}, expected the same; give the training student the teacher's width."
        )
    return (projected.float() - teacher_queries.detach().float()).square().mean()


def raw_logits(
    reward_model: RewardModel, frames: Tensor, candidates: Tensor, *, learns: bool = False
) -> Tensor:
    """Return a reward model's raw logits [B, K, 1 + R] of candidates [B, K, T, 2] on frames [B, 1 + T, C, X,
    Y].

    learns False: gradients reach the candidates but none of the reward model's parameters, and its buffers
    stay as they are, whatever its mode. The simulation heads read the fused feature undetached here, else
    nothing of them would reach the student.
    """
    reading = {"detach_simulation": False}
    if learns:
        logits = reward_model(frames, candidates, **reading)
    else:
        tensors = {name: parameter.detach() for name, parameter in reward_model.named_parameters()}
        tensors |= {name: buffer.clone() for name, buffer in reward_model.named_buffers()}
        logits = functional_call(reward_model, tensors, (frames, candidates), reading)
    return side_by_side(logits)


def side_by_side(logits: RewardLogits) -> Tensor:
    """Return a reward model's raw logits as one tensor [B, K, 1 + R]."""
    return torch.cat([logits.imitation.unsqueeze(-1), logits.simulation], dim=-1).float()


def smooth_part(positions: Tensor) -> Tensor:
    """Return the nearest paths of constant acceleration from the ego: [..., T, 2] fitted with t and t^2 by least squares.

    With fewer than three steps that is the path itself. In float32, under autocast too: at 20 m bfloat16 knows 0.1 m.
    """
    with torch.autocast(positions.device.type, enabled=False):
        basis = _basis(positions.shape[-2], positions.device)
        return basis @ (torch.linalg.pinv(basis) @ positions.float())


def neighbour_changes(positions: Tensor, share: float, count: int = NEIGHBOURS) -> Tensor:
    """Return [B, count, T, 2] changes of paths [B, T, 2], drawn from torch's random state: a t + b t^2 with t = 1 at the
    last step, a and b normal with a standard deviation of a share of the path's length. A path that stays has none.
    """
    with torch.autocast(positions.device.type, enabled=False):
        positions = positions.detach().float()
        basis = _basis(positions.shape[-2], positions.device)
        drawn = torch.randn(len(positions), count, basis.shape[1], 2).to(positions.device)
        length = chords(positions).norm(dim=-1).sum(dim=-1)
        return share * length[:, None, None, None] * (basis @ drawn)


def path_logits(reward_model: RewardModel, frames: Tensor, positions: Tensor, changes: Tensor | None) -> Tensor:
    """Return raw logits [B, 1 + R] of one path a sample [B, T, 2]; with changes (neighbour_changes) smoothed.

    Smoothed logits are the mean over the path's neighbours, and of their gradient the path gets the smooth part alone: a
    change of speed, of direction and of acceleration. A reward model has seen a few smooth candidates a sample; between
    them it is rough. On dev the slope as printed had a cosine of 0.10 with the way from a student's plan to the true future,
    smoothed 0.42 (training/README.md).
    """
    if changes is None:
        return raw_logits(reward_model, frames, positions.unsqueeze(1))[:, 0]
    smooth = smooth_part(positions)
    path = smooth + (positions.float() - smooth).detach()
    return raw_logits(reward_model, frames, path.unsqueeze(1) + changes).mean(dim=1)


def _basis(steps: int, device: torch.device) -> Tensor:
    time = torch.arange(1, steps + 1, device=device, dtype=torch.float32) / steps
    return torch.stack([time, time.square()], dim=1)


def teacher_target(logits: Tensor, winner: Tensor, variant: str = "all", *, detached: bool = True) -> Target:
    """Return the target from the teacher's candidates.

    logits: [B, K, 1 + R]; winner: [B] the one candidate that wins Eq 14 (teacher_choice). variant
    "best_per_head" takes each head's own best candidate instead, as the authors' code does; "imitation"
    differs in the loss alone. detached: no gradient into the teacher's side.
    """
    _check(variant)
    target = logits.amax(dim=1) if variant == "best_per_head" else picked(logits, winner)
    return Target(target.detach() if detached else target, torch.ones_like(winner, dtype=torch.bool))


def path_target(reward_model: RewardModel, frames: Tensor, positions: Tensor, changes: Tensor | None) -> Target:
    """Return one path's logits as a target without gradient. positions: [B, T, 2] of the teacher's choice."""
    with torch.no_grad():
        logits = path_logits(reward_model, frames, positions, changes)
    return Target(logits, torch.ones(len(positions), dtype=torch.bool, device=positions.device))


def truth_target(
    reward_model: RewardModel, frames: Tensor, future: Tensor, future_valid: Tensor, changes: Tensor | None = None
) -> Target:
    """Return the target of the first part of the curriculum: the logits of the true trajectory, without
    gradient.

    future: [B, T, 2 or more]; a sample whose future is not known to the end is left out. changes: as in path_logits.
    """
    known = future_valid.all(dim=1)
    true = torch.where(known[:, None, None], future[..., :2].float(), torch.zeros_like(future[..., :2]))
    return path_target(reward_model, frames, true, changes)._replace(known=known)


def world_reward_loss(
    reward_model: RewardModel,
    frames: Tensor,
    student_positions: Tensor,
    target: Target,
    variant: str = "all",
    *,
    coupled: bool = False,
    changes: Tensor | None = None,
) -> Tensor:
    """Eq 16: the mean squared difference of raw logits between the student's plan [B, T, 2] and the target.

    Raw, since a softmax over a single trajectory is always 1. variant "imitation": of that head alone. The
    reward model gets no gradient, only the student's positions do; coupled (the authors' variant): it does,
    and learns by this too. changes: as in path_logits, those of the target; not with
    coupled.
    """
    _check(variant)
    if coupled and changes is not None:
        raise TrainingError("smoothed logits and a reward model that learns from Eq 16 do not go together; give one of them.")
    if coupled:
        logits = raw_logits(reward_model, frames, student_positions.unsqueeze(1), learns=True)[:, 0]
    else:
        logits = path_logits(reward_model, frames, student_positions, changes)
    squared = (logits - target.logits).square()
    squared = squared[:, :1] if variant == "imitation" else squared
    kept = torch.where(target.known.unsqueeze(1), squared, torch.zeros_like(squared))
    return kept.sum() / (target.known.sum().clamp(min=1) * squared.shape[1])


def uses_truth(share: float, truth_share: float) -> bool:
    """Return whether the curriculum is in its first part. share: done part of the stage, in [0, 1)."""
    return share < truth_share


def teacher_choice(
    kind: str,
    candidates: Candidates,
    *,
    reward_scores: Tensor | None = None,
    imitation_logits: Tensor | None = None,
    future: Tensor | None = None,
    future_valid: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return [B] int64, the teacher's candidate by DistillationConfig.teacher_choice.

    "reward": best reward_scores [B, K] (Eq 14 from predictions, RewardLogits.score). "imitation": best
    imitation_logits [B, K]. "confidence": the teacher's own. "random": by ``generator`` (torch's own where
    None). "oracle": nearest to the true future.
    """
    batch, count = candidates.confidence.shape
    if kind == "confidence":
        return candidates.confidence.argmax(dim=1)
    if kind == "random":
        return torch.randint(count, (batch,), generator=generator).to(candidates.confidence.device)
    if kind == "reward" and reward_scores is not None:
        return choose(reward_scores)
    if kind == "imitation" and imitation_logits is not None:
        return choose(imitation_logits)
    if kind == "oracle" and future is not None and future_valid is not None:
        return nearest_candidate(candidates.positions, future, future_valid)
    raise TrainingError(
        f"teacher_choice is {kind!r} and what it chooses by is missing or unknown: use 'reward' with "
        "scores, 'imitation' with logits, 'oracle' with the future, 'confidence' or 'random'."
    )


def _check(variant: str) -> None:
    if variant not in VARIANTS:
        raise TrainingError(f"Eq 16's variant {variant!r} is unknown: choose {', '.join(VARIANTS)}.")
