"""Building a sample cache: scenes are read by worker processes, each of which writes its rows into the shared
files.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wpt_policy.policy_config import from_json, to_json
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

from wpt_training.configuration import DataConfig, ExperimentConfig
from wpt_training.data.cache_signature import (
    FORMAT,
    data_identity,
    reading_identity,
    signature_of,
    tokens_identity,
)
from wpt_training.data.sample_cache import (
    CHECKSUM_FIELD,
    MANIFEST_FILE,
    SampleCache,
    row_checksum,
    stored_fields,
)
from wpt_training.data.sample_fields import CHOSEN
from wpt_training.data.sample_reader import SampleReader
from wpt_training.data.side_tables import SideTables
from wpt_training.errors import TrainingError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class _ScenePart:
    """A scene's rows: first_row, keyframes that are kept in order, and which of them were chosen."""

    scene: str
    first_row: int
    keyframes: tuple[int, ...]
    chosen: tuple[bool, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a worker needs for every scene. policy_json: since a PolicyConfig cannot be pickled."""

    tables: NuScenesTables
    side: SideTables
    policy_json: str
    data: DataConfig
    folder: Path
    allow_missing: bool


def build_cache(
    dataroot: str | Path,
    version: str,
    folder: str | Path,
    config: ExperimentConfig,
    *,
    workers: int = 1,
    tokens: Iterable[str] | None = None,
    progress: Progress | None = None,
    allow_missing: bool = False,
) -> SampleCache:
    """Return the cache of a data set's version in ``folder``, building it where there is none yet.

    tokens: the samples to hold (with the earlier ones that their history needs); None for all. workers:
    processes. progress: called with samples done and all samples. allow_missing: a missing image is a camera
    left out (and counted in cache.missing_images). Raises TrainingError when the folder holds something else
    or a stale cache, for an unknown token, and for a sample that cannot be read, naming it; then nothing is
    left in ``folder``.
    """
    folder = Path(folder).absolute()
    try:
        tables = NuScenesTables.load(dataroot, version)
    except DatasetError as error:
        raise TrainingError(str(error)) from None
    samples = _samples_by_scene(tables)
    side = SideTables.load(
        tables.dataroot / version, [token for rows in samples.values() for token, _ in rows]
    )
    wanted = None if tokens is None else _known(tokens, samples, version)
    made_of = {
        "data": data_identity(tables, side),
        "reading": reading_identity(config.student, config.data),
        "tokens": tokens_identity(wanted),
        "allow_missing": allow_missing,
    }
    if folder.exists():
        return _existing(folder, made_of, config)
    parts = _parts(samples, wanted, config)
    if not parts:
        raise TrainingError(
            f"no sample of {version} was chosen for the cache {folder}; give at least one token."
        )
    # Beside its place, so that the rename is one step; the process number keeps two builders apart.
    temporary = folder.with_name(f".{folder.name}.building-{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        _create_files(temporary, config, sum(len(part.keyframes) for part in parts))
        job = _Job(
            tables=tables,
            side=side,
            policy_json=to_json(config.student),
            data=config.data,
            folder=temporary,
            allow_missing=allow_missing,
        )
        missing = _fill(job, parts, workers, progress)
        manifest = {
            "format": FORMAT,
            "signature": signature_of(made_of),
            "made_of": made_of,
            "fields": stored_fields(config.student, config.data),
            "scenes": [[part.scene, len(part.keyframes)] for part in parts],
            "tokens": [token for part in parts for token in part.tokens],
            "missing_images": missing,
        }
        (temporary / MANIFEST_FILE).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return SampleCache.open(folder, config)


def _existing(folder: Path, made_of: dict, config: ExperimentConfig) -> SampleCache:
    cache = SampleCache.open(folder, config)
    if cache.signature != signature_of(made_of):
        different = ", ".join(sorted(name for name in made_of if cache.made_of.get(name) != made_of[name]))
        raise TrainingError(
            f"the sample cache {folder} is stale: it was made of other {different}; remove the folder and "
            "build it again, "
            "or choose another folder."
        )
    return cache


def _samples_by_scene(tables: NuScenesTables) -> dict[str, list[tuple[str, int]]]:
    """Return by scene, in the table's order, its sample tokens and stamps (ns) in time order."""
    names = {row["token"]: row["name"] for row in tables.rows("scene")}
    result: dict[str, list[tuple[str, int]]] = {name: [] for name in names.values()}
    for row in tables.rows("sample"):
        result[names[row["scene_token"]]].append((row["token"], row["timestamp"] * 1000))
    for rows in result.values():
        rows.sort(key=lambda sample: sample[1])
    return result


def _known(tokens: Iterable[str], samples: dict[str, list[tuple[str, int]]], version: str) -> set[str]:
    wanted = set(tokens)
    strangers = sorted(wanted - {token for rows in samples.values() for token, _ in rows})
    if strangers:
        raise TrainingError(
            f"{len(strangers)} samples asked for are unknown in {version} (first: {strangers[0]}), expected "
            "sample tokens of "
            "its tables; correct the list."
        )
    return wanted


def _parts(
    samples: dict[str, list[tuple[str, int]]], wanted: set[str] | None, config: ExperimentConfig
) -> list[_ScenePart]:
    """Return what is kept of each scene: the wanted samples and every earlier one within reach of their
    history.
    """
    spec = config.student.history
    # Image stamps may differ from sample stamps by as much as cameras are apart, below 0.1 s.
    reach_ns = round((spec.entries * spec.interval_s + spec.tolerance_s + 0.1) * 1e9) if spec.entries else -1
    parts, first_row = [], 0
    for scene, rows in samples.items():
        chosen = [wanted is None or token in wanted for token, _ in rows]
        kept = [
            index
            for index, (_, stamp) in enumerate(rows)
            if chosen[index]
            or any(
                chosen[later] and rows[later][1] - stamp <= reach_ns
                for later in range(index + 1, len(rows))
                if rows[later][1] - stamp <= reach_ns
            )
        ]
        if kept:
            parts.append(
                _ScenePart(
                    scene=scene,
                    first_row=first_row,
                    keyframes=tuple(kept),
                    chosen=tuple(chosen[index] for index in kept),
                    tokens=tuple(rows[index][0] for index in kept),
                )
            )
            first_row += len(kept)
    return parts


def _create_files(folder: Path, config: ExperimentConfig, rows: int) -> None:
    for name, (kind, shape) in stored_fields(config.student, config.data).items():
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=(rows, *shape))


