"""Branching: several plans from one state of a drive, each in a world of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wpt_sim import branch
from wpt_sim.branch import BranchError, BranchState, branch_episode, read_states
from wpt_sim.cli import main
from wpt_sim.drive_recording import record_drive
from wpt_sim.episode import DT, EpisodeSpec, make_episode
from wpt_sim.scene_log import SceneLog

pytest.importorskip("libsumo", reason="libsumo is not installed: no traffic can be run")

TIMES_S = (1.0, 2.5)


@pytest.fixture(scope="module")
def spec() -> EpisodeSpec:
    """A short natural route with few others, so that a step costs little."""
    return replace(make_episode("dev", "natural", None, 1), vehicles=4, pedestrians=1, parked=0)


@pytest.fixture(scope="module")
def log(spec: EpisodeSpec) -> SceneLog:
    """The expert's drive as it is recorded for data sets."""
    return record_drive(spec, longest_s=4.0).log


def straight(speed: float, sideways: float = 0.0) -> np.ndarray:
    steps = 0.5 * np.arange(1, 7)
    return np.column_stack([speed * steps, sideways * steps])


def states_of(spec: EpisodeSpec, log: SceneLog, plans: np.ndarray) -> list[BranchState]:
    egos = [log.state_at(time_s).ego for time_s in TIMES_S]
    return [
        BranchState(name=f"at {time_s}", spec=spec, tick=round(time_s / DT), ego=(ego.x, ego.y), plans=plans)
        for time_s, ego in zip(TIMES_S, egos, strict=True)
    ]


def test_every_plan_starts_from_the_recorded_state(spec: EpisodeSpec, log: SceneLog) -> None:
    speed = log.state_at(TIMES_S[0]).ego.speed
    plans = np.stack([straight(speed), straight(0.0), straight(speed, 3.0 + speed), straight(speed)])
    found = dict(branch_episode(states_of(spec, log, plans), seconds=2.0))
    assert list(found) == ["at 1.0", "at 2.5"]
    for result in found.values():
        # The second state too: what happened in the copies at the first did not touch the drive.
        assert result["off_by_m"] < 0.01
        going, standing, leaving, again = result["plans"]
        assert going == again
        assert standing["progress_m"] < going["progress_m"] and standing["progress_m"] < 8.0
        assert leaving["outside"] and "left the" in " ".join(leaving["infractions"]) or leaving["collision"]
        assert not result["expert"]["collision"] and not result["expert"]["outside"]
    ahead = log.state_at(TIMES_S[0] + 2.0).ego
    begin, end = (spec.route.project(ego.x, ego.y)[0] for ego in (log.state_at(TIMES_S[0]).ego, ahead))
    assert found["at 1.0"]["expert"]["progress_m"] == pytest.approx(end - begin, abs=0.3)


def test_a_state_after_the_drives_end_is_named(spec: EpisodeSpec) -> None:
    late = BranchState(name="late", spec=spec, tick=10_000, ego=None, plans=straight(1.0)[None])
    with pytest.raises(BranchError, match="ended at"):
        list(branch_episode([late]))


def test_a_copy_that_dies_leaves_nothing_and_harms_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    def dies() -> branch.Outcome:
        raise RuntimeError("on purpose")

    assert branch._in_a_copy(dies) is None
    assert "on purpose" in capfd.readouterr().err


def test_the_command_goes_on_where_it_was_stopped(spec: EpisodeSpec, log: SceneLog, tmp_path: Path) -> None:
    ego = log.state_at(1.0).ego
    entry = {"episode": json.loads(spec.to_json()), "plans": [straight(ego.speed).tolist()]}
    states = [
        {"id": "first", "time_s": 1.0, "ego": [ego.x, ego.y], **entry},
        {"id": "second", "time_s": 1.02, "ego": None, **entry},
    ]
    path, out = tmp_path / "states.json", tmp_path / "out" / "branched.json"
    path.write_text(json.dumps({"format": 1, "states": states}))
    out.parent.mkdir()
    kept = {"off_by_m": 0.0, "expert": None, "plans": [None]}
    partial = out.with_name("branched.json.partial.jsonl")
    partial.write_text(json.dumps({"first": kept}) + '\n{"second": {"off')
    assert main(["branch", "--states", str(path), "--out", str(out), "--seconds", "0.5"]) == 0
    document = json.loads(out.read_text())
    assert document["states"]["first"] == kept
    assert document["states"]["second"]["off_by_m"] is None
    assert document["states"]["second"]["plans"][0]["progress_m"] > 0.0
    assert not partial.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plans": [[[0.0, float("nan")]]]}, "finite"),
        ({"time_s": -1.0}, "time_s"),
        ({"episode": {}}, "states"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(spec: EpisodeSpec, tmp_path: Path, change: dict, said: str) -> None:
    entry = {"id": "a", "episode": json.loads(spec.to_json()), "time_s": 1.0, "ego": None, "plans": [[[1.0, 0.0]]]}
    path = tmp_path / "states.json"
    path.write_text(json.dumps({"format": 1, "states": [{**entry, **change}]}))
    with pytest.raises(BranchError, match=said) as caught:
        read_states(path)
    assert "\n" not in str(caught.value)
    path.write_text('{"format": 2, "states": []}')
    with pytest.raises(BranchError, match="expected 1"):
        read_states(path)
