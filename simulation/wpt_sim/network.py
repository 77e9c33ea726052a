"""SUMO networks (``*.net.xml.gz``) read into road maps, with the standard library and numpy alone.

Rules of the format are those of SUMO's "Road Networks" documentation: internal edges begin with ``:``; the
bits of a junction's ``request`` are read from the right; ``intLanes`` gives each link its index. netconvert
splits the way of a left turn that waits inside the junction into two internal lanes; both are in
``Connection.via``.
"""

from __future__ import annotations

import functools
import gzip
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from wpt_sim.networks import FOLDER
from wpt_sim.road_map import Connection, Lane, LaneKind, Priority, RoadMap, SignalHead, StopLine, Turn
from wpt_sim.scenery import add_scenery

SUFFIX = ".net.xml.gz"
SPLITS = ("train", "dev", "test", "tuning")
LAMP_HEIGHT = 5.2  # metres over the ground, hung over the lane: a car ahead never hides it
MAST_BEYOND = 1.0  # metres between the junction's far edge and the lamps
LARGEST_LAMP_DISTANCE = 24.0  # metres from the stop line; wide junctions get their lamps before the far edge

_TURNS = {
    "s": Turn.STRAIGHT,
    "l": Turn.LEFT,
    "L": Turn.LEFT,
    "r": Turn.RIGHT,
    "R": Turn.RIGHT,
    "t": Turn.U_TURN,
}
_PRIORITIES = {
    "M": Priority.MAJOR,
    "m": Priority.YIELD,
    "=": Priority.YIELD,
    "s": Priority.STOP,
    "w": Priority.STOP,
    "Z": Priority.YIELD,
}


class NetworkError(ValueError):
    """A network's name is unknown or its file cannot be read."""


def network_names(split: str) -> tuple[str, ...]:
    """Names of the shipped networks of "train" (24), "dev" (4), "test" (8) or "tuning" (4)."""
    if split not in SPLITS:
        raise NetworkError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}.")
    return tuple(sorted(path.name[: -len(SUFFIX)] for path in FOLDER.glob(f"{split}_*{SUFFIX}")))


def network_path(name: str) -> Path:
    """File of a shipped network; raises NetworkError for an unknown name."""
    path = FOLDER / f"{name}{SUFFIX}"
    if "/" in name or not path.is_file():
        raise NetworkError(f"network {name!r} is not shipped: `network_names(split)` lists those that are.")
    return path


@functools.lru_cache(maxsize=16)
def load_road_map(name: str) -> RoadMap:
    """The road map of a shipped network, scenery included; the same object on later calls."""
    return add_scenery(read_network(network_path(name), name))


def read_network(path: Path, name: str) -> RoadMap:
    """A road map without scenery. Raises NetworkError where the file is no SUMO network."""
    try:
        with gzip.open(path, "rb") as stream:
            root = ElementTree.parse(stream).getroot()
    except (OSError, EOFError, ElementTree.ParseError) as error:
        raise NetworkError(
            f"{path.name} cannot be read as a gzipped SUMO network ({error}): make it again."
        ) from error
    if root.tag != "net":
        raise NetworkError(
            f"{path.name} holds <{root.tag}>, expected <net>: give a file written by netconvert."
        )
    lanes, walking_areas = _lanes(root)
    connections = _connections(root, lanes)
    areas = {
        node.get("id", ""): _shape(node.get("shape", ""))
        for node in root.iter("junction")
        if node.get("type") not in ("internal", "dead_end") and len(node.get("shape", "").split()) >= 3
    }
    heads = _signal_heads(connections, lanes, areas, root)
    stop_lines = _stop_lines(connections, lanes)
    rings = tuple(tuple(ring.get("nodes", "").split()) for ring in root.iter("roundabout"))
    return RoadMap(
        name=name,
        lanes=lanes,
        connections=connections,
        junction_areas=areas,
        signal_heads=heads,
        stop_lines=stop_lines,
        roundabouts=rings,
        walking_areas=walking_areas,
    )


def _shape(text: str) -> np.ndarray:
    return np.array([[float(v) for v in point.split(",")[:2]] for point in text.split()], dtype=np.float64)


