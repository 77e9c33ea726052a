"""Data sets that the tests of this package share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from wpt_policy import se3
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.writer import DriveLog, MapMask, SceneWriter, write_tables

REPOSITORY = Path(__file__).resolve().parents[4]
NUSCENES_VERSION = "v1.0-subset"
SMALL_VERSION = "v1.0-small"
START_NS = 1_700_000_000_000_000_000


@pytest.fixture(scope="session")
def factory_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine keyframes with sweeps, six cameras of 320x180."""
    return write_factory_scene(tmp_path_factory.mktemp("factory"), keyframes=9)


@pytest.fixture(scope="session")
def factory_tables(factory_root: Path) -> NuScenesTables:
    return NuScenesTables.load(factory_root, FACTORY_VERSION)


@pytest.fixture(scope="session")
def factory_scene(factory_tables: NuScenesTables) -> Scene:
    return load_scene(factory_tables, FACTORY_SCENE)


@pytest.fixture(scope="session")
def nuscenes_root() -> Path:
    """A piece of real nuScenes, named by WPT_NUSCENES or beside the repository; not part of it."""
    root = Path(os.environ.get("WPT_NUSCENES", REPOSITORY.parent / "shared" / "nuscenes"))
    if not (root / NUSCENES_VERSION).is_dir():
        pytest.skip(f"no real nuScenes piece at {root} ({NUSCENES_VERSION}); name one with WPT_NUSCENES")
    return root


@pytest.fixture(scope="session")
def nuscenes_tables(nuscenes_root: Path) -> NuScenesTables:
    return NuScenesTables.load(nuscenes_root, NUSCENES_VERSION)


@pytest.fixture(scope="session")
def scene_0103(nuscenes_tables: NuScenesTables) -> Scene:
    return load_scene(nuscenes_tables, "scene-0103")


@pytest.fixture(scope="session")
def scene_0061(nuscenes_tables: NuScenesTables) -> Scene:
    return load_scene(nuscenes_tables, "scene-0061")


def write_small_dataset(root: Path, *, lidar: bool = True) -> Path:
    """Two scenes of one drive, straight at 10 m/s: four keyframes 0.5 s apart, two cameras, one sweep each.

    A parked car stands 20 m ahead of the start; a pedestrian is annotated in keyframes 0 and 3 alone. No
    image files.
    """
    log = DriveLog(name="drive", vehicle="car", location="street", date="2026-01-01")
    scenes = []
    for number in range(2):
        writer = SceneWriter(root, f"scene-{number}", log=log, description="a straight line")
        for channel, yaw in (("CAM_FRONT", 0.0), ("CAM_BACK", np.pi)):
            mount = se3.planar(1.0, 0.0, yaw)
            mount[:3, :3] = mount[:3, :3] @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
            mount[2, 3] = 1.5
            intrinsics = np.array([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]])
            writer.add_camera(channel, base_from_camera=mount, intrinsics=intrinsics, width=160, height=90)
        if lidar:
            writer.add_sensor(
                "LIDAR_TOP", modality="lidar", base_from_sensor=se3.planar(0.94, 0.0, -np.pi / 2)
            )
        start = START_NS + number * 10_000_000_000
        for index in range(4):
            stamp = start + index * 500_000_000
            writer.add_keyframe(stamp)
            if lidar:
                writer.add_file("LIDAR_TOP", stamp, straight_pose(stamp - start), b"", keyframe=index)
            for channel, offset_ms in (("CAM_FRONT", -35), ("CAM_BACK", -10)):
                exposure = stamp + offset_ms * 1_000_000
                writer.add_file(channel, exposure, straight_pose(exposure - start), None, keyframe=index)
                if index == 1:
                    sweep = exposure + 250_000_000
                    writer.add_file(channel, sweep, straight_pose(sweep - start), None, keyframe=None)
            car = se3.planar(20.0, 3.0, np.pi)
            writer.add_box(index, "car", "vehicle.car", car, (4.5, 1.9, 1.6), visibility=4, num_lidar_pts=9)
            if index in (0, 3):
                walker = se3.planar(10.0, -3.0 + index, np.pi / 2)
                writer.add_box(
                    index, "walker", "human.pedestrian.adult", walker, (0.6, 0.6, 1.7), visibility=2,
                    num_lidar_pts=1, attributes=("pedestrian.moving",),
                )  # fmt: skip
        scenes.append(writer)
    write_tables(root, SMALL_VERSION, scenes, [MapMask(name="street", mask=np.ones((8, 8)), logs=("drive",))])
    return root


def straight_pose(since_start_ns: int) -> np.ndarray:
    return se3.planar(10.0 * since_start_ns / 1e9, 0.0, 0.0)


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_dataset(tmp_path_factory.mktemp("small"))


@pytest.fixture
def edited(small_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Call with (table, function of its rows): returns a copy of the small data set so changed."""

    def edit(table: str, change: Callable[[list[dict]], object]) -> Path:
        root = tmp_path / "edited"
        if not root.exists():
            shutil.copytree(small_root, root)
        path = root / SMALL_VERSION / f"{table}.json"
        rows = json.loads(path.read_text())
        replaced = change(rows)
        path.write_text(json.dumps(rows if replaced is None else replaced))
        return root

    return edit
