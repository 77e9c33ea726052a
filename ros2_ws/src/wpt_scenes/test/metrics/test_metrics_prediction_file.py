"""Prediction and truth files: read as written, and refused with the token that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from wpt_scenes.metrics import (
    PredictionError,
    WaypointKind,
    matched,
    read_predictions,
    read_truth,
    with_truth,
    write_predictions,
)
from wpt_scenes.truth import WaypointFrame

SIX = [[0.0, float(step)] for step in range(1, 7)]


def good() -> dict:
    return {"name": "theirs", "frame": "lidar", "waypoints": "index", "predictions": {"a": SIX, "b": SIX}}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "file.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_round_trip(tmp_path: Path) -> None:
    first = read_predictions(written(tmp_path, good())).predictions
    assert (first.planner, first.kind, first.frame) == ("theirs", WaypointKind.INDEX, WaypointFrame.LIDAR)
    write_predictions(tmp_path / "again.json", first)
    again = read_predictions(tmp_path / "again.json").predictions
    assert again.planner == "theirs"
    assert all(np.array_equal(first.positions[token], again.positions[token]) for token in ("a", "b"))


def test_name_defaults_to_the_file(tmp_path: Path) -> None:
    content = good()
    del content["name"]
    assert read_predictions(written(tmp_path, content)).predictions.planner == "file"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.pop("frame"), "lacks frame"),
        (lambda c: c.update(extra=1), "unknown fields extra"),
        (lambda c: c.update(frame="global"), "frame is 'global', expected ego"),
        (lambda c: c.update(frame=["ego"]), "frame is"),
        (lambda c: c.update(waypoints="keyframe"), "waypoints is 'keyframe', expected index"),
        (lambda c: c.update(predictions={}), "no object of tokens or is empty"),
        (lambda c: c.update(predictions=[SIX]), "no object of tokens or is empty"),
        (lambda c: c.update(name=7), "name is 7"),
        (lambda c: c["predictions"].update(a=SIX[:5]), "token a has 5 waypoints, expected 6"),
        (lambda c: c["predictions"].update(b=[*SIX[:5], [0.0]]), r"waypoint 6 of token b is \[0.0\]"),
        (lambda c: c["predictions"].update(b=[*SIX[:5], [0.0, None]]), "waypoint 6 of token b"),
        (lambda c: c["predictions"].update(b=[*SIX[:5], [0.0, True]]), "waypoint 6 of token b"),
        (lambda c: c["predictions"].update(b=[*SIX[:5], [0.0, float("nan")]]), "two finite numbers"),
        (lambda c: c["predictions"].update(b=[*SIX[:5], [0.0, float("inf")]]), "two finite numbers"),
        (lambda c: c.update(truth=[1]), "truth is no object"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, change, match: str) -> None:
    content = good()
    change(content)
    with pytest.raises(PredictionError, match=match) as error:
        read_predictions(written(tmp_path, content))
    assert "file.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", '{"frame": "ego", "frame": "lidar"}'])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PredictionError):
        read_predictions(written(tmp_path, text))
    with pytest.raises(PredictionError, match="cannot be read"):
        read_predictions(tmp_path / "absent.json")


def test_a_token_given_twice_is_refused(tmp_path: Path) -> None:
    row = json.dumps(SIX)
    text = f'{{"frame": "ego", "waypoints": "index", "predictions": {{"a": {row}, "a": {row}}}}}'
    with pytest.raises(PredictionError, match="key a is given twice"):
        read_predictions(written(tmp_path, text))


def test_unknown_and_missing_tokens_are_counted_and_named(tmp_path: Path, scenes) -> None:
    samples = scenes.straight(keyframes=9, step_m=5.0)
    content = good()
    content["predictions"] = {samples[0].token: SIX, samples[5].token: SIX, "stranger": SIX}
    predictions = read_predictions(written(tmp_path, content)).predictions
    with pytest.raises(
        PredictionError, match=r"theirs has 1 tokens that the truth does not have \(stranger\)"
    ):
        matched(predictions, samples, samples, partial=False)
    judged, counts = matched(predictions, samples, samples[:3], partial=True)
    assert list(judged.positions) == [samples[0].token]
    assert counts == {
        "file_tokens": 3,
        "judged": 1,
        "outside_the_selection": 1,
        "unknown": ["stranger"],
        "missing": [samples[1].token, samples[2].token],
    }
    del content["predictions"]["stranger"]
    predictions = read_predictions(written(tmp_path, content)).predictions
    with pytest.raises(PredictionError, match="theirs has 2 tokens missing that the truth has"):
        matched(predictions, samples, samples[:3], partial=False)
    judged, _ = matched(predictions, samples, samples[:1], partial=False)
    assert list(judged.positions) == [samples[0].token]


def truth_content() -> dict:
    return {
        "frame": "lidar",
        "waypoints": "index",
        "truth": {
            "a": {"positions": SIX, "mask": [1, 1, 1, 1, 1, 0]},
            "b": {"positions": SIX, "mask": [1] * 6},
        },
    }


def test_truth_file(tmp_path: Path) -> None:
    first, second = read_truth(written(tmp_path, truth_content()))
    positions, known = first.truth[WaypointKind.INDEX, WaypointFrame.LIDAR]
    assert known.tolist() == [True] * 5 + [False]
    assert positions[2].tolist() == [0.0, 3.0]
    assert second.base_from_lidar is None
    content = truth_content()
    assert second.past is None
    content["base_from_lidar"] = [0.94, 0.0, -1.5708]
    content["truth"]["a"]["past"] = 2
    first, second = read_truth(written(tmp_path, content))
    assert first.base_from_lidar[0, 3] == 0.94
    assert (first.past, second.past) == (2, None)


def test_predictions_may_bring_their_truth(tmp_path: Path) -> None:
    content = good()
    content["truth"] = truth_content()
    found = read_predictions(written(tmp_path, content))
    assert [sample.token for sample in found.truth] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c["truth"]["a"].pop("mask"), "token a has not the fields"),
        (lambda c: c["truth"]["a"].update(mask=[1] * 5), "mask of token a"),
        (lambda c: c["truth"]["a"].update(mask=[1, 0, 1, 1, 1, 1]), "known step after an unknown one"),
        (lambda c: c["truth"]["a"].update(mask=[2] * 6), "mask of token a"),
        (lambda c: c["truth"]["a"].update(positions=SIX[:4]), "token a has 4 waypoints"),
        (lambda c: c.update(base_from_lidar=[1.0, 2.0]), "base_from_lidar"),
        (lambda c: c["truth"]["a"].update(past=-1), "past of token a is -1"),
        (lambda c: c.update(truth={}), "truth is no object"),
        (lambda c: c.update(predictions={}), "unknown fields predictions"),
    ],
)
def test_each_mistake_in_truth_is_named(tmp_path: Path, change, match: str) -> None:
    content = truth_content()
    change(content)
    with pytest.raises(PredictionError, match=match):
        read_truth(written(tmp_path, content))


def test_truth_from_a_file_replaces_the_data_sets(tmp_path: Path, scenes) -> None:
    samples = scenes.straight(keyframes=9, step_m=5.0)
    content = truth_content()
    content["truth"] = {samples[1].token: {"positions": SIX, "mask": [1] * 6}}
    (sample,) = with_truth(samples, read_truth(written(tmp_path, content)))
    assert sample.record is samples[1].record
    assert sample.truth[WaypointKind.INDEX, WaypointFrame.LIDAR][0][0].tolist() == [0.0, 1.0]
    content["truth"] = {"stranger": {"positions": SIX, "mask": [1] * 6}}
    with pytest.raises(PredictionError, match="1 tokens that the chosen scenes lack"):
        with_truth(samples, read_truth(written(tmp_path, content)))
