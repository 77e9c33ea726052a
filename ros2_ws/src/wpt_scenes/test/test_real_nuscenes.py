"""Facts of real nuScenes that all else relies on, measured on scene-0103 (40 keyframes, no image files).

They need a piece of the real data (WPT_NUSCENES) and are skipped without it.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from wpt_policy import se3
from wpt_policy.baselines import ConstantVelocityPlanner
from wpt_policy.calibration import rig_problems
from wpt_policy.frame import Command, CommandSource
from wpt_policy.image_input import ImageInput, ImageInputSpec
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.ego import ego_states
from wpt_scenes.frames import FrameSource, camera_cycles
from wpt_scenes.scene_types import Scene
from wpt_scenes.schema import CAMERA_ORDER
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import derived_command, future_boxes, future_waypoints, timed_waypoints

# Mean offset of each camera to the LIDAR_TOP stamp, ms.
STAGGER_MS = {
    "cam_front_left": -43,
    "cam_front": -35,
    "cam_front_right": -27,
    "cam_back_right": -20,
    "cam_back": -10,
    "cam_back_left": 0,
}


def test_the_tables_are_without_fault(nuscenes_tables: NuScenesTables) -> None:
    assert nuscenes_tables.scene_names() == ("scene-0061", "scene-0103")
    assert nuscenes_tables.findings == ()


def test_scene_0103_is_complete_but_for_its_images(scene_0103: Scene) -> None:
    assert (scene_0103.vehicle, scene_0103.location) == ("n008", "boston-seaport")
    assert scene_0103.camera_names == CAMERA_ORDER
    assert len(scene_0103.keyframes) == 40
    assert sum(len(keyframe.boxes) for keyframe in scene_0103.keyframes) == 2090
    assert len(scene_0103.missing_images()) == 240
    assert scene_0103.findings == ()


def test_cameras_are_staggered_by_design(scene_0103: Scene) -> None:
    offsets = {camera: [] for camera in STAGGER_MS}
    for keyframe in scene_0103.keyframes:
        for camera, image in keyframe.images.items():
            offsets[camera].append((image.stamp_ns - keyframe.stamp_ns) / 1e6)
    for camera, expected in STAGGER_MS.items():
        assert np.mean(offsets[camera]) == pytest.approx(expected, abs=1.0), camera
        assert np.abs(np.array(offsets[camera]) - expected).max() < 4.0, camera
    table = np.array([offsets[camera] for camera in STAGGER_MS])
    assert (np.diff(table, axis=0) > 0).all()
    spread = table.max(axis=0) - table.min(axis=0)
    assert spread.mean() == pytest.approx(42.6, abs=0.5) and spread.min() > 40.2


def test_keyframes_are_not_half_a_second_apart(scene_0103: Scene) -> None:
    steps = np.diff([keyframe.stamp_ns for keyframe in scene_0103.keyframes]) / 1e6
    assert 395 < steps.min() and steps.max() < 605
    assert steps.mean() == pytest.approx(497.5, abs=3.0)
    assert steps.max() - steps.min() > 40


def test_stamps_are_the_tables_microseconds_times_1000(
    nuscenes_tables: NuScenesTables, scene_0103: Scene
) -> None:
    for keyframe in scene_0103.keyframes:
        assert keyframe.stamp_ns == nuscenes_tables.row("sample", keyframe.sample_token)["timestamp"] * 1000


def test_the_ego_stays_at_height_zero_but_rolls_and_pitches(scene_0103: Scene) -> None:
    poses = scene_0103.poses.poses
    assert np.array_equal(poses[:, 2, 3], np.zeros(len(poses)))
    tilt = np.degrees(np.arccos(np.clip(poses[:, 2, 2], -1, 1)))
    assert 1.0 < tilt.max() < 4.6


def test_each_sensor_has_its_own_ego_pose(scene_0103: Scene) -> None:
    distances = [
        np.linalg.norm(image.global_from_base[:3, 3] - keyframe.global_from_base[:3, 3])
        for keyframe in scene_0103.keyframes
        for image in keyframe.images.values()
    ]
    assert 0.3 < max(distances) < 0.45


def test_intrinsics_differ_by_camera_and_by_car(scene_0061: Scene, scene_0103: Scene) -> None:
    focal = {
        scene.vehicle: {c: camera.intrinsics[0, 0] for c, camera in scene.rig.items()}
        for scene in (scene_0061, scene_0103)
    }
    assert focal["n015"]["cam_front"] == pytest.approx(1266, abs=1) and focal["n008"][
        "cam_front"
    ] == pytest.approx(1253, abs=1)
    assert focal["n015"]["cam_back"] == pytest.approx(809, abs=1) and focal["n008"][
        "cam_back"
    ] == pytest.approx(797, abs=1)
    for scene in (scene_0061, scene_0103):
        assert len(set(focal[scene.vehicle].values())) == 6
        assert all((camera.width, camera.height) == (1600, 900) for camera in scene.rig.values())
        assert rig_problems(scene.rig) == []


def test_lidar_top_looks_forward_along_y_and_sits_ahead_of_the_axle(scene_0103: Scene) -> None:
    mount = scene_0103.keyframes[0].base_from_lidar
    assert mount[0, 3] == pytest.approx(0.94, abs=0.05)
    assert mount[:3, 1] @ [1, 0, 0] > 0.99 and mount[:3, 0] @ [0, -1, 0] > 0.99


def test_scene_0103_is_nearly_straight(scene_0103: Scene) -> None:
    first, last = (scene_0103.keyframes[i].global_from_base for i in (0, -1))
    turned = math.degrees(se3.yaw_of(se3.inverse(first) @ last))
    assert abs(turned) == pytest.approx(12, abs=2)
    commands = Counter(derived_command(scene_0103, keyframe.index) for keyframe in scene_0103.keyframes[:-6])
    assert commands[(Command.STRAIGHT, CommandSource.DERIVED_FROM_FUTURE)] >= 20


def test_the_sixth_waypoint_lies_2_85_to_3_1_seconds_ahead(scene_0103: Scene) -> None:
    stamps = [keyframe.stamp_ns for keyframe in scene_0103.keyframes]
    ahead = [(stamps[i + 6] - stamps[i]) / 1e9 for i in range(len(stamps) - 6)]
    assert 2.845 < min(ahead) < 2.9 and 3.05 < max(ahead) < 3.105
    # So the index-based and the timed waypoints differ, by up to what the ego drives in the difference.
    differences = []
    for index in range(len(stamps) - 6):
        by_index, _ = future_waypoints(scene_0103, index)
        timed, valid = timed_waypoints(scene_0103.poses, stamps[index])
        if valid.all():
            differences.append(np.linalg.norm(by_index[5] - timed[5]))
    assert 0.1 < max(differences) < 1.5


def test_velocities_agree_with_the_poses(scene_0103: Scene) -> None:
    states = {state.stamp_ns: state for state in ego_states(scene_0103)}
    assert len(states) == len(scene_0103.ego_poses)
    stamps = [keyframe.stamp_ns for keyframe in scene_0103.keyframes]
    for i in range(len(stamps) - 1):
        first, second = scene_0103.keyframes[i], scene_0103.keyframes[i + 1]
        distance = np.linalg.norm(second.global_from_base[:3, 3] - first.global_from_base[:3, 3])
        mean = 0.5 * (states[stamps[i]].speed + states[stamps[i + 1]].speed)
        # A trapezium over half a second of braking with up to 3 m/s2.
        assert distance == pytest.approx(mean * (stamps[i + 1] - stamps[i]) / 1e9, abs=0.12)
    assert max(abs(state.linear_velocity[1]) for state in states.values()) < 0.4


def test_constant_velocity_plans_from_recorded_motion(scene_0103: Scene) -> None:
    plan = ConstantVelocityPlanner().plan(FrameSource(scene_0103, None).keyframe_frame(0))
    truth, valid = timed_waypoints(scene_0103.poses, plan.reference_stamp_ns)
    assert valid.all() and np.linalg.norm(plan.waypoints[0] - truth[0]) < 0.3


def test_future_boxes_end_with_the_scene(scene_0103: Scene) -> None:
    assert [boxes is None for boxes in future_boxes(scene_0103, 37)] == [False] * 3 + [True] * 4


def test_boxes_of_scene_0103_move_as_traffic_does(scene_0103: Scene) -> None:
    speeds = [np.linalg.norm(box.velocity) for keyframe in scene_0103.keyframes for box in keyframe.boxes]
    known = [speed for speed in speeds if not math.isnan(speed)]
    assert len(known) > 0.9 * len(speeds) and max(known) < 25.0


def test_one_keyframe_with_images_but_without_a_future(scene_0061: Scene) -> None:
    assert len(scene_0061.keyframes) == 1 and scene_0061.missing_images() == ()
    positions, valid = future_waypoints(scene_0061, 0)
    assert not valid.any() and np.isnan(positions).all()
    assert derived_command(scene_0061, 0) == (Command.UNKNOWN, CommandSource.UNKNOWN)
    source = FrameSource(scene_0061, ImageInput(ImageInputSpec(width=352, height=128)))
    frame = source.keyframe_frame(0)
    assert tuple(frame.views) == CAMERA_ORDER
    assert all(view.pixels.shape == (128, 352, 3) and view.pixels.std() > 20 for view in frame.views.values())
    assert frame.reference_stamp_ns == scene_0061.keyframes[0].images["cam_back_left"].stamp_ns
    # Seven poses within 43 ms are enough for a velocity: the car drives about 9.2 m/s.
    assert frame.ego.speed == pytest.approx(9.2, abs=0.2)
    assert len(camera_cycles(scene_0061)) == 1


def test_an_image_that_is_not_there_is_named_when_it_is_used(scene_0103: Scene) -> None:
    source = FrameSource(scene_0103, ImageInput(ImageInputSpec(width=352, height=128)))
    with pytest.raises(DatasetError, match="image of cam_front at .* cannot be read"):
        source.keyframe_frame(0)


@pytest.mark.slow
def test_the_ego_drives_on_drivable_ground(nuscenes_tables: NuScenesTables, scene_0103: Scene) -> None:
    area = DrivableArea.load(nuscenes_tables, scene_0103)
    places = np.array([pose[:2, 3] for _, pose in scene_0103.ego_poses])
    assert area.contains(places).all()
    # Upside down, or with x and y exchanged, the mask would hold few of them.
    assert not area.contains(places[:, ::-1]).all()
    grid = area.crop(scene_0103.keyframes[0].global_from_base, (-10.0, 50.0), (-30.0, 30.0), 0.5)
    assert grid.shape == (120, 120) and 0.2 < grid.mean() < 0.9
