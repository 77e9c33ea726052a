"""What the ego did wrong, watched tick by tick, by the detection rules of CARLA's leaderboard and
Bench2Drive.

Written from a description of the rules. Distances are of the ego's box centre. What differs from the
leaderboard is said where it is: rear-end hits (contacts.py), and what times out a scenario
(SCENARIO_TIMEOUT_S).
"""

from __future__ import annotations

import math

import numpy as np

from wpt_sim.comfort import MotionSamples, comfort
from wpt_sim.contacts import STANDING_SPEED, ContactMonitor
from wpt_sim.episode import DT, EpisodeSpec
from wpt_sim.junction_rules import RedLightMonitor, StopSignMonitor
from wpt_sim.lane_position import ALLOWED_OUTSIDE, is_wrong_way, lane_index
from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.route import SPACING, Route
from wpt_sim.route_progress import RouteProgress, TrafficSpeedRatios
from wpt_sim.route_result import Infraction, InfractionKind, RouteResult, RouteStatus
from wpt_sim.vehicles import ego_centre
from wpt_sim.world_state import ActorKind, EgoPose, WorldState

__all__ = ["Infraction", "InfractionKind", "InfractionMonitor"]

BLOCKED_S = 60.0
TICK_LIMIT = 4000  # 200 s
TIMEOUT_BASE_S = 300.0
TIMEOUT_SPEED_SHARE = 0.10  # of the limit, on every metre
# CARLA gives each scenario a time of its own (60 to 300 s); here one bound holds for the time from 50 m
# before the scripted conflict to 5 m behind it. It is longer than BLOCKED_S, so that it catches what creeps.
SCENARIO_TIMEOUT_S = 120.0
SCENARIO_FROM, SCENARIO_TO = -50.0, 5.0


