"""What the expert expects of the others: predicted motions, with right of way taken into account."""

from __future__ import annotations

import math
from dataclasses import replace

from wpt_sim.expert_junctions import EGO_FRONT, RouteJunction, route_crossings
from wpt_sim.expert_space_time import OthersMotion, is_follower
from wpt_sim.observation import Observation, ObservedActor
from wpt_sim.prediction import (
    Hypothesis,
    Way,
    crossing_poses,
    lane_graph,
    straight_poses,
    vehicle_hypotheses,
)
from wpt_sim.road_map import RoadMap
from wpt_sim.route import Route
from wpt_sim.vehicles import EGO_WIDTH, ego_centre
from wpt_sim.world_state import ActorKind, Lights

EXPECTED_BRAKING = 3.2  # m/s2: one who must yield and can still stop with this is believed to
PRIORITY_TIME, PRIORITY_METRES = 1.0, 1.5  # what is kept free in front of one with the right of way
WALKER_CLEARANCE, WALKER_MARGIN = 0.7, 0.3  # metres around pedestrians that are kept free, and never entered
WALKER_DOUBT = 0.4  # seconds by which a walker may be earlier or later than predicted
WALKING_SPEED = 1.4  # m/s assumed at least of one who walks, or may step onto a crossing
PATIENT = 2.5  # seconds that a pedestrian has stood before it counts as waiting
STANDING = 0.1  # m/s
# Past a pedestrian who stands at the kerb and faces the road: m/s, and m/s more per metre to the ego's side.
KERB_REACH, KERB_SPEED, KERB_SPEED_GAIN = 5.0, 2.2, 2.2


