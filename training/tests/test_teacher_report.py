"""Figures on candidates against cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from wpt_training.teacher.candidate_report import CandidateReport, spread
from wpt_training.teacher.candidates import Candidates


def test_figures_of_two_batches():
    future, valid = torch.zeros(2, 2, 3), torch.tensor([[True, True], [False, False]])
    anchors = torch.zeros(2, 3, 2, 2)
    anchors[:, :, :, 0] = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1)
    found = Candidates(
        anchors - torch.tensor([0.5, 0.0]),
        anchors,
        torch.zeros(2, 3, 2, 4),
        torch.tensor([[0.0, 2.0, 1.0]] * 2),
    )
    rules = {
        "NC": torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]),
        "DAC": torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]),
        "Comf": torch.ones(2, 3),
    }
    target = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    report = CandidateReport()
    for _ in range(2):
        report.add(found, future, valid, rules, target, chosen=torch.tensor([2, 0]))
    figures = report.result()
    assert figures["samples"] == 2
    assert figures["anchor_oracle_m"] == pytest.approx(1.0) and figures["refined_oracle_m"] == pytest.approx(
        0.5
    )
    assert figures["most_confident_m"] == pytest.approx(1.5) and figures["chosen_m"] == pytest.approx(3.5)
    assert figures["refined_mean_m"] == pytest.approx((0.5 + 1.5 + 3.5) / 3)
    assert figures["imitation_entropy"] == pytest.approx(math.log(2.0))
    assert figures["imitation_entropy_uniform"] == pytest.approx(math.log(3.0))
    assert figures["safe_candidate"] == 1.0
    assert figures["NC_both"] == 1.0 and figures["NC_mean"] == pytest.approx(2 / 3)
    assert figures["Comf_both"] == 0.0
    assert figures["inactive_Comf"] == 1.0 and figures["inactive_NC"] == 0.0
    assert figures["spread_m"] == pytest.approx((1.0 + 2.0 + 3.0) / 3)


def test_spread_of_one_candidate_is_zero():
    assert spread(torch.ones(2, 1, 3, 2)).tolist() == [0.0, 0.0]


def test_an_empty_report_has_no_samples():
    assert CandidateReport().result() == {"samples": 0.0}
