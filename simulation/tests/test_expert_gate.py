"""The gate's arithmetic: what passes, what fails, and that it says so."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from wpt_sim import expert_gate
from wpt_sim.errors import SimulationError
from wpt_sim.expert_gate import EmergencyCounter, GateDrive, failures, gate_episodes, missed_gates, table
from wpt_sim.route_result import Infraction, InfractionKind, RouteResult, RouteStatus
from wpt_sim.world_state import EgoPose, WorldState

CLEAN = RouteResult(
    name="r",
    family="merging",
    scenario="on_ramp",
    network="n",
    seed=0,
    split="test",
    planner="expert",
    status=RouteStatus.PERFECT,
    completion=1.0,
    outside_share=0.0,
    infractions=(),
    rear_end_hits=(),
    speed_ratios=(),
    comfort_b2d=1.0,
    comfort_si=1.0,
    past_first_junction=True,
    route_length=100.0,
    duration_s=20.0,
    distance=100.0,
)


def drives(count: int, **changes) -> list[GateDrive]:
    return [
        GateDrive(result=replace(CLEAN, name=f"r{i}{changes}", **changes), emergencies=0)
        for i in range(count)
    ]


def hit() -> Infraction:
    return Infraction(
        kind=InfractionKind.COLLISION_VEHICLE,
        time_s=3.0,
        x=1.0,
        y=2.0,
        s=30.0,
        actor="a",
        detail="collided with a",
    )


def test_clean_drives_pass():
    assert missed_gates(drives(200)) == []


def test_three_percent_with_infractions_pass_and_more_do_not():
    spread = [*drives(97), *drives(97, family="give_way")]
    unclean = dict(infractions=(hit(),), status=RouteStatus.COMPLETED)
    assert missed_gates([*spread, *drives(3, **unclean), *drives(3, family="give_way", **unclean)]) == []
    missed = missed_gates([*spread, *drives(7, **unclean)])
    assert any("all routes" in sentence for sentence in missed)
    assert any(sentence.startswith("merging") for sentence in missed)


def test_routes_not_completed_fail_the_gate():
    lost = dict(status=RouteStatus.FAILED, completion=0.4)
    assert any("not completed" in sentence for sentence in missed_gates([*drives(197), *drives(3, **lost)]))


def test_a_low_score_fails_only_where_it_is_asked():
    poor = drives(100, outside_share=0.2)
    assert missed_gates(poor, with_score=False) == []
    assert missed_gates(poor) == ["driving score 80.0, asked 95"]


def test_table_and_failures_name_everything():
    mixed = [
        *drives(3),
        *drives(1, scenario="lane_change", infractions=(hit(),), status=RouteStatus.COMPLETED),
    ]
    text = table(mixed)
    assert "merging" in text and "lane_change" in text and "75.0%" in text
    assert "collided with a" in failures(mixed)[0]


def test_emergencies_are_counted_once_each():
    counter, speed, time_s = EmergencyCounter(), 15.0, 0.0
    for braking in [0.0] * 10 + [7.0] * 12 + [0.0] * 10 + [7.0] * 12 + [3.0] * 20:
        speed, time_s = max(0.0, speed - braking * 0.05), time_s + 0.05
        counter.see(WorldState(time_s=time_s, ego=EgoPose(x=0, y=0, yaw=0, speed=speed), actors=()))
    assert counter.count == 2


def test_episodes_are_dealt_over_all_scenarios_without_repeats():
    specs = gate_episodes("dev", 45, 2000)
    assert len({spec.name for spec in specs}) == 45
    assert len({spec.scenario for spec in specs}) == 17
    assert all(spec.seed >= 2000 for spec in specs)


def test_exit_code(monkeypatch, capsys):
    parser = argparse.ArgumentParser()
    expert_gate.add_arguments(parser)
    arguments = parser.parse_args(["--routes", "2", "--workers", "1"])
    monkeypatch.setattr(expert_gate, "drive_all", lambda *_: drives(100))
    assert expert_gate.run(arguments) == 0
    assert "gate passed" in capsys.readouterr().out
    unclean = drives(100, infractions=(hit(),), status=RouteStatus.COMPLETED)
    monkeypatch.setattr(expert_gate, "drive_all", lambda *_: unclean)
    assert expert_gate.run(arguments) == 1
    assert "GATE FAILED" in capsys.readouterr().out
    with pytest.raises(SimulationError):
        expert_gate.run(parser.parse_args(["--routes", "0"]))
