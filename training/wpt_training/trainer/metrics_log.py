"""metrics.jsonl of a run (and TensorBoard where it is installed): means over the steps since the line before."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
SMOOTHING = 0.98  # of the exponential mean that result.json reports
# Not part of what a resumed run repeats exactly.
TIMES = ("samples_per_s", "seconds")


class MetricsLog:
    """Collects values step by step and writes a line every so many steps.

    folder: where metrics.jsonl lies, or None to write nothing (ranks other than the first). Lines of steps after `step`,
    where a resumed run goes on, are dropped.
    """

    def __init__(self, folder: Path | None, every: int, step: int):
        self._folder, self._every = folder, every
        self._sums: dict[str, float] = {}
        self._count = 0
        self._smoothed: dict[str, list[float]] = {}
        self._writer: Any = None
        if folder is not None:
            _drop_after(folder / METRICS, step)
            self._writer = _tensorboard(folder, step)

    def add(self, step: int, values: Mapping[str, float], now: Mapping[str, float]) -> bool:
        """Take in the values of a finished step (counted from 1); returns whether a line was written.

        values: averaged over steps. now: written as they are.
        """
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            sum_, weight = self._smoothed.get(name, (0.0, 0.0))
            self._smoothed[name] = [SMOOTHING * sum_ + (1 - SMOOTHING) * value, SMOOTHING * weight + 1 - SMOOTHING]
        if step % self._every:
            return False
        line = {"step": step, **{name: value / self._count for name, value in self._sums.items()}, **now}
        self._sums, self._count = {}, 0
        if self._folder is not None:
            with (self._folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self._writer is not None:
            for name, value in line.items():
                self._writer.add_scalar(name, value, step)
        return True

    def smoothed(self) -> dict[str, float]:
        """Return each value's exponential mean over about the last 50 steps."""
        return {name: sum_ / weight for name, (sum_, weight) in self._smoothed.items()}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON values."""
        return {"sums": dict(self._sums), "count": self._count, "smoothed": dict(self._smoothed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self._sums, self._count = dict(state["sums"]), int(state["count"])
        self._smoothed = {name: list(pair) for name, pair in state["smoothed"].items()}

    def close(self) -> None:
        """Flush what TensorBoard holds back."""
        if self._writer is not None:
            self._writer.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Return the lines of a run's metrics.jsonl, oldest first."""
    path = folder / METRICS
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _drop_after(path: Path, step: int) -> None:
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # cut short by the end of the run before
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    waiting.write_text("".join(kept), encoding="utf-8")
    os.replace(waiting, path)


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
