"""CameraStatistics: period, loss, jitter and firing order from stamps; verdict on the skew bound."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_planner.camera_statistics import CameraStatistics

MS = 1_000_000
START = 1_600_000_000_000_000_000

# nuScenes, measured over 81 keyframes: mean offsets to the LIDAR_TOP stamp (-43 to 0 ms).
NUSCENES = {
    "cam_front": 8,
    "cam_front_right": 16,
    "cam_back_right": 23,
    "cam_back": 33,
    "cam_back_left": 43,
    "cam_front_left": 0,
}

# Intervals between the 40 keyframes of scene-0103, in ms.
KEYFRAME_INTERVALS = [500] * 12 + [400] + [500] * 3 + [450] + [500] * 3 + [550] + [500] * 6 + [450, 550]
KEYFRAME_INTERVALS += [500] * 5 + [600, 400] + [500] * 3


def feed(statistics, triggers, offsets=NUSCENES, *, lost=0.0, jitter=0.0, seed=0):
    """triggers: ms. Returns how many images were lost."""
    chance = random.Random(seed)
    count = 0
    for trigger in triggers:
        for camera, offset in offsets.items():
            if chance.random() < lost:
                count += 1
                continue
            stamp = trigger + offset + chance.uniform(-jitter, jitter)
            statistics.add(camera, START + round(stamp * MS))
    return count


def every(period, count):
    return [period * i for i in range(count)]


def test_nuscenes_at_12_hz_has_the_contract_s_figures() -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    feed(statistics, every(1000 / 12, 30), jitter=0.5)
    stagger = statistics.stagger()
    assert stagger.first == "cam_front_left"
    assert stagger.period_ns == pytest.approx(83.3 * MS, abs=0.3 * MS)
    assert stagger.spread_ns == pytest.approx(43 * MS, abs=MS)
    assert stagger.largest_gap_ns == pytest.approx(10 * MS, abs=MS)
    for camera, offset in NUSCENES.items():
        assert stagger.offsets_ns[camera] == pytest.approx(offset * MS, abs=MS)
    assert statistics.skew_bound_problem(60 * MS) is None
    assert statistics.skew_bound_problem(45 * MS) is None
    assert statistics.skew_bound_problem(72 * MS) is None
    low = statistics.skew_bound_problem(41 * MS)
    high = statistics.skew_bound_problem(75 * MS)
    assert "max_skew 41.0 ms is too small" in low and "max_skew 75.0 ms is too large" in high
    for sentence in (low, high):  # both figures
        figures = [
            float(word) for word in sentence.replace("(", " ").split() if word.replace(".", "").isdigit()
        ]
        assert any(abs(figure - 43) < 1 for figure in figures)
        assert any(abs(figure - 73) < 1.5 for figure in figures)
    assert statistics.suggested_skew_ns() == pytest.approx(58 * MS, abs=MS)
    assert "spread" in statistics.describe() and "cam_front_left 0.0" in statistics.describe()


def test_keyframes_at_2_hz_are_not_called_lost() -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    triggers = [0]
    for interval in KEYFRAME_INTERVALS:
        triggers.append(triggers[-1] + interval)
    feed(statistics, triggers)
    timing = statistics.timing("cam_front")
    assert (timing.received, timing.lost) == (40, 0)
    assert statistics.loss_sentences() == []
    assert statistics.stagger().period_ns == pytest.approx(500 * MS, rel=0.02)
    low, high = statistics.stagger().bound_limits_ns
    assert low == pytest.approx(43 * MS, abs=MS) and high > 480 * MS
    assert statistics.skew_bound_problem(60 * MS) is None
    assert statistics.skew_bound_problem(250 * MS) is None


def test_a_missing_keyframe_is_called_lost() -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    feed(statistics, every(500, 10))
    feed(statistics, [5500 + 500 * i for i in range(10)])  # 5000 is missing
    assert statistics.timing("cam_back").lost == 1


def test_simultaneous_cameras_allow_any_bound_below_the_period() -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    feed(statistics, every(100, 20), dict.fromkeys(NUSCENES, 0))
    assert statistics.stagger().spread_ns == 0
    assert statistics.skew_bound_problem(1) is None
    assert statistics.skew_bound_problem(99 * MS) is None
    assert "too large" in statistics.skew_bound_problem(100 * MS)
    assert "too small" in statistics.skew_bound_problem(0)
    assert statistics.suggested_skew_ns() == 50 * MS


def test_even_stagger_has_no_legal_bound() -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    offsets = {camera: i * 100 / 6 for i, camera in enumerate(NUSCENES)}
    feed(statistics, every(100, 20), offsets)
    assert "no skew bound tells one cycle from the next" in statistics.skew_bound_problem(90 * MS)
    assert statistics.suggested_skew_ns() is None


def test_lidar_locked_cameras_run_at_12_hz_and_lose_nothing() -> None:
    # 12 exposures over 20 lidar turns a second, 50 or 100 ms apart.
    statistics = CameraStatistics(tuple(NUSCENES))
    feed(statistics, [50 * (turn * 20 // 12) for turn in range(60)], jitter=1.0)
    stagger = statistics.stagger()
    assert stagger.period_ns == pytest.approx(83.3 * MS, rel=0.02)
    assert stagger.shortest_ns == pytest.approx(50 * MS, abs=3 * MS)
    assert stagger.spread_ns == pytest.approx(43 * MS, abs=2 * MS)
    assert statistics.skew_bound_problem(60 * MS) is None
    assert statistics.loss_sentences() == []
    assert statistics.timing("cam_back").rate_hz == pytest.approx(12, rel=0.02)
    assert "irregular" in statistics.describe()


@pytest.mark.parametrize("lost", [0.02, 0.2, 0.5, 0.8])
def test_loss_is_counted_up_to_what_an_unconfigured_transport_loses(lost: float) -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    count = feed(statistics, every(1000 / 12, 600), lost=lost, jitter=1.0, seed=4)
    timings = [statistics.timing(camera) for camera in NUSCENES]
    assert sum(timing.lost for timing in timings) == pytest.approx(count, rel=0.1, abs=3)
    for timing in timings:
        assert timing.interval_ns == pytest.approx(1e9 / 12, rel=0.03)
        assert timing.lost_percent == pytest.approx(100 * lost, abs=8)
    (sentence, *_) = statistics.loss_sentences()
    assert "% lost before this node" in sentence and sentence.startswith("cam_front:")


def test_loss_of_one_camera_names_that_camera_alone() -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    for number, trigger in enumerate(every(100, 40)):
        feed(statistics, [trigger], {c: o for c, o in NUSCENES.items() if c != "cam_back" or number % 4 != 3})
    (sentence,) = statistics.loss_sentences()
    assert sentence.startswith("cam_back: 2")
    timing = statistics.timing("cam_back")
    assert timing.lost == 9  # the tenth is after its last image
    assert statistics.timing("cam_front").lost == 0
    assert statistics.timing("cam_back").longest_gap_ns == 200 * MS


def test_jitter_and_rate() -> None:
    statistics = CameraStatistics(("a", "b"))
    feed(statistics, every(33.3, 60), {"a": 0, "b": 0}, jitter=3.0, seed=1)
    timing = statistics.timing("a")
    assert 1 * MS < timing.jitter_ns < 4 * MS
    assert timing.rate_hz == pytest.approx(30, rel=0.02)
    assert timing.lost == 0


def test_pause_is_an_interruption_and_no_loss() -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    feed(statistics, every(100, 20))
    feed(statistics, [12_000 + 100 * i for i in range(20)])
    assert statistics.timing("cam_front").lost == 0
    assert statistics.timing("cam_front").longest_gap_ns == 10_100 * MS


def test_clock_jumps_start_a_new_window_and_count_no_loss() -> None:
    for jump in (-(10**10), 3600 * 10**9):
        statistics = CameraStatistics(tuple(NUSCENES))
        feed(statistics, every(100, 20))
        feed(statistics, [jump / MS + 100 * i for i in range(20)])
        timing = statistics.timing("cam_front")
        assert (timing.received, timing.lost) == (40, 0)
        assert statistics.stagger().spread_ns == 43 * MS


def test_repeated_earlier_and_zero_stamps_are_ignored() -> None:
    statistics = CameraStatistics(("a",))
    for stamp in (0, 100, 100, 50, 200, 300, 400):
        statistics.add("a", START + stamp * MS)
        statistics.add("a", 0)
    assert statistics.timing("a").received == 5


def test_nothing_is_claimed_from_two_cycles() -> None:
    statistics = CameraStatistics(tuple(NUSCENES))
    assert "not known yet" in statistics.describe()
    feed(statistics, every(100, 3))
    assert statistics.stagger() is None
    assert statistics.timing("cam_front") is None
    assert statistics.skew_bound_problem(1) is None
    assert statistics.suggested_skew_ns() is None
    assert statistics.loss_sentences() == []
    assert "not known yet" in statistics.describe()
    feed(statistics, [300, 400])
    assert statistics.stagger() is not None
    statistics.reset()
    assert statistics.stagger() is None


def test_a_camera_that_falls_silent_keeps_its_place_in_the_cycle() -> None:
    # Without the camera in the middle the longest gap is inside the cycle, 60 of 100 ms.
    offsets = {"first": 0, "middle": 30, "last": 60}
    statistics = CameraStatistics(tuple(offsets))
    feed(statistics, every(100, 80), offsets)
    assert statistics.stagger().first == "first"
    feed(statistics, [8000 + 100 * i for i in range(200)], {"first": 0, "last": 60})
    stagger = statistics.stagger()
    assert stagger.first == "first"
    assert stagger.offsets_ns == {camera: offset * MS for camera, offset in offsets.items()}
    assert stagger.period_ns == 100 * MS


def test_camera_at_another_rate_is_named() -> None:
    statistics = CameraStatistics(("a", "b", "c", "fast"))
    for i in range(60):
        statistics.add("fast", START + i * 33_333_333)
        if i % 3 == 0:
            for camera in ("a", "b", "c"):
                statistics.add(camera, START + i * 33_333_333 + 5 * MS)
    problem = statistics.rate_problem()
    assert problem.startswith("fast (30.0 Hz)") and "10.0 Hz" in problem
    assert statistics.stagger().period_ns == pytest.approx(100 * MS, rel=0.01)


def test_bad_arguments_are_refused() -> None:
    for cameras, window in ((("a", "a"), 64), ((), 64), (("a",), 7)):
        with pytest.raises(ValueError):
            CameraStatistics(cameras, window=window)
    with pytest.raises(KeyError):
        CameraStatistics(("a",)).add("b", START)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    rate=st.sampled_from([2, 10, 12, 30]),
    offsets=st.lists(st.integers(0, 60), min_size=2, max_size=6),
    phase=st.integers(0, 10**9),
    seed=st.integers(0, 1000),
)
def test_offsets_come_back_whatever_the_order_and_the_phase(rate, offsets, phase, seed) -> None:
    # Within 60 % of the period, so that the end of the cycle is its largest gap.
    period = 1000 / rate
    rig = {f"camera_{i}": share / 100 * period for i, share in enumerate(offsets)}
    ordered = sorted(rig.values())
    if max(b - a for a, b in zip(ordered, ordered[1:], strict=False)) > 0.38 * period:
        return
    names = list(rig)
    random.Random(seed).shuffle(names)
    statistics = CameraStatistics(names)
    feed(statistics, [phase / MS + t for t in every(period, 20)], rig, lost=0.05, seed=seed)
    stagger = statistics.stagger()
    earliest = ordered[0]
    for camera, offset in rig.items():
        assert stagger.offsets_ns[camera] / MS == pytest.approx(offset - earliest, abs=0.02)
    assert stagger.period_ns / MS == pytest.approx(period, rel=0.001)
