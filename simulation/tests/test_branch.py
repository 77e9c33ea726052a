"""Branching: several plans from one state of a drive, each in a world of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wpt_sim import branch
from wpt_sim.branch import BranchError, BranchState, branch_episode, read_states
from wpt_sim.cli import main
from wpt_sim.drive_recording import record_drive
from wpt_sim.episode import DT, EpisodeError, EpisodeSpec, make_episode
from wpt_sim.errors import SimulationError
from wpt_sim.scene_log import SceneLog
from wpt_sim.sumo_session import TrafficError

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


KEPT = {"off_by_m": 0.0, "expert": None, "plans": [None]}


def write_states(path: Path, spec: EpisodeSpec, *ids: str, **changes: object) -> Path:
    entry = {"episode": json.loads(spec.to_json()), "plans": [straight(5.0).tolist()], "ego": None, "time_s": 1.0}
    path.write_text(json.dumps({"format": 1, "states": [{"id": name, **entry, **changes} for name in ids]}))
    return path


def source_of(states: Path, seconds: float = 3.0, driver: str = "expert") -> dict[str, object]:
    sha256 = hashlib.sha256(states.read_bytes()).hexdigest()
    return {"format": 1, "states_sha256": sha256, "seconds": seconds, "driver": driver}


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every drive of an episode yields KEPT at once; the list says for which states."""
    calls: list[list[str]] = []

    def drive(states, *, driver: str, seconds: float):
        calls.append([state.name for state in states])
        yield from ((state.name, KEPT) for state in states)

    monkeypatch.setattr(branch, "branch_episode", drive)
    return calls


def test_the_command_goes_on_where_it_was_stopped(spec: EpisodeSpec, tmp_path: Path) -> None:
    path, out = write_states(tmp_path / "states.json", spec, "first", "second"), tmp_path / "out" / "branched.json"
    out.parent.mkdir()
    partial = out.with_name("branched.json.partial.jsonl")
    lines = [json.dumps(source_of(path, 0.5)), json.dumps({"first": KEPT}), '{"second": {"off']
    partial.write_text("\n".join(lines))
    assert main(["branch", "--states", str(path), "--out", str(out), "--seconds", "0.5"]) == 0
    document = json.loads(out.read_text())
    assert document["states"]["first"] == KEPT
    assert document["states"]["second"]["off_by_m"] is None
    assert document["states"]["second"]["plans"][0]["progress_m"] > 0.0
    assert not partial.exists()


def test_what_the_out_file_holds_is_not_done_again(
    spec: EpisodeSpec, tmp_path: Path, driven: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_states(tmp_path / "states.json", spec, "a", "b"), tmp_path / "branched.json"
    out.write_text(json.dumps({**source_of(path), "states": {"b": KEPT}}))
    command = ["branch", "--states", str(path), "--out", str(out)]
    assert main(command) == 0 and main(command) == 0
    assert driven == [["a"]]
    assert list(json.loads(out.read_text())["states"]) == ["a", "b"]
    assert "2 of 2 states" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["plans", "seconds", "driver"])
