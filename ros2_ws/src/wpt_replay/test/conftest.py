"""Scenes and bags that the tests of this package share; made once a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rosbags.interfaces import Qos
from wpt_replay.bag_reader import BagReader
from wpt_replay.bag_writer import BagWriter
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


@pytest.fixture
def rewrite_bag(tmp_path: Path) -> Callable[..., Path]:
    """A function that copies a bag and changes each message on the way.

    change(topic, record_ns, message) returns the three as they are to be, or None to leave the message out. qos: of
    topics by their new name, as recorded where absent. Messages are sorted by their new record times.
    """

    def rewrite(
        bag: Path,
        change: Callable[[str, int, Any], tuple[str, int, Any] | None] = lambda *message: message,
        *,
        qos: Mapping[str, Qos] | None = None,
        storage: str = "mcap",
    ) -> Path:
        target = tmp_path / f"changed_{len(list(tmp_path.iterdir()))}"
        changed: list[tuple[int, str, Any]] = []
        kinds: dict[str, tuple[str, Qos]] = {}
        with BagReader(bag) as reader:
            for stored in reader.messages():
                topic = reader.topics[stored.topic]
                new = change(stored.topic, stored.stamp_ns, reader.decode(stored))
                if new is not None:
                    kinds.setdefault(new[0], (topic.type_name, topic.qos[0]))
                    changed.append((new[1], new[0], new[2]))
        with BagWriter(target, storage=storage) as writer:
            for name, (type_name, recorded) in kinds.items():
                writer.add_topic(name, type_name, (qos or {}).get(name, recorded))
            for record_ns, topic_name, message in sorted(changed, key=lambda entry: entry[0]):
                writer.write(topic_name, record_ns, message)
        return target

    return rewrite
