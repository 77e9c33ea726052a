"""Make the shipped networks again: ``wpt-sim networks [--only NAME] [--out DIR]``.

Each network is a small town drawn from a seed: a jittered, rotated grid of 3 x 2 junctions with curved
streets, one roundabout, signalised, priority and stop-sign junctions, one arterial of two lanes per
direction, sidewalks and crossings, a zebra in the middle of a block, and a two-lane fast road with an
on-ramp. Only this program needs SUMO's ``netconvert`` (package ``eclipse-sumo``); reading a shipped network
needs nothing.

Every split has its own range of seeds, so that no geometry is shared (a test compares the junction
positions).
"""

from __future__ import annotations

import argparse
import gzip
import math
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

FOLDER = Path(__file__).resolve().parent
# split -> (number of networks, first seed)
SPLIT_SEEDS = {"train": (24, 1000), "dev": (4, 2000), "test": (8, 3000), "tuning": (4, 4000)}
SIDEWALK_WIDTH = 2.0
ROUNDABOUT_LEGS_RADIUS = (15.0, 19.0)


@dataclass
class Street:
    """Lanes per direction, speed limit (m/s), lane width (m), SUMO priority, sidewalks on both sides."""

    lanes: int
    speed: float
    width: float
    priority: int
    sidewalk: bool = True


ARTERIAL = Street(2, 13.89, 3.3, 4)
MAIN = Street(1, 13.89, 3.4, 3)
COLLECTOR = Street(1, 11.11, 3.3, 2)
RESIDENTIAL = Street(1, 8.33, 3.1, 1)
FAST_ROAD = Street(2, 16.67, 3.5, 6, sidewalk=False)
RAMP = Street(1, 13.89, 3.5, 5, sidewalk=False)


@dataclass
class Plan:
    """Plain XML lines being collected."""

    nodes: list[str] = field(default_factory=list)
    edges: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    positions: dict[str, np.ndarray] = field(default_factory=dict)

    def node(self, name: str, position: np.ndarray, kind: str, **extra: object) -> None:
        self.positions[name] = np.asarray(position, dtype=float)
        more = "".join(f" {key}={quoteattr(str(value))}" for key, value in extra.items())
        self.nodes.append(
            f'<node id="{name}" x="{position[0]:.2f}" y="{position[1]:.2f}" type="{kind}"{more}/>'
        )

    def edge(
        self,
        start: str,
        end: str,
        street: Street,
        shape: np.ndarray | None = None,
        lanes: int = 0,
        spread: str = "right",
    ) -> str:
        """One direction; shape (N, 2) excludes nothing: its ends are the nodes. Returns the edge id."""
        name = f"{start}_{end}"
        line = (
            f'<edge id="{name}" from="{start}" to="{end}" numLanes="{lanes or street.lanes}" '
            f'speed="{street.speed}" width="{street.width}" priority="{street.priority}" '
            f'spreadType="{spread}"'
        )
        if street.sidewalk:
            line += f' sidewalkWidth="{SIDEWALK_WIDTH}"'
        if shape is not None:
            line += ' shape="' + " ".join(f"{x:.2f},{y:.2f}" for x, y in shape) + '"'
        self.edges.append(line + "/>")
        return name

    def street(self, start: str, end: str, street: Street, shape: np.ndarray | None = None) -> None:
        self.edge(start, end, street, shape)
        self.edge(end, start, street, None if shape is None else shape[::-1])


def curve(start: np.ndarray, end: np.ndarray, bow: float, skew: float) -> np.ndarray:
    """(N, 2) smooth street from start to end that leaves the chord by up to about `bow` metres."""
    chord = end - start
    t = np.linspace(0.0, 1.0, 1 + 2 * max(5, round(np.hypot(*chord) / 12.0)))[:, None]  # a point every 6 m
    normal = np.array([-chord[1], chord[0]]) / np.hypot(*chord)
    # Straight for the first and last 15 m or so: stop lines and crossings stay at right angles.
    shape = np.sin(math.pi * t) ** 2 * bow + np.sin(2 * math.pi * t) ** 3 * skew
    return start + t * chord + shape * normal


def roundabout(
    plan: Plan, rng: np.random.Generator, name: str, centre: np.ndarray, bearings: list[float]
) -> dict[int, str]:
    """Ring of one lane around `centre`, a node per bearing; returns index of bearing -> node name."""
    radius = rng.uniform(*ROUNDABOUT_LEGS_RADIUS)
    order = sorted(range(len(bearings)), key=lambda i: bearings[i] % (2 * math.pi))
    names = {i: f"{name}r{i}" for i in order}
    for i in order:
        plan.node(
            names[i], centre + radius * np.array([math.cos(bearings[i]), math.sin(bearings[i])]), "priority"
        )
    ring = Street(1, 8.33, 4.2, 6, sidewalk=False)
    for place, i in enumerate(order):
        following = order[(place + 1) % len(order)]
        first = bearings[i]
        sweep = (bearings[following] - first) % (2 * math.pi)
        angles = first + np.linspace(0.0, sweep, max(4, int(sweep * radius / 4)))
        shape = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        plan.edge(names[i], names[following], ring, shape, spread="center")
    return names


