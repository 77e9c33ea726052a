"""Waypoints with their meaning attached, so that two kinds or two frames are never compared by accident."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from wpt_scenes.truth import NUM_STEPS, WaypointFrame

# The nominal time of each step. Index-based steps carry it as a name only: keyframes are 0.4 to 0.6 s apart.
STEP_S = 0.5
STEP_TIMES_S = tuple(STEP_S * (step + 1) for step in range(NUM_STEPS))


class WaypointKind(Enum):
    """INDEX: point k belongs to the k-th following keyframe (all published nuScenes planning numbers).

    TIME: point k belongs to exactly k * 0.5 s after the reference stamp. At 9 m/s the two lie up to 1.3 m apart at
    the sixth point.
    """

    INDEX = "index"
    TIME = "time"


class MixedWaypointsError(ValueError):
    """Waypoints of two kinds, or of two frames, were about to be compared."""


class PredictionError(ValueError):
    """Predictions, truth or a token set that cannot be judged; the message says what was wrong and what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WaypointBatch:
    """Waypoints of N samples.

    positions: (N, 6, 2) float64 metres in ``frame`` at each sample's keyframe. known: (N, 6) bool, the leading steps
    that exist; positions elsewhere carry no meaning (NaN in truth).
    """

    kind: WaypointKind
    frame: WaypointFrame
    positions: np.ndarray
    known: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.positions)
        if self.positions.shape != (count, NUM_STEPS, 2) or self.known.shape != (count, NUM_STEPS):
            raise PredictionError(
                f"waypoints have shape {self.positions.shape} and mask {self.known.shape}, expected (N, {NUM_STEPS}, 2) "
                f"and (N, {NUM_STEPS}); give six points for every sample"
            )


def require_comparable(first: WaypointBatch, second: WaypointBatch) -> None:
    """Raise MixedWaypointsError unless both batches have one kind, one frame and one length."""
    if first.kind is not second.kind:
        raise MixedWaypointsError(
            f"{first.kind.value}-based waypoints cannot be compared with {second.kind.value}-based ones, expected one "
            "kind; take the truth of the predictions' kind"
        )
    if first.frame is not second.frame:
        raise MixedWaypointsError(
            f"waypoints in the {first.frame.value} frame cannot be compared with waypoints in the "
            f"{second.frame.value} frame; move one of them first"
        )
    if len(first.positions) != len(second.positions):
        raise MixedWaypointsError(
            f"{len(first.positions)} samples cannot be compared with {len(second.positions)}, expected one each; "
            "select the same tokens"
        )


def displacement(prediction: WaypointBatch, truth: WaypointBatch) -> np.ndarray:
    """Return the (N, 6) Euclidean distances in metres, NaN where truth is unknown; raises MixedWaypointsError."""
    require_comparable(prediction, truth)
    distance = np.linalg.norm(prediction.positions - truth.positions, axis=-1)
    return np.where(truth.known, distance, np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What one planner says for some tokens.

    positions: (6, 2) finite metres by sample token, in ``frame`` at the keyframe. refused: a sentence by token where
    the planner gave no plan. Raises PredictionError for a wrong shape or a value that is not finite.
    """

    planner: str
    kind: WaypointKind
    frame: WaypointFrame
    positions: dict[str, np.ndarray]
    refused: dict[str, str]

    def __post_init__(self) -> None:
        for token, waypoints in self.positions.items():
            if np.shape(waypoints) != (NUM_STEPS, 2):
                raise PredictionError(
                    f"{self.planner} has waypoints of shape {np.shape(waypoints)} for token {token}, expected "
                    f"({NUM_STEPS}, 2); give six [x, y] pairs 0.5 s apart, without the ego's own place"
                )
            if not np.all(np.isfinite(waypoints)):
                raise PredictionError(
                    f"{self.planner} has a waypoint that is not a finite number for token {token}; "
                    "leave the token out where there is no plan"
                )
