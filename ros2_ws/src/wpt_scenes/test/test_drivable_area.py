"""Looking up drivable ground."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_scenes import drivable_area
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.factory.ground import ROAD_LEFT, ROAD_RIGHT
from wpt_scenes.factory.route import Route
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables

RNG = np.random.default_rng(0)
MASK = (RNG.random((41, 27)) < 0.5).astype(np.uint8) * 255


@pytest.fixture(scope="module")
def mask_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "mask.png"
    cv2.imwrite(str(path), MASK)
    return path


@given(st.integers(0, 26), st.integers(0, 40), st.floats(-0.49, 0.49), st.floats(-0.49, 0.49))
def test_a_pixel_is_the_tenth_of_a_metre_around_its_place(mask_file, column, row, dx, dy) -> None:
    area = DrivableArea.from_mask_file(mask_file)
    place = np.array([[0.1 * (column + dx), 0.1 * (41 - row + dy)]])
    assert area.contains(place)[0] == (MASK[row, column] == 255)


def test_outside_the_mask_nothing_is_drivable(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "all.png"), np.full((20, 30), 255, np.uint8))
    area = DrivableArea.from_mask_file(tmp_path / "all.png")
    places = np.array(
        [[1.0, 1.0], [-0.2, 1.0], [3.1, 1.0], [1.0, 2.2], [1.0, -0.1], [np.nan, 1.0], [1e300, 1.0]]
    )
    assert area.contains(places).tolist() == [True] + [False] * 6
    with pytest.raises(ValueError, match=r"expected \(N, 2\)"):
        area.contains(np.zeros(2))


def test_only_255_is_drivable(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.array([[0, 1, 254, 255]], np.uint8))
    area = DrivableArea.from_mask_file(tmp_path / "grey.png")
    assert area.contains(np.array([[0.1 * c, 0.1] for c in range(4)])).tolist() == [False, False, False, True]


def test_the_crop_is_what_contains_says_of_each_cell(mask_file: Path) -> None:
    area = DrivableArea.from_mask_file(mask_file)
    pose = se3.planar(1.2, 2.0, 0.7)
    grid = area.crop(pose, (-0.5, 1.0), (-0.6, 0.4), 0.25)
    assert grid.shape == (6, 4) and grid.dtype == bool
    for i in range(6):
        for j in range(4):
            place = se3.apply(pose, np.array([[-0.5 + (i + 0.5) * 0.25, -0.6 + (j + 0.5) * 0.25, 0.0]]))
            assert grid[i, j] == area.contains(place[:, :2])[0]
    with pytest.raises(ValueError, match="no whole number of cells"):
        area.crop(pose, (0.0, 1.0), (0.0, 1.0), 0.3)


def test_a_mask_is_decoded_once_until_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), MASK)
    decoded = []
    original = cv2.imread
    monkeypatch.setattr(drivable_area.cv2, "imread", lambda *a: decoded.append(a) or original(*a))
    assert DrivableArea.from_mask_file(path).bits is DrivableArea.from_mask_file(path).bits
    assert len(decoded) == 1
    cv2.imwrite(str(path), np.zeros((3, 3), np.uint8))
    assert DrivableArea.from_mask_file(path).height == 3


def test_files_that_are_no_mask_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"gone\.png cannot be read \(No such file.*fetch the data set's maps folder"
    ):
        DrivableArea.from_mask_file(tmp_path / "gone.png")
    (tmp_path / "pointer.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DatasetError, match=r"pointer\.png is a Git LFS pointer"):
        DrivableArea.from_mask_file(tmp_path / "pointer.png")
    (tmp_path / "text.png").write_text("no image at all, but some text")
    with pytest.raises(DatasetError, match=r"text\.png of 30 bytes cannot be decoded"):
        DrivableArea.from_mask_file(tmp_path / "text.png")


def test_a_scene_without_a_map_is_named(edited) -> None:
    tables = NuScenesTables.load(edited("map", lambda rows: rows[0].update(log_tokens=[])), "v1.0-small")
    with pytest.raises(DatasetError, match=r"no map names the log of scene-0 \(street\)"):
        DrivableArea.load(tables, load_scene(tables, "scene-0"))


def test_the_factory_road_is_drivable_and_its_pavement_is_not(
    factory_tables: NuScenesTables, factory_scene: Scene
) -> None:
    area = DrivableArea.load(factory_tables, factory_scene)
    seconds = (factory_scene.keyframes[-1].stamp_ns - factory_scene.keyframes[0].stamp_ns) / 1e9
    route = Route(seconds, seed=0)
    for inside, d in (
        (True, ROAD_LEFT - 0.2),
        (False, ROAD_LEFT + 0.2),
        (True, ROAD_RIGHT + 0.2),
        (False, ROAD_RIGHT - 0.2),
    ):
        assert (area.contains(route.line(d, -20.0, route.end_s + 20.0)) == inside).all(), d
    assert area.contains(np.array([pose[:2, 3] for _, pose in factory_scene.ego_poses])).all()
