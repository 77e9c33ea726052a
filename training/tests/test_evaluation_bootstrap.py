"""Intervals of cases whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_training.errors import TrainingError
from wpt_training.evaluation.bootstrap import ClusterSums, clustered, compare


def row(
    name: str, sums: np.ndarray, counts: np.ndarray | None = None, seeds: tuple[str, ...] | None = None
) -> ClusterSums:
    counts = np.ones_like(sums) if counts is None else counts
    seeds = seeds or tuple(str(s) for s in range(len(sums)))
    clusters = tuple(f"scene-{g}" for g in range(sums.shape[1]))
    return ClusterSums(name=name, seeds=seeds, clusters=clusters, sums=sums, counts=counts)


def test_equal_rows_differ_by_exactly_nothing() -> None:
    sums = np.random.default_rng(0).random((3, 20, 6))
    found = compare(row("a", sums), row("b", sums), draws=500)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0.0, 0.0, 0.0)
    assert (found.ratio.value, found.ratio.low, found.ratio.high) == (1.0, 1.0, 1.0)
    assert not found.difference.excludes_zero and found.paired_seeds


def test_a_constant_shift_and_a_constant_factor_are_certain_though_the_rows_are_not() -> None:
    sums = 1.0 + np.random.default_rng(1).random((3, 20, 6))
    shifted = compare(row("a", sums + 0.25), row("b", sums), draws=500)
    assert np.allclose([shifted.difference.low, shifted.difference.high], 0.25)
    assert shifted.difference.excludes_zero
    assert shifted.first_value.high - shifted.first_value.low > 0.01
    halved = compare(row("a", 0.5 * sums), row("b", sums), draws=500)
    assert np.allclose([halved.ratio.low, halved.ratio.value, halved.ratio.high], 0.5)


def test_width_is_that_of_the_mean_of_scenes() -> None:
    """One seed, 400 independent scenes of standard deviation 1: 95 % of the mean lies within 1.96 / 20."""
    random = np.random.default_rng(2)
    values = random.normal(0.0, 1.0, (1, 400, 1))
    values = (values - values.mean()) / values.std()
    found = compare(row("a", values), row("b", np.zeros_like(values)), draws=20_000)
    assert found.difference.value == pytest.approx(0.0, abs=1e-12)
    assert found.difference.low == pytest.approx(-1.96 / 20, abs=0.004)
    assert found.difference.high == pytest.approx(1.96 / 20, abs=0.004)


def test_seeds_count_as_a_source_of_chance() -> None:
    """Scenes all alike, three seeds 0, 1, 2: the mean of three drawn seeds is 0 with probability 1/27 = 3.7 %."""
    sums = np.broadcast_to(np.array([0.0, 1.0, 2.0])[:, None, None], (3, 30, 6)).copy()
    found = compare(row("a", sums), row("b", np.zeros_like(sums), seeds=("x", "y", "z")), draws=20_000)
    assert not found.paired_seeds
    assert (found.difference.low, found.difference.high) == (0.0, 2.0)
    wide = compare(row("a", sums), row("b", np.zeros_like(sums)), draws=20_000, level=0.90)
    assert (wide.difference.low, wide.difference.high) == pytest.approx((1 / 3, 5 / 3))


def test_samples_of_one_scene_are_no_independent_evidence() -> None:
    """Ten scenes of 100 equal samples are worth ten samples, not a thousand."""
    random = np.random.default_rng(3)
    by_scene = random.normal(0.0, 1.0, 10)
    by_scene = (by_scene - by_scene.mean()) / by_scene.std()
    values = np.repeat(by_scene, 100)[:, None]
    names = np.repeat([f"s{g}" for g in range(10)], 100)
    one = clustered("a", [values], [np.ones_like(values, dtype=bool)], [names], ["1"])
    two = clustered("b", [0 * values], [np.ones_like(values, dtype=bool)], [names], ["1"])
    found = compare(one, two, draws=10_000)
    assert found.clusters == 10
    assert found.difference.high - found.difference.low == pytest.approx(2 * 1.96 / math.sqrt(10), rel=0.15)


def test_parts_have_their_own_divisors_and_missing_steps_do_not_count() -> None:
    values, known = np.array([[1.0, 1.0], [0.0, np.nan]]), np.array([[True, True], [True, False]])
    one = clustered("a", [values], [known], [["x", "y"]], ["1"])
    assert one.value == pytest.approx((0.5 + 1.0) / 2)


def test_a_rare_event_gives_an_endless_ratio_and_no_crash() -> None:
    sums = np.zeros((1, 12, 6))
    rare = sums.copy()
    rare[0, 0] = 1.0
    found = compare(row("a", rare), row("b", sums), draws=400)
    assert found.ratio.value == math.inf and found.ratio.high == math.inf
    assert found.ratio.low == 1.0  # 0 / 0 in the draws without the scene
    other = compare(row("b", sums), row("a", rare), draws=400)
    assert other.ratio.value == 0.0 and other.ratio.low == 0.0 and other.ratio.high == 1.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_intervals_hold_the_value_and_the_opposite_comparison_is_the_mirror_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(1, 9, (2, 15, 6)).astype(float)
    first, second = (row(name, random.random((2, 15, 6)) * counts, counts) for name in "ab")
    there, back = compare(first, second, draws=300, seed=seed), compare(second, first, draws=300, seed=seed)
    for interval in (there.difference, there.ratio, there.first_value):
        assert interval.low <= interval.value <= interval.high
    assert there.difference.low == pytest.approx(-back.difference.high)


def test_only_common_scenes_are_compared_and_nonsense_is_named() -> None:
    one = clustered("a", [np.ones((2, 1))], [np.ones((2, 1), bool)], [["x", "y"]], ["1"])
    two = clustered("b", [np.zeros((2, 1))], [np.ones((2, 1), bool)], [["y", "z"]], ["1"])
    assert compare(one, two, draws=10).clusters == 1
    three = clustered("c", [np.zeros((1, 1))], [np.ones((1, 1), bool)], [["w"]], ["1"])
    with pytest.raises(TrainingError, match="0 common clusters"):
        compare(one, three)
    with pytest.raises(TrainingError, match="counts nothing"):
        clustered("d", [np.ones((1, 2))], [np.array([[True, False]])], [["x"]], ["1"])


def test_rows_are_compared_on_the_seeds_that_both_have() -> None:
    """The first is better by 0.05 in every seed; a seed that only the second has must not hide it."""
    by_seed = np.array([0.0, 0.3, 0.6])[:, None, None] * np.ones((3, 20, 6))
    second = row("b", by_seed, seeds=("1", "2", "3"))
    for seeds in (("1", "2"), ("3",)):
        chosen = [int(seed) - 1 for seed in seeds]
        found = compare(row("a", by_seed[chosen] - 0.05, seeds=seeds), second)
        assert found.difference.value == pytest.approx(-0.05)
        assert found.seeds == (len(seeds), len(seeds)) and found.paired_seeds
        assert found.difference.excludes_zero