def _fill(job: _Job, parts: Sequence[_ScenePart], workers: int, progress: Progress | None) -> int:
    """Write all rows and return how many images were missing."""
    total, done, missing = sum(len(part.keyframes) for part in parts), 0, 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    report(0)
    if workers <= 1 or len(parts) == 1:
        return sum(_write_scene(job, part, report) for part in parts)
    # Fresh processes: OpenCV's and torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        max_workers=min(workers, len(parts)), mp_context=context, initializer=_start_worker, initargs=(job,)
    ) as pool:
        futures = {pool.submit(_work, part): part for part in parts}
        try:
            for future in as_completed(futures):
                missing += future.result()
                report(len(futures[future].keyframes))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return missing


_job: _Job | None = None  # of this worker process


def _start_worker(job: _Job) -> None:
    global _job
    _job = job
    cv2.setNumThreads(1)


def _work(part: _ScenePart) -> int:
    return _write_scene(_job, part, lambda count: None)


def _write_scene(job: _Job, part: _ScenePart, report: Callable[[int], None]) -> int:
    """Read a scene's samples into its rows; return how many images were missing."""
    try:
        scene = load_scene(job.tables, part.scene)
    except DatasetError as error:
        raise TrainingError(str(error)) from None
    policy = from_json(job.policy_json)
    reader = SampleReader(job.tables, scene, policy, job.data, job.side, allow_missing=job.allow_missing)
    fields = stored_fields(policy, job.data)
    arrays = {name: np.load(job.folder / f"{name}.npy", mmap_mode="r+") for name in fields}
    row_of = {keyframe: part.first_row + number for number, keyframe in enumerate(part.keyframes)}
    for keyframe, chosen, token in zip(part.keyframes, part.chosen, part.tokens, strict=True):
        if scene.keyframes[keyframe].sample_token != token:
            raise TrainingError(
                f"samples of {part.scene} are not linked in the order of their stamps; repair sample.json."
            )
        values = reader.read(keyframe)
        # A sample kept for its successors' history alone may lack its own.
        values["history"] = np.array(
            [row_of.get(int(number), -1) for number in values["history"]], dtype=np.int64
        )
        values["flags"] = values["flags"] + np.uint8(CHOSEN * chosen)
        row = row_of[keyframe]
        for name in fields:
            if name != CHECKSUM_FIELD:
                arrays[name][row] = values[name]
        arrays[CHECKSUM_FIELD][row] = row_checksum(arrays, row)
        report(1)
    return reader.missing_images
