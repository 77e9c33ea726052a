"""CameraInfo: what is taken from it, what is refused, and how binning and region of interest move the intrinsics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_policy.camera_model import CameraInfoError, CameraInfoValues, RegionOfInterest, camera_model
from wpt_policy.se3 import exp_rotation

BARREL = np.array([-0.28, 0.09, 0.0008, -0.0006, -0.012])


def info(**changes) -> CameraInfoValues:
    values = {
        "frame_id": "cam",
        "width": 1600,
        "height": 900,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": np.array([[1266.0, 0, 816.0], [0, 1266, 491], [0, 0, 1]]),
        "r": np.eye(3),
        "p": np.array([[1200.0, 0, 800, 0], [0, 1201, 450, 0], [0, 0, 1, 0]]),
    }
    return CameraInfoValues(**{**values, **changes})


def with_value(matrix: np.ndarray, row: int, column: int, value: float) -> np.ndarray:
    copy = np.array(matrix)
    copy[row, column] = value
    return copy


def test_rectified_images_have_the_left_part_of_p_and_no_lens_whatever_d_says() -> None:
    model = camera_model(info(d=BARREL, distortion_model="anything"), images_rectified=True)
    np.testing.assert_array_equal(model.intrinsics, info().p[:, :3])
    assert (model.width, model.height, model.lens, model.notes) == (1600, 900, None, ())


def test_raw_images_have_k_and_d_whatever_p_and_r_say() -> None:
    model = camera_model(
        info(d=BARREL, p=np.zeros((3, 4)), r=np.zeros((3, 3))), images_rectified=False
    )
    np.testing.assert_array_equal(model.intrinsics, info().k)
    assert model.lens is not None and model.lens.name == "plumb_bob"


def test_an_r_that_turns_is_ignored_for_rectified_images_and_said() -> None:
    turned = exp_rotation(np.array([0.0, 0.1, 0.0]))
    model = camera_model(info(r=turned), images_rectified=True)
    np.testing.assert_array_equal(model.intrinsics, info().p[:, :3])
    assert len(model.notes) == 1 and "R other than the identity" in model.notes[0]
    assert camera_model(info(r=np.zeros((3, 3))), images_rectified=True).notes == ()


@pytest.mark.parametrize("model_name", ["plumb_bob", "rational_polynomial", ""])
@pytest.mark.parametrize("count", [0, 5, 8])
def test_no_or_zero_coefficients_are_no_lens(model_name, count) -> None:
    model = camera_model(info(distortion_model=model_name, d=np.zeros(count)), images_rectified=False)
    assert model.lens is None


def test_an_equidistant_lens_of_zeros_is_a_lens() -> None:
    model = camera_model(info(distortion_model="equidistant", d=np.zeros(4)), images_rectified=False)
    assert model.lens is not None and model.lens.name == "equidistant"


NAN_K = with_value(info().k, 1, 1, math.nan)


@pytest.mark.parametrize("images_rectified", [True, False])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 0}, "0x900 pixels"),
        ({"height": 0}, "1600x0 pixels"),
        ({"k": NAN_K}, "1 values in K that are not finite"),
        ({"p": with_value(info().p, 0, 0, math.inf)}, "1 values in P that are not finite"),
        ({"d": np.array([math.nan] * 5)}, "5 values in D that are not finite"),
        ({"k": np.zeros((3, 3))}, r"K\[0\] = 0, which marks an uncalibrated camera"),
        ({"k": with_value(info().k, 1, 1, 0.0)}, "expected positive focal lengths"),
        ({"k": with_value(info().k, 0, 0, -1266.0)}, "expected positive focal lengths"),
        ({"k": with_value(info().k, 2, 2, 0.0)}, "0 0 1 in the last row"),
        ({"k": info().k.T.copy()}, "zeros below the diagonal"),
        ({"width": 800, "height": 450}, "(K|P) belongs to another resolution"),
        ({"width": 3200, "height": 1800}, "(K|P) belongs to another resolution"),
        ({"roi": RegionOfInterest(x_offset=1000, y_offset=0, width=800, height=900)}, "roi of 800x900 at"),
        ({"roi": RegionOfInterest(x_offset=10)}, "roi of 0x0 at"),
        ({"binning_x": 2000}, "binning of 2000x1"),
    ],
)
def test_camera_infos_that_cannot_be_right_are_refused_in_one_sentence(
    images_rectified, changes, says
) -> None:
    with pytest.raises(CameraInfoError, match=says) as error:
        camera_model(info(**changes), images_rectified=images_rectified)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"p": np.zeros((3, 4))}, r"P\[0\] = 0, expected the projection matrix"),
        ({"p": with_value(info().p, 0, 3, -120.0)}, r"P\[3\] = -120.*second camera of a stereo pair"),
        ({"p": with_value(info().p, 1, 3, 5.0)}, r"P\[7\] = 5.*second camera of a stereo pair"),
        ({"p": with_value(info().p, 1, 1, 0.0)}, "P.*expected positive focal lengths"),
        (
            {"roi": RegionOfInterest(x_offset=8, y_offset=8, width=800, height=600, do_rectify=True)},
            "roi.do_rectify",
        ),
    ],
)
def test_rectified_images_need_a_p_of_their_own(changes, says) -> None:
    with pytest.raises(CameraInfoError, match=says):
        camera_model(info(**changes), images_rectified=True)
    camera_model(info(**changes), images_rectified=False)  # raw images do not read it


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"distortion_model": "thin_prism", "d": np.ones(4)}, "'thin_prism', expected one of plumb_bob"),
        ({"distortion_model": "thin_prism", "d": np.zeros(0)}, "'thin_prism', expected one of plumb_bob"),
        ({"distortion_model": "", "d": np.ones(5)}, "'', expected one of plumb_bob"),
        (
            {"distortion_model": "plumb_bob", "d": np.ones(3)},
            "3 coefficients in D for plumb_bob, expected 4 or 5 or 8",
        ),
        ({"distortion_model": "rational_polynomial", "d": np.ones(5)}, "5 coefficients in D for rational"),
        (
            {"distortion_model": "equidistant", "d": np.zeros(0)},
            "0 coefficients in D for equidistant, expected 4",
        ),
    ],
)
def test_lenses_that_cannot_be_undone_are_refused_by_name_for_raw_images(changes, says) -> None:
    with pytest.raises(CameraInfoError, match=says):
        camera_model(info(**changes), images_rectified=False)
    camera_model(info(**changes), images_rectified=True)


# --- binning and region of interest -------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.integers(0, 4), st.integers(0, 4), st.integers(0, 600), st.integers(0, 300), st.integers(400, 900),
    st.integers(300, 500), st.booleans(),
)  # fmt: skip
def test_binning_and_roi_move_the_projection_as_the_pixels_move(
    bx, by, left, top, width, height, rectified
) -> None:
    """A point's pixel on the full sensor, cut and joined by hand, is where the model's matrix projects it."""
    values = info(
        binning_x=bx,
        binning_y=by,
        roi=RegionOfInterest(x_offset=left, y_offset=top, width=width, height=height),
    )
    model = camera_model(values, images_rectified=rectified)
    bx, by = max(1, bx), max(1, by)
    assert (model.width, model.height) == (width // bx, height // by)
    matrix = values.p[:, :3] if rectified else values.k
    point = np.array([0.1, -0.05, 1.0])
    full = (matrix @ point)[:2]
    # In edge coordinates (0 at the left edge of the first pixel) cutting subtracts and joining divides.
    expected = (full + 0.5 - [left, top]) / [bx, by] - 0.5
    np.testing.assert_allclose((model.intrinsics @ point)[:2], expected, atol=1e-9)


def test_a_roi_of_everything_and_one_of_zeros_mean_the_same() -> None:
    whole = camera_model(
        info(roi=RegionOfInterest(width=1600, height=900, do_rectify=True)), images_rectified=True
    )
    np.testing.assert_array_equal(whole.intrinsics, camera_model(info(), images_rectified=True).intrinsics)
