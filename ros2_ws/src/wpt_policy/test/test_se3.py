"""Rigid transforms hold their algebra for any pose, and refuse what is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wpt_policy import se3

metres = st.floats(-1e3, 1e3)
components = st.floats(-1.0, 1.0)


@st.composite
def quaternions(draw: st.DrawFn) -> np.ndarray:
    q = np.array([draw(components) for _ in range(4)])
    norm = np.linalg.norm(q)
    assume(norm > 0.1)
    return q / norm


@st.composite
def poses(draw: st.DrawFn) -> np.ndarray:
    return se3.transform([draw(metres) for _ in range(3)], draw(quaternions()))


rates = st.floats(-2.0, 2.0)
twists = st.tuples(*[rates] * 6).map(np.array)


@given(quaternions())
def test_quaternion_round_trip(q: np.ndarray) -> None:
    rotation = se3.rotation_from_quaternion(q)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert math.isclose(np.linalg.det(rotation), 1.0, abs_tol=1e-12)
    back = se3.quaternion_from_rotation(rotation)
    assert back[0] >= 0.0
    np.testing.assert_allclose(back * np.sign(back @ q), q, atol=1e-7)


def test_quaternion_is_w_first_and_right_handed() -> None:
    quarter_turn = se3.rotation_from_quaternion([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)])
    np.testing.assert_allclose(quarter_turn @ [1.0, 0, 0], [0.0, 1, 0], atol=1e-15)


@given(poses(), poses())
def test_inverse_and_composition(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(se3.inverse(a) @ a, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(se3.inverse(a @ b), se3.inverse(b) @ se3.inverse(a), atol=1e-8)
    batch = se3.inverse(np.stack([a, b]))
    np.testing.assert_array_equal(batch[0], se3.inverse(a))
    np.testing.assert_array_equal(batch[1], se3.inverse(b))


@given(poses(), st.lists(st.tuples(metres, metres, metres), min_size=1, max_size=5))
def test_apply_moves_points_and_back(pose: np.ndarray, points: list[tuple[float, float, float]]) -> None:
    given_points = np.array(points)
    moved = se3.apply(pose, given_points)
    homogeneous = np.column_stack([given_points, np.ones(len(points))]) @ pose.T
    np.testing.assert_allclose(moved, homogeneous[:, :3], atol=1e-9)
    np.testing.assert_allclose(se3.apply(se3.inverse(pose), moved), given_points, atol=1e-8)


@given(metres, metres, st.floats(-math.pi, math.pi))
def test_planar_has_the_yaw_it_was_given(x: float, y: float, yaw: float) -> None:
    pose = se3.require_rigid(se3.planar(x, y, yaw), "pose")
    assert math.isclose(math.remainder(se3.yaw_of(pose) - yaw, math.tau), 0.0, abs_tol=1e-12)
    assert tuple(pose[:3, 3]) == (x, y, 0.0)


@given(poses(), poses(), st.floats(0.0, 1.0))
def test_interpolation_stays_rigid_and_turns_at_a_constant_rate(
    a: np.ndarray, b: np.ndarray, f: float
) -> None:
    middle = se3.require_rigid(se3.interpolate(a, b, f), "middle")
    np.testing.assert_allclose(middle[:3, 3], (1 - f) * a[:3, 3] + f * b[:3, 3], atol=1e-9)
    whole = np.linalg.norm(se3.log_rotation(a[:3, :3].T @ b[:3, :3]))
    part = np.linalg.norm(se3.log_rotation(a[:3, :3].T @ middle[:3, :3]))
    assert math.isclose(part, f * whole, abs_tol=1e-6)


@given(poses(), poses())
def test_interpolation_ends_are_exact(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_array_equal(se3.interpolate(a, b, 0.0), a)
    np.testing.assert_array_equal(se3.interpolate(a, b, 1.0), b)


def test_interpolation_takes_the_short_way_over_180_degrees() -> None:
    a, b = se3.planar(0, 0, math.radians(170)), se3.planar(0, 0, math.radians(-170))
    assert math.isclose(abs(se3.yaw_of(se3.interpolate(a, b, 0.5))), math.pi, abs_tol=1e-9)


@given(st.tuples(rates, rates, rates).map(np.array))
def test_log_undoes_exp(vector: np.ndarray) -> None:
    assume(np.linalg.norm(vector) < math.pi - 1e-3)
    np.testing.assert_allclose(se3.log_rotation(se3.exp_rotation(vector)), vector, atol=1e-9)


@given(poses(), twists, st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_extrapolation_in_two_steps_is_extrapolation_in_one(
    pose: np.ndarray, twist: np.ndarray, first: float, second: float
) -> None:
    linear, angular = 5.0 * twist[:3], twist[3:]
    once = se3.extrapolate(pose, linear, angular, first + second)
    twice = se3.extrapolate(se3.extrapolate(pose, linear, angular, first), linear, angular, second)
    np.testing.assert_allclose(twice, once, atol=1e-6)
    np.testing.assert_allclose(se3.extrapolate(once, linear, angular, -(first + second)), pose, atol=1e-6)


@given(st.floats(0.5, 20.0), st.floats(-1.0, 1.0), st.floats(0.0, 3.0))
def test_extrapolation_drives_a_circle(speed: float, yaw_rate: float, seconds: float) -> None:
    pose = se3.extrapolate(np.eye(4), np.array([speed, 0, 0]), np.array([0, 0, yaw_rate]), seconds)
    angle = yaw_rate * seconds
    # np.sinc(x) is sin(pi x) / (pi x): the circle's chord formulas without a division by the yaw rate.
    half = 0.5 * angle
    chord = speed * seconds * np.sinc(half / math.pi)
    np.testing.assert_allclose(pose[:2, 3], [chord * math.cos(half), chord * math.sin(half)], atol=1e-6)
    assert math.isclose(se3.yaw_of(pose), angle, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("quaternion", "words"),
    [
        ([0.0, 0, 0, 0], "length 0"),
        ([1.0, 0, 0, 1], "length 1.41"),
        ([1.0, 0, 0], "not four finite numbers"),
        ([math.nan, 0, 0, 1], "not four finite numbers"),
    ],
)
def test_bad_quaternions_are_named(quaternion: list[float], words: str) -> None:
    with pytest.raises(se3.TransformError, match=words):
        se3.rotation_from_quaternion(quaternion)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m[:3], "not a finite 4x4"),
        (lambda m: np.where(m == 1.0, np.nan, m), "not a finite 4x4"),
        (lambda m: np.diag([1.0, 1, -1, 1]), "no proper rotation"),
        (lambda m: 2.0 * m, "no proper rotation"),
        (lambda m: m + np.eye(4)[[3, 3, 3, 0]] * [[0], [0], [0], [1]], "last row"),
    ],
)
def test_matrices_that_are_no_transform_are_named(change, words: str) -> None:
    with pytest.raises(se3.TransformError, match=f"base_from_lidar .*{words}"):
        se3.require_rigid(change(np.eye(4)), "base_from_lidar")


def test_translations_must_be_three_finite_numbers() -> None:
    with pytest.raises(se3.TransformError, match="translation"):
        se3.transform([0.0, math.inf, 0.0], [1.0, 0, 0, 0])
