"""Scenes as typed values."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from wpt_policy import se3
from wpt_scenes.annotations import box_velocity
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Box3D, Scene
from wpt_scenes.schema import CAMERA_ORDER
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.writer import DriveLog, MapMask, SceneWriter, write_tables

SMALL_VERSION = "v1.0-small"
START_NS = 1_700_000_000_000_000_000
Edit = Callable[..., Path]


def small_scene(root: Path, name: str = "scene-0") -> Scene:
    return load_scene(NuScenesTables.load(root, SMALL_VERSION), name)


def test_a_scene_holds_what_was_recorded(small_root: Path) -> None:
    scene = small_scene(small_root, "scene-1")
    assert (scene.name, scene.vehicle, scene.location) == ("scene-1", "car", "street")
    assert scene.dataset_version == SMALL_VERSION and scene.dataroot == small_root
    assert scene.findings == ()
    assert scene.camera_names == ("cam_front", "cam_back") == scene.rig.names
    start = START_NS + 10_000_000_000
    assert [keyframe.stamp_ns for keyframe in scene.keyframes] == [start + i * 500_000_000 for i in range(4)]
    assert [keyframe.index for keyframe in scene.keyframes] == [0, 1, 2, 3]
    for keyframe in scene.keyframes:
        assert np.allclose(keyframe.global_from_base, se3.planar(5.0 * keyframe.index, 0.0, 0.0), atol=1e-12)
        assert np.allclose(keyframe.base_from_lidar, se3.planar(0.94, 0.0, -math.pi / 2), atol=1e-12)
        assert tuple(keyframe.images) == ("cam_front", "cam_back")
        image = keyframe.images["cam_front"]
        assert image.stamp_ns == keyframe.stamp_ns - 35_000_000
        assert image.is_key_frame and image.sample_token == keyframe.sample_token
        assert image.global_from_base[0, 3] == pytest.approx(5.0 * keyframe.index - 0.35)
    assert scene.rig["cam_front"].width == 160 and scene.rig["cam_front"].intrinsics[0, 2] == 80.0


def test_images_are_in_time_order_and_a_sweep_belongs_to_the_next_keyframe(small_root: Path) -> None:
    scene = small_scene(small_root)
    for frames in scene.images.values():
        stamps = [frame.stamp_ns for frame in frames]
        assert stamps == sorted(stamps) and len(stamps) == 5
        sweep = next(frame for frame in frames if not frame.is_key_frame)
        assert sweep.sample_token == scene.keyframes[2].sample_token
    assert len(scene.ego_poses) == 4 * 3 + 2
    assert list(scene.poses.stamps_ns) == sorted(stamp for stamp, _ in scene.ego_poses)


def test_the_order_of_the_tables_rows_does_not_matter(edited: Edit, small_root: Path) -> None:
    expected = small_scene(small_root)
    for table in ("sample", "sample_data", "sample_annotation", "ego_pose", "calibrated_sensor"):
        edited(table, lambda rows: rows.reverse())
    scene = small_scene(edited("scene", lambda rows: rows.reverse()))
    assert scene.poses.stamps_ns == expected.poses.stamps_ns
    for camera in expected.camera_names:
        assert [f.token for f in scene.images[camera]] == [f.token for f in expected.images[camera]]
    for one, other in zip(scene.keyframes, expected.keyframes, strict=True):
        assert one.sample_token == other.sample_token and np.array_equal(
            one.global_from_base, other.global_from_base
        )
        assert {box.token for box in one.boxes} == {box.token for box in other.boxes}


def test_missing_image_files_are_listed_and_no_error(small_root: Path) -> None:
    missing = small_scene(small_root).missing_images()
    assert len(missing) == 10
    assert all(frame.path.is_absolute() and not frame.exists for frame in missing)


def test_boxes_have_length_before_width_and_the_devkits_velocity(small_root: Path) -> None:
    scene = small_scene(small_root)
    car, walker = scene.keyframes[0].boxes
    assert car.category == "vehicle.car" and car.size_lwh.tolist() == [4.5, 1.9, 1.6]
    assert np.allclose(car.velocity, 0.0) and car.visibility == 4 and car.num_lidar_pts == 9
    assert se3.yaw_of(car.global_from_box) == pytest.approx(math.pi)
    # The walker's only neighbour is 1.5 s away, which is still within the rule; it moved 3 m.
    assert np.allclose(walker.velocity, [0.0, 2.0, 0.0])
    assert walker.attributes == ("pedestrian.moving",) and walker.visibility == 2
    assert [len(keyframe.boxes) for keyframe in scene.keyframes] == [2, 1, 1, 2]


@pytest.mark.parametrize(
    ("seconds", "both", "known"),
    [(1.5, False, True), (1.6, False, False), (3.0, True, True), (3.1, True, False)],
)
def test_box_velocity_gives_up_on_long_gaps(seconds: float, both: bool, known: bool) -> None:
    start = 1_700_000_000_000_000
    stamps = {"a": start, "b": start + 400_000, "c": start + round(seconds * 1e6)}
    rows = {
        name: {
            "token": name,
            "sample_token": name,
            "translation": [x, 0.0, 0.0],
            "prev": prev,
            "next": following,
        }
        for name, x, prev, following in (("a", 0.0, "", "b"), ("b", 1.0, "a", "c"), ("c", 6.0, "b", ""))
    }
    if not both:
        rows["a"]["next"], rows["c"]["prev"] = "c", "a"
        del rows["b"]
    velocity = box_velocity(rows["b" if both else "a"], rows, stamps)
    assert np.allclose(velocity, [6.0 / seconds, 0, 0]) if known else np.isnan(velocity).all()


def test_a_box_seen_from_the_ego_keeps_its_place_and_its_speed_over_ground() -> None:
    box = Box3D(
        token="t",
        instance_token="i",
        category="vehicle.car",
        global_from_box=se3.planar(10.0, 5.0, math.pi / 2),
        size_lwh=np.array([4.0, 2.0, 1.5]),
        velocity=np.array([0.0, 3.0, 0.0]),
    )
    seen = box.in_base(se3.planar(10.0, 0.0, math.pi / 2))
    assert np.allclose(seen.base_from_box, se3.planar(5.0, 0.0, 0.0), atol=1e-12)
    assert np.allclose(seen.velocity, [3.0, 0.0, 0.0], atol=1e-12)
    corners = box.corners()
    assert np.allclose(corners.mean(axis=0), [10.0, 5.0, 0.0])
    assert np.allclose(corners[:4, 1], 7.0)  # the front, to the north
    assert np.allclose(corners[0], [9.0, 7.0, 0.75])  # left of a car that looks north, top


def test_an_unknown_scene_is_named_with_those_that_exist(small_root: Path) -> None:
    with pytest.raises(DatasetError, match="no scene 'scene-9', expected one of scene-0, scene-1; choose"):
        small_scene(small_root, "scene-9")


def test_a_scene_can_be_pickled(small_root: Path) -> None:
    copy = pickle.loads(pickle.dumps(small_scene(small_root)))
    assert copy.camera_names == ("cam_front", "cam_back")
    assert copy.poses.stamps_ns == small_scene(small_root).poses.stamps_ns


def change(rows_of: Callable[[dict], bool], **fields: object) -> Callable[[list[dict]], None]:
    def apply(rows: list[dict]) -> None:
        next(row for row in rows if rows_of(row)).update(fields)

    return apply


def test_a_camera_without_image_size_is_named(edited: Edit) -> None:
    root = edited("sample_data", change(lambda row: "CAM_BACK" in row["filename"], width=0))
    with pytest.raises(DatasetError, match="of CAM_BACK gives the image size 0x90"):
        small_scene(root)


def test_intrinsics_of_another_resolution_are_named(edited: Edit) -> None:
    matrix = [[1266.0, 0, 816], [0, 1266, 491], [0, 0, 1]]
    root = edited("calibrated_sensor", lambda rows: rows[0].update(camera_intrinsic=matrix))
    with pytest.raises(
        DatasetError, match="calibrated_sensor .*cam_front.*another resolution; correct the row"
    ):
        small_scene(root)


def test_two_images_at_one_stamp_are_named(edited: Edit) -> None:
    def collide(rows: list[dict]) -> None:
        front = [row for row in rows if "CAM_FRONT" in row["filename"]]
        front[2]["timestamp"] = front[1]["timestamp"]
        for row in rows:
            row["prev"] = row["next"] = ""

    with pytest.raises(DatasetError, match="two images of cam_front at 1700000000465000000 ns"):
        small_scene(edited("sample_data", collide))


def test_odd_scenes_are_usable_and_say_so(edited: Edit) -> None:
    edited("ego_pose", lambda rows: rows[0].update(timestamp=rows[0]["timestamp"] + 1))
    edited("sample", lambda rows: rows[2].update(timestamp=rows[2]["timestamp"] + 7))
    root = edited("sample_data", lambda rows: [row for row in rows if row["token"] != rows[1]["token"]])
    path = root / SMALL_VERSION / "sample_data.json"
    rows = json.loads(path.read_text())
    for row in rows:
        row["prev"] = row["next"] = ""
    path.write_text(json.dumps(rows))
    scene = small_scene(root)
    findings = " | ".join(scene.findings)
    assert "1 recordings of scene-0 have an ego_pose of another stamp" in findings
    assert "1 samples of scene-0 have another stamp than their LIDAR_TOP" in findings
    assert "cam_front has no image in 1 of 4 keyframes (first: 1)" in findings
    assert "cam_front" not in scene.keyframes[1].images


def test_contradicting_poses_at_one_stamp_are_reported_and_the_lidars_holds(edited: Edit) -> None:
    def to_lidar_stamps(rows: list[dict]) -> None:
        for row in rows:
            if "CAM_BACK" in row["filename"]:
                row["timestamp"] += 10_000

    scene = small_scene(edited("sample_data", to_lidar_stamps))
    assert any(
        "different ego poses at the same stamp" in finding and "4 in all" in finding
        for finding in scene.findings
    )
    for keyframe in scene.keyframes:
        assert keyframe.images["cam_back"].stamp_ns == keyframe.stamp_ns
        assert np.array_equal(scene.poses.at(keyframe.stamp_ns), keyframe.global_from_base)
        assert keyframe.images["cam_back"].global_from_base[0, 3] == pytest.approx(5.0 * keyframe.index - 0.1)


# Scenes of cameras alone


def cameras_alone(root: Path, sample_offset_ms: int, poses: int = 3) -> Scene:
    """Two cameras at -35 and -10 ms around each keyframe stamp, at 10 m/s; the ego turns by 0.2 rad/s."""
    log = DriveLog(name="drive", vehicle="car", location="street", date="2026-01-01")
    writer = SceneWriter(root, "scene-0001", log=log)
    mount = np.array([[0.0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    intrinsics = np.array([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]])
    for channel in ("CAM_FRONT", "CAM_ROOF"):
        writer.add_camera(channel, base_from_camera=mount, intrinsics=intrinsics, width=160, height=90)
    for index in range(poses):
        stamp = START_NS + index * 500_000_000
        writer.add_keyframe(stamp + sample_offset_ms * 1_000_000)
        for channel, offset in (("CAM_FRONT", -35_000_000), ("CAM_ROOF", -10_000_000)):
            writer.add_file(channel, stamp + offset, circle_pose(stamp + offset), None, keyframe=index)
    write_tables(root, "v1.0-cameras", [writer], [MapMask(name="m", mask=np.ones((4, 4)), logs=("drive",))])
    return load_scene(NuScenesTables.load(root, "v1.0-cameras"), "scene-0001")


def circle_pose(stamp_ns: int) -> np.ndarray:
    return se3.extrapolate(
        np.eye(4), np.array([10.0, 0, 0]), np.array([0, 0, 0.2]), (stamp_ns - START_NS) / 1e9
    )


def test_a_keyframe_without_lidar_takes_its_pose_from_the_recorded_ones(tmp_path: Path) -> None:
    scene = cameras_alone(tmp_path, -20)
    assert scene.camera_names == ("cam_front", "cam_roof")
    assert any("3 of 3 keyframes have no LIDAR_TOP" in finding for finding in scene.findings)
    for keyframe in scene.keyframes:
        assert keyframe.base_from_lidar is None
        assert np.allclose(keyframe.global_from_base, circle_pose(keyframe.stamp_ns), atol=1e-3)


def test_beyond_the_last_image_the_pose_goes_on_by_the_twist_for_100_ms(tmp_path: Path) -> None:
    scene = cameras_alone(tmp_path / "near", 80)
    assert np.allclose(
        scene.keyframes[-1].global_from_base, circle_pose(scene.keyframes[-1].stamp_ns), atol=0.01
    )
    with pytest.raises(DatasetError, match="keyframe 2 of scene-0001 has no LIDAR_TOP.*end 130.0 ms from"):
        cameras_alone(tmp_path / "far", 120)


def test_the_factory_can_leave_lidar_out(tmp_path: Path) -> None:
    from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene

    with_lidar = write_factory_scene(tmp_path / "with", keyframes=2, sweeps=False, images=False)
    without = write_factory_scene(tmp_path / "without", keyframes=2, sweeps=False, images=False, lidar=False)
    first, second = (
        load_scene(NuScenesTables.load(root, FACTORY_VERSION), FACTORY_SCENE)
        for root in (with_lidar, without)
    )
    for one, other in zip(first.keyframes, second.keyframes, strict=True):
        assert other.stamp_ns == one.stamp_ns and len(other.boxes) == len(one.boxes)
        assert np.allclose(one.global_from_base, other.global_from_base, atol=0.01)
        assert set(one.images) == set(CAMERA_ORDER)
