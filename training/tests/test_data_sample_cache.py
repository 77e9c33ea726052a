from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from wpt_scenes.factory import FACTORY_VERSION, write_factory_scene
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.batch import tensors_of
from wpt_training.data.cache_builder import build_cache
from wpt_training.data.sample_cache import SampleCache
from wpt_training.data.sample_reader import SampleReader
from wpt_training.data.side_tables import SideTables
from wpt_training.data.token_split import first_scenes
from wpt_training.errors import TrainingError

Data = tuple[Path, str]


@pytest.fixture
def copied(factory_cache: SampleCache, tmp_path: Path) -> Path:
    shutil.copytree(factory_cache.folder, tmp_path / "cache")
    return tmp_path / "cache"


def same(one, other) -> bool:
    one, other = tensors_of(one), tensors_of(other)
    return all(torch.equal(one[name].nan_to_num(7), other[name].nan_to_num(7)) for name in one)


def test_rows_are_the_scene_s_samples_in_order(factory_cache: SampleCache, factory_data: Data):
    scene = load_scene(NuScenesTables.load(*factory_data), "scene-0001")
    assert factory_cache.tokens == tuple(keyframe.sample_token for keyframe in scene.keyframes)
    assert factory_cache.scene_names == ("scene-0001",) and set(factory_cache.scene_of) == {"scene-0001"}
    assert factory_cache.row_of(factory_cache.tokens[4]) == 4
    assert (
        factory_cache.chosen.all() and not factory_cache.natural.any() and factory_cache.missing_images == 0
    )
    assert factory_cache.labelled.tolist() == factory_cache.field("future_valid").any(axis=1).tolist()


def test_a_batch_is_what_the_reader_reads(
    factory_cache: SampleCache, factory_data: Data, small: ExperimentConfig
):
    tables = NuScenesTables.load(*factory_data)
    reader = SampleReader(tables, load_scene(tables, "scene-0001"), small.student, small.data, SideTables())
    for row in (0, 5):
        assert same(factory_cache.batch([row]), reader.sample(row))


def test_history_is_the_earlier_row_s_images(factory_cache: SampleCache):
    batch = factory_cache.batch(torch.tensor([5, 0, 5, 1]))
    assert batch.row.tolist() == [5, 0, 5, 1]
    assert batch.history_valid[:, 0].tolist() == [True, False, True, True]
    earlier = factory_cache.batch([4, 0])
    assert torch.equal(batch.images[0, 1], earlier.images[0, 0]) and torch.equal(
        batch.images[3, 1], earlier.images[1, 0]
    )
    assert torch.equal(batch.image_from_base[0, 1], earlier.image_from_base[0, 0])
    assert not batch.images[1, 1].any() and not batch.camera_mask[1, 1].any() and batch.images[1, 0].any()


def test_a_batch_is_a_copy(factory_cache: SampleCache):
    before = factory_cache.batch([2])
    changed = factory_cache.batch([2])
    changed.images.zero_()
    changed.drivable.zero_()
    assert same(before, factory_cache.batch([2]))


def test_rows_beyond_the_cache_are_refused(factory_cache: SampleCache):
    for rows in ([10], [-1]):
        with pytest.raises(TrainingError, match="expected 0 to 9"):
            factory_cache.batch(rows)
    with pytest.raises(TrainingError, match="no sample 'x'"):
        factory_cache.row_of("x")
    assert factory_cache.rows_of(factory_cache.tokens[3:5]).tolist() == [3, 4]


def test_it_can_be_pickled_for_a_worker(factory_cache: SampleCache):
    text = pickle.dumps(factory_cache)
    assert len(text) < 10_000
    assert same(pickle.loads(text).batch([3]), factory_cache.batch([3]))


def test_building_again_opens_what_is_there(
    factory_cache: SampleCache, factory_data: Data, small: ExperimentConfig
):
    again = build_cache(*factory_data, factory_cache.folder, small)
    assert again.signature == factory_cache.signature


def test_networks_sizes_do_not_make_a_cache_stale(factory_cache: SampleCache, small: ExperimentConfig):
    wider = small.with_(teacher=dataclasses.replace(small.teacher, channels=32))
    wider = wider.with_(data=dataclasses.replace(wider.data, train_samples=5))
    assert len(SampleCache.open(factory_cache.folder, wider, verify=True)) == 10


def test_a_cache_of_another_configuration_is_stale(
    factory_cache: SampleCache, factory_data: Data, small: ExperimentConfig
):
    other = small.with_(data=dataclasses.replace(small.data, route_points=7))
    with pytest.raises(TrainingError, match="stale: route_points"):
        SampleCache.open(factory_cache.folder, other)
    with pytest.raises(TrainingError, match="stale"):
        build_cache(*factory_data, factory_cache.folder, other)


def test_a_cache_of_other_data_is_stale(
    factory_cache: SampleCache, factory_data: Data, small, tmp_path: Path
):
    shutil.copytree(factory_data[0], tmp_path / "data")
    (tmp_path / "data" / factory_data[1] / "samples_natural.txt").write_text(factory_cache.tokens[0] + "\n")
    with pytest.raises(TrainingError, match="stale: it was made of other data"):
        build_cache(tmp_path / "data", factory_data[1], factory_cache.folder, small)
    with pytest.raises(TrainingError, match="made of other tokens"):
        build_cache(*factory_data, factory_cache.folder, small, tokens=factory_cache.tokens[:2])


