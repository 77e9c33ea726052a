"""Paired bootstrap over scenes (or routes) and seeds: what a difference or a ratio of two rows is good for.

Samples of one scene are alike and seeds of one row differ, so both are drawn with replacement: whole scenes, the same
for both rows (they were judged on the same), and seeds, in pairs where both rows have the same ones (they share the order
of samples) and each row's own otherwise. The percentiles of the redrawn figure are the interval (Efron and Tibshirani,
"An Introduction to the Bootstrap", chapter 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wpt_training.errors import TrainingError

DRAWS = 10_000
LEVEL = 0.95
# At so many draws at once the weights take a few dozen megabytes.
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusterSums:
    """One row's figures by seed and cluster, as a sum and a count for each of K parts (steps): the figure is the mean over
    the parts of sum / count, then over the seeds.

    name: of the row. seeds: (S,) names. clusters: (G,) names of scenes or routes. sums, counts: (S, G, K). A part that no
    cluster has is a TrainingError.
    """

    name: str
    seeds: tuple[str, ...]
    clusters: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        expected = (len(self.seeds), len(self.clusters))
        if self.sums.shape != self.counts.shape or self.sums.shape[:2] != expected or 0 in self.sums.shape:
            raise TrainingError(
                f"row {self.name} has sums {self.sums.shape} and counts {self.counts.shape}, expected (seeds, clusters, "
                f"parts) with {expected[0]} seeds and {expected[1]} clusters, none of them 0; give one entry for each."
            )
        if not np.all(self.counts.sum(axis=1) > 0):
            raise TrainingError(
                f"row {self.name} counts nothing in some part, expected samples in each; leave the part out."
            )

    @property
    def value(self) -> float:
        return float((self.sums.sum(axis=1) / self.counts.sum(axis=1)).mean())


def clustered(
    name: str,
    values: Sequence[np.ndarray],
    known: Sequence[np.ndarray],
    clusters: Sequence[Sequence[str]],
    seeds: Sequence[str],
) -> ClusterSums:
    """Return ClusterSums of S seeds from values (N, K), known (N, K) and the clusters' names (N,) of each."""
    names = sorted({cluster for seed in clusters for cluster in seed})
    number = {cluster: index for index, cluster in enumerate(names)}
    parts = np.shape(values[0])[1]
    sums, counts = (np.zeros((len(seeds), len(names), parts)) for _ in range(2))
    for seed, (value, there, belongs) in enumerate(zip(values, known, clusters, strict=True)):
        rows = np.array([number[cluster] for cluster in belongs], dtype=np.int64)
        np.add.at(sums[seed], rows, np.where(there, value, 0.0))
        np.add.at(counts[seed], rows, np.asarray(there, dtype=np.float64))
    return ClusterSums(name=name, seeds=tuple(seeds), clusters=tuple(names), sums=sums, counts=counts)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its interval. low, high are infinite where so many draws had a divisor of 0."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """first - second and first / second. clusters, seeds: how many were redrawn; paired_seeds: in pairs."""

    first: str
    second: str
    first_value: Interval
    second_value: Interval
    difference: Interval
    ratio: Interval
    clusters: int
    seeds: tuple[int, int]
    paired_seeds: bool
    draws: int
    level: float


def compare(
    first: ClusterSums, second: ClusterSums, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Comparison:
    """Return the comparison of two rows on the clusters that both have, and on the seeds that both have.

    A seed that only one row has is left out, since seeds differ by more than rows do; rows without a common seed are
    compared with all of theirs, unpaired.

    Raises TrainingError for rows without a common cluster or with different parts.
    """
    common = [cluster for cluster in first.clusters if cluster in set(second.clusters)]
    if not common or first.sums.shape[2] != second.sums.shape[2]:
        raise TrainingError(
            f"{first.name} and {second.name} have {len(common)} common clusters and {first.sums.shape[2]} and "
            f"{second.sums.shape[2]} parts, expected common clusters and the same parts; judge both on the same samples."
        )
    first, second = _at(first, common), _at(second, common)
    seeds = [seed for seed in first.seeds if seed in set(second.seeds)]
    if seeds:
        first, second = _of_seeds(first, seeds), _of_seeds(second, seeds)
    paired = bool(seeds)
    random = np.random.default_rng(seed)
    one, two = [], []
    for begin in range(0, draws, _AT_ONCE):
        count = min(_AT_ONCE, draws - begin)
        clusters = random.multinomial(len(common), np.full(len(common), 1 / len(common)), size=count).astype(
            float
        )
        weights = _seed_weights(random, len(first.seeds), count)
        one.append(_redrawn(first, clusters, weights))
        other = weights if paired else _seed_weights(random, len(second.seeds), count)
        two.append(_redrawn(second, clusters, other))
    a, b = np.concatenate(one), np.concatenate(two)
    return Comparison(
        first=first.name,
        second=second.name,
        first_value=_interval(first.value, a, level),
        second_value=_interval(second.value, b, level),
        difference=_interval(first.value - second.value, a - b, level),
        ratio=_interval(_ratio(np.array(first.value), np.array(second.value)).item(), _ratio(a, b), level),
        clusters=len(common),
        seeds=(len(first.seeds), len(second.seeds)),
        paired_seeds=paired,
        draws=draws,
        level=level,
    )


def _at(row: ClusterSums, clusters: Sequence[str]) -> ClusterSums:
    where = [row.clusters.index(cluster) for cluster in clusters]
    return ClusterSums(
        name=row.name,
        seeds=row.seeds,
        clusters=tuple(clusters),
        sums=row.sums[:, where],
        counts=row.counts[:, where],
    )


def _of_seeds(row: ClusterSums, seeds: Sequence[str]) -> ClusterSums:
    where = [row.seeds.index(seed) for seed in seeds]
    return ClusterSums(
        name=row.name, seeds=tuple(seeds), clusters=row.clusters, sums=row.sums[where], counts=row.counts[where]
    )


def _seed_weights(random: np.random.Generator, seeds: int, count: int) -> np.ndarray:
    """(count, seeds) shares that add up to 1."""
    return random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds


def _redrawn(row: ClusterSums, clusters: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """(D,) figures for clusters (D, G) and seeds (D, S) drawn so often. A part that a draw lacks is left out of it."""
    sums = np.einsum("dg,sgk->dsk", clusters, row.sums)
    counts = np.einsum("dg,sgk->dsk", clusters, row.counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(counts > 0, sums / counts, np.nan)
    there = np.isfinite(shares)
    by_seed = np.where(there, shares, 0.0).sum(axis=2) / np.maximum(there.sum(axis=2), 1)
    return (by_seed * seeds).sum(axis=1)


def _ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """first / second; 0 / 0 is 1 (the rows are alike), anything else over 0 is infinite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        result = first / second
    return np.where(np.isnan(result), 1.0, result)


def _interval(value: float, draws: np.ndarray, level: float) -> Interval:
    tail = (1.0 - level) / 2.0
    # "lower" and "higher" never interpolate, which would make NaN of two infinities.
    low = np.quantile(draws, tail, method="lower")
    high = np.quantile(draws, 1.0 - tail, method="higher")
    return Interval(value=float(value), low=float(low), high=float(high))
