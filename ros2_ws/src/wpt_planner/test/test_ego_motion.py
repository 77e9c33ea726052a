"""EgoMotion: exact at samples, right between them, honest beyond them, not fooled by a bad message."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_planner.ego_motion import EgoFindingKind, EgoMotion, EgoSource
from wpt_policy import se3

MS = 1_000_000
START = 1_600_000_000_000_000_000
STOPPED = np.zeros(3)


def on_circle(seconds, speed=10.0, yaw_rate=0.3):
    """Pose and twist of a car on a circle, starting at the origin along x."""
    yaw = yaw_rate * seconds
    radius = speed / yaw_rate
    pose = se3.planar(radius * math.sin(yaw), radius * (1 - math.cos(yaw)), yaw)
    return pose, np.array([speed, 0.0, 0.0]), np.array([0.0, 0.0, yaw_rate])


def filled(count=50, step=20, path=on_circle, begin=START, **settings):
    """Odometry every ``step`` ms."""
    ego = EgoMotion(**settings)
    for i in range(count):
        assert ego.add(begin + i * step * MS, *path(i * step * 1e-3)) == []
    return ego


def kinds(findings):
    return [finding.kind for finding in findings]


def test_exact_at_a_sample_to_the_last_bit() -> None:
    ego = filled()
    for i in (0, 7, 49):
        pose, linear, angular = on_circle(i * 0.02)
        sample = ego.at(START + i * 20 * MS)
        assert sample.source is EgoSource.INTERPOLATED
        assert np.array_equal(sample.odom_from_base, pose)
        assert np.array_equal(sample.linear, linear) and np.array_equal(sample.angular, angular)


def test_between_samples_it_is_on_the_path() -> None:
    ego = filled()
    pose, _, _ = on_circle(0.130)
    sample = ego.at(START + 130 * MS)
    # The chord of 20 ms at 3 m/s^2 is off the arc by 0.15 mm.
    assert np.abs(sample.odom_from_base - pose).max() < 2e-4
    assert sample.source is EgoSource.INTERPOLATED


def test_twist_is_interpolated_linearly() -> None:
    ego = EgoMotion()
    ego.add(START, se3.planar(0, 0, 0), [1, 0, 0], [0, 0, 0.2])
    ego.add(START + 100 * MS, se3.planar(0.2, 0, 0), [3, 0, 0], [0, 0, 0.6])
    sample = ego.at(START + 25 * MS)
    assert sample.linear == pytest.approx([1.5, 0, 0])
    assert sample.angular == pytest.approx([0, 0, 0.3])


def test_the_turn_takes_the_short_way_over_180_degrees() -> None:
    ego = EgoMotion()
    ego.add(START, se3.planar(0, 0, math.radians(179)), STOPPED, STOPPED)
    ego.add(START + 100 * MS, se3.planar(0, 0, math.radians(-179)), STOPPED, STOPPED)
    yaw = math.degrees(se3.yaw_of(ego.at(START + 50 * MS).odom_from_base))
    assert abs(abs(yaw) - 180) < 1e-6


def test_beyond_the_newest_it_follows_the_twist_for_100_ms() -> None:
    ego = filled(count=11)
    newest = START + 200 * MS
    pose, _, _ = on_circle(0.3)
    sample = ego.at(newest + 100 * MS)
    assert sample.source is EgoSource.EXTRAPOLATED
    assert np.abs(sample.odom_from_base - pose).max() < 1e-9  # the exact arc
    assert ego.at(newest + 100 * MS + 1) is None
    assert "at most 100 ms are extrapolated" in ego.problem(newest + 150 * MS)
    assert ego.problem(newest) is None


def test_before_the_oldest_there_is_nothing() -> None:
    ego = filled(count=5)
    assert ego.at(START - 1) is None
    assert "oldest odometry kept" in ego.problem(START - 30 * MS)
    assert EgoMotion().at(START) is None
    assert "no odometry has arrived" in EgoMotion().problem(START)


def test_gap_is_not_interpolated_over_but_its_ends_are_exact() -> None:
    ego = EgoMotion(max_gap_ns=250 * MS)
    for ms in (0, 250, 501):
        ego.add(START + ms * MS, *on_circle(ms * 1e-3))
    assert ego.at(START + 100 * MS) is not None
    assert ego.at(START + 300 * MS) is None
    assert "gap of 251 ms" in ego.problem(START + 300 * MS)
    for ms in (250, 501):
        assert ego.at(START + ms * MS) is not None


def test_covers_and_waiting() -> None:
    ego = filled(count=3, wait_ns=20 * MS)
    newest = START + 40 * MS
    assert ego.covers(newest) and not ego.covers(newest + 1)
    assert not EgoMotion().covers(START)
    assert ego.wait_deadline_ns(newest, 1000) is None
    assert ego.wait_deadline_ns(newest + 1, 1000) == 1000 + 20 * MS
    assert ego.wait_covered(newest, 0.0)
    assert not ego.wait_covered(newest + 1, 0.0)


def test_waiting_ends_when_the_odometry_arrives() -> None:
    ego = filled(count=3)
    waiting = threading.Event()
    result = []

    def wait():
        waiting.set()
        result.append(ego.wait_covered(START + 60 * MS, 30.0))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(10.0)
    ego.add(START + 60 * MS, *on_circle(0.06))
    thread.join(10.0)
    assert result == [True]


def test_history_is_bounded_by_time_and_count() -> None:
    ego = filled(count=1000, horizon_ns=1000 * MS)
    assert ego.size == 52  # a second of samples every 20 ms, and one beyond to interpolate from
    assert ego.newest_ns - ego.oldest_ns == 1020 * MS
    assert ego.at(ego.newest_ns - 1000 * MS) is not None
    ego = filled(count=1000, capacity=10)
    assert ego.size == 10
    assert len(ego._samples) <= 21
    assert ego.added == 1000


@pytest.mark.parametrize(
    ("pose", "linear", "angular", "words"),
    [
        (np.full((4, 4), np.nan), STOPPED, STOPPED, "not a finite 4x4"),
        (np.eye(3), STOPPED, STOPPED, "not a finite 4x4"),
        (2.0 * np.eye(4), STOPPED, STOPPED, "proper rotation"),
        (np.diag([1.0, 1.0, -1.0, 1.0]), STOPPED, STOPPED, "proper rotation"),
        (np.eye(4), [np.nan, 0, 0], STOPPED, "linear velocity"),
        (np.eye(4), STOPPED, [0, np.inf, 0], "angular velocity"),
        (np.eye(4), [0, 0], STOPPED, "linear velocity"),
    ],
)
def test_invalid_odometry_is_refused_with_a_sentence_and_counted(pose, linear, angular, words) -> None:
    ego = filled(count=5)
    (finding,) = ego.add(START + 100 * MS, pose, linear, angular)
    assert finding.kind is EgoFindingKind.INVALID and not finding.resets_memory
    assert words in finding.sentence and "is refused" in finding.sentence
    assert ego.counts[EgoFindingKind.INVALID] == 1
    assert ego.size == 5 and ego.newest_ns == START + 80 * MS


def test_quaternions_and_stamp_zero() -> None:
    ego = EgoMotion()
    half = math.sqrt(0.5)
    assert ego.add_odometry(START, [1, 2, 0], [half, 0, 0, half], STOPPED, STOPPED) == []
    assert ego.at(START).odom_from_base == pytest.approx(se3.planar(1, 2, math.pi / 2))
    for quaternion in ([0, 0, 0, 0], [1, 1, 0, 0], [np.nan, 0, 0, 1]):
        (finding,) = ego.add_odometry(START + MS, [0, 0, 0], quaternion, STOPPED, STOPPED)
        assert finding.kind is EgoFindingKind.INVALID and "quaternion" in finding.sentence
    (finding,) = ego.add(0, np.eye(4), STOPPED, STOPPED)
    assert finding.kind is EgoFindingKind.INVALID and "stamp is zero" in finding.sentence
    assert ego.size == 1


def test_duplicates_and_reordering_are_told_and_change_nothing() -> None:
    ego = filled(count=5)
    assert kinds(ego.add(START + 80 * MS, *on_circle(0.08))) == [EgoFindingKind.DUPLICATE]
    assert kinds(ego.add(START + 50 * MS, *on_circle(0.05))) == [EgoFindingKind.OUT_OF_ORDER]
    assert ego.size == 5
    assert (ego.counts[EgoFindingKind.DUPLICATE], ego.counts[EgoFindingKind.OUT_OF_ORDER]) == (1, 1)


def test_a_caller_cannot_change_what_is_stored_or_given_out() -> None:
    ego = EgoMotion()
    pose, linear = se3.planar(1, 0, 0), np.array([1.0, 0, 0])
    ego.add(START, pose, linear, STOPPED)
    pose[0, 3] = linear[0] = 99.0
    sample = ego.at(START)
    assert sample.odom_from_base[0, 3] == sample.linear[0] == 1.0
    with pytest.raises(ValueError):
        sample.odom_from_base[0, 3] = 2.0


def test_pose_jump_against_the_twist_is_found_and_older_poses_are_dropped() -> None:
    ego = filled(count=20)
    pose, linear, angular = on_circle(0.4)
    moved = pose.copy()
    moved[:2, 3] += [3.0, -2.0]
    (finding,) = ego.add(START + 400 * MS, moved, linear, angular)
    assert finding.kind is EgoFindingKind.JUMP and finding.resets_memory
    assert "jumped by 3.6" in finding.sentence
    assert ego.size == 1
    assert ego.at(START + 390 * MS) is None  # no pose is made up across the jump
    pose, linear, angular = on_circle(0.42)
    pose[:2, 3] += [3.0, -2.0]
    assert ego.add(START + 420 * MS, pose, linear, angular) == []


def test_rotation_jump_is_found() -> None:
    ego = filled(count=20)
    pose, linear, angular = on_circle(0.4)
    turned = pose @ se3.planar(0, 0, 0.6)
    assert kinds(ego.add(START + 400 * MS, turned, linear, angular)) == [EgoFindingKind.JUMP]


@pytest.mark.parametrize("step", [10, 50, 100, 500])
def test_hard_driving_is_no_jump(step: int) -> None:
    # Full braking from 30 m/s at 10 m/s^2, then a turn-in to 1 rad/s within half a second.
    ego = EgoMotion()
    x, y, yaw, speed, rate = 0.0, 0.0, 0.0, 30.0, 0.0
    for ms in range(0, 4000):
        if ms % step == 0:
            findings = ego.add(START + ms * MS, se3.planar(x, y, yaw), [speed, 0, 0], [0, 0, rate])
            assert findings == []
        braking = ms < 2000
        speed = max(8.0, speed - 0.010) if braking else speed
        rate = 0.0 if braking else min(1.0, rate + 0.002)
        yaw += rate * 1e-3
        x += speed * math.cos(yaw) * 1e-3
        y += speed * math.sin(yaw) * 1e-3


def test_small_corrections_of_a_localisation_are_no_jump() -> None:
    ego = filled(count=20)
    pose, linear, angular = on_circle(0.4)
    pose[:2, 3] += [0.4, 0.3]
    assert ego.add(START + 400 * MS, pose, linear, angular) == []


def test_large_gap_is_not_judged() -> None:
    ego = filled(count=20)
    assert ego.add(START + 2000 * MS, se3.planar(500, 0, 0), STOPPED, STOPPED) == []


def test_missing_twist_is_told_once_and_is_no_jump() -> None:
    # A bag without twist: 20 m/s by the poses, zero by the twist; 2 m from one message to the next.
    ego = EgoMotion()
    findings = []
    for i in range(40):
        findings += ego.add(START + i * 100 * MS, se3.planar(2.0 * i, 0, 0), STOPPED, STOPPED)
    assert kinds(findings) == [EgoFindingKind.TWIST_MISMATCH]
    assert "20.0 m/s" in findings[0].sentence and not findings[0].resets_memory
    assert ego.size > 10


def test_bag_restart_is_followed_from_its_second_message() -> None:
    ego = filled(count=200)
    (stray,) = ego.add(START, *on_circle(0.0))
    assert stray.kind is EgoFindingKind.STRAY and not stray.resets_memory
    assert ego.newest_ns == START + 199 * 20 * MS
    (restart,) = ego.add(START + 20 * MS, *on_circle(0.02))
    assert restart.kind is EgoFindingKind.RESTART and restart.resets_memory
    assert "as when a bag restarts" in restart.sentence
    assert (ego.oldest_ns, ego.newest_ns) == (START, START + 20 * MS)
    assert ego.at(START + 10 * MS) is not None


@pytest.mark.parametrize("jump", [-3600 * 10**9, 3600 * 10**9, -2 * 10**9])
def test_one_stray_stamp_drops_no_history(jump: int) -> None:
    ego = filled(count=200)
    stamp = START + 200 * 20 * MS
    assert kinds(ego.add(stamp + jump, *on_circle(4.0))) == [EgoFindingKind.STRAY]
    assert ego.add(stamp, *on_circle(4.0)) == []
    assert ego.at(stamp - 5 * MS) is not None
    assert kinds(ego.add(stamp + jump, *on_circle(4.0))) == [EgoFindingKind.STRAY]


def test_moving_to_a_time_line_seen_elsewhere() -> None:
    ego = filled(count=200)
    ego.add(START, *on_circle(0.0))  # one message of the new pass has come
    assert ego.move_to(START + 40 * MS)
    assert (ego.oldest_ns, ego.newest_ns) == (START, START)
    assert ego.add(START + 20 * MS, *on_circle(0.02)) == []
    assert not ego.move_to(START + 40 * MS)  # already there: nothing is dropped
    assert ego.size == 2
    assert ego.move_to(START + 10**12)
    assert ego.newest_ns is None and ego.at(START) is None


def test_reset_forgets_poses_and_keeps_counts() -> None:
    ego = filled(count=5)
    ego.add(START, *on_circle(0.0))
    ego.reset()
    assert ego.size == 0 and ego.oldest_ns is None
    assert ego.counts[EgoFindingKind.OUT_OF_ORDER] == 1
    assert ego.add(START, *on_circle(0.0)) == []


def test_bad_settings_are_refused() -> None:
    for settings_ in (
        {"horizon_ns": 0},
        {"capacity": 1},
        {"max_gap_ns": 0},
        {"max_extrapolation_ns": -1},
        {"wait_ns": -1},
    ):
        with pytest.raises(ValueError, match="expected positive"):
            EgoMotion(**settings_)


def test_readers_and_the_writer_do_not_disturb_each_other() -> None:
    ego = EgoMotion(horizon_ns=200 * MS)
    failures = []
    done = threading.Event()

    def read():
        while not done.is_set():
            newest = ego.newest_ns
            if newest is None:
                continue
            sample = ego.at(newest)
            if sample is not None and not np.isfinite(sample.odom_from_base).all():
                failures.append(newest)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for i in range(500):
        ego.add(START + i * 10 * MS, *on_circle(i * 0.01))
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    speed=st.floats(-5, 40),
    yaw_rate=st.floats(0.01, 1.0),
    step=st.sampled_from([5, 10, 20, 50, 100]),
    at=st.floats(0.0, 1.0),
)
def test_interpolation_error_stays_below_its_bound(speed, yaw_rate, step, at) -> None:
    def path(seconds):
        return on_circle(seconds, speed, yaw_rate)

    ego = filled(count=20, step=step, path=path)
    span = 19 * step * MS
    stamp = START + round(at * span)
    sample = ego.at(stamp)
    truth, linear, angular = path((stamp - START) * 1e-9)
    bound = abs(speed) * yaw_rate * (step * 1e-3) ** 2 / 8  # a dt^2 / 8
    assert np.linalg.norm(sample.odom_from_base[:3, 3] - truth[:3, 3]) <= bound * 1.01 + 1e-9
    assert np.abs(sample.odom_from_base[:3, :3] - truth[:3, :3]).max() < 1e-7
    assert sample.linear == pytest.approx(linear) and sample.angular == pytest.approx(angular)
    assert se3.require_rigid(sample.odom_from_base, "the pose") is not None


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    stamps=st.lists(
        st.one_of(
            st.integers(0, 40).map(lambda i: START + i * 10 * MS),
            st.integers(START - 10**13, START + 10**13),
            st.integers(-1, 1),
        ),
        max_size=60,
    )
)
def test_whatever_stamps_arrive_the_history_is_ordered_bounded_and_accounted_for(stamps) -> None:
    ego = EgoMotion(capacity=8)
    told = 0
    for stamp in stamps:
        findings = ego.add(stamp, np.eye(4), STOPPED, STOPPED)
        told += len(findings)
        assert all(finding.sentence for finding in findings)
        assert ego.size <= 8
        kept = ego._stamps[ego._start :]
        assert kept == sorted(set(kept))
        for probe in (*kept, stamp):
            sample = ego.at(probe)
            assert (sample is None) == (ego.problem(probe) is not None)
            assert sample is None or sample.stamp_ns == probe
    assert sum(ego.counts.values()) == told
