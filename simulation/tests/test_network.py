"""Road maps read from the shipped networks: complete, consistent, disjoint by split."""

from __future__ import annotations

import gzip
import itertools
import math

import numpy as np
import pytest
from wpt_sim.network import NetworkError, load_road_map, network_names, network_path, read_network
from wpt_sim.networks.network_generation import SPLIT_SEEDS
from wpt_sim.road_map import LaneKind, Priority, Turn

ALL = [name for split in SPLIT_SEEDS for name in network_names(split)]
SOME = ["train_00", "train_11", "dev_01", "test_03", "tuning_02"]


def test_numbers_of_networks_and_sizes() -> None:
    assert {split: len(network_names(split)) for split in SPLIT_SEEDS} == {
        "train": 24,
        "dev": 4,
        "test": 8,
        "tuning": 4,
    }
    sizes = [network_path(name).stat().st_size for name in ALL]
    assert max(sizes) <= 40_000
    assert sum(sizes) <= 1_500_000


def test_geometries_are_disjoint() -> None:
    """No two networks share a junction outline (seen from its first corner, so that a shift would not hide a
    copy).
    """
    seeds = [range(first, first + count) for count, first in SPLIT_SEEDS.values()]
    assert not any(set(a) & set(b) for a, b in itertools.combinations(seeds, 2))
    shapes: dict[bytes, str] = {}
    for name in ALL:
        for junction, area in load_road_map(name).junction_areas.items():
            key = np.round(area - area[0], 1).tobytes()
            assert shapes.setdefault(key, name) == name, f"{junction} of {name} is also in {shapes[key]}"


@pytest.mark.parametrize("name", ALL)
def test_every_network_has_what_the_scenarios_need(name: str) -> None:
    road_map = load_road_map(name)
    kinds = {lane.kind for lane in road_map.lanes.values()}
    assert kinds == set(LaneKind)
    priorities = {connection.priority for connection in road_map.connections}
    assert priorities == set(Priority)
    assert len(road_map.roundabouts) == 1 and len(road_map.roundabouts[0]) >= 3
    assert {c.turn for c in road_map.connections} >= {Turn.LEFT, Turn.RIGHT, Turn.STRAIGHT}
    assert any(
        lane.left and road_map.lanes[lane.left].kind is LaneKind.DRIVING for lane in road_map.lanes.values()
    )
    ends = {c.from_lane for c in road_map.connections}
    assert "f1_f2_0" not in ends and "f1_f2_1" in ends, "the acceleration lane ends"
    assert len(road_map.buildings) > 15


@pytest.mark.parametrize("name", SOME)
def test_connections_are_continuous(name: str) -> None:
    road_map = load_road_map(name)
    for connection in road_map.connections:
        chain = [connection.from_lane, *connection.via, connection.to_lane]
        for before, after in itertools.pairwise(chain):
            gap = math.dist(road_map.lanes[before].centre_line[-1], road_map.lanes[after].centre_line[0])
            assert gap < 0.3, (before, after)
        assert all(road_map.lanes[lane].kind is LaneKind.JUNCTION for lane in connection.via)


@pytest.mark.parametrize("name", SOME)
def test_neighbours_and_opposites(name: str) -> None:
    lanes = load_road_map(name).lanes
    for lane in lanes.values():
        if lane.left and lanes[lane.left].kind is LaneKind.DRIVING:
            assert lanes[lane.left].right == lane.id
            middle = lane.centre_line[0]
            other = lanes[lane.left].centre_line[0]
            heading = lane.centre_line[1] - middle
            offset = other - middle
            assert heading[0] * offset[1] - heading[1] * offset[0] > 0, "left is to the left"
        if lane.opposite:
            assert math.dist(lane.centre_line[0], lanes[lane.opposite].centre_line[-1]) < 6.0
            assert lane.left is None


