"""Drivers by name: those of this world that read its exact state, and every Planner of the suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wpt_policy.bundle import list_bundles
from wpt_policy.plan import Plan
from wpt_policy.policy_config import BundleError
from wpt_policy.registry import UnknownPlannerError, announced_planners, make_planner
from wpt_policy.runner import DeviceError

from wpt_sim.baseline_drivers import BlindDriver, ConstantVelocityDriver, LaneLeaderDriver, StopDriver
from wpt_sim.closed_loop import Driver
from wpt_sim.ego_vehicle import Control
from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.expert import Expert
from wpt_sim.observation import Observation, ObservationMemory, observe
from wpt_sim.planner_source import PlannerSource
from wpt_sim.planning_driver import PLAN_TIMEOUT_S, PlanningDriver
from wpt_sim.world_state import WorldState


class ObservingDriver:
    """A driver that acts directly on observations. make: (road_map, route) -> something with
    act(observation).
    """

    def __init__(self, name: str, make: Callable[..., Any]):
        self.name = name
        self._make = make
        self._spec: EpisodeSpec | None = None

    def reset(self, spec: EpisodeSpec) -> None:
        self._spec = spec
        self._memory = ObservationMemory()
        self.actor = self._make(spec.road_map, spec.route)

    def observe(self, state: WorldState) -> Observation:
        """The observation of this state; once per state, in order."""
        return observe(self._spec.road_map, self._spec.route, state, self._memory)

    def control(self, state: WorldState) -> Control:
        return self.actor.act(self.observe(state))


class ExpertPlanSource:
    """The expert's own waypoints, so that a follower drives them as it drives a policy's."""

    name = "expert_plan"

    def reset(self, spec: EpisodeSpec) -> None:
        self._eyes = ObservingDriver("expert", Expert)
        self._eyes.reset(spec)

    def watch(self, state: WorldState) -> None:
        self._observation = self._eyes.observe(state)

    def plan(self, state: WorldState) -> Plan:
        return self._eyes.actor.plan(self._observation)


# Drivers that know more than any planner may, or that only this world has.
WORLD_DRIVERS: dict[str, Callable[..., Any]] = {
    "expert": Expert,
    "stop_driver": StopDriver,
    "constant_velocity_driver": ConstantVelocityDriver,
    "blind_follower": BlindDriver,
    "lane_leader": LaneLeaderDriver,
}


GATE_POLICIES = ("bev_policy", "ego_mlp")  # with :CHECKPOINT, as wpt-sim gate trains them


def make_driver(
    name: str,
    *,
    plan_rate: float = 2.0,
    plan_timeout: float = PLAN_TIMEOUT_S,
    device: str = "cpu",
    precision: str = "float32",
) -> Driver:
    """Return the driver that `name` means: one of this world, or a planner's NAME, BUNDLE or NAME:CHECKPOINT.

    Raises SimulationError for a name that means nothing, or a planner that cannot be made.
    """
    if name in WORLD_DRIVERS:
        return ObservingDriver(name, WORLD_DRIVERS[name])
    if name == ExpertPlanSource.name:
        return PlanningDriver(ExpertPlanSource(), plan_rate=plan_rate, plan_timeout=plan_timeout)
    kind, _, checkpoint = name.partition(":")
    if kind in GATE_POLICIES and checkpoint:
        from wpt_sim.gate_policies import load_source

        return PlanningDriver(load_source(Path(checkpoint)), plan_rate=plan_rate, plan_timeout=plan_timeout)
    try:
        planner = make_planner(name, device=device, precision=precision)
    except UnknownPlannerError:
        raise SimulationError(
            f"no planner {name!r}: this world has {', '.join((*WORLD_DRIVERS, ExpertPlanSource.name))}, "
            f"planners are {', '.join(announced_planners()) or 'none'}, bundles are "
            f"{', '.join(list_bundles()) or 'none'}; a path to a bundle or NAME:CHECKPOINT is possible too."
        ) from None
    except (BundleError, DeviceError, OSError, ValueError, RuntimeError) as error:
        raise SimulationError(f"planner {name!r} cannot be made: {error}") from error
    return PlanningDriver(PlannerSource(planner), plan_rate=plan_rate, plan_timeout=plan_timeout)
