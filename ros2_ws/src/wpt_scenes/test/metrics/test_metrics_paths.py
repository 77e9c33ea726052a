"""The heading rule for many paths at once, and the way between base_link and LIDAR_TOP."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from wpt_policy.plan import headings_and_speeds
from wpt_scenes.metrics.paths import make_paths, rule_headings
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

COORDINATES = hnp.arrays(
    np.float64, (4, NUM_STEPS, 2), elements=st.floats(-30, 30, allow_nan=False).map(lambda v: round(v, 3))
)
ALL_KNOWN = np.ones((1, NUM_STEPS), dtype=bool)


@settings(max_examples=100, deadline=None)
@given(positions=COORDINATES, length=st.integers(1, NUM_STEPS))
def test_headings_are_those_of_the_plan_rule(positions: np.ndarray, length: int) -> None:
    known = np.arange(NUM_STEPS) < length
    many = rule_headings(positions, known)
    for waypoints, headings in zip(positions, many, strict=True):
        one, _ = headings_and_speeds(np.vstack([[0.0, 0.0], waypoints[:length]]), 0.5)
        # An exactly sideways chord (cosine 0 up to rounding) may be read either way round.
        turn = np.cos(headings[:length] - one[1:])
        assert np.all((turn > 1 - 1e-9) | (np.abs(np.cos(np.diff(one))) < 1e-9).any())


def test_a_standing_car_keeps_its_heading_and_a_reversing_one_too() -> None:
    still = rule_headings(np.full((1, NUM_STEPS, 2), 0.01), ALL_KNOWN)
    assert np.all(still == 0.0)
    back = rule_headings(np.stack([-np.arange(1.0, 7.0), np.zeros(6)], axis=-1)[None], ALL_KNOWN)
    assert np.allclose(np.cos(back), 1.0)


def test_lidar_path_of_a_straight_drive_is_the_same_path_turned(scenes) -> None:
    ego = np.stack([np.arange(1.0, 7.0), np.zeros(6)], axis=-1)[None]
    paths = make_paths(ego, ALL_KNOWN, WaypointFrame.EGO, scenes.base_from_lidar[None])
    # 1 m ahead and going straight: forward is LiDAR y.
    assert np.allclose(paths.lidar[0], np.stack([np.zeros(6), np.arange(1.0, 7.0)], axis=-1), atol=1e-12)


def test_lidar_path_swings_out_by_the_lever_arm(scenes) -> None:
    # Every point on the diagonal: heading 45 degrees, so LIDAR_TOP stands (cos, sin) 45 degrees ahead of base_link.
    ego = np.stack([np.arange(1.0, 7.0), np.arange(1.0, 7.0)], axis=-1)[None]
    paths = make_paths(ego, ALL_KNOWN, WaypointFrame.EGO, scenes.base_from_lidar[None])
    half = np.sqrt(0.5)
    expected_forward = np.arange(1.0, 7.0) + half - 1.0
    expected_right = -(np.arange(1.0, 7.0) + half)
    assert np.allclose(paths.lidar[0, :, 1], expected_forward, atol=1e-12)
    assert np.allclose(paths.lidar[0, :, 0], expected_right, atol=1e-12)


def test_standing_still_is_exactly_zero_in_both_frames(scenes) -> None:
    still = np.zeros((1, NUM_STEPS, 2))
    for frame in WaypointFrame:
        paths = make_paths(still, ALL_KNOWN, frame, scenes.base_from_lidar[None])
        assert np.all(paths.ego == 0.0)
        assert np.all(paths.lidar == 0.0)


def test_without_a_mount_the_other_frame_is_absent() -> None:
    path = np.stack([np.zeros(6), np.arange(1.0, 7.0)], axis=-1)[None]
    lidar = make_paths(path, ALL_KNOWN, WaypointFrame.LIDAR, None)
    assert lidar.ego is None
    assert np.allclose(lidar.headings, 0.0)  # LiDAR y is ahead
    ego = make_paths(path, ALL_KNOWN, WaypointFrame.EGO, None)
    assert ego.lidar is None
    assert np.allclose(ego.headings, np.pi / 2)


def test_steps_beyond_the_known_ones_do_not_change_the_known_ones() -> None:
    known = np.array([[True, True, True, False, False, False]])
    path = np.cumsum(np.ones((1, NUM_STEPS, 2)), axis=1)
    other = path.copy()
    other[:, 3:] = np.nan
    assert np.array_equal(rule_headings(path, known)[:, :3], rule_headings(other, known)[:, :3])
