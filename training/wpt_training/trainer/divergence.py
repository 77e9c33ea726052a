"""Notices a run that has gone wrong, before the step that would spoil its weights."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping

FACTOR = 20.0  # times the running median
PATIENCE = 5  # steps in a row
WINDOW = 200  # steps of the running median


class DivergenceWatch:
    """Judges every step's losses. warmup: steps before a large (finite) loss counts."""

    def __init__(self, warmup: int):
        self._warmup = warmup
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._strikes = 0

    def complaint(self, step: int, losses: Mapping[str, float], gradient_norm: float) -> str | None:
        """Return what is wrong at a step, or None."""
        for name, value in sorted(losses.items(), key=lambda entry: entry[0] == "total"):
            if not math.isfinite(value):
                return f"loss {name} is {value}"
        if not math.isfinite(gradient_norm):
            return f"the gradient's norm is {gradient_norm} (total loss {losses['total']:.4g})"
        total = losses["total"]
        median = statistics.median(self._recent) if self._recent else math.inf
        if step >= self._warmup and total > FACTOR * abs(median):
            self._strikes += 1
            if self._strikes >= PATIENCE:
                return f"loss total is {total:.4g}, over {FACTOR:g} times its median {median:.4g} for {PATIENCE} steps"
        else:
            self._strikes = 0
            self._recent.append(total)
        return None

    def state(self) -> dict[str, object]:
        """Return what a checkpoint keeps, as JSON values."""
        return {"recent": list(self._recent), "strikes": self._strikes}

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint's state."""
        self._recent = deque(state["recent"], maxlen=WINDOW)  # type: ignore[arg-type]
        self._strikes = int(state["strikes"])  # type: ignore[call-overload]