class InfractionMonitor:
    """Watches one drive. Call update with every state, the one of reset() first.

    status is None while driving. infractions: all so far; rear_end_hits: followers that ran into the ego.
    """

    def __init__(self, road_map: RoadMap, route: Route, spec: EpisodeSpec, *, tick_limit: int = TICK_LIMIT):
        self._road_map, self._route, self._spec = road_map, route, spec
        self._tick_limit = tick_limit
        self._lanes = lane_index(road_map)
        self._contacts = ContactMonitor(road_map)
        self._red_lights = RedLightMonitor(road_map, route)
        self._stop_signs = StopSignMonitor(road_map)
        self._progress = RouteProgress(route)
        self._ratios = TrafficSpeedRatios(route.length)
        self._timeout_s = route_timeout(route)
        self._first_junction_end = _end_of_first_junction(road_map, route)
        self._last: EgoPose | None = None
        self._distance = self._outside = 0.0
        self._outside_since: Infraction | None = None
        self._standing_s = 0.0
        self._scenario_s: float | None = None
        self._scenario_done = spec.conflict_s is None
        self._motion: list[tuple[float, float, float]] = []
        self._ticks = -1
        self._time_s = 0.0
        self.status: RouteStatus | None = None
        self.infractions: list[Infraction] = []
        self.rear_end_hits: list[Infraction] = []
        self.failure: str | None = None

    @property
    def finished(self) -> bool:
        return self.status is not None

    @property
    def completion(self) -> float:
        """0..1"""
        return self._progress.completion

    @property
    def outside_share(self) -> float:
        """Share of the distance driven outside the route's lanes or in an opposing one, 0..1."""
        return self._outside / self._distance if self._distance > 0.0 else 0.0

    def update(self, state: WorldState) -> tuple[Infraction, ...]:
        """Judge the world at one tick (20 Hz); return what was new in it. After the end nothing is judged any
        more.
        """
        if self.finished:
            return ()
        known = len(self.infractions)
        ego = state.ego
        x, y = ego_centre(ego)
        self._ticks += 1
        self._time_s = state.time_s
        driven = math.hypot(ego.x - self._last.x, ego.y - self._last.y) if self._last else 0.0
        self._distance += driven
        self._progress.update(x, y, driven)
        if self._last is not None:
            self._record_motion(ego, self._last)
        self._judge_contacts(state)
        head = self._red_lights.update(state)
        if head is not None:
            self._add(InfractionKind.RED_LIGHT, state, f"ran the red light {head.signal}", actor=head.signal)
        stop = self._stop_signs.update(ego)
        if stop is not None:
            self._add(InfractionKind.STOP_SIGN, state, f"did not stop at the stop sign of lane {stop.lane}")
        self._judge_lane(state, driven)
        self._judge_scenario_time(state)
        speeds = [a.speed for a in state.actors if a.kind is not ActorKind.PEDESTRIAN and not a.parked]
        self._ratios.update(self._progress.passed * SPACING, ego.speed, speeds)
        self._last = ego
        if self._progress.complete:
            self._end(state)
        else:
            self._judge_ends(state)
        return tuple(self.infractions[known:])

    def fail(self, state: WorldState, reason: str) -> Infraction:
        """End the drive by the planner's fault; reason: one sentence."""
        self.failure = reason
        entry = self._add(InfractionKind.PLANNER_FAILURE, state, reason)
        self._end(state, failed=True)
        return entry

    def result(self, planner: str) -> RouteResult:
        """Return the outcome so far (a drive that has not ended counts as failed)."""
        motion = np.array(self._motion).reshape(-1, 3)
        samples = MotionSamples(longitudinal=motion[:, 0], lateral=motion[:, 1], yaw_rate=motion[:, 2])
        spec, passed = self._spec, self._progress.passed * SPACING
        return RouteResult(
            name=spec.name,
            family=spec.family,
            scenario=spec.scenario,
            network=spec.network,
            seed=spec.seed,
            split=spec.split,
            planner=planner,
            status=self.status or RouteStatus.FAILED,
            completion=self.completion,
            outside_share=self.outside_share,
            infractions=tuple(self.infractions),
            rear_end_hits=tuple(self.rear_end_hits),
            speed_ratios=tuple(self._ratios.ratios),
            comfort_b2d=comfort(samples, "b2d"),
            comfort_si=comfort(samples, "si"),
            past_first_junction=self._first_junction_end is not None and passed > self._first_junction_end,
            route_length=self._route.length,
            duration_s=self._time_s,
            distance=self._distance,
            failure=self.failure,
        )

    # One judge per rule ---------------------------------------------------------------------------------

    def _judge_contacts(self, state: WorldState) -> None:
        for contact in self._contacts.update(state):
            if contact.by_follower:
                text = f"was hit from behind by {contact.description}"
                self.rear_end_hits.append(self._infraction(contact.kind, state, text, contact.actor))
            else:
                self._add(contact.kind, state, f"collided with {contact.description}", actor=contact.actor)

    def _judge_lane(self, state: WorldState, driven: float) -> None:
        """Outside: beyond the road's lanes by half a metre, or in an opposing lane (not in the scenario's
        zones).
        """
        ego = state.ego
        position = self._lanes.locate(*ego_centre(ego))
        off_road = position.beyond_edge > ALLOWED_OUTSIDE and not position.in_junction
        in_zone = any(first <= self._progress.s <= last for first, last in self._spec.zones)
        wrong_way = not in_zone and is_wrong_way(position, ego.yaw)
        if not (off_road or wrong_way):
            self._outside_since = None
            return
        self._outside += driven
        if self._outside_since is None and driven > 0.0:
            text = "left the lanes of the road" if off_road else f"drove in the opposing lane {position.lane}"
            self._outside_since = self._add(InfractionKind.OUTSIDE_LANES, state, text)

    def _judge_scenario_time(self, state: WorldState) -> None:
        if self._scenario_done:
            return
        ahead = self._progress.s - self._spec.conflict_s
        if ahead > SCENARIO_TO:
            self._scenario_done = True
        elif ahead >= SCENARIO_FROM and self._scenario_s is None:
            self._scenario_s = state.time_s
        if self._scenario_s is not None and state.time_s - self._scenario_s > SCENARIO_TIMEOUT_S:
            self._scenario_done = True
            self._add(
                InfractionKind.SCENARIO_TIMEOUT,
                state,
                f"did not get past the scenario in {SCENARIO_TIMEOUT_S:.0f} s",
            )

    def _judge_ends(self, state: WorldState) -> None:
        self._standing_s = self._standing_s + DT if abs(state.ego.speed) < STANDING_SPEED else 0.0
        if self._progress.off_route:
            kind, text = (
                InfractionKind.OFF_ROUTE,
                f"left the route by {self._progress.off_route_distance:.0f} m",
            )
        elif self._standing_s > BLOCKED_S:
            kind, text = InfractionKind.BLOCKED, f"stood for {BLOCKED_S:.0f} s"
        elif state.time_s > self._timeout_s:
            kind, text = InfractionKind.ROUTE_TIMEOUT, f"did not finish in {self._timeout_s:.0f} s"
        elif self._ticks >= self._tick_limit:
            kind, text = InfractionKind.TICK_LIMIT, f"did not finish in {self._tick_limit} ticks"
        else:
            return
        self._add(kind, state, text)
        self._end(state, failed=True)

    # Bookkeeping ----------------------------------------------------------------------------------------

    def _end(self, state: WorldState, failed: bool = False) -> None:
        if failed:
            self.status = RouteStatus.FAILED
        else:
            self.status = RouteStatus.COMPLETED if self.infractions else RouteStatus.PERFECT

    def _record_motion(self, ego: EgoPose, before: EgoPose) -> None:
        """Accelerations at base_link (rear axle), from how speed and heading changed over the tick."""
        yaw_rate = math.remainder(ego.yaw - before.yaw, math.tau) / DT
        longitudinal = (ego.speed - before.speed) / DT
        self._motion.append((longitudinal, 0.5 * (ego.speed + before.speed) * yaw_rate, yaw_rate))

    def _infraction(
        self, kind: InfractionKind, state: WorldState, detail: str, actor: str | None
    ) -> Infraction:
        x, y = ego_centre(state.ego)
        return Infraction(
            kind=kind,
            time_s=state.time_s,
            x=round(x, 3),
            y=round(y, 3),
            s=round(self._progress.s, 2),
            actor=actor,
            detail=detail,
        )

    def _add(
        self, kind: InfractionKind, state: WorldState, detail: str, actor: str | None = None
    ) -> Infraction:
        entry = self._infraction(kind, state, detail, actor)
        self.infractions.append(entry)
        return entry


def route_timeout(route: Route) -> float:
    """Seconds for a route: 300 s plus each metre at a tenth of the limit there."""
    return TIMEOUT_BASE_S + float((SPACING / (TIMEOUT_SPEED_SHARE * route.speed_limits)).sum())


def _end_of_first_junction(road_map: RoadMap, route: Route) -> float | None:
    """Route metre at which the first junction is left, None for a route without one."""
    inside = [road_map.lanes[route.lanes[i]].kind is LaneKind.JUNCTION for i in route.lane_index]
    entered = False
    for i, is_inside in enumerate(inside):
        if is_inside:
            entered = True
        elif entered:
            return i * SPACING
    return None
