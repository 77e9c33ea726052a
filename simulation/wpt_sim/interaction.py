"""Which moments of a drive ask for more than following the lane: told by the world's true future, never by a planner."""

from __future__ import annotations

import math

import numpy as np

from wpt_sim.route import Route
from wpt_sim.scene_log import STEP_S, SceneLog
from wpt_sim.vehicles import EGO_REAR_OVERHANG
from wpt_sim.world_state import Actor

HORIZON_S = 4.0
MARGIN_M = 2.0
# The corridor reaches as far as the ego comes in HORIZON_S at its present speed, and this far at least.
SHORTEST_CORRIDOR_M = 20.0
_EVERY = 2  # rows of the log that are looked at: 0.2 s, in which cross traffic moves 3 m


def is_interactive(log: SceneLog, time_s: float) -> bool:
    """Whether another actor's true future comes within 2 m of the ego-lane corridor within 4 s.

    Corridor: the route's lane at full width from the ego's rear bumper to max(20 m, 4 s at the present speed) ahead of
    base_link. Future: the logged boxes from time_s to 4 s later (or to the log's end). A parked vehicle counts only
    where it stands in the corridor itself.
    """
    state = log.state_at(time_s)
    route = log.spec.route
    s, _ = route.project(state.ego.x, state.ego.y)
    points, half_width = _corridor(log, route, s, max(SHORTEST_CORRIDOR_M, HORIZON_S * state.ego.speed))
    reach = 0.5 * float(np.linalg.norm(points[-1] - points[0])) + 60.0
    middle = points.mean(axis=0)
    first = math.ceil(time_s / STEP_S - 1e-6)
    last = min(math.floor((time_s + HORIZON_S) / STEP_S + 1e-6), log.steps - 1)
    for step in range(first, last + 1, _EVERY):
        for actor in log.state_at(step * STEP_S).actors:
            if math.hypot(actor.x - middle[0], actor.y - middle[1]) > reach:
                continue
            gap = float(np.min(_distances(_outline(actor), points))) - half_width
            if gap < (0.0 if actor.parked else MARGIN_M):
                return True
    return False


def _corridor(log: SceneLog, route: Route, s: float, length: float) -> tuple[np.ndarray, float]:
    """Points (N, 2) of the lane's middle, half a metre apart, and half of its width."""
    begin, end = max(s - EGO_REAR_OVERHANG, 0.0), min(s + length, route.length)
    places = np.linspace(begin, end, max(2, math.ceil((end - begin) / 0.5) + 1))
    x, y = (np.interp(places, np.arange(len(route.points)), route.points[:, axis]) for axis in (0, 1))
    return np.stack([x, y], axis=1), 0.5 * log.road_map.lanes[route.lane_at(min(s, route.length))].width


def _outline(actor: Actor) -> np.ndarray:
    """(N, 2) points on the box's border and its centre, at most 1.5 m apart along the length."""
    along = np.linspace(-0.5, 0.5, max(3, math.ceil(actor.length / 1.5) + 1)) * actor.length
    across = np.array([-0.5, 0.0, 0.5]) * actor.width
    local = np.stack(np.meshgrid(along, across), axis=-1).reshape(-1, 2)
    c, s = math.cos(actor.yaw), math.sin(actor.yaw)
    return local @ np.array([[c, s], [-s, c]]) + (actor.x, actor.y)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first[:, None] - second[None], axis=-1)
