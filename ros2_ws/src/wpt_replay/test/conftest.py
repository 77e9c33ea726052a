"""Scenes and bags that the tests of this package share; made once a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wpt_replay.scene_to_bag import convert_scene
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables

REPOSITORY = Path(__file__).resolve().parents[4]
NUSCENES_VERSION = "v1.0-subset"


@pytest.fixture(scope="session")
def factory_tables(tmp_path_factory: pytest.TempPathFactory) -> NuScenesTables:
    """Three keyframes with sweeps, six cameras of 160x90, about 1 s."""
    root = write_factory_scene(tmp_path_factory.mktemp("data"), keyframes=3, image_size=(160, 90))
    return NuScenesTables.load(root, FACTORY_VERSION)


@pytest.fixture(scope="session")
def factory_scene(factory_tables: NuScenesTables) -> Scene:
    return load_scene(factory_tables, FACTORY_SCENE)


@pytest.fixture(scope="session")
def factory_bag(factory_tables: NuScenesTables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene with all sweeps as MCAP."""
    return convert_scene(factory_tables, FACTORY_SCENE, tmp_path_factory.mktemp("bags")).path


@pytest.fixture(scope="session")
def nuscenes_tables() -> NuScenesTables:
    """A piece of real nuScenes, named by WPT_NUSCENES or beside the repository; not part of it."""
    root = Path(os.environ.get("WPT_NUSCENES", REPOSITORY.parent / "shared" / "nuscenes"))
    if not (root / NUSCENES_VERSION).is_dir():
        pytest.skip(f"no real nuScenes piece at {root} ({NUSCENES_VERSION}); name one with WPT_NUSCENES")
    return NuScenesTables.load(root, NUSCENES_VERSION)
