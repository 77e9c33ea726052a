"""Predictions and truth as JSON files: how a planner from elsewhere is judged. The form is in docs/metrics.md."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wpt_policy import se3
from wpt_scenes.metrics.samples import EvaluationSample
from wpt_scenes.metrics.waypoints import PredictionError, Predictions, WaypointKind
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

PREDICTION_KEYS = frozenset({"name", "frame", "waypoints", "predictions", "truth"})
TRUTH_KEYS = frozenset({"frame", "waypoints", "base_from_lidar", "truth"})
_NEEDED_OF_TRUTH = frozenset({"positions", "mask"})
_KNOWN_OF_TRUTH = _NEEDED_OF_TRUTH | {"scene", "past"}


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionFile:
    """A file's content: predictions by token, and the truth it brings along (None when it brings none)."""

    predictions: Predictions
    truth: list[EvaluationSample] | None


def read_predictions(path: Path) -> PredictionFile:
    """Read a prediction file; raises PredictionError naming the file and the first thing that is wrong in it."""
    content = _object(path, PREDICTION_KEYS, {"frame", "waypoints", "predictions"})
    frame, kind = _frame(path, content), _kind(path, content)
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not name:
        raise PredictionError(
            f"{path}: name is {name!r}, expected a text; give the planner's name or leave it out"
        )
    entries = content["predictions"]
    if not isinstance(entries, dict) or not entries:
        raise PredictionError(
            f"{path}: predictions is no object of tokens or is empty, expected token -> six [x, y]; give at least one"
        )
    positions = {token: _waypoints(path, token, value) for token, value in entries.items()}
    predictions = Predictions(planner=name, kind=kind, frame=frame, positions=positions, refused={})
    truth = None
    if "truth" in content:
        if not isinstance(content["truth"], dict):
            raise PredictionError(
                f"{path}: truth is no object, expected the content of a truth file; see docs/metrics.md"
            )
        truth = _truth(path, content["truth"])
    return PredictionFile(predictions=predictions, truth=truth)


def read_truth(path: Path) -> list[EvaluationSample]:
    """Read a truth file: samples that know truth alone; raises PredictionError as read_predictions does."""
    return _truth(path, _object(path, TRUTH_KEYS, {"frame", "waypoints", "truth"}))


def matched(
    predictions: Predictions,
    samples: Sequence[EvaluationSample],
    selected: Sequence[EvaluationSample],
    partial: bool,
) -> tuple[Predictions, dict]:
    """Return the predictions for the selected samples, and how the file's tokens match.

    samples: all that exist; selected: those to be judged. A token that no sample has is unknown; a selected sample
    without a prediction is missing. Either raises PredictionError (with the number and the first names) unless
    ``partial``; tokens of samples outside the selection are set aside. The returned counts go into the report.
    """
    existing = {sample.token for sample in samples}
    wanted = [sample.token for sample in selected]
    unknown = sorted(set(predictions.positions) - existing)
    missing = [token for token in wanted if token not in predictions.positions]
    for tokens, what in (
        (unknown, "that the truth does not have"),
        (missing, "missing that the truth has"),
    ):
        if tokens and not partial:
            raise PredictionError(
                f"{predictions.planner} has {len(tokens)} tokens {what} ({', '.join(tokens[:3])}"
                f"{', ...' if len(tokens) > 3 else ''}), expected a prediction for each of the {len(wanted)} judged "
                "tokens and no others; choose a token set, or allow a partial match"
            )
    kept = {token: predictions.positions[token] for token in wanted if token in predictions.positions}
    counts = {
        "file_tokens": len(predictions.positions),
        "judged": len(kept),
        "outside_the_selection": len(predictions.positions) - len(kept) - len(unknown),
        "unknown": unknown,
        "missing": missing,
    }
    judged = Predictions(
        planner=predictions.planner,
        kind=predictions.kind,
        frame=predictions.frame,
        positions=kept,
        refused={},
    )
    return judged, counts


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a planner's predictions in the form that read_predictions reads."""
    content = {
        "name": predictions.planner,
        "frame": predictions.frame.value,
        "waypoints": predictions.kind.value,
        "predictions": {token: waypoints.tolist() for token, waypoints in predictions.positions.items()},
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def _truth(path: Path, content: Mapping[str, Any]) -> list[EvaluationSample]:
    _check_keys(path, content, TRUTH_KEYS, {"frame", "waypoints", "truth"})
    frame, kind = _frame(path, content), _kind(path, content)
    mount = _mount(path, content.get("base_from_lidar"))
    entries = content["truth"]
    if not isinstance(entries, dict) or not entries:
        raise PredictionError(
            f"{path}: truth is no object of tokens or is empty, expected token -> positions and mask; give at least one"
        )
    samples = []
    for token, entry in entries.items():
        if not isinstance(entry, dict) or not _NEEDED_OF_TRUTH <= set(entry) <= _KNOWN_OF_TRUTH:
            raise PredictionError(
                f"{path}: truth of token {token} has not the fields positions and mask (scene and past at will); give both"
            )
        past = entry.get("past")
        if past is not None and (not isinstance(past, int) or isinstance(past, bool) or past < 0):
            raise PredictionError(
                f"{path}: past of token {token} is {past!r}, expected the number of earlier keyframes of its scene; "
                "correct it or leave it out"
            )
        mask = entry["mask"]
        if not isinstance(mask, list) or len(mask) != NUM_STEPS or any(value not in (0, 1) for value in mask):
            raise PredictionError(
                f"{path}: mask of token {token} is {mask!r}, expected {NUM_STEPS} values of 0 or 1; "
                "write 1 where the step exists"
            )
        positions = _waypoints(path, token, entry["positions"])
        samples.append(
            EvaluationSample(
                token=token,
                scene_name=str(entry.get("scene", "")),
                truth={(kind, frame): (positions, np.array(mask, dtype=bool))},
                base_from_lidar=mount,
                earlier_keyframes=past,
            )
        )
    return samples


def _object(path: Path, allowed: frozenset[str], required: set[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repetition)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise PredictionError(
            f"{path} cannot be read as JSON ({error}); give a file as docs/metrics.md describes"
        ) from None
    if not isinstance(content, dict):
        raise PredictionError(f"{path} holds no JSON object at its top, expected one; see docs/metrics.md")
    _check_keys(path, content, allowed, required)
    return content


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)} is given twice")
    return result


