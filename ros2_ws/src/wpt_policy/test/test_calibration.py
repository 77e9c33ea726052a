"""Projection, intrinsics under resize and crop, and the self-test that finds wrong mounts."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_policy import se3
from wpt_policy.calibration import (
    CalibrationError,
    CameraCalibration,
    CameraRig,
    camera_problem,
    rig_problems,
)

FRONT_MOUNT = np.array([[0.0, 0, 1, 1.7], [-1, 0, 0, 0.0], [0, -1, 0, 1.5], [0, 0, 0, 1]])


def camera(**changes) -> CameraCalibration:
    values = {
        "name": "cam_front",
        "width": 1600,
        "height": 900,
        "intrinsics": np.array([[1266.0, 0, 816.0], [0, 1266, 491], [0, 0, 1]]),
        "base_from_camera": FRONT_MOUNT,
    }
    return CameraCalibration(**(values | changes))


def test_projection_by_hand() -> None:
    pixels, depth = camera().project(
        np.array([[11.7, 0.0, 1.5], [11.7, 1.0, 1.5], [11.7, 0.0, 0.5], [-5.0, 0, 0]])
    )
    np.testing.assert_allclose(depth, [10.0, 10.0, 10.0, -6.7])
    np.testing.assert_allclose(pixels[0], [816.0, 491.0])
    np.testing.assert_allclose(pixels[1], [816.0 - 126.6, 491.0])  # left in the world is left in the image
    np.testing.assert_allclose(pixels[2], [816.0, 491.0 + 126.6])  # below is below
    assert np.all(np.isnan(pixels[3]))
    assert camera().visible(pixels, depth).tolist() == [True, True, True, False]


points = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(-3, 6))


@given(st.lists(points, min_size=1, max_size=8), st.integers(64, 3000), st.integers(64, 2000))
def test_resized_calibration_projects_to_where_the_pixel_centre_went(
    given_points: list, width: int, height: int
) -> None:
    original = camera()
    resized = original.resized(width, height)
    before, depth = original.project(np.array(given_points))
    after, _ = resized.project(np.array(given_points))
    scale = np.array([width / 1600, height / 900])
    np.testing.assert_allclose((after + 0.5), (before + 0.5) * scale, rtol=1e-9, atol=1e-6)
    inside = original.visible(before, depth) & (np.abs(after - np.round(after)) < 0.49).all(axis=1)
    assert np.all(resized.visible(after, depth)[inside])


@given(st.integers(0, 500), st.integers(0, 300), st.integers(900, 1100), st.integers(500, 600))
def test_crop_shifts_pixels(left: int, top: int, width: int, height: int) -> None:
    cropped = camera().cropped(left, top, width, height)
    point = np.array([[20.0, 1.0, 1.0]])
    np.testing.assert_allclose(cropped.project(point)[0], camera().project(point)[0] - [left, top], atol=1e-9)


def test_resized_calibration_agrees_with_opencv_resize() -> None:
    # A bright blob at a projected point is found at the resized calibration's projection.
    point = np.array([[14.0, 2.0, 0.7]])
    ((column, row),) = camera().project(point)[0]
    columns, rows = np.meshgrid(np.arange(1600), np.arange(900))
    image = np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * 40.0**2)).astype(np.float32)
    small = cv2.resize(image, (320, 180), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[0:180, 0:320]
    centre = np.array([(columns * small).sum(), (rows * small).sum()]) / small.sum()
    np.testing.assert_allclose(centre, camera().resized(320, 180).project(point)[0][0], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"intrinsics": np.eye(2)}, "not a finite 3x3"),
        ({"intrinsics": np.full((3, 3), np.nan)}, "not a finite 3x3"),
        ({"intrinsics": np.diag([0.0, 1266, 1])}, "focal lengths"),
        ({"intrinsics": np.array([[1266.0, 0, 816], [5, 1266, 491], [0, 0, 1]])}, "upper triangular"),
        ({"width": 400, "height": 225}, "another resolution"),
        ({"width": 0}, "positive pixels"),
        ({"base_from_camera": np.zeros((4, 4))}, "no proper rotation"),
    ],
)
def test_impossible_calibrations_are_named(changes: dict, words: str) -> None:
    with pytest.raises(CalibrationError, match=f"(?s)cam_front.*{words}|{words}.*cam_front"):
        camera(**changes)


def test_a_crop_outside_the_image_is_refused() -> None:
    with pytest.raises(CalibrationError, match="leaves the 1600x900 image of cam_front"):
        camera().cropped(0, 100, 1600, 900)


def test_values_cannot_be_changed_from_outside() -> None:
    mount = FRONT_MOUNT.copy()
    made = camera(base_from_camera=mount)
    mount[0, 3] = 99.0
    assert made.base_from_camera[0, 3] == 1.7
    with pytest.raises(ValueError, match="read-only"):
        made.intrinsics[0, 0] = 1.0


def test_a_good_rig_has_no_problems(rig: CameraRig) -> None:
    assert rig_problems(rig) == []


def test_inverted_transforms_are_found_in_every_camera(rig: CameraRig) -> None:
    for camera_of_rig in rig.values():
        inverted = replace(camera_of_rig, base_from_camera=se3.inverse(camera_of_rig.base_from_camera))
        problem = camera_problem(inverted)
        assert problem is not None and camera_of_rig.name in problem and "inverted" in problem


def test_body_frames_given_as_optical_frames_are_found_in_every_camera(rig: CameraRig) -> None:
    body_from_optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    for camera_of_rig in rig.values():
        mount = camera_of_rig.base_from_camera.copy()
        mount[:3, :3] = mount[:3, :3] @ body_from_optical.T
        problem = camera_problem(replace(camera_of_rig, base_from_camera=mount))
        assert problem is not None and camera_of_rig.name in problem and "body frame" in problem


def test_an_upside_down_camera_is_found(rig: CameraRig) -> None:
    turned = rig["cam_front"].base_from_camera @ np.diag([-1.0, -1, 1, 1])
    problem = camera_problem(replace(rig["cam_front"], base_from_camera=turned))
    assert problem is not None and "180 degrees away" in problem


def test_swapped_left_and_right_are_found(rig: CameraRig) -> None:
    swapped = CameraRig(
        [
            replace(rig["cam_front_left"], name="cam_front_right"),
            replace(rig["cam_front_right"], name="cam_front_left"),
        ]
    )
    problems = rig_problems(swapped)
    assert len(problems) == 2 and all("swapped" in problem for problem in problems)


def test_two_cameras_at_one_mount_are_found(rig: CameraRig) -> None:
    twin = replace(rig["cam_front"], name="cam_front_narrow")
    (problem,) = rig_problems(CameraRig([rig["cam_front"], twin]))
    assert "cam_front and cam_front_narrow have the same mount" in problem


def test_camera_names_must_be_unique(rig: CameraRig) -> None:
    with pytest.raises(CalibrationError, match="not unique"):
        CameraRig([rig["cam_front"], rig["cam_front"]])


@given(st.floats(-math.pi, math.pi), st.floats(-0.3, 0.3))
def test_yaw_is_the_viewing_direction(yaw: float, pitch: float) -> None:
    mount = se3.planar(0.0, 0.0, yaw) @ se3.transform(
        [1.0, 0.0, 1.5], [math.cos(pitch / 2), 0.0, math.sin(pitch / 2), 0.0]
    )
    mount[:3, :3] = mount[:3, :3] @ FRONT_MOUNT[:3, :3]
    made = camera(base_from_camera=mount)
    assert math.isclose(math.remainder(made.yaw() - yaw, math.tau), 0.0, abs_tol=1e-9)
    assert math.isclose(made.optical_axis()[2], -math.sin(pitch), abs_tol=1e-9)
