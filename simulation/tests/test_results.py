"""The results file: its leaderboard shape, its own top level, and that it can be read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from wpt_sim import scoring
from wpt_sim.results import read_results, results_document, summary_table, write_results
from wpt_sim.route_result import Infraction, InfractionKind, ResultError, RouteResult, RouteStatus

GOOD = RouteResult(
    name="test-merging-on_ramp-1",
    family="merging",
    scenario="on_ramp",
    network="test_00",
    seed=1,
    split="test",
    planner="p",
    status=RouteStatus.PERFECT,
    completion=1.0,
    outside_share=0.0,
    infractions=(),
    rear_end_hits=(),
    speed_ratios=(0.5, 1.5),
    comfort_b2d=0.25,
    comfort_si=0.75,
    past_first_junction=True,
    route_length=100.0,
    duration_s=20.0,
    distance=100.0,
)
HIT = Infraction(
    kind=InfractionKind.COLLISION_VEHICLE,
    time_s=3.25,
    x=10.0,
    y=-2.0,
    s=40.0,
    actor="v1",
    detail="collided with vehicle.car v1",
)
END = Infraction(kind=InfractionKind.BLOCKED, time_s=80.0, x=10.0, y=-2.0, s=40.0, detail="stood for 60 s")
BAD = replace(
    GOOD,
    name="test-overtaking-slow_vehicle-1",
    family="overtaking",
    status=RouteStatus.FAILED,
    completion=0.4,
    outside_share=0.05,
    infractions=(HIT, END),
    rear_end_hits=(HIT,),
)


@pytest.fixture
def document() -> dict:
    summary = scoring.summarise([GOOD, BAD], {"merging": 1, "overtaking": 2})
    return results_document([GOOD, BAD], summary, planner="p", settings={"seed": 3})


def test_scores_stand_at_the_top_level(document: dict) -> None:
    assert document["driving_score"] == pytest.approx((100.0 + 40.0 * 0.6 * 0.95) / 3)
    assert document["success_rate"] == pytest.approx(100.0 / 3)
    assert document["routes"] == 3
    assert document["summary"]["comfort_si"] == pytest.approx(75.0)


def test_records_have_the_leaderboards_shape(document: dict) -> None:
    checkpoint = document["_checkpoint"]
    assert checkpoint["progress"] == [2, 3]
    assert [record["status"] for record in checkpoint["records"]] == ["Perfect", "Failed - Agent got blocked"]
    record = checkpoint["records"][1]
    assert set(record["infractions"]) >= {
        "collisions_layout",
        "collisions_pedestrian",
        "collisions_vehicle",
        "red_light",
        "stop_infraction",
        "outside_route_lanes",
        "min_speed_infractions",
        "yield_emergency_vehicle_infractions",
        "scenario_timeouts",
        "route_dev",
        "vehicle_blocked",
        "route_timeout",
    }
    assert record["scores"]["score_composed"] == pytest.approx(22.8)
    assert record["scores"]["score_penalty"] == pytest.approx(0.57)
    assert document["entry_status"] == "Started"  # one route is missing


def test_infractions_carry_time_and_place_and_followers_stand_apart(document: dict) -> None:
    record = document["_checkpoint"]["records"][1]
    sentence = "collided with vehicle.car v1 at (x=10.0, y=-2.0), 3.25 s, route metre 40"
    assert record["infractions"]["collisions_vehicle"] == [sentence]
    assert record["rear_end_hits"] == [sentence]
    assert record["result"]["infractions"][0] == {
        "kind": "collisions_vehicle",
        "time_s": 3.25,
        "x": 10.0,
        "y": -2.0,
        "s": 40.0,
        "actor": "v1",
        "detail": HIT.detail,
    }


def test_file_is_read_back_and_is_the_same_bytes_each_time(document: dict, tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "results.json", tmp_path / "b.json"
    write_results(first, document)
    write_results(second, document)
    assert first.read_bytes() == second.read_bytes()
    read, results = read_results(first)
    assert results == (GOOD, BAD)
    assert read["driving_score"] == document["driving_score"]
    assert [path.name for path in first.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"format": "other"})])
def test_foreign_files_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ResultError, match="results.json"):
        read_results(path)


def test_table_shows_what_is_missing_and_who_failed() -> None:
    failed = replace(
        BAD, infractions=(replace(END, kind=InfractionKind.PLANNER_FAILURE),), failure="p raised"
    )
    table = summary_table(scoring.summarise([GOOD, failed], {"merging": 1, "overtaking": 2}))
    assert "2 of 3 routes" in table
    assert "planner failures: 1" in table
    assert "hit from behind: 1" in table
