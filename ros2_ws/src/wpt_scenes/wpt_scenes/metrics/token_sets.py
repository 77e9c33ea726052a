"""Named sets of samples, so that a number says what it was computed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from wpt_scenes.metrics.aggregation import PAST_KEYFRAMES
from wpt_scenes.metrics.samples import EvaluationSample
from wpt_scenes.metrics.waypoints import PredictionError, WaypointKind
from wpt_scenes.truth import COMMAND_OFFSET_M, WaypointFrame


def _complete(sample: EvaluationSample) -> bool:
    return any(
        bool(known.all()) for (kind, _), (_, known) in sample.truth.items() if kind is WaypointKind.INDEX
    )


def _turning(sample: EvaluationSample) -> bool:
    """The last known waypoint lies at least 2 m to one side: the command rule of nuScenes planners."""
    for frame, side in ((WaypointFrame.LIDAR, 0), (WaypointFrame.EGO, 1)):
        if (WaypointKind.INDEX, frame) in sample.truth:
            positions, known = sample.truth[WaypointKind.INDEX, frame]
            return bool(known.any() and np.abs(positions[known][-1, side]) >= COMMAND_OFFSET_M)
    return False


NAMED_SETS: dict[str, Callable[[EvaluationSample], bool]] = {
    "all": lambda sample: True,
    "complete_future": _complete,
    "complete_future_and_past": lambda sample: _complete(sample) and (sample.past or 0) >= PAST_KEYFRAMES,
    "turning": _turning,
    "straight": lambda sample: not _turning(sample),
}


def select_samples(samples: Sequence[EvaluationSample], name_or_file: str) -> list[EvaluationSample]:
    """Return the samples of a named set, of a scene, or of a file with one sample token per line, in their order.

    Empty lines and lines that begin with # are ignored. Raises PredictionError when there is no such set, scene or
    file, when a token of the file is unknown or repeated, or when nothing is left.
    """
    if name_or_file in NAMED_SETS:
        chosen = [sample for sample in samples if NAMED_SETS[name_or_file](sample)]
    elif any(sample.scene_name == name_or_file for sample in samples):
        chosen = [sample for sample in samples if sample.scene_name == name_or_file]
    else:
        wanted = _tokens_of(Path(name_or_file))
        unknown = [token for token in wanted if token not in {sample.token for sample in samples}]
        if unknown:
            raise PredictionError(
                f"{name_or_file} names {len(unknown)} tokens that the chosen scenes lack (first: {unknown[0]}), "
                "expected sample tokens of these scenes; add the scenes or drop the tokens"
            )
        chosen = [sample for sample in samples if sample.token in set(wanted)]
    if not chosen:
        raise PredictionError(
            f"token set {name_or_file} is empty on these scenes, expected a sample; choose another"
        )
    return chosen


def _tokens_of(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionError(
            f"token set {path} is no known set ({', '.join(NAMED_SETS)}), no scene, and no readable file ({error}); "
            "give one of these"
        ) from None
    tokens = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    repeated = (
        [token for token in set(tokens) if tokens.count(token) > 1] if len(set(tokens)) < len(tokens) else []
    )
    if repeated:
        raise PredictionError(
            f"{path} names token {repeated[0]} twice, expected each once; drop the repetition"
        )
    return tokens
