"""Overtaking: something stands or crawls in the ego's lane, and the way past leads over another lane."""

from __future__ import annotations

from typing import Any

import numpy as np

from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.route import build_route, extend_backward, extend_forward
from wpt_sim.scenarios.arrival import EGO_FRONT, Meeting, Stream, edges_of
from wpt_sim.scenarios.lane_stretch import Stretch, draw_stretch
from wpt_sim.scenarios.script import Scenario
from wpt_sim.scenarios.stream_meeting import STREAM_CARS
from wpt_sim.world_state import EgoPose

PARKED_KINDS = ("car_small", "car", "car_large", "truck")
SLOW_KINDS = ("bicycle", "bicycle", "truck")
ZONE_BEFORE, ZONE_AFTER = (
    45.0,
    45.0,
)  # metres of route around the obstacle in which the other lane may be used
ONCOMING_BEFORE = (
    15.0  # metres before the obstacle at which the first oncoming car would meet an ego at the limit
)
ONCOMING_FREEZE = 4.5  # seconds before that from which on it keeps its speed: the ego decides by what it sees


def _oncoming(road_map: RoadMap, rng: np.random.Generator, stretch: Stretch, at_s: float) -> dict[str, Any]:
    """Parameters of up to two oncoming cars that meet the ego at the obstacle; empty lists without."""
    none = dict(
        stream_lanes=[], stream_start=0.0, stream_speed=0.0, offsets=[], kinds=[], meeting_other_s=0.0
    )
    cars = int(rng.integers(0, 3))
    opposite = stretch.lane.opposite
    if not cars or not opposite:
        return none
    before = extend_backward(road_map, opposite, 150.0, rng) or []
    after = extend_forward(road_map, opposite, 60.0, rng) or []
    lanes = [*before, opposite, *after]
    if len(set(lanes)) < len(lanes):
        return none
    way = build_route(road_map, lanes)
    x, y, _ = stretch.route.at(at_s - ONCOMING_BEFORE)
    other_s = way.project(x, y)[0]
    speed = float(rng.uniform(0.75, 0.95)) * road_map.lanes[opposite].speed_limit
    if other_s < 60.0:
        return none
    return dict(
        stream_lanes=lanes,
        stream_start=0.0,
        stream_speed=round(speed, 2),
        meeting_other_s=other_s,
        offsets=[round(i * float(rng.uniform(1.8, 2.6)), 2) for i in range(cars)],
        kinds=[STREAM_CARS[int(rng.integers(3))] for _ in range(cars)],
    )


class ParkedVehicle(Scenario):
    """A vehicle parked in the only lane of this direction, with the opposing lane free after up to two
    oncoming cars.
    """

    needs_neighbour = False

    @classmethod
    def draw(cls, road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        stretch = draw_stretch(
            road_map, rng, 85.0, needs_neighbour=cls.needs_neighbour, needs_opposite=not cls.needs_neighbour
        )
        if stretch is None:
            return None
        at_s = float(rng.uniform(48.0, stretch.usable - 30.0))
        zones = () if cls.needs_neighbour else ((max(0.0, at_s - ZONE_BEFORE), at_s + ZONE_AFTER),)
        limit = float(stretch.route.speed_limits[: int(at_s)].max())
        parameters = dict(
            obstacle=PARKED_KINDS[int(rng.integers(4))],
            obstacle_s=round(at_s, 2),
            stop_s=round(at_s - 4.0, 2),
            needed_braking=round(limit**2 / (2 * (at_s - 8.0 - EGO_FRONT)), 2),
        )
        if not cls.needs_neighbour:
            parameters |= _oncoming(road_map, rng, stretch, at_s)
        else:
            parameters |= dict(stream_lanes=[])
        return dict(
            **stretch.fields(),
            zones=zones,
            vehicles=int(rng.integers(2, 8)),
            pedestrians=int(rng.integers(0, 6)),
            parked=int(rng.integers(0, 6)),
            conflict_s=round(at_s, 2),
            parameters=parameters,
        )

    def prepare(self, traffic) -> None:
        p = self.spec.parameters
        traffic.quiet_lanes |= {
            lane
            for lane in (*self.spec.lanes, *p["stream_lanes"])
            if traffic.road_map.lanes[lane].kind is LaneKind.DRIVING
        }
        opposite = traffic.road_map.lanes[self.spec.lanes[0]].opposite
        if opposite:
            traffic.quiet_lanes.add(opposite)
        traffic.add_standing(
            "obstacle",
            p["obstacle"],
            self.spec.lanes[0],
            self.spec.start + p["obstacle_s"],
            edges_of(traffic.road_map, self.spec.lanes),
        )
        self.stream = None
        if p["stream_lanes"]:
            self.stream = Stream(
                traffic,
                p["stream_lanes"],
                p["stream_start"],
                p["kinds"],
                p["offsets"],
                p["stream_speed"],
                Meeting(p["obstacle_s"] - ONCOMING_BEFORE, p["meeting_other_s"]),
                self.spec.start_speed,
                freeze_time=ONCOMING_FREEZE,
            )

    def before_step(self, traffic, ego: EgoPose, time_s: float) -> None:
        if self.stream is not None:
            self.stream.before_step(ego, time_s)


class ParkedVehicleTwoLanes(ParkedVehicle):
    """A vehicle parked in the ego's lane of a road with a second lane in the same direction."""

    needs_neighbour = True


class SlowVehicle(Scenario):
    """A bicycle, or a lorry at a crawl, ahead in the ego's lane. To follow it is allowed; it takes longer."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        stretch = draw_stretch(road_map, rng, 95.0)
        if stretch is None or stretch.lane.speed_limit < 8.0:
            return None
        kind = SLOW_KINDS[int(rng.integers(3))]
        speed = float(rng.uniform(2.6, 4.0))
        ahead = float(rng.uniform(24.0, 34.0))  # from the ego's base_link to the slow one's front
        limit = float(stretch.route.reference_speeds(stretch.start_speed).max())
        caught = ahead / max(1 - speed / limit, 0.2)
        if caught > stretch.usable - 10.0:
            return None
        one_lane = stretch.lane.left is None
        zones = ((5.0, round(stretch.usable + 10.0, 1)),) if one_lane and stretch.lane.opposite else ()
        needed = (limit - speed) ** 2 / (2 * (ahead - 8.0 - EGO_FRONT))
        return dict(
            **stretch.fields(),
            zones=zones,
            vehicles=int(rng.integers(2, 8)),
            pedestrians=int(rng.integers(0, 6)),
            parked=int(rng.integers(0, 6)),
            conflict_s=round(caught, 2),
            parameters=dict(
                slow=kind,
                slow_speed=round(speed, 2),
                ahead=round(ahead, 2),
                stop_s=round(ahead, 2),
                needed_braking=round(needed, 2),
            ),
        )

    def prepare(self, traffic) -> None:
        p, lanes = self.spec.parameters, traffic.road_map.lanes
        traffic.quiet_lanes |= {lane for lane in self.spec.lanes if lanes[lane].kind is LaneKind.DRIVING}
        if lanes[self.spec.lanes[0]].opposite:
            traffic.quiet_lanes.add(lanes[self.spec.lanes[0]].opposite)
        traffic.add_vehicle(
            "slow",
            p["slow"],
            self.spec.lanes[0],
            self.spec.start + p["ahead"],
            edges_of(traffic.road_map, self.spec.lanes),
            p["slow_speed"],
        )
        traffic.sumo.vehicle.setMaxSpeed("slow", p["slow_speed"])
        traffic.sumo.vehicle.setLaneChangeMode("slow", 512)  # only changes that its way needs
