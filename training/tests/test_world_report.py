"""The report of W against hand-drawn cells."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from wpt_policy.policy_config import BevGrid
from wpt_training.configuration import compact
from wpt_training.data.batch import MOVING, VEHICLE, Batch
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.world.world_report import WorldReport, fan_candidates, table

GRID = BevGrid(x_range_m=(-10.0, 10.0), y_range_m=(-10.0, 10.0), cell_m=1.0, heights_m=(0.0,))


@dataclasses.dataclass
class Drawn:
    """The fields of a Batch that the report reads."""

    occupancy: torch.Tensor
    visible: torch.Tensor
    drivable: torch.Tensor
    future_valid: torch.Tensor

    def __len__(self) -> int:
        return len(self.occupancy)


def drawn() -> Drawn:
    """Two steps: a moving car of 2 cells goes 4 cells a step along x; one of 3 cells stands far off."""
    occupancy = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    for step in range(3):
        occupancy[0, step, 4 * step + 2 : 4 * step + 4, 4] = VEHICLE | MOVING
        occupancy[0, step, 5:8, 15] = VEHICLE
    everything = torch.ones(1, 20, 20, dtype=torch.bool)
    return Drawn(occupancy, everything, everything.clone(), torch.ones(1, 2, dtype=torch.bool))


def logits_of(batch: Drawn) -> torch.Tensor:
    """True occupancy as logits."""
    occupied = (batch.occupancy & VEHICLE) != 0
    road = batch.drivable.unsqueeze(1).expand_as(occupied)
    return torch.where(torch.stack([occupied, torch.zeros_like(occupied), road], dim=2), 5.0, -5.0)


def report(logits: torch.Tensor, batch: Drawn) -> dict:
    made = WorldReport(2, 0.5, GRID, rule_score=None)
    made.add(logits, batch)
    return made.result()


def test_a_perfect_model_and_two_that_stand_still():
    batch = drawn()
    result = report(logits_of(batch), batch)
    assert result["times_s"] == [0.5, 1.0]
    assert result["iou"]["moving"] == {"world": [1, 1], "own_still": [0, 0], "truth_still": [0, 0]}
    assert result["iou"]["static"] == {"world": [1, 1], "own_still": [1, 1], "truth_still": [1, 1]}
    assert result["average_precision"]["moving"]["world"] == [1, 1]
    assert result["now"]["iou"] == {"moving": 1, "static": 1}
    assert result["drivable_iou"] == [1, 1, 1]
    assert result["cells_moving"] == [2, 2, 2]
    assert result["wins"] == {"moving_from_1s": True}


def test_half_a_hit_by_hand():
    """At 1 s the model puts the moving car one cell too far and half of the standing car is missed."""
    batch = drawn()
    logits = logits_of(batch)
    logits[0, 2, 0, 10, 4], logits[0, 2, 0, 12, 4] = -5.0, 5.0
    logits[0, 2, 0, 5, 15] = -5.0
    result = report(logits, batch)
    assert result["iou"]["moving"]["world"] == [1, pytest.approx(1 / 3)]
    assert result["iou"]["static"]["world"] == [1, pytest.approx(2 / 3)]


def test_false_alarms_count_where_they_are():
    batch = drawn()
    logits = logits_of(batch)
    logits[0, 1, 0, 8, 5] = 5.0  # within 2 m of where the car comes by
    logits[0, 1, 0, 18, 18] = 5.0  # far from anything
    result = report(logits, batch)
    assert result["iou"]["moving"]["world"][0] == pytest.approx(2 / 3)
    assert result["iou"]["static"]["world"][0] == pytest.approx(3 / 4)


def test_hidden_cells_and_steps_without_truth_are_left_out():
    batch = drawn()
    logits = logits_of(batch)
    logits[0, 1:, 0] = -5.0
    batch.visible[0, :, 15] = False
    batch.future_valid[0, 1] = False
    result = report(logits, batch)
    assert result["iou"]["static"]["world"] == [None, None]
    assert result["iou"]["moving"]["world"] == [0, None]
    assert result["wins"] == {"moving_from_1s": None}


def test_a_threshold_other_than_half_is_found_and_the_order_of_probabilities_counts():
    batch = drawn()
    logits = logits_of(batch)
    logits[:, 1:, :2] -= 6.0  # every future probability below one half, in the right order
    result = report(logits, batch)
    assert result["iou"]["moving"]["world"] == [0, 0]
    assert result["best_iou"]["moving"]["world"] == [1, 1]
    assert result["average_precision"]["moving"]["world"] == [1, 1]


def test_batches_add_up():
    torch.manual_seed(0)
    batch = drawn()
    first, second = (torch.randn(1, 3, 3, 20, 20) for _ in range(2))
    both = WorldReport(2, 0.5, GRID, rule_score=None)
    both.add(first, batch)
    both.add(second, batch)
    joined = Drawn(*(torch.cat([value, value]) for value in (
        batch.occupancy, batch.visible, batch.drivable, batch.future_valid)))  # fmt: skip
    once = WorldReport(2, 0.5, GRID, rule_score=None)
    once.add(torch.cat([first, second]), joined)
    merged, other = (WorldReport(2, 0.5, GRID, rule_score=None) for _ in range(2))
    merged.add(first, batch)
    other.add(second, batch)
    merged.merge(other)
    assert both.result() == once.result() == merged.result()
    assert json.loads(json.dumps(once.result())) == once.result()
    assert len(table(once.result()).splitlines()) == 2 + 2 * 2 * 3


def test_agreement_of_a_rule_by_hand():
    """The stand-in passes a candidate unless its last frame is occupied in the row that it names."""

    def score(batch, logits, candidates):
        occupied = (batch.occupancy & VEHICLE) != 0 if logits is None else (logits[:, :, :2] > 0).any(dim=2)
        columns = candidates[0, :, -1, 0].long()
        return ~occupied[:, -1, columns, 4]

    batch = drawn()
    made = WorldReport(2, 0.5, GRID, rule_score=score)
    # Columns 10 and 11 hold the car at the end, 2 and 3 held it at the beginning.
    columns = torch.tensor([10.0, 11.0, 2.0, 3.0, 0.0])
    candidates = columns[None, :, None, None].expand(1, 5, 2, 2)
    logits = logits_of(batch)
    logits[0, 2, 0, 11, 4] = -5.0
    made.add(logits, batch, candidates)
    nc = made.result()["nc"]
    assert nc["share_failing"] == pytest.approx(2 / 5)
    assert nc["world"] == {"balanced_accuracy": pytest.approx(0.75), "pass_recall": 1.0, "fail_recall": 0.5}
    assert nc["truth_still"]["fail_recall"] == 0.0
    assert nc["truth_still"]["pass_recall"] == pytest.approx(1 / 3)
    assert nc["own_still"] == nc["truth_still"]


def test_agreement_by_the_rules_is_perfect_with_true_occupancy():
    config = compact()
    batch: Batch = make_batch(config, 3)
    occupied = torch.stack([(batch.occupancy & bit) != 0 for bit in (1, 2)], dim=2)
    road = batch.drivable[:, None, None].expand(-1, 7, -1, -1, -1)
    made = WorldReport(config.steps, 0.5, occupancy_grid(config.student, config.data))
    made.add(torch.where(torch.cat([occupied, road], dim=2), 9.0, -9.0), batch)
    nc = made.result()["nc"]
    assert nc["world"]["pass_recall"] == 1.0
    assert nc["world"]["fail_recall"] == 1.0
    assert 0.0 < nc["share_failing"] < 1.0


def test_the_fan_starts_at_the_ego_and_keeps_its_speeds():
    fan = fan_candidates(6, 0.5)
    assert fan.shape == (31, 6, 2)
    before = torch.cat([torch.zeros(31, 1, 2), fan[:, :-1]], dim=1)
    steps = (fan - before).norm(dim=-1)
    assert steps.max() <= 6.0 + 1e-4
    assert (steps[0] == 0).all()
    assert (fan[1:, :, 0].diff(dim=1) > 0).any()
