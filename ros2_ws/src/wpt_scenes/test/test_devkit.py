"""nuscenes-devkit reads what the writer wrote. It is optional: skipped where it is not installed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from wpt_policy import se3
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.factory import FACTORY_VERSION
from wpt_scenes.scene_types import Scene
from wpt_scenes.schema import CAMERA_ORDER
from wpt_scenes.tables import NuScenesTables


@pytest.fixture(scope="module")
def devkit(factory_root: Path):
    nuscenes = pytest.importorskip(
        "nuscenes.nuscenes", reason="nuscenes-devkit is not installed (an optional extra)"
    )
    return nuscenes.NuScenes(version=FACTORY_VERSION, dataroot=str(factory_root), verbose=False)


def test_the_devkit_walks_the_whole_scene(devkit, factory_scene: Scene) -> None:
    scene = devkit.scene[0]
    token, seen = scene["first_sample_token"], []
    while token:
        seen.append(token)
        token = devkit.get("sample", token)["next"]
    assert seen == [keyframe.sample_token for keyframe in factory_scene.keyframes]
    assert seen[-1] == scene["last_sample_token"] and scene["nbr_samples"] == len(seen)
    for camera in CAMERA_ORDER:
        data = devkit.get("sample_data", devkit.get("sample", seen[0])["data"][camera.upper()])
        stamps = [data["timestamp"] * 1000]
        while data["next"]:
            data = devkit.get("sample_data", data["next"])
            stamps.append(data["timestamp"] * 1000)
        assert stamps == [frame.stamp_ns for frame in factory_scene.images[camera]]


def test_boxes_and_velocities_are_the_devkits(devkit, factory_scene: Scene) -> None:
    compared = 0
    for keyframe in factory_scene.keyframes:
        for box in keyframe.boxes:
            theirs = devkit.get_box(box.token)
            assert theirs.name == box.category
            assert np.allclose(theirs.center, box.global_from_box[:3, 3], atol=1e-9)
            assert np.allclose(theirs.rotation_matrix, box.global_from_box[:3, :3], atol=1e-9)
            assert np.allclose(theirs.wlh[[1, 0, 2]], box.size_lwh)
            # The devkit orders corners alike: front then back.
            assert np.allclose(sorted(theirs.corners().T.tolist()), sorted(box.corners().tolist()), atol=1e-9)
            assert np.allclose(devkit.box_velocity(box.token), box.velocity, atol=1e-9, equal_nan=True)
            compared += 1
    assert compared > 50


def test_the_devkit_projects_boxes_onto_the_same_pixels(devkit, factory_scene: Scene) -> None:
    compared = 0
    for keyframe in factory_scene.keyframes[::3]:
        sample = devkit.get("sample", keyframe.sample_token)
        for camera, image in keyframe.images.items():
            path, theirs, intrinsics = devkit.get_sample_data(sample["data"][camera.upper()])
            assert Path(path) == image.path and np.allclose(intrinsics, image.calibration.intrinsics)
            ours = {box.token: box for box in keyframe.boxes}
            for their in theirs:
                corners = their.corners()
                if corners[2].min() < 0.5:
                    continue
                projected = (intrinsics @ corners / corners[2])[:2].T
                mine = se3.apply(se3.inverse(image.global_from_base), ours[their.token].corners())
                pixels, _ = image.calibration.project(mine)
                assert np.allclose(sorted(projected.tolist()), sorted(pixels.tolist()), atol=1e-6)
                compared += 1
    assert compared > 20


def test_sweeps_get_boxes_between_their_keyframes(devkit, factory_scene: Scene) -> None:
    sweep = next(frame for frame in factory_scene.images["cam_front"] if not frame.is_key_frame)
    boxes = {box.token: box for box in devkit.get_boxes(sweep.token)}
    assert boxes
    before, after = factory_scene.keyframes[0], factory_scene.keyframes[1]
    assert sweep.sample_token == after.sample_token
    fraction = (sweep.stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
    moving = [box for box in after.boxes if "vehicle.moving" in box.attributes]
    checked = 0
    for box in moving:
        earlier = [old for old in before.boxes if old.instance_token == box.instance_token]
        if earlier and box.token in boxes:
            expected = (1 - fraction) * earlier[0].global_from_box[:3, 3] + fraction * box.global_from_box[
                :3, 3
            ]
            assert np.allclose(boxes[box.token].center, expected, atol=1e-3)
            checked += 1
    assert checked or not boxes.keys() & {box.token for box in moving}


def test_the_drivable_area_is_the_devkits(
    devkit, factory_tables: NuScenesTables, factory_scene: Scene
) -> None:
    area = DrivableArea.load(factory_tables, factory_scene)
    theirs = devkit.map[0]["mask"]
    rng = np.random.default_rng(0)
    around = factory_scene.keyframes[0].global_from_base[:2, 3]
    points = around + rng.uniform(-60.0, 60.0, (20_000, 2))
    # Both round to the nearest tenth; a point within 1e-6 of a half may go either way.
    clear = (np.abs(np.mod(points * 10.0, 1.0) - 0.5) > 1e-6).all(axis=1)
    mine = area.contains(points)
    assert np.array_equal(mine[clear], theirs.is_on_mask(points[clear, 0], points[clear, 1]))
    assert 0.05 < mine.mean() < 0.5


def test_the_devkit_renders_a_keyframe(devkit, factory_scene: Scene, tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    token = devkit.get("sample", factory_scene.keyframes[2].sample_token)["data"]["CAM_FRONT"]
    devkit.render_sample_data(token, out_path=str(tmp_path / "front.png"), verbose=False)
    assert (tmp_path / "front.png").stat().st_size > 10_000


def test_the_devkit_reads_the_lidar_file(devkit, factory_scene: Scene) -> None:
    from nuscenes.utils.data_classes import LidarPointCloud

    token = devkit.get("sample", factory_scene.keyframes[0].sample_token)["data"]["LIDAR_TOP"]
    cloud = LidarPointCloud.from_file(devkit.get_sample_data_path(token))
    assert cloud.nbr_points() > 5000 and math.isclose(cloud.points[2].min(), -1.84, abs_tol=0.2)


def test_velocities_of_real_boxes_are_the_devkits(nuscenes_root: Path, scene_0103: Scene) -> None:
    nuscenes = pytest.importorskip(
        "nuscenes.nuscenes", reason="nuscenes-devkit is not installed (an optional extra)"
    )
    devkit = nuscenes.NuScenes(version="v1.0-subset", dataroot=str(nuscenes_root), verbose=False)
    boxes = [box for keyframe in scene_0103.keyframes for box in keyframe.boxes]
    for box in boxes:
        assert np.allclose(devkit.box_velocity(box.token), box.velocity, atol=1e-9, equal_nan=True)
    assert sum(np.isnan(box.velocity).any() for box in boxes) > 0