def _check_keys(path: Path, content: Mapping[str, Any], allowed: frozenset[str], required: set[str]) -> None:
    missing, strange = required - set(content), set(content) - allowed
    if missing or strange:
        wrong = (
            f"lacks {', '.join(sorted(missing))}"
            if missing
            else f"has unknown fields {', '.join(sorted(strange))}"
        )
        raise PredictionError(
            f"{path} {wrong}, expected {', '.join(sorted(required))}; see docs/metrics.md for the form"
        )


def _frame(path: Path, content: Mapping[str, Any]) -> WaypointFrame:
    try:
        return WaypointFrame(content["frame"])
    except ValueError:
        raise PredictionError(
            f"{path}: frame is {content['frame']!r}, expected ego (base_link, x forward, y left) or lidar (LIDAR_TOP, "
            "x right, y forward); name the frame that the numbers are in"
        ) from None


def _kind(path: Path, content: Mapping[str, Any]) -> WaypointKind:
    try:
        return WaypointKind(content["waypoints"])
    except ValueError:
        raise PredictionError(
            f"{path}: waypoints is {content['waypoints']!r}, expected index (one per following keyframe) or time (every "
            "0.5 s exactly); published nuScenes planners are index"
        ) from None


def _waypoints(path: Path, token: str, value: Any) -> np.ndarray:
    if not isinstance(value, list) or len(value) != NUM_STEPS:
        count = len(value) if isinstance(value, list) else repr(value)
        raise PredictionError(
            f"{path}: token {token} has {count} waypoints, expected {NUM_STEPS} pairs [x, y]; the ego's own place is none"
        )
    for step, pair in enumerate(value):
        numbers = isinstance(pair, list) and len(pair) == 2 and all(_is_number(number) for number in pair)
        if not numbers:
            raise PredictionError(
                f"{path}: waypoint {step + 1} of token {token} is {pair!r}, expected two finite numbers [x, y] in metres; "
                "leave the token out where there is no plan"
            )
    return np.array(value, dtype=np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mount(path: Path, value: Any) -> np.ndarray | None:
    """[x, y, yaw] of LIDAR_TOP in base_link, metres and radians."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3 or not all(_is_number(number) for number in value):
        raise PredictionError(
            f"{path}: base_from_lidar is {value!r}, expected [x, y, yaw] of LIDAR_TOP in base_link; "
            "nuScenes has about [0.94, 0, -1.5708]"
        )
    return se3.planar(*value)
