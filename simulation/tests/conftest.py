"""Scenes that several tests look at, written once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables
from wpt_sim.demo_scene import DEMO_SCENE, DEMO_VERSION, write_demo_scene

REPOSITORY = Path(__file__).resolve().parents[2]
NUSCENES_VERSION = "v1.0-subset"


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's scene with sweeps, small images."""
    return write_demo_scene(tmp_path_factory.mktemp("demo"), image_size=(320, 180))


@pytest.fixture(scope="session")
def demo_tables(demo_root: Path) -> NuScenesTables:
    return NuScenesTables.load(demo_root, DEMO_VERSION)


@pytest.fixture(scope="session")
def demo_written(demo_tables: NuScenesTables) -> Scene:
    return load_scene(demo_tables, DEMO_SCENE)


@pytest.fixture(scope="session")
def nuscenes_root() -> Path:
    """A piece of real nuScenes, named by WPT_NUSCENES or beside the repository; not part of it."""
    root = Path(os.environ.get("WPT_NUSCENES", REPOSITORY.parent / "shared" / "nuscenes"))
    if not (root / NUSCENES_VERSION).is_dir():
        pytest.skip(f"no real nuScenes piece at {root} ({NUSCENES_VERSION}); name one with WPT_NUSCENES")
    return root
