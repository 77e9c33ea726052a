"""Outcomes of candidates and how scores rank them, on numbers made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wpt_training.experiments.outcome_ranks import branched_outcome, outcome_of_rules, ranks_of


def test_the_log_replayed_outcome_is_the_rules_alone() -> None:
    rules = {
        "NC": torch.tensor([[1.0, 0.0, 1.0, 1.0]]),
        "DAC": torch.tensor([[1.0, 1.0, 0.0, 1.0]]),
        "TTC": torch.tensor([[1.0, 1.0, 1.0, 0.0]]),
        "EP": torch.tensor([[1.0, 1.0, 1.0, 0.5]]),
        "Comf": torch.tensor([[1.0, 1.0, 1.0, 0.0]]),
    }
    assert outcome_of_rules(rules)[0].tolist() == pytest.approx([1.0, 0.0, 0.0, 2.5 / 12])


def driven(progress: float, **wrong: bool) -> dict:
    return {"collision": False, "outside": False, "rules": False, "progress_m": progress, **wrong}


def test_the_branched_outcome_is_progress_unless_something_went_wrong() -> None:
    plans = [driven(10.0), driven(30.0), driven(-1.0), driven(20.0, collision=True), driven(20.0, rules=True), None]
    found = branched_outcome({"expert": driven(20.0), "plans": plans})
    assert found[:5].tolist() == [0.5, 1.0, 0.0, 0.0, 0.0] and np.isnan(found[5])
    # Where the driver itself stands, standing is right.
    standing = branched_outcome({"expert": driven(2.0), "plans": [driven(0.0), driven(0.0, outside=True)]})
    assert standing.tolist() == [1.0, 0.0]
    assert np.isnan(branched_outcome({"expert": None, "plans": plans})).all()


def test_ranks_by_state_with_scenes_as_clusters() -> None:
    outcome = np.array([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [1.0, 1.0, 1.0]])
    arrays = {
        "row": np.array([0, 1, 2]),
        "positions": np.zeros((3, 3, 6, 2)),
        "reward": np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]),
        "outcome": outcome,
    }
    cache = SimpleNamespace(scene_of=np.array(["a", "b", "b"]))
    found = ranks_of(arrays, outcome, cache)
    reward = found["by"]["reward"]
    assert set(found["by"]) == {"reward"} and reward["states"] == 2 and found["states_all_alike"] == 1
    assert [reward[name] for name in ("spearman", "low", "high")] == pytest.approx([0.0, -1.0, 1.0])
    assert reward["first"] == pytest.approx((1.0 + 0.0 + 1.0) / 3)
    assert found["best_outcome"] == pytest.approx(1.0) and found["mean_outcome"] == pytest.approx(2 / 3)
