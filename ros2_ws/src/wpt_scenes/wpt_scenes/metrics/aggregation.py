"""Which samples and steps count, and how six per-step values become the values at 1, 2 and 3 s."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

from wpt_scenes.metrics.samples import EvaluationSample

# Steps of 1, 2 and 3 s.
SECOND_STEPS = {"1s": 1, "2s": 3, "3s": 5}


class Averaging(Enum):
    """How values per step are condensed (method names of the papers in docs/metrics.md).

    AT_STEP: the value at 1, 2, 3 s (UniAD). OVER_TIME: the mean of all steps up to 1, 2, 3 s (ST-P3, VAD).
    ANY_UNTIL: the share of samples with at least one hit up to then (BEV-Planner; collisions alone).
    """

    AT_STEP = "at_step"
    OVER_TIME = "over_time"
    ANY_UNTIL = "any_until"


class Counting(Enum):
    """Which samples are judged and what a missing future step is.

    KNOWN_STEPS: every sample, each step divided by the number of samples that have it (this suite).
    ZERO_FILLED: every sample; a missing step counts as error 0 and as no collision, and is divided by all (UniAD).
    COMPLETE: samples with all six future keyframes (VAD, SparseDrive, BEV-Planner).
    COMPLETE_WITH_PAST: those with two earlier keyframes as well (ST-P3).
    FIVE_WITH_PAST_ZERO_FILLED: two earlier and at least five future keyframes, a missing sixth as ZERO_FILLED
    (OccWD4E2E).
    """

    KNOWN_STEPS = "known_steps"
    ZERO_FILLED = "zero_filled"
    COMPLETE = "complete"
    COMPLETE_WITH_PAST = "complete_with_past"
    FIVE_WITH_PAST_ZERO_FILLED = "five_with_past_zero_filled"

    @property
    def needs_past(self) -> bool:
        return self in (Counting.COMPLETE_WITH_PAST, Counting.FIVE_WITH_PAST_ZERO_FILLED)


PAST_KEYFRAMES = 2


def judged_samples(counting: Counting, samples: Sequence[EvaluationSample], known: np.ndarray) -> np.ndarray:
    """Return (N,) bool: which samples count. known: (N, 6). An unknown past is none."""
    past = np.array([(sample.past or 0) >= PAST_KEYFRAMES for sample in samples], dtype=bool)
    if counting is Counting.COMPLETE:
        return known.all(axis=1)
    if counting is Counting.COMPLETE_WITH_PAST:
        return known.all(axis=1) & past
    if counting is Counting.FIVE_WITH_PAST_ZERO_FILLED:
        return known[:, :5].all(axis=1) & past
    return np.ones(len(samples), dtype=bool)


def step_counts(counting: Counting, judged: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the (6,) number that each step's sum is divided by."""
    if counting is Counting.KNOWN_STEPS:
        return (known & judged[:, None]).sum(axis=0)
    return np.full(known.shape[1], int(judged.sum()))


def per_step_mean(values: np.ndarray, counts: np.ndarray) -> list[float | None]:
    """Return the six means of (N, 6) values (NaN counts as 0), None where nothing was counted."""
    sums = np.nansum(values, axis=0)
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]


def seconds(per_step: Sequence[float | None], averaging: Averaging) -> dict[str, float | None]:
    """Return the values at 1, 2, 3 s and their mean ``avg``, from six values per step."""
    values = []
    for step in SECOND_STEPS.values():
        needed = per_step[: step + 1] if averaging is Averaging.OVER_TIME else [per_step[step]]
        values.append(None if any(value is None for value in needed) else float(np.mean(needed)))
    mean = None if any(value is None for value in values) else float(np.mean(values))
    return {**dict(zip(SECOND_STEPS, values, strict=True)), "avg": mean}
