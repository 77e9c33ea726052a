"""The picture shows what it is given: plan, truth, boxes and images at their places."""

from __future__ import annotations

import numpy as np
import pytest

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration
from wpt_replay.overview import (
    PLAN,
    TRUTH,
    CameraPicture,
    Overview,
    OverviewBox,
    draw_from_above,
    draw_overview,
)

FORWARD = np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
NAMES = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")


def calibration(name: str) -> CameraCalibration:
    intrinsics = np.array([[250.0, 0, 160], [0, 250, 90], [0, 0, 1]])
    return CameraCalibration(
        name=name, width=320, height=180, intrinsics=intrinsics, base_from_camera=FORWARD
    )


def overview(**changes: object) -> Overview:
    plan = np.column_stack([np.arange(7) * 5.0, np.zeros(7)])
    cameras = {
        name: CameraPicture(pixels=np.full((180, 320, 3), 90, np.uint8), calibration=calibration(name))
        for name in NAMES
    }
    return Overview(**({"cameras": cameras, "plan": plan, "title": "title", "lines": ["line"]} | changes))


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int(np.all(image == np.array(colour, np.uint8), axis=-1).sum())


def test_all_parts_fit_into_one_picture() -> None:
    picture = draw_overview(overview(), tile_width=320)
    assert picture.dtype == np.uint8 and picture.shape[1] == 960 and picture.shape[2] == 3
    assert picture.shape[0] > 2 * 180


def test_plan_lies_ahead_of_the_ego_and_truth_where_it_was_driven() -> None:
    left_turn = np.array([[0.0, 0], [10, 2], [18, 8], [22, 16]])
    view = draw_from_above(overview(truth=left_turn), 800, 400)
    rows, columns = np.nonzero(np.all(view == np.array(PLAN, np.uint8), axis=-1))
    assert abs(float(rows.mean()) - 200) < 2, "a straight plan lies on the middle row"
    truth_rows, _ = np.nonzero(np.all(view == np.array(TRUTH, np.uint8), axis=-1))
    assert truth_rows.mean() < 190, "left is up"
    assert columns.max() > 500


def test_boxes_are_drawn_once_they_are_near() -> None:
    box = OverviewBox(
        reference_from_box=se3.planar(15.0, 5.0, 0.3),
        size_lwh=np.array([4.5, 1.9, 1.6]),
        category="vehicle.car",
    )
    far = OverviewBox(reference_from_box=se3.planar(900.0, 5.0, 0.3), size_lwh=np.array([4.5, 1.9, 1.6]))
    empty = draw_from_above(overview(), 800, 400)
    assert np.any(draw_from_above(overview(boxes=[box]), 800, 400) != empty)
    assert np.array_equal(draw_from_above(overview(boxes=[far]), 800, 400), empty)


def test_the_plan_is_drawn_into_the_camera_that_sees_it() -> None:
    without = draw_overview(overview(plan=np.zeros((7, 2))), tile_width=320)
    with_plan = draw_overview(overview(), tile_width=320)
    height = 180
    top = without.shape[0] - int(960 * 0.36) - 2 * height
    assert np.any(with_plan[top : top + height, 320:640] != without[top : top + height, 320:640])


def test_a_missing_image_says_so_and_leaves_the_others() -> None:
    cameras = dict(overview().cameras)
    cameras["cam_back"] = CameraPicture(pixels=None, calibration=calibration("cam_back"))
    assert (
        draw_overview(overview(cameras=cameras), tile_width=320).shape
        == draw_overview(overview(), tile_width=320).shape
    )


@pytest.mark.parametrize("names", [("left", "middle"), ("a", "b", "c", "d")])
def test_any_rig_is_laid_out(names: tuple[str, ...]) -> None:
    cameras = {
        name: CameraPicture(pixels=np.zeros((180, 320, 3), np.uint8), calibration=calibration(name))
        for name in names
    }
    assert draw_overview(overview(cameras=cameras), tile_width=320).shape[1] == 960