@pytest.mark.parametrize("name", SOME)
def test_yielding_follows_the_rules_of_the_road(name: str) -> None:
    road_map = load_road_map(name)
    by_via = {lane: c for c in road_map.connections for lane in c.via}
    for connection in road_map.connections:
        if connection.priority is Priority.SIGNAL and connection.turn is Turn.STRAIGHT:
            drivers = [lane for lane in connection.yields_to if lane in by_via]
            assert not drivers, "who drives straight on at green yields to no vehicle"
        if connection.priority is Priority.SIGNAL and connection.turn is Turn.LEFT:
            opposing = [by_via[lane] for lane in connection.yields_to if lane in by_via]
            assert all(foe.turn is not Turn.LEFT for foe in opposing)
        for lane in connection.yields_to:
            assert road_map.lanes[lane].kind in (LaneKind.JUNCTION, LaneKind.CROSSING)
        if connection.priority is Priority.MAJOR and connection.turn is Turn.STRAIGHT:
            assert not [lane for lane in connection.yields_to if lane in by_via]
    ring = {junction for junctions in road_map.roundabouts for junction in junctions}
    entries = [
        c
        for c in road_map.connections
        if c.priority is Priority.YIELD and c.via and road_map.lanes[c.via[0]].junction in ring
    ]
    assert entries and all(c.yields_to for c in entries)


@pytest.mark.parametrize("name", SOME)
def test_signal_heads(name: str) -> None:
    """Each incoming lane of a signal has one head, its lamps beyond the line and facing its traffic."""
    road_map = load_road_map(name)
    controlled = {(c.signal, c.from_lane) for c in road_map.connections if c.signal}
    assert {(head.signal, head.lane) for head in road_map.signal_heads} == controlled
    for head in road_map.signal_heads:
        lane = road_map.lanes[head.lane]
        end = lane.centre_line[-1]
        assert np.allclose(head.stop_line.mean(0), end, atol=1e-6)
        ahead = head.lamp_position[:2] - end
        direction = -np.array([math.cos(head.facing), math.sin(head.facing)])
        assert 8.0 < ahead @ direction <= 24.0 + 1e-6
        assert abs(ahead[0] * direction[1] - ahead[1] * direction[0]) < 0.1
        links = {c.link for c in road_map.connections if c.from_lane == head.lane}
        assert set(head.links) == links
    strict = {line.lane: line.priority for line in road_map.stop_lines}
    assert all(strict[head.lane] is Priority.SIGNAL for head in road_map.signal_heads)


def _distance_to_lanes(road_map, points: np.ndarray) -> float:
    """Smallest distance of points (N, 2) to the edge of any lane, in metres."""
    best = math.inf
    for lane in road_map.lanes.values():
        p, q = lane.centre_line[:-1], lane.centre_line[1:]
        along = q - p
        offset = points[:, None] - p
        t = np.clip((offset * along).sum(2) / np.maximum((along**2).sum(1), 1e-9), 0, 1)
        best = min(best, float(np.linalg.norm(offset - t[..., None] * along, axis=2).min()) - lane.width / 2)
    return best


@pytest.mark.parametrize("name", SOME)
def test_scenery_stands_beside_the_roads(name: str) -> None:
    road_map = load_road_map(name)
    for building in road_map.buildings:
        outline = np.vstack(
            [
                np.linspace(a, b, 12)
                for a, b in zip(building.footprint, np.roll(building.footprint, -1, axis=0), strict=True)
            ]
        )
        assert _distance_to_lanes(road_map, outline) > 0.5
        x, y = building.footprint.T
        assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0, "footprints are anticlockwise"
        for area in road_map.junction_areas.values():
            assert np.linalg.norm(outline[:, None] - area, axis=2).min() > 10.0, (
                "sight lines at junctions are kept"
            )
    for tree in road_map.trees:
        assert _distance_to_lanes(road_map, tree.position[None]) > tree.crown_radius


def test_loading_is_repeatable_and_cached() -> None:
    assert load_road_map("dev_00") is load_road_map("dev_00")
    load_road_map.cache_clear()
    first = [building.footprint for building in load_road_map("dev_00").buildings]
    load_road_map.cache_clear()
    second = [building.footprint for building in load_road_map("dev_00").buildings]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_bad_names_and_files_are_named(tmp_path) -> None:
    with pytest.raises(NetworkError, match="'nowhere' is not shipped"):
        load_road_map("nowhere")
    with pytest.raises(NetworkError, match="not shipped"):
        load_road_map("../networks/train_00")
    with pytest.raises(NetworkError, match="split 'trainn' is unknown"):
        network_names("trainn")
    broken = tmp_path / "broken.net.xml.gz"
    broken.write_bytes(network_path("train_00").read_bytes()[:5000])
    with pytest.raises(NetworkError, match="cannot be read"):
        read_network(broken, "broken")
    other = tmp_path / "other.net.xml.gz"
    with gzip.open(other, "wb") as stream:
        stream.write(b"<routes/>")
    with pytest.raises(NetworkError, match="<routes>"):
        read_network(other, "other")
