"""Plans of a row on the test samples, and their figures: the open-loop half of the tables.

Plans are kept by token (plans.npz, and one file for each way in which a teacher may choose its candidate); figures by
sample lie beside them, so that the tables can be made again without predicting again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wpt_policy.network.student import Student
from wpt_scenes.metrics import PrimaryScores

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.batch import Batch
from wpt_training.data.sample_cache import SampleCache
from wpt_training.errors import TrainingError
from wpt_training.evaluation.ego_mlp import ego_mlp_predictor, load_ego_mlp
from wpt_training.evaluation.export import load_student
from wpt_training.evaluation.predictions import UNTRAINED, Predictor, Samples, predict, save_plans, student_predictor
from wpt_training.evaluation.teacher_folder import TeacherParts, parts_of_runs
from wpt_training.evaluation.truth_bev_stage import TruthSamples
from wpt_training.experiments.rows import STUDENTS, TEACHERS, student_config, student_variant, teacher_variant
from wpt_training.experiments.truth_bev_rows import EGO_INPUTS, truth_bev_row
from wpt_training.teacher.teacher_losses import nearest_candidate
from wpt_training.trainer.progress import Progress
from wpt_training.world.world_model import observe_batch

if TYPE_CHECKING:
    from wpt_training.experiments.job_run import Place

INTERACTIVE_SAMPLES = 8_000  # and half as many of the natural part
PLANS_FILE, SCORES_FILE = "plans.npz", "scores.npz"
# How a teacher's candidate may be chosen; its row is the first that it can. "oracle" knows the future.
TEACHER_CHOICES = ("reward", "confidence", "imitation", "random", "oracle")


def judged_rows(cache: SampleCache, interactive: int = INTERACTIVE_SAMPLES) -> np.ndarray:
    """Return the rows that are judged: so many interactive ones and half as many natural ones, evenly, if there are."""
    chosen = []
    for part, most in ((cache.natural, interactive // 2), (cache.interactive, interactive)):
        rows = np.flatnonzero(cache.labelled & part)
        if len(rows) > most:
            rows = rows[np.round(np.linspace(0, len(rows) - 1, most)).astype(int)]
        chosen.append(rows)
    rows = np.unique(np.concatenate(chosen))
    return rows if len(rows) else np.flatnonzero(cache.labelled)


def is_teacher(row: str) -> bool:
    return any(variant.name == row for variant in TEACHERS)


def is_student(row: str) -> bool:
    return any(variant.name == row for variant in STUDENTS)


def trained_student(place: Place, row: str, seed: int) -> tuple[Student, ExperimentConfig]:
    """Return a trained student and its configuration; raises TrainingError where it is not finished."""
    config = student_config(place.config, student_variant(row))
    return load_student(place.folder("student", row, seed) / "run", config.student), config


def trained_teacher(place: Place, row: str, seed: int) -> TeacherParts:
    """Return a trained teacher with its reward model where it has one."""
    config = teacher_variant(row).change(place.config)
    choice = "reward" if config.teacher.select_by == "reward" else "confidence"
    run = place.folder("teacher", row, seed) / "run"
    return parts_of_runs(config, place.folder("world") / "run", run, choice=choice)


def predict_row(place: Place, row: str, seed: int) -> dict[str, Any]:
    """Predict a row on the judged samples and write its plans."""
    cache = place.cache("test")
    rows = judged_rows(cache, place.judged)
    folder = place.folder("evaluate", row, seed)
    shown = Progress(f"plans of {row}", len(rows))

    def progress(done: int, total: int) -> None:
        shown.show(done, last=done == total)

    def save(predictor: Predictor, source: Samples = cache) -> None:
        plans = predict(source, rows, predictor, device=place.device, progress=progress)
        save_plans(folder / PLANS_FILE, plans)

    if row in UNTRAINED:
        save(UNTRAINED[row])
    elif row == "ego-mlp":
        save(ego_mlp_predictor(load_ego_mlp(place.folder("ego-mlp") / "ego_mlp.safetensors")))
    elif row in EGO_INPUTS:
        save(truth_bev_row(place, row), TruthSamples(cache))
    elif is_student(row):
        network, config = trained_student(place, row, seed)
        save(student_predictor(network.to(place.device), config.student))
    elif is_teacher(row):
        parts = trained_teacher(place, row, seed).to(place.device)
        choices = TeacherChoices(parts, seed)
        save(choices.first)
        for name, plans in choices.others(cache).items():
            save_plans(folder / choice_file(name), plans)
    else:
        raise TrainingError(f"row {row!r} is unknown, so it has no plans: name a trained or untrained row.")
    return {"samples": len(rows)}


def choice_file(choice: str) -> str:
    """Return the file of a teacher's plans by another choice."""
    return f"plans-by-{choice}.npz"


class TeacherChoices:
    """Plans of one decoding by every choice: the first is the teacher's own, the others are kept."""

    def __init__(self, parts: TeacherParts, seed: int):
        self._parts, self._seed = parts.eval(), seed
        self._plans: dict[str, list[Tensor]] = {}
        self._rows: list[Tensor] = []

    def first(self, batch: Batch) -> Tensor:
        """A Predictor: the teacher's own choice."""
        decision = self._parts.decide(observe_batch(self._parts.world, batch), batch.command, batch.motion)
        candidates = decision.candidates
        picks = {
            "confidence": candidates.confidence.argmax(dim=1),
            "oracle": nearest_candidate(candidates.positions, batch.future, batch.future_valid),
            "random": self._random(batch.row, candidates.positions.shape[1]),
        }
        if "imitation" in decision.terms:
            picks["imitation"] = decision.terms["imitation"].argmax(dim=1)
        for name, pick in picks.items():
            self._plans.setdefault(name, []).append(candidates.chosen(pick)[0].cpu())
        self._rows.append(batch.row.cpu())
        return decision.plan

    def others(self, cache: SampleCache) -> dict[str, dict[str, np.ndarray]]:
        """Return plans by token for each other choice."""
        tokens = [cache.tokens[row] for row in torch.cat(self._rows).tolist()]
        return {
            name: dict(zip(tokens, torch.cat(parts).double().numpy(), strict=True))
            for name, parts in self._plans.items()
        }

    def _random(self, rows: Tensor, count: int) -> Tensor:
        """By (seed, row), whatever the batches."""
        picks = [np.random.default_rng([self._seed, int(row)]).integers(count) for row in rows]
        return torch.tensor(picks, device=rows.device)


def save_scores(path: Path, scores: PrimaryScores) -> None:
    """Write a row's figures by sample."""
    waiting = path.with_name(f".{path.name}.new.npz")
    np.savez_compressed(
        waiting,
        planner=np.str_(scores.planner),
        tokens=np.array(scores.tokens, dtype=np.str_),
        scenes=np.array(scores.scenes, dtype=np.str_),
        **{name: getattr(scores, name) for name in ("known", "distance", "hits", "jittered", "pose_jittered")},
    )
    waiting.replace(path)


def load_scores(path: Path) -> PrimaryScores:
    """Read what save_scores wrote; raises TrainingError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
        names = {name: tuple(values.pop(name).tolist()) for name in ("tokens", "scenes")}
        return PrimaryScores(planner=str(values.pop("planner")), **names, **values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} holds no scores ({error}): remove it and make the tables again.") from None
