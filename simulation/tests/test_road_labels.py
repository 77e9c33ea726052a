from __future__ import annotations

import math

import numpy as np
import pytest

from wpt_sim.drivable_raster import drivable_raster
from wpt_sim.episode import make_episode
from wpt_sim.expert_junctions import EGO_FRONT, route_junctions
from wpt_sim.lane_strip import length_of_line, part_of_line
from wpt_sim.road_labels import DIRECTION_CELL_M, lane_directions, signal_ahead
from wpt_sim.road_map import LaneKind
from wpt_sim.world_state import EgoPose, SignalColour, WorldState


@pytest.fixture(scope="module")
def signalised():
    """An episode with a signal on its route, and that junction."""
    spec = make_episode("dev", "traffic_signs", "red_light", 5)
    junction = next(j for j in route_junctions(spec.road_map, spec.route) if j.connection.signal is not None)
    return spec, junction


def state_at(spec, junction, s: float, colour: SignalColour | None) -> WorldState:
    x, y, yaw = spec.route.at(s)
    key = (junction.connection.signal, junction.connection.link)
    return WorldState(
        time_s=0.0,
        ego=EgoPose(x=x, y=y, yaw=yaw, speed=5.0, steer=0.0, acceleration=0.0),
        actors=(),
        signals={} if colour is None else {key: colour},
    )


@pytest.mark.parametrize("colour", [SignalColour.RED, SignalColour.YELLOW, SignalColour.GREEN])
def test_the_signal_ahead_has_its_colour_line_and_distance(signalised, colour) -> None:
    spec, junction = signalised
    found = signal_ahead(spec.road_map, spec.route, state_at(spec, junction, junction.line_s - 20.0, colour))
    assert found.colour == colour.name.lower()
    assert found.distance_m == pytest.approx(20.0, abs=0.3)
    middle = np.mean(found.stop_line, axis=0)
    assert math.dist(middle, spec.route.at(junction.line_s)[:2]) < 3.0


def test_a_signal_counts_until_the_front_is_over_its_line(signalised) -> None:
    spec, junction = signalised

    def at(metres):
        found = signal_ahead(
            spec.road_map, spec.route, state_at(spec, junction, junction.line_s - metres, SignalColour.RED)
        )
        return found is not None and found.distance_m == pytest.approx(metres, abs=0.5)

    assert at(EGO_FRONT + 0.6)
    assert not at(EGO_FRONT - 0.6)


def test_a_signal_that_is_off_or_far_does_not_count(signalised) -> None:
    spec, junction = signalised
    near = state_at(spec, junction, junction.line_s - 20.0, None)
    assert signal_ahead(spec.road_map, spec.route, near) is None
    if junction.line_s > 70.0:
        far = state_at(spec, junction, junction.line_s - 65.0, SignalColour.RED)
        assert signal_ahead(spec.road_map, spec.route, far) is None


def test_lane_directions_are_those_of_the_lanes(signalised) -> None:
    road_map = signalised[0].road_map
    codes, raster = lane_directions(road_map), drivable_raster(road_map)
    bottom = raster.top - raster.mask.shape[0] * raster.cell
    seen = 0
    for lane in road_map.lanes.values():
        if lane.kind is not LaneKind.DRIVING or length_of_line(lane.centre_line) < 12.0:
            continue
        (x, y), (ahead_x, ahead_y) = part_of_line(lane.centre_line, 5.0, 6.0)[[0, -1]]
        column = round((x - raster.left) / DIRECTION_CELL_M)
        row = round(codes.shape[0] - (y - bottom) / DIRECTION_CELL_M)
        code = int(codes[row, column])
        assert code > 0
        turned = (code - 1) / 254 * math.tau - math.atan2(ahead_y - y, ahead_x - x)
        assert abs(math.remainder(turned, math.tau)) < math.radians(6.0)
        seen += 1
    assert seen > 3
    assert np.mean(codes == 0) > 0.5
