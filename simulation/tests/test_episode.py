"""Episodes: repeatable, feasible, and the same after JSON."""

from __future__ import annotations

import json

import pytest
from wpt_sim.episode import EpisodeError, EpisodeSpec, families, is_drivable, make_episode, scenario_names
from wpt_sim.network import network_names

EVERY = [(family, scenario) for family in families() for scenario in scenario_names(family)]
SCRIPTED = [pair for pair in EVERY if pair[0] != "natural"]
HARDEST = 6.0


def test_families_are_bench2drives_abilities() -> None:
    assert set(families()) == {
        "merging",
        "overtaking",
        "emergency_brake",
        "give_way",
        "traffic_signs",
        "natural",
    }
    assert set(scenario_names("emergency_brake")) == {
        "hard_braking_leader",
        "cut_in",
        "crossing_pedestrian",
        "red_light_runner",
    }
    assert set(scenario_names("give_way")) == {"unprotected_left", "priority_road", "roundabout"}


@pytest.mark.parametrize(("family", "scenario"), EVERY)
def test_same_seed_same_episode_and_json_round_trip(family: str, scenario: str) -> None:
    names = set()
    for split in ("train", "dev", "test", "tuning"):
        for seed in range(3):
            spec = make_episode(split, family, scenario, seed)
            assert spec == make_episode(split, family, scenario, seed)
            assert EpisodeSpec.from_json(spec.to_json()) == spec
            assert spec.network in network_names(split)
            assert 50.0 <= spec.length <= 220.0
            assert is_drivable(spec.route)
            assert abs(spec.route.length - spec.length) <= 1.0
            assert all(0 <= a < b for a, b in spec.zones)
            names.add(spec.name)
    assert len(names) == 12


@pytest.mark.parametrize(("family", "scenario"), SCRIPTED)
def test_scripted_conflicts_leave_a_feasible_reaction(family: str, scenario: str) -> None:
    """Needed braking from first visibility, at the limit, is 6 m/s2 at most, and the conflict lies on the
    route.
    """
    for seed in range(12):
        spec = make_episode("train", family, scenario, seed)
        assert 0.0 <= spec.parameters["needed_braking"] <= HARDEST
        assert spec.conflict_s is not None and 20.0 < spec.conflict_s < spec.length - 10.0
        assert spec.start_speed <= spec.route.speed_limits[0] + 0.01


def test_only_overtaking_over_the_opposing_lane_suspends_the_check() -> None:
    for family, scenario in EVERY:
        specs = [make_episode("train", family, scenario, seed) for seed in range(4)]
        zones = [spec.zones for spec in specs]
        if scenario == "parked_vehicle":
            assert all(z[0][0] < spec.conflict_s < z[0][1] for z, spec in zip(zones, specs, strict=True))
        elif scenario != "slow_vehicle":
            assert not any(zones)


def test_scenario_none_walks_through_the_family() -> None:
    found = {make_episode("train", "give_way", None, seed).scenario for seed in range(3)}
    assert found == set(scenario_names("give_way"))


def test_unknown_names_are_named() -> None:
    for arguments, match in [
        (("trian", "natural", None, 0), "split 'trian'"),
        (("train", "naturel", None, 0), "family 'naturel'"),
        (("train", "give_way", "zebra", 0), "scenario 'zebra'"),
        (("train", "natural", None, -1), "seed -1"),
    ]:
        with pytest.raises(EpisodeError, match=match):
            make_episode(*arguments)
    with pytest.raises(EpisodeError, match="family"):
        scenario_names("nothing")


def test_damaged_records_are_named() -> None:
    spec = make_episode("train", "natural", None, 0)
    values = json.loads(spec.to_json())
    cases = [
        ("{", "no JSON"),
        ("[]", "format is not 1"),
        (json.dumps(values | {"format": 2}), "format is not 1"),
        (json.dumps(values | {"weather": "rain"}), "weather"),
        (json.dumps({k: v for k, v in values.items() if k != "seed"}), "seed"),
        (json.dumps(values | {"lanes": ["nowhere_0"]}), "'nowhere_0'"),
        (json.dumps(values | {"network": "nowhere"}), "'nowhere'"),
        (json.dumps(values | {"zones": 3}), "wrong type"),
        (json.dumps(values | {"start": "here"}), "wrong type"),
    ]
    for text, match in cases:
        with pytest.raises(EpisodeError, match=match):
            EpisodeSpec.from_json(text)
