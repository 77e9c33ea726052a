"""SUMO's traffic around the ego: repeatable, smooth, lit, and it drives through nobody."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import sys

import numpy as np
import pytest
from wpt_sim.body_motion import TowedBody
from wpt_sim.episode import EpisodeSpec, make_episode
from wpt_sim.network import load_road_map
from wpt_sim.road_map import Connection, LaneKind, RoadMap
from wpt_sim.route import build_route, line_length
from wpt_sim.scenarios.signal_control import SignalControl
from wpt_sim.traffic import Traffic, TrafficError
from wpt_sim.vehicles import actor_corners, boxes_overlap, ego_centre, ego_corners
from wpt_sim.world_state import ActorKind, EgoPose, Lights, WorldState

pytest.importorskip("libsumo", reason="libsumo is not installed: pip install libsumo==1.28.0")


def drive_on_rails(traffic: Traffic, steps: int) -> list[WorldState]:
    """The ego glides along its route at the reference speed; it stops at the route's end."""
    route = traffic.route
    states = [traffic.reset()]
    speeds = route.reference_speeds(traffic.spec.start_speed)
    s, speed = 0.0, traffic.spec.start_speed
    for _ in range(steps):
        speed = max(min(speed + 0.1, float(speeds[min(int(s) + 1, len(speeds) - 1)])), 0.3)
        s = min(s + speed * 0.05, route.length)
        x, y, yaw = route.at(s)
        states.append(traffic.step(EgoPose(x=x, y=y, yaw=yaw, speed=speed if s < route.length else 0.0)))
    return states


def digest(states: list[WorldState]) -> str:
    return hashlib.sha256(
        repr([(s.time_s, s.actors, sorted(s.signals.items())) for s in states]).encode()
    ).hexdigest()


@pytest.mark.parametrize(("family", "seed"), [("natural", 3), ("give_way", 1), ("emergency_brake", 2)])
def test_same_seed_same_states(family: str, seed: int) -> None:
    digests = set()
    for _ in range(2):
        with Traffic(make_episode("train", family, None, seed)) as traffic:
            digests.add(digest(drive_on_rails(traffic, 400)))
    assert len(digests) == 1
    with Traffic(make_episode("train", family, None, seed + 3)) as traffic:
        assert digest(drive_on_rails(traffic, 50)) not in digests


def test_a_reset_starts_again() -> None:
    with Traffic(make_episode("train", "natural", None, 5)) as traffic:
        first = digest(drive_on_rails(traffic, 60))
        assert digest(drive_on_rails(traffic, 60)) == first


def test_the_world_as_seen_by_others() -> None:
    """Times, ids, sizes, signals, lights and places of what is reported over several natural episodes."""
    blinked, braked, walked = False, False, False
    for seed in (1, 3, 8):
        spec = make_episode("train", "natural", None, seed)
        road_map = spec.road_map
        keys = {(c.signal, c.link) for c in road_map.connections if c.signal}
        with Traffic(spec) as traffic:
            states = drive_on_rails(traffic, 300)
        assert [round(s.time_s / 0.05) for s in states] == list(range(301))
        for state in states[::20]:
            assert keys <= set(state.signals)
            assert len({actor.id for actor in state.actors}) == len(state.actors)
            for actor in state.actors:
                assert all(map(math.isfinite, (actor.x, actor.y, actor.yaw, actor.speed, actor.acceleration)))
                assert actor.length > 0 and actor.speed >= 0
                if not actor.parked and actor.kind is not ActorKind.PEDESTRIAN:
                    blinked |= bool(actor.lights & (Lights.LEFT | Lights.RIGHT))
                    if actor.acceleration < -1.0:
                        assert actor.lights & Lights.BRAKE
                        braked = True
                    if actor.acceleration > 0.5 and actor.speed > 1.0:
                        assert not actor.lights & Lights.BRAKE
                walked |= actor.kind is ActorKind.PEDESTRIAN and actor.speed > 0.5
    assert blinked and braked and walked