def _lanes(root: ElementTree.Element) -> tuple[dict[str, Lane], tuple[np.ndarray, ...]]:
    lanes: dict[str, Lane] = {}
    walking_areas: list[np.ndarray] = []
    edges = list(root.iter("edge"))
    driving: dict[str, list[str]] = {}
    ends = {e.get("id"): (e.get("from"), e.get("to")) for e in edges if e.get("function") is None}
    rows: list[tuple[dict, str]] = []
    for edge in edges:
        edge_id, function = edge.get("id", ""), edge.get("function")
        for lane in edge.iter("lane"):
            shape = _shape(lane.get("shape", ""))
            if function == "walkingarea":
                walking_areas.append(shape)
                continue
            pedestrian = lane.get("allow") == "pedestrian"
            kind = {"crossing": LaneKind.CROSSING, "internal": LaneKind.JUNCTION}.get(function or "")
            if kind is None:
                kind = LaneKind.SIDEWALK if pedestrian else LaneKind.DRIVING
            if kind is LaneKind.DRIVING:
                driving.setdefault(edge_id, []).append(lane.get("id", ""))
            # Internal edge ids are ":<junction>_<index>".
            junction = edge_id[1:].rpartition("_")[0] if edge_id.startswith(":") else None
            keep = np.ones(len(shape), dtype=bool)
            keep[1:] = np.hypot(*np.diff(shape, axis=0).T) > 1e-3
            if keep.sum() < 2:  # a lane of no length: netconvert makes 0.1 m ones at merges
                keep[:] = True
            rows.append(
                (
                    dict(
                        id=lane.get("id", ""),
                        kind=kind,
                        centre_line=shape[keep],
                        width=float(lane.get("width", 3.2)),
                        speed_limit=float(lane.get("speed", 13.9)),
                        edge=edge_id,
                        junction=junction,
                    ),
                    edge_id,
                )
            )
    reverse = {
        edge: next((other for other, pair in ends.items() if pair == (to, frm) and other in driving), None)
        for edge, (frm, to) in ends.items()
    }
    for values, edge_id in rows:
        if values["kind"] is LaneKind.DRIVING:
            row = driving[edge_id]
            place = row.index(values["id"])
            values["right"] = row[place - 1] if place else None
            values["left"] = row[place + 1] if place + 1 < len(row) else None
            back = reverse.get(edge_id)
            if values["left"] is None and back:
                values["opposite"] = driving[back][-1]
        lanes[values["id"]] = Lane(**values)
    return lanes, tuple(walking_areas)


def _connections(root: ElementTree.Element, lanes: dict[str, Lane]) -> tuple[Connection, ...]:
    elements = list(root.iter("connection"))
    inner: dict[tuple[str, str], ElementTree.Element] = {}
    for element in elements:
        if element.get("from", "").startswith(":"):
            inner[element.get("from", ""), element.get("fromLane", "")] = element
    drafts = []
    for element in elements:
        from_lane = f"{element.get('from')}_{element.get('fromLane')}"
        to_lane = f"{element.get('to')}_{element.get('toLane')}"
        if from_lane not in lanes or to_lane not in lanes or element.get("from", "").startswith(":"):
            continue
        if lanes[from_lane].kind is not LaneKind.DRIVING or lanes[to_lane].kind is not LaneKind.DRIVING:
            continue
        via: list[str] = []
        following = element.get("via")
        while following:
            via.append(following)
            edge, _, index = following.rpartition("_")
            step = inner.get((edge, index))
            following = step.get("via") if step is not None else None
        drafts.append((element, from_lane, to_lane, tuple(via)))
    green_pairs = _green_together(root)
    links = {lane: (e.get("tl"), int(e.get("linkIndex", -1))) for e, _, _, via in drafts for lane in via}
    for element in elements:  # crossings have links of their own
        if "_c" in element.get("to", "") and element.get("tl"):
            links[f"{element.get('to')}_0"] = (element.get("tl"), int(element.get("linkIndex", -1)))
    by_inner = {lane: via for _, _, _, via in drafts for lane in via}
    yields: dict[str, tuple[str, ...]] = {}
    for junction in root.iter("junction"):
        inner_lanes = junction.get("intLanes", "").split()
        for request in junction.iter("request"):
            index = int(request.get("index", 0))
            bits = request.get("response", "")[::-1]
            first = [inner_lanes[j] for j, bit in enumerate(bits) if bit == "1" and j < len(inner_lanes)]
            found: list[str] = []
            for lane in first:
                found.extend(
                    part for part in by_inner.get(lane, (lane,)) if part not in found and part in lanes
                )
            if index < len(inner_lanes):
                yields[inner_lanes[index]] = tuple(found)
    result = []
    for element, from_lane, to_lane, via in drafts:
        signal = element.get("tl")
        priority = Priority.SIGNAL if signal else _PRIORITIES.get(element.get("state", "M"), Priority.MAJOR)
        gives_way = next((yields[lane] for lane in reversed(via) if lane in yields), ())
        if signal:  # the signal separates ways that are never green together
            own = int(element.get("linkIndex", -1))
            gives_way = tuple(
                lane for lane in gives_way if (signal, own, links.get(lane, (None, -1))[1]) in green_pairs
            )
        result.append(
            Connection(
                from_lane=from_lane,
                to_lane=to_lane,
                via=via,
                turn=_TURNS.get(element.get("dir", "s"), Turn.STRAIGHT),
                priority=priority,
                signal=signal,
                link=int(element.get("linkIndex", -1)) if signal else -1,
                yields_to=gives_way,
            )
        )
    return tuple(result)


