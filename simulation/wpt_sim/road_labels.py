"""What the nuScenes tables have no place for: the route, the signal that counts, and the lanes' driving direction.

They are labels of simulated data, for training and for judging; no planner is given them. All lie in the tables' global
frame. Files, in the version's folder:

    routes.json                     by scene name: the route's points, metre by metre, from before the drive to its end
    signals.json                    by sample token: colour, stop line and distance of the signal ahead that counts
    lane_directions/<location>.png  8-bit, 0.5 m a pixel; column c, row r stands for x = 0.5 c, y = 0.5 (height - r)
                                    as in map masks; 0: no lane, v: heading (v - 1) / 254 * 2 pi
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from wpt_sim.drivable_raster import drivable_raster
from wpt_sim.errors import SimulationError
from wpt_sim.expert_junctions import EGO_FRONT, route_junctions
from wpt_sim.lane_strip import points_along, strip
from wpt_sim.road_map import Connection, LaneKind, RoadMap, SignalHead
from wpt_sim.route import Route
from wpt_sim.world_state import SignalColour, WorldState

ROUTES_FILE = "routes.json"
SIGNALS_FILE = "signals.json"
DIRECTIONS_FOLDER = "lane_directions"
SIGNAL_RANGE_M = 60.0
DIRECTION_CELL_M = 0.5
_HEADING_STEPS = 254
_LANE_PIECE_M = 2.0
_SHIFT = 8
_COLOURS = {SignalColour.RED: "red", SignalColour.YELLOW: "yellow", SignalColour.GREEN: "green"}


@dataclass(frozen=True, kw_only=True)
class SignalAhead:
    """colour: red, yellow or green. stop_line: its two ends, map metres. distance_m: from base_link along the route."""

    colour: str
    stop_line: tuple[tuple[float, float], tuple[float, float]]
    distance_m: float


def signal_ahead(road_map: RoadMap, route: Route, state: WorldState) -> SignalAhead | None:
    """Return the first signal on the route whose stop line the ego's front has not crossed, within SIGNAL_RANGE_M."""
    s, _ = route.project(state.ego.x, state.ego.y)
    for junction in route_junctions(road_map, route):
        distance = junction.line_s - s
        if distance < EGO_FRONT or junction.connection.signal is None:
            continue
        if distance > SIGNAL_RANGE_M:
            return None
        colour = _COLOURS.get(state.signals.get((junction.connection.signal, junction.connection.link)))
        head = _head(road_map, junction.connection)
        if colour is None or head is None:
            return None
        ends = tuple((float(x), float(y)) for x, y in head.stop_line)
        return SignalAhead(colour=colour, stop_line=ends, distance_m=float(distance))
    return None


def write_routes(folder: Path, routes: Mapping[str, tuple[Route, tuple[float, float]]]) -> None:
    """Write routes by scene name; each with its scene's shift from map to global frame."""
    scenes = {name: _moved(route.points, shift) for name, (route, shift) in routes.items()}
    _write(folder / ROUTES_FILE, {"format": 1, "scenes": scenes})


def write_signals(folder: Path, signals: Mapping[str, tuple[SignalAhead, tuple[float, float]]]) -> None:
    """Write signals by sample token; each with its scene's shift from map to global frame."""
    samples = {
        token: {
            "colour": signal.colour,
            "stop_line": _moved(np.array(signal.stop_line), shift),
            "distance_m": round(signal.distance_m, 3),
        }
        for token, (signal, shift) in signals.items()
    }
    _write(folder / SIGNALS_FILE, {"format": 1, "samples": samples})


def write_lane_directions(folder: Path, road_map: RoadMap) -> Path:
    """Write a road map's lane directions as a PNG named by the map; raises SimulationError when it cannot be written."""
    path = folder / DIRECTIONS_FOLDER / f"{road_map.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), lane_directions(road_map)):
        raise SimulationError(f"{path} cannot be written: is there space, and may the folder be written to?")
    return path


@lru_cache(maxsize=4)
def lane_directions(road_map: RoadMap) -> np.ndarray:
    """Return the (H, W) uint8 raster of driving lanes outside junctions, aligned to the map mask's corner."""
    raster = drivable_raster(road_map)
    left, bottom = raster.left, raster.top - raster.mask.shape[0] * raster.cell
    # One row more: row r stands for y = 0.5 (height - r), so that row 0 is a cell above the highest place.
    shape = [math.ceil(count * raster.cell / DIRECTION_CELL_M) + 1 for count in raster.mask.shape]
    codes = np.zeros(shape, dtype=np.uint8)
    for lane in road_map.lanes.values():
        if lane.kind is not LaneKind.DRIVING:
            continue
        line = points_along(lane.centre_line, _LANE_PIECE_M)
        for begin, end in zip(line, line[1:], strict=False):
            heading = math.atan2(end[1] - begin[1], end[0] - begin[0]) % math.tau
            piece = strip(np.stack([begin, end]), -0.5 * lane.width, 0.5 * lane.width)
            pixels = np.column_stack(
                [(piece[:, 0] - left) / DIRECTION_CELL_M, shape[0] - (piece[:, 1] - bottom) / DIRECTION_CELL_M]
            )
            code = 1 + round(heading / math.tau * _HEADING_STEPS) % _HEADING_STEPS
            cv2.fillPoly(codes, [np.round(pixels * 2**_SHIFT).astype(np.int32)], code, shift=_SHIFT)
    codes.flags.writeable = False
    return codes


def _head(road_map: RoadMap, connection: Connection) -> SignalHead | None:
    for head in road_map.signal_heads:
        if head.lane == connection.from_lane and connection.link in head.links:
            return head
    return None


def _moved(points: np.ndarray, shift: tuple[float, float]) -> list[list[float]]:
    return [[round(float(x) + shift[0], 3), round(float(y) + shift[1], 3)] for x, y in points]


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