@pytest.mark.parametrize("stopped", [False, True])
def test_outcomes_of_something_else_are_not_mixed_in(
    spec: EpisodeSpec, tmp_path: Path, driven: list, capsys: pytest.CaptureFixture[str], change: str, stopped: bool
) -> None:
    path, out = write_states(tmp_path / "states.json", spec, "a", "b"), tmp_path / "branched.json"
    old, results = source_of(path), {"a": KEPT, "c": KEPT}
    if stopped:
        lines = [old, *({name: result} for name, result in results.items())]
        out.with_name("branched.json.partial.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        out.write_text(json.dumps({**old, "states": results}))
    if change == "plans":
        write_states(path, spec, "a", "b", plans=[straight(6.0).tolist()])
    asked = {"plans": [], "seconds": ["--seconds", "2"], "driver": ["--driver", "lane_leader"]}[change]
    assert main(["branch", "--states", str(path), "--out", str(out), *asked]) == 0
    assert driven == [["a", "b"]]
    said = capsys.readouterr()
    assert "other states, seconds or another driver" in said.err and "2 of 2 states" in said.out
    document = json.loads(out.read_text())
    assert set(document["states"]) == {"a", "b"} and document["states_sha256"] == source_of(path)["states_sha256"]


@pytest.mark.parametrize(
    "error", [TrafficError("no traffic"), EpisodeError("no road"), SimulationError("no\nworld"), BranchError("ended")]
)
def test_an_episode_that_fails_is_named_and_the_others_go_on(
    spec: EpisodeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:  # fmt: skip
    path, out = tmp_path / "states.json", tmp_path / "branched.json"
    # Of one name, but not of one world.
    other = replace(spec, vehicles=spec.vehicles + 1)
    assert other.name == spec.name
    states = [json.loads(write_states(path, one, name).read_text())["states"][0] for one, name in ((spec, "a"), (other, "b"))]
    path.write_text(json.dumps({"format": 1, "states": states}))
    failing, worlds = [4], []

    def drive(states, *, driver: str, seconds: float):
        worlds.append(states[0].spec.vehicles)
        if states[0].spec.vehicles in failing:
            raise error
        yield from ((state.name, KEPT) for state in states)

    monkeypatch.setattr(branch, "branch_episode", drive)
    command = ["branch", "--states", str(path), "--out", str(out)]
    assert main(command) == 1
    said = capsys.readouterr()
    assert spec.name in said.err and " ".join(str(error).split()) in said.err and said.err.count("\n") == 1
    assert "1 of 2 states" in said.out and set(json.loads(out.read_text())["states"]) == {"b"}
    failing.clear()
    assert main(command) == 0
    assert worlds == [4, 5, 4]


@pytest.mark.parametrize(
    "line",
    ["{broken", "5", '{"a": 3}', '{"a": {"plans": [null]}}', json.dumps({"a": {**KEPT, "plans": []}}), '{"nobody": {}}'],
)
def test_damaged_outcomes_are_one_sentence(
    spec: EpisodeSpec, tmp_path: Path, driven: list, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    path, out = write_states(tmp_path / "states.json", spec, "a"), tmp_path / "branched.json"
    command = ["branch", "--states", str(path), "--out", str(out)]
    partial = out.with_name("branched.json.partial.jsonl")
    partial.write_text(f"{json.dumps(source_of(path))}\n{line}\n")
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "damaged in line 2" in said and said.count("\n") == 1
    partial.unlink()
    # Not even the file of states itself is written over.
    for text in (line, path.read_text()):
        out.write_text(text)
        assert main(command) == 1
        said = capsys.readouterr().err
        assert "holds no outcomes" in said and said.count("\n") == 1 and out.read_text() == text
    assert not driven


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "0"])
def test_seconds_that_are_no_time_are_named(
    spec: EpisodeSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    path, out = write_states(tmp_path / "states.json", spec, "a"), tmp_path / "branched.json"
    assert main(["branch", "--states", str(path), "--out", str(out), f"--seconds={seconds}"]) == 1
    said = capsys.readouterr().err
    assert "--seconds" in said and said.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plans": [[[0.0, float("nan")]]]}, "finite"),
        ({"plans": [[], []]}, "shape"),
        ({"plans": []}, "shape"),
        ({"time_s": -1.0}, "time_s"),
        ({"time_s": 10**400}, "OverflowError"),
        ({"ego": [1.0]}, "ego of a"),
        ({"ego": [1.0, float("nan")]}, "ego of a"),
        ({"ego": {}}, "ego of a"),
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
    path.write_text(json.dumps({"format": 1, "states": [entry, entry]}))
    with pytest.raises(BranchError, match="more than once"):
        read_states(path)
