"""Are a teacher's candidates worth choosing among? Figures of one split, by part, with the rank check of its reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.errors import TrainingError
from wpt_training.evaluation.head_quality import auroc
from wpt_training.experiments.job_run import report_batches
from wpt_training.experiments.open_loop import trained_teacher
from wpt_training.reward.reward_losses import distance_to_future, imitation_target
from wpt_training.reward.rules import rule_inputs, score_rules
from wpt_training.teacher.candidate_report import CandidateReport
from wpt_training.teacher.candidates import picked
from wpt_training.world.world_model import observe_batch

if TYPE_CHECKING:
    from wpt_training.experiments.job_run import Place

PARTS = ("all", "interactive")


def require_whole_trajectories(place: Place, row: str) -> None:
    """Raise TrainingError for a teacher that decides step by step: its candidates are those of the last step alone."""
    if place.config.teacher.kind == "reference":
        raise TrainingError(
            f"{row} of {place.config.name} chooses one displacement a step and has no whole trajectories to report on: take a "
            "configuration with a compact teacher."
        )


@torch.no_grad()
def candidate_report(place: Place, row: str, seed: int, split: str) -> dict[str, Any]:
    """Return figures of a teacher's candidates on labelled samples evenly over a split (of train: those trained on).

    rank_*_m: mean distance to the truth of the chosen, a random and the best candidate. head_auroc: how well each
    simulation head tells passing from failing candidates. Raises TrainingError for a reference teacher.
    """
    require_whole_trajectories(place, row)
    parts = trained_teacher(place, row, seed).to(place.device)
    config, cache = parts.config, place.cache(split)
    grid = occupancy_grid(config.student, config.data)
    reports = {part: CandidateReport() for part in PARTS}
    heads: dict[str, list[tuple[Tensor, Tensor]]] = {}
    ranks: dict[str, list[Tensor]] = {"chosen": [], "random": [], "oracle": []}
    rows = place.training_rows(cache) if split == "train" else None
    for batch in report_batches(place, cache, f"candidates on {split}", rows=rows):
        decision = parts.decide(observe_batch(parts.world, batch), batch.command, batch.motion)
        found = decision.candidates
        inputs = rule_inputs(batch, grid)
        rules = score_rules(inputs, found.positions, config.reward.rules, progress=config.reward.progress)
        target = imitation_target(
            found.positions, batch.future, batch.future_valid, config.reward.imitation_temperature_m
        )
        interactive = torch.from_numpy(cache.interactive[batch.row.cpu().numpy()]).to(batch.row.device)
        for part, report in reports.items():
            at = interactive if part == "interactive" else torch.ones_like(interactive)
            if at.any():
                report.add(
                    type(found)(*(value[at] for value in found)),
                    batch.future[at],
                    batch.future_valid[at],
                    {rule: values[at] for rule, values in rules.items()},
                    target[at],
                    decision.chosen[at],
                )
        distance = distance_to_future(found.positions, batch.future, batch.future_valid)
        known = batch.future_valid.any(dim=1)
        ranks["chosen"].append(picked(distance, decision.chosen)[known])
        ranks["random"].append(distance.mean(dim=1)[known])
        ranks["oracle"].append(distance.amin(dim=1)[known])
        for rule in config.reward.rules:
            if rule in decision.terms:
                heads.setdefault(rule, []).append((decision.terms[rule][known], rules[rule][known] > 0.5))
    result: dict[str, Any] = {part: report.result() for part, report in reports.items()}
    result["rank"] = {f"rank_{name}_m": float(torch.cat(values).mean()) for name, values in ranks.items()}
    result["head_auroc"] = {
        rule: auroc(torch.cat([p for p, _ in pairs]).flatten(), torch.cat([t for _, t in pairs]).flatten())
        for rule, pairs in heads.items()
    }
    return {"split": split, "candidates": result}