def test_damage_is_noticed(copied: Path):
    file = copied / "occupancy.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    with pytest.raises(TrainingError, match=r"occupancy\.npy"):
        SampleCache.open(copied)
    file.unlink()
    with pytest.raises(TrainingError, match=r"occupancy\.npy"):
        SampleCache.open(copied)
    file.write_bytes(content)
    images = bytearray((copied / "images.npy").read_bytes())
    images[-5] ^= 1
    (copied / "images.npy").write_bytes(images)
    with pytest.raises(TrainingError, match="row 9 .* checksum"):
        SampleCache.open(copied, verify=True)


def test_a_field_of_another_shape_is_noticed(copied: Path):
    np.save(copied / "motion.npy", np.zeros((10, 3), dtype=np.float32))
    with pytest.raises(
        TrainingError, match=r"motion\.npy holds float32 \(10, 3\), expected float32 \(10, 4\)"
    ):
        SampleCache.open(copied)


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m.pop("tokens"), "damaged"),
        (lambda m: m["tokens"].pop(), "damaged"),
        (lambda m: m["made_of"].update(tokens="other"), "damaged"),
    ],
)
def test_a_manifest_that_is_not_whole(copied: Path, change, what: str):
    manifest = json.loads((copied / "manifest.json").read_text())
    change(manifest)
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match=what):
        SampleCache.open(copied)


def test_no_cache_at_all(tmp_path: Path, copied: Path):
    with pytest.raises(TrainingError, match="no folder"):
        SampleCache.open(tmp_path / "nowhere")
    (copied / "manifest.json").unlink()  # as it is while being written
    with pytest.raises(TrainingError, match="no complete sample cache"):
        SampleCache.open(copied)


def test_a_failed_build_leaves_nothing(factory_data: Data, small: ExperimentConfig, tmp_path: Path):
    shutil.copytree(factory_data[0], tmp_path / "data")
    next((tmp_path / "data" / "samples" / "CAM_FRONT").iterdir()).unlink()
    with pytest.raises(TrainingError, match="CAM_FRONT"):
        build_cache(tmp_path / "data", factory_data[1], tmp_path / "cache", small)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    calls = []
    cache = build_cache(
        tmp_path / "data", factory_data[1], tmp_path / "cache", small, allow_missing=True,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert cache.missing_images == 1 and calls == [(done, 10) for done in range(11)]


def test_unknown_tokens_and_data_sets(factory_data: Data, small: ExperimentConfig, tmp_path: Path):
    with pytest.raises(TrainingError, match="first: nobody"):
        build_cache(*factory_data, tmp_path / "cache", small, tokens=["nobody"])
    with pytest.raises(TrainingError, match="at least one token"):
        build_cache(*factory_data, tmp_path / "cache", small, tokens=[])
    with pytest.raises(TrainingError, match="v1.0-other"):
        build_cache(factory_data[0], "v1.0-other", tmp_path / "cache", small)


def test_chosen_tokens_bring_their_history(
    factory_cache: SampleCache, factory_data: Data, small, tmp_path: Path
):
    wanted = [factory_cache.tokens[row] for row in (0, 4, 7)]
    cache = build_cache(*factory_data, tmp_path / "cache", small, tokens=wanted)
    rows = cache.rows_of(wanted)
    assert [cache.tokens[row] for row in np.flatnonzero(cache.chosen)] == wanted
    assert set(np.flatnonzero(cache.labelled)) <= set(rows)
    one, all_of_them = cache.batch(rows), factory_cache.batch([0, 4, 7])
    assert torch.equal(one.images, all_of_them.images) and torch.equal(
        one.history_valid, all_of_them.history_valid
    )
    assert len(cache) < len(factory_cache)


@pytest.fixture(scope="module")
def two_scenes(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Two scenes in one version: the factory's tables twice, under reversed tokens and another name, on one
    drive's files.
    """
    folder = tmp_path_factory.mktemp("two")
    write_factory_scene(folder, keyframes=4, sweeps=False, image_size=(128, 72))
    version = folder / FACTORY_VERSION
    doubled = {"scene", "sample", "sample_data", "sample_annotation", "instance"}
    links = ("token", "scene_token", "sample_token", "instance_token", "prev", "next")
    for name in doubled:
        path = version / f"{name}.json"
        rows = json.loads(path.read_text())
        for row in list(rows):
            copy = dict(row)
            for key in row:
                if (key in links or key.startswith(("first_", "last_"))) and row[key]:
                    copy[key] = row[key][::-1]
            if name == "scene":
                copy["name"] = "scene-0002"
            rows.append(copy)
        path.write_text(json.dumps(rows))
    return folder, FACTORY_VERSION


def test_worker_processes_write_the_same_files(two_scenes: Data, small: ExperimentConfig, tmp_path: Path):
    one = build_cache(*two_scenes, tmp_path / "one", small)
    two = build_cache(*two_scenes, tmp_path / "two", small, workers=2)
    assert one.scene_names == two.scene_names == ("scene-0001", "scene-0002") and len(one) == 8
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert same(one.batch([1]), one.batch([1])) and one.batch([4]).history_valid.tolist() == [[False]]


def test_whole_scenes_up_to_a_number(two_scenes: Data):
    tables = NuScenesTables.load(*two_scenes)
    first = [keyframe.sample_token for keyframe in load_scene(tables, "scene-0001").keyframes]
    assert first_scenes(*two_scenes, 8) is None
    assert first_scenes(*two_scenes, 7) == first == first_scenes(*two_scenes, 4)
    assert first_scenes(*two_scenes, 3) == first[:3]
