"""``wpt-sim sheet``: what a drive looks like, as one picture; the pictures of docs/world.md are made by it.

A scenario family is driven on the spot (one episode a scenario), a scene log is read, or a scene of a data set is shown
from its image files. Rows are moments, columns the front left, front and front right cameras (and the three rear ones).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from wpt_scenes.frames import read_image
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

from wpt_sim.drive_recording import DRIVERS, record_drive
from wpt_sim.episode import families, make_episode, scenario_names
from wpt_sim.errors import SimulationError
from wpt_sim.network import SPLITS
from wpt_sim.renderer import Renderer
from wpt_sim.renderer.rigs import nuscenes_rig
from wpt_sim.scene_log import SceneLog
from wpt_sim.scene_log_file import read_log

FRONT = ("cam_front_left", "cam_front", "cam_front_right")
REAR = ("cam_back_left", "cam_back", "cam_back_right")
# Moments of a scripted drive: metres before the conflict.
_BEFORE_CONFLICT_M = (22.0, 6.0)
_NATURAL_SHARES = (0.3, 0.65)


def sheet_of_log(log: SceneLog, times_s: Sequence[float], *, width: int = 480, rear: bool = False) -> np.ndarray:
    """Return an RGB picture: a row a moment, three (or six) cameras of ``width`` pixels."""
    cameras = FRONT + REAR if rear else FRONT
    renderer = Renderer(log.road_map, nuscenes_rig(width, width * 9 // 16), log.appearance)
    rows = []
    for time_s in times_s:
        state = log.state_at(time_s)
        text = (
            f"{log.spec.family}/{log.spec.scenario}  {log.spec.network}  {time_s:.1f} s  {3.6 * state.ego.speed:.0f} km/h  "
            f"{log.command_at(time_s).label}"
        )
        tiles = [renderer.render_camera(camera, state).rgb for camera in cameras]
        rows.append(_row(tiles, text))
    return np.vstack(rows)


def sheet_of_family(
    family: str, *, split: str = "dev", seed: int = 0, driver: str = "expert", width: int = 480
) -> np.ndarray:
    """Return an RGB picture with two moments of one episode of every scenario of the family."""
    rows = []
    for scenario in scenario_names(family):
        log = record_drive(make_episode(split, family, scenario, seed), driver=driver).log
        rows.append(sheet_of_log(log, telling_times(log), width=width))
    return np.vstack(rows)


def telling_times(log: SceneLog) -> tuple[float, ...]:
    """Return moments at which one sees what a drive is about: shortly before its conflict, or spread over it."""
    if log.spec.conflict_s is None:
        return tuple(round(share * log.duration_s, 1) for share in _NATURAL_SHARES)
    route = log.spec.route
    places, near = [], None
    for state in log.states():
        near, _ = route.project(state.ego.x, state.ego.y, near)
        places.append(near)
    distances = log.spec.conflict_s - np.array(places)
    return tuple(round(0.1 * int(np.argmin(np.abs(distances - before))), 1) for before in _BEFORE_CONFLICT_M)


def sheet_of_scene(
    root: Path, version: str, scene_name: str, keyframes: Sequence[int], *, width: int = 480, rear: bool = True
) -> np.ndarray:
    """Return an RGB picture of some keyframes from the image files of a data set."""
    scene = load_scene(NuScenesTables.load(root, version), scene_name)
    rows = []
    for index in keyframes:
        if not 0 <= index < len(scene.keyframes):
            raise SimulationError(f"{scene_name} has no keyframe {index}: choose 0 to {len(scene.keyframes) - 1}.")
        images = scene.keyframes[index].images
        for cameras in (FRONT, REAR) if rear else (FRONT,):
            tiles = []
            for camera in cameras:
                image = cv2.imdecode(np.frombuffer(read_image(images[camera]), dtype=np.uint8), cv2.IMREAD_COLOR)
                if image is None:
                    raise SimulationError(f"{images[camera].path} is no image: write the data set again.")
                small = cv2.resize(image, (width, width * 9 // 16), interpolation=cv2.INTER_AREA)
                tiles.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
            rows.append(_row(tiles, f"{version}  {scene_name}  keyframe {index}  {cameras[1]}"))
    return np.vstack(rows)


def write_sheet(path: Path, sheet: np.ndarray, quality: int = 78) -> None:
    """Write a picture as JPEG (or PNG, by its ending); raises SimulationError where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise SimulationError(f"{path} could not be written: check its folder and ending (.jpg).")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--family", choices=families(), help="drive one episode of each of its scenarios")
    what.add_argument("--log", type=Path, help="a scene log")
    what.add_argument("--data", type=Path, help="a data set's root, with --version and --scene")
    parser.add_argument("--version")
    parser.add_argument("--scene")
    parser.add_argument("--times", type=float, nargs="+", help="seconds of a scene log (default: four, evenly)")
    parser.add_argument("--keyframes", type=int, nargs="+", default=[5, 20], help="of a data set's scene")
    parser.add_argument("--split", choices=SPLITS, default="dev", help="of the episodes of a family")
    parser.add_argument("--seed", type=int, default=0, help="of the episodes of a family")
    parser.add_argument("--driver", choices=sorted(DRIVERS), default="expert")
    parser.add_argument("--width", type=int, default=400, help="pixels of one image")
    parser.add_argument("--out", type=Path, required=True)


def run(arguments: argparse.Namespace) -> int:
    if arguments.family:
        sheet = sheet_of_family(
            arguments.family, split=arguments.split, seed=arguments.seed, driver=arguments.driver, width=arguments.width
        )
    elif arguments.log:
        log = read_log(arguments.log)
        times = arguments.times or [round(share * log.duration_s, 1) for share in (0.05, 0.35, 0.65, 0.95)]
        sheet = sheet_of_log(log, times, width=arguments.width)
    else:
        if not (arguments.version and arguments.scene):
            raise SimulationError("a data set's picture needs a version and a scene: give --version and --scene.")
        sheet = sheet_of_scene(
            arguments.data, arguments.version, arguments.scene, arguments.keyframes, width=arguments.width
        )
    write_sheet(arguments.out, sheet)
    print(f"{arguments.out}  {sheet.shape[1]}x{sheet.shape[0]}, {arguments.out.stat().st_size // 1024} kB")
    return 0


def _row(tiles: Sequence[np.ndarray], text: str) -> np.ndarray:
    gap = np.full((tiles[0].shape[0], 2, 3), 32, dtype=np.uint8)
    row = np.hstack([part for tile in tiles for part in (tile, gap)][:-1])
    bar = np.full((20, row.shape[1], 3), 32, dtype=np.uint8)
    cv2.putText(bar, text, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([bar, row])
