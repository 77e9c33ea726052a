"""The primary metric and the L2 alone, for many planners on many samples, with one value for each sample.

``evaluate_predictions`` gives every variant; this gives what tables of many rows and bootstraps need, ten times as
fast: actors and truth are laid out once for all planners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpt_scenes.metrics import at_fault
from wpt_scenes.metrics.collision import POSE_JITTER, Jitter, by_scene, pose_jittered, scene_actors
from wpt_scenes.metrics.exact_metrics import footprint_poses, rectangle_hits
from wpt_scenes.metrics.paths import Paths, make_paths
from wpt_scenes.metrics.rectangles import EgoFootprint
from wpt_scenes.metrics.samples import EvaluationSample, truth_batch
from wpt_scenes.metrics.waypoints import MixedWaypointsError, PredictionError, Predictions, WaypointKind
from wpt_scenes.truth import NUM_STEPS, WaypointFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class PrimaryScores:
    """One planner on N samples.

    tokens, scenes: (N,) names. known: (N, 6) bool. distance: (N, 6) metres, NaN where unknown. hits: (N, 6) bool, at-fault
    contacts at known steps at which truth touches nothing. jittered, pose_jittered: (N, 6) share of the draws that hit,
    under 1 cm and under 0.1 m and 1 degree.
    """

    planner: str
    tokens: tuple[str, ...]
    scenes: tuple[str, ...]
    known: np.ndarray
    distance: np.ndarray
    hits: np.ndarray
    jittered: np.ndarray
    pose_jittered: np.ndarray

    @property
    def primary(self) -> float:
        """Mean over the six steps of the share of samples in at-fault contact under pose jitter, from 0 to 1."""
        return mean_of_steps(self.pose_jittered, self.known)

    @property
    def events(self) -> int:
        """Samples with at least one at-fault contact, without jitter."""
        return int(self.hits.any(axis=1).sum())

    def at(self, chosen: np.ndarray) -> PrimaryScores:
        """Return some of the samples; chosen: (N,) bool or indices."""
        where = np.arange(len(self.tokens))[chosen]
        return PrimaryScores(
            planner=self.planner,
            tokens=tuple(self.tokens[i] for i in where),
            scenes=tuple(self.scenes[i] for i in where),
            known=self.known[where],
            distance=self.distance[where],
            hits=self.hits[where],
            jittered=self.jittered[where],
            pose_jittered=self.pose_jittered[where],
        )


def mean_of_steps(values: np.ndarray, known: np.ndarray) -> float:
    """Return the mean over six steps of each step's mean over the samples that have it; NaN where a step has none."""
    counts = known.sum(axis=0)
    if not counts.all():
        return float("nan")
    return float((np.where(known, values, 0.0).sum(axis=0) / counts).mean())


class PrimaryMetrics:
    """Judges planners on the same samples, base_link waypoints of one kind.

    Raises PredictionError for samples without scenes, without truth of this kind, or for none at all.
    """

    def __init__(
        self,
        samples: Sequence[EvaluationSample],
        kind: WaypointKind,
        *,
        jitter: Jitter | None = None,
        pose_jitter: Jitter = POSE_JITTER,
        footprint: EgoFootprint | None = None,
    ):
        if not samples or any(sample.record is None for sample in samples):
            raise PredictionError(
                "there are no samples with a scene around them, expected some; load them from a data set"
            )
        self.samples, self.kind = list(samples), kind
        self._footprint = footprint or EgoFootprint()
        self._tokens = [sample.token for sample in samples]
        self._truth = truth_batch(samples, kind, WaypointFrame.EGO)
        self._noise = (jitter or Jitter()).pose_noise(self._tokens)
        self._pose_jitter = pose_jitter
        self._groups = by_scene(samples)
        self._actors = [scene_actors([samples[i] for i in group], kind) for group in self._groups]

    def scores(self, predictions: Predictions) -> PrimaryScores:
        """Return one planner's scores on the samples that it has a plan for.

        Raises PredictionError for no such sample, MixedWaypointsError for waypoints of another kind or frame.
        """
        if predictions.kind is not self.kind or predictions.frame is not WaypointFrame.EGO:
            raise MixedWaypointsError(
                f"{predictions.planner} has {predictions.kind.value}-based waypoints in the {predictions.frame.value} "
                f"frame, expected {self.kind.value}-based ones in the ego frame; give such"
            )
        there = np.array([token in predictions.positions for token in self._tokens])
        if not there.any():
            raise PredictionError(
                f"{predictions.planner} has no plan for any of the {len(there)} samples, expected some; "
                "run it on these samples"
            )
        count = len(there)
        waypoints = np.zeros((count, NUM_STEPS, 2))
        waypoints[there] = [
            predictions.positions[t] for t, known in zip(self._tokens, there, strict=True) if known
        ]
        known = self._truth.known
        plan, truth = self._paths(waypoints[:, None]), self._paths(self._truth.positions[:, None])
        fine = self._paths(waypoints[:, None] + self._noise[..., :2])
        rough = pose_jittered(plan, self._tokens, self._pose_jitter)
        ego = np.concatenate([plan.ego, fine.ego, rough.ego], axis=1)
        headings = np.concatenate([plan.headings, fine.headings, rough.headings], axis=1)
        advance = np.broadcast_to(at_fault.advances(plan), headings.shape)
        hits = np.zeros(headings.shape, dtype=bool)
        for group, actors in zip(self._groups, self._actors, strict=True):
            paths = Paths(ego=ego[group], lidar=None, headings=headings[group])
            found = at_fault.at_fault_hits(actors, paths, advance[group], self._footprint)
            poses = footprint_poses(truth.at(group), self._footprint)
            own = rectangle_hits(actors.found, *poses, self._footprint.half_size)
            hits[group] = found & ~own & known[group, None]
        distance = np.linalg.norm(waypoints - self._truth.positions, axis=-1)
        draws = fine.headings.shape[1]
        return PrimaryScores(
            planner=predictions.planner,
            tokens=tuple(self._tokens),
            scenes=tuple(sample.scene_name for sample in self.samples),
            known=known,
            distance=np.where(known, distance, np.nan),
            hits=hits[:, 0],
            jittered=_share(hits[:, 1 : 1 + draws]),
            pose_jittered=_share(hits[:, 1 + draws :]),
        ).at(there)

    def _paths(self, positions: np.ndarray) -> Paths:
        return make_paths(positions, self._truth.known[:, None], WaypointFrame.EGO, None)


def _share(hits: np.ndarray) -> np.ndarray:
    """(N, draws, 6) bool -> (N, 6); zeros without draws."""
    return hits.mean(axis=1) if hits.shape[1] else np.zeros((len(hits), NUM_STEPS))
