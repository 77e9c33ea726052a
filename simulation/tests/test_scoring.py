"""Scores against the check values of the rules, and what a missing route does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_sim import scoring
from wpt_sim.route_result import Infraction, InfractionKind, ResultError, RouteResult, RouteStatus

PLAIN = RouteResult(
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
    speed_ratios=(),
    comfort_b2d=None,
    comfort_si=None,
    past_first_junction=True,
    route_length=100.0,
    duration_s=20.0,
    distance=100.0,
)


def event(kind: InfractionKind) -> Infraction:
    return Infraction(kind=kind, time_s=1.0, x=2.0, y=3.0, s=4.0, detail="something")


def result(*kinds: InfractionKind, **changes: object) -> RouteResult:
    return replace(PLAIN, infractions=tuple(event(kind) for kind in kinds), **changes)


def test_check_value_80_percent_one_vehicle_5_percent_outside() -> None:
    drive = result(InfractionKind.COLLISION_VEHICLE, completion=0.8, outside_share=0.05)
    assert scoring.driving_score(drive) == pytest.approx(45.6)


def test_check_value_complete_vehicle_and_red_light() -> None:
    drive = result(InfractionKind.COLLISION_VEHICLE, InfractionKind.RED_LIGHT)
    assert scoring.driving_score(drive) == pytest.approx(42.0)


@pytest.mark.parametrize(
    ("kind", "b2d", "lb21"),
    [
        (InfractionKind.COLLISION_PEDESTRIAN, 0.50, 1.0),
        (InfractionKind.COLLISION_VEHICLE, 0.60, 0.70),
        (InfractionKind.COLLISION_STATIC, 0.65, 0.60),
        (InfractionKind.RED_LIGHT, 0.70, 0.40),
        (InfractionKind.STOP_SIGN, 0.80, 0.25),
        (InfractionKind.SCENARIO_TIMEOUT, 0.70, 0.40),
        (InfractionKind.EMERGENCY_VEHICLE, 0.70, 0.40),
    ],
)
def test_each_event_is_charged_by_the_table(kind: InfractionKind, b2d: float, lb21: float) -> None:
    assert scoring.driving_score(result(kind, kind)) == pytest.approx(100 * b2d**2)
    assert scoring.driving_score(result(kind, kind), "lb21") == pytest.approx(100 / (1 + 2 * lb21))


def test_lb21_charges_slow_driving_and_lanes_and_b2d_only_lanes() -> None:
    drive = result(outside_share=0.1, speed_ratios=(0.25, 0.75))
    assert scoring.driving_score(drive) == pytest.approx(90.0)
    assert scoring.driving_score(drive, "lb21") == pytest.approx(100 * 0.9 / (1 + 0.4 * 0.5))


def test_fast_driving_earns_nothing_in_lb21() -> None:
    assert scoring.driving_score(result(speed_ratios=(1.5,)), "lb21") == pytest.approx(100.0)


def test_missing_routes_count_zero() -> None:
    summary = scoring.summarise([PLAIN], {"merging": 2, "overtaking": 2})
    assert summary.driving_score == pytest.approx(25.0)
    assert summary.success_rate == pytest.approx(25.0)
    assert summary.abilities == {"merging": 50.0, "overtaking": 0.0}
    assert summary.ability_mean == pytest.approx(25.0)
    assert (summary.routes, summary.driven) == (4, 1)


def test_success_needs_completion_and_no_infraction_at_all() -> None:
    assert scoring.is_success(result())
    assert scoring.is_success(result(rear_end_hits=(event(InfractionKind.COLLISION_VEHICLE),)))
    assert not scoring.is_success(result(InfractionKind.OUTSIDE_LANES, status=RouteStatus.COMPLETED))
    assert not scoring.is_success(result(InfractionKind.BLOCKED, status=RouteStatus.FAILED))
    assert not scoring.is_success(result(status=RouteStatus.FAILED))


def test_traffic_signs_forgive_what_happens_after_the_first_junction() -> None:
    later = {"family": "traffic_signs", "status": RouteStatus.FAILED}
    assert scoring.shows_ability(result(InfractionKind.COLLISION_VEHICLE, **later))
    assert not scoring.shows_ability(
        result(InfractionKind.COLLISION_VEHICLE, past_first_junction=False, **later)
    )
    assert not scoring.shows_ability(result(InfractionKind.RED_LIGHT, **later))
    assert not scoring.shows_ability(result(InfractionKind.STOP_SIGN, **later))
    assert not scoring.shows_ability(result(InfractionKind.COLLISION_VEHICLE, status=RouteStatus.FAILED))


def test_efficiency_drops_ratios_beyond_ten_and_means_over_routes_that_have_any() -> None:
    assert scoring.route_efficiency(result(speed_ratios=(0.5, 1.0, 11.0))) == pytest.approx(75.0)
    assert scoring.route_efficiency(result(speed_ratios=(11.0,))) is None
    drives = [result(name="a", speed_ratios=(0.5,)), result(name="b"), result(name="c", speed_ratios=(1.5,))]
    assert scoring.summarise(drives).efficiency == pytest.approx(100.0)


def test_unknown_rules_and_doubled_routes_are_named() -> None:
    with pytest.raises(scoring.ScoringError, match="choose one of b2d, lb21"):
        scoring.driving_score(PLAIN, "carla")
    with pytest.raises(scoring.ScoringError, match="two results"):
        scoring.summarise([PLAIN, PLAIN])
    with pytest.raises(scoring.ScoringError, match="asked for"):
        scoring.summarise([PLAIN], {"overtaking": 1})


def test_a_result_survives_json_and_a_foreign_one_is_refused() -> None:
    drive = result(InfractionKind.RED_LIGHT, speed_ratios=(1.0,), comfort_si=0.5)
    assert RouteResult.from_dict(json.loads(drive.to_json())) == drive
    with pytest.raises(ResultError, match="colour"):
        RouteResult.from_dict({**drive.to_dict(), "colour": 1})
    with pytest.raises(ResultError, match="cannot be read"):
        RouteResult.from_dict({**drive.to_dict(), "status": "Gone"})


KINDS = st.lists(st.sampled_from(list(InfractionKind)), max_size=6)


@given(
    kinds=KINDS,
    more=st.sampled_from(list(InfractionKind)),
    completion=st.floats(0, 1),
    share=st.floats(0, 1),
    rules=st.sampled_from(scoring.RULES),
)
def test_a_further_event_never_raises_the_score(
    kinds: list[InfractionKind], more: InfractionKind, completion: float, share: float, rules: str
) -> None:
    before = scoring.driving_score(result(*kinds, completion=completion, outside_share=share), rules)
    after = scoring.driving_score(result(*kinds, more, completion=completion, outside_share=share), rules)
    assert 0.0 <= after <= before <= 100.0
