"""The error that a person at the console should see as one sentence."""

from __future__ import annotations


class SimulationError(ValueError):
    """Something that was asked of the driving world cannot be done; the message is one sentence that says
    what to do.
    """