def test_motion_is_smooth() -> None:
    """Boxes turn at less than 2 rad/s and never jump, in lane changes and at lane vertices too."""
    for spec in (
        make_episode("train", "natural", None, 0),
        make_episode("train", "merging", "lane_change", 1),
        make_episode("train", "emergency_brake", "cut_in", 0),
        make_episode("test", "natural", None, 2),
    ):
        with Traffic(spec) as traffic:
            states = drive_on_rails(traffic, 500)
        for before, after in zip(states, states[1:], strict=False):
            known = {actor.id: actor for actor in before.actors}
            for actor in after.actors:
                if actor.id not in known or actor.kind is ActorKind.PEDESTRIAN:
                    continue
                old = known[actor.id]
                assert abs(math.remainder(actor.yaw - old.yaw, 2 * math.pi)) / 0.05 < 2.0
                assert math.dist((actor.x, actor.y), (old.x, old.y)) < actor.speed * 0.05 * 1.2 + 0.15


def test_a_towed_body_turns_without_a_jump() -> None:
    """A rail with a 20 degree vertex and a jump of 0.6 m: heading and centre change little per step."""
    body = TowedBody(0.0, 0.0, 0.0, 4.5)
    x = y = 0.0
    previous = (body.x, body.y, body.yaw)
    for step in range(400):
        heading = 0.0 if step < 100 else math.radians(20)
        x, y = x + 0.5 * math.cos(heading), y + 0.5 * math.sin(heading)
        if step == 200:
            x, y = x + 0.6 * math.cos(heading), y + 0.6 * math.sin(heading)
        body.update(x, y, 0.5)
        assert abs(body.yaw - previous[2]) < 0.06
        assert math.dist((body.x, body.y), previous[:2]) < 0.7
        previous = (body.x, body.y, body.yaw)
    assert body.yaw == pytest.approx(math.radians(20), abs=1e-3)
    assert math.dist((body.x, body.y), (x - 2.25 * math.cos(body.yaw), y - 2.25 * math.sin(body.yaw))) < 0.02


def test_pedestrians_walk_where_pedestrians_walk() -> None:
    spec = dataclasses.replace(make_episode("train", "natural", None, 4), pedestrians=16)
    road_map = spec.road_map
    carriageway = [lane for lane in road_map.lanes.values() if lane.kind is LaneKind.DRIVING]
    points = np.vstack([lane.centre_line for lane in carriageway])
    assert len(points)
    with Traffic(spec) as traffic:
        states = drive_on_rails(traffic, 400)
    seen = 0
    for state in states[::40]:
        for actor in state.actors:
            if actor.kind is ActorKind.PEDESTRIAN:
                seen += 1
                # Never in the middle of a driving lane: crossings lie in junctions, beyond the lanes' ends.
                for lane in carriageway:
                    line = lane.centre_line
                    p, along = line[:-1], np.diff(line, axis=0)
                    t = np.clip((((actor.x, actor.y) - p) * along).sum(1) / (along**2).sum(1), 0, 1)
                    gap = np.hypot(*(p + t[:, None] * along - (actor.x, actor.y)).T)
                    k = int(np.argmin(gap))
                    inside = gap[k] < lane.width / 2 - 0.3 and (k, t[k]) not in ((0, 0.0), (len(t) - 1, 1.0))
                    assert not inside, (actor.id, lane.id)
    assert seen > 20


def test_one_simulation_at_a_time() -> None:
    first, second = (Traffic(make_episode("train", "natural", None, seed)) for seed in (0, 1))
    with pytest.raises(TrafficError, match="call reset"):
        first.step(EgoPose(x=0.0, y=0.0, yaw=0.0, speed=0.0))
    with first:
        first.reset()
        with pytest.raises(TrafficError, match="close\\(\\) it first"):
            second.reset()
    with second:
        second.reset()


def test_without_libsumo_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libsumo", None)
    with pytest.raises(TrafficError, match="install libsumo==1.28.0"):
        Traffic(make_episode("train", "natural", None, 0)).reset()


def conflict_zones(road_map: RoadMap) -> list[tuple[Connection, Connection, float]]:
    """(way, other way, metres along the first) wherever the ways of two incoming lanes cross or merge."""
    ways = {c: build_route(road_map, [c.from_lane, *c.via, c.to_lane]) for c in road_map.connections if c.via}
    junction = {c: road_map.lanes[c.via[0]].junction for c in ways}
    zones = []
    for own, route in ways.items():
        inside = [i for i, k in enumerate(route.lane_index) if route.lanes[k] in own.via]
        for other, way in ways.items():
            if inside and junction[other] == junction[own] and other.from_lane != own.from_lane:
                gaps = np.hypot(*(route.points[inside][:, None] - way.points).transpose(2, 0, 1)).min(1)
                if gaps.min() < 0.8:
                    zones.append((own, other, float(inside[int(np.argmin(gaps))])))
    return zones


