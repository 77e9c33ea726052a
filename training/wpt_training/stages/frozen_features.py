"""What a frozen network sees in every row, computed once: float16 on disk, memory-mapped.

A folder holds features.float16 ([n, ...], row after row), rows.npy (which rows of the sample cache) and state.json
(what they were made from, how many are done). Building goes on where it was stopped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wpt_policy.network.student import ObservationEncoder

from wpt_training.data.batch import Batch
from wpt_training.errors import TrainingError
from wpt_training.trainer import precision as precisions
from wpt_training.trainer.checkpoint import save_json
from wpt_training.trainer.progress import Progress
from wpt_training.trainer.stage import signature_of
from wpt_training.trainer.trainer import SampleSource
from wpt_training.world.world_model import OccupancyWorldModel, observe_batch

STATE, ROWS, FEATURES = "state.json", "rows.npy", "features.float16"
FLUSHED_ROWS = 512  # so many are computed again at most after a stop


class Observer(Protocol):
    """A frozen network that turns a row into features. label: of the progress bar. network: what computes."""

    label: str
    network: torch.nn.Module

    def signature(self) -> str:
        """Return what changes with every weight that the features depend on."""
        ...

    def features(self, batch: Batch) -> Tensor:
        """Return [B, ...], as one row after the other is stored."""
        ...


class PresentFeatures:
    """F_0 of a world model: its view of the present fused with history, [B, C, X, Y]."""

    label = "world model's features"

    def __init__(self, world: OccupancyWorldModel):
        self.network = world

    def signature(self) -> str:
        return signature_of(self.network.encoder, self.network.fusion)

    def features(self, batch: Batch) -> Tensor:
        return observe_batch(self.network, batch)


class SetViews:
    """The bird's-eye view [B, C + 1, X, Y] of each row's own set, before any fusion: what a policy remembers of it."""

    label = "student's views"

    def __init__(self, encoder: ObservationEncoder):
        self.network = encoder

    def signature(self) -> str:
        return signature_of(self.network)

    def features(self, batch: Batch) -> Tensor:
        return self.network(batch.images[:, 0], batch.image_from_base[:, 0], batch.camera_mask[:, 0])


class FrozenFeatures:
    """Features by row of the sample cache. signature: of the weights and the data they were made from."""

    def __init__(self, folder: Path, state: dict[str, Any], rows: np.ndarray):
        self.folder, self.signature = folder, state["signature"]
        self._features = np.memmap(folder / FEATURES, np.float16, "r", shape=tuple(state["shape"]))
        self._place = np.full(int(rows.max()) + 1, -1, dtype=np.int64)
        self._place[rows] = np.arange(len(rows))

    @staticmethod
    def open(folder: Path, observer: Observer, source: SampleSource) -> FrozenFeatures:
        """Open finished features; raises TrainingError where they are not finished or of another network or data."""
        state = _state(folder)
        if state is None or state["done"] < state["shape"][0]:
            raise TrainingError(f"{folder} holds no finished features ({observer.label}): build them first.")
        expected = features_signature(observer, source)
        if state["signature"] != expected:
            raise TrainingError(
                f"the features in {folder} are of {state['signature']}, expected {expected} (weights and data): "
                "build them again in another folder."
            )
        return FrozenFeatures(folder, state, np.load(folder / ROWS))

    def of(self, rows: Tensor) -> Tensor:
        """Return [B, ...] float32 on the CPU for rows [B]; raises TrainingError naming a row that is not there."""
        wanted = rows.cpu().numpy()
        inside = (wanted >= 0) & (wanted < len(self._place))
        places = np.where(inside, self._place[np.where(inside, wanted, 0)], -1)
        if (places < 0).any():
            raise TrainingError(
                f"row {wanted[places < 0][0]} has no features in {self.folder}, expected one of the rows they were built "
                "for: build them for all rows that are trained on."
            )
        return torch.from_numpy(self._features[places].astype(np.float32))


def features_signature(observer: Observer, source: SampleSource) -> str:
    """Return what decides the features: signatures of the weights that observe, and of the samples."""
    return f"{observer.signature()} {source.signature}"


@torch.no_grad()
def build_frozen_features(
    observer: Observer,
    source: SampleSource,
    rows: Tensor,
    folder: Path,
    *,
    batch: int = 16,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    progress: bool = True,
) -> FrozenFeatures:
    """Compute what is missing and return the features. rows: of the sample cache, each once.

    precision: in which the stages would compute them ("float32" or "bfloat16").

    Raises TrainingError where the folder holds features of something else or a feature does not fit into float16.
    """
    observer.network.eval().to(device=device, memory_format=torch.channels_last)
    rows_ = torch.as_tensor(rows).to(torch.int64).numpy()
    signature = features_signature(observer, source)
    state = _state(folder)
    if state is not None:
        if state["signature"] != signature or not np.array_equal(np.load(folder / ROWS), rows_):
            raise TrainingError(f"{folder} holds features of another network, data or rows: give another folder.")
    elif len(np.unique(rows_)) != len(rows_) or len(rows_) == 0:
        raise TrainingError(f"{len(rows_)} rows are given, expected at least one and each once.")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / ROWS, rows_)
        one = observer.features(source.batch(torch.from_numpy(rows_[:1])).to(device))
        state = {"signature": signature, "shape": [len(rows_), *one.shape[1:]], "done": 0}
        np.memmap(folder / FEATURES, np.float16, "w+", shape=tuple(state["shape"])).flush()
        save_json(folder / STATE, state)
    with precisions.autocast(torch.device(device), precision):
        _fill(observer, source, rows_, folder, state, batch, device, progress)
    return FrozenFeatures(folder, state, rows_)


def _fill(
    observer: Observer,
    source: SampleSource,
    rows: np.ndarray,
    folder: Path,
    state: dict[str, Any],
    batch: int,
    device: torch.device | str,
    progress: bool,
) -> None:
    count, flushed = len(rows), state["done"]
    if flushed == count:
        return
    features = np.memmap(folder / FEATURES, np.float16, "r+", shape=tuple(state["shape"]))
    shown = Progress(observer.label, count, flushed) if progress else None
    for start in range(flushed, count, batch):
        end = min(start + batch, count)
        values = observer.features(source.batch(torch.from_numpy(rows[start:end])).to(device))
        half = values.to(torch.float16)
        if not bool(half.isfinite().all()):
            raise TrainingError(
                f"features of row {rows[start]} or the {batch - 1} after it do not fit into float16 (largest "
                f"{float(values.abs().max()):.3g}): the network has not trained well; train without cached features."
            )
        features[start:end] = half.cpu().numpy()
        if end == count or end - flushed >= FLUSHED_ROWS:
            features.flush()
            flushed = state["done"] = end
            save_json(folder / STATE, state)
        if shown is not None:
            shown.show(end, last=end == count)


def _state(folder: Path) -> dict[str, Any] | None:
    path = folder / STATE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
