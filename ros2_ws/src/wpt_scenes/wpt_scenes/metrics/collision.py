"""Collision rates of one planner in every variant, with truth's own and under jitter."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpt_scenes.metrics import at_fault, exact_metrics, obstacles, raster_metrics
from wpt_scenes.metrics.aggregation import (
    SECOND_STEPS,
    Averaging,
    Counting,
    judged_samples,
    per_step_mean,
    seconds,
    step_counts,
)
from wpt_scenes.metrics.exact_metrics import ExactMetric, footprint_poses, rectangle_hits
from wpt_scenes.metrics.paths import Paths
from wpt_scenes.metrics.raster_metrics import RasterMetric
from wpt_scenes.metrics.rectangles import EgoFootprint
from wpt_scenes.metrics.samples import EvaluationSample
from wpt_scenes.metrics.variants import Variant
from wpt_scenes.metrics.waypoints import WaypointKind
from wpt_scenes.truth import NUM_STEPS

PUBLISHED_METRICS: dict[str, RasterMetric | ExactMetric] = {
    "collision_uniad": raster_metrics.UNIAD,
    "collision_vad": raster_metrics.VAD,
    "collision_stp3": raster_metrics.STP3,
    "collision_sparsedrive": exact_metrics.SPARSEDRIVE,
    "collision_bevplanner": raster_metrics.BEVPLANNER,
    "collision_occwd": raster_metrics.OCCWD,
}


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """Independent Gaussian noise on every coordinate of every waypoint, repeated.

    Each token has its own stream, seeded by seed and the token, so that a sample's noise does not depend on the set
    that it is judged in. 20 draws of 1 cm are what shows whether a collision rate is more than chance.
    heading_sigma_rad: also on every heading, see pose_jittered.
    """

    draws: int = 20
    sigma_m: float = 0.01
    seed: int = 0
    heading_sigma_rad: float = 0.0

    def noise(self, tokens: Sequence[str]) -> np.ndarray:
        """Return (N, draws, 6, 2) metres."""
        return self.pose_noise(tokens)[..., :2]

    def pose_noise(self, tokens: Sequence[str]) -> np.ndarray:
        """Return (N, draws, 6, 3): metres, metres and radians."""
        shape = (self.draws, NUM_STEPS, 2)
        result = np.zeros((len(tokens), self.draws, NUM_STEPS, 3))
        for row, token in enumerate(tokens):
            stream = np.random.default_rng([self.seed, zlib.crc32(token.encode())])
            result[row, ..., :2] = stream.normal(0.0, self.sigma_m, shape)
            if self.heading_sigma_rad > 0.0:
                result[row, ..., 2] = stream.normal(0.0, self.heading_sigma_rad, shape[:2])
        return result


# The jitter of the primary metric: a tenth of a metre and a degree, about what a controller misses a plan by.
POSE_JITTER = Jitter(sigma_m=0.1, heading_sigma_rad=math.radians(1.0))


def pose_jittered(paths: Paths, tokens: Sequence[str], jitter: Jitter) -> Paths:
    """Return (N, draws, 6, ...) jittered poses of (N, 1, 6, ...) paths, in base_link alone.

    The headings are the path's own with noise on them: a slow path's points, moved by a decimetre each, would give
    headings of no meaning.
    """
    noise = jitter.pose_noise(tokens)
    return Paths(ego=paths.ego + noise[..., :2], lidar=None, headings=paths.headings + noise[..., 2])


@dataclass(frozen=True, kw_only=True, eq=False)
class Hits:
    """Collisions of N samples at six steps.

    box, truth: (N, 6) of the prediction and of truth. jittered: (N, draws, 6). centre: (N, 6) of the path point alone,
    None where the metric has no such test. pose_jittered: (N, draws, 6) by POSE_JITTER, None where it is not asked for.
    """

    box: np.ndarray
    truth: np.ndarray
    jittered: np.ndarray
    centre: np.ndarray | None
    pose_jittered: np.ndarray | None = None


def collision_hits(
    name: str,
    samples: Sequence[EvaluationSample],
    kind: WaypointKind,
    prediction: Paths,
    truth: Paths,
    jittered: Paths,
    footprint: EgoFootprint,
) -> Hits:
    """Return the hits of one variant; prediction and truth (N, 1, 6, 2), jittered (N, draws, 6, 2)."""
    if name == "collision_at_fault":
        return at_fault_samples(samples, kind, prediction, truth, jittered, footprint)
    paths = prediction.stacked_with(truth, jittered)
    box = np.zeros(paths.headings.shape, dtype=bool)
    centre = np.zeros((len(samples), NUM_STEPS), dtype=bool)
    has_centre = False
    for chosen in by_scene(samples):
        record = samples[chosen[0]].record
        keyframes = np.array([samples[i].index for i in chosen])
        part = paths.at(chosen)
        if name == "collision_exact" and kind is WaypointKind.TIME:
            stamps = np.array([samples[i].reference_stamp_ns for i in chosen])
            found = obstacles.road_users_timed(record, keyframes, stamps)
            box_part, centre_part = (
                rectangle_hits(found, *footprint_poses(part, footprint), footprint.half_size),
                None,
            )
        else:
            metric = PUBLISHED_METRICS.get(name) or exact_metrics.road_user_metric(footprint)
            box_part, centre_part = metric.hits(record, keyframes, part)
        box[chosen] = box_part
        if centre_part is not None:
            has_centre = True
            centre[chosen] = centre_part
    return Hits(box=box[:, 0], truth=box[:, 1], jittered=box[:, 2:], centre=centre if has_centre else None)


def at_fault_samples(
    samples: Sequence[EvaluationSample],
    kind: WaypointKind,
    prediction: Paths,
    truth: Paths,
    jittered: Paths,
    footprint: EgoFootprint,
    pose_jitter: Jitter = POSE_JITTER,
) -> Hits:
    """Return the at-fault contacts of some samples; arguments as in collision_hits. truth: its contacts of any kind."""
    shape = (len(samples), 1 + jittered.headings.shape[1] + pose_jitter.draws, NUM_STEPS)
    blamed = np.zeros(shape, dtype=bool)
    own = np.zeros((len(samples), NUM_STEPS), dtype=bool)
    moved = pose_jittered(prediction, [sample.token for sample in samples], pose_jitter)
    advance = at_fault.advances(prediction)
    for chosen in by_scene(samples):
        actors = scene_actors([samples[i] for i in chosen], kind)
        plan = Paths(ego=prediction.ego, lidar=None, headings=prediction.headings).at(chosen)
        small = Paths(ego=jittered.ego, lidar=None, headings=jittered.headings).at(chosen)
        paths = Paths(
            ego=np.concatenate([plan.ego, small.ego, moved.ego[chosen]], axis=1),
            lidar=None,
            headings=np.concatenate([plan.headings, small.headings, moved.headings[chosen]], axis=1),
        )
        spread = np.broadcast_to(advance[chosen], paths.headings.shape)
        blamed[chosen] = at_fault.at_fault_hits(actors, paths, spread, footprint)
        poses = footprint_poses(truth.at(chosen), footprint)
        own[chosen] = rectangle_hits(actors.found, *poses, footprint.half_size)[:, 0]
    draws = jittered.headings.shape[1]
    return Hits(
        box=blamed[:, 0],
        truth=own,
        jittered=blamed[:, 1 : 1 + draws],
        centre=None,
        pose_jittered=blamed[:, 1 + draws :],
    )


def scene_actors(samples: Sequence[EvaluationSample], kind: WaypointKind) -> at_fault.Actors:
    """Return the actors around samples of one scene at the steps of their waypoints."""
    keyframes = np.array([sample.index for sample in samples])
    stamps = np.array([sample.reference_stamp_ns for sample in samples])
    return at_fault.actors_of(samples[0].record, keyframes, stamps if kind is WaypointKind.TIME else None)


def collision_summary(
    variant: Variant, hits: Hits, samples: Sequence[EvaluationSample], known: np.ndarray, jitter: Jitter
) -> dict:
    """Return the report entry of one variant; docs/metrics.md describes its fields. known: (N, 6)."""
    judged = judged_samples(variant.counting, samples, known)
    counts = step_counts(variant.counting, judged, known)
    counted = known & judged[:, None]
    alone = ~hits.truth

    def drawn(jittered: np.ndarray, noise: Jitter) -> dict | None:
        draws = [
            _rates(jittered[:, draw] & alone & counted, variant.counting, judged, known, counts)
            for draw in range(jittered.shape[1])
        ]
        return _spread(draws, variant, noise)

    pose = {} if hits.pose_jittered is None else {"pose_jitter": drawn(hits.pose_jittered, POSE_JITTER)}
    return {
        "samples": int(judged.sum()),
        "counted_per_step": [int(count) for count in counts],
        "box": _rates(hits.box & alone & counted, variant.counting, judged, known, counts),
        "box_with_truth_hits": _rates(hits.box & counted, variant.counting, judged, known, counts),
        "centre": None
        if hits.centre is None
        else _rates(hits.centre & alone & counted, variant.counting, judged, known, counts),
        "truth": _rates(hits.truth & counted, variant.counting, judged, known, counts),
        "jitter": drawn(hits.jittered, jitter),
        **pose,
    }


def _rates(
    hit: np.ndarray, counting: Counting, judged: np.ndarray, known: np.ndarray, counts: np.ndarray
) -> dict:
    per_step = per_step_mean(hit.astype(np.float64), counts)
    ever = np.logical_or.accumulate(hit, axis=1)
    until: list[float | None] = [None] * NUM_STEPS
    for step in SECOND_STEPS.values():
        there = judged & known[:, step] if counting is Counting.KNOWN_STEPS else judged
        until[step] = float(ever[there, step].mean()) if there.any() else None
    return {
        "hits_per_step": [int(value) for value in hit.sum(axis=0)],
        "per_step": per_step,
        Averaging.AT_STEP.value: seconds(per_step, Averaging.AT_STEP),
        Averaging.OVER_TIME.value: seconds(per_step, Averaging.OVER_TIME),
        Averaging.ANY_UNTIL.value: seconds(until, Averaging.AT_STEP),
    }


def _spread(draws: list[dict], variant: Variant, jitter: Jitter) -> dict | None:
    """Mean and spread (population standard deviation) over the draws of the variant's own averaging."""
    if not draws:
        return None
    result: dict = {"draws": jitter.draws, "sigma_m": jitter.sigma_m, "seed": jitter.seed}
    if jitter.heading_sigma_rad:
        result["heading_sigma_rad"] = jitter.heading_sigma_rad
    for key in (*SECOND_STEPS, "avg"):
        values = [draw[variant.averaging.value][key] for draw in draws]
        if any(value is None for value in values):
            result[key] = None
            continue
        result[key] = {
            "mean": float(np.mean(values)),
            "spread": float(np.std(values)),
            "min": float(np.min(values)),
            "max": float(np.max(values)),
        }
    return result


def by_scene(samples: Sequence[EvaluationSample]) -> list[np.ndarray]:
    """Return the indices of the samples of each scene."""
    groups: dict[int, list[int]] = {}
    for number, sample in enumerate(samples):
        groups.setdefault(id(sample.record), []).append(number)
    return [np.array(group) for group in groups.values()]
