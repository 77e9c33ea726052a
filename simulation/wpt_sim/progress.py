"""One progress line for the commands of this room; silent where nobody watches."""

from __future__ import annotations

import sys
import time
from typing import TextIO

REFRESH_S = 0.2
WIDTH = 30


class Progress:
    """A bar on standard error. total: of the unit counted. `show(done, note)` draws at most every 0.2 s."""

    def __init__(self, label: str, total: float, *, stream: TextIO | None = None):
        self._label, self._total = label, total
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._begin = time.monotonic()
        self._drawn = -REFRESH_S

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._stream.write("\r\033[K")
            self._stream.flush()

    def show(self, done: float, note: str = "") -> None:
        now = time.monotonic() - self._begin
        if not self._live or now - self._drawn < REFRESH_S:
            return
        self._drawn = now
        share = min(1.0, done / self._total) if self._total else 1.0
        left = f", {now / share - now:.0f} s left" if share > 0.02 else ""
        bar = "#" * round(share * WIDTH)
        self._stream.write(f"\r\033[K{self._label} [{bar:.<{WIDTH}}] {100 * share:3.0f} %{left} {note}")
        self._stream.flush()
