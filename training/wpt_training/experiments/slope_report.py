"""Where does Eq 16 push a student's plan? Its gradient at the plans of a student without a teacher, as printed and smoothed.

A reward that helps pushes towards what is better. Followed by MOVED_M on average, does the plan come nearer to the true
future, and does it stay on the road?
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.errors import TrainingError
from wpt_training.evaluation.predictions import student_predictor
from wpt_training.experiments.candidate_reports import require_whole_trajectories
from wpt_training.experiments.job_run import report_batches
from wpt_training.experiments.jobs import PUSHED_STUDENT
from wpt_training.experiments.open_loop import trained_student, trained_teacher
from wpt_training.experiments.rows import FULL
from wpt_training.reward.rules import RuleInputs, rule_inputs, score_rules
from wpt_training.stages.settings import seeded
from wpt_training.student.distillation import Target, neighbour_changes, path_target, truth_target, world_reward_loss
from wpt_training.world.world_model import observe_batch

if TYPE_CHECKING:
    from wpt_training.experiments.job_run import Place

SPLIT, SAMPLES = "dev", 500
MOVED_M = 0.3
TARGETS = ("truth", "teacher")
WAYS = {"as printed": 0.0, "smoothed": FULL.smoothing}


def slope_report(place: Place, row: str, seed: int) -> dict[str, Any]:
    """Return, by way (WAYS) and target (TARGETS), means over dev samples with a whole future.

    gradient_norm: of Eq 16 by the plan [T, 2], 1 / m (an L2 loss averaged over T steps has 1 / sqrt(T)). cosine: of its
    negative with the way from plan to truth. distance_m and each rule: change of the mean distance to the truth and of the
    rule's score where the plan is moved by MOVED_M down the gradient. Raises TrainingError for a teacher without a reward
    model, or of the reference kind.
    """
    require_whole_trajectories(place, row)
    parts = trained_teacher(place, row, seed).to(place.device).eval()
    if parts.reward is None:
        raise TrainingError(f"{row} has no reward model, so Eq 16 has nothing to say: name another teacher.")
    network, config = trained_student(place, PUSHED_STUDENT, seed)
    predictor = student_predictor(network.to(place.device), config.student)
    reward, grid = parts.config.reward, occupancy_grid(parts.config.student, parts.config.data)
    found: dict[tuple[str, str], list[Tensor]] = {}
    with seeded(seed):
        for batch in report_batches(place, place.cache(SPLIT), f"slopes of {row}", most=SAMPLES):
            with torch.no_grad():
                decision = parts.decide(observe_batch(parts.world, batch), batch.command, batch.motion)
                plans = predictor(batch).float()
            known, inputs = batch.future_valid.all(dim=1), rule_inputs(batch, grid)

            def judge(positions: Tensor, inputs: RuleInputs = inputs) -> Tensor:
                scores = score_rules(inputs, positions.unsqueeze(1), reward.rules, progress=reward.progress)
                return torch.stack([scores[rule][:, 0].float() for rule in reward.rules], dim=1)

            for way, share in WAYS.items():
                changes = neighbour_changes(plans, share) if share > 0 else None
                for name in TARGETS:
                    target = (
                        truth_target(parts.reward, decision.frames, batch.future, batch.future_valid, changes)
                        if name == "truth"
                        else path_target(parts.reward, decision.frames, decision.plan.float(), changes)
                    )
                    slope = _slope(parts.reward, decision.frames, plans, target, changes)
                    effect = _effect(slope, plans, batch.future[..., :2].float(), judge)
                    found.setdefault((way, name), []).append(effect[known].cpu())
    names = ("gradient_norm", "cosine", "distance_m", *reward.rules)
    slopes: dict[str, dict[str, dict[str, float]]] = {way: {} for way in WAYS}
    for (way, name), effects in found.items():
        slopes[way][name] = dict(zip(names, torch.cat(effects).mean(dim=0).tolist(), strict=True))
    samples = sum(len(effects) for effects in next(iter(found.values())))
    return {"samples": samples, "split": SPLIT, "student": PUSHED_STUDENT, "moved_m": MOVED_M, "smoothing": FULL.smoothing, "slopes": slopes}


def _slope(reward: torch.nn.Module, frames: Tensor, plans: Tensor, target: Target, changes: Tensor | None) -> Tensor:
    """Return each sample's own gradient of Eq 16 by its plan [B, T, 2]."""
    positions = plans.clone().requires_grad_(True)
    loss = world_reward_loss(reward, frames, positions, target, changes=changes)
    # The loss is a mean over samples whose target is known; each has only its own plan in it.
    (gradient,) = torch.autograd.grad(loss * target.known.sum().clamp(min=1), positions)
    return gradient


def _effect(slope: Tensor, plans: Tensor, future: Tensor, judge: Callable[[Tensor], Tensor]) -> Tensor:
    """Return [B, 3 + R]: norm, cosine, change of the mean distance, change of each rule's score."""
    down = -slope
    moved = plans + MOVED_M * down / down.norm(dim=-1).mean(dim=1).clamp(min=1e-9)[:, None, None]
    distance = (moved - future).norm(dim=-1).mean(dim=1) - (plans - future).norm(dim=-1).mean(dim=1)
    cosine = torch.cosine_similarity(down.flatten(1), (future - plans).flatten(1), dim=1)
    figures = torch.stack([slope.flatten(1).norm(dim=1), cosine, distance], dim=1)
    return torch.cat([figures, judge(moved) - judge(plans)], dim=1)
