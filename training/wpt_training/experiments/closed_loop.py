"""The closed-loop half of the tables: rows driven by `wpt-sim drive`, which this package knows as a command alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wpt_training.errors import TrainingError
from wpt_training.evaluation.export import export_bundle
from wpt_training.evaluation.model_card import TrainingFacts
from wpt_training.evaluation.teacher_folder import save_teacher
from wpt_training.experiments.open_loop import is_student, is_teacher, trained_student, trained_teacher
from wpt_training.experiments.rows import student_variant
from wpt_training.trainer.checkpoint import git_commit

if TYPE_CHECKING:
    from wpt_training.experiments.job_run import Place

RESULTS_FILE = "results.json"
# Rows without training, as the world calls them.
DRIVERS = {"stop": "stop", "constant_velocity": "constant_velocity", "expert": "expert_plan"}


def drive_row(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    """Drive a row on the table's routes; None where the time was over (finished routes are kept)."""
    results = place.folder("drive", row, seed) / RESULTS_FILE
    if not results.exists():
        command = [
            wpt_sim(), "drive", "--planner", planner_of(place, row, seed), "--routes", str(place.routes),
            "--seed", str(place.route_seed), "--split", "test", "--out", str(results), "--workers", str(place.workers),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                timeout=None if place.minutes is None else 60.0 * place.minutes,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode != 0 or not results.exists():
            raise TrainingError(f"wpt-sim drive failed for {row} with code {done.returncode}: its output is above.")
    document = json.loads(results.read_text(encoding="utf-8"))
    return {
        "routes": len(route_scores(document)),
        "driving_score": document["driving_score"],
        "success_rate": document["success_rate"],
    }


def route_scores(document: dict[str, Any]) -> dict[str, float]:
    """Return the driving score, 0 to 100, by route."""
    records = document["_checkpoint"]["records"]
    return {record["route_id"]: float(record["scores"]["score_composed"]) for record in records}


def planner_of(place: Place, row: str, seed: int) -> str:
    """Return how `wpt-sim drive` calls a row; trained ones are exported first."""
    if row in DRIVERS:
        return DRIVERS[row]
    if row == "ego-mlp":
        return f"wpt_ego_mlp:{place.folder('ego-mlp') / 'ego_mlp.safetensors'}"
    commit, dataset = git_commit() or "", f"{place.versions['train']} (simulated)"
    if is_student(row):
        bundle = place.folder("student", row, seed) / f"wpt-{row}"
        if not (bundle / "policy.json").exists():
            network, config = trained_student(place, row, seed)
            facts = TrainingFacts(
                dataset=dataset,
                row=student_variant(row).title,
                commit=commit,
                seed=seed,
                configuration=config.name,
            )
            export_bundle(network, config.student, bundle, facts)
        return str(bundle)
    if is_teacher(row):
        folder = place.folder("teacher", row, seed) / "planner"
        if not (folder / "teacher.json").exists():
            save_teacher(folder, trained_teacher(place, row, seed), dataset=dataset, commit=commit, seed=seed)
        return f"wpt_teacher:{folder}"
    raise TrainingError(f"row {row!r} is unknown, so it cannot be driven: name a trained or untrained row.")


def wpt_sim() -> str:
    """Return the command of the driving world; raises TrainingError where it is not installed."""
    beside = Path(sys.executable).with_name("wpt-sim")
    found = str(beside) if beside.exists() else shutil.which("wpt-sim")
    if found is None:
        raise TrainingError("wpt-sim is not installed here: install simulation/ with its traffic engine to drive rows.")
    return found
