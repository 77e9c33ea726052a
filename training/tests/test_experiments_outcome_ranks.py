"""Outcomes of candidates and how scores rank them, on numbers made by hand."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wpt_training.configuration import compact
from wpt_training.errors import TrainingError
from wpt_training.experiments import outcome_ranks
from wpt_training.experiments.outcome_ranks import branched_outcome, branched_ranks, outcome_of_rules, ranks_of
from wpt_training.experiments.report_sections import report_lines


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


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Four states of three candidates, decoded and scored; `results` is where their branches would lie."""
    for kind in ("outcomes", "branches"):
        (tmp_path / kind).mkdir()
    scores = np.tile([1.0, 2.0, 3.0], (4, 1))
    np.savez(
        tmp_path / "outcomes" / "states.npz",
        row=np.arange(4), positions=np.zeros((4, 3, 6, 2)), reward=scores, outcome=scores,
    )  # fmt: skip
    cache = SimpleNamespace(tokens=["a", "b", "c", "d"], scene_of=np.array(["s", "s", "t", "t"]))
    monkeypatch.setattr(outcome_ranks, "branch_states", lambda *_: {"format": 1, "states": [*cache.tokens]})
    monkeypatch.setattr(outcome_ranks, "wpt_sim", lambda: "wpt-sim")
    return SimpleNamespace(
        config=compact(),
        minutes=None,
        cache=lambda split: cache,
        folder=lambda kind, row, seed: tmp_path / kind,
        results=tmp_path / "branches" / "branched.json",
    )


def branches(monkeypatch: pytest.MonkeyPatch, drive: Callable[[Path, Path], int]) -> None:
    """Let something else do what `wpt-sim branch` would."""

    def run(command, **_: object) -> SimpleNamespace:
        assert command[:2] == ["wpt-sim", "branch"]
        return SimpleNamespace(returncode=drive(Path(command[3]), Path(command[5])))

    stand_in = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(outcome_ranks, "subprocess", stand_in)


def result(off_by_m: float | None) -> dict:
    return {"off_by_m": off_by_m, "expert": driven(20.0), "plans": [driven(5.0), driven(10.0), driven(15.0)]}


def test_states_where_the_world_was_elsewhere_are_left_out(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"a": result(0.01), "b": result(float("nan")), "c": result(None), "d": result(1.0)}

    def drive(states: Path, out: Path) -> int:
        sha256 = hashlib.sha256(states.read_bytes()).hexdigest()
        out.write_text(json.dumps({"states_sha256": sha256, "states": found}))
        return 0

    branches(monkeypatch, drive)
    facts = branched_ranks(place, "teacher", 1)
    assert facts["states"] == 2 and facts["states_elsewhere"] == facts["states_left_out"] == 2
    assert facts["ranks"]["by"]["reward"]["spearman"] == pytest.approx(1.0)


def test_branches_of_another_teachers_candidates_are_not_used(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {name: result(0.0) for name in "abcd"}
    for document in ({"states": old}, {"states_sha256": "0" * 64, "states": old}):
        place.results.write_text(json.dumps(document))
        branches(monkeypatch, lambda states, out: 1)
        with pytest.raises(TrainingError, match="wpt-sim branch failed"):
            branched_ranks(place, "teacher", 1)


def test_variants_are_a_line_each_with_the_mean_over_seeds() -> None:
    def dev(metres: float, nc: float | None) -> dict:
        ranks = {"rank_chosen_m": metres, "rank_random_m": 2 * metres, "rank_oracle_m": metres / 2}
        return {"rank": ranks, "head_auroc": {"NC": nc, "DAC": 0.75}}

    nothing = {"rules_truth_share": None, "candidates": {}, "heads": None, "slopes": None, "outcomes": None, "branches": None}
    plain = {"rank": dev(1.0, None)["rank"], "head_auroc": {}}
    reports = {
        "1": {**nothing, "variants": {"teacher": dev(1.0, 0.5), "teacher-plain": plain, "teacher-no-nc": None}},
        "2": {**nothing, "variants": {"teacher": dev(3.0, None), "teacher-plain": None, "teacher-no-nc": None}},
    }
    text = "\n".join(report_lines(reports))
    assert "| teacher | seeds | chosen m | random m | oracle m | AUROC NC | AUROC DAC |" in text
    assert "| teacher | 2 | 2.00 | 4.00 | 1.00 | 0.500 | 0.750 |" in text
    assert "| Baseline-T (teacher's network, no reward) | 1 | 1.00 | 2.00 | 0.50 | - | - |" in text
    assert "| teacher without NC | not run | | | | | |" in text
