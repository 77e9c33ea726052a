"""The report as a whole: names, reasons, JSON, tables, and the documentation that lists them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wpt_scenes.metrics import (
    VARIANTS,
    EvaluationSample,
    Jitter,
    PredictionError,
    Predictions,
    WaypointKind,
    evaluate_predictions,
    report_tables,
)
from wpt_scenes.metrics.variants import Group, variants_of
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

NO_JITTER = Jitter(draws=0)
DOCUMENTATION = Path(__file__).parents[5] / "docs" / "metrics.md"


@pytest.fixture(scope="module")
def report(scenes, box_at) -> dict:
    samples = scenes.straight(keyframes=9, step_m=5.0, boxes=scenes.everywhere(box_at(x=40.0, y=0.0), 9))
    plan = np.stack([4.0 * np.arange(1, 7), np.zeros(6)], axis=-1)
    return evaluate_predictions(samples, [scenes.predictions(samples, plan)], jitter=Jitter(draws=2))


def test_every_variant_has_a_number_or_a_reason(report) -> None:
    assert list(report["planners"]) == ["planner", "stop", "truth"]
    for entry in report["planners"].values():
        numbers = {*entry["l2"], *entry["collision"], *entry["consistency"]}
        numbers |= {"off_road"} if entry["off_road"] else set()
        assert numbers | set(entry["unavailable"]) == set(VARIANTS)
        assert not numbers & set(entry["unavailable"])
    assert report["variants"].keys() == VARIANTS.keys()
    assert (report["samples"], report["samples_with_six_steps"], report["scenes"]) == (9, 3, ["scene-0001"])


def test_report_is_plain_json_and_the_tables_come_from_it_alone(report) -> None:
    again = json.loads(json.dumps(report, allow_nan=False))
    assert again == report
    assert report_tables(again) == report_tables(report)


def test_tables_show_all_six_steps_counts_and_truth(report) -> None:
    text = report_tables(report)
    for variant in (*variants_of(Group.L2), *variants_of(Group.COLLISION)):
        assert variant.title in text
        assert sum(line.startswith(f"| {variant.name}") for line in text.splitlines()) >= 3
    assert "9 samples, 3 with six future steps" in text
    assert "8 7 6 5 4 3" in text
    assert "truth, own hits" in text
    assert "no off_road: no drivable area" in text


def test_samples_without_a_plan_are_counted_and_named(scenes) -> None:
    samples = scenes.straight(keyframes=9, step_m=5.0)
    tokens = [sample.token for sample in samples]
    some = Predictions(
        planner="some",
        kind=WaypointKind.INDEX,
        frame=WaypointFrame.EGO,
        positions={tokens[0]: np.zeros((NUM_STEPS, 2))},
        refused={tokens[1]: "no ego motion"},
    )
    report = evaluate_predictions(samples, [some], jitter=NO_JITTER)
    entry = report["planners"]["some"]
    assert (entry["samples"], entry["refused"], entry["missing"]) == (
        1,
        {tokens[1]: "no ego motion"},
        tokens[2:],
    )
    text = report_tables(report)
    assert "some: 1 samples without a plan" in text
    assert "some: 7 samples missing" in text
    none = Predictions(
        planner="none", kind=WaypointKind.INDEX, frame=WaypointFrame.EGO, positions={}, refused={}
    )
    entry = evaluate_predictions(samples, [none], jitter=NO_JITTER)["planners"]["none"]
    assert set(entry["unavailable"]) == set(VARIANTS)


def test_published_truth_alone_gives_l2_and_reasons_for_the_rest(scenes) -> None:
    """Ten samples known by truth in the LiDAR frame alone, without a mount, boxes or neighbours."""
    forward = np.stack([np.zeros(6), 5.0 * np.arange(1, 7)], axis=-1)
    known = np.ones(6, dtype=bool)
    samples = [
        EvaluationSample(
            token=str(number),
            scene_name="",
            truth={(WaypointKind.INDEX, WaypointFrame.LIDAR): (forward, known if number else known & False)},
            base_from_lidar=None,
        )
        for number in range(10)
    ]
    predictions = scenes.predictions(samples, forward * 0.8, frame=WaypointFrame.LIDAR)
    entry = evaluate_predictions(samples, [predictions])["planners"]["planner"]
    assert entry["l2"]["l2_lidar"]["per_step"] == pytest.approx([1, 2, 3, 4, 5, 6])
    assert entry["l2"]["l2_uniad"]["per_step"] == pytest.approx(0.9 * np.arange(1, 7))
    assert entry["l2"]["l2_vad"]["over_time"]["3s"] == pytest.approx(3.5)
    assert "published truth alone" in entry["unavailable"]["l2_stp3"]
    assert "mount" in entry["unavailable"]["l2_ego"]
    assert "no boxes" in entry["unavailable"]["collision_uniad"]
    mounted = [
        replace(sample, base_from_lidar=scenes.base_from_lidar, earlier_keyframes=int(sample.token))
        for sample in samples
    ]
    entry = evaluate_predictions(mounted, [predictions])["planners"]["planner"]
    assert entry["l2"]["l2_ego"]["per_step"] == pytest.approx([1, 2, 3, 4, 5, 6])
    assert entry["l2"]["l2_stp3"]["samples"] == 8
    assert len(entry["l2"]) == 7


def test_what_cannot_be_judged_is_refused(scenes) -> None:
    samples = scenes.straight(keyframes=9, step_m=5.0)
    plan = np.zeros((NUM_STEPS, 2))
    with pytest.raises(PredictionError, match="no sample"):
        evaluate_predictions([], [])
    with pytest.raises(PredictionError, match="twice among the samples"):
        evaluate_predictions([samples[0], samples[0]], [])
    twice = [scenes.predictions(samples, plan), scenes.predictions(samples, plan)]
    with pytest.raises(PredictionError, match="used twice"):
        evaluate_predictions(samples, twice)
    with pytest.raises(PredictionError, match="reserved"):
        evaluate_predictions(samples, [scenes.predictions(samples, plan, planner="truth")])
    with pytest.raises(PredictionError, match="not judged"):
        evaluate_predictions(samples[:3], [scenes.predictions(samples, plan)])
    with pytest.raises(PredictionError, match="no time-based truth in the lidar frame"):
        strange = scenes.predictions(samples, plan, kind=WaypointKind.TIME, frame=WaypointFrame.LIDAR)
        evaluate_predictions(samples, [strange])
    for bad, match in ((np.zeros((5, 2)), "shape"), (np.full((6, 2), np.nan), "finite")):
        with pytest.raises(PredictionError, match=match):
            scenes.predictions(samples, bad)


def test_truth_with_a_hole_is_refused() -> None:
    known = np.array([True, False, True, True, True, True])
    with pytest.raises(PredictionError, match="known step after an unknown one"):
        EvaluationSample(
            token="a",
            scene_name="",
            truth={(WaypointKind.INDEX, WaypointFrame.EGO): (np.zeros((6, 2)), known)},
            base_from_lidar=None,
        )


def test_every_variant_is_documented() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for variant in VARIANTS.values():
        assert f"`{variant.name}`" in text, f"docs/metrics.md does not describe {variant.name}"
        assert variant.source.split()[0] in text
