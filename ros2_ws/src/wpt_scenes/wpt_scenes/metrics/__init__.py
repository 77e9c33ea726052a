"""Open-loop metrics: published and own variants under names, on plain arrays. See docs/metrics.md.

``evaluate_predictions`` is the one entry: samples (``samples_of_scene``) and predictions in, report out.
``PrimaryMetrics`` gives the primary metric and L2 alone, sample by sample, for many planners at once.
"""

from wpt_scenes.metrics.collision import POSE_JITTER, Jitter
from wpt_scenes.metrics.evaluation import evaluate_predictions, truth_as_predictions
from wpt_scenes.metrics.prediction_file import (
    PredictionFile,
    matched,
    read_predictions,
    read_truth,
    write_predictions,
)
from wpt_scenes.metrics.primary import PrimaryMetrics, PrimaryScores
from wpt_scenes.metrics.rectangles import EgoFootprint
from wpt_scenes.metrics.samples import EvaluationSample, samples_of_scene, with_truth
from wpt_scenes.metrics.tables import report_tables
from wpt_scenes.metrics.token_sets import NAMED_SETS, select_samples
from wpt_scenes.metrics.variants import VARIANTS, Variant, variants_of
from wpt_scenes.metrics.waypoints import (
    MixedWaypointsError,
    PredictionError,
    Predictions,
    WaypointBatch,
    WaypointKind,
    displacement,
)

__all__ = [
    "NAMED_SETS",
    "POSE_JITTER",
    "VARIANTS",
    "EgoFootprint",
    "EvaluationSample",
    "Jitter",
    "MixedWaypointsError",
    "PredictionError",
    "PredictionFile",
    "Predictions",
    "PrimaryMetrics",
    "PrimaryScores",
    "Variant",
    "WaypointBatch",
    "WaypointKind",
    "displacement",
    "evaluate_predictions",
    "matched",
    "read_predictions",
    "read_truth",
    "report_tables",
    "samples_of_scene",
    "select_samples",
    "truth_as_predictions",
    "variants_of",
    "with_truth",
    "write_predictions",
]
