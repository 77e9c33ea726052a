"""Do small rendered images stand for large ones? How far a policy's plans lie apart between the two.

Training reads images rendered at 256x144 and cropped to 256x128; the node reads 1600x900 and resizes them. Both are made
of the same scenes, so that a difference between the plans is the images' alone (issue of training: under 0.05 m, else
train from full size).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wpt_policy.bundle import find_bundle, load_bundle, network_of

from wpt_training.configuration import CONFIGURATIONS, configuration
from wpt_training.data.cache_builder import build_cache
from wpt_training.errors import TrainingError
from wpt_training.evaluation.predictions import Predictor, Samples, predict, student_predictor

LARGEST_MEAN_M = 0.05


@dataclass(frozen=True, kw_only=True)
class ImageSizeReport:
    """Distances in metres between the plans of the same samples. per_step: (T,) means.

    mean, largest: over samples and steps. pixel_difference: mean absolute difference of the prepared images, 0 to 255.
    """

    samples: int
    mean_m: float
    p95_m: float
    largest_m: float
    per_step_m: tuple[float, ...]
    pixel_difference: float

    @property
    def passes(self) -> bool:
        return self.mean_m < LARGEST_MEAN_M


def compare_image_sizes(
    small: Samples,
    large: Samples,
    predictor: Predictor,
    *,
    tokens: Sequence[str] | None = None,
    batch: int = 32,
) -> ImageSizeReport:
    """Return how far a policy's plans lie apart between two caches of the same scenes.

    tokens: the samples to compare; all that both have unless given. Raises TrainingError where the caches have none in
    common, or where their prepared images differ in size.
    """
    rows_small = {token: row for row, token in enumerate(small.tokens)}
    rows_large = {token: row for row, token in enumerate(large.tokens)}
    chosen = [t for t in (small.tokens if tokens is None else tokens) if t in rows_small and t in rows_large]
    if not chosen:
        raise TrainingError(
            "the two caches have no sample in common, expected the same scenes; build both from the same logs."
        )
    one = predict(small, [rows_small[token] for token in chosen], predictor, batch=batch)
    two = predict(large, [rows_large[token] for token in chosen], predictor, batch=batch)
    distance = np.array([np.linalg.norm(one[token] - two[token], axis=-1) for token in chosen])
    return ImageSizeReport(
        samples=len(chosen),
        mean_m=float(distance.mean()),
        p95_m=float(np.percentile(distance, 95)),
        largest_m=float(distance.max()),
        per_step_m=tuple(float(value) for value in distance.mean(axis=0)),
        pixel_difference=_pixel_difference(small, large, chosen, rows_small, rows_large),
    )


def _pixel_difference(
    small: Samples,
    large: Samples,
    tokens: Sequence[str],
    rows_small: dict[str, int],
    rows_large: dict[str, int],
) -> float:
    differences = []
    for token in tokens[:: max(1, len(tokens) // 32)]:
        pair = [
            source.batch([rows[token]]).images[:, 0]
            for source, rows in ((small, rows_small), (large, rows_large))
        ]
        if pair[0].shape != pair[1].shape:
            raise TrainingError(
                f"prepared images are {tuple(pair[0].shape[2:4])} and {tuple(pair[1].shape[2:4])}, expected the same size; "
                "build both caches with one configuration."
            )
        differences.append(float((pair[0].float() - pair[1].float()).abs().mean()))
    return float(np.mean(differences))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `wpt-train size-check`."""
    parser.add_argument("--policy", required=True, help="policy bundle")
    parser.add_argument("--small", type=Path, required=True, help="data set of small images")
    parser.add_argument("--large", type=Path, required=True, help="the same order at full size")
    parser.add_argument("--version", required=True)
    parser.add_argument("--config", default="compact", choices=sorted(CONFIGURATIONS))


def run(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(find_bundle(arguments.policy))
    config = configuration(arguments.config)
    with tempfile.TemporaryDirectory() as folder:
        small, large = (
            build_cache(root, arguments.version, Path(folder) / name, config)
            for name, root in (("small", arguments.small), ("large", arguments.large))
        )
        report = compare_image_sizes(small, large, student_predictor(network_of(bundle), bundle.config))
    print(
        f"{report.samples} samples: plans differ by {report.mean_m:.4f} m on average (95 %: {report.p95_m:.4f} m, largest "
        f"{report.largest_m:.3f} m), pixels by {report.pixel_difference:.2f} of 255; "
        + ("small images stand for large ones" if report.passes else f"more than {LARGEST_MEAN_M} m: train from full size")
    )
    return 0 if report.passes else 1
