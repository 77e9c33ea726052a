"""Routes: smooth, continuous, with a projection that inverts `at`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_sim.network import load_road_map
from wpt_sim.road_map import LaneKind
from wpt_sim.route import Route, RouteError, build_route, lane_chain_around, line_length

NETWORKS = ["train_00", "train_07", "dev_02", "test_05"]


def some_route(network: str, number: int) -> Route:
    """A route through the junction of one connection, by number."""
    road_map = load_road_map(network)
    rng = np.random.default_rng(number)
    for k in range(len(road_map.connections)):
        connection = road_map.connections[(number + k) % len(road_map.connections)]
        around = lane_chain_around(road_map, connection, 60.0, 60.0, rng)
        if around:
            return build_route(road_map, around[0], around[1], 200.0)
    raise AssertionError("no connection fits")


@given(st.sampled_from(NETWORKS), st.integers(0, 60))
def test_points_are_a_metre_apart_and_headings_smooth(network: str, number: int) -> None:
    route = some_route(network, number)
    steps = np.hypot(*np.diff(route.points, axis=0).T)
    assert np.all((steps > 0.97) & (steps < 1.001))
    assert np.abs(np.diff(route.headings)).max() < 0.4, "no turn tighter than a radius of 2.5 m"
    direction = np.arctan2(*np.diff(route.points, axis=0).T[::-1])
    middle = 0.5 * (route.headings[1:] + route.headings[:-1])
    assert np.abs(np.arctan2(np.sin(direction - middle), np.cos(direction - middle))).max() < 0.1
    assert len(route.points) == len(route.headings) == len(route.speed_limits) == len(route.lane_index)
    assert np.all(np.diff(route.lane_index) >= 0)


@given(st.sampled_from(NETWORKS), st.integers(0, 60), st.floats(0.02, 0.98), st.floats(-1.5, 1.5))
def test_project_inverts_at(network: str, number: int, share: float, lateral: float) -> None:
    route = some_route(network, number)
    s = share * route.length
    x, y, heading = route.at(s)
    found, offset = route.project(
        x - lateral * math.sin(heading), y + lateral * math.cos(heading), near=s, window=8.0
    )
    assert abs(found - s) < 0.7 and abs(offset - lateral) < 0.15


@pytest.mark.parametrize("network", NETWORKS)
def test_routes_stay_on_their_lanes(network: str) -> None:
    road_map = load_road_map(network)
    for number in range(0, 40, 3):
        route = some_route(network, number)
        for point, index in zip(route.points[::3], route.lane_index[::3], strict=True):
            line = road_map.lanes[route.lanes[index]].centre_line
            p, along = line[:-1], np.diff(line, axis=0)
            t = np.clip(((point - p) * along).sum(1) / np.maximum((along**2).sum(1), 1e-9), 0, 1)
            assert np.hypot(*(p + t[:, None] * along - point).T).min() < 1.0, (
                "tight corners are cut by less than a metre"
            )


def test_lane_change_is_a_gentle_curve() -> None:
    road_map = load_road_map("train_00")
    route = build_route(road_map, ["f1_f2_0", "f1_f2_1"])
    assert route.lane_at(2.0) == "f1_f2_0" and route.lane_at(route.length - 2.0) == "f1_f2_1"
    first, last = route.span("f1_f2_0"), route.span("f1_f2_1")
    assert first and last and first[1] < last[0]
    kept = build_route(road_map, ["f1_f2_1"])
    assert abs(kept.project(*route.points[-1])[1]) < 0.1
    assert abs(abs(kept.project(*route.points[0])[1]) - 3.5) < 0.2
    curvature = np.abs(np.diff(route.headings)).max()
    assert curvature * 16.67**2 < 3.0, "lateral acceleration at the limit"


def test_length_and_start_are_obeyed() -> None:
    road_map = load_road_map("train_00")
    whole = build_route(road_map, ["f1_f2_1"])
    part = build_route(road_map, ["f1_f2_1"], start=20.0, length=60.0)
    assert part.length == 60.0
    assert abs(whole.project(*part.points[0])[0] - 20.0) < 0.5
    assert line_length(road_map.lanes["f1_f2_1"].centre_line) == pytest.approx(whole.length, abs=1.5)


def test_reference_speeds_keep_limits_and_rates() -> None:
    route = some_route("train_00", 5)
    speeds = route.reference_speeds(0.0)
    assert speeds[0] == 0.0 and np.all(speeds <= route.speed_limits + 1e-9)
    rates = np.diff(speeds**2) / 2
    assert rates.max() <= 2.0 + 1e-6 and rates.min() >= -2.5 - 1e-6
    times = route.arrival_times(5.0)
    assert np.all(np.diff(times) > 0)


def test_lanes_off_the_network_are_named() -> None:
    road_map = load_road_map("train_00")
    with pytest.raises(RouteError, match="'nowhere_0'"):
        build_route(road_map, ["nowhere_0"])
    with pytest.raises(RouteError, match="neither follows nor neighbours"):
        build_route(road_map, ["f1_f2_1", "f0_f1_1"])
    with pytest.raises(RouteError, match="at least one lane"):
        build_route(road_map, [])
    walk = next(lane.id for lane in road_map.lanes.values() if lane.kind is LaneKind.SIDEWALK)
    with pytest.raises(RouteError, match="no driving lane"):
        build_route(road_map, [walk])
    with pytest.raises(RouteError, match="at least 5 m"):
        build_route(road_map, ["f1_f2_1"], start=1e4)
