"""Whether the ego's footprint leaves the drivable area."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wpt_scenes.metrics.exact_metrics import footprint_poses
from wpt_scenes.metrics.paths import Paths
from wpt_scenes.metrics.rectangles import EgoFootprint
from wpt_scenes.metrics.samples import EvaluationSample

# Corners, edge middles and centre, as shares of half length and half width.
FOOTPRINT_POINTS = np.array([[along, aside] for along in (-1.0, 0.0, 1.0) for aside in (-1.0, 0.0, 1.0)])


def off_road_steps(samples: Sequence[EvaluationSample], paths: Paths, footprint: EgoFootprint) -> np.ndarray:
    """Return (N, D, 6) bool: whether one of nine points of the footprint lies outside the drivable area.

    paths: (N, D, 6, 2) in base_link; steps without truth are looked up like others. Every sample's record needs a
    drivable area.
    """
    centre, heading = footprint_poses(paths, footprint)
    centre, heading = np.nan_to_num(centre), np.nan_to_num(heading)
    offset = FOOTPRINT_POINTS * footprint.half_size
    cosine, sine = np.cos(heading)[..., None], np.sin(heading)[..., None]
    points = np.stack(
        [
            centre[..., None, 0] + cosine * offset[:, 0] - sine * offset[:, 1],
            centre[..., None, 1] + sine * offset[:, 0] + cosine * offset[:, 1],
        ],
        axis=-1,
    )
    result = np.zeros(heading.shape, dtype=bool)
    for number, sample in enumerate(samples):
        pose = sample.record.global_from_base[sample.index]
        places = points[number].reshape(-1, 2) @ pose[:2, :2].T + pose[:2, 3]
        drivable = np.asarray(sample.record.drivable.contains(places), dtype=bool)
        result[number] = ~drivable.reshape(*heading.shape[1:], len(offset)).all(axis=-1)
    return result
