"""The twist from recorded poses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_policy.baselines import ConstantVelocityPlanner
from wpt_policy.planner import PlannerError
from wpt_scenes.ego import ego_state_at, ego_states, twist_between
from wpt_scenes.frames import FrameSource
from wpt_scenes.pose_track import PoseTrack
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.writer import DriveLog, MapMask, SceneWriter, write_tables

MS = 1_000_000
STAMP = 1_700_000_000_000_000_000
SMALL = st.floats(-0.5, 0.5)
VECTORS = st.tuples(st.floats(-20, 20), st.floats(-2, 2), st.floats(-1, 1))
TURNS = st.tuples(SMALL, SMALL, SMALL)


def circling(milliseconds: list[float], linear: tuple, angular: tuple) -> PoseTrack:
    """A drive at constant twist from a pose that is no identity."""
    start = se3.transform([100.0, -50.0, 3.0], [0.5, 0.5, -0.5, 0.5])
    stamps = [STAMP + round(ms * MS) for ms in milliseconds]
    poses = [se3.extrapolate(start, np.array(linear), np.array(angular), (s - STAMP) / 1e9) for s in stamps]
    return PoseTrack(stamps, poses)


@given(VECTORS, TURNS, st.floats(0.01, 2.0))
def test_twist_between_is_the_inverse_of_extrapolation(linear: tuple, angular: tuple, seconds: float) -> None:
    start = se3.transform([1.0, 2.0, 3.0], [0.8, 0.0, 0.6, 0.0])
    end = se3.extrapolate(start, np.array(linear), np.array(angular), seconds)
    found_linear, found_angular = twist_between(start, end, seconds)
    assert np.allclose(found_linear, linear, atol=1e-6)
    assert np.allclose(found_angular, angular, atol=1e-6)


@given(VECTORS, TURNS)
def test_constant_motion_is_found_at_every_stamp_also_at_the_ends(linear: tuple, angular: tuple) -> None:
    track = circling([0, 8, 16, 25, 35, 43, 91, 130, 167, 180, 200], linear, angular)
    for stamp in track.stamps_ns:
        state = ego_state_at(track, stamp)
        # Interpolation between poses is a straight line, the drive a circle: millimetres over 50 ms.
        assert np.allclose(state.linear_velocity, linear, atol=0.05)
        assert np.allclose(state.angular_velocity, angular, atol=1e-3)
        assert np.array_equal(state.odom_from_base, track.at(stamp))
        assert not state.extrapolated


def test_dense_poses_give_the_centred_difference_over_100_ms() -> None:
    stamps = [STAMP + ms * MS for ms in range(0, 1001, 10)]
    distances = [0.5 * 3.0 * (ms / 1000) ** 2 for ms in range(0, 1001, 10)]
    track = PoseTrack(stamps, [se3.planar(d, 0.0, 0.0) for d in distances])
    assert ego_state_at(track, STAMP + 500 * MS).speed == pytest.approx(1.5, abs=1e-9)
    # One-sided at the ends: half of the 50 ms window away from the end.
    assert ego_state_at(track, STAMP).speed == pytest.approx(3.0 * 0.025, abs=1e-9)
    assert ego_state_at(track, STAMP + 1000 * MS).speed == pytest.approx(3.0 * 0.975, abs=1e-9)


def test_a_gap_is_not_bridged_while_its_edge_has_poses_of_its_own() -> None:
    """Keyframes without sweeps: 7 poses in 43 ms every 500 ms. The ego stops between two of them."""
    cluster = [0, 8, 16, 25, 35, 43]
    stamps = [STAMP + ms * MS for start in (0, 500) for ms in (start + c for c in cluster)]
    poses = [se3.planar(0.01 * c, 0.0, 0.0) for c in cluster] + [se3.planar(2.0, 0.0, 0.0) for _ in cluster]
    track = PoseTrack(stamps, poses)
    assert ego_state_at(track, STAMP + 43 * MS).speed == pytest.approx(10.0)
    assert ego_state_at(track, STAMP + 500 * MS).speed == pytest.approx(0.0)
    # Inside the gap only the difference across it remains.
    assert ego_state_at(track, STAMP + 300 * MS).speed == pytest.approx((2.0 - 0.43) / 0.457)


def test_poses_a_fraction_of_a_millisecond_apart_are_no_base_for_a_velocity() -> None:
    """Two sensors recorded almost at once, as LIDAR_TOP and the last camera are; poses to centimetres."""
    stamps = [STAMP, STAMP + MS // 5, STAMP + 500 * MS, STAMP + 500 * MS + MS // 5]
    track = PoseTrack(stamps, [se3.planar(x, 0.0, 0.0) for x in (0.0, 0.01, 4.0, 4.0)])
    assert ego_state_at(track, STAMP).speed == pytest.approx(8.0, abs=0.03)
    assert ego_state_at(track, STAMP + 500 * MS).speed == pytest.approx(8.0, abs=0.03)


def test_no_velocity_is_made_up() -> None:
    alone = PoseTrack([STAMP], [np.eye(4)])
    assert ego_state_at(alone, STAMP) is None
    far_apart = PoseTrack([STAMP, STAMP + 1600 * MS], [np.eye(4), np.eye(4)])
    assert ego_state_at(far_apart, STAMP) is None
    assert ego_state_at(far_apart, STAMP + 1601 * MS) is None


def test_a_scene_with_one_pose_has_frames_without_ego_and_constant_velocity_refuses_them(tmp_path) -> None:
    log = DriveLog(name="drive", vehicle="car", location="street", date="2026-01-01")
    writer = SceneWriter(tmp_path, "scene-0001", log=log)
    writer.add_camera(
        "CAM_FRONT",
        base_from_camera=np.array([[0.0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]),
        intrinsics=np.array([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]]),
        width=160,
        height=90,
    )
    writer.add_keyframe(STAMP)
    writer.add_file("CAM_FRONT", STAMP, np.eye(4), None, keyframe=0)
    write_tables(tmp_path, "v1.0-one", [writer], [MapMask(name="m", mask=np.ones((4, 4)), logs=("drive",))])
    scene = load_scene(NuScenesTables.load(tmp_path, "v1.0-one"), "scene-0001")
    assert ego_states(scene) == []
    frame = FrameSource(scene, None).keyframe_frame(0)
    assert frame.ego is None
    with pytest.raises(PlannerError, match="no odometry"):
        ConstantVelocityPlanner().plan(frame)


def test_the_factory_scene_drives_as_its_route_says(factory_scene: Scene) -> None:
    from wpt_scenes.factory.route import Route

    start = factory_scene.keyframes[0].stamp_ns
    route = Route((factory_scene.keyframes[-1].stamp_ns - start) / 1e9, seed=0)
    states = ego_states(factory_scene)
    assert len(states) == len(factory_scene.ego_poses)
    for state in states:
        seconds = (state.stamp_ns - start) / 1e9
        assert state.speed == pytest.approx(float(route.speed(seconds)), abs=0.1)
        assert state.angular_velocity[2] == pytest.approx(float(route.yaw_rate(seconds)), abs=0.03)
    assert max(abs(state.angular_velocity[2]) for state in states) > 0.3
