"""Contact sheets: rows of moments, columns of cameras."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from wpt_sim.cli import main
from wpt_sim.contact_sheet import sheet_of_log, telling_times
from wpt_sim.demo_scene import DEMO_LOG, DEMO_SCENE, DEMO_VERSION, demo_log


def test_a_sheet_of_a_log_has_a_row_a_moment(tmp_path: Path) -> None:
    sheet = sheet_of_log(demo_log(), [2.0, 6.0], width=128)
    assert sheet.shape == (2 * (72 + 20), 3 * 128 + 2 * 2, 3) and sheet.std() > 20
    path = tmp_path / "sheet.jpg"
    assert main(["sheet", "--log", str(DEMO_LOG), "--width", "96", "--out", str(path)]) == 0
    assert cv2.imread(str(path)).shape == (4 * (54 + 20), 3 * 96 + 4, 3)


def test_a_sheet_of_a_data_set_shows_its_files(demo_root: Path, tmp_path: Path, capsys) -> None:
    arguments = ["sheet", "--data", str(demo_root), "--version", DEMO_VERSION, "--scene", DEMO_SCENE, "--width", "96"]
    path = tmp_path / "sheet.jpg"
    assert main([*arguments, "--keyframes", "3", "--out", str(path)]) == 0
    assert cv2.imread(str(path)).shape == (2 * (54 + 20), 3 * 96 + 4, 3)
    assert main([*arguments, "--keyframes", "99", "--out", str(path)]) == 1
    assert "no keyframe 99" in capsys.readouterr().err


def test_moments_of_a_natural_drive_are_spread_over_it() -> None:
    assert telling_times(demo_log()) == (3.0, 6.5)


def test_a_familys_sheet_is_driven_on_the_spot(tmp_path: Path) -> None:
    pytest.importorskip("libsumo", reason="libsumo is not installed: pip install libsumo==1.28.0")
    path = tmp_path / "sheet.jpg"
    assert main(["sheet", "--family", "natural", "--seed", "2", "--width", "96", "--out", str(path)]) == 0
    assert cv2.imread(str(path)).shape == (2 * (54 + 20), 3 * 96 + 4, 3)
