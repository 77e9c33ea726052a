"""What the gate's policies see, as numbers: exact bird's-eye truth of what the cameras could show, or the ego
alone.

Bird's-eye truth: boxes of visible actors, the commanded path (commanded_path.py: from lanes, pose and
command), the next junction's line, right of way and signal colour. No route, no ids, no intent. Everything is
in path or base_link coordinates and scaled to about one.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from wpt_policy.frame import Command

from wpt_sim.command import route_command
from wpt_sim.commanded_path import CommandedPath
from wpt_sim.episode import DT, EpisodeSpec
from wpt_sim.expert_junctions import RouteJunction, route_junctions
from wpt_sim.lane_position import lane_index
from wpt_sim.observation import ObservationMemory, ObservedActor, observe
from wpt_sim.road_map import Priority, RoadMap
from wpt_sim.route import Route
from wpt_sim.world_state import ActorKind, Lights, SignalColour, WorldState

HORIZON = 44.0  # metres of path shown: what a command of 40 m can mean
PATH_POINTS = 22
ACTORS = 14
ACTOR_FEATURES = 27
COMMANDS = tuple(Command)
PATH_SIZE = PATH_POINTS * 4
CONTEXT_SIZE = 5 + len(COMMANDS) + PATH_SIZE + 2 * 15
HISTORY_S = (0.5, 1.0, 1.5, 2.0)
EGO_SIZE = 3 + 4 * len(HISTORY_S) + len(COMMANDS)
_COLOURS = (SignalColour.RED, SignalColour.YELLOW, SignalColour.GREEN)
_PRIORITIES = (Priority.MAJOR, Priority.YIELD, Priority.STOP, Priority.SIGNAL)


@dataclass(frozen=True, eq=False)
class BirdsEye:
    """context: (CONTEXT_SIZE,) ego, command, path, junctions. actors: (ACTORS, ACTOR_FEATURES), zero rows at
    the end.

    path, s: the commanded path and the ego's place on it, to turn answers into positions.
    """

    context: np.ndarray
    actors: np.ndarray
    path: Route
    s: float
    lateral: float


class BirdsEyeView:
    """Watches one drive; see() every state, look() where a plan is due."""

    def __init__(self, spec: EpisodeSpec):
        self._spec = spec
        self._road_map, self._route = spec.road_map, spec.route
        self._memory = ObservationMemory()
        self._path = CommandedPath(self._road_map)
        self._route_s: float | None = None
        self._standing_s = 0.0
        self._stopped_at: RouteJunction | None = None
        self._junction: RouteJunction | None = None

    def see(self, state: WorldState) -> None:
        self.observation = observe(self._road_map, self._route, state, self._memory)
        self._state = state
        self._standing_s = self._standing_s + DT if state.ego.speed < 0.1 else 0.0
        if state.ego.speed < 0.1 and self._junction is not None:
            self._stopped_at = self._junction

    def look(self) -> BirdsEye:
        state, ego = self._state, self._state.ego
        command = route_command(self._road_map, self._route, self.observation.s)
        path = self._path.update(ego, command)
        s, lateral = self._path.s, self._path.lateral
        junctions = [j for j in route_junctions(self._road_map, path) if j.end_s > s - 2.0][:2]
        near = [j for j in junctions if -2.0 < j.line_s - s < 12.0]
        self._junction = near[0] if near else None
        _, _, heading = path.at(s)
        turned = math.remainder(ego.yaw - heading, math.tau)
        parts = [ego.speed / 10.0, 3.0 * ego.steer, lateral, 3.0 * turned, min(self._standing_s, 4.0) / 4.0]
        parts += [1.0 if command is known else 0.0 for known in COMMANDS]
        parts += self._path_features(path, s)
        for k in range(2):
            parts += self._junction_features(junctions[k], state, s) if k < len(junctions) else [0.0] * 15
        priority = _go_first(self._road_map, junctions[0]) if junctions else frozenset()
        rows = np.zeros((ACTORS, ACTOR_FEATURES), np.float32)
        shown = sorted(self.observation.actors, key=lambda a: self._rank(a, path, s))[:ACTORS]
        for i, actor in enumerate(shown):
            rows[i] = self._actor_features(actor, path, s, priority)
        context = np.array(parts, np.float32)
        return BirdsEye(np.clip(context, -5.0, 5.0), np.clip(rows, -5.0, 5.0), path, s, lateral)

    def _path_features(self, path: Route, s: float) -> list[float]:
        ego = self._state.ego
        stations = s + np.linspace(2.0, HORIZON, PATH_POINTS)
        places = np.array([path.at(x) for x in stations])
        c, n = math.cos(ego.yaw), math.sin(ego.yaw)
        d = places[:, :2] - (ego.x, ego.y)
        ahead, left = d @ (c, n), d @ (-n, c)
        heading = places[:, 2] - ego.yaw
        limits = [path.speed_limit(x) / 10.0 if x <= path.length else 0.0 for x in stations]
        return np.stack([ahead / 30.0, left / 15.0, np.sin(heading), limits], axis=1).ravel().tolist()

    def _junction_features(self, junction: RouteJunction, state: WorldState, s: float) -> list[float]:
        connection = junction.connection
        to_line, to_end = junction.line_s - s, junction.end_s - s
        colour = state.signals.get((connection.signal, connection.link)) if to_line < 60.0 else None
        conflict = junction.conflict_s
        return [
            min(to_line, 60.0) / 20.0,
            min(to_end, 80.0) / 20.0,
            math.exp(-max(to_line, 0.0) / 6.0) if to_line > -1.0 else -1.0,
            *(1.0 if colour is known else 0.0 for known in _COLOURS),
            *(1.0 if connection.priority is known else 0.0 for known in _PRIORITIES),
            0.0 if conflict is None else 1.0,
            0.0 if conflict is None else min(conflict[0] - s, 60.0) / 20.0,
            0.0 if conflict is None else min(conflict[1] - s, 60.0) / 20.0,
            1.0 if self._stopped_at is not None and self._stopped_at.connection is connection else 0.0,
            1.0,
        ]

    def _rank(self, actor: ObservedActor, path: Route, s: float) -> float:
        """Near ones first; what is behind counts less."""
        ego = self._state.ego
        dx, dy = actor.x - ego.x, actor.y - ego.y
        ahead = math.cos(ego.yaw) * dx + math.sin(ego.yaw) * dy
        return math.hypot(dx, dy) + (10.0 if ahead < -3.0 else 0.0)

    def _actor_features(
        self, actor: ObservedActor, path: Route, s: float, priority: frozenset[str]
    ) -> list[float]:
        ego = self._state.ego
        c, n = math.cos(ego.yaw), math.sin(ego.yaw)
        dx, dy = actor.x - ego.x, actor.y - ego.y
        ahead, left = c * dx + n * dy, -n * dx + c * dy
        yaw = actor.yaw - ego.yaw
        along, beside = path.project(actor.x, actor.y)
        _, _, heading = path.at(along)
        relative = actor.yaw - heading
        crossing_s, reach_s, meets = _crossing(actor, path, s)
        lane = lane_index(self._spec.road_map).locate(actor.x, actor.y).lane
        walking = actor.kind is ActorKind.PEDESTRIAN
        rider = actor.kind in (ActorKind.BICYCLE, ActorKind.MOTORCYCLE)
        return [
            1.0,
            ahead / 20.0,
            left / 10.0,
            math.cos(yaw),
            math.sin(yaw),
            actor.speed / 10.0,
            actor.acceleration / 4.0,
            actor.length / 5.0,
            actor.width / 2.0,
            float(walking),
            float(rider),
            float(bool(actor.lights & Lights.BRAKE)),
            float(bool(actor.lights & Lights.LEFT)),
            float(bool(actor.lights & Lights.RIGHT)),
            min(actor.still_s, 5.0) / 5.0,
            actor.unseen_s / 2.0,
            (along - s) / 20.0,
            beside / 4.0,
            math.exp(-abs(beside) / 1.5),
            math.cos(relative),
            math.sin(relative),
            actor.speed * math.cos(relative) / 10.0,
            actor.speed * math.sin(relative) / 4.0,
            meets,
            crossing_s / 20.0,
            reach_s / 4.0,
            1.0 if lane in priority else 0.0,
        ]


@functools.lru_cache(maxsize=512)
def _go_first(road_map: RoadMap, junction: RouteJunction) -> frozenset[str]:
    """Lanes whose traffic goes first at a junction: those inside it and those that lead into them."""
    inside = junction.priority_lanes
    leading = {c.from_lane for c in road_map.connections if inside & set(c.via)}
    return inside | leading


def _crossing(actor: ObservedActor, path: Route, s: float) -> tuple[float, float, float]:
    """(metres ahead of the ego, seconds until then, 1) where the actor's straight way meets the path; zeros
    without.
    """
    if actor.speed < 0.3:
        return 0.0, 0.0, 0.0
    first = max(0, int(s))
    points = path.points[first : first + int(HORIZON) + 10]
    if len(points) < 2:
        return 0.0, 0.0, 0.0
    c, n = math.cos(actor.yaw), math.sin(actor.yaw)
    d = points - (actor.x, actor.y)
    ahead, left = d @ (c, n), d @ (-n, c)
    flips = np.flatnonzero((left[:-1] * left[1:] < 0.0) & (ahead[:-1] > -2.0) & (ahead[:-1] < 50.0))
    if not len(flips):
        return 0.0, 0.0, 0.0
    i = int(flips[0])
    return float(first + i - s), min(max(float(ahead[i]), 0.0) / actor.speed, 12.0), 1.0


class EgoHistory:
    """What an ego-only policy sees: its own motion over the last two seconds and the command."""

    def __init__(self, spec: EpisodeSpec):
        self._spec = spec
        self._past: deque = deque(maxlen=round(max(HISTORY_S) / DT) + 1)
        self._s = 0.0

    def see(self, state: WorldState) -> None:
        self._past.append(state.ego)
        self._s, _ = self._spec.route.project(state.ego.x, state.ego.y, near=self._s)

    def look(self) -> np.ndarray:
        """(EGO_SIZE,)"""
        ego = self._past[-1]
        c, n = math.cos(ego.yaw), math.sin(ego.yaw)
        parts = [ego.speed / 10.0, 3.0 * ego.steer, ego.acceleration / 4.0]
        for seconds in HISTORY_S:
            before = self._past[max(-len(self._past), -1 - round(seconds / DT))]
            dx, dy = before.x - ego.x, before.y - ego.y
            parts += [
                (c * dx + n * dy) / 10.0,
                (-n * dx + c * dy) / 5.0,
                math.remainder(before.yaw - ego.yaw, math.tau),
                before.speed / 10.0,
            ]
        command = route_command(self._spec.road_map, self._spec.route, self._s)
        parts += [1.0 if command is known else 0.0 for known in COMMANDS]
        return np.array(parts, np.float32)