def town(seed: int) -> Plan:
    """The plan of one network."""
    rng = np.random.default_rng(seed)
    plan = Plan()
    rotation = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(rotation), -math.sin(rotation)], [math.sin(rotation), math.cos(rotation)]])

    def place(x: float, y: float) -> np.ndarray:
        return turn @ np.array([x, y])

    columns = np.cumsum([0.0, *rng.uniform(135, 165, 2)])
    rows = np.cumsum([0.0, rng.uniform(135, 160)])
    jitter = rng.uniform(-9, 9, (3, 2, 2))
    raw = {(i, j): np.array([columns[i], rows[j]]) + jitter[i, j] for i in range(3) for j in range(2)}
    # The arterial is row 0 or 1; the roundabout lies on the other row.
    arterial_row = int(rng.integers(2))
    round_at = (int(rng.integers(3)), 1 - arterial_row)
    row_street = {arterial_row: ARTERIAL, 1 - arterial_row: MAIN}
    column_street = [COLLECTOR, RESIDENTIAL, MAIN]
    rng.shuffle(column_street)
    others = [key for key in raw if key != round_at]
    signals = {(int(i), arterial_row) for i in rng.choice(3, 2, replace=False)}
    rest = [key for key in others if key not in signals]
    stop_at = rest[int(rng.integers(len(rest)))]

    links: list[tuple[tuple[int, int], tuple[int, int] | str, Street]] = []
    stubs: dict[str, np.ndarray] = {}

    def stub(key: tuple[int, int], dx: float, dy: float, street: Street) -> None:
        length = rng.uniform(85, 110)
        bend = rng.uniform(-18, 18)
        name = f"b{len(stubs)}"
        stubs[name] = raw[key] + np.array([dx * length - dy * bend, dy * length + dx * bend])
        links.append((key, name, street))

    for j in range(2):
        for i in range(2):
            links.append(((i, j), (i + 1, j), row_street[j]))
        stub((0, j), -1, 0, row_street[j])
        stub((2, j), 1, 0, row_street[j])
    for i in range(3):
        links.append(((i, 0), (i, 1), column_street[i]))
        # Two of the southern stubs at most, so that T junctions occur.
        if i != 1 or rng.random() < 0.5:
            stub((i, 0), 0, -1, column_street[i])
    ramp_from = int(rng.integers(2))
    if ramp_from != 1:
        stub((1, 1), 0, 1, column_street[1])

    # The fast road runs along the top; the ramp leaves the grid at (ramp_from, 1).
    top = rows[1] + rng.uniform(120, 140)
    tilt = rng.uniform(-0.08, 0.08)
    merge_x = columns[ramp_from] + rng.uniform(75, 95)

    def fast(x: float) -> np.ndarray:
        return np.array([x, top + tilt * (x - merge_x) + 14.0 * math.sin((x - merge_x) / 160.0)])

    accel = rng.uniform(125, 150)
    for node, x in (
        ("f0", merge_x - 190),
        ("f1", merge_x),
        ("f2", merge_x + accel),
        ("f3", merge_x + accel + 150),
    ):
        plan.node(node, place(*fast(x)), "priority")

    for key, position in raw.items():
        if key == round_at:
            continue
        kind = "traffic_light" if key in signals else "priority_stop" if key == stop_at else "priority"
        plan.node(f"n{key[0]}{key[1]}", place(*position), kind, radius=f"{rng.uniform(6.5, 9):.1f}")
    for name, position in stubs.items():
        plan.node(name, place(*position), "priority")

    # Roundabout legs, by true bearing after rotation.
    legs: list[tuple[tuple[int, int] | str]] = []
    for a, b, _ in links:
        if a == round_at:
            legs.append((b,))
        elif b == round_at:
            legs.append((a,))
    ramp_leg = ramp_from == round_at[0] and round_at[1] == 1
    centre = place(*raw[round_at])

    def at(key: tuple[int, int] | str) -> np.ndarray:
        return place(*(stubs[key] if isinstance(key, str) else raw[key]))

    targets = [at(leg[0]) for leg in legs]
    if ramp_leg:
        targets.append(place(raw[round_at][0], raw[round_at][1] + 80.0))
    bearings = [math.atan2(*(target - centre)[::-1]) for target in targets]
    ring = roundabout(plan, rng, f"n{round_at[0]}{round_at[1]}", centre, bearings)

    def node_name(key: tuple[int, int] | str, towards: tuple[int, int] | str | None) -> str:
        if isinstance(key, str):
            return key
        if key == round_at:
            index = len(legs) if towards is None else [leg[0] for leg in legs].index(towards)
            return ring[index]
        return f"n{key[0]}{key[1]}"

    zebra_done = False
    for a, b, street in links:
        start, end = node_name(a, b), node_name(b, a)
        p, q = plan.positions[start], plan.positions[end]
        length = math.hypot(*(q - p))
        bow = rng.uniform(4, 0.11 * length) * rng.choice([-1, 1])
        shape = curve(p, q, bow, rng.uniform(-0.02, 0.02) * length)
        if not zebra_done and street is not ARTERIAL and not isinstance(b, str) and round_at not in (a, b):
            zebra_done = True
            middle = len(shape) // 2
            plan.node("zebra", shape[middle], "priority")
            plan.street(start, "zebra", street, shape[: middle + 1])
            plan.street("zebra", end, street, shape[middle:])
            plan.connections.append(
                f'<crossing node="zebra" edges="{start}_zebra zebra_{start}" priority="true" width="4"/>'
            )
            continue
        plan.street(start, end, street, shape)

    foot = node_name((ramp_from, 1), None)
    p, q = plan.positions[foot], plan.positions["f1"]
    along = place(*fast(merge_x)) - place(*fast(merge_x - 20))
    along /= np.hypot(*along)
    outwards = place(0.0, 1.0) - place(0.0, 0.0)
    # Hermite curve: leaves the town outwards, arrives along the fast road from its right-hand (town) side.
    side = outwards * 4.5
    t = np.linspace(0, 1, 21)[:, None]
    start_pull, end_pull = outwards * 120.0, along * 130.0
    end_point = q - side - along * 12.0
    h = [2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, -2 * t**3 + 3 * t**2, t**3 - t**2]
    shape = h[0] * p + h[1] * start_pull + h[2] * end_point + h[3] * end_pull
    plan.edge(foot, "f1", RAMP, np.vstack([shape, q - side * 0.9]), spread="center")

    def fast_shape(x0: float, x1: float) -> np.ndarray:
        return np.array([place(*fast(x)) for x in np.linspace(x0, x1, 17)])

    plan.edge("f0", "f1", FAST_ROAD, fast_shape(merge_x - 190, merge_x), spread="right")
    acceleration = plan.edge(
        "f1", "f2", FAST_ROAD, fast_shape(merge_x, merge_x + accel), lanes=3, spread="right"
    )
    beyond = plan.edge(
        "f2", "f3", FAST_ROAD, fast_shape(merge_x + accel, merge_x + accel + 150), spread="right"
    )
    for lane in range(2):
        plan.connections.append(
            f'<connection from="f0_f1" to="{acceleration}" fromLane="{lane}" toLane="{lane + 1}"/>'
        )
        plan.connections.append(
            f'<connection from="{acceleration}" to="{beyond}" fromLane="{lane + 1}" toLane="{lane}"/>'
        )
    plan.connections.append(f'<connection from="{foot}_f1" to="{acceleration}" fromLane="0" toLane="0"/>')
    return plan


