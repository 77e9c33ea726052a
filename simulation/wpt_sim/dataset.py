"""``wpt-sim dataset``: expert drives in the nuScenes format.

Beside the 13 tables, in the version's folder:

    command.json              the command by sample token, from the route graph (source ROUTE)
    unlabelled_samples.txt    tokens of samples whose future holds a disturbance, or that lie in one: no labels
    samples_natural.txt       tokens of the natural-traffic scenes' samples
    samples_interactive.txt   tokens of the samples that interaction.is_interactive tells
    scenes.json               by scene: episode, scene log, shift from map to global frame, disturbances; dropped drives
    dataset_card.md, .json    distributions
    routes.json, signals.json, lane_directions/   what the road asks of the ego (see road_labels)

and in ``scene_logs/`` of the data set's root the log of every scene. Token files have one token a line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2

from wpt_scenes.tables import NuScenesTables
from wpt_scenes.writer import MapMask, write_tables

from wpt_sim.dataset_card import SCENE_0103, make_card, write_card
from wpt_sim.disturbance import draw_disturbances, excluded
from wpt_sim.drivable_raster import drivable_raster
from wpt_sim.drive_recording import DRIVERS, record_drive
from wpt_sim.episode import make_episode, scenario_names
from wpt_sim.errors import SimulationError
from wpt_sim.image_size import image_size, require_wide
from wpt_sim.interaction import is_interactive
from wpt_sim.network import SPLITS, load_road_map
from wpt_sim.renderer.rigs import bench2drive_rig, nuscenes_rig
from wpt_sim.road_labels import SignalAhead, signal_ahead, write_lane_directions, write_routes, write_signals
from wpt_sim.sample_lists import write_commands, write_token_list
from wpt_sim.scene_export import ExportedScene, export_scene
from wpt_sim.scene_log_file import ENDING, write_log

RIGS = {"nuscenes": nuscenes_rig, "bench2drive": bench2drive_rig}
# Families in turn: three natural drives of eight.
FAMILY_TURN = (
    "natural", "give_way", "emergency_brake", "natural", "traffic_signs", "overtaking", "natural", "merging",
)  # fmt: skip
# A slot of the data set tries so many episodes before it is given up.
ATTEMPTS = 10
MOST_SCENES = 9999
MOST_SEED = 999
SHORTEST_S = 4.0
DISTURBED_SPLIT = "train"


@dataclass(frozen=True, kw_only=True)
class DatasetOrder:
    """What is to be written. seed: 0 to MOST_SEED; the same order gives the same scenes with any number of workers."""

    out: Path
    split: str
    scenes: int
    seed: int
    image_size: tuple[int, int] = (1600, 900)
    sweeps: bool = True
    jpeg_quality: int = 90
    driver: str = "expert"
    rig: str = "nuscenes"

    @property
    def version(self) -> str:
        return f"v1.0-wpt-sim-{self.split}"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise SimulationError(f"split {self.split!r} is unknown: choose one of {', '.join(SPLITS)}.")
        if not 1 <= self.scenes <= MOST_SCENES:
            raise SimulationError(f"{self.scenes} scenes were asked for: choose 1 to {MOST_SCENES} for one version.")
        if not 0 <= self.seed <= MOST_SEED:
            raise SimulationError(f"seed {self.seed} is out of range: choose 0 to {MOST_SEED}.")
        require_wide(self.image_size)
        if self.driver not in DRIVERS:
            raise SimulationError(f"driver {self.driver!r} is unknown: choose one of {', '.join(DRIVERS)}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeScene:
    """exported: None where every attempt was dropped. dropped: a sentence for each dropped drive.

    interactive, signals: by keyframe.
    """

    number: int
    exported: ExportedScene | None
    dropped: tuple[str, ...]
    interactive: tuple[bool, ...] = ()
    signals: tuple[SignalAhead | None, ...] = ()


def write_dataset(order: DatasetOrder, *, workers: int = 1, on_scene=None) -> Path:
    """Write a version of a data set and return its folder with the tables.

    on_scene: called with each MadeScene as it is finished. Raises SimulationError or DatasetError (version exists), and
    SimulationError when no drive at all was usable.
    """
    folder = order.out / order.version
    if folder.exists():
        raise SimulationError(f"{folder} exists already: remove it or choose another --out.")
    made = []
    for scene in _made(order, workers):
        made.append(scene)
        if on_scene is not None:
            on_scene(scene)
    made.sort(key=lambda scene: scene.number)
    kept = [scene for scene in made if scene.exported is not None]
    if not kept:
        reasons = "; ".join(made[0].dropped[:2])
        raise SimulationError(f"every drive was dropped (first: {reasons}): choose another seed or driver.")
    write_tables(order.out, order.version, [scene.exported.writer for scene in kept], _maps(kept))
    _write_lists(folder, kept)
    _write_road_labels(folder, kept)
    _write_scenes(order, folder, made)
    card = make_card(NuScenesTables.load(order.out, order.version))
    write_card(folder, [card, SCENE_0103], _notes(order, made), _counts(made))
    return folder


def make_scene(order: DatasetOrder, number: int) -> MadeScene:
    """Drive and render scene ``number``: episodes of its family until the driver makes no infraction."""
    cv2.setNumThreads(1)
    family = FAMILY_TURN[number % len(FAMILY_TURN)]
    scenarios = scenario_names(family)
    turn = FAMILY_TURN.count(family) * (number // len(FAMILY_TURN)) + FAMILY_TURN[: number % len(FAMILY_TURN)].count(family)
    scenario = scenarios[turn % len(scenarios)]
    dropped = []
    for attempt in range(ATTEMPTS):
        spec = make_episode(order.split, family, scenario, episode_seed(order.split, order.seed, number, attempt))
        disturbances = draw_disturbances(spec) if order.split == DISTURBED_SPLIT else ()
        drive = record_drive(spec, driver=order.driver, disturbances=disturbances)
        if not drive.clean:
            dropped.append(f"{spec.name}: {drive.log.infractions[0]}")
            continue
        if drive.log.duration_s < SHORTEST_S:
            dropped.append(f"{spec.name}: only {drive.log.duration_s:.1f} s long")
            continue
        name = f"wpt-sim-{order.split}-{order.seed:03d}-{number:04d}"
        write_log(order.out / "scene_logs" / f"{name}{ENDING}", drive.log)
        exported = export_scene(
            drive.log,
            order.out,
            name,
            RIGS[order.rig](*order.image_size),
            number=number,
            sweeps=order.sweeps,
            jpeg_quality=order.jpeg_quality,
        )
        return MadeScene(
            number=number,
            exported=exported,
            dropped=tuple(dropped),
            interactive=tuple(is_interactive(drive.log, time_s) for time_s in exported.times_s),
            signals=tuple(
                signal_ahead(spec.road_map, spec.route, drive.log.state_at(time_s)) for time_s in exported.times_s
            ),
        )
    return MadeScene(number=number, exported=None, dropped=tuple(dropped))


def episode_seed(split: str, seed: int, number: int, attempt: int) -> int:
    """Return the episode's seed: no two splits, seeds, scenes or attempts share one."""
    return ((SPLITS.index(split) * (MOST_SEED + 1) + seed) * (MOST_SCENES + 1) + number) * ATTEMPTS + attempt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenes", type=int, required=True, help="how many drives")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=SPLITS, default="train", help="which networks and seeds")
    parser.add_argument("--out", type=Path, required=True, help="data set root (several splits may share it)")
    parser.add_argument("--image-size", type=image_size, default=(1600, 900), metavar="WxH", help="16:9")
    parser.add_argument("--no-sweeps", action="store_true", help="keyframe images only (for training data)")
    parser.add_argument("--jpeg-quality", type=int, default=90)
    parser.add_argument("--rig", choices=sorted(RIGS), default="nuscenes")
    parser.add_argument("--driver", choices=sorted(DRIVERS), default="expert")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")


