from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from wpt_policy.frame import Command, CommandSource

from wpt_training.data.side_tables import LaneDirections, SideTables
from wpt_training.errors import TrainingError

COMMANDS = {"format": 1, "source": "ROUTE", "commands": {"t1": "left", "t2": "lane_follow"}}
ROUTES = {"format": 1, "scenes": {"s": [[0.0, 0.0], [1.0, 0.0]]}}
SIGNALS = {
    "format": 1,
    "samples": {"t1": {"colour": "red", "stop_line": [[5, 1], [5, -1]], "distance_m": 5.0}},
}


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_nothing_beside_the_tables(tmp_path: Path):
    side = SideTables.load(tmp_path, ["t1"])
    assert side.commands is None and not side.routes and not side.signals and not side.unlabelled
    assert side.lane_directions("town") is None


def test_all_of_them(tmp_path: Path):
    write(tmp_path, "command.json", COMMANDS)
    write(tmp_path, "routes.json", ROUTES)
    write(tmp_path, "signals.json", SIGNALS)
    write(tmp_path, "unlabelled_samples.txt", "# 1 sample\nt2\n\n")
    write(tmp_path, "samples_natural.txt", "t1\nt2\n")
    side = SideTables.load(tmp_path, ["t1", "t2"])
    assert side.commands == {"t1": Command.LEFT, "t2": Command.LANE_FOLLOW}
    assert side.command_source is CommandSource.ROUTE
    assert side.unlabelled == {"t2"} and side.natural == {"t1", "t2"} and side.interactive == frozenset()
    np.testing.assert_array_equal(side.routes["s"], [[0, 0], [1, 0]])
    assert side.signals["t1"].state == 3 and side.signals["t1"].stop_line.shape == (2, 2)


def test_the_digest_tells_contents_apart(tmp_path: Path):
    before = SideTables.load(tmp_path).digest
    write(tmp_path, "command.json", COMMANDS)
    assert SideTables.load(tmp_path).digest != before


@pytest.mark.parametrize(
    "name, content, what",
    [
        ("command.json", "{", "cannot be read"),
        ("command.json", {"format": 2, "commands": {}}, "format 1"),
        ("command.json", {"format": 1, "source": "ROUTE", "commands": {"t1": "fly"}}, "FLY"),
        ("command.json", {"format": 1, "source": "FATE", "commands": {}}, "FATE"),
        ("command.json", {"format": 1, "source": "ROUTE", "commands": {"t9": "left"}}, "t9"),
        ("routes.json", {"format": 1, "scenes": {"s": [[0, 0]]}}, "fewer than two"),
        ("routes.json", {"format": 1, "scenes": {"s": [[0, 0], [1]]}}, "s holds no list"),
        ("signals.json", {"format": 1, "samples": {"t1": {"colour": "blue", "stop_line": []}}}, "'blue'"),
        (
            "signals.json",
            {"format": 1, "samples": {"t1": {"colour": "red", "stop_line": [[0, 0]]}}},
            "two ends",
        ),
        ("unlabelled_samples.txt", "t1\nt7\n", "t7"),
        ("samples_interactive.txt", b"\xff\xfe".decode("latin-1"), "ÿþ"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path: Path, name: str, content: object, what: str):
    write(tmp_path, name, content)
    with pytest.raises(TrainingError, match=what) as caught:
        SideTables.load(tmp_path, ["t1", "t2"])
    assert name in str(caught.value)


def test_lane_directions_are_looked_up_as_map_masks_are(tmp_path: Path):
    codes = np.zeros((20, 40), dtype=np.uint8)
    codes[15, 8] = 1  # x = 4, y = 0.5 (20 - 15) = 2.5
    codes[10, 20] = 1 + round(254 / 4)
    (tmp_path / "lane_directions").mkdir()
    cv2.imwrite(str(tmp_path / "lane_directions" / "town.png"), codes)
    lanes = SideTables.load(tmp_path).lane_directions("town")
    found = lanes.at(np.array([[4.0, 2.5], [4.2, 2.7], [10.0, 5.0], [6.0, 2.5], [-5.0, 0.0], [np.nan, 1.0]]))
    np.testing.assert_allclose(found[:2], 0.0)
    assert found[2] == pytest.approx(math.pi / 2, abs=0.02)
    assert np.isnan(found[3:]).all()


def test_a_broken_lane_image_is_named(tmp_path: Path):
    (tmp_path / "lane_directions").mkdir()
    (tmp_path / "lane_directions" / "town.png").write_bytes(b"no image")
    with pytest.raises(TrainingError, match="town.png"):
        SideTables.load(tmp_path).lane_directions("town")


def test_headings_go_round_once():
    lanes = LaneDirections(codes=np.arange(1, 255, dtype=np.uint8)[None])
    headings = lanes.at(np.column_stack([np.arange(254) * 0.5, np.full(254, 0.5)]))
    np.testing.assert_allclose(np.diff(headings), 2 * math.pi / 254)
