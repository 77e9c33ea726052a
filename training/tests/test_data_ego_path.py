from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wpt_policy import se3
from wpt_policy.policy_config import HistorySpec
from wpt_policy.temporal_memory import TemporalMemory
from wpt_scenes.pose_track import PoseTrack
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import timed_waypoints

from wpt_training.data.ego_path import RouteAhead, history_of, motion_of, past_motion, true_future

MS = 1_000_000
SPEC = HistorySpec(entries=2, interval_s=0.5, tolerance_s=0.2, largest_gap_s=1.5)


def straight(accelerations: list[float], speed: float = 5.0) -> PoseTrack:
    """Poses every 10 ms along x; one acceleration for each 100 ms."""
    poses, x = [se3.planar(0.0, 0.0, 0.0)], 0.0
    for acceleration in accelerations:
        for _ in range(10):
            x += speed * 0.01 + 0.5 * acceleration * 1e-4
            speed += acceleration * 0.01
            poses.append(se3.planar(x, 0.0, 0.0))
    return PoseTrack([i * 10 * MS for i in range(len(poses))], poses)


def test_motion_reads_no_future():
    """Two drives that part only after the instant have the same motion at it."""
    braking, speeding = straight([0.0] * 10 + [-8.0] * 5), straight([0.0] * 10 + [8.0] * 5)
    now = [past_motion(track, 1000 * MS) for track in (braking, speeding)]
    assert now[0].speed == now[1].speed == pytest.approx(5.0)


def test_motion_between_recorded_poses_and_its_acceleration():
    track = straight([2.0] * 10)
    now, earlier = past_motion(track, 995 * MS), past_motion(track, 495 * MS)
    assert now.speed == pytest.approx(5.0 + 2.0 * 0.97, abs=0.01)  # the mean over the last 50 ms
    np.testing.assert_allclose(motion_of(now, earlier), (now.speed, 0.0, 0.0, 2.0), atol=0.02)
    assert motion_of(now, None)[3] == 0.0
    assert np.isnan(motion_of(None, earlier)).all()


def test_motion_is_unknown_without_earlier_poses():
    assert past_motion(straight([0.0]), 0) is None
    assert past_motion(straight([0.0]), -1) is None


def test_the_future_is_interpolated_in_time_and_ends_with_the_recording(factory_data: tuple[Path, str]):
    scene = load_scene(NuScenesTables.load(*factory_data), "scene-0001")
    reference = scene.poses.last_stamp_ns - 1_600_000_000
    future, valid = true_future(scene.poses, reference, 6, 500 * MS)
    expected, known = timed_waypoints(scene.poses, reference)
    assert valid.tolist() == known.tolist() == [True] * 3 + [False] * 3
    np.testing.assert_allclose(future[valid, :2], expected[known])
    assert (future[~valid] == 0).all()


def test_the_future_turns_with_the_ego():
    stamps = [i * 100 * MS for i in range(40)]
    poses = [se3.planar(3.0, -2.0, 1.0) @ se3.planar(0.0, 0.0, 0.2 * i * 0.1) for i in range(40)]
    future, valid = true_future(PoseTrack(stamps, poses), 0, 6, 500 * MS)
    assert valid.all()
    np.testing.assert_allclose(future, [(0.0, 0.0, 0.1 * (k + 1)) for k in range(6)], atol=1e-9)


@given(steps=st.lists(st.integers(20, 2000), min_size=0, max_size=14), index=st.integers(0, 14))
@settings(max_examples=200)
def test_history_is_what_the_memory_on_the_vehicle_recalls(steps: list[int], index: int):
    stamps = np.cumsum([0, *steps]).tolist()
    index = min(index, len(steps))
    references = [ms * MS for ms in stamps]
    memory = TemporalMemory(SPEC)
    for number in range(index):
        memory.observe(references[number], np.eye(4), torch.tensor(float(number)))
    recalled = memory.recall(references[index])
    expected = [-1 if entry is None else int(entry.bev) for entry in recalled]
    assert history_of(references, index, SPEC) == expected


def test_history_without_entries():
    spec = HistorySpec(entries=0, interval_s=0.5, tolerance_s=0.2, largest_gap_s=1.5)
    assert history_of([0, 500 * MS], 1, spec) == []


def test_a_route_begins_beside_the_ego_and_ends_with_nan():
    points = np.column_stack([np.arange(0.0, 20.5, 0.5), np.full(41, 2.0)])
    pose = se3.planar(10.25, 0.0, 0.0)
    ahead = RouteAhead(points, [pose]).ahead(0, se3.inverse(pose), 12)
    np.testing.assert_allclose(ahead[:10], np.column_stack([np.arange(10.0), np.full(10, 2.0)]), atol=1e-9)
    assert np.isnan(ahead[10:]).all()


def test_a_route_is_seen_from_a_turned_ego():
    points = np.column_stack([np.zeros(30), np.arange(30.0)])
    pose = se3.planar(0.0, 5.0, math.pi / 2)
    ahead = RouteAhead(points, [pose]).ahead(0, se3.inverse(pose), 5)
    np.testing.assert_allclose(ahead, np.column_stack([np.arange(5.0), np.zeros(5)]), atol=1e-9)


def test_a_route_that_passes_the_same_place_twice_is_followed():
    """Out along y = 0, back along y = 1: next to both, the ego's heading and its past tell which."""
    out = np.column_stack([np.arange(0.0, 51.0), np.zeros(51)])
    back = np.column_stack([np.arange(50.0, -1.0, -1.0), np.ones(51)])
    route = RouteAhead(np.concatenate([out, back]), [se3.planar(x, 0.6, 0.0) for x in (5.0, 10.0, 15.0)])
    assert route.travelled == pytest.approx([5.0, 10.0, 15.0])
    homeward = RouteAhead(np.concatenate([out, back]), [se3.planar(x, 0.4, math.pi) for x in (20.0, 15.0)])
    assert homeward.travelled == pytest.approx([81.0, 86.0])


def test_a_standing_ego_stays_where_it_is_on_the_route():
    points = np.column_stack([np.arange(0.0, 40.0), np.zeros(40)])
    route = RouteAhead(np.repeat(points, 2, axis=0), [se3.planar(7.0, 0.1, 0.0)] * 3)
    assert route.travelled == pytest.approx([7.0] * 3)