def stand_in_zone(
    base: EpisodeSpec, zone: tuple[Connection, Connection, float], askew: float, seconds: float
) -> list[str]:
    """Who touches an ego that stands in a zone while cars are sent through it; empty if nobody does."""
    own, other, at_s = zone
    road_map = base.road_map
    route = build_route(road_map, [own.from_lane, *own.via, own.to_lane])
    x, y, yaw = route.at(at_s)
    yaw += askew
    ego = EgoPose(x=x - 1.4 * math.cos(yaw), y=y - 1.4 * math.sin(yaw), yaw=yaw, speed=0.0)
    spec = dataclasses.replace(
        base,
        lanes=route.lanes,
        start=0.0,
        length=route.length,
        start_speed=0.0,
        vehicles=25,
        pedestrians=6,
        parked=0,
    )
    centre, corners = ego_centre(ego), ego_corners(ego)
    with Traffic(spec) as traffic:
        traffic.reset()
        if other.signal:
            SignalControl(traffic.sumo, other.signal).hold_green(other.link, seconds)
        lane = road_map.lanes[other.from_lane]
        length = line_length(lane.centre_line)
        edges = [lane.edge, road_map.lanes[other.to_lane].edge]
        placed = 0
        for step in range(int(seconds / 0.05)):
            if step in (0, 100, 200):
                traffic.add_vehicle(
                    f"sent{placed}",
                    "car",
                    lane.id,
                    max(6.0, length - 45.0) if step == 0 else 6.0,
                    edges,
                    min(8.0, lane.speed_limit),
                )
                placed += 1
            state = traffic.step(ego)
            for actor in state.actors:
                if math.dist(centre, (actor.x, actor.y)) < 10 and boxes_overlap(
                    corners, actor_corners(actor)
                ):
                    if step > 2:  # one that stood there before the ego was put there does not count
                        return [f"{actor.id}, {state.time_s} s, {own.from_lane} / {other.from_lane}"]
                    return []
    return []


def check_zones(network: str, count: int, askew: float) -> None:
    road_map = load_road_map(network)
    zones = conflict_zones(road_map)
    chosen = np.random.default_rng(7).choice(len(zones), min(count, len(zones)), replace=False)
    base = dataclasses.replace(make_episode("train", "natural", None, 0), network=network)
    touched = [text for i in chosen for text in stand_in_zone(base, zones[int(i)], askew, 20.0)]
    assert not touched


@pytest.mark.parametrize("askew", [0.0, 0.9])
def test_an_ego_in_a_conflict_zone_is_not_driven_through(askew: float) -> None:
    check_zones("train_00", 10, askew)


@pytest.mark.slow
@pytest.mark.parametrize("askew", [0.0, 0.9])
@pytest.mark.parametrize("network", ["train_01", "dev_00", "test_04"])
def test_an_ego_in_any_conflict_zone_is_not_driven_through(network: str, askew: float) -> None:
    check_zones(network, 40, askew)


def test_who_comes_the_other_way_brakes_for_an_ego_in_its_lane() -> None:
    """SUMO alone drives on: it counts an ego against the traffic to no lane of the other's way."""
    spec = make_episode("train", "overtaking", "parked_vehicle", 2)
    lane = spec.road_map.lanes[spec.lanes[0]]
    oncoming = spec.road_map.lanes[lane.opposite]
    line = oncoming.centre_line
    x, y = line[len(line) // 2]
    dx, dy = line[len(line) // 2 + 1] - line[len(line) // 2]
    yaw = math.atan2(-dy, -dx)
    ego = EgoPose(x=float(x), y=float(y), yaw=yaw, speed=0.0)
    with Traffic(
        dataclasses.replace(
            spec, vehicles=0, pedestrians=0, parked=0, parameters=spec.parameters | {"stream_lanes": []}
        )
    ) as traffic:
        traffic.reset()
        traffic.add_vehicle("oncoming", "car", oncoming.id, 6.0, [oncoming.edge], 6.0)
        for _ in range(300):
            state = traffic.step(ego)
            other = [actor for actor in state.actors if actor.id == "oncoming"]
            assert all(not boxes_overlap(ego_corners(ego), actor_corners(actor)) for actor in other)
        assert other and other[0].speed < 0.1
