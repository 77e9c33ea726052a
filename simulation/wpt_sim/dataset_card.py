"""What a data set holds, as distributions: ``wpt-sim card`` prints one column a split, beside real nuScenes.

Computed from the tables alone, so that simulated and real data are measured by the same rules: speed and turn from the
recorded ego poses, others from the annotated boxes. Units are SI.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from wpt_policy import se3
from wpt_policy.frame import EgoState
from wpt_scenes.ego import ego_state_at
from wpt_scenes.metrics.rectangles import EgoFootprint, overlap
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Keyframe, Scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import derived_command

from wpt_sim.errors import SimulationError
from wpt_sim.sample_lists import read_commands

PERCENTILES = (5, 25, 50, 75, 95)
STANDSTILL = 0.2  # m/s
TTC_LIMITS_S = (1.0, 2.0, 3.0)
_TTC_HORIZON_S, _TTC_STEP_S = 5.0, 0.1
_VISIBLE_RANGE_M = 50.0
# Below this speed a curvature is a quotient of two noises.
_CURVATURE_SPEED = 1.0
_OTHERS = ("vehicle.", "human.")
# Share of nuScenes that is driving straight on, as published by Li et al., 2024 ("Is Ego Status All You Need for
# Open-Loop End-to-End Autonomous Driving?").
NUSCENES_STRAIGHT = 0.739


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """Distributions by name: {"mean", "p5" ...}, empty where nothing was measured; shares 0..1. commands_by_future: the nuScenes rule (reads the future);
    commands_by_route: from the route graph, empty where the data has none. ttc_below: share of keyframes by seconds.
    """

    name: str
    scenes: int
    keyframes: int
    hours: float
    speed: dict[str, float]
    acceleration: dict[str, float]
    curvature: dict[str, float]
    standstill: float
    visible_actors: dict[str, float]
    ttc_below: dict[str, float]
    commands_by_future: dict[str, float]
    commands_by_route: dict[str, float]


def make_card(tables: NuScenesTables, scene_names: Sequence[str] | None = None, name: str = "") -> DatasetCard:
    """Measure some scenes of a data set (all by default). Raises SimulationError where no keyframe has a known speed."""
    names = tables.scene_names() if scene_names is None else tuple(scene_names)
    values: dict[str, list[float]] = {"speed": [], "acceleration": [], "curvature": [], "actors": [], "ttc": []}
    by_future: Counter[str] = Counter()
    by_route: Counter[str] = Counter()
    commands = read_commands(tables.dataroot / tables.version)
    keyframes, nanoseconds = 0, 0
    for scene_name in names:
        scene = load_scene(tables, scene_name)
        keyframes += len(scene.keyframes)
        nanoseconds += scene.keyframes[-1].stamp_ns - scene.keyframes[0].stamp_ns
        for keyframe in scene.keyframes:
            _measure(scene, keyframe, values)
            by_future[derived_command(scene, keyframe.index)[0].label] += 1
            if keyframe.sample_token in commands:
                by_route[commands[keyframe.sample_token].label] += 1
    if not values["speed"]:
        raise SimulationError(
            f"no keyframe of {tables.version} has a known speed: a card needs scenes with two ego poses at least."
        )
    by_future.pop("unknown", None)  # the last keyframe of a scene has no future
    speeds, times = np.array(values["speed"]), np.array(values["ttc"])
    return DatasetCard(
        name=name or tables.version,
        scenes=len(names),
        keyframes=keyframes,
        hours=round(nanoseconds / 3.6e12, 3),
        speed=_distribution(speeds),
        acceleration=_distribution(values["acceleration"]),
        curvature=_distribution(np.abs(values["curvature"])),
        standstill=round(float(np.mean(speeds < STANDSTILL)), 4),
        visible_actors=_distribution(values["actors"]),
        ttc_below={f"{limit:g}": round(float(np.mean(times < limit)), 4) for limit in TTC_LIMITS_S},
        commands_by_future=_shares(by_future),
        commands_by_route=_shares(by_route),
    )


def time_to_collision(keyframe: Keyframe, ego: EgoState) -> float:
    """Return the seconds until the ego's footprint meets a box, all going on at constant velocity; inf beyond 5 s."""
    footprint = EgoFootprint()
    boxes = [box for box in keyframe.boxes if box.category.startswith(_OTHERS) and np.all(np.isfinite(box.velocity))]
    if not boxes:
        return math.inf
    times = np.arange(0.0, _TTC_HORIZON_S + 1e-9, _TTC_STEP_S)
    yaw = se3.yaw_of(keyframe.global_from_base)
    forward = np.array([math.cos(yaw), math.sin(yaw)])
    start = keyframe.global_from_base[:2, 3] + footprint.centre_ahead_m * forward
    mine = start + ego.speed * times[:, None, None] * forward
    theirs = np.array([box.global_from_box[:2, 3] for box in boxes])
    theirs = theirs + times[:, None, None] * np.array([box.velocity[:2] for box in boxes])
    hits = overlap(
        mine,
        np.array(yaw),
        footprint.half_size,
        theirs,
        np.array([se3.yaw_of(box.global_from_box) for box in boxes]),
        np.array([box.size_lwh[:2] / 2.0 for box in boxes]),
    ).any(axis=1)
    return float(times[np.argmax(hits)]) if hits.any() else math.inf