def run(arguments: argparse.Namespace) -> int:
    order = DatasetOrder(
        out=arguments.out,
        split=arguments.split,
        scenes=arguments.scenes,
        seed=arguments.seed,
        image_size=arguments.image_size,
        sweeps=not arguments.no_sweeps,
        jpeg_quality=arguments.jpeg_quality,
        driver=arguments.driver,
        rig=arguments.rig,
    )
    begin, done = time.monotonic(), 0

    def show(scene: MadeScene) -> None:
        nonlocal done
        done += 1
        for reason in scene.dropped:
            print(f"dropped {reason}")
        if scene.exported is not None:
            log = scene.exported.log
            print(
                f"[{done}/{order.scenes}] {scene.exported.writer.name}  {log.spec.family}/{log.spec.scenario} on "
                f"{log.spec.network}, {log.duration_s:.1f} s, {len(scene.exported.tokens)} keyframes  "
                f"({time.monotonic() - begin:.0f} s)",
                flush=True,
            )

    folder = write_dataset(order, workers=max(1, arguments.workers), on_scene=show)
    print((folder / "dataset_card.md").read_text(encoding="utf-8"))
    print(f"tables {folder}")
    return 0


def _made(order: DatasetOrder, workers: int) -> Iterator[MadeScene]:
    if workers == 1 or order.scenes == 1:
        yield from (make_scene(order, number) for number in range(order.scenes))
        return
    # Fresh processes: SUMO holds one simulation a process, and OpenCV's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=min(workers, order.scenes), mp_context=context) as pool:
        futures = [pool.submit(make_scene, order, number) for number in range(order.scenes)]
        for future in as_completed(futures):
            yield future.result()


