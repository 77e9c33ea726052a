"""Samples on disk, ready for training: one memory-mapped .npy file a field, and a manifest.

Nothing is held in memory but what a batch copies; the images of 20,000 samples at 256x128 are 11.8 GB of
file. A cache is written beside its place and renamed when complete, so that a folder with a manifest is a
whole cache.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wpt_policy.policy_config import PolicyConfig

from wpt_training.configuration import DataConfig, ExperimentConfig
from wpt_training.data.batch import Batch
from wpt_training.data.cache_signature import FORMAT, reading_identity, signature_of
from wpt_training.data.sample_fields import CHOSEN, INTERACTIVE, LABELLED, NATURAL, row_fields
from wpt_training.errors import TrainingError

MANIFEST_FILE = "manifest.json"
CHECKSUM_FIELD = "checksum"  # (rows,) uint32: CRC-32 over the row's fields in order
_SET_FIELDS = ("images", "image_from_base", "camera_mask")  # of one set; a batch stacks present and history
_CHECKED_ROWS = 8
_REBUILD = "remove the folder and build the cache again"


class SampleCache:
    """An open cache of R rows. Open it with ``open``; it may be read by several threads, and be pickled.

    tokens: sample tokens by row; scene_names: all scenes; scene_of: (R,) row -> scene's name. Rows of a scene
    follow each other in time; a scene's rows are all its keyframes, or, where tokens were chosen, those and
    the history they need.

    Bool by row (R,): labelled: chosen, with a future of one or more valid steps, its motion known and not
    listed as unlabelled; natural, interactive: listed as such (all False where the data has no lists);
    chosen: not history alone.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.folder = folder
        self.signature: str = manifest["signature"]
        self.made_of: dict[str, Any] = manifest["made_of"]
        self.missing_images: int = manifest["missing_images"]
        self.tokens: tuple[str, ...] = tuple(manifest["tokens"])
        self.scene_names: tuple[str, ...] = tuple(name for name, _ in manifest["scenes"])
        self.scene_of = np.repeat(
            np.array(self.scene_names, dtype=np.str_), [n for _, n in manifest["scenes"]]
        )
        self._arrays = arrays
        flags = np.array(arrays["flags"])
        self.chosen, self.natural, self.interactive = (
            (flags & bit) != 0 for bit in (CHOSEN, NATURAL, INTERACTIVE)
        )
        self.labelled = ((flags & LABELLED) != 0) & self.chosen
        self._row_of = {token: row for row, token in enumerate(self.tokens)}

    @classmethod
    def open(
        cls, folder: str | Path, config: ExperimentConfig | None = None, *, verify: bool = False
    ) -> SampleCache:
        """Open a cache.

        config: when given, the cache must have been read as this configuration reads samples. verify: check
        every row's checksum (reads all of it); else only some rows' are. Raises TrainingError when there is
        no complete cache of this format, when it was made by another configuration, or when a file is
        damaged.
        """
        folder = Path(folder)
        manifest = _manifest(folder)
        if config is not None:
            require_reading(folder, manifest, config)
        arrays = {name: _array(folder, name, *spec, manifest) for name, spec in manifest["fields"].items()}
        cache = cls(folder, manifest, arrays)
        rows = np.arange(len(cache)) if verify else np.linspace(0, len(cache) - 1, _CHECKED_ROWS).astype(int)
        for row in np.unique(rows):
            cache._check_row(int(row))
        return cache

    def __len__(self) -> int:
        return len(self.tokens)

    def __reduce__(self):
        return SampleCache.open, (self.folder,)

    def row_of(self, token: str) -> int:
        """Return a sample's row; raises TrainingError when the cache lacks it."""
        if token not in self._row_of:
            raise TrainingError(
                f"{self.folder} has no sample {token!r} ({len(self)} samples of "
                f"{self.made_of['data']['version']}); "
                "choose another token or build a cache that holds it."
            )
        return self._row_of[token]

    def rows_of(self, tokens: Sequence[str]) -> np.ndarray:
        """Return the rows of samples; raises TrainingError for one that the cache lacks."""
        return np.array([self.row_of(token) for token in tokens], dtype=np.int64)

    def field(self, name: str, rows: Tensor | Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return one field (sample_fields.row_fields) of some rows as a copy, or of all as a read-only view
        of the file.
        """
        values = self._arrays[name]
        return values if rows is None else values[_row_numbers(rows, len(self))]

    def batch(self, rows: Tensor | Sequence[int] | np.ndarray) -> Batch:
        """Return rows, in the given order, with the images of their history; tensors own their memory.

        A missing history entry is a set without cameras: zeros, camera_mask False, history_valid False.
        """
        number = _row_numbers(rows, len(self))
        history = self._arrays["history"][number]
        known = history >= 0
        sets = np.column_stack([number, np.where(known, history, number[:, None])])
        unknown = np.column_stack([np.zeros(len(number), dtype=bool), ~known])
        values: dict[str, np.ndarray] = {"row": number, "history_valid": known, "history_row": sets[:, 1:]}
        for name in _SET_FIELDS:
            values[name] = self._arrays[name][sets]
            values[name][unknown] = 0
        for name in Batch.__dataclass_fields__:
            if name not in values:
                values[name] = self._arrays[name][number]
        values["lane_direction"] = values["lane_direction"].astype(np.float32)
        return Batch(
            **{
                name: torch.from_numpy(np.ascontiguousarray(values[name]))
                for name in Batch.__dataclass_fields__
            }
        )

    def _check_row(self, row: int) -> None:
        if row_checksum(self._arrays, row) != int(self._arrays[CHECKSUM_FIELD][row]):
            raise TrainingError(
                f"row {row} of the sample cache {self.folder} does not have its checksum: a file is "
                f"damaged; {_REBUILD}."
            )


def row_checksum(arrays: dict[str, np.ndarray], row: int) -> int:
    """Return the CRC-32 over a row's fields in the order of their names."""
    value = 0
    for name in sorted(arrays):
        if name != CHECKSUM_FIELD:
            value = zlib.crc32(np.ascontiguousarray(arrays[name][row]).data, value)
    return value


def stored_fields(policy: PolicyConfig, data: DataConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of a row by field, with the checksum."""
    return {**row_fields(policy, data), CHECKSUM_FIELD: ("uint32", ())}


def require_reading(folder: Path, manifest: dict[str, Any], config: ExperimentConfig) -> None:
    """Raise TrainingError naming what differs when a cache was not read as a configuration reads samples."""
    wanted, had = reading_identity(config.student, config.data), manifest["made_of"]["reading"]
    different = sorted(name for name in {*wanted, *had} if wanted.get(name) != had.get(name))
    if different:
        name = different[0]
        raise TrainingError(
            f"the sample cache {folder} is stale: {', '.join(different)} differ from configuration "
            f"{config.name} "
            f"({name}: {had.get(name)}, expected {wanted.get(name)}); {_REBUILD}, or choose another folder."
        )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        state = (
            "is no folder" if not folder.is_dir() else "has no manifest, so it is no complete sample cache"
        )
        raise TrainingError(f"{folder} {state}; build the cache, or name the folder of one.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
        if version == FORMAT:
            whole = signature_of(manifest["made_of"]) == manifest["signature"]
            rows = len(manifest["tokens"])
            whole &= rows > 0 and rows == sum(count for _, count in manifest["scenes"])
            if not whole:
                raise ValueError("its parts contradict each other")
            manifest["fields"] = {
                name: (kind, tuple(shape)) for name, (kind, shape) in manifest["fields"].items()
            }
            if not isinstance(manifest["missing_images"], int):
                raise ValueError("missing_images is no number")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is damaged ({error!r}); {_REBUILD}.") from None
    if version != FORMAT:
        raise TrainingError(f"the sample cache {folder} has format {version}, expected {FORMAT}; {_REBUILD}.")
    return manifest


def _array(
    folder: Path, name: str, kind: str, shape: tuple[int, ...], manifest: dict[str, Any]
) -> np.ndarray:
    path, expected = folder / f"{name}.npy", (len(manifest["tokens"]), *shape)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{path} of the sample cache cannot be read ({error}); {_REBUILD}.") from None
    if array.dtype != np.dtype(kind) or array.shape != expected:
        raise TrainingError(
            f"{path} holds {array.dtype} {array.shape}, expected {kind} {expected} as the manifest says; "
            f"{_REBUILD}."
        )
    # A plain view: indexing a np.memmap costs a Python object of its own each time.
    return array.view(np.ndarray)


def _row_numbers(rows: Tensor | Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    number = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows, dtype=np.int64).reshape(-1)
    if len(number) and not (0 <= number.min() and number.max() < count):
        raise TrainingError(
            f"rows {number.min()} to {number.max()} were asked for, expected 0 to {count - 1}."
        )
    return number
