"""A plain picture of the world from above, the ego's heading up: lanes, route, others, ego, signals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from wpt_sim.road_map import LaneKind, RoadMap
from wpt_sim.route import Route
from wpt_sim.vehicles import actor_corners, ego_corners
from wpt_sim.world_state import ActorKind, SignalColour, WorldState

# RGB
GROUND, ROAD, ROUTE, EGO = (214, 222, 205), (120, 122, 126), (90, 150, 255), (30, 90, 220)
VEHICLE, PARKED, PERSON, MARK = (230, 120, 40), (90, 75, 65), (200, 30, 120), (235, 235, 235)
SIGNALS = {
    SignalColour.RED: (230, 30, 30),
    SignalColour.YELLOW: (240, 200, 40),
    SignalColour.GREEN: (40, 190, 70),
    SignalColour.OFF: (60, 60, 60),
}
_SHIFT = 4  # fractional bits of OpenCV's coordinates


@dataclass(frozen=True)
class View:
    """ahead, behind, side: metres shown around base_link; scale: pixels per metre."""

    ahead: float = 45.0
    behind: float = 15.0
    side: float = 30.0
    scale: float = 6.0


def draw_from_above(
    road_map: RoadMap, route: Route, state: WorldState, view: View | None = None
) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB."""
    view = view or View()
    width, height = round(2 * view.side * view.scale), round((view.ahead + view.behind) * view.scale)
    image = np.full((height, width, 3), GROUND, np.uint8)
    c, s = math.cos(state.ego.yaw), math.sin(state.ego.yaw)

    def pixels(points: np.ndarray) -> np.ndarray:
        d = np.asarray(points, dtype=float)[:, :2] - (state.ego.x, state.ego.y)
        ahead, left = d @ (c, s), d @ (-s, c)
        return np.stack([(view.side - left) * view.scale, (view.ahead - ahead) * view.scale], axis=1)

    def fixed(points: np.ndarray) -> np.ndarray:
        return np.round(pixels(points) * (1 << _SHIFT)).astype(np.int32)

    def fill(points: np.ndarray, colour: tuple[int, int, int]) -> None:
        cv2.fillPoly(image, [fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    reach = view.ahead + view.behind + view.side
    near = [
        lane
        for lane in road_map.lanes.values()
        if lane.kind in (LaneKind.DRIVING, LaneKind.JUNCTION)
        and np.hypot(*(lane.centre_line - (state.ego.x, state.ego.y)).T).min() < reach + 60.0
    ]
    for area in road_map.junction_areas.values():
        fill(area, ROAD)
    for lane in near:
        thickness = max(1, round(lane.width * view.scale))
        cv2.polylines(image, [fixed(lane.centre_line)], False, ROAD, thickness, cv2.LINE_AA, _SHIFT)
    for lane in near:
        if lane.kind is LaneKind.DRIVING:
            for side in (-1, 1):
                edge = _beside(lane.centre_line, side * lane.width / 2)
                cv2.polylines(image, [fixed(edge)], False, MARK, 1, cv2.LINE_AA, _SHIFT)
    cv2.polylines(image, [fixed(route.points)], False, ROUTE, 2, cv2.LINE_AA, _SHIFT)
    for head in road_map.signal_heads:
        colours = {state.signals.get((head.signal, link), SignalColour.OFF) for link in head.links}
        for colour in colours if len(colours) == 1 else ():
            cv2.line(image, *fixed(head.stop_line), SIGNALS[colour], 3, cv2.LINE_AA, _SHIFT)
    for stop in road_map.stop_lines:
        cv2.line(image, *fixed(stop.ends), MARK, 1, cv2.LINE_AA, _SHIFT)
    for actor in state.actors:
        colour = PERSON if actor.kind is ActorKind.PEDESTRIAN else PARKED if actor.parked else VEHICLE
        fill(actor_corners(actor), colour)
        nose = np.array(
            [
                [actor.x, actor.y],
                [
                    actor.x + 0.5 * actor.length * math.cos(actor.yaw),
                    actor.y + 0.5 * actor.length * math.sin(actor.yaw),
                ],
            ]
        )
        cv2.line(image, *fixed(nose), MARK, 1, cv2.LINE_AA, _SHIFT)
    fill(ego_corners(state.ego), EGO)
    return image


def _beside(line: np.ndarray, offset: float) -> np.ndarray:
    step = np.gradient(line, axis=0)
    step /= np.maximum(np.hypot(*step.T), 1e-9)[:, None]
    return line + offset * np.stack([-step[:, 1], step[:, 0]], axis=1)
