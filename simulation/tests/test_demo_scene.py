"""The demo's scene in the nuScenes format is what its log says: stamps, poses, boxes, map, commands."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from wpt_policy import se3
from wpt_policy.frame import Command
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.frames import FrameSource, camera_cycles
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables
from wpt_sim.demo_scene import DEMO_SCENE, DEMO_VERSION, demo_log, write_demo_scene
from wpt_sim.drivable_raster import drivable_raster
from wpt_sim.errors import SimulationError
from wpt_sim.exposure_schedule import FIRST_EPOCH_US
from wpt_sim.sample_lists import read_commands
from wpt_sim.scene_export import map_shift

LOG = demo_log()
SHIFT = map_shift(drivable_raster(LOG.road_map))


def log_time(stamp_ns: int) -> float:
    return (stamp_ns // 1000 - FIRST_EPOCH_US) / 1e6


def test_stamps_are_like_those_of_a_nuscenes_car(demo_written: Scene) -> None:
    stamps = np.array([keyframe.stamp_ns for keyframe in demo_written.keyframes]) / 1e6
    steps = np.diff(stamps)
    assert len(stamps) >= 19 and steps.min() >= 398 and steps.max() <= 602 and abs(steps.mean() - 497.5) < 15
    offsets = {"cam_front_left": -43, "cam_front": -35, "cam_front_right": -27, "cam_back_right": -20, "cam_back": -10,
               "cam_back_left": 0}  # fmt: skip
    for camera, offset in offsets.items():
        found = [(k.images[camera].stamp_ns - k.stamp_ns) / 1e6 for k in demo_written.keyframes]
        assert np.abs(np.array(found) - offset).max() <= 3.0
        gaps = np.diff([frame.stamp_ns for frame in demo_written.images[camera]]) / 1e6
        assert 60 < gaps.min() and gaps.max() < 105 and abs(gaps.mean() - 83.3) < 4
    assert len(camera_cycles(demo_written)) == len(demo_written.images["cam_front"])


def test_every_recording_has_the_pose_of_its_own_stamp(demo_written: Scene) -> None:
    frames = [frame for images in demo_written.images.values() for frame in images]
    for frame in frames[::7]:
        ego = LOG.state_at(log_time(frame.stamp_ns)).ego
        expected = se3.planar(ego.x + SHIFT[0], ego.y + SHIFT[1], ego.yaw)
        assert np.allclose(frame.global_from_base, expected, atol=1e-9)
    keyframe = demo_written.keyframes[5]
    spread = [image.global_from_base[:2, 3] for image in keyframe.images.values()]
    assert np.ptp(np.array(spread), axis=0).max() > 0.1


def test_boxes_are_the_logged_actors_and_their_velocity_its_central_difference(demo_written: Scene) -> None:
    times = [log_time(keyframe.stamp_ns) for keyframe in demo_written.keyframes]
    at_times = [{actor.id: actor for actor in LOG.state_at(time_s).actors} for time_s in times]
    compared = 0
    instances: dict[str, str] = {}
    for index, keyframe in enumerate(demo_written.keyframes):
        for box in keyframe.boxes:
            x, y = box.global_from_box[:2, 3] - SHIFT
            name = min(at_times[index], key=lambda n: math.hypot(at_times[index][n].x - x, at_times[index][n].y - y))
            actor = at_times[index][name]
            assert math.hypot(actor.x - x, actor.y - y) < 1e-6 and box.category == actor.kind.value
            assert instances.setdefault(box.instance_token, name) == name
            assert np.allclose(box.size_lwh, (actor.length, actor.width, actor.height))
            assert box.visibility in (1, 2, 3, 4)
            before = index - 1 if index > 0 and instance_in(demo_written, index - 1, box) else index
            after = index + 1 if index + 1 < len(times) and instance_in(demo_written, index + 1, box) else index
            if before < index < after:
                expected = np.array([at_times[after][name].x - at_times[before][name].x,
                                     at_times[after][name].y - at_times[before][name].y])  # fmt: skip
                expected /= times[after] - times[before]
                assert np.abs(box.velocity[:2] - expected).max() < 1e-3
                compared += 1
    assert compared > 80 and len(instances) > 8


def instance_in(scene: Scene, index: int, box) -> bool:
    return any(other.instance_token == box.instance_token for other in scene.keyframes[index].boxes)


def test_visibility_and_lidar_points_vary(demo_written: Scene) -> None:
    boxes = [box for keyframe in demo_written.keyframes for box in keyframe.boxes]
    assert len({box.visibility for box in boxes}) >= 3
    assert sum(box.num_lidar_pts > 0 for box in boxes) > 0.5 * len(boxes)
    assert {"vehicle.moving", "pedestrian.moving"} <= {name for box in boxes for name in box.attributes}
    near = [
        box for k in demo_written.keyframes for box in k.boxes
        if np.linalg.norm(box.global_from_box[:2, 3] - k.global_from_base[:2, 3]) < 12.0 and box.visibility == 4
    ]  # fmt: skip
    assert near and all(box.num_lidar_pts > 3 for box in near)


def test_the_map_mask_is_the_road_maps_raster(demo_tables: NuScenesTables, demo_written: Scene) -> None:
    area, raster = DrivableArea.load(demo_tables, demo_written), drivable_raster(LOG.road_map)
    rng = np.random.default_rng(0)
    centre = demo_written.keyframes[10].global_from_base[:2, 3]
    points = centre + rng.uniform(-60.0, 60.0, (20_000, 2))
    mine, theirs = area.contains(points), raster.contains(points - SHIFT)
    assert 0.05 < theirs.mean() < 0.7
    # Both take the pixel that holds a place; on a pixel's border either may be meant.
    assert np.mean(mine != theirs) < 1e-3
    ego = np.array([keyframe.global_from_base[:2, 3] for keyframe in demo_written.keyframes])
    assert area.contains(ego).all()


def test_commands_come_from_the_route(demo_root: Path, demo_written: Scene) -> None:
    commands = read_commands(demo_root / DEMO_VERSION)
    assert list(commands) == [keyframe.sample_token for keyframe in demo_written.keyframes]
    for keyframe in demo_written.keyframes:
        assert commands[keyframe.sample_token] is LOG.command_at(log_time(keyframe.stamp_ns))
    assert {Command.LEFT, Command.LANE_FOLLOW} <= set(commands.values())
    assert read_commands(demo_root) == {}


def test_a_broken_command_file_is_named(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"commands": {"t": "sideways"}}', '{"commands": []}'):
        (tmp_path / "command.json").write_text(content)
        with pytest.raises(SimulationError, match="holds no commands"):
            read_commands(tmp_path)


def test_frames_can_be_made_of_it(demo_written: Scene) -> None:
    frame = FrameSource(demo_written, None).keyframe_frame(4)
    assert len(frame.views) == 6 and frame.ego is not None and 3.0 < frame.ego.speed < 12.0
    assert abs(frame.ego.speed - LOG.state_at(log_time(frame.reference_stamp_ns)).ego.speed) < 0.1
    assert not demo_written.missing_images() and not demo_written.findings


def test_the_same_bytes_again_and_no_overwriting(tmp_path: Path) -> None:
    first, second = (
        write_demo_scene(tmp_path / name, image_size=(160, 90), sweeps=False) for name in ("first", "second")
    )
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) > 100 + 13
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)
    with pytest.raises(SimulationError, match="exists already"):
        write_demo_scene(first)
    with pytest.raises(SimulationError, match="16:9"):
        write_demo_scene(tmp_path / "third", image_size=(100, 100))


def test_the_devkit_reads_it(demo_root: Path, demo_written: Scene, tmp_path: Path) -> None:
    nuscenes = pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit is not installed (an optional extra)")
    import matplotlib

    matplotlib.use("Agg")
    devkit = nuscenes.NuScenes(version=DEMO_VERSION, dataroot=str(demo_root), verbose=False)
    assert [scene["name"] for scene in devkit.scene] == [DEMO_SCENE]
    for keyframe in demo_written.keyframes:
        for box in keyframe.boxes:
            assert np.allclose(devkit.box_velocity(box.token), box.velocity, atol=1e-9, equal_nan=True)
    data = devkit.get("sample", demo_written.keyframes[5].sample_token)["data"]
    for channel in ("CAM_FRONT", "LIDAR_TOP"):
        # Its own map underlay fails with numpy 2 (an array where a number is meant).
        devkit.render_sample_data(
            data[channel], underlay_map=False, out_path=str(tmp_path / f"{channel}.png"), verbose=False
        )
        assert (tmp_path / f"{channel}.png").stat().st_size > 10_000
