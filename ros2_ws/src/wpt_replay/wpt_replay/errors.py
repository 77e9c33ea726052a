"""Errors of this package that its user can mend; the commands print their sentence and end with code 1."""

from __future__ import annotations


class ReplayError(RuntimeError):
    """A replay that cannot start or go on."""


class BagError(ReplayError):
    """A bag that cannot be read or written as asked."""
