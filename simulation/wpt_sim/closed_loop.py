"""The closed loop: a driver moves the ego, the traffic answers, the monitor judges, 20 times a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wpt_sim.ego_vehicle import Control, step_ego
from wpt_sim.episode import EpisodeSpec
from wpt_sim.infractions import TICK_LIMIT, Infraction, InfractionMonitor
from wpt_sim.route_result import RouteResult
from wpt_sim.traffic import Traffic
from wpt_sim.world_state import WorldState

OnState = Callable[[WorldState, tuple[Infraction, ...]], None]


class DriverFailure(RuntimeError):
    """A driver cannot go on by its own fault; the message is one sentence."""


class Driver(Protocol):
    """Whoever moves the ego. name: shown in every output.

    A driver may raise anything: the route ends then and is counted as the driver's failure.
    """

    name: str

    def reset(self, spec: EpisodeSpec) -> None:
        """Get ready for the start of this episode; forget everything else."""
        ...

    def control(self, state: WorldState) -> Control:
        """Return what to do in the coming 0.05 s. Called for every state in order."""
        ...


def drive_route(
    spec: EpisodeSpec, driver: Driver, *, on_state: OnState | None = None, tick_limit: int = TICK_LIMIT
) -> RouteResult:
    """Drive one route from its start until it is completed or given up.

    on_state sees every state, the first included, with the infractions that were new in it. The same spec and
    a deterministic driver give the same result. A driver that raises ends the route, which is counted as its
    failure; errors of the world itself (EpisodeError, TrafficError) are raised.
    """
    road_map, route = spec.road_map, spec.route
    monitor = InfractionMonitor(road_map, route, spec, tick_limit=tick_limit)
    with Traffic(spec) as traffic:
        state = traffic.reset()
        new = monitor.update(state)
        if on_state is not None:
            on_state(state, new)
        ready = False
        while not monitor.finished:
            try:
                if not ready:
                    driver.reset(spec)
                    ready = True
                control = driver.control(state)
            except Exception as error:  # noqa: BLE001 - whatever a driver raises is that driver's failure
                entry = monitor.fail(state, failure_sentence(driver.name, error))
                if on_state is not None:
                    on_state(state, (entry,))
                break
            state = traffic.step(step_ego(state.ego, control))
            new = monitor.update(state)
            if on_state is not None:
                on_state(state, new)
    return monitor.result(driver.name)


def failure_sentence(name: str, error: Exception) -> str:
    """What is written down for a driver that raised."""
    text = " ".join(str(error).split()) or "no message"
    return (
        f"{name}: {text}"
        if isinstance(error, DriverFailure)
        else f"{name} raised {type(error).__name__}: {text}"
    )
