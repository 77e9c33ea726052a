"""Emergency brake: someone ahead does what nobody should have to expect."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wpt_sim.episode import DT, HARDEST_BRAKING
from wpt_sim.guard import Obstacle, distance_to_obstacle
from wpt_sim.road_map import LaneKind, Priority, RoadMap, Turn
from wpt_sim.scenarios.arrival import EGO_FRONT, Approach, ScriptedVehicle, edges_of, first_meeting
from wpt_sim.scenarios.lane_stretch import draw_stretch
from wpt_sim.scenarios.script import Scenario
from wpt_sim.scenarios.stream_meeting import STREAM_CARS, StreamMeeting, draw_meeting, junction_of, pick
from wpt_sim.route import build_route
from wpt_sim.vehicles import EGO_LENGTH, EGO_WIDTH, PEDESTRIAN, VEHICLES, ego_centre
from wpt_sim.world_state import Actor, EgoPose

REACTION = 0.5  # seconds in which an attentive driver does nothing yet
STANDING = 1.0  # m/s: a walker takes an ego slower than this for one that stands
PATIENCE = 4.0  # seconds that a walker waits for a standing ego to drive out of the way before it turns back
TURN_RATE = 4.0  # rad/s, turning on the spot


class HardBrakingLeader(Scenario):
    """The car ahead brakes to a halt for nothing, stands for some seconds and drives on."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        stretch = draw_stretch(road_map, rng, 90.0)
        if stretch is None:
            return None
        limit = float(stretch.route.reference_speeds(stretch.start_speed)[:60].max())
        gap = float(rng.uniform(1.0, 1.4)) * limit  # bumper to bumper
        braking = float(rng.uniform(5.0, 7.5))
        room = gap + limit**2 / (2 * braking) - REACTION * limit - 1.0
        needed = limit**2 / (2 * max(room, 0.1))
        trigger = float(rng.uniform(18.0, 34.0))
        conflict = trigger + EGO_FRONT + gap + limit**2 / (2 * braking)
        if needed > HARDEST_BRAKING or conflict > stretch.usable - 8.0:
            return None
        return dict(
            **stretch.fields(),
            vehicles=int(rng.integers(3, 10)),
            pedestrians=int(rng.integers(0, 6)),
            parked=int(rng.integers(0, 8)),
            conflict_s=round(conflict, 2),
            parameters=dict(
                kind=STREAM_CARS[int(rng.integers(3))],
                gap=round(gap, 2),
                braking=round(braking, 2),
                trigger_s=round(trigger, 2),
                stand=round(float(rng.uniform(2.0, 4.0)), 2),
                needed_braking=round(needed, 2),
            ),
        )

    def prepare(self, traffic) -> None:
        p = self.spec.parameters
        traffic.quiet_lanes |= {
            lane for lane in self.spec.lanes if traffic.road_map.lanes[lane].kind is LaneKind.DRIVING
        }
        front = EGO_FRONT + p["gap"] + VEHICLES[p["kind"]].length
        self.leader = ScriptedVehicle(
            traffic, "leader", p["kind"], self.spec.lanes, self.spec.start, front, self.spec.start_speed
        )
        self.leader.spawn()
        self.approach = Approach(self.route)
        self._braking, self._stood = False, 0.0

    def before_step(self, traffic, ego: EgoPose, time_s: float) -> None:
        p = self.spec.parameters
        s = self.approach.locate(ego)
        gap = self.leader.locate() - self.leader.size.length - s - EGO_FRONT
        self._braking = self._braking or s >= p["trigger_s"]
        if not self._braking:
            wanted = ego.speed + 0.5 * (p["gap"] - gap)
            limit = self.approach.reference_speed(s + gap)
            self.leader.drive(min(max(wanted, 0.5 * limit), 1.05 * limit), ego, acceleration=3.0, braking=3.0)
        elif self._stood < p["stand"]:
            self.leader.drive(0.0, ego, braking=p["braking"])
            if self.leader.speed < 0.05:
                self._stood += DT
        else:
            self.leader.release()


