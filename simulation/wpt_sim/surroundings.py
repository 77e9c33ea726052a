"""The traffic around a route: random vehicles and pedestrians, all driven by SUMO."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.route import line_length, sample_line

if TYPE_CHECKING:
    from wpt_sim.traffic import Traffic

SHARES = {
    "car_small": 0.25,
    "car": 0.36,
    "car_large": 0.2,
    "truck": 0.06,
    "bus": 0.02,
    "motorcycle": 0.06,
    "bicycle": 0.05,
}
FROM_OTHERS = 16.0  # metres between two vehicles when placed
FROM_EGO = 26.0
NEW_FROM_EGO = 80.0  # nobody appears nearer than this while the ego drives
LONGEST_WAY = 14  # edges


def edge_graph(road_map: RoadMap) -> dict[str, list[str]]:
    """Edges that can follow each edge."""
    graph: dict[str, list[str]] = {}
    for connection in road_map.connections:
        here, after = road_map.lanes[connection.from_lane].edge, road_map.lanes[connection.to_lane].edge
        if after not in graph.setdefault(here, []):
            graph[here].append(after)
    return graph


def random_way(
    graph: dict[str, list[str]], edge: str, rng: np.random.Generator, most: int = LONGEST_WAY
) -> list[str]:
    """Edges from `edge` on, until the network's border."""
    way = [edge]
    while len(way) < most and graph.get(way[-1]):
        choices = graph[way[-1]]
        way.append(choices[int(rng.integers(len(choices)))])
    return way


class Surroundings:
    """Places and replaces SUMO's own vehicles and pedestrians, so that their number is kept."""

    def __init__(self, traffic: Traffic, rng: np.random.Generator):
        self._traffic, self._rng = traffic, rng
        road_map = traffic.road_map
        self._graph = edge_graph(road_map)
        self._lanes = sorted(
            name
            for name, lane in road_map.lanes.items()
            if lane.kind is LaneKind.DRIVING and line_length(lane.centre_line) > 30
        )
        reached = {after for afters in self._graph.values() for after in afters}
        self._entries = [name for name in self._lanes if road_map.lanes[name].edge not in reached]
        self._walks = sorted(
            {lane.edge for lane in road_map.lanes.values() if lane.kind is LaneKind.SIDEWALK}
        )
        self._made = 0
        self._due = 0.0

    def fill(self, ego_xy: tuple[float, float]) -> None:
        """Place the first vehicles and pedestrians at once."""
        spec = self._traffic.spec
        placed: list[tuple[float, float]] = list(self._traffic.scripted_positions())
        for _ in range(20 * spec.vehicles):
            if self._made >= spec.vehicles:
                break
            lane = self._lanes[int(self._rng.integers(len(self._lanes)))]
            line = self._traffic.road_map.lanes[lane].centre_line
            position = self._rng.uniform(8.0, line_length(line) - 8.0)
            x, y = sample_line(line, np.array([position]))[0]
            if math.hypot(x - ego_xy[0], y - ego_xy[1]) < FROM_EGO or lane in self._traffic.quiet_lanes:
                continue
            if any(math.hypot(x - a, y - b) < FROM_OTHERS for a, b in placed):
                continue
            placed.append((x, y))
            self._vehicle(lane, position, share=0.8)
        for i in range(spec.pedestrians):
            self._pedestrian(f"person{i}", ego_xy, 12.0)
        self._people = spec.pedestrians

    def before_step(self, ego_xy: tuple[float, float], time_s: float, vehicles: int, people: int) -> None:
        """Once a second, let one vehicle enter at the border and one pedestrian start, if some have left."""
        if time_s < self._due:
            return
        self._due = time_s + 1.0
        spec = self._traffic.spec
        if vehicles < spec.vehicles and self._entries:
            lane = self._entries[int(self._rng.integers(len(self._entries)))]
            x, y = self._traffic.road_map.lanes[lane].centre_line[0]
            if (
                math.hypot(x - ego_xy[0], y - ego_xy[1]) > NEW_FROM_EGO
                and lane not in self._traffic.quiet_lanes
            ):
                self._vehicle(lane, 8.0, share=0.8)
        if people < spec.pedestrians:
            self._pedestrian(f"person{self._people}", ego_xy, NEW_FROM_EGO)
            self._people += 1

    def _vehicle(self, lane: str, position: float, share: float) -> None:
        rng, road = self._rng, self._traffic.road_map.lanes[lane]
        kind = list(SHARES)[int(rng.choice(len(SHARES), p=np.array(list(SHARES.values()))))]
        way = random_way(self._graph, road.edge, rng)
        name = f"car{self._made}"
        self._made += 1
        # Slow enough to stop at the lane's end at 2 m/s2: SUMO does not check it (--insertion-checks none).
        rest = max(line_length(road.centre_line) - position - 3.0, 0.0)
        speed = min(share * road.speed_limit, 5.0 if kind == "bicycle" else 40.0, math.sqrt(4.0 * rest))
        self._traffic.add_vehicle(name, kind, lane, position, way, speed)
        self._traffic.sumo.vehicle.setSpeedFactor(name, float(rng.uniform(0.85, 1.05)))

    def _pedestrian(self, name: str, ego_xy: tuple[float, float], clearance: float) -> None:
        rng, sumo = self._rng, self._traffic.sumo
        if len(self._walks) < 2:
            return
        for _ in range(10):
            start, goal = (self._walks[int(i)] for i in rng.choice(len(self._walks), 2, replace=False))
            line = self._traffic.road_map.lanes[f"{start}_0"].centre_line
            position = float(rng.uniform(1.0, line_length(line) - 1.0))
            x, y = sample_line(line, np.array([position]))[0]
            if math.hypot(x - ego_xy[0], y - ego_xy[1]) < clearance:
                continue
            stages = sumo.simulation.findIntermodalRoute(start, goal)
            if not stages or any(stage.type != 2 or not stage.edges for stage in stages):  # 2: a walk
                continue
            sumo.person.add(name, start, position, typeID="pedestrian")
            for stage in stages:
                sumo.person.appendWalkingStage(name, list(stage.edges), 1.0)
            sumo.person.setSpeed(name, float(rng.uniform(1.0, 1.6)))
            return
