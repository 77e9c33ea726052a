"""The rows that see perfectly (evaluation.truth_bev): trained as a job, then predicted as every other row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.errors import TrainingError
from wpt_training.evaluation.predictions import Predictor
from wpt_training.evaluation.truth_bev import MOTION_INPUTS, load_truth_bev, truth_bev_predictor
from wpt_training.evaluation.truth_bev_stage import TruthBevStage, TruthSamples
from wpt_training.experiments.job_run import SHARED_SEED, Place, train_stage
from wpt_training.experiments.jobs import TRUTH_BEV

KIND = "truth-bev"
# Rows of the tables by name: what is read of the ego, and the title.
EGO_INPUTS: Mapping[str, tuple[str, ...]] = dict(zip(TRUTH_BEV, ((), MOTION_INPUTS), strict=True))
TITLES: Mapping[str, str] = dict(
    zip(
        TRUTH_BEV,
        (
            "imitation from the true bird's-eye view (visible part)",
            "imitation from the true bird's-eye view, with speed and yaw rate",
        ),
        strict=True,
    )
)
# Four times as many samples as a student sees, since one costs a tenth, up to so many.
MOST_SAMPLES = 40_000


def train_truth_bev(place: Place, row: str) -> dict[str, Any] | None:
    """Train a row on the rows that students train on; None where the time was over."""
    if row not in EGO_INPUTS:
        raise TrainingError(f"row {row!r} does not see the truth: choose one of {', '.join(EGO_INPUTS)}.")
    cache = place.cache("train")
    stage = TruthBevStage(place.config, seed=SHARED_SEED, ego_inputs=EGO_INPUTS[row])
    folder, rows = place.folder(KIND, row), place.training_rows(cache)
    return train_stage(place, stage, schedule(place.config), folder, rows, TruthSamples(cache), SHARED_SEED)


def schedule(config: ExperimentConfig) -> Schedule:
    """Return the schedule: of the students, but for the number of samples."""
    samples = max(config.student_stage.samples, min(4 * config.student_stage.samples, MOST_SAMPLES))
    return dataclasses.replace(config.student_stage, samples=samples)


def truth_bev_row(place: Place, row: str) -> Predictor:
    """Return the predictor of a trained row."""
    network = load_truth_bev(place.folder(KIND, row) / "run", place.config, ego_inputs=EGO_INPUTS[row])
    return truth_bev_predictor(network.to(place.device), place.config)
