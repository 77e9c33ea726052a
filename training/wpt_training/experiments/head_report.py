"""Do the reward model's heads tell right from wrong, and are their probabilities what they say? On the teacher's own
candidates, on which it was trained, and on plans of students, which it never saw and is asked to judge by Eq 16.

A student's plan goes through the reward model on the teacher's frames as one more candidate; truth is reward.rules on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.errors import TrainingError
from wpt_training.evaluation.head_quality import head_figures
from wpt_training.evaluation.predictions import Predictor, student_predictor
from wpt_training.experiments.candidate_reports import require_whole_trajectories
from wpt_training.experiments.job_run import report_batches
from wpt_training.experiments.jobs import JUDGED_STUDENTS, is_done, job_name
from wpt_training.experiments.open_loop import trained_student, trained_teacher
from wpt_training.reward.reward_losses import distance_to_future
from wpt_training.reward.rules import rule_inputs, score_rules
from wpt_training.world.world_model import observe_batch

if TYPE_CHECKING:
    from wpt_training.experiments.job_run import Place

SPLIT = "dev"
CANDIDATES = "candidates"


@torch.no_grad()
def head_report(place: Place, row: str, seed: int) -> dict[str, Any]:
    """Return figures (head_quality.head_figures) of a teacher's heads on dev, by whose plans they judge and by head.

    Students of the same seed are judged where they are finished. The imitation head is a softmax over candidates: on them
    its AUROC says whether it finds the nearest one to the true future; a single plan has none. Raises TrainingError for a
    teacher without a reward model, or of the reference kind.
    """
    require_whole_trajectories(place, row)
    parts = trained_teacher(place, row, seed).to(place.device).eval()
    if parts.reward is None:
        raise TrainingError(f"{row} has no reward model, so it has no heads to report on: name another teacher.")
    reward, grid = parts.config.reward, occupancy_grid(parts.config.student, parts.config.data)
    students = _students(place, seed)
    pairs: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}
    samples = 0

    def add(whose: str, head: str, probability: Tensor, truth: Tensor) -> None:
        pairs.setdefault((whose, head), []).append((probability.float().cpu(), truth.float().cpu()))

    for batch in report_batches(place, place.cache(SPLIT), f"heads of {row}"):
        decision = parts.decide(observe_batch(parts.world, batch), batch.command, batch.motion)
        found, known = decision.candidates.positions, batch.future_valid.any(dim=1)
        samples += int(known.sum())
        inputs = rule_inputs(batch, grid)
        truth = score_rules(inputs, found, reward.rules, progress=reward.progress)
        for rule in reward.rules:
            add(CANDIDATES, rule, decision.terms[rule][known], truth[rule][known])
        distance = distance_to_future(found, batch.future, batch.future_valid)
        nearest = distance == distance.amin(dim=1, keepdim=True)
        add(CANDIDATES, "imitation", decision.terms["imitation"][known], nearest[known])
        if students:
            plans = torch.stack([predictor(batch).float() for predictor in students.values()], dim=1)
            _, judged = parts.reward(decision.frames, plans).probabilities()
            truth = score_rules(inputs, plans, reward.rules, progress=reward.progress)
            for index, name in enumerate(students):
                for rule in reward.rules:
                    column = slice(index, index + 1)
                    add(name, rule, judged[rule][known, column], truth[rule][known, column])
    heads: dict[str, dict[str, Any]] = {}
    for (whose, head), values in pairs.items():
        figures = head_figures(*(torch.cat(parts_) for parts_ in zip(*values, strict=True)))
        if head == "imitation":
            # Its target is a share of the candidates, not the chance of being the nearest: calibration means nothing.
            figures = {name: figures[name] for name in ("count", "base_rate", "auroc", "auroc_within", "rows_within")}
        heads.setdefault(whose, {})[head] = figures
    return {"samples": samples, "split": SPLIT, "students": list(students), "heads": heads}


def _students(place: Place, seed: int) -> dict[str, Predictor]:
    found: dict[str, Predictor] = {}
    for name in JUDGED_STUDENTS:
        if is_done(place.runs, job_name("student", name, seed)):
            network, config = trained_student(place, name, seed)
            found[name] = student_predictor(network.to(place.device), config.student)
    return found
