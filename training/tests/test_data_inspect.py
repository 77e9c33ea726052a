from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from wpt_training.cli import main
from wpt_training.data.batch import Batch
from wpt_training.data.sample_picture import box_corners, draw_sample, time_colours
from wpt_training.data.synthetic_batch import make_batch, small_config

CONFIG = small_config()


def changed(batch: Batch, **changes) -> Batch:
    return Batch(**{**{name: getattr(batch, name) for name in Batch.__dataclass_fields__}, **changes})


def test_a_picture_of_a_sample_shows_its_parts():
    batch = make_batch(CONFIG, 4, seed=1)[2:3]
    picture = draw_sample(batch, CONFIG, ["a line"])
    assert picture.dtype == np.uint8 and picture.ndim == 3
    # Every part of the sample changes it.
    for name in ("images", "occupancy", "future", "route", "drivable", "visible", "boxes"):
        value = getattr(batch, name)
        other = (
            ~value
            if value.dtype.is_floating_point is False and name in ("drivable", "visible")
            else value.flip(-2) * 0
        )
        assert (draw_sample(changed(batch, **{name: other}), CONFIG, ["a line"]) != picture).any(), name


def test_colours_of_times_differ():
    assert len(set(time_colours(7))) == 7


def test_corners_of_a_turned_box():
    corners = box_corners(np.array([1.0, 2.0, np.pi / 2, 4.0, 2.0]))
    np.testing.assert_allclose(sorted(map(tuple, corners.round(9))), [(0, 0), (0, 4), (2, 0), (2, 4)])


def test_the_command_line_draws_a_sample(
    factory_data: tuple[Path, str], factory_cache, tmp_path: Path, capsys
):
    token = factory_cache.tokens[2]
    out = tmp_path / "pictures" / "sample.png"
    data = ["--data", str(factory_data[0]), "--version", factory_data[1], "--out", str(out)]
    assert main(["inspect", *data, "--sample", token]) == 0
    said = capsys.readouterr().out
    assert token in said and "derived_from_future" in said and "6 of 6 images" in said
    assert cv2.imread(str(out)).shape[1] >= 1000
    assert main(["inspect", *data, "--sample", "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["images", "boxes", "future"])
def test_made_up_batches_are_repeatable_and_grow_by_appending(name: str):
    three, five = make_batch(CONFIG, 3, seed=2), make_batch(CONFIG, 5, seed=2)
    assert (getattr(three, name) == getattr(five, name)[:3]).all()
    assert not (getattr(three, name) == getattr(make_batch(CONFIG, 3, seed=3), name)).all()


def test_made_up_batches_are_consistent():
    batch = make_batch(CONFIG, 8, seed=0)
    assert batch.occupancy.shape == (8, 7, *CONFIG.occupancy_shape) and batch.images.shape[1:3] == (2, 6)
    occupied = batch.occupancy > 0
    assert occupied.any() and batch.box_valid.any() and batch.box_vulnerable.any()
    # The ego's place at each time is drivable and free where it lies in the grid.
    low = np.array([CONFIG.student.bev.x_range_m[0], CONFIG.student.bev.y_range_m[0]])
    cell = np.floor((batch.future[..., :2].numpy() - low) / CONFIG.data.occupancy_cell_m).astype(int)
    for sample in range(8):
        for step in range(6):
            i, j = cell[sample, step]
            if 0 <= i < CONFIG.occupancy_shape[0] and 0 <= j < CONFIG.occupancy_shape[1]:
                assert batch.drivable[sample, i, j] and not occupied[sample, step + 1, i, j]
    assert (batch.signal > 0).logical_not().equal(batch.stop_line[:, 0, 0].isnan())
