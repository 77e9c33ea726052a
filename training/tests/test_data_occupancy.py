from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wpt_policy.policy_config import BevGrid

from wpt_training.configuration import compact
from wpt_training.data.batch import MOVING, VEHICLE, VULNERABLE
from wpt_training.data.occupancy_truth import cell_centres, cells_in_boxes, draw_occupancy, occupancy_grid

# Ten by eight cells of 1 m, x from -2 to 8, y from -4 to 4.
GRID = BevGrid(x_range_m=(-2.0, 8.0), y_range_m=(-4.0, 4.0), cell_m=1.0, heights_m=(0.0,))


def drawn(*boxes: tuple[float, ...]) -> np.ndarray:
    grid = np.zeros(GRID.shape, dtype=int)
    _, i, j = cells_in_boxes(np.array(boxes), GRID)
    grid[i, j] = 1
    return grid


def test_the_grid_has_the_range_of_the_policy_and_half_metre_cells():
    config = compact()
    grid = occupancy_grid(config.student, config.data)
    assert grid.shape == (160, 96) == config.occupancy_shape
    np.testing.assert_allclose(cell_centres(grid)[0, 0], (-31.75, -23.75))
    np.testing.assert_allclose(cell_centres(grid)[-1, -1], (47.75, 23.75))


def test_an_upright_box_covers_the_cells_whose_centres_it_holds():
    # 4 m x 2 m around (3, 0): x 1..5, y -1..1; centres 1.5, 2.5, 3.5, 4.5 and -0.5, 0.5.
    grid = drawn((3.0, 0.0, 0.0, 4.0, 2.0))
    assert grid.sum() == 8 and grid[3:7, 3:5].all()


def test_a_quarter_turn_swaps_length_and_width():
    grid = drawn((3.0, 0.0, math.pi / 2, 4.0, 2.0))
    assert grid.sum() == 8 and grid[4:6, 2:6].all()


def test_a_box_at_45_degrees():
    # A square of side 2 sqrt(2) turned by 45 degrees around (3, 0) is |x - 3| + |y| <= 2.
    grid = drawn((3.0, 0.0, math.pi / 4, 2 * math.sqrt(2), 2 * math.sqrt(2)))
    expected = np.abs(cell_centres(GRID) - (3.0, 0.0)).sum(axis=-1) <= 2.0
    assert (grid == expected).all() and grid.sum() == 12


def test_a_box_partly_or_wholly_outside():
    assert drawn((8.0, 4.0, 0.0, 4.0, 2.0)).sum() == 2
    assert drawn((30.0, 0.0, 0.3, 4.0, 2.0)).sum() == 0
    assert drawn((-100.0, 0.0, 0.3, 4.0, 2.0)).sum() == 0


def test_a_box_thinner_than_a_cell_may_cover_none_but_an_edge_on_a_centre_counts():
    assert drawn((3.0, 0.0, 0.0, 4.0, 0.4)).sum() == 0
    assert drawn((3.5, 0.25, 0.0, 1.0, 0.5)).sum() == 1


def test_no_box_at_all():
    assert (
        draw_occupancy(
            np.zeros((3, 0, 5)), np.zeros((3, 0, 2)), np.zeros((3, 0), bool), np.zeros(0, bool), GRID
        ).sum()
        == 0
    )


def test_bits_tell_kind_and_movement_at_each_time():
    boxes = np.zeros((2, 3, 5))
    boxes[..., 3:] = 1.0
    boxes[:, 0, :2], boxes[:, 1, :2], boxes[:, 2, :2] = (0.5, 0.5), (2.5, 0.5), (4.5, 0.5)
    velocity = np.zeros((2, 3, 2))
    velocity[0, 0] = 0.3, 0.39  # just below 0.5 m/s
    velocity[1, 0] = 0.4, 0.31
    velocity[:, 1] = 2.0
    valid = np.array([[True, True, True], [True, True, False]])
    drawn = draw_occupancy(boxes, velocity, valid, np.array([False, True, False]), GRID)
    assert drawn[:, 2, 4].tolist() == [VEHICLE, VEHICLE | MOVING]
    assert drawn[:, 4, 4].tolist() == [VULNERABLE | MOVING] * 2
    assert drawn[:, 6, 4].tolist() == [VEHICLE, 0]
    assert (drawn > 0).sum() == 5


def test_two_kinds_in_one_cell_keep_both_bits():
    boxes = np.tile([0.5, 0.5, 0.0, 1.0, 1.0], (1, 2, 1))
    drawn = draw_occupancy(boxes, np.zeros((1, 2, 2)), np.ones((1, 2), bool), np.array([True, False]), GRID)
    assert drawn[0, 2, 4] == VEHICLE | VULNERABLE


place = st.floats(-12.0, 14.0)


@given(
    boxes=st.lists(
        st.tuples(place, place, st.floats(-7.0, 7.0), st.floats(0.2, 15.0), st.floats(0.2, 5.0)), max_size=5
    )
)
@settings(max_examples=60)
def test_equals_testing_every_cell(boxes):
    expected = np.zeros(GRID.shape, dtype=int)
    for x, y, yaw, length, width in boxes:
        away = cell_centres(GRID) - (x, y)
        along = away @ (math.cos(yaw), math.sin(yaw))
        across = away @ (-math.sin(yaw), math.cos(yaw))
        expected |= (np.abs(along) <= length / 2 + 1e-9) & (np.abs(across) <= width / 2 + 1e-9)
    assert (drawn(*boxes) == expected).all() if boxes else True
