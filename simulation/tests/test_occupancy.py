"""Occupancy against its rule, the boxes and the drivable area."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_sim.actor_boxes import boxes_in_base
from wpt_sim.drivable_raster import drivable_raster
from wpt_sim.lane_strip import length_of_line, offset_line, part_of_line, points_along, strip
from wpt_sim.network import load_road_map, network_names
from wpt_sim.occupancy import coverage, future_occupancy, occupancy
from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.still_traffic import ego_on_lane, still_state
from wpt_sim.vehicles import actor_corners, boxes_overlap
from wpt_sim.world_state import Actor, ActorKind, EgoPose, WorldState

X, Y = (-20.0, 50.0), (-30.0, 30.0)


@pytest.fixture(scope="module")
def town() -> RoadMap:
    return load_road_map(network_names("dev")[0])


def box(x: float, y: float, yaw: float, length: float, width: float, speed: float = 0.0) -> Actor:
    return Actor(
        id="a", kind=ActorKind.CAR, x=x, y=y, yaw=yaw, speed=speed, length=length, width=width, height=1.5
    )


poses = st.tuples(st.floats(-300, 300), st.floats(-300, 300), st.floats(-math.pi, math.pi))


@given(
    poses,
    st.floats(-15, 40),
    st.floats(-25, 25),
    st.floats(-math.pi, math.pi),
    st.floats(0.5, 12),
    st.floats(0.4, 3),
)
def test_coverage_is_the_boxs_area_wherever_the_ego_stands(pose, ahead, left, yaw, length, width) -> None:
    ego = EgoPose(x=pose[0], y=pose[1], yaw=pose[2], speed=0.0)
    place = se3.planar(*pose) @ np.array([ahead, left, 0.0, 1.0])
    actor = box(place[0], place[1], pose[2] + yaw, length, width)
    grid = coverage([actor], ego, (-30.0, 60.0), (-40.0, 40.0), 0.5)
    area = float(grid.sum()) * 0.25
    # Each sample stands for (1/8 m)^2; along the outline it may be in or out.
    assert abs(area - length * width) <= 2 * (length + width) * 0.125 * 0.75 + 0.05
    i, j = int((ahead + 30.0) // 0.5), int((left + 40.0) // 0.5)
    assert grid[i, j] > 0.0


def test_cells_ahead_come_last_and_cells_to_the_left_come_last() -> None:
    ego = EgoPose(x=10.0, y=20.0, yaw=math.pi / 2, speed=0.0)
    grid = occupancy([box(10.25, 29.75, 0.0, 0.4, 0.4)], ego, X, Y, 0.5)
    assert np.argwhere(grid).tolist() == [[59, 59]]  # 9.75 m ahead, 0.25 m to the right


def test_occupied_cells_and_boxes_are_the_same(town: RoadMap) -> None:
    lane = next(lane for lane in town.lanes.values() if lane.kind is LaneKind.DRIVING)
    state = still_state(town, ego_on_lane(lane, 30.0), count=40, reach=40.0)
    grid = occupancy(state.actors, state.ego, X, Y, 0.5)
    boxes = [actor_corners(actor) for actor in state.actors]
    pose = se3.planar(state.ego.x, state.ego.y, state.ego.yaw)
    for i, j in np.argwhere(grid):
        centre = pose @ np.array([X[0] + 0.5 * (i + 0.5), Y[0] + 0.5 * (j + 0.5), 0.0, 1.0])
        cell = strip(
            np.array([centre[:2] - 0.25 * pose[:2, 0], centre[:2] + 0.25 * pose[:2, 0]]), -0.25, 0.25
        )
        assert any(boxes_overlap(cell, corners) for corners in boxes)
    for own in boxes_in_base(state):
        x, y = own.base_from_box[:2, 3]
        if X[0] < x < X[1] and Y[0] < y < Y[1]:
            assert grid[int((x - X[0]) / 0.5), int((y - Y[0]) / 0.5)]


def test_vehicles_on_lanes_stand_on_drivable_ground_and_walkers_do_not(town: RoadMap) -> None:
    raster = drivable_raster(town)
    vehicles, walkers = [], []
    for number, lane in enumerate(lane for lane in town.lanes.values() if lane.kind is LaneKind.DRIVING):
        if number % 6:
            continue
        state = still_state(town, ego_on_lane(lane, 20.0), count=30, reach=50.0, seed=number)
        drivable = raster.crop(state.ego, X, Y, 0.5)
        for actor in state.actors:
            own = occupancy([actor], state.ego, X, Y, 0.5)
            # Cells at a box's rim may lie beyond it; most of a box lies on its lane.
            if own.any():
                share = float(drivable[own].mean())
                on_crossing = actor.kind is ActorKind.PEDESTRIAN and share > 0.5
                if not on_crossing:
                    (walkers if actor.kind is ActorKind.PEDESTRIAN else vehicles).append(share)
    assert len(vehicles) > 50 and len(walkers) > 5
    assert np.mean(vehicles) > 0.97
    assert np.mean(walkers) < 0.2


def test_the_future_lies_in_the_first_frame() -> None:
    ego = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=10.0)
    actor = box(10.25, 0.25, 0.0, 0.4, 0.4, speed=2.0)
    states = [
        WorldState(time_s=t, ego=replace(ego, x=10.0 * t), actors=(replace(actor, x=actor.x + 2.0 * t),))
        for t in (0.0, 0.5, 1.0)
    ]
    grids = future_occupancy(states, (0.0, 20.0), (-2.0, 2.0), 0.5)
    assert grids.shape == (3, 40, 8)
    assert [np.argwhere(grid).tolist() for grid in grids] == [[[20, 4]], [[22, 4]], [[24, 4]]]
    assert not future_occupancy(states, (0.0, 20.0), (-2.0, 2.0), 0.5, pose=states[2].ego)[0, 4:].any()
    with pytest.raises(ValueError, match="no states"):
        future_occupancy([], X, Y)
    with pytest.raises(ValueError, match="whole number"):
        occupancy([], ego, (0.0, 1.3), Y)


def test_boxes_carry_velocity_along_the_ego_axes() -> None:
    ego = EgoPose(x=5.0, y=5.0, yaw=math.pi / 2, speed=3.0)
    (own,) = boxes_in_base(
        WorldState(time_s=0.0, ego=ego, actors=(box(5.0, 15.0, 0.0, 4.0, 2.0, speed=6.0),))
    )
    assert own.velocity == pytest.approx([0.0, -6.0, 0.0], abs=1e-12)
    assert own.base_from_box[:3, 3] == pytest.approx([10.0, 0.0, 0.75], abs=1e-12)
    assert own.size_lwh.tolist() == [4.0, 2.0, 1.5]
    assert own.attributes == ("vehicle.moving",)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_every_lane_is_drivable_along_its_whole_width(split: str) -> None:
    road_map = load_road_map(network_names(split)[0])
    raster = drivable_raster(road_map)
    for lane in road_map.lanes.values():
        length = length_of_line(lane.centre_line)
        if lane.kind in (LaneKind.DRIVING, LaneKind.JUNCTION) and length > 1.0:
            inner = part_of_line(lane.centre_line, 0.3, length - 0.3)
            for offset in (-0.35 * lane.width, 0.0, 0.35 * lane.width):
                points = points_along(offset_line(inner, offset), 0.5)
                assert raster.contains(points).mean() > 0.9, lane.id
        elif lane.kind is LaneKind.SIDEWALK:
            middle = points_along(part_of_line(lane.centre_line, 0.2, length - 0.2), 0.5)
            assert not raster.contains(middle).any(), lane.id


def test_outside_the_raster_nothing_is_drivable(town: RoadMap) -> None:
    assert not drivable_raster(town).contains(np.array([[-1e6, 0.0], [1e6, 1e6]])).any()


@given(
    st.lists(st.tuples(st.floats(0.5, 5), st.floats(-0.6, 0.6)), min_size=2, max_size=8), st.floats(-1.5, 1.5)
)
def test_an_offset_line_keeps_its_distance(steps, offset) -> None:
    heading, points = 0.0, [np.zeros(2)]
    for length, turn in steps:
        heading += turn
        points.append(points[-1] + length * np.array([math.cos(heading), math.sin(heading)]))
    line = np.array(points)
    moved = offset_line(line, offset)
    assert len(moved) == len(line)
    for p, q, a, b in zip(line, line[1:], moved, moved[1:], strict=False):
        normal = np.array([-(q - p)[1], (q - p)[0]]) / math.hypot(*(q - p))
        assert normal @ (a - p) == pytest.approx(offset, abs=1e-9)
        assert normal @ (b - p) == pytest.approx(offset, abs=1e-9)
