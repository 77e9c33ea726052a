"""Interpolation of recorded poses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.pose_track import PoseTrack

STAMP = 1_700_000_000_123_456_000


def track_of(*seconds: float, yaw_rate: float = 0.0) -> PoseTrack:
    stamps = [STAMP + round(s * 1e9) for s in seconds]
    return PoseTrack(stamps, [se3.planar(10.0 * s, -s, yaw_rate * s) for s in seconds])


@given(st.integers(0, 3))
def test_a_recorded_stamp_gives_the_recorded_pose_to_the_last_bit(index: int) -> None:
    track = track_of(0.0, 0.1, 0.35, 1.0, yaw_rate=0.3)
    assert np.array_equal(track.at(track.stamps_ns[index]), track.poses[index])


@given(st.integers(0, 10**9), st.floats(-3.0, 3.0))
def test_between_stamps_position_and_yaw_go_evenly(offset_ns: int, yaw_rate: float) -> None:
    track = track_of(0.0, 1.0, yaw_rate=yaw_rate)
    pose = track.at(STAMP + offset_ns)
    seconds = offset_ns / 1e9
    assert np.allclose(pose[:3, 3], [10.0 * seconds, -seconds, 0.0], atol=1e-9)
    assert math.isclose(se3.yaw_of(pose), yaw_rate * seconds, abs_tol=1e-9)


def test_yaw_takes_the_short_way_over_180_degrees() -> None:
    poses = [se3.planar(0.0, 0.0, math.radians(170)), se3.planar(0.0, 0.0, math.radians(-170))]
    yaw = se3.yaw_of(PoseTrack([STAMP, STAMP + 100], poses).at(STAMP + 50))
    assert math.isclose(abs(math.degrees(yaw)), 180.0, abs_tol=1e-9)


@pytest.mark.parametrize("offset_ns", [-1, 10**9 + 1])
def test_outside_the_recording_nothing_is_made_up(offset_ns: int) -> None:
    track = track_of(0.0, 1.0)
    assert not track.covers(STAMP + offset_ns)
    with pytest.raises(DatasetError, match="no ego pose is known at"):
        track.at(STAMP + offset_ns)


def test_stamps_must_increase_and_match_the_poses() -> None:
    with pytest.raises(DatasetError, match="expected increasing stamps"):
        PoseTrack([2, 2], [np.eye(4)] * 2)
    with pytest.raises(DatasetError, match="1 stamps and 2 poses"):
        PoseTrack([2], [np.eye(4)] * 2)
    with pytest.raises(DatasetError, match="0 stamps"):
        PoseTrack([], [])


def test_a_run_ends_at_a_gap() -> None:
    track = track_of(0.0, 0.05, 0.5, 0.55, 0.6)
    run = track.run_around(STAMP + 520_000_000, 100_000_000)
    assert run == (STAMP + 500_000_000, STAMP + 600_000_000)
    assert track.run_around(STAMP + 50_000_000, 100_000_000) == (STAMP, STAMP + 50_000_000)
    assert track.run_around(STAMP + 200_000_000, 100_000_000) == (STAMP + 200_000_000,) * 2


def test_the_track_is_a_copy_that_cannot_be_changed() -> None:
    poses = [np.eye(4), np.eye(4)]
    track = PoseTrack([1, 2], poses)
    poses[0][0, 3] = 7.0
    assert track.at(1)[0, 3] == 0.0
    with pytest.raises(ValueError):
        track.poses[0, 0, 3] = 1.0
