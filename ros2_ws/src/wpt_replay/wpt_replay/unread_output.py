"""A command whose reader has seen enough (`| head`) ends quietly."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def quiet_when_unread(run: Callable[[], int]) -> int:
    """Return what ``run`` returns, or 0 where nobody reads the output any more.

    Flushes before it returns: a short output would otherwise only break in Python's own flush at the very end.
    """
    try:
        code = run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
