"""Camera cycles for lockstep, and the real-time schedule. No ROS."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_replay.replay_schedule import (
    Cycle,
    CycleSplitter,
    Lateness,
    RealTimeSchedule,
    Role,
    TimedMessage,
    lockstep,
)

MS = 1_000_000
SKEW = 60 * MS
# nuScenes: six cameras, 83 ms, spread 43 ms (nuscenes-like stagger in ms).
STAGGER = {"front_left": 0, "front": 8, "front_right": 16, "back_right": 23, "back": 33, "back_left": 43}


def message(topic: str, role: Role, stamp_ms: float, record_ms: float | None = None) -> TimedMessage:
    record = stamp_ms if record_ms is None else record_ms
    return TimedMessage(topic, role, round(stamp_ms * MS), round(record * MS), b"")


def rig(cycles: int, period_ms: float = 83.0, stagger: dict[str, int] = STAGGER) -> list[TimedMessage]:
    return [
        message(camera, Role.IMAGE, 1000 + tick * period_ms + offset)
        for tick in range(cycles)
        for camera, offset in stagger.items()
    ]


def merged(*streams: list[TimedMessage]) -> list[TimedMessage]:
    return sorted(
        (m for stream in streams for m in stream), key=lambda m: (m.record_ns, m.role is Role.IMAGE)
    )


def run(
    messages: list[TimedMessage], cameras: dict[str, int] = STAGGER, **options: object
) -> list[TimedMessage | Cycle]:
    has_odometry = any(m.role is Role.ODOMETRY for m in messages)
    return list(lockstep(messages, cameras, has_odometry=has_odometry, max_skew_ns=SKEW, **options))


def cycles_of(items: list[TimedMessage | Cycle]) -> list[Cycle]:
    return [item for item in items if isinstance(item, Cycle)]


def tick(stamp_ns: int, period_ms: float = 83.0) -> int:
    return int((stamp_ns / MS - 1000 + 0.001) // period_ms)


@pytest.mark.parametrize("period_ms", [500.0, 100.0, 83.0])
def test_each_complete_set_is_awaited_before_the_next_image(period_ms: float) -> None:
    items = run(rig(5, period_ms))
    cycles = cycles_of(items)
    assert len(cycles) == 5 and all(cycle.complete and len(cycle.images) == 6 for cycle in cycles)
    assert [tick(c.newest_ns, period_ms) for c in cycles] == list(range(5))
    assert [cycle.newest_ns for cycle in cycles] == [round((1043 + i * period_ms) * MS) for i in range(5)]
    assert [isinstance(item, Cycle) for item in items[6::7]] == [True] * 5


def test_cameras_that_fire_at_once() -> None:
    cycles = cycles_of(run(rig(4, 33.3, dict.fromkeys(STAGGER, 0))))
    assert [cycle.complete for cycle in cycles] == [True] * 4


@given(
    st.integers(1, 8),
    st.floats(70.0, 600.0),
    st.lists(st.integers(0, 59), min_size=1, max_size=7),
    st.floats(3.0, 200.0),
    st.integers(0, 2**32 - 1),
)
def test_nothing_is_lost_or_reordered_and_no_set_is_mixed(
    cycles: int, gap_ms: float, offsets: list[int], odometry_ms: float, seed: int
) -> None:
    """Any rig whose spread is below the skew bound and whose pause exceeds it, with losses."""
    chance = random.Random(seed)
    stagger = {f"cam_{i}": offset for i, offset in enumerate(sorted(offsets))}
    period_ms = stagger[f"cam_{len(offsets) - 1}"] + gap_ms
    images = [m for m in rig(cycles, period_ms, stagger) if chance.random() > 0.1]
    odometry = [
        message("/odom", Role.ODOMETRY, 990 + i * odometry_ms)
        for i in range(int(cycles * period_ms / odometry_ms))
    ]
    messages = merged(images, odometry)
    items = run(messages, stagger)
    assert [item for item in items if isinstance(item, TimedMessage)] == messages
    published = {}
    for item in items:
        if isinstance(item, TimedMessage):
            if item.role is Role.IMAGE:
                published[item.topic] = item.stamp_ns
        else:
            assert item.images == published, "a cycle is awaited before any image of the next one"
            assert len({tick(stamp, period_ms) for stamp in item.images.values()}) == 1, "no set mixes cycles"
            assert item.complete is (len(item.images) == len(offsets))
            published = {}
    assert published == {}, "the last cycle is awaited too"


@pytest.mark.parametrize("first", range(1, 6))
def test_a_recording_that_starts_in_mid_cycle_falls_into_step(first: int) -> None:
    cycles = cycles_of(run(rig(8)[first:]))
    assert sum(not cycle.complete for cycle in cycles) <= 3
    assert all(cycle.complete for cycle in cycles[-5:])
    for cycle in cycles[-5:]:
        assert len({tick(stamp) for stamp in cycle.images.values()}) == 1


def test_a_camera_that_repeats_ends_the_set() -> None:
    splitter = CycleSplitter(["a", "b"], SKEW)
    assert splitter.cycle is None and not splitter.ends_before_image("a", 0)
    splitter.add("a", 0)
    assert splitter.ends_before_image("a", 1 * MS) and not splitter.ends_before_image("b", 1 * MS)
    assert splitter.ends_before_image("b", SKEW + 1) and splitter.ends_before_image("b", -SKEW - 1)
    assert splitter.end() == Cycle(images={"a": 0}, complete=False)


def test_odometry_up_to_the_newest_image_and_one_that_covers_it_belong_to_the_set() -> None:
    odometry = [message("/odom", Role.ODOMETRY, 1000 + 20 * i) for i in range(12)]
    items = run(merged(rig(2), odometry))
    first = next(i for i, item in enumerate(items) if isinstance(item, Cycle))
    before = [item.stamp_ns // MS for item in items[:first] if item.role is Role.ODOMETRY]
    assert before == [1000, 1020, 1040, 1060], "1060 covers the newest image at 1043; 1080 must wait"


def test_odometry_exactly_at_the_newest_image_covers_it() -> None:
    odometry = [message("/odom", Role.ODOMETRY, stamp) for stamp in (1000, 1043, 1050)]
    items = run(merged(odometry, rig(1)))
    assert [item.stamp_ns // MS for item in items[-2:] if isinstance(item, TimedMessage)] == [1050]
    assert isinstance(items[-2], Cycle)


def test_missing_odometry_is_not_sought_beyond_the_next_image_or_the_lookahead() -> None:
    odometry = [message("/odom", Role.ODOMETRY, 900)]
    items = run(merged(odometry, rig(2)))
    assert [type(item) is Cycle for item in items] == [False] * 7 + [True] + [False] * 6 + [True]
    late = [message("/tf", Role.OTHER, 1043 + after) for after in (50, 99, 101, 150)]
    items = run(merged(odometry, rig(1), late))
    assert [item.record_ns // MS for item in items[8:] if isinstance(item, TimedMessage)] == [
        1142,
        1144,
        1193,
    ]
    assert isinstance(items[9], Cycle)


def test_what_is_stamped_within_the_set_is_published_with_it() -> None:
    keyframe = message("/nuscenes/keyframe", Role.OTHER, 1042.5, 1043.2)
    items = run(merged([keyframe], rig(2)))
    assert [item for item in items if item is keyframe] and items.index(keyframe) < items.index(
        cycles_of(items)[0]
    )
    after = message("/nuscenes/keyframe", Role.OTHER, 1043.5)
    items = run(merged([after], rig(2)))
    assert items.index(after) == items.index(cycles_of(items)[0]) + 1


def test_time_does_not_run_on_while_an_incomplete_set_is_open() -> None:
    images = [m for m in rig(2, 500.0) if m.topic != "back"]
    poses = [message("/tf", Role.OTHER, 1000 + 10 * i) for i in range(1, 60)]
    items = run(merged(images, poses))
    first = next(i for i, item in enumerate(items) if isinstance(item, Cycle))
    assert not items[first].complete and max(item.record_ns for item in items[:first]) == 1120 * MS


def test_record_times_long_after_the_stamps_change_nothing() -> None:
    """A bag of `ros2 bag record`: images arrive 90 ms after exposure, headerless transforms in between."""
    images = [m._replace(record_ns=m.record_ns + 90 * MS) for m in rig(4)]
    poses = [message("/tf", Role.OTHER, 1000 + 10 * i) for i in range(60)]
    cycles = cycles_of(run(merged(images, poses)))
    assert [cycle.complete for cycle in cycles] == [True] * 4


def test_other_image_topics_do_not_make_cycles() -> None:
    extra = [message("seventh", Role.IMAGE, 1000 + 5 * i) for i in range(20)]
    assert [cycle.complete for cycle in cycles_of(run(merged(rig(2), extra)))] == [True] * 2


def test_which_report_answers_a_cycle() -> None:
    complete = Cycle(images={"a": 10, "b": 20}, complete=True)
    assert complete.is_answered_by(20) and complete.is_answered_by(10) and not complete.is_answered_by(15)
    incomplete = Cycle(images={"a": 10, "b": 20}, complete=False)
    assert (
        incomplete.is_answered_by(20) and incomplete.is_answered_by(10) and not incomplete.is_answered_by(15)
    )


@given(st.integers(0, 2 * 10**18), st.integers(0, 10**15), st.floats(0.01, 100.0), st.integers(0, 10**13))
def test_the_schedule_is_absolute(start_ns: int, steady_ns: int, rate: float, after_ns: int) -> None:
    schedule = RealTimeSchedule(start_ns, steady_ns, rate)
    due = schedule.due_ns(start_ns + after_ns)
    assert due - steady_ns == pytest.approx(after_ns / rate, rel=1e-9, abs=1)
    assert schedule.simulated_ns(due) - start_ns == pytest.approx(after_ns, rel=1e-9, abs=1 + rate)


def test_lateness_quantiles() -> None:
    lateness = Lateness()
    assert lateness.milliseconds() is None
    for milliseconds in range(101):
        lateness.add(milliseconds * MS)
    assert lateness.milliseconds() == {"p50": 50.0, "p99": 99.0, "max": 100.0}
