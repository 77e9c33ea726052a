"""Driving one episode and keeping it as a scene log."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from wpt_sim.command import route_command
from wpt_sim.disturbance import Disturber, PlannedDisturbance
from wpt_sim.ego_vehicle import step_ego
from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.infractions import InfractionMonitor
from wpt_sim.observation import ObservationMemory, observe
from wpt_sim.scene_log import SceneLog, SceneLogRecorder
from wpt_sim.traffic import Traffic

# Drivers by name: module and class, made with (road_map, route), asked with act(observation) at every step.
DRIVERS = {
    "expert": ("wpt_sim.expert", "Expert"),
    "lane_leader": ("wpt_sim.baseline_drivers", "LaneLeaderDriver"),
    "blind": ("wpt_sim.baseline_drivers", "BlindDriver"),
}
LONGEST_S = 40.0


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedDrive:
    """log: the drive; infractions of its driver are in it. finished: the route's end was reached."""

    log: SceneLog
    finished: bool

    @property
    def clean(self) -> bool:
        return not self.log.infractions


def record_drive(
    spec: EpisodeSpec,
    *,
    driver: str = "expert",
    disturbances: Sequence[PlannedDisturbance] = (),
    longest_s: float = LONGEST_S,
    light: str | None = None,
    noise: float | None = None,
) -> RecordedDrive:
    """Drive an episode to its end, to its first infraction, or for longest_s, and return what happened.

    The look is drawn from the episode's name; light and noise force it. Raises SimulationError for an unknown driver.
    """
    if driver not in DRIVERS:
        raise SimulationError(f"driver {driver!r} is unknown: choose one of {', '.join(DRIVERS)}.")
    module, name = DRIVERS[driver]
    road_map, route = spec.road_map, spec.route
    who = getattr(importlib.import_module(module), name)(road_map, route)
    look = zlib.crc32(f"look/{spec.name}".encode())
    recorder = SceneLogRecorder(spec, driver=driver, appearance_seed=look, light=light, noise=noise)
    monitor = InfractionMonitor(road_map, route, spec)
    disturber = Disturber(disturbances)
    memory = ObservationMemory()
    with Traffic(spec) as traffic:
        state = traffic.reset()
        while True:
            monitor.update(state)
            observation = observe(road_map, route, state, memory)
            recorder.add(state, route_command(road_map, route, observation.s))
            over = monitor.finished or monitor.infractions or state.time_s > longest_s - 1e-6
            # An episode that begins with an infraction still makes a log, which has two states at least.
            if over and len(recorder) >= 2:
                break
            control = who.act(observation)
            control = disturber.control(control, state.ego, state.time_s, observation.s, observation.lateral)
            ego = disturber.pose(step_ego(state.ego, control), state.time_s)
            state = traffic.step(ego)
    disturber.finish(state.time_s)
    sentences = [f"{i.time_s:.2f} s: {i.kind.name.lower()} {i.detail}".strip() for i in monitor.infractions]
    log = recorder.finish(disturbances=disturber.happened, infractions=sentences)
    return RecordedDrive(log=log, finished=monitor.finished and not monitor.infractions)
