"""How much successive plans agree with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wpt_scenes.metrics.samples import EvaluationSample
from wpt_scenes.metrics.waypoints import STEP_S, WaypointKind
from wpt_scenes.truth import NUM_STEPS


def successive_pairs(samples: Sequence[EvaluationSample]) -> list[tuple[int, int]]:
    """Return the positions (earlier, later) in ``samples`` of neighbouring keyframes of one scene."""
    place = {
        (id(sample.record), sample.index): i for i, sample in enumerate(samples) if sample.record is not None
    }
    found = (
        (place.get((id(s.record), s.index - 1)), i) for i, s in enumerate(samples) if s.record is not None
    )
    return [(earlier, later) for earlier, later in found if earlier is not None]


def overlap_distances(samples: Sequence[EvaluationSample], ego: np.ndarray, kind: WaypointKind) -> np.ndarray:
    """Return (P, 5) distances in metres between the places that P successive pairs of plans give to one instant.

    ego: (N, 6, 2) in base_link at each keyframe. Column j belongs to point j + 1 of the later plan; the earlier plan is
    moved into the later keyframe's base_link by the recorded poses. Index-based plans overlap point by point (point
    k + 1 of the earlier with point k of the later); time-based ones are interpolated between the earlier plan's points
    (NaN beyond its horizon).
    """
    pairs = successive_pairs(samples)
    result = np.full((len(pairs), NUM_STEPS - 1), np.nan)
    for row, (earlier, later) in enumerate(pairs):
        record, first, second = samples[earlier].record, samples[earlier].index, samples[later].index
        later_from_earlier = record.base_from_global[second] @ record.global_from_base[first]
        whole = np.vstack([np.zeros((1, 2)), ego[earlier]])
        moved = whole @ later_from_earlier[:2, :2].T + later_from_earlier[:2, 3]
        if kind is WaypointKind.INDEX:
            expected = moved[2:]
        else:
            shift = (samples[later].reference_stamp_ns - samples[earlier].reference_stamp_ns) / 1e9
            at = shift + STEP_S * np.arange(1, NUM_STEPS)
            times = STEP_S * np.arange(NUM_STEPS + 1)
            expected = np.stack(
                [np.interp(at, times, moved[:, axis], right=np.nan) for axis in range(2)], axis=-1
            )
        result[row] = np.linalg.norm(expected - ego[later][: NUM_STEPS - 1], axis=-1)
    return result


def tpc_as_coded(lidar: np.ndarray) -> np.ndarray:
    """Return (C, 6) distances of point k of each complete sample to point k of the one before it.

    lidar: (C, 6, 2) of the complete samples in the order of evaluation. Nothing is moved to a common frame, the first is
    compared with zeros, and scene borders are crossed: what MomAD's evaluation file computes as its TPC.
    """
    before = np.concatenate([np.zeros_like(lidar[:1]), lidar[:-1]])
    return np.linalg.norm(lidar - before, axis=-1)