class CutIn(Scenario):
    """A car in the neighbouring lane changes into the ego's lane close ahead and slows down."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        stretch = draw_stretch(road_map, rng, 95.0, needs_neighbour=True)
        if stretch is None:
            return None
        neighbours = [
            n
            for n in (stretch.lane.left, stretch.lane.right)
            if n and road_map.lanes[n].kind is LaneKind.DRIVING
        ]
        neighbour = neighbours[int(rng.integers(len(neighbours)))]
        limit = float(stretch.route.reference_speeds(stretch.start_speed)[:60].max())
        gap = float(rng.uniform(7.0, 11.0))
        slow = float(rng.uniform(0.2, 0.4)) * limit
        needed = (limit - slow) ** 2 / (
            2 * (gap - 1.0 + (limit - slow) * 1.0)
        )  # 1 s: half of the change is visible
        trigger = float(rng.uniform(14.0, 26.0))
        conflict = trigger + EGO_FRONT + gap + 2.5 * limit
        if needed > HARDEST_BRAKING or conflict > stretch.usable - 4.0:
            return None
        return dict(
            **stretch.fields(),
            vehicles=int(rng.integers(3, 10)),
            pedestrians=int(rng.integers(0, 6)),
            parked=int(rng.integers(0, 8)),
            conflict_s=round(conflict, 2),
            parameters=dict(
                kind=STREAM_CARS[int(rng.integers(3))],
                gap=round(gap, 2),
                slow_speed=round(slow, 2),
                trigger_s=round(trigger, 2),
                neighbour=neighbour,
                hold=round(float(rng.uniform(3, 5)), 2),
                needed_braking=round(needed, 2),
            ),
        )

    def prepare(self, traffic) -> None:
        p = self.spec.parameters
        traffic.quiet_lanes |= {
            lane
            for lane in (*self.spec.lanes, p["neighbour"])
            if traffic.road_map.lanes[lane].kind is LaneKind.DRIVING
        }
        size = VEHICLES[p["kind"]]
        # The way of the other is the neighbouring lane alone; its edges go on along the ego's route.
        self.other = ScriptedVehicle(
            traffic,
            "cutter",
            p["kind"],
            [p["neighbour"]],
            self.spec.start,
            EGO_FRONT + p["gap"] + size.length,
            self.spec.start_speed,
        )
        traffic.add_vehicle(
            "cutter",
            p["kind"],
            p["neighbour"],
            self.spec.start + self.other.s,
            edges_of(traffic.road_map, self.spec.lanes),
            self.spec.start_speed,
            scripted=True,
        )
        self.other.spawned = True
        self.approach = Approach(self.route)
        self._since: float | None = None

    def before_step(self, traffic, ego: EgoPose, time_s: float) -> None:
        p = self.spec.parameters
        if not self.other.present:
            return
        s = self.approach.locate(ego)
        body = traffic.bodies["cutter"]
        gap = self.route.project(body.x, body.y, s)[0] - self.other.size.length / 2 - s - EGO_FRONT
        if self._since is None and s >= p["trigger_s"]:
            self._since = time_s
            index = int(self.spec.lanes[0].rpartition("_")[2])
            traffic.sumo.vehicle.changeLane("cutter", index, 30.0)
        if self._since is None:
            limit = self.approach.reference_speed(s)
            wanted = ego.speed + 0.5 * (p["gap"] - gap)
            self.other.drive(min(max(wanted, 0.4 * limit), 1.2 * limit), ego, acceleration=3.5)
        elif time_s - self._since < 2.5 + p["hold"]:
            late = time_s - self._since > 0.8
            self.other.drive(p["slow_speed"] if late else self.other.speed, ego, braking=4.0)
        else:
            self.other.release()


class CrossingPedestrian(Scenario):
    """A pedestrian on the sidewalk walks onto the road in front of the ego, where there is no crossing.

    SUMO's persons cannot leave sidewalks and crossings, so this one is an actor of our own.
    """

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        stretch = draw_stretch(road_map, rng, 75.0, needs_sidewalk=True)
        if stretch is None:
            return None
        at_s = float(rng.uniform(42.0, stretch.usable - 22.0))
        x, y, heading = stretch.route.at(at_s)
        normal = np.array([-math.sin(heading), math.cos(heading)])
        # How far the sidewalks are to the right and to the left of the ego's lane, here.
        reach = {}
        for side in (-1.0, 1.0):
            for metres in np.arange(1.0, 16.0, 0.25):
                spot = np.array([x, y]) + side * metres * normal
                if any(
                    np.hypot(*(lane.centre_line - spot).T).min() < 40 and _on(lane, spot)
                    for lane in road_map.lanes.values()
                    if lane.kind is LaneKind.SIDEWALK
                ):
                    reach[side] = metres + 0.75
                    break
        if len(reach) < 2:
            return None
        side = float(rng.choice([-1.0, -1.0, 1.0]))
        speed = float(rng.uniform(1.3, 2.4))
        limit = float(stretch.route.reference_speeds(stretch.start_speed)[int(at_s)])
        to_walk = reach[side] / speed
        needed = limit**2 / (2 * max(limit * to_walk - 1.0, 0.1))
        if needed > HARDEST_BRAKING or to_walk * limit > at_s - 8.0:
            return None
        return dict(
            **stretch.fields(),
            vehicles=int(rng.integers(3, 10)),
            pedestrians=int(rng.integers(2, 8)),
            parked=int(rng.integers(0, 8)),
            conflict_s=round(at_s, 2),
            parameters=dict(
                side=side,
                from_lateral=round(reach[side], 2),
                to_lateral=round(reach[-side], 2),
                walk_speed=round(speed, 2),
                stop_s=round(at_s - 1.0, 2),
                needed_braking=round(needed, 2),
            ),
        )

    def prepare(self, traffic) -> None:
        traffic.quiet_lanes |= {
            lane for lane in self.spec.lanes if traffic.road_map.lanes[lane].kind is LaneKind.DRIVING
        }
        self.approach = Approach(self.route)
        x, y, heading = self.route.at(self.spec.conflict_s)
        self._middle, self._normal = np.array([x, y]), np.array([-math.sin(heading), math.cos(heading)])
        self._walked, self._speed, self._started = 0.0, 0.0, False
        self._waited, self._turned = 0.0, 0.0
        self._show(traffic)

    def _show(self, traffic) -> None:
        p = self.spec.parameters
        lateral = p["side"] * (p["from_lateral"] - self._walked)
        spot = self._middle + lateral * self._normal
        yaw = math.remainder(math.atan2(*(-p["side"] * self._normal)[::-1]) + self._turned, 2 * math.pi)
        size = PEDESTRIAN
        traffic.place(
            Actor(
                id="walker",
                kind=size.kind,
                x=float(spot[0]),
                y=float(spot[1]),
                yaw=yaw,
                speed=self._speed,
                length=size.length,
                width=size.width,
                height=size.height,
                colour_seed=self.spec.seed * 7919 % 2**31,
            )
        )

    def before_step(self, traffic, ego: EgoPose, time_s: float) -> None:
        p = self.spec.parameters
        s = self.approach.locate(ego)
        until = self.approach.time_to(s, ego.speed, self.spec.conflict_s - EGO_FRONT)
        self._started = self._started or until <= p["from_lateral"] / p["walk_speed"]
        if self._waited >= PATIENCE:
            self._turn_back(traffic)
            return
        wanted = p["walk_speed"] if self._started else 0.0
        if self._walked >= p["from_lateral"] + p["to_lateral"]:
            wanted = 0.0
        elif wanted and self._ego_in_way(ego):
            wanted = 0.0
            self._waited += DT if ego.speed <= STANDING else 0.0
        else:
            self._waited = 0.0
        self._speed = min(wanted, self._speed + 4.0 * DT)
        self._walked += self._speed * DT
        self._show(traffic)

    def _turn_back(self, traffic) -> None:
        """Turn round and walk back to the kerb, for good: an ego that waits for the walker can go on."""
        self._turned = min(self._turned + TURN_RATE * DT, math.pi)
        walking = self._turned == math.pi and self._walked > 0.0
        self._speed = min(self.spec.parameters["walk_speed"], self._speed + 4.0 * DT) if walking else 0.0
        self._walked = max(self._walked - self._speed * DT, 0.0)
        self._show(traffic)

    def _ego_in_way(self, ego: EgoPose) -> bool:
        """Whether the next metre is taken by a (nearly) standing ego, or still is by one that sets off: then
        one waits, or walks round behind it.
        """
        if ego.speed > STANDING and not self._waited:
            return False
        p = self.spec.parameters
        steps = self._walked + np.arange(0.0, 1.5, 0.5)
        points = self._middle + (p["side"] * (p["from_lateral"] - steps))[:, None] * self._normal
        x, y = ego_centre(ego)
        box = Obstacle(x, y, ego.yaw, EGO_LENGTH / 2, EGO_WIDTH / 2, 0.0)
        return distance_to_obstacle(points, PEDESTRIAN.width / 2, box) is not None


def _on(lane, spot: np.ndarray) -> bool:
    """Whether a spot lies on a lane (metres to its centre line below half its width)."""
    line = lane.centre_line
    p, q = line[:-1], line[1:]
    along = q - p
    t = np.clip(((spot - p) * along).sum(1) / np.maximum((along**2).sum(1), 1e-9), 0, 1)
    return bool(np.hypot(*(p + t[:, None] * along - spot).T).min() < lane.width / 2)


class RedLightRunner(StreamMeeting):
    """The ego has green; one or two cars from the side run their red."""

    foe_is_green = False

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        def crossing(connection):
            return [
                foe
                for foe in road_map.connections
                if foe.signal == connection.signal
                and foe.turn is Turn.STRAIGHT
                and road_map.lanes[foe.from_lane].edge != road_map.lanes[connection.from_lane].edge
                and foe.to_lane != connection.to_lane
                and junction_of(road_map, foe) == junction_of(road_map, connection)
                and not set(foe.via) & set(connection.yields_to)
                and not set(connection.via) & set(foe.yields_to)
                and _cross(road_map, connection, foe)
            ]

        connection = pick(
            rng,
            (
                c
                for c in road_map.connections
                if c.priority is Priority.SIGNAL and c.via and c.turn is Turn.STRAIGHT and crossing(c)
            ),
        )
        if connection is None:
            return None
        return draw_meeting(
            road_map,
            rng,
            connection,
            crossing(connection),
            headway=(1.3, 1.9),
            count=(1, 2),
            speed_share=(0.85, 1.0),
            lead_cars=0,
        )


def _cross(road_map: RoadMap, one, other) -> bool:
    first, second = (build_route(road_map, [c.from_lane, *c.via, c.to_lane]) for c in (one, other))
    return first_meeting(first, second, 1.0) is not None
