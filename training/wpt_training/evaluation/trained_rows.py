"""From a path on a command line to a predictor: a student's run, a bundle, a teacher's folder or an ego MLP."""

from __future__ import annotations

from pathlib import Path

from wpt_policy.bundle import CONFIG_FILE as BUNDLE_FILE
from wpt_policy.bundle import load_bundle, network_of

from wpt_training.configuration import ExperimentConfig
from wpt_training.errors import TrainingError
from wpt_training.evaluation import teacher_folder
from wpt_training.evaluation.ego_mlp import ego_mlp_predictor, load_ego_mlp
from wpt_training.evaluation.export import load_student
from wpt_training.evaluation.predictions import Predictor, student_predictor
from wpt_training.trainer.checkpoint import RESULT


def predictor_of(path: Path, config: ExperimentConfig, device: str = "cpu") -> Predictor:
    """Return the predictor of what lies at a path. config: of a student's run (its ``student``).

    A teacher's folder may be followed by ":confidence", ":imitation" or ":reward". Raises TrainingError or BundleError.
    """
    text, _, choice = str(path).rpartition(":")
    if choice in teacher_folder.CHOICES and text:
        path = Path(text)
    else:
        choice = ""
    if (path / teacher_folder.CONFIG_FILE).is_file():
        parts, _ = teacher_folder.load_teacher(path, choice=choice or None)
        return teacher_folder.teacher_predictor(parts.to(device))
    if (path / BUNDLE_FILE).is_file():
        bundle = load_bundle(path)
        return student_predictor(network_of(bundle).to(device), bundle.config)
    if (path / RESULT).is_file():
        return student_predictor(load_student(path, config.student).to(device), config.student)
    if path.is_file():
        return ego_mlp_predictor(load_ego_mlp(path).to(device))
    raise TrainingError(
        f"{path} is no finished run, bundle, teacher folder or ego MLP, expected one of these; check the path."
    )