def _green_together(root: ElementTree.Element) -> set[tuple[str, int, int]]:
    """(signal, i, j) for all links that are green in one phase."""
    pairs = set()
    for logic in root.iter("tlLogic"):
        for phase in logic.iter("phase"):
            green = [i for i, letter in enumerate(phase.get("state", "")) if letter in "gG"]
            pairs.update((logic.get("id", ""), i, j) for i in green for j in green)
    return pairs


def _end_line(lane: Lane) -> tuple[np.ndarray, float]:
    """Ends (2, 2) of the line across the lane's end (right, left), and the lane's heading there."""
    p, q = lane.centre_line[-2:]
    direction = (q - p) / math.hypot(*(q - p))
    normal = np.array([-direction[1], direction[0]])
    ends = np.stack([q - normal * lane.width / 2, q + normal * lane.width / 2])
    return ends, math.atan2(direction[1], direction[0])


def _distance_through(area: np.ndarray, start: np.ndarray, heading: float) -> float:
    """Distance from start along heading to the last crossing with the polygon's outline; 0 where there is
    none.
    """
    direction = np.array([math.cos(heading), math.sin(heading)])
    furthest = 0.0
    for p, q in zip(area, np.roll(area, -1, axis=0), strict=True):
        matrix = np.stack([direction, p - q], axis=1)
        determinant = np.linalg.det(matrix)
        if abs(determinant) > 1e-9:
            along, share = np.linalg.solve(matrix, p - start)
            if 0 <= share <= 1:
                furthest = max(furthest, float(along))
    return furthest


def _signal_heads(
    connections: tuple[Connection, ...],
    lanes: dict[str, Lane],
    areas: dict[str, np.ndarray],
    root: ElementTree.Element,
) -> tuple[SignalHead, ...]:
    goes_to = {edge.get("id"): edge.get("to", "") for edge in root.iter("edge")}
    links: dict[tuple[str, str], list[int]] = {}
    for connection in connections:
        if connection.signal is not None:
            links.setdefault((connection.signal, connection.from_lane), []).append(connection.link)
    heads = []
    for (signal, lane_id), numbers in links.items():
        lane = lanes[lane_id]
        ends, heading = _end_line(lane)
        area = areas.get(goes_to.get(lane.edge, ""))
        through = _distance_through(area, lane.centre_line[-1], heading) if area is not None else 0.0
        distance = min(through + MAST_BEYOND, LARGEST_LAMP_DISTANCE)
        foot = lane.centre_line[-1] + distance * np.array([math.cos(heading), math.sin(heading)])
        facing = (heading + math.pi + math.pi) % (2 * math.pi) - math.pi
        heads.append(
            SignalHead(
                signal=signal,
                links=tuple(sorted(numbers)),
                lane=lane_id,
                stop_line=ends,
                lamp_position=np.array([*foot, LAMP_HEIGHT]),
                facing=facing,
            )
        )
    return tuple(heads)


def _stop_lines(connections: tuple[Connection, ...], lanes: dict[str, Lane]) -> tuple[StopLine, ...]:
    strictest: dict[str, Priority] = {}
    order = [Priority.MAJOR, Priority.YIELD, Priority.STOP, Priority.SIGNAL]
    for connection in connections:
        known = strictest.get(connection.from_lane, Priority.MAJOR)
        strictest[connection.from_lane] = max(known, connection.priority, key=order.index)
    return tuple(
        StopLine(lane=lane, ends=_end_line(lanes[lane])[0], priority=priority)
        for lane, priority in strictest.items()
        if priority is not Priority.MAJOR
    )