def _maps(kept: Sequence[MadeScene]) -> list[MapMask]:
    logs: dict[str, list[str]] = {}
    for scene in kept:
        writer = scene.exported.writer
        logs.setdefault(writer.log.location, []).append(writer.log.name)
    return [
        MapMask(name=name, mask=drivable_raster(load_road_map(name)).mask, logs=tuple(drives))
        for name, drives in sorted(logs.items())
    ]


def _write_lists(folder: Path, kept: Sequence[MadeScene]) -> None:
    commands, unlabelled, natural, interactive = {}, [], [], []
    for scene in kept:
        exported = scene.exported
        for index, token in enumerate(exported.tokens):
            commands[token] = exported.commands[index]
            if excluded(exported.times_s[index], exported.log.disturbances):
                unlabelled.append(token)
            if exported.log.spec.family == "natural":
                natural.append(token)
            if scene.interactive[index]:
                interactive.append(token)
    write_commands(folder, commands)
    for name, title, tokens in (
        ("unlabelled_samples", "in a disturbance, or less than 3 s before its end: no labels", unlabelled),
        ("samples_natural", "of natural-traffic scenes", natural),
        ("samples_interactive", "another actor within 2 m of the ego-lane corridor within 4 s", interactive),
    ):
        write_token_list(folder / f"{name}.txt", title, tokens)


def _write_road_labels(folder: Path, kept: Sequence[MadeScene]) -> None:
    exported = [scene.exported for scene in kept]
    write_routes(folder, {scene.writer.name: (scene.log.spec.route, scene.shift) for scene in exported})
    signals = {}
    for scene in kept:
        for token, signal in zip(scene.exported.tokens, scene.signals, strict=True):
            if signal is not None:
                signals[token] = (signal, scene.exported.shift)
    write_signals(folder, signals)
    for name in sorted({scene.log.spec.network for scene in exported}):
        write_lane_directions(folder, load_road_map(name))


def _write_scenes(order: DatasetOrder, folder: Path, made: Sequence[MadeScene]) -> None:
    scenes = {}
    for scene in made:
        if scene.exported is None:
            continue
        log = scene.exported.log
        scenes[scene.exported.writer.name] = {
            "scene_log": f"scene_logs/{scene.exported.writer.name}{ENDING}",
            "epoch_us": scene.exported.schedule.epoch_us,
            "global_minus_map": list(scene.exported.shift),
            "light": log.appearance.light,
            "episode": json.loads(log.spec.to_json()),
            "disturbances": [[d.kind, d.begin_s, d.end_s] for d in log.disturbances],
        }
    text = {"format": 1, "seed": order.seed, "driver": order.driver, "rig": order.rig, "scenes": scenes, **_counts(made)}
    (folder / "scenes.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def _counts(made: Sequence[MadeScene]) -> dict:
    kept = [scene for scene in made if scene.exported is not None]
    return {
        "drives": len(kept) + sum(len(scene.dropped) for scene in made),
        "dropped": [reason for scene in made for reason in scene.dropped],
        "scenes_given_up": len(made) - len(kept),
        "disturbed_scenes": sum(bool(scene.exported.log.disturbances) for scene in kept),
        "unlabelled": sum(
            excluded(time_s, scene.exported.log.disturbances) for scene in kept for time_s in scene.exported.times_s
        ),
        "interactive": sum(sum(scene.interactive) for scene in kept),
        "interactive_scenes": sum(any(scene.interactive) for scene in kept),
        "natural": sum(len(s.exported.tokens) for s in kept if s.exported.log.spec.family == "natural"),
    }


def _notes(order: DatasetOrder, made: Sequence[MadeScene]) -> list[str]:
    counts = _counts(made)
    return [
        "simulated by wpt_sim: procedural roads, SUMO traffic, painted images; a policy trained on it knows no real images",
        f"split {order.split}, seed {order.seed}, driver {order.driver}, rig {order.rig}, "
        f"images {order.image_size[0]}x{order.image_size[1]}, " + ("with 12 Hz sweeps" if order.sweeps else "keyframes only"),
        f"{counts['drives']} drives, {len(counts['dropped'])} dropped (infraction or too short), "
        f"{counts['scenes_given_up']} scenes given up",
        f"{counts['disturbed_scenes']} scenes with disturbances, {counts['unlabelled']} samples without labels",
        f"natural part {counts['natural']} samples; interactive part {counts['interactive']} samples of "
        f"{counts['interactive_scenes']} scenes",
    ]
