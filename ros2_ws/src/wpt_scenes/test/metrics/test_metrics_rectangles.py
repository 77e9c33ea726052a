"""Exact overlap of rectangles against brute force and against rigid motion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_scenes.metrics.rectangles import EgoFootprint, corners, overlap

METRES = st.floats(-6, 6, allow_nan=False)
ANGLES = st.floats(-4, 4, allow_nan=False)
SIZES = st.floats(0.3, 4, allow_nan=False)
RECTANGLES = st.tuples(METRES, METRES, ANGLES, SIZES, SIZES)
GRID = 41


def parts(rectangle: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, heading, half_length, half_width = rectangle
    return np.array([x, y]), np.array(heading), np.array([half_length, half_width])


def inside_any(first: tuple, second: tuple) -> bool:
    """Whether one of a fine grid of points of ``first`` lies in ``second``."""
    centre, heading, half = parts(first)
    share = np.linspace(-1, 1, GRID)
    along, aside = np.meshgrid(share * half[0], share * half[1])
    c, s = np.cos(heading), np.sin(heading)
    points = centre + np.stack([c * along - s * aside, s * along + c * aside], axis=-1).reshape(-1, 2)
    other_centre, other_heading, other_half = parts(second)
    c, s = np.cos(other_heading), np.sin(other_heading)
    relative = points - other_centre
    local = np.stack([relative @ [c, s], relative @ [-s, c]], axis=-1)
    return bool(np.any(np.all(np.abs(local) <= other_half, axis=-1)))


@settings(max_examples=300, deadline=None)
@given(first=RECTANGLES, second=RECTANGLES)
def test_agrees_with_brute_force_sampling(first: tuple, second: tuple) -> None:
    exact = bool(overlap(*parts(first), *parts(second)))
    assert exact == bool(overlap(*parts(second), *parts(first)))
    if inside_any(first, second):
        assert exact
    # Shrunk by more than the grid's spacing an overlap that is left must hold a grid point.
    spacing = 2 * 2 * max(first[3], first[4]) / (GRID - 1)
    smaller = (*second[:3], second[3] - spacing, second[4] - spacing)
    if min(smaller[3:]) > 0 and bool(overlap(*parts(first), *parts(smaller))):
        assert inside_any(first, second)


@settings(max_examples=100, deadline=None)
@given(first=RECTANGLES, second=RECTANGLES, x=METRES, y=METRES, turn=ANGLES)
def test_does_not_change_under_rigid_motion(
    first: tuple, second: tuple, x: float, y: float, turn: float
) -> None:
    def moved(rectangle: tuple, grow: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        centre, heading, half = parts(rectangle)
        c, s = np.cos(turn), np.sin(turn)
        return np.array([[c, -s], [s, c]]) @ centre + [x, y], heading + turn, half + grow

    # A hair's breadth of touching may fall either way: grown and shrunk by 1e-9 m it must bracket the answer.
    exact = bool(overlap(*parts(first), *parts(second)))
    assert bool(overlap(*moved(first, 1e-9), *moved(second, 1e-9))) >= exact
    assert bool(overlap(*moved(first, -1e-9), *moved(second, -1e-9))) <= exact


@pytest.mark.parametrize(("gap", "expected"), [(-0.01, True), (0.0, True), (0.01, False)])
def test_edges_that_touch_count(gap: float, expected: bool) -> None:
    unit = np.ones(2)
    assert bool(overlap(np.zeros(2), 0.0, unit, np.array([2.0 + gap, 0.5]), 0.0, unit)) is expected


def test_a_corner_beside_an_edge_is_seen() -> None:
    # A square on its tip beside a square: 1 + sqrt(2) from centre to centre they just touch.
    unit = np.ones(2)
    reach = 1 + np.sqrt(2)
    assert overlap(np.zeros(2), 0.0, unit, np.array([reach - 1e-6, 0.0]), np.pi / 4, unit)
    assert not overlap(np.zeros(2), 0.0, unit, np.array([reach + 1e-6, 0.0]), np.pi / 4, unit)


def test_corners_go_around_the_rectangle() -> None:
    found = corners(np.array([1.0, 2.0]), np.array(np.pi / 2), np.array([2.0, 1.0]))
    assert np.allclose(found, [[0, 4], [0, 0], [2, 0], [2, 4]])


def test_footprint_is_the_published_one() -> None:
    footprint = EgoFootprint()
    assert footprint.half_size.tolist() == [2.042, 0.925]
    assert footprint.centre_ahead_m == pytest.approx(1.485793)
