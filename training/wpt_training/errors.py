"""Errors whose one sentence the command line shows."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """Training cannot go on as asked. The message says what was wrong, what was expected and what to do."""


class DivergenceError(TrainingError):
    """A loss or gradient is not finite, or has exploded."""
