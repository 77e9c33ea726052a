"""`wpt-sim drive` from the command line to the results file, and its behaviour under bad input and
interruption.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wpt_sim import cli
from wpt_sim.drive import draw_routes, read_routes
from wpt_sim.episode import EpisodeSpec, make_episode
from wpt_sim.errors import SimulationError
from wpt_sim.results import read_results
from wpt_sim.route_drives import DriveJob, drive_routes
from wpt_sim.route_result import InfractionKind

try:
    import libsumo  # noqa: F401
except ImportError:
    traffic = pytest.mark.skip(reason="libsumo is not installed: no traffic can be run")
else:
    traffic = pytest.mark.timeout(120)

FAULTY = """
import os, time
from wpt_policy.baselines import StopPlanner
class Raises(StopPlanner):
    name = "raises"
    def plan(self, frame):
        raise ValueError("bad weights")
class Dies(StopPlanner):
    name = "dies"
    def plan(self, frame):
        if frame.reference_stamp_ns > 1_900_000_000:
            os._exit(3)
        return super().plan(frame)
class DiesOnce(StopPlanner):
    name = "dies_once"
    def plan(self, frame):
        mark = os.path.join(os.path.dirname(__file__), "died")
        if not os.path.exists(mark):
            open(mark, "w").close()
            os._exit(3)
        return super().plan(frame)
class Hangs(StopPlanner):
    name = "hangs"
    def plan(self, frame):
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
"""


@pytest.fixture
def faulty_planners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Planners that go wrong, announced as an installed package would announce them."""
    folder = tmp_path / "site"
    info = folder / "faulty-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "faulty.py").write_text(FAULTY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[wpt.planners]\nraises = faulty:Raises\ndies = faulty:Dies\ndies_once = faulty:DiesOnce\nhangs = faulty:Hangs\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("faulty", None)


def quiet(seed: int, family: str = "natural") -> EpisodeSpec:
    return replace(make_episode("dev", family, None, seed), vehicles=3, pedestrians=0, parked=0)


def routes_file(tmp_path: Path, count: int) -> Path:
    path = tmp_path / "routes.jsonl"
    path.write_text("".join(quiet(seed).to_json() + "\n" for seed in range(count)))
    return path


@traffic
def test_drive_writes_results_resumes_and_draws_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, pictures = tmp_path / "results.json", tmp_path / "pictures"
    command = [
        "drive",
        "--planner",
        "constant_velocity",
        "--routes",
        str(routes_file(tmp_path, 2)),
        "--out",
        str(out),
        "--workers",
        "1",
        "--video",
        str(pictures),
    ]
    assert cli.main(command) == 0
    document, results = read_results(out)
    assert document["routes"] == 2 and len(results) == 2
    assert "driving score" in capsys.readouterr().out
    failed = {result.name for result in results if result.infractions}
    assert {path.stem for path in pictures.iterdir()} == failed
    assert not list(tmp_path.glob("*.partial.jsonl"))


@traffic
def test_results_are_the_same_from_a_partial_file_and_whatever_the_workers(tmp_path: Path) -> None:
    specs = [quiet(seed) for seed in range(3)]
    partial = tmp_path / "run.partial.jsonl"
    job = DriveJob(driver="stop", tick_limit=30)
    first = drive_routes(job, specs, workers=1, partial=partial)
    lines = partial.read_text().splitlines()
    assert len(lines) == 3
    partial.write_text("\n".join(lines[:2]) + "\n" + lines[2][:50])  # the third line was cut short
    second = drive_routes(job, specs, workers=2, partial=partial)
    assert second.resumed == 2
    assert second.results == first.results
    third = drive_routes(replace(job, tick_limit=31), specs[:1], partial=partial)
    assert third.resumed == 0  # other settings, other drives


@traffic
@pytest.mark.parametrize(
    ("planner", "words"),
    [("raises", "ValueError: bad weights"), ("dies", "exit code 3"), ("hangs", "nothing was heard")],
)
def test_a_faulty_planner_is_counted_and_the_run_goes_on(
    faulty_planners: None, planner: str, words: str
) -> None:
    job = DriveJob(
        driver=planner, tick_limit=60, plan_timeout=0.5, silence_s=6.0 if planner == "hangs" else 60.0
    )
    outcome = drive_routes(job, [quiet(0), quiet(1)] if planner != "hangs" else [quiet(0)], workers=1)
    assert len(outcome.results) == (1 if planner == "hangs" else 2)
    for result in outcome.results:
        assert words in result.failure
        assert result.count(InfractionKind.PLANNER_FAILURE) == 1


@traffic
def test_a_route_whose_process_died_once_is_driven_again(faulty_planners: None) -> None:
    outcome = drive_routes(DriveJob(driver="dies_once", tick_limit=60), [quiet(0), quiet(1)], workers=1)
    assert [result.failure for result in outcome.results] == [None, None]
    assert not any(result.count(InfractionKind.PLANNER_FAILURE) for result in outcome.results)


def test_routes_by_number_take_turns_and_are_the_same_by_seed() -> None:
    first, again, other = (draw_routes(7, "dev", seed) for seed in (1, 1, 2))
    assert first == again
    assert not {spec.name for spec in first} & {spec.name for spec in other}
    assert [spec.family for spec in first[:6]] == list(dict.fromkeys(spec.family for spec in first))
    assert first[6].family == first[0].family


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json\n", "routes.jsonl line 1"),
        (json.dumps({"format": 1}) + "\n", "missing or unknown fields"),
        ("\n", "no route"),
        (quiet(0).to_json() + "\n" + quiet(0).to_json().replace('"dev_', '"gone_') + "\n", "line 2"),
    ],
)
def test_bad_route_files_are_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "routes.jsonl"
    path.write_text(text)
    with pytest.raises(SimulationError, match=words):
        read_routes(str(path), "dev", 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--planner", "nobody", "--routes", "1"], "no planner 'nobody'"),
        (["--planner", "stop", "--routes", "nowhere.jsonl"], "neither a number nor a file"),
        (["--planner", "stop", "--routes", "1", "--families", "parking"], "family 'parking' is unknown"),
        (["--planner", "stop", "--routes", "0"], "at least 1 route"),
        (["--planner", "stop", "--routes", "1", "--plan-rate", "3"], "choose 2, 4, 5 or 10"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["drive", *arguments, "--out", str(tmp_path / "out.json")]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_help_lists_only_subcommands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert "drive" in cli.available()
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.available())
