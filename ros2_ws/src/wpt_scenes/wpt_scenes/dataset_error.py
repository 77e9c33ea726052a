"""The error of everything that reads a data set."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set that cannot be used as asked.

    The message is the first problem (one sentence with what was wrong, what was expected, what to do) and how
    many more there are; ``problems`` holds all of them.
    """

    def __init__(self, *problems: str):
        self.problems: tuple[str, ...] = problems
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}" if problems else "the data set cannot be used")
