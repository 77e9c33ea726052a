"""What is painted on the ground of a road map, as polygons in painting order: asphalt, kerbs, pavements,
markings.

Markings follow European practice in white, with a yellow centre line as nuScenes' cities have it. Sizes in
metres."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wpt_scenes.factory.ground import ASPHALT, KERB, MARKING, PAVEMENT

from wpt_sim.drivable_raster import drivable_polygons, kerb_polygons
from wpt_sim.lane_strip import length_of_line, part_of_line, strip
from wpt_sim.road_map import Lane, LaneKind, Priority, RoadMap, Turn

CENTRE_LINE = (222, 182, 56)
JOINT = (150, 146, 138)
LINE_WIDTH = 0.14
DASH, GAP = 3.0, 4.5
STOP_LINE_WIDTH = 0.45
KERB_WIDTH = 0.14
BAR, BAR_PITCH = 0.55, 1.1  # of zebra crossings
ARROW_BEFORE_LINE = 7.0


@dataclass(frozen=True, eq=False)
class Patch:
    """A painted polygon (N, 2), map coordinates, and its RGB colour."""

    polygon: np.ndarray
    colour: tuple[int, int, int]


def road_patches(road_map: RoadMap) -> list[Patch]:
    """Return everything painted on a road map, first painted first."""
    patches = [Patch(polygon, ASPHALT) for polygon in drivable_polygons(road_map)]
    for lane in road_map.lanes.values():
        if lane.kind is LaneKind.DRIVING:
            patches += [Patch(polygon, colour) for polygon, colour in _lane_lines(lane, road_map)]
    # A kerb is a lighter rim around what lies behind it.
    kerbs = kerb_polygons(road_map)
    for polygon in kerbs:
        patches += [Patch(band, KERB) for band in _rim(polygon)]
    patches += [Patch(polygon, PAVEMENT) for polygon in kerbs]
    for lane in road_map.lanes.values():
        if lane.kind is LaneKind.SIDEWALK:
            patches += [Patch(polygon, JOINT) for polygon in _joints(lane)]
    for lane in road_map.lanes.values():
        if lane.kind is LaneKind.CROSSING:
            patches += [Patch(polygon, MARKING) for polygon in _zebra(lane)]
    for line in road_map.stop_lines:
        patches += [Patch(polygon, MARKING) for polygon in _stop_line(line.ends, line.priority)]
    patches += [Patch(polygon, MARKING) for polygon in _arrows(road_map)]
    return patches


def _lane_lines(lane: Lane, road_map: RoadMap) -> Iterator[tuple[np.ndarray, tuple[int, int, int]]]:
    half, line = 0.5 * lane.width, 0.5 * LINE_WIDTH
    length = length_of_line(lane.centre_line)
    if lane.left is not None:
        yield from ((piece, MARKING) for piece in _dashes(lane.centre_line, half - line, half + line, length))
    elif lane.opposite is not None:
        if lane.id < lane.opposite:  # painted once for both directions
            if lane.right is None:
                yield from (
                    (piece, CENTRE_LINE)
                    for piece in _dashes(lane.centre_line, half - line, half + line, length)
                )
            else:
                for middle in (half - 0.12, half + 0.12):
                    yield strip(lane.centre_line, middle - 0.5 * line, middle + 0.5 * line), CENTRE_LINE
    else:
        yield strip(lane.centre_line, half - 0.1 - LINE_WIDTH, half - 0.1), MARKING
    if lane.right is None:
        yield strip(lane.centre_line, -half + 0.1, -half + 0.1 + LINE_WIDTH), MARKING


def _dashes(line: np.ndarray, right: float, left: float, length: float) -> Iterator[np.ndarray]:
    for start in np.arange(1.0, length - 1.0, DASH + GAP):
        yield strip(part_of_line(line, start, min(start + DASH, length)), right, left)


def _rim(polygon: np.ndarray) -> Iterator[np.ndarray]:
    for p, q in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if math.hypot(*(q - p)) > 0.05:
            yield strip(np.array([p, q]), -KERB_WIDTH, KERB_WIDTH)


def _joints(lane: Lane) -> Iterator[np.ndarray]:
    half = 0.5 * lane.width
    for start in np.arange(1.5, length_of_line(lane.centre_line) - 0.5, 1.5):
        yield strip(part_of_line(lane.centre_line, start, start + 0.05), -half, half)


def _zebra(lane: Lane) -> Iterator[np.ndarray]:
    """Bars along the traffic, side by side along the way that pedestrians walk."""
    length, half = length_of_line(lane.centre_line), 0.5 * lane.width
    count = max(1, int((length - 0.3) // BAR_PITCH))
    first = 0.5 * (length - (count - 1) * BAR_PITCH - BAR)
    for i in range(count):
        start = first + i * BAR_PITCH
        yield strip(part_of_line(lane.centre_line, start, start + BAR), -half, half)


def _stop_line(ends: np.ndarray, priority: Priority) -> Iterator[np.ndarray]:
    """A bar just before the line where a lane ends; for yielding a row of triangles against the traffic."""
    right, left = np.asarray(ends, dtype=np.float64)
    across = left - right
    width = math.hypot(*across)
    across /= width
    back = np.array([-across[1], across[0]])  # against the driving direction: left of ``across``
    if priority is not Priority.YIELD:
        near, far = right + across * 0.15, left - across * 0.15
        yield np.array([near, far, far + back * STOP_LINE_WIDTH, near + back * STOP_LINE_WIDTH])
        return
    count = max(2, int(width // 0.75))
    pitch = width / count
    for i in range(count):
        start = right + across * (i * pitch + 0.12 * pitch)
        end = start + across * 0.76 * pitch
        yield np.array([start, end, 0.5 * (start + end) + back * 0.7])


def _arrows(road_map: RoadMap) -> Iterator[np.ndarray]:
    """Arrows for the turns that a lane allows, where its road has several lanes or leads into a junction by
    signal."""
    turns: dict[str, set[Turn]] = {}
    for connection in road_map.connections:
        turns.setdefault(connection.from_lane, set()).add(connection.turn)
    for name, allowed in turns.items():
        lane = road_map.lanes[name]
        if lane.kind is not LaneKind.DRIVING or (lane.left is None and lane.right is None):
            continue
        length = length_of_line(lane.centre_line)
        if length < 25.0:
            continue
        part = part_of_line(lane.centre_line, length - ARROW_BEFORE_LINE - 4.0, length - ARROW_BEFORE_LINE)
        direction = part[-1] - part[0]
        direction /= math.hypot(*direction)
        frame = np.column_stack([direction, [-direction[1], direction[0]]])
        for shape in _arrow_shapes(allowed):
            yield part[0] + shape @ frame.T


def _arrow_shapes(allowed: set[Turn]) -> Iterator[np.ndarray]:
    """Polygons of an arrow of 4 m length, x along the lane, y to the left."""
    yield np.array([[0.0, -0.09], [2.6, -0.09], [2.6, 0.09], [0.0, 0.09]])
    if Turn.STRAIGHT in allowed:
        yield np.array([[2.6, -0.35], [4.0, 0.0], [2.6, 0.35]])
    for turn, side in ((Turn.LEFT, 1.0), (Turn.RIGHT, -1.0)):
        if turn in allowed:
            yield np.array(
                [[1.7, 0.0], [2.4, side * 0.55], [2.6, side * 0.55], [2.6, side * 0.3], [1.95, 0.0]]
            )
            yield np.array([[2.0, side * 0.5], [3.0, side * 0.5], [2.5, side * 1.1]])