def card_markdown(cards: Sequence[DatasetCard]) -> str:
    """Return one table with a column a card."""
    rows = [
        ("scenes", lambda c: f"{c.scenes}"),
        ("keyframes", lambda c: f"{c.keyframes}"),
        ("hours", lambda c: f"{c.hours:.2f}"),
        ("speed, m/s: mean", lambda c: _listed_percentiles(c.speed, 2, ("mean",))),
        ("speed, m/s: 5 / 50 / 95 %", lambda c: _listed_percentiles(c.speed)),
        ("acceleration, m/s2: 5 / 50 / 95 %", lambda c: _listed_percentiles(c.acceleration)),
        ("curvature, 1/m: 50 / 95 %", lambda c: _listed_percentiles(c.curvature, 4, ("p50", "p95"))),
        ("standstill (below 0.2 m/s)", lambda c: _percent(c.standstill)),
        ("others within 50 m: 5 / 50 / 95 %", lambda c: _listed_percentiles(c.visible_actors, 0)),
        *[
            (f"time to collision below {limit:g} s", lambda c, key=f"{limit:g}": _percent(c.ttc_below[key]))
            for limit in TTC_LIMITS_S
        ],
        ("command by the future: straight", lambda c: _percent(c.commands_by_future.get("straight", 0.0))),
        ("command by the future: left", lambda c: _percent(c.commands_by_future.get("left", 0.0))),
        ("command by the future: right", lambda c: _percent(c.commands_by_future.get("right", 0.0))),
        ("command by the route", lambda c: _listed(c.commands_by_route)),
    ]
    lines = ["| | " + " | ".join(card.name for card in cards) + " |", "|---|" + "---|" * len(cards)]
    lines += [f"| {title} | " + " | ".join(shown(card) for card in cards) + " |" for title, shown in rows]
    lines += [
        "",
        f"Of nuScenes as a whole {NUSCENES_STRAIGHT:.1%} is published as driving straight on. Command by the future: 2 m to a "
        "side after six keyframes.",
    ]
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="data set root")
    parser.add_argument("--version", required=True, nargs="+", help="one or more versions, a column each")
    parser.add_argument("--scene", nargs="+", help="only these scenes")
    parser.add_argument("--real", action="store_true", help="add the column of real scene-0103")
    parser.add_argument("--out", type=Path, help="write card.json and card.md into this folder too")


def run(arguments: argparse.Namespace) -> int:
    cards = [make_card(NuScenesTables.load(arguments.data, version), arguments.scene) for version in arguments.version]
    cards += [SCENE_0103] if arguments.real else []
    print(card_markdown(cards))
    if arguments.out is not None:
        write_card(arguments.out, cards)
    return 0


def write_card(folder: Path, cards: Sequence[DatasetCard], notes: Sequence[str] = (), extra: dict | None = None) -> None:
    """Write dataset_card.md and dataset_card.json. notes: lines above the table; extra: further JSON fields."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join([f"# {cards[0].name}", "", *[f"- {note}" for note in notes], "", card_markdown(cards), ""])
    (folder / "dataset_card.md").write_text(text, encoding="utf-8")
    values = {"cards": [asdict(card) for card in cards], "nuscenes_straight": NUSCENES_STRAIGHT, **(extra or {})}
    (folder / "dataset_card.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _measure(scene: Scene, keyframe: Keyframe, values: dict[str, list[float]]) -> None:
    ego = ego_state_at(scene.poses, keyframe.stamp_ns)
    if ego is not None:
        values["speed"].append(max(ego.speed, 0.0))
        before, after = (ego_state_at(scene.poses, keyframe.stamp_ns + offset) for offset in (-250_000_000, 250_000_000))
        if before is not None and after is not None:
            values["acceleration"].append((after.speed - before.speed) / 0.5)
        if ego.speed > _CURVATURE_SPEED:
            values["curvature"].append(float(ego.angular_velocity[2]) / ego.speed)
        values["ttc"].append(time_to_collision(keyframe, ego))
    here = keyframe.global_from_base[:2, 3]
    near = [
        box for box in keyframe.boxes
        if box.category.startswith(_OTHERS) and np.linalg.norm(box.global_from_box[:2, 3] - here) < _VISIBLE_RANGE_M
    ]  # fmt: skip
    values["actors"].append(len(near))


def _distribution(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    if len(values) == 0:
        return {}
    found = np.percentile(values, PERCENTILES)
    result = {"mean": float(np.mean(values)), **{f"p{p}": float(v) for p, v in zip(PERCENTILES, found, strict=True)}}
    return {key: round(value, 5) for key, value in result.items()}


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {label: round(count / total, 4) for label, count in sorted(counts.items())}


def _listed_percentiles(
    values: dict[str, float], digits: int = 2, keys: Sequence[str] = ("p5", "p50", "p95")
) -> str:
    return " / ".join(f"{values[key]:.{digits}f}" for key in keys) if values else "-"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{label} {share:.0%}" for label, share in sorted(shares.items(), key=lambda i: -i[1])) or "-"


# Measured by make_card on the 40 keyframes of real nuScenes' scene-0103.
SCENE_0103 = DatasetCard(
    name="real scene-0103",
    scenes=1,
    keyframes=40,
    hours=0.005,
    speed={"mean": 6.13029, "p5": 1.69704, "p25": 3.85624, "p50": 6.90177, "p75": 8.38893, "p95": 9.02535},
    acceleration={"mean": -0.01002, "p5": -2.413, "p25": -0.12019, "p50": 0.30834, "p75": 0.77883, "p95": 1.0299},
    curvature={"mean": 0.00217, "p5": 0.00012, "p25": 0.00057, "p50": 0.00128, "p75": 0.00267, "p95": 0.0076},
    standstill=0.0,
    visible_actors={"mean": 42.025, "p5": 28.8, "p25": 39.0, "p50": 43.0, "p75": 46.5, "p95": 51.1},
    ttc_below={"1": 0.0, "2": 0.0, "3": 0.025},
    commands_by_future={"right": 0.1026, "straight": 0.8974},
    commands_by_route={},
)
