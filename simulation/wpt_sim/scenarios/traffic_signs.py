"""Traffic signs: signals that are red or turn red, and stop signs."""

from __future__ import annotations

from typing import Any

import numpy as np

from wpt_sim.episode import HARDEST_BRAKING
from wpt_sim.road_map import Priority, RoadMap
from wpt_sim.route import RouteError, build_route, lane_chain_around
from wpt_sim.scenarios.arrival import EGO_FRONT, Approach
from wpt_sim.scenarios.script import Scenario
from wpt_sim.scenarios.signal_control import SignalControl
from wpt_sim.scenarios.stream_meeting import pick, stop_metre
from wpt_sim.world_state import EgoPose


def _draw_to_line(road_map: RoadMap, rng: np.random.Generator, priority: Priority) -> dict[str, Any] | None:
    connection = pick(rng, (c for c in road_map.connections if c.priority is priority and c.via))
    if connection is None:
        return None
    around = lane_chain_around(road_map, connection, rng.uniform(50, 100), rng.uniform(40, 90), rng)
    if around is None:
        return None
    lanes, start = around
    if len(set(lanes)) < len(lanes):
        return None
    try:
        route = build_route(road_map, lanes, start, 220.0)
    except RouteError:
        return None
    stop_s = stop_metre(road_map, lanes, start, connection)
    start_speed = float(rng.uniform(0.5, 1.0) * route.reference_speeds(1e3)[0])
    limit = float(route.reference_speeds(start_speed)[: int(stop_s)].max())
    needed = limit**2 / (2 * max(stop_s - EGO_FRONT - 1.0, 0.1))
    if needed > HARDEST_BRAKING or route.length < stop_s + 25.0:
        return None
    return dict(
        lanes=tuple(lanes),
        start=round(start, 2),
        length=round(route.length, 2),
        start_speed=round(start_speed, 2),
        vehicles=int(rng.integers(6, 18)),
        pedestrians=int(rng.integers(0, 10)),
        parked=int(rng.integers(0, 8)),
        conflict_s=round(stop_s, 2),
        parameters=dict(
            stop_s=round(stop_s, 2),
            signal=connection.signal or "",
            link=connection.link,
            needed_braking=round(needed, 2),
        ),
    )


class RedLight(Scenario):
    """The signal is red until some seconds after the ego could have arrived."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        draft = _draw_to_line(road_map, rng, Priority.SIGNAL)
        if draft is not None:
            draft["parameters"]["wait"] = round(float(rng.uniform(4.0, 10.0)), 2)
        return draft

    def prepare(self, traffic) -> None:
        p = self.spec.parameters
        arrival = Approach(self.route).time_to(0.0, self.spec.start_speed, p["stop_s"] - EGO_FRONT)
        SignalControl(traffic.sumo, p["signal"]).hold_red(p["link"], arrival + p["wait"])


class SignalChange(Scenario):
    """The signal turns yellow when an attentive driver can still stop, and is red when one who drives on
    arrives.
    """

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        draft = _draw_to_line(road_map, rng, Priority.SIGNAL)
        if draft is None:
            return None
        route = build_route(road_map, draft["lanes"], draft["start"], draft["length"])
        early = float(rng.uniform(3.7, 4.6))  # seconds before the line at which yellow begins; it lasts 3 s
        stop_s = draft["parameters"]["stop_s"]
        times = route.arrival_times(draft["start_speed"])
        line = int(stop_s - EGO_FRONT)
        at = int(np.searchsorted(times, times[line] - early))
        speed = route.reference_speeds(draft["start_speed"])[at]
        needed = float(speed**2 / (2 * max(line - at - REACTION * speed, 0.1)))
        if times[line] < early + 1.0 or needed > HARDEST_BRAKING / 1.5:
            return None
        draft["parameters"] |= dict(early=round(early, 2), needed_braking=round(needed, 2))
        return draft

    def prepare(self, traffic) -> None:
        p = self.spec.parameters
        self.control = SignalControl(traffic.sumo, p["signal"])
        self.control.hold_green(p["link"], 60.0)
        self.approach = Approach(self.route)
        self._changed = False

    def before_step(self, traffic, ego: EgoPose, time_s: float) -> None:
        p = self.spec.parameters
        if self._changed:
            return
        s = self.approach.locate(ego)
        if self.approach.time_to(s, ego.speed, p["stop_s"] - EGO_FRONT) <= p["early"]:
            self.control.start_yellow(p["link"])
            self._changed = True


REACTION = 0.5  # seconds


class StopSign(Scenario):
    """A stop sign: to halt at the line is the duty, whether or not somebody comes."""

    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        return _draw_to_line(road_map, rng, Priority.STOP)
