"""Around a parked vehicle: where the path steps aside, and by how much."""

from __future__ import annotations

from dataclasses import replace

from wpt_sim.expert_junctions import EGO_FRONT
from wpt_sim.expert_others import is_obstacle
from wpt_sim.expert_path import SideStep
from wpt_sim.observation import Observation
from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.route import Route
from wpt_sim.vehicles import EGO_REAR_OVERHANG, EGO_WIDTH

SIDE_GAP = 0.75  # metres beside the obstacle
NOTICED = 50.0  # metres
SHORTEST_RAMP, RAMP_TIME = 11.0, 1.7  # metres, seconds
LONGEST_RAMP = 24.0
# Share of the ramp, and m/s there: so slow that one can still stop beside the opposing lane.
ENTRY_SHARE, ENTRY_SPEED = 0.25, 4.5
NO_RETURN, ROOM_TO_STEER, SHORTEST_STEERING = 5.0, 10.0, 7.0  # metres before the step is full
FIRM_BRAKING = 4.0  # m/s2
RETURNED = 0.9  # metres beside the route, below which a step aside may begin anew


class Overtaking:
    """Keeps one side step until it has been driven: one that moves with every look never would be."""

    def __init__(self, road_map: RoadMap, route: Route):
        self._road_map, self._route = road_map, route
        self.step: SideStep | None = None

    def update(self, observation: Observation) -> SideStep | None:
        """The side step to drive now, None where the route itself is free."""
        s = observation.s
        if self.step is not None and s > self.step.end + 2.0:
            self.step = None
        for actor in observation.actors:
            if not is_obstacle(actor):
                continue
            at, lateral = self._route.project(actor.x, actor.y, s, window=NOTICED + 10.0)
            if not s - 5.0 < at < s + NOTICED or at > self._route.length - 1.0:
                continue
            left_edge, right_edge = lateral + actor.width / 2, lateral - actor.width / 2
            if right_edge > EGO_WIDTH / 2 + 0.35 or left_edge < -EGO_WIDTH / 2 - 0.35:
                continue
            rear, front = at - actor.length / 2, at + actor.length / 2
            beside = SIDE_GAP + EGO_WIDTH / 2
            offset = right_edge - beside if self._passes_on_the_right(at) else left_edge + beside
            self._extend(rear, front, offset, observation)
        return self.step

    def may_stay_back(self, s: float) -> bool:
        """Whether the ego is not so far beside its lane yet that it could not return behind the obstacle."""
        return self.step is not None and s < self.step.full_from - NO_RETURN and self._enters_opposing_lane()

    def waiting_place(self, s: float, speed: float) -> float:
        """Route metres of base_link at which to wait in the own lane with room to steer out later."""
        return max(self.step.full_from - ROOM_TO_STEER, s + speed**2 / (2 * FIRM_BRAKING))

    def stay_back(self, observation: Observation) -> None:
        """The ego stays in its lane for now: the step aside begins anew from where it is."""
        step, s = self.step, observation.s
        if s > step.begin and abs(observation.lateral) < RETURNED:
            begin = s + 0.3
            self.step = replace(step, begin=begin, full_from=max(step.full_from, begin + SHORTEST_STEERING))

    def _enters_opposing_lane(self) -> bool:
        step = self.step
        if step is None or step.offset < 0.0:
            return False
        left = self._road_map.lanes[self._route.lane_at(step.full_from)].left
        return left is None or self._road_map.lanes[left].kind is not LaneKind.DRIVING

    def slow_entries(self, s: float) -> list[tuple[float, float]]:
        """(route metres, m/s): into an opposing lane slowly, since one who comes may hide another."""
        step = self.step
        if not self._enters_opposing_lane():
            return []
        entry = step.begin + ENTRY_SHARE * (step.full_from - step.begin)
        return [(entry, ENTRY_SPEED)] if s < entry else []

    def _passes_on_the_right(self, s: float) -> bool:
        """Whether only the lane to the right goes the same way as the route there."""
        lane = self._road_map.lanes[self._route.lane_at(s)]
        same_way = [
            name is not None and self._road_map.lanes[name].kind is LaneKind.DRIVING
            for name in (lane.left, lane.right)
        ]
        return same_way == [False, True]

    def _extend(self, rear: float, front: float, offset: float, observation: Observation) -> None:
        full_from, full_to = rear - EGO_FRONT - 1.0, front + EGO_REAR_OVERHANG + 1.0
        known = self.step
        if known is not None and known.full_from - 0.6 <= full_from and full_to <= known.full_to + 0.6:
            return
        if known is not None and full_from <= known.end + 25.0:
            # Another obstacle before the ego is back: stay out until it is passed too.
            full_to = max(full_to, known.full_to)
            self.step = SideStep(
                known.begin,
                min(known.full_from, max(full_from, known.begin + 8.0)),
                full_to,
                full_to + known.end - known.full_to,
                max(offset, known.offset, key=abs),
            )
            return
        ramp = min(max(SHORTEST_RAMP, RAMP_TIME * observation.ego.speed), LONGEST_RAMP)
        begin = max(full_from - ramp, observation.s + 0.3)
        full_from = max(full_from, begin + 7.0)
        self.step = SideStep(
            begin, full_from, max(full_to, full_from + 0.5), max(full_to, full_from + 0.5) + ramp, offset
        )