def netconvert_program() -> str:
    for candidate in (Path(sys.executable).parent / "netconvert", shutil.which("netconvert")):
        if candidate and Path(candidate).exists():
            return str(candidate)
    raise SystemExit(
        "netconvert was not found: install eclipse-sumo 1.28.0 in this environment, then run again."
    )


def build(name: str, seed: int, out: Path) -> int:
    """Write <out>/<name>.net.xml.gz; returns its size in bytes."""
    plan = town(seed)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "n.xml").write_text("<nodes>" + "\n".join(plan.nodes) + "</nodes>")
        (base / "e.xml").write_text("<edges>" + "\n".join(plan.edges) + "</edges>")
        (base / "c.xml").write_text("<connections>" + "\n".join(plan.connections) + "</connections>")
        command = [
            netconvert_program(),
            "-n",
            str(base / "n.xml"),
            "-e",
            str(base / "e.xml"),
            "-x",
            str(base / "c.xml"),
            "-o",
            str(base / "o.net.xml"),
            "--seed",
            str(seed),
            "--no-turnarounds",
            "true",
            "--crossings.guess",
            "true",
            "--crossings.guess.speed-threshold",
            "13.9",
            "--walkingareas",
            "true",
            "--default.crossing-width",
            "3.5",
            "--junctions.internal-link-detail",
            "10",
            "--junctions.corner-detail",
            "4",
            "--junctions.limit-turn-speed",
            "3.0",
            "--default.junctions.radius",
            "6",
            "--tls.cycle.time",
            "40",
            "--tls.yellow.time",
            "3",
            "--tls.allred.time",
            "1",
            "--tls.left-green.time",
            "0",
            "--precision",
            "2",
            "--output.street-names",
            "false",
            "--offset.disable-normalization",
            "false",
            "--rectangular-lane-cut",
            "false",
            "--no-warnings",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        text = (base / "o.net.xml").read_text()
    # The head holds a date and machine paths: left out, so that a network is made again byte for byte.
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    path = out / f"{name}.net.xml.gz"
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.encode())
    return path.stat().st_size


def shipped_names() -> list[tuple[str, int]]:
    """(network name, seed) of every shipped network."""
    return [
        (f"{split}_{i:02d}", first + i) for split, (count, first) in SPLIT_SEEDS.items() for i in range(count)
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", help="make this network alone, for example train_03")
    parser.add_argument("--out", type=Path, default=FOLDER)


def run(options: argparse.Namespace) -> int:
    for name, seed in shipped_names():
        if options.only in (None, name):
            print(f"{name}: {build(name, seed, options.out) / 1000:.1f} kB")
    return 0
