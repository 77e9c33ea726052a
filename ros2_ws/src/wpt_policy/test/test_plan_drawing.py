from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration
from wpt_policy.plan_drawing import draw_caption, draw_plan

# At (1.7, 0, 1.5) m, looking ahead.
MOUNT = np.array([[0.0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
GREY = 100


def camera(yaw: float = 0.0, width: int = 320, height: int = 180) -> CameraCalibration:
    k = np.array([[250.0, 0, 160], [0, 250, 90], [0, 0, 1]])
    mount = se3.planar(0, 0, yaw) @ MOUNT
    return CameraCalibration(name="cam", width=width, height=height, intrinsics=k, base_from_camera=mount)


def canvas() -> np.ndarray:
    return np.full((180, 320, 3), GREY, np.uint8)


def ahead(length: float = 20.0, count: int = 7) -> np.ndarray:
    return np.stack([np.linspace(0, length, count), np.zeros(count)], axis=1)


def touched(image: np.ndarray) -> np.ndarray:
    return np.any(image != GREY, axis=2)


def test_the_ribbon_covers_exactly_what_the_strip_of_ground_covers() -> None:
    """Every pixel's ray is cut with the ground: on the strip it is coloured, off it it is not."""
    image, calibration = canvas(), camera()
    width = 1.0
    draw_plan(image, calibration, ahead(25.0), width_m=width, waypoints=False)
    v, u = np.mgrid[:180, :320]
    rays = np.stack([u.ravel(), v.ravel(), np.ones(u.size)]).T @ np.linalg.inv(calibration.intrinsics).T
    rays = rays @ calibration.base_from_camera[:3, :3].T
    down = rays[:, 2] < -1e-3
    distance = np.where(down, calibration.base_from_camera[2, 3] / np.where(down, -rays[:, 2], 1), np.inf)
    x = calibration.base_from_camera[0, 3] + np.where(down, np.where(down, distance, 0) * rays[:, 0], np.inf)
    y = np.where(down, np.where(down, distance, 0) * rays[:, 1], np.inf)
    slack = np.where(down, distance * 1.5 / 250.0, 0)  # a pixel and a half, in metres there
    sure_inside = down & (np.abs(y) < 0.5 * width - slack) & (x < 25 - 30 * slack)
    sure_outside = ~down | (np.abs(y) > 0.5 * width + slack) | (x > 25 + 30 * slack)
    drawn = touched(image).ravel()
    assert sure_inside.sum() > 500 and drawn[sure_inside].all()
    assert not drawn[sure_outside].any()


def test_nearer_parts_look_wider() -> None:
    image = canvas()
    draw_plan(image, camera(), ahead(), waypoints=False)
    widths = touched(image).sum(axis=1)
    rows = np.nonzero(widths)[0]
    assert widths[rows[-1]] > 3 * widths[rows[2]] > 0
    assert rows[-1] == 179  # the plan starts under the camera: it reaches the lower edge


@pytest.mark.parametrize("yaw", [np.pi / 2, np.pi, -np.pi / 2])
def test_a_plan_ahead_is_not_seen_by_cameras_that_look_elsewhere(yaw) -> None:
    image = canvas()
    assert draw_plan(image, camera(yaw), ahead() + [4.0, 0.0]) == 0
    assert not touched(image).any()


def test_a_turn_to_the_left_goes_to_the_left() -> None:
    image = canvas()
    positions = np.stack([np.linspace(2, 14, 7), np.linspace(0, 4, 7) ** 2 / 4], axis=1)
    assert draw_plan(image, camera(), positions) > 100
    rows = np.nonzero(touched(image))[0]
    columns = np.nonzero(touched(image)[rows.min() : rows.min() + 4])[1]
    assert columns.mean() < 100


def test_waypoints_are_bars_across_the_ribbon() -> None:
    plain, marked = canvas(), canvas()
    draw_plan(plain, camera(), ahead(), waypoints=False)
    draw_plan(marked, camera(), ahead(), waypoints=True)
    extra = touched(marked) & ~touched(plain)
    for x in ahead()[2:, 0]:
        ((u, v),) = np.round(camera().project(np.array([[x, 0.0, 0.0]]))[0]).astype(int)
        assert extra[v].any() and marked[v, u, 1] > plain[v, u, 1]


def test_the_ribbon_lets_the_road_through() -> None:
    image = canvas()
    image[:, ::2] = 200
    draw_plan(image, camera(), ahead(), opacity=0.5, waypoints=False)
    row = image[170, 140:180].astype(int)
    assert len(np.unique(row[:, 0])) > 1


def test_the_ego_may_have_moved_between_image_and_plan() -> None:
    """Driving 5 m between the two is the same as a plan 5 m further ahead."""
    moved, shifted = canvas(), canvas()
    draw_plan(moved, camera(), ahead(), camera_base_from_plan_base=se3.planar(5, 0, 0))
    draw_plan(shifted, camera(), ahead() + [5.0, 0.0])
    np.testing.assert_array_equal(moved, shifted)


def test_a_plan_that_stands_still_or_has_no_points_draws_nothing_of_length() -> None:
    for positions in (np.zeros((7, 2)), np.zeros((0, 2)), np.zeros((1, 2)), np.full((7, 2), np.nan)):
        image = canvas()
        draw_plan(image, camera(), positions, waypoints=False)
        assert not touched(image).any()


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(*[st.one_of(st.floats(-40, 40), st.floats())] * 2), max_size=8),
    st.floats(-np.pi, np.pi),
)
def test_no_plan_makes_it_fail_and_nothing_is_drawn_above_the_horizon(positions, yaw) -> None:
    """A point far behind, beside or under the camera must neither overflow nor smear over the sky."""
    image = canvas()
    count = draw_plan(image, camera(yaw), np.array(positions).reshape(-1, 2))
    assert not touched(image)[:89].any()
    assert touched(image).sum() <= count


def test_a_road_to_the_far_left_is_drawn_straight_out_of_the_picture() -> None:
    """A line across, 10 m ahead, to 90 km on either side: one even band over the whole width."""
    image = canvas()
    draw_plan(image, camera(), np.array([[11.7, -9e4], [11.7, 9e4]]), waypoints=False)
    assert touched(image)[127, :].all()
    assert len(np.unique(touched(image).sum(axis=0))) == 1


def test_sizes_must_agree() -> None:
    for wrong in (np.zeros((90, 320, 3), np.uint8), np.zeros((180, 320), np.uint8), np.zeros((180, 320, 3))):
        with pytest.raises(ValueError, match="as in the calibration of cam"):
            draw_plan(wrong, camera(), ahead())


@pytest.mark.parametrize("text", ["cam_front", "a very long line " * 20, "Zürich", ""])
def test_captions_stay_inside_the_picture(text) -> None:
    image = canvas()
    draw_caption(image, text)
    changed = touched(image)
    assert changed.any() == bool(text)
    assert not changed[:100].any() and not changed[:, -2:].any()
