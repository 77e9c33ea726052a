from __future__ import annotations

import math

import numpy as np
import pytest

from wpt_policy.policy_config import BevGrid

from wpt_training.data.line_of_sight import (
    BEARINGS,
    camera_middle,
    cells_in_view,
    in_shadow,
    line_of_sight,
    shadow_distance,
)

GRID = BevGrid(x_range_m=(-10.0, 20.0), y_range_m=(-10.0, 10.0), cell_m=0.5, heights_m=(0.0,))
SIZE = (256, 128)
CAR_AHEAD = (10.0, 0.0, 0.0, 4.0, 2.0)


def camera(yaw: float, x: float = 0.0, y: float = 0.0, focal: float = 128.0) -> np.ndarray:
    """(3, 4) of a camera 1.5 m up with a 90 degree view."""
    c, s = math.cos(yaw), math.sin(yaw)
    camera_from_base = np.array([[s, -c, 0, c * y - s * x], [0, 0, -1, 1.5], [c, s, 0, -(c * x + s * y)]])
    return np.array([[focal, 0, 127.5], [0, focal, 63.5], [0, 0, 1]]) @ camera_from_base


def cell(x: float, y: float) -> tuple[int, int]:
    return math.floor((x + 10.0) / 0.5), math.floor((y + 10.0) / 0.5)


def test_a_camera_sees_what_lies_in_its_image():
    seen = cells_in_view(camera(0.0)[None], np.array([True]), SIZE, GRID)
    assert seen[cell(10, 0)] and seen[cell(10, 9)] and seen[cell(10, -9)]
    assert not seen[cell(5, 6)] and not seen[cell(-5, 0)] and not seen[cell(-1, 0)]
    # 1 m high at 1.5 m distance is 43 pixels below the middle, still inside the 128 rows; at 0.8 m it is not.
    assert seen[cell(1.6, 0)] and not seen[cell(0.6, 0)]


def test_a_camera_to_the_left_sees_the_left_and_a_masked_one_nothing():
    cameras = np.stack([camera(0.0), camera(math.pi / 2)])
    seen = cells_in_view(cameras, np.array([False, True]), SIZE, GRID)
    assert seen[cell(0, 8)] and not seen[cell(10, 0)] and not seen[cell(0, -8)]
    assert not cells_in_view(cameras, np.array([False, False]), SIZE, GRID).any()


def test_a_car_hides_what_is_behind_it_but_not_itself():
    hidden = in_shadow(np.array([CAR_AHEAD]), np.zeros(2), GRID)
    assert hidden[cell(13, 0)] and hidden[cell(18, 1.5)]
    assert not hidden[cell(9, 0)] and not hidden[cell(11.5, 0.5)] and not hidden[cell(7, 0)]
    assert not hidden[cell(13, 4)] and not hidden[cell(-5, 0)]


def test_a_car_behind_a_car_is_hidden():
    hidden = in_shadow(np.array([CAR_AHEAD, (17.0, 0.0, 0.0, 4.0, 1.8)]), np.zeros(2), GRID)
    assert hidden[cell(17, 0)] and not hidden[cell(10, 0)]


def test_a_box_that_holds_the_cameras_casts_no_shadow():
    assert not in_shadow(np.array([(1.0, 0.0, 0.0, 4.0, 2.0)]), np.zeros(2), GRID).any()
    assert not in_shadow(np.zeros((0, 5)), np.zeros(2), GRID).any()


@pytest.mark.parametrize("yaw", [0.0, 0.5, 1.3, -2.0])
def test_the_shadow_begins_at_the_far_side(yaw):
    """Against cutting each ray with the four edges of the box."""
    box = np.array([6.0, 2.0, yaw, 4.5, 1.9])
    distance = shadow_distance(box[None], np.array([0.5, -0.2]))
    unit = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * box[3:] / 2
    turn = np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]])
    corners = box[:2] + unit @ turn - (0.5, -0.2)
    for bearing in range(0, BEARINGS, 7):
        angle = (bearing + 0.5) * 2 * math.pi / BEARINGS - math.pi
        ray = np.array([math.cos(angle), math.sin(angle)])
        cuts = []
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            matrix = np.column_stack([ray, a - b])
            if abs(np.linalg.det(matrix)) > 1e-9:
                along, share = np.linalg.solve(matrix, a)
                if along > 0 and 0 <= share <= 1:
                    cuts.append(along)
        expected = max(cuts) if cuts else math.inf
        assert distance[bearing] == pytest.approx(expected, abs=1e-6)


def test_the_middle_of_the_used_cameras():
    cameras = np.stack([camera(0.3, 1.5, 0.5), camera(-2.0, 0.5, -0.5), camera(1.0, 9.0, 9.0)])
    np.testing.assert_allclose(camera_middle(cameras, np.array([True, True, False])), (1.0, 0.0), atol=1e-9)
    np.testing.assert_allclose(camera_middle(cameras, np.zeros(3, dtype=bool)), 0.0)


def test_line_of_sight_is_view_without_shadow():
    cameras = np.stack([camera(yaw) for yaw in (0.0, math.pi / 2, math.pi, -math.pi / 2)])
    seen = line_of_sight(cameras, np.ones(4, dtype=bool), SIZE, np.array([CAR_AHEAD]), GRID)
    assert seen[cell(10, 0)] and seen[cell(-8, 0)] and seen[cell(0, 8)]
    assert not seen[cell(14, 0)] and not seen[cell(0.2, 0.2)]
