"""The whole line once: scene, bag, planner node in its own process, offline comparison, report and picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import pytest

from wpt_replay import demo
from wpt_replay.errors import ReplayError
from wpt_replay.line_run import run_line
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene

pytestmark = [pytest.mark.node, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_factory_scene(tmp_path_factory.mktemp("demo"), keyframes=4, image_size=(320, 180))


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(words)


def test_every_set_is_planned_once_and_node_equals_offline(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = demo.run(
        arguments(
            "--out", str(out), "--data", str(data), "--version", FACTORY_VERSION, "--scene", FACTORY_SCENE
        )
    )
    report = json.loads((out / "report.json").read_text())
    assert code == 0
    expected = report["sets"]["expected"]
    assert expected > 10
    assert report["sets"] == {"expected": expected, "assembled": expected, "incomplete": 0, "skipped": 0}
    assert report["plans"]["published"] == expected
    against = report["node_vs_offline"]
    assert against["compared"] == expected and against["max_abs_m"] < 1e-4
    assert against["swapped_cameras_change_m"] > 1e-2
    assert report["age_ms"]["n"] == expected and report["age_ms"]["p50"] > 0
    assert {"plan", "publish"} <= report["stages_ms"].keys()
    assert 40 < report["skew_ms"]["p50"] < 46
    assert report["real_time"]["node_vs_offline"]["max_abs_m"] < 1e-4
    assert report["hardware"]["cores"] and report["versions"]["torch"]
    picture = cv2.imread(str(out / "overview.png"))
    assert picture.shape[1] == 1920 and picture.std() > 20


def test_an_unknown_scene_is_named(data: Path, tmp_path: Path) -> None:
    words = (
        "--out",
        str(tmp_path),
        "--data",
        str(data),
        "--version",
        FACTORY_VERSION,
        "--scene",
        "scene-9999",
    )
    with pytest.raises(ReplayError, match=r"scene-9999.*scene-0001"):
        demo.run(arguments(*words))


def test_a_planner_that_cannot_be_loaded_ends_the_run_with_its_reason(factory_bag: Path) -> None:
    from wpt_replay.replay_report import ReplayOptions

    options = ReplayOptions(lockstep=True, planner="/planner", wait_timeout_s=8.0)
    with pytest.raises(ReplayError, match="no-such-bundle"):
        run_line(factory_bag, "no-such-bundle", lockstep=True, options=options)
