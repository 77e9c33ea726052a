"""Drivers that cannot do much, so that the table shows what each ability is worth.

All are made with (road_map, route) and asked `act(observation)` every 0.05 s. Those that follow the route
steer like the expert; none of them steps aside, stops for a signal or yields.
"""

from __future__ import annotations

import math

from wpt_sim.ego_vehicle import Control
from wpt_sim.expert_junctions import EGO_FRONT
from wpt_sim.expert_path import path_from, speed_cap, steer_along
from wpt_sim.observation import Observation
from wpt_sim.road_map import RoadMap
from wpt_sim.route import Route
from wpt_sim.vehicles import EGO_WIDTH

BRAKING_AHEAD = 2.2  # m/s2 for curves and lower limits
SPEED_GAIN = 1.0  # 1/s
# Intelligent driver model (Treiber, Hennecke, Helbing 2000).
IDM_ACCELERATION, IDM_BRAKING, IDM_HARDEST = 2.0, 2.5, 8.0  # m/s2
IDM_HEADWAY, IDM_GAP = 1.3, 2.5  # seconds, metres


class StopDriver:
    """Brakes and stands."""

    def __init__(self, road_map: RoadMap, route: Route):
        pass

    def act(self, observation: Observation) -> Control:
        return Control(steer=0.0, acceleration=-2.5)


class ConstantVelocityDriver:
    """Goes straight on at the speed it has."""

    def __init__(self, road_map: RoadMap, route: Route):
        pass

    def act(self, observation: Observation) -> Control:
        return Control(steer=0.0, acceleration=0.0)


class BlindDriver:
    """Follows the route at the speed limit; sees neither actors nor signals nor signs."""

    def __init__(self, road_map: RoadMap, route: Route):
        self._route = route

    def act(self, observation: Observation) -> Control:
        ego = observation.ego
        path = path_from(self._route, observation.s, None)
        wanted = float(speed_cap(path, BRAKING_AHEAD, [])[1])
        acceleration = min(
            max(SPEED_GAIN * (wanted - ego.speed), -3.0), self._acceleration(observation, wanted)
        )
        steer = steer_along(path, ego.x, ego.y, ego.yaw, ego.speed, observation.s)
        return Control(steer=steer, acceleration=acceleration)

    def _acceleration(self, observation: Observation, wanted: float) -> float:
        return 2.0


class LaneLeaderDriver(BlindDriver):
    """The blind driver with the intelligent driver model on the next vehicle (or walker) in its way, and
    nothing else.
    """

    def _acceleration(self, observation: Observation, wanted: float) -> float:
        speed = observation.ego.speed
        free = IDM_ACCELERATION * (1.0 - (speed / max(wanted, 0.5)) ** 4)
        leader = self._leader(observation)
        if leader is None:
            return max(free, -3.0)
        gap, ahead = leader
        closing = speed * (speed - ahead) / (2 * math.sqrt(IDM_ACCELERATION * IDM_BRAKING))
        desired = IDM_GAP + max(0.0, IDM_HEADWAY * speed + closing)
        return max(
            min(free, IDM_ACCELERATION) - IDM_ACCELERATION * (desired / max(gap, 0.1)) ** 2, -IDM_HARDEST
        )

    def _leader(self, observation: Observation) -> tuple[float, float] | None:
        """(gap in metres, speed along the route) of the nearest one whose box is on the ego's strip of the
        route.
        """
        best: tuple[float, float] | None = None
        for actor in observation.actors:
            s, lateral = self._route.project(actor.x, actor.y, observation.s, window=70.0)
            turned = actor.yaw - self._route.at(s)[2]
            half_width = 0.5 * (actor.width * abs(math.cos(turned)) + actor.length * abs(math.sin(turned)))
            half_length = 0.5 * (actor.length * abs(math.cos(turned)) + actor.width * abs(math.sin(turned)))
            gap = s - half_length - observation.s - EGO_FRONT
            beside = abs(lateral) > half_width + EGO_WIDTH / 2
            if beside or s <= observation.s + 1.0 or not gap < 60.0 or s >= self._route.length:
                continue
            if best is None or gap < best[0]:
                best = (gap, max(actor.speed * math.cos(turned), 0.0))
        return best
