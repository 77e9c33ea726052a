"""A driver made of something that plans a few times a second and the follower that drives its plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from wpt_policy.plan import Plan
from wpt_policy.plausibility import PlausibilityLimits, plan_problem

from wpt_sim.closed_loop import DriverFailure
from wpt_sim.ego_vehicle import Control
from wpt_sim.episode import DT, EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.time_limit import TookTooLong, time_limit
from wpt_sim.trajectory_follower import TrajectoryFollower
from wpt_sim.world_state import WorldState

PLAN_RATES = (2.0, 10.0)  # Hz, lowest and highest
# Only what no car can follow is a fault here: a bad plan shall be driven and show in the score.
LIMITS = PlausibilityLimits(
    max_start_jump=60.0, max_acceleration=240.0, max_lateral_acceleration=1e4, max_curvature=1e4
)
# Seconds, wall time, for one plan. The world waits for a plan; the first one may load libraries and warm
# caches.
PLAN_TIMEOUT_S = 10.0


T = TypeVar("T")


class PlanSource(Protocol):
    """Plans for an ego in the driving world. It may remember; it is asked for every state in order.

    A source that needs to see states between its plans does so in `watch`.
    """

    name: str

    def reset(self, spec: EpisodeSpec) -> None:
        """Get ready for the start of this episode."""
        ...

    def watch(self, state: WorldState) -> None:
        """See one state (20 Hz, before a plan is asked for at it)."""
        ...

    def plan(self, state: WorldState) -> Plan:
        """Return a plan in base_link of this state's ego."""
        ...


class PlanningDriver:
    """Drives what a PlanSource plans. plan_rate: Hz, 2 to 10, a whole number of 20 Hz ticks apart (2, 4, 5,
    10).

    Raises SimulationError for another rate. While driving it raises DriverFailure for a plan that is not
    finite or no plan at all, or one that took longer than plan_timeout seconds.
    """

    def __init__(self, source: PlanSource, *, plan_rate: float = 2.0, plan_timeout: float = PLAN_TIMEOUT_S):
        ticks = 1.0 / (plan_rate * DT) if plan_rate > 0 else 0.0
        if not PLAN_RATES[0] <= plan_rate <= PLAN_RATES[1] or abs(ticks - round(ticks)) > 1e-6:
            raise SimulationError(
                f"plan rate is {plan_rate:g} Hz, expected one that divides 20 Hz between 2 and 10: "
                "choose 2, 4, 5 or 10."
            )
        self.name = source.name
        self.source = source
        self._every = round(ticks)
        self._timeout = plan_timeout
        self._follower = TrajectoryFollower()
        self._tick = 0
        self.last_plan: Plan | None = None

    def reset(self, spec: EpisodeSpec) -> None:
        self._follower.reset()
        self._tick = 0
        self.last_plan = None
        self._bounded(lambda: self.source.reset(spec), "its preparation")

    def control(self, state: WorldState) -> Control:
        self.source.watch(state)
        if self._tick % self._every == 0:
            plan = self._bounded(lambda: self.source.plan(state), f"the plan at {state.time_s:.2f} s")
            if not isinstance(plan, Plan):
                raise DriverFailure(
                    f"the plan at {state.time_s:.2f} s is a {type(plan).__name__}, expected a Plan"
                )
            problem = plan_problem(plan, LIMITS)
            if problem is not None:
                raise DriverFailure(f"{problem} (at {state.time_s:.2f} s)")
            self.last_plan = plan
            self._follower.set_plan(plan.positions, plan.dt_s, state.ego, state.time_s)
        self._tick += 1
        return self._follower.control(state.ego, state.time_s)

    def _bounded(self, call: Callable[[], T], what: str) -> T:
        try:
            with time_limit(self._timeout, what):
                return call()
        except TookTooLong as error:
            raise DriverFailure(str(error)) from None
