"""Progress of a run on standard error: a bar on a terminal, else a line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

LINE_SECONDS = 30.0
BAR_SECONDS = 0.2
BAR_WIDTH = 24


class Progress:
    """Shows how far a run is. label: before each line. total: steps."""

    def __init__(
        self,
        label: str,
        total: int,
        start: int = 0,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._label, self._total, self._start = label, total, start
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._clock = clock
        self._began = clock()
        self._shown = self._began

    def show(self, step: int, values: Mapping[str, float] | None = None, *, last: bool = False) -> None:
        """Show a step where it is time for it. values: a few figures behind it."""
        now = self._clock()
        if not last and now - self._shown < (BAR_SECONDS if self._terminal else LINE_SECONDS):
            return
        self._shown = now
        text = self._text(step, now, values or {})
        if self._terminal:
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def say(self, message: str) -> None:
        """Write a sentence on a line of its own."""
        self._stream.write(("\r\x1b[K" if self._terminal else "") + f"{self._label}: {message}\n")
        self._stream.flush()

    def _text(self, step: int, now: float, values: Mapping[str, float]) -> str:
        done = step / self._total if self._total else 1.0
        filled = int(BAR_WIDTH * done)
        bar = f" [{'#' * filled}{'.' * (BAR_WIDTH - filled)}]" if self._terminal else ""
        taken = now - self._began
        ahead = taken / (step - self._start) * (self._total - step) if step > self._start else None
        left = "" if ahead is None else f", {_minutes(ahead)} left"
        figures = "".join(f", {name} {value:.4g}" for name, value in values.items())
        return f"{self._label}{bar} {step}/{self._total} ({100 * done:.0f} %), {_minutes(taken)}{left}{figures}"


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
