"""The one evaluation: samples and predictions in, report out. Offline and through the node call the same function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wpt_scenes.metrics.aggregation import Averaging, judged_samples, per_step_mean, seconds, step_counts
from wpt_scenes.metrics.collision import Jitter, collision_hits, collision_summary
from wpt_scenes.metrics.consistency import overlap_distances, tpc_as_coded
from wpt_scenes.metrics.off_road import off_road_steps
from wpt_scenes.metrics.paths import Paths, make_paths
from wpt_scenes.metrics.rectangles import EgoFootprint
from wpt_scenes.metrics.samples import EvaluationSample, mounts, truth_batch
from wpt_scenes.metrics.variants import VARIANTS, Group, Variant
from wpt_scenes.metrics.waypoints import (
    STEP_TIMES_S,
    MixedWaypointsError,
    PredictionError,
    Predictions,
    WaypointBatch,
    WaypointKind,
    displacement,
)
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

REPORT_FORMAT = "wpt-open-loop/1"
TRUTH = "truth"
STOP = "stop"


def evaluate_predictions(
    samples: Sequence[EvaluationSample],
    predictions: Sequence[Predictions],
    *,
    token_set: str = "all",
    jitter: Jitter | None = None,
    footprint: EgoFootprint | None = None,
) -> dict:
    """Return the report (docs/metrics.md, "The report") of some planners on some samples, as JSON-ready values.

    Rows for truth itself and, unless given, for stop are added. Every variant of the registry appears for every
    planner, with numbers or with the reason why it has none. Raises MixedWaypointsError when the planners' waypoints
    are of two kinds, PredictionError when a token is not among the samples, a name is used twice or truth is missing.
    """
    jitter = jitter or Jitter()
    footprint = footprint or EgoFootprint()
    kind = _one_kind(samples, predictions)
    rows = [*predictions]
    if STOP not in {row.planner for row in rows}:
        rows.append(_stop(samples, kind))
    rows.append(truth_as_predictions(samples, kind))
    return {
        "format": REPORT_FORMAT,
        "waypoints": kind.value,
        "token_set": token_set,
        "samples": len(samples),
        "samples_with_six_steps": int(sum(_truth_of(sample, kind)[1].all() for sample in samples)),
        "scenes": sorted({sample.scene_name for sample in samples}),
        "step_times_s": list(STEP_TIMES_S),
        "footprint": {
            "length_m": footprint.length_m,
            "width_m": footprint.width_m,
            "centre_ahead_m": footprint.centre_ahead_m,
        },
        "variants": {
            variant.name: {
                "title": variant.title,
                "group": variant.group.value,
                "frame": variant.frame.value,
                "averaging": variant.averaging.value,
                "counting": variant.counting.value,
                "formula": variant.formula,
                "source": variant.source,
            }
            for variant in VARIANTS.values()
        },
        "planners": {row.planner: _evaluate_one(samples, row, jitter, footprint) for row in rows},
    }


def truth_as_predictions(samples: Sequence[EvaluationSample], kind: WaypointKind) -> Predictions:
    """Return truth as a planner's row: its distance is 0 everywhere, its own collisions are what truth "does".

    Unknown steps repeat the last known place; nothing judges them.
    """
    frame = _frame_of(samples, kind)
    positions = {}
    for sample in samples:
        waypoints, known = sample.truth[kind, frame]
        last = waypoints[known][-1] if known.any() else np.zeros(2)
        positions[sample.token] = np.where(known[:, None], np.nan_to_num(waypoints), last)
    return Predictions(planner=TRUTH, kind=kind, frame=frame, positions=positions, refused={})


def _stop(samples: Sequence[EvaluationSample], kind: WaypointKind) -> Predictions:
    still = {sample.token: np.zeros((NUM_STEPS, 2)) for sample in samples}
    return Predictions(planner=STOP, kind=kind, frame=_frame_of(samples, kind), positions=still, refused={})


def _evaluate_one(
    samples: Sequence[EvaluationSample], row: Predictions, jitter: Jitter, footprint: EgoFootprint
) -> dict:
    chosen = [sample for sample in samples if sample.token in row.positions]
    absent = [sample.token for sample in samples if sample.token not in row.positions]
    result: dict = {
        "frame": row.frame.value,
        "samples": len(chosen),
        "refused": {token: row.refused[token] for token in absent if token in row.refused},
        "missing": [token for token in absent if token not in row.refused],
        "unavailable": {},
        "l2": {},
        "collision": {},
        "off_road": None,
        "consistency": {},
    }
    truth = truth_batch(chosen, row.kind, row.frame)
    waypoints = np.array([row.positions[sample.token] for sample in chosen], dtype=np.float64).reshape(
        -1, NUM_STEPS, 2
    )
    mount = mounts(chosen) if chosen else np.zeros((0, 4, 4))

    def paths_of(positions: np.ndarray) -> Paths:
        return make_paths(
            positions, truth.known[:, None], row.frame, None if mount is None else mount[:, None]
        )

    prediction, own = paths_of(waypoints[:, None]), paths_of(truth.positions[:, None])
    jittered = paths_of(waypoints[:, None] + jitter.noise([sample.token for sample in chosen]))
    for variant in VARIANTS.values():
        reason = _why_not(variant, chosen, row.kind, prediction)
        if reason is not None:
            result["unavailable"][variant.name] = reason
        elif variant.group is Group.L2:
            result["l2"][variant.name] = _l2(variant, row.kind, prediction, own, truth.known, chosen)
        elif variant.group is Group.COLLISION:
            hits = collision_hits(variant.name, chosen, row.kind, prediction, own, jittered, footprint)
            result["collision"][variant.name] = collision_summary(variant, hits, chosen, truth.known, jitter)
        elif variant.group is Group.OFF_ROAD:
            result["off_road"] = _off_road(variant, chosen, prediction, own, truth.known, footprint)
        elif variant.name == "consistency_overlap":
            distances = overlap_distances(chosen, prediction.ego[:, 0], row.kind)
            result["consistency"][variant.name] = _overlap_entry(distances)
        else:
            complete = prediction.lidar[truth.known.all(axis=1), 0]
            result["consistency"][variant.name] = _distance_entry(tpc_as_coded(complete), len(complete))
    return result


def _why_not(
    variant: Variant, samples: Sequence[EvaluationSample], kind: WaypointKind, paths: Paths
) -> str | None:
    if not samples:
        return "no sample has a prediction"
    if variant.index_only and kind is WaypointKind.TIME:
        return "defined for index-based waypoints alone"
    if paths.in_frame(variant.frame) is None:
        return f"the {variant.frame.value} frame cannot be reached: the mount of LIDAR_TOP is not known"
    alone = any(sample.record is None for sample in samples)
    if variant.counting.needs_past and any(sample.past is None for sample in samples):
        return "the keyframes before a sample are not known: judged by published truth alone"
    if variant.group is Group.COLLISION and alone:
        return "no boxes: judged by published truth alone"
    if variant.name == "consistency_overlap" and alone:
        return "no ego poses: judged by published truth alone"
    if variant.group is Group.OFF_ROAD and any(
        s.record is None or s.record.drivable is None for s in samples
    ):
        return "no drivable area is known for every sample"
    return None


def _l2(
    variant: Variant,
    kind: WaypointKind,
    prediction: Paths,
    truth: Paths,
    known: np.ndarray,
    samples: Sequence[EvaluationSample],
) -> dict:
    def batch(paths: Paths) -> WaypointBatch:
        return WaypointBatch(
            kind=kind, frame=variant.frame, positions=paths.in_frame(variant.frame)[:, 0], known=known
        )

    distance = displacement(batch(prediction), batch(truth))
    judged = judged_samples(variant.counting, samples, known)
    counts = step_counts(variant.counting, judged, known)
    per_step = per_step_mean(np.where(judged[:, None], distance, np.nan), counts)
    return {
        "samples": int(judged.sum()),
        "counted_per_step": [int(count) for count in counts],
        "per_step": per_step,
        Averaging.AT_STEP.value: seconds(per_step, Averaging.AT_STEP),
        Averaging.OVER_TIME.value: seconds(per_step, Averaging.OVER_TIME),
    }


def _off_road(
    variant: Variant,
    samples: Sequence[EvaluationSample],
    prediction: Paths,
    truth: Paths,
    known: np.ndarray,
    footprint: EgoFootprint,
) -> dict:
    outside = off_road_steps(samples, prediction.stacked_with(truth), footprint) & known[:, None]
    judged = judged_samples(variant.counting, samples, known)
    counts = step_counts(variant.counting, judged, known)

    def entry(hit: np.ndarray) -> dict:
        per_step = per_step_mean(hit.astype(np.float64), counts)
        return {
            "hits_per_step": [int(value) for value in hit.sum(axis=0)],
            "per_step": per_step,
            Averaging.AT_STEP.value: seconds(per_step, Averaging.AT_STEP),
            Averaging.OVER_TIME.value: seconds(per_step, Averaging.OVER_TIME),
        }

    return {
        "samples": int(judged.sum()),
        "counted_per_step": [int(count) for count in counts],
        "steps": entry(outside[:, 0]),
        "truth": entry(outside[:, 1]),
    }


def _overlap_entry(distances: np.ndarray) -> dict:
    """distances: (P, 5), NaN where two plans do not overlap."""
    counts = np.isfinite(distances).sum(axis=0)
    return {
        "pairs": len(distances),
        "counted_per_step": [int(count) for count in counts],
        "per_step": per_step_mean(distances, counts),
        "mean": float(np.nanmean(distances)) if counts.any() else None,
    }


def _distance_entry(distances: np.ndarray, samples: int) -> dict:
    per_step = per_step_mean(distances, np.full(NUM_STEPS, samples))
    return {
        "samples": samples,
        "per_step": per_step,
        Averaging.AT_STEP.value: seconds(per_step, Averaging.AT_STEP),
        Averaging.OVER_TIME.value: seconds(per_step, Averaging.OVER_TIME),
    }


def _one_kind(samples: Sequence[EvaluationSample], predictions: Sequence[Predictions]) -> WaypointKind:
    if not samples:
        raise PredictionError("there is no sample to judge, expected at least one; choose another token set")
    tokens = [sample.token for sample in samples]
    if len(set(tokens)) != len(tokens):
        raise PredictionError(
            "a token appears twice among the samples, expected each once; drop the repetition"
        )
    names = [row.planner for row in predictions]
    for name in names:
        if names.count(name) > 1 or name == TRUTH:
            raise PredictionError(
                f"planner name {name} is used twice or reserved, expected different names (truth is added); rename it"
            )
    for row in predictions:
        strange = sorted((set(row.positions) | set(row.refused)) - set(tokens))
        if strange:
            raise PredictionError(
                f"{row.planner} has {len(strange)} tokens that are not judged (first: {strange[0]}), expected tokens of "
                "the samples; select the samples' tokens first"
            )
    kinds = {row.kind for row in predictions} or {WaypointKind.INDEX}
    if len(kinds) > 1:
        raise MixedWaypointsError(
            "index-based and time-based waypoints cannot share a report, expected one kind; evaluate them separately"
        )
    return kinds.pop()


def _frame_of(samples: Sequence[EvaluationSample], kind: WaypointKind) -> WaypointFrame:
    """The ego frame where every sample has truth in it, else the LiDAR frame."""
    if all((kind, WaypointFrame.EGO) in sample.truth for sample in samples):
        return WaypointFrame.EGO
    return WaypointFrame.LIDAR


def _truth_of(sample: EvaluationSample, kind: WaypointKind) -> tuple[np.ndarray, np.ndarray]:
    for frame in WaypointFrame:
        if (kind, frame) in sample.truth:
            return sample.truth[kind, frame]
    raise PredictionError(
        f"token {sample.token} has no {kind.value}-based truth, expected it in at least one frame; choose the other kind"
    )
