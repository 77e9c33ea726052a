"""Memory and warp: which earlier bird's-eye views are used, and where they come to lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wpt_policy import se3
from wpt_policy.network.bev_encoder import cell_centres
from wpt_policy.network.projection import ground_motion
from wpt_policy.network.temporal import BevWarp, TemporalFusion
from wpt_policy.policy_config import BevGrid, FusionConfig, HistorySpec
from wpt_policy.temporal_memory import MAX_ENTRIES, TemporalMemory

GRID = BevGrid(x_range_m=(-16.0, 24.0), y_range_m=(-12.0, 12.0), cell_m=1.0, heights_m=(0.0,))
SECOND = 1_000_000_000


def spec(entries: int = 2) -> HistorySpec:
    return HistorySpec(entries=entries, interval_s=0.5, tolerance_s=0.2, largest_gap_s=1.5)


def fill(memory: TemporalMemory, stamps_s: list[float]) -> None:
    for stamp_s in stamps_s:
        memory.observe(round(stamp_s * SECOND), np.eye(4), torch.tensor(stamp_s))


def recalled(memory: TemporalMemory, stamp_s: float) -> list[float | None]:
    return [
        None if entry is None else round(entry.stamp_ns / SECOND, 6)
        for entry in memory.recall(round(stamp_s * SECOND))
    ]


@pytest.mark.parametrize(
    ("stamps", "now", "expected"),
    [
        ([], 1.0, [None, None]),
        ([0.5], 1.0, [0.5, None]),
        ([0.0, 0.5], 1.0, [0.5, 0.0]),
        ([0.0, 0.3, 0.6, 0.9], 1.0, [0.6, 0.0]),
        ([0.3, 0.7], 1.0, [0.7, None]),  # equally near to 0.5: the newer; 0.3 is no second entry
        ([0.29, 0.71], 1.0, [None, None]),  # both outside the tolerance
        ([0.4, 0.6], 1.1, [0.6, None]),
        ([0.0, 0.49], 1.0, [0.49, 0.0]),
    ],
)
def test_the_nearest_within_the_tolerance(
    stamps: list[float], now: float, expected: list[float | None]
) -> None:
    memory = TemporalMemory(spec())
    fill(memory, stamps)
    assert recalled(memory, now) == expected


def test_keyframes_at_2_hz_and_sweeps_at_12_hz_recall_the_same_keyframes() -> None:
    keyframes = [0.0, 0.5, 1.0, 1.5, 2.0]
    sweeps = [round(tick / 12.0, 9) for tick in range(25)]
    slow, fast = TemporalMemory(spec()), TemporalMemory(spec())
    for now in keyframes:
        expected = recalled(slow, now)
        fill(fast, [stamp for stamp in sweeps if now - 0.5 < stamp < now])
        assert recalled(fast, now) == expected
        fill(slow, [now])
        fill(fast, [now])


def test_a_long_pause_empties_the_memory() -> None:
    memory = TemporalMemory(spec())
    fill(memory, [0.0, 0.5, 1.0])
    assert recalled(memory, 2.5) == [None, None]
    memory = TemporalMemory(HistorySpec(entries=2, interval_s=2.0, tolerance_s=0.2, largest_gap_s=2.5))
    fill(memory, [0.0, 2.0])
    assert recalled(memory, 4.5) == [None, None]  # nothing at 2.5 within 0.2
    assert recalled(memory, 4.1) == [2.0, 0.0]
    assert recalled(memory, 4.6) == [None, None]  # a pause of 2.6 s
    fill(memory, [4.6])
    assert len(memory) == 1 and memory.newest_ns == round(4.6 * SECOND)


def test_sets_without_a_pose_are_not_remembered() -> None:
    memory = TemporalMemory(spec())
    memory.observe(0, None, torch.zeros(1))
    assert len(memory) == 0 and memory.newest_ns == 0
    assert recalled(memory, 0.5) == [None, None]


def test_the_same_stamp_again_replaces() -> None:
    memory = TemporalMemory(spec())
    fill(memory, [0.5, 0.5, 0.5])
    assert len(memory) == 1


def test_no_history_keeps_nothing() -> None:
    memory = TemporalMemory(spec(0))
    fill(memory, [0.0, 0.5])
    assert len(memory) == 0 and recalled(memory, 1.0) == []


def test_reset_forgets() -> None:
    memory = TemporalMemory(spec())
    fill(memory, [0.0, 0.5])
    memory.reset()
    assert len(memory) == 0 and memory.newest_ns is None and recalled(memory, 1.0) == [None, None]


@given(st.lists(st.integers(0, 400_000_000), max_size=200))
def test_memory_is_bounded_and_holds_all_that_is_asked_for(steps_ns: list[int]) -> None:
    memory, stamp_ns, seen = TemporalMemory(spec()), 0, []
    for step_ns in steps_ns:
        stamp_ns += step_ns
        wanted = [stamp_ns - 500_000_000, stamp_ns - 1_000_000_000]
        for entry, wanted_ns in zip(memory.recall(stamp_ns), wanted, strict=True):
            distances = [abs(other - wanted_ns) for other in set(seen[-MAX_ENTRIES:])]
            best = min(distances, default=SECOND)
            if len(seen) < MAX_ENTRIES:
                assert (entry is not None) == (best <= 200_000_000)
                assert entry is None or abs(entry.stamp_ns - wanted_ns) == best
        memory.observe(stamp_ns, np.eye(4), torch.zeros(1))
        seen.append(stamp_ns)
        assert len(memory) <= MAX_ENTRIES
        assert all(entry.stamp_ns >= stamp_ns - 1_200_000_000 for entry in memory._memories)


poses = st.builds(se3.planar, st.floats(-50, 50), st.floats(-50, 50), st.floats(-math.pi, math.pi))
small_moves = st.builds(se3.planar, st.floats(-5, 5), st.floats(-2, 2), st.floats(-0.4, 0.4))


def world(odom_from_base: np.ndarray) -> torch.Tensor:
    """A smooth pattern painted on the ground of the world, as the grid at a pose sees it: [1, 2, X, Y]."""
    x, y = (values.double().numpy() for values in cell_centres(GRID))
    points = se3.apply(odom_from_base, np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1))
    pattern = np.stack([np.sin(0.25 * points[:, 0] + 0.1 * points[:, 1]), np.cos(0.2 * points[:, 1])])
    return torch.from_numpy(pattern.reshape(1, 2, *GRID.shape)).float()


@settings(max_examples=40)
@given(poses, small_moves)
def test_a_still_world_stays_put_under_the_warp(earlier: np.ndarray, move: np.ndarray) -> None:
    present = earlier @ move
    motion = torch.from_numpy(ground_motion(earlier, present)).float()[None]
    ones = torch.ones(1, 1, *GRID.shape)
    warped = BevWarp(GRID)(torch.cat([world(earlier), ones], dim=1), motion)
    covered = warped[:, -1:] > 0.999
    assert covered.float().mean() > 0.4
    difference = (warped[:, :2] - world(present)).abs() * covered
    # Bilinear interpolation of waves of 25 m at 1 m cells is off by at most 0.25^2 / 8 in each direction.
    assert difference.max() < 0.02
    unmoved = (world(earlier) - world(present)).abs() * covered
    if np.linalg.norm(move[:2, 3]) > 3.0:
        assert unmoved.max() > 0.1


def test_warp_by_hand() -> None:
    """The ego drives 3 m ahead and turns left by 90 degrees: what was 5 m ahead of it is now 2 m to its
    right.
    """
    bev = torch.zeros(1, 1, *GRID.shape)
    bev[0, 0, 16 + 5, 12] = 1.0  # the cell with centre (5.5, 0.5)
    motion = ground_motion(np.eye(4), se3.planar(3.0, 0.0, math.pi / 2))
    warped = BevWarp(GRID)(bev, torch.from_numpy(motion).float()[None])[0, 0]
    expected_x, expected_y = 0.5, -2.5  # (5.5 - 3, 0.5) turned by -90 degrees
    assert warped.argmax() == (16 + math.floor(expected_x)) * 24 + 12 + math.floor(expected_y)
    assert warped.max() == pytest.approx(1.0, abs=1e-4)


def test_standing_still_warps_nothing() -> None:
    bev = torch.randn(1, 4, *GRID.shape)
    motion = torch.from_numpy(ground_motion(se3.planar(9, 9, 1), se3.planar(9, 9, 1))).float()[None]
    torch.testing.assert_close(BevWarp(GRID)(bev, motion), bev, rtol=0, atol=1e-4)


@given(poses, small_moves)
def test_ground_motion_leaves_height_roll_and_pitch_out(earlier: np.ndarray, move: np.ndarray) -> None:
    tilt = se3.transform([0.0, 0.0, 0.3], [math.cos(0.01), math.sin(0.01), 0.0, 0.0])
    np.testing.assert_allclose(
        ground_motion(earlier, earlier @ move @ tilt), ground_motion(earlier, earlier @ move), atol=5e-3
    )


def test_missing_entries_count_as_zeros_whatever_stands_in_them() -> None:
    torch.manual_seed(0)
    fusion = TemporalFusion(FusionConfig(blocks=1), GRID, channels=4, entries=2).eval()
    bev, history = torch.randn(1, 5, *GRID.shape), torch.randn(1, 2, 5, *GRID.shape)
    motion = torch.eye(2, 3).expand(1, 2, 2, 3)
    with torch.no_grad():
        full = fusion(bev, history, motion, torch.tensor([[True, True]]))
        one = fusion(bev, history, motion, torch.tensor([[True, False]]))
        poisoned = history.clone()
        poisoned[:, 1] = torch.nan
        again = fusion(bev, poisoned, motion, torch.tensor([[True, False]]))
        zeros = history.clone()
        zeros[:, 1] = 0.0
        zeroed = fusion(bev, zeros, motion, torch.tensor([[True, True]]))
    torch.testing.assert_close(one, again, rtol=0, atol=0)
    torch.testing.assert_close(one, zeroed, rtol=0, atol=0)
    assert (full - one).abs().max() > 0.1
