"""The expert driver: follows its route, yields, stops, waits and goes, from what a student could know.

    expert = Expert(road_map, route)
    observation = observe(road_map, route, state, memory)
    control = expert.act(observation)      # direct, every 0.05 s
    plan = expert.plan(observation)        # or as a policy would be driven: waypoints for a follower

Each plan: the path (route, or a step aside around a parked vehicle), the others' predicted motions on it
(space and time), the speed profile of least cost through them within the rules. Emergency braking is only
chosen where the milder profiles touch somebody.
"""

from __future__ import annotations

import math

import numpy as np

from wpt_policy.plan import Plan

from wpt_sim.ego_vehicle import HARDEST_BRAKING, MAX_STEER_RATE, Control, step_ego
from wpt_sim.episode import DT
from wpt_sim.expert_others import Expectations, slow_places
from wpt_sim.expert_overtaking import Overtaking
from wpt_sim.expert_path import Path, SideStep, path_from, speed_cap, steer_along
from wpt_sim.expert_rules import Rules
from wpt_sim.expert_space_time import OthersMotion, PathDiscs, space_time
from wpt_sim.expert_speed_search import COMFORT_JERK, Road, SpeedProfile, search
from wpt_sim.observation import Observation
from wpt_sim.road_map import RoadMap
from wpt_sim.route import Route
from wpt_sim.world_state import EgoPose

BRAKING_AHEAD = 2.2  # m/s2 with which curves and lines are braked for
EMERGENCY = -4.05  # m/s2: harder counts as an emergency
REPLAN = 2  # steps between two searches of act()
# A standing ego sets off for SET_OFF metres within HALT_LOOK seconds; one below CREEPING halts where less
# than HALT_WITHIN is left.
CREEPING, HALT_LOOK, SET_OFF, HALT_WITHIN = 0.7, 3.0, 1.0, 0.5  # m/s, seconds, metres
PLAN_STEPS, PLAN_DT = 6, 0.5


class Expert:
    """One drive of one route. emergency: the last control braked harder than comfort to avoid contact."""

    def __init__(self, road_map: RoadMap, route: Route):
        self._road_map, self._route = road_map, route
        self.reset()

    def reset(self) -> None:
        """Forget the drive so far."""
        self._rules = Rules(self._road_map, self._route)
        self._expectations = Expectations(self._road_map, self._route)
        self._overtaking = Overtaking(self._road_map, self._route)
        self._profile: SpeedProfile | None = None
        self._path: Path | None = None
        self._planned_at = -math.inf
        self.emergency = False

    def act(self, observation: Observation) -> Control:
        """Control for the coming 0.05 s; searches anew every second step."""
        if self._profile is None or observation.time_s - self._planned_at > (REPLAN - 0.5) * DT:
            self._search(observation)
        elapsed = observation.time_s - self._planned_at
        control = self._control(observation.ego, observation.s, elapsed)
        self.emergency = control.acceleration < EMERGENCY
        return control

    def plan(self, observation: Observation) -> Plan:
        """Six waypoints 0.5 s apart in base_link: what act() would drive from here, rolled out with the
        bicycle.
        """
        self._search(observation)
        ego, s = observation.ego, observation.s
        c, sn = math.cos(ego.yaw), math.sin(ego.yaw)
        rows = [(0.0, 0.0)]
        pose = ego
        each = round(PLAN_DT / DT)
        for k in range(PLAN_STEPS * each):
            control = self._control(pose, s, k * DT)
            following = step_ego(pose, control)
            s += math.hypot(following.x - pose.x, following.y - pose.y)
            pose = following
            if (k + 1) % each == 0:
                dx, dy = pose.x - ego.x, pose.y - ego.y
                rows.append((c * dx + sn * dy, -sn * dx + c * dy))
        return Plan(
            reference_stamp_ns=round(observation.time_s * 1e9),
            positions=np.array(rows),
            dt_s=PLAN_DT,
            planner="expert",
        )

    def _search(self, observation: Observation) -> None:
        ego, s = observation.ego, observation.s
        step = self._overtaking.update(observation)
        rules = self._rules.walls(observation)
        motions = self._expectations.motions(observation, self._rules.ahead(s))
        slow = [*slow_places(self._route, observation), *self._rules.slow_entries(s)]
        self._planned_at = observation.time_s
        entry = self._overtaking.slow_entries(s)
        self._path, self._profile = self._best_speed(observation, step, motions, rules, slow + entry)
        if step is not None and self._overtaking.may_stay_back(s):
            waiting = self._overtaking.waiting_place(s, ego.speed)
            path, profile = self._best_speed(observation, None, motions, [*rules, waiting], slow)
            if profile.cost < self._profile.cost:
                self._path, self._profile = path, profile
                self._overtaking.stay_back(observation)

    def _best_speed(
        self,
        observation: Observation,
        step: SideStep | None,
        motions: list[OthersMotion],
        walls: list[float],
        slow: list[tuple[float, float]],
    ) -> tuple[Path, SpeedProfile]:
        """The path with or without a step aside, and the cheapest speed along it."""
        ego, s = observation.ego, observation.s
        path = path_from(self._route, s, step)
        discs = PathDiscs(path)
        others = space_time(discs, [m for m in motions if discs.may_meet(m)])
        walls = walls + self._rules.kept_clear(path, others.contact, s, ego.speed)
        road = Road(
            cap=speed_cap(path, BRAKING_AHEAD, walls, slow),
            wall=min(walls, default=math.inf) - s + 0.5,
            no_standing=self._rules.no_standing(path, step),
        )
        return path, search(road, others, ego.speed, ego.acceleration)

    def _control(self, ego: EgoPose, s: float, elapsed: float) -> Control:
        wanted = self._profile.acceleration(elapsed + DT)
        if wanted > -3.0:
            # The search may let go of hard braking at once; a passenger should not feel that as a jerk.
            wanted = min(wanted, ego.acceleration + 2 * COMFORT_JERK * DT)
        if ego.speed < CREEPING and self._profile.distance(elapsed, HALT_LOOK) < (
            SET_OFF if ego.speed < 0.05 else HALT_WITHIN
        ):
            wanted = min(wanted, -0.8)  # halt and stand, instead of creeping for centimetres
        steer = steer_along(self._path, ego.x, ego.y, ego.yaw, ego.speed, s)
        turn = MAX_STEER_RATE * DT
        steer = min(max(steer, ego.steer - turn), ego.steer + turn)
        return Control(steer=steer, acceleration=max(wanted, -HARDEST_BRAKING))
