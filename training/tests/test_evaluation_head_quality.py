"""AUROC, calibration and rank correlation against cases worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wpt_training.evaluation.head_quality import (
    auroc,
    auroc_within,
    average_ranks,
    head_figures,
    reliability,
    spearman,
)

VALUES = st.lists(st.integers(0, 5), min_size=3, max_size=12)


def test_auroc_counts_ties_half() -> None:
    scores, truth = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True])
    assert auroc(scores, truth) == pytest.approx(0.75)
    assert auroc(torch.ones(4), truth) == pytest.approx(0.5)
    assert auroc(scores, torch.ones(4, dtype=torch.bool)) is None


def test_auroc_within_sees_only_the_order_inside_a_row() -> None:
    truth = torch.tensor([[True, False, False], [True, True, False], [True, True, True]])
    # Row means tell the rows apart perfectly; inside, the first row is in order, the second half of the pairs.
    scores = torch.tensor([[0.3, 0.2, 0.1], [0.7, 0.9, 0.8], [0.95, 0.95, 0.95]])
    value, rows = auroc_within(scores, truth)
    assert value == pytest.approx((1.0 + 0.5) / 2) and rows == 2
    assert auroc_within(torch.ones(3, 3), truth) == (pytest.approx(0.5), 2)
    assert auroc_within(scores[2:], truth[2:]) == (None, 0)


@settings(deadline=None, max_examples=50)
@given(VALUES, st.data())
def test_of_one_row_both_aurocs_agree(scores: list[int], data: st.DataObject) -> None:
    truth = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    row = torch.tensor(scores).float()
    pooled, within = auroc(row, truth), auroc_within(row[None], truth[None])[0]
    assert within == (None if pooled is None else pytest.approx(pooled))


def test_calibration_of_two_bins() -> None:
    # Bin [0.1, 0.2): says 0.15, happens in 1 of 2. Bin [0.9, 1]: says 0.95 on average, always happens.
    found = reliability(torch.tensor([0.15, 0.15, 0.93, 0.97]), torch.tensor([0.0, 1.0, 1.0, 1.0]))
    assert found["ece"] == pytest.approx((2 * 0.35 + 2 * 0.05) / 4)
    assert [entry["count"] for entry in found["bins"]] == [0, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found["bins"][1]["observed"] == pytest.approx(0.5) and found["bins"][1]["predicted"] == pytest.approx(0.15)
    assert found["bins"][0]["observed"] is None
    assert reliability(torch.zeros(0), torch.zeros(0))["ece"] is None


def test_a_probability_that_keeps_its_word_has_no_error() -> None:
    probability = torch.tensor([0.25] * 4 + [0.75] * 4)
    truth = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 0])
    found = head_figures(probability[:, None], truth[:, None])
    assert found["ece"] == pytest.approx(0.0) and found["base_rate"] == pytest.approx(0.5)
    assert found["auroc"] == pytest.approx(0.75) and found["auroc_within"] is None and found["count"] == 8


def test_ranks_and_their_correlation() -> None:
    assert average_ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    rising = torch.tensor([1.0, 2.0, 3.0, 10.0])
    assert spearman(rising, rising.square()) == pytest.approx(1.0)
    assert spearman(rising, -rising) == pytest.approx(-1.0)
    assert spearman(rising, torch.ones(4)) is None
    # By hand: ranks 1 2 3 4 and 2 1 4 3, sum of squared differences 4: 1 - 6 * 4 / (4 * 15).
    assert spearman(rising, torch.tensor([2.0, 1.0, 4.0, 3.0])) == pytest.approx(0.6)
