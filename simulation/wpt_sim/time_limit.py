"""A bound on how long one call may take."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TookTooLong(RuntimeError):
    """A call went past its time limit."""


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise TookTooLong when the body takes longer than `seconds` of wall time.

    In a process' main thread the body is interrupted at the limit (at its next Python instruction; a call
    that never returns from C has to be ended from outside). In another thread it is judged once it has ended.
    """
    message = f"{what} took longer than {seconds:g} s"
    begin = time.monotonic()
    if threading.current_thread() is not threading.main_thread():
        yield
        if time.monotonic() - begin > seconds:
            raise TookTooLong(message)
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise TookTooLong(message)

    before = signal.signal(signal.SIGALRM, interrupt)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        # An outer limit (of a test runner, say) goes on with what is left of it.
        left = max(outer - (time.monotonic() - begin), 0.001) if outer else 0.0
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)
    if time.monotonic() - begin > seconds:
        raise TookTooLong(message)
