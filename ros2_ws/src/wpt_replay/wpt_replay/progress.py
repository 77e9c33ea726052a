"""One progress bar for all commands; silent where nobody watches."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

REFRESH_S = 0.1
WIDTH = 30


class Progress:
    """A bar on standard error while the block runs; nothing at all when that is no terminal.

    total: of the unit counted, at least 0. ``show(done, note)`` draws at most every 0.1 s.
    """

    def __init__(self, label: str, total: float, *, stream: TextIO | None = None) -> None:
        self._label = label
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._drawn_s = float("-inf")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._stream.write("\r\033[K")
            self._stream.flush()

    def show(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        if not self._live or now - self._drawn_s < REFRESH_S:
            return
        self._drawn_s = now
        fraction = min(1.0, done / self._total) if self._total > 0 else 1.0
        filled = round(fraction * WIDTH)
        bar = "#" * filled + "." * (WIDTH - filled)
        self._stream.write(f"\r\033[K{self._label} [{bar}] {100 * fraction:3.0f} % {note}")
        self._stream.flush()
