"""The row that sees perfectly: what it is shown, what it is not, and that it learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.data.batch import VEHICLE, VULNERABLE, Batch
from wpt_training.data.sample_cache import SampleCache
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.errors import TrainingError
from wpt_training.evaluation.predictions import predict
from wpt_training.evaluation.truth_bev import (
    CHANNELS,
    MOTION_INPUTS,
    TruthBev,
    TruthRaster,
    load_truth_bev,
    truth_bev_predictor,
    truth_raster,
)
from wpt_training.evaluation.truth_bev_stage import TruthBevStage, TruthSamples
from wpt_training.trainer.trainer import train


def channel(raster: torch.Tensor, name: str) -> torch.Tensor:
    return raster[:, CHANNELS.index(name)]


@pytest.fixture
def empty(small: ExperimentConfig) -> Batch:
    """One sample without anybody, everything in sight."""
    batch = make_batch(small, 1)
    return dataclasses.replace(
        batch,
        occupancy=torch.zeros_like(batch.occupancy),
        box_valid=torch.zeros_like(batch.box_valid),
        visible=torch.ones_like(batch.visible),
        signal=torch.zeros_like(batch.signal),
        stop_line=torch.full_like(batch.stop_line, torch.nan),
    )


def test_a_box_in_sight_is_drawn_with_its_velocity(small: ExperimentConfig, empty: Batch) -> None:
    raster = truth_raster(small)
    (low_x, _), (low_y, _) = small.student.bev.x_range_m, small.student.bev.y_range_m
    batch = empty
    batch.boxes[0, 0, 0] = torch.tensor([10.0, 4.0, 0.0, 4.0, 2.0])
    batch.box_velocity[0, 0, 0] = torch.tensor([5.0, -2.0])
    batch.box_valid[0, 0, 0] = True
    fine = raster.fine
    i0, j0 = round((8.0 - low_x) / fine.cell_m), round((3.0 - low_y) / fine.cell_m)
    batch.occupancy[0, 0, i0 : i0 + 8, j0 : j0 + 4] = VEHICLE
    drawn = raster(batch)
    assert drawn.shape == (1, len(CHANNELS), *small.student.bev.shape)
    i, j = int(8 - low_x), int(3 - low_y)
    expected = torch.zeros(small.student.bev.shape)
    expected[i : i + 4, j : j + 2] = 1.0
    assert torch.equal(channel(drawn, "vehicle")[0], expected)
    assert torch.allclose(channel(drawn, "velocity_x")[0], 0.5 * expected)
    assert torch.allclose(channel(drawn, "velocity_y")[0], -0.2 * expected)
    assert float(channel(drawn, "vulnerable").abs().sum()) == 0.0

    # Out of sight it is as if it were not there.
    hidden = dataclasses.replace(batch, visible=torch.zeros_like(batch.visible))
    unseen = raster(hidden)
    for name in ("vehicle", "velocity_x", "velocity_y", "visible"):
        assert float(channel(unseen, name).abs().sum()) == 0.0
    assert torch.equal(channel(unseen, "drivable"), channel(drawn, "drivable"))
    hidden.occupancy[0, 0] = VULNERABLE
    assert float(channel(raster(hidden), "vulnerable").sum()) == 0.0


def test_the_stop_line_stands_in_its_signals_channel(small: ExperimentConfig, empty: Batch) -> None:
    raster = truth_raster(small)
    line = dataclasses.replace(
        empty, signal=torch.tensor([3]), stop_line=torch.tensor([[[8.5, 2.0], [8.5, -2.0]]])
    )
    drawn = raster(line)
    red = channel(drawn, "stop_line_red")[0]
    (low_x, _), (low_y, _) = small.student.bev.x_range_m, small.student.bev.y_range_m
    assert red[int(8 - low_x), int(0 - low_y)] == 1.0 and red[int(11 - low_x), int(0 - low_y)] == 0.0
    assert 4 <= float(red.sum()) <= 8
    assert float(channel(drawn, "stop_line_green").sum()) == 0.0
    assert float(raster(empty)[:, -3:].sum()) == 0.0


def test_no_pixel_nor_past_nor_future_changes_the_plan(small: ExperimentConfig) -> None:
    batch = make_batch(small, 4)
    torch.manual_seed(0)
    network = TruthBev(small.student).eval()
    raster = truth_raster(small)
    other = dataclasses.replace(
        batch,
        images=torch.zeros_like(batch.images),
        motion=batch.motion + 3.0,
        earlier_from_present=batch.earlier_from_present + 1.0,
        future=batch.future + 5.0,
        route=batch.route + 2.0,
        occupancy=torch.cat([batch.occupancy[:, :1], torch.zeros_like(batch.occupancy[:, 1:])], dim=1),
    )
    with torch.inference_mode():
        assert torch.equal(network.plan(raster, batch), network.plan(raster, other))
        told = TruthBev(small.student, ego_inputs=MOTION_INPUTS).eval()
        assert not torch.equal(told.plan(raster, batch), told.plan(raster, other))
        turned = dataclasses.replace(batch, command=(batch.command + 1) % small.commands)
        assert not torch.equal(network.plan(raster, batch), network.plan(raster, turned))


def test_samples_without_images_are_those_of_the_cache(factory_cache: SampleCache) -> None:
    rows = np.array([3, 1])
    lean, full = TruthSamples(factory_cache).batch(rows), factory_cache.batch(rows)
    for name in Batch.__dataclass_fields__:
        if getattr(lean, name).numel():
            torch.testing.assert_close(getattr(lean, name), getattr(full, name), equal_nan=True)
    assert lean.images.numel() == 0 and lean.row.tolist() == [3, 1]


def test_it_learns_a_few_samples_and_comes_back_from_disk(
    small: ExperimentConfig, factory_cache: SampleCache, tmp_path: Path
) -> None:
    rows = torch.from_numpy(factory_cache.labelled.nonzero()[0])
    stage = TruthBevStage(small, seed=0)
    schedule = Schedule(samples=600, batch=4)
    with torch.no_grad():
        before = float(stage.losses(factory_cache.batch(rows), 0.0)["total"])
    result = train(
        stage, TruthSamples(factory_cache), schedule, small, tmp_path / "run", rows=rows, seed=0, device="cpu"
    )
    assert result.finished
    network = load_truth_bev(tmp_path / "run", small)
    predictor = truth_bev_predictor(network, small)
    batch = factory_cache.batch(rows)
    apart = torch.linalg.vector_norm(predictor(batch) - batch.future[..., :2], dim=-1)[batch.future_valid].mean()
    assert float(apart) < 0.2 * before
    plans = predict(TruthSamples(factory_cache), rows.tolist(), predictor)
    assert plans[factory_cache.tokens[int(rows[0])]] == pytest.approx(predictor(batch)[0].double().numpy(), abs=1e-4)
    with pytest.raises(TrainingError):
        load_truth_bev(tmp_path / "run", small, ego_inputs=MOTION_INPUTS)


def test_cells_that_do_not_fit_are_named(small: ExperimentConfig) -> None:
    bev = small.student.bev
    with pytest.raises(TrainingError, match="whole number"):
        TruthRaster(bev, dataclasses.replace(bev, cell_m=0.8))