class Expectations:
    """Predicted motions of everybody observed who may matter on one route."""

    def __init__(self, road_map: RoadMap, route: Route):
        self._road_map = road_map
        self._graph = lane_graph(road_map)
        self._crossings = route_crossings(road_map, route)
        self._own_lanes = frozenset(route.lanes)

    def motions(self, observation: Observation, junctions: list[RouteJunction]) -> list[OthersMotion]:
        """All that is believed possible now. junctions: those of the route that are near."""
        ego = observation.ego
        x, y = ego_centre(ego)
        found: list[OthersMotion] = []
        for actor in observation.actors:
            distance = math.hypot(actor.x - x, actor.y - y)
            if actor.kind is ActorKind.PEDESTRIAN:
                if distance < 50.0:
                    found += self._walker(actor, observation.s, junctions)
            elif is_follower(actor.x, actor.y, actor.yaw, actor.length, ego.x, ego.y, ego.yaw):
                continue
            elif actor.speed < STANDING and (actor.still_s > 0.5 or actor.acceleration < 0.3):
                found.append(OthersMotion(straight_poses(actor), actor.length, actor.width))
            else:
                found += self._vehicle(actor, junctions)
        return found

    def _vehicle(self, actor: ObservedActor, junctions: list[RouteJunction]) -> list[OthersMotion]:
        hypotheses = vehicle_hypotheses(self._graph, actor)
        if not hypotheses:
            return [OthersMotion(straight_poses(actor), actor.length, actor.width)]
        found = []
        for hypothesis in hypotheses:
            first, stop_at = self._right_of_way(hypothesis, junctions)
            ahead = PRIORITY_METRES + PRIORITY_TIME * actor.speed if first else 0.0
            if not set(hypothesis.way.lanes[:1]) & self._own_lanes and hypothesis.settle > 2.2:
                ahead = max(ahead, 0.5 * actor.speed)
            found.append(OthersMotion(hypothesis.poses(stop_at), actor.length, actor.width, ahead))
        return found

    def _right_of_way(
        self, hypothesis: Hypothesis, junctions: list[RouteJunction]
    ) -> tuple[bool, float | None]:
        """(goes first, way metres at which it is expected to wait, if so) for one way of another vehicle."""
        way, actor = hypothesis.way, hypothesis.actor
        for junction in junctions:
            mine = junction.connection
            name = self._road_map.lanes[mine.via[0]].junction
            for lane, start in zip(way.lanes, way.starts, strict=True):
                if self._road_map.lanes[lane].junction != name:
                    continue
                if junction.priority_lanes & set(way.lanes):
                    return True, None
                if mine.from_lane in way.lanes or start <= hypothesis.s:
                    break  # ahead of us on our own lane, or already inside
                start = self._halting_place(way, lane, start)
                room = start - hypothesis.s - actor.length / 2
                if room > 0.0 and actor.speed**2 / (2 * max(room - 0.3, 0.1)) < EXPECTED_BRAKING:
                    return False, start - actor.length / 2 - 0.3
                break
        # Into our lane from the side of a lane change, or merging: those who drive on there go first.
        return False, self._waiting_place(hypothesis, junctions)

    def _halting_place(self, way: Way, lane: str, start: float) -> float:
        """Way metres where one who must yield halts: the waiting place inside the junction, else its line."""
        following = way.lanes.index(lane) + 1
        junction = self._road_map.lanes[lane].junction
        if following < len(way.lanes) and self._road_map.lanes[way.lanes[following]].junction == junction:
            return way.starts[following]
        return start

    def _waiting_place(self, hypothesis: Hypothesis, junctions: list[RouteJunction]) -> float | None:
        """The end of a waiting part inside the junction (a left turn), for one who must yield and can stop
        there.
        """
        way, actor = hypothesis.way, hypothesis.actor
        names = {self._road_map.lanes[j.connection.via[0]].junction for j in junctions}
        first = way.lanes[0]
        if (
            self._road_map.lanes[first].junction not in names
            or len(way.lanes) < 2
            or first in self._own_lanes
        ):
            return None
        if self._road_map.lanes[way.lanes[1]].junction is None:
            return None
        room = way.starts[1] - hypothesis.s - actor.length / 2
        if room > 0.0 and actor.speed**2 / (2 * max(room, 0.1)) < EXPECTED_BRAKING:
            return way.starts[1] - actor.length / 2
        return None

    def _walker(self, actor: ObservedActor, s: float, junctions: list[RouteJunction]) -> list[OthersMotion]:
        if actor.speed < STANDING and actor.still_s > PATIENT:  # it lets the ego pass, however near it stands
            return [OthersMotion(straight_poses(actor), actor.length, actor.width, aside=0.3, margin=0.1)]
        length = actor.length + 2 * WALKER_DOUBT * actor.speed
        found = [
            OthersMotion(
                straight_poses(_walking(actor)),
                length,
                actor.width,
                aside=WALKER_CLEARANCE,
                margin=WALKER_MARGIN,
            )
        ]
        goes_first = set().union(*(j.priority_lanes for j in junctions)) if junctions else set()
        signalised = {
            c
            for j in junctions
            if j.connection.signal is not None
            for c, _, _ in self._crossings
            if self._road_map.lanes[c].junction == self._road_map.lanes[j.connection.via[0]].junction
        }
        for crossing, first, last in self._crossings:
            if not s - 2.0 < last or first > s + 50.0:
                continue
            if crossing in signalised and crossing not in goes_first:
                continue  # red for it
            poses = crossing_poses(self._road_map, actor, crossing, max(actor.speed, WALKING_SPEED))
            if poses is not None:
                found.append(
                    OthersMotion(poses, length, actor.width, aside=WALKER_CLEARANCE, margin=WALKER_MARGIN)
                )
        return found


def _walking(actor: ObservedActor) -> ObservedActor:
    """A walker that has begun to walk is at its full speed in a moment."""
    return replace(actor, speed=max(actor.speed, WALKING_SPEED)) if actor.speed > STANDING else actor


def slow_places(route: Route, observation: Observation) -> list[tuple[float, float]]:
    """(route metres of base_link, m/s) where somebody stands at the kerb and faces the ego's way.

    Who stands there may step out: then there is the time of the walk to the ego's side, and no more.
    """
    found = []
    for actor in observation.actors:
        if actor.kind is not ActorKind.PEDESTRIAN or actor.speed > STANDING:
            continue
        at, lateral = route.project(actor.x, actor.y, observation.s, window=60.0)
        if not observation.s < at < min(observation.s + 55.0, route.length) or abs(lateral) > KERB_REACH:
            continue
        towards = route.at(at)[2] - math.copysign(math.pi / 2, lateral)
        if abs(math.remainder(actor.yaw - towards, math.tau)) < 0.9:
            gap = max(abs(lateral) - EGO_WIDTH / 2 - 0.3, 0.0)
            found.append((at - EGO_FRONT - 1.0, KERB_SPEED + KERB_SPEED_GAIN * gap))
    return found


def is_obstacle(actor: ObservedActor) -> bool:
    """Whether a vehicle looks parked: it has stood for a while without any light (who waits in a queue shows
    brake lights).
    """
    return (
        actor.kind is not ActorKind.PEDESTRIAN
        and actor.speed < STANDING
        and actor.still_s > 0.3
        and actor.lights == Lights.NONE
    )
