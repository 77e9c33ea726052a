"""Shared by the tests of training: torch on one thread, a small configuration, a small data set and its
cache.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wpt_scenes.factory import FACTORY_VERSION, write_factory_scene

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.cache_builder import build_cache
from wpt_training.data.sample_cache import SampleCache
from wpt_training.data.synthetic_batch import small_config


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The tests' networks are tiny: more threads only disturb."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small() -> ExperimentConfig:
    """64x32 images, 40 m x 24 m of ground, narrow networks."""
    return small_config()


@pytest.fixture(scope="session")
def factory_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(dataroot, version) of a street of 10 keyframes in the nuScenes format, without side files. Not to be
    changed.
    """
    folder = tmp_path_factory.mktemp("street")
    write_factory_scene(folder, keyframes=10, sweeps=False, image_size=(128, 72))
    return folder, FACTORY_VERSION


@pytest.fixture(scope="session")
def factory_cache(
    factory_data: tuple[Path, str], small: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory
) -> SampleCache:
    """The sample cache of factory_data at the small configuration."""
    return build_cache(*factory_data, tmp_path_factory.mktemp("caches") / "street", small)
