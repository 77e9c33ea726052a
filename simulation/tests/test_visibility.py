"""Who is seen: by rays, by pixels, and that both agree."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from wpt_sim.appearance import Appearance
from wpt_sim.lane_strip import length_of_line
from wpt_sim.network import load_road_map, network_names
from wpt_sim.renderer import Renderer
from wpt_sim.renderer.rigs import nuscenes_rig
from wpt_sim.road_map import Building, Lane, LaneKind, RoadMap, Tree
from wpt_sim.still_traffic import ego_on_lane, still_state
from wpt_sim.visibility import visibility_levels, visible_actors
from wpt_sim.world_state import Actor, ActorKind, EgoPose, WorldState

RIG = nuscenes_rig()


@pytest.fixture(scope="module")
def plain() -> RoadMap:
    line = np.array([[-150.0, 0.0], [150.0, 0.0]])
    lane = Lane(id="a", kind=LaneKind.DRIVING, centre_line=line, width=3.5, speed_limit=14.0, edge="a")
    return RoadMap(name="plain", lanes={"a": lane}, connections=(), junction_areas={})


def car(name: str, x: float, y: float, yaw: float = 0.0, height: float = 1.5) -> Actor:
    return Actor(
        id=name, kind=ActorKind.CAR, x=x, y=y, yaw=yaw, speed=0.0, length=4.5, width=1.8, height=height
    )


def scene(*actors: Actor) -> WorldState:
    return WorldState(time_s=0.0, ego=EgoPose(x=0.0, y=0.0, yaw=0.0, speed=0.0), actors=actors)


def test_an_actor_in_the_open_is_seen_all_around(plain: RoadMap) -> None:
    for angle in np.linspace(-math.pi, math.pi, 24):
        state = scene(car("a", 15.0 * math.cos(angle), 15.0 * math.sin(angle), angle))
        assert visible_actors(plain, RIG, state) == {"a"}


def test_what_is_far_or_absent_is_not_seen(plain: RoadMap) -> None:
    assert visible_actors(plain, RIG, scene()) == frozenset()
    assert visible_actors(plain, RIG, scene(car("a", 61.0, 0.0))) == frozenset()
    assert visible_actors(plain, RIG, scene(car("a", 61.0, 0.0)), max_range=62.0) == {"a"}


def test_a_truck_hides_a_car_and_a_car_does_not_hide_a_truck(plain: RoadMap) -> None:
    truck = replace(car("truck", 14.0, 0.0, height=3.4), width=2.5)
    assert visible_actors(plain, RIG, scene(truck, car("behind", 22.0, 0.0))) == {"truck"}
    far_truck = replace(truck, x=26.0)
    assert visible_actors(plain, RIG, scene(car("near", 12.0, 0.0), far_truck)) == {"near", "truck"}


def test_a_building_and_a_crown_hide_and_the_sky_under_a_crown_does_not(plain: RoadMap) -> None:
    house = Building(
        footprint=np.array([[15.0, -4], [25.0, -4], [25.0, 4], [15.0, 4]]), height=6.0, colour_seed=1
    )
    behind, beside = car("behind", 32.0, 0.0), car("beside", 32.0, 12.0)
    assert visible_actors(replace(plain, buildings=(house,)), RIG, scene(behind, beside)) == {"beside"}
    low_tree = Tree(position=np.array([15.0, 0.0]), height=4.0, crown_radius=2.5)  # crown from 1.3 m
    tall_tree = replace(low_tree, height=10.0)
    tall = replace(behind, height=3.0)
    assert visible_actors(replace(plain, trees=(tall_tree,)), RIG, scene(tall)) == {"behind"}
    hill_eye = np.eye(4)
    hill_eye[2, 3] = 1.2  # a higher eye looks through the crown
    hidden = visible_actors(
        replace(plain, trees=(replace(low_tree, crown_radius=4.0),)), RIG, scene(behind), pose=hill_eye
    )
    assert hidden == frozenset()


def test_rays_agree_with_the_instance_mask() -> None:
    """What shows a fair part of itself is seen; what shows nothing is not; at most a few doubtful ones
    differ."""
    checked = wrong = 0
    for number, name in enumerate(network_names("test")[:2]):
        road_map = load_road_map(name)
        renderer = Renderer(road_map, nuscenes_rig(704, 396), Appearance(0, light="day", noise=0.0))
        lanes = [
            lane
            for lane in road_map.lanes.values()
            if lane.kind is LaneKind.DRIVING and length_of_line(lane.centre_line) > 40
        ]
        for index, lane in enumerate(lanes[::20]):
            state = still_state(
                road_map, ego_on_lane(lane, 20.0), count=40, reach=60.0, seed=10 * number + index
            )
            seen = visible_actors(road_map, renderer.rig, state)
            rendered = renderer.render(state)
            pixels, whole = np.zeros(len(state.actors)), np.zeros(len(state.actors))
            for camera in renderer.rig:
                pixels += np.bincount(rendered.instance[camera].ravel(), minlength=len(state.actors) + 1)[1:]
                whole += renderer.whole_pixels(camera, state)
            for actor, visible, total in zip(state.actors, pixels, whole, strict=True):
                if visible == 0:
                    wrong += actor.id in seen
                elif visible >= 0.15 * total and visible >= 12:
                    wrong += actor.id not in seen
                checked += 1
    assert checked >= 120
    assert wrong <= 0.02 * checked


def test_levels_count_pixels_over_all_cameras(plain: RoadMap) -> None:
    renderer = Renderer(plain, nuscenes_rig(704, 396), Appearance(0, light="day", noise=0.0))
    free, outside = car("free", -14.0, 3.0), car("far", 400.0, 0.0)
    wide = replace(car("half", 30.0, 0.0, math.pi / 2), length=9.0)
    screen = replace(car("screen", 20.0, -3.0, math.pi / 2, height=3.5), length=6.0, width=0.5)
    levels = visibility_levels(renderer, scene(free, outside, wide, screen))
    assert levels == {"free": 4, "far": 1, "half": 2, "screen": 4}


def test_levels_take_each_cameras_own_state(plain: RoadMap) -> None:
    renderer = Renderer(plain, nuscenes_rig(352, 198), Appearance(0, light="day", noise=0.0))
    early, late = scene(car("a", 12.0, 0.0)), scene(car("a", 14.0, 0.0), car("b", -14.0, 0.0))
    states = {name: late if name == "cam_back" else early for name in renderer.rig}
    assert visibility_levels(renderer, states) == {"a": 4, "b": 4}
