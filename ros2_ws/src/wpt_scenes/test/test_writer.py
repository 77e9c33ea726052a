"""Writing the nuScenes format: what was given comes back, and what the format cannot hold is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.writer import DriveLog, MapMask, SceneWriter, token_of, write_tables

STAMP = 1_700_000_000_000_000_000
MS = 1_000_000
LOG = DriveLog(name="drive", vehicle="car", location="street", date="2026-01-01")
MASK = MapMask(name="street", mask=np.ones((5, 6)), logs=("drive",))
MOUNT = np.array([[0.0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
INTRINSICS = np.array([[100.0, 0, 80], [0, 110, 45], [0, 0, 1]])


def writer_at(root: Path, name: str = "scene-0001") -> SceneWriter:
    writer = SceneWriter(root, name, log=LOG)
    writer.add_camera("CAM_ROOF", base_from_camera=MOUNT, intrinsics=INTRINSICS, width=160, height=90)
    writer.add_keyframe(STAMP)
    return writer


def folder_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(-3.14, 3.14)), min_size=2, max_size=6
    ),
    st.integers(0, 400),
)
def test_poses_stamps_and_boxes_come_back(tmp_path_factory, places: list, offset_us: int) -> None:
    root = tmp_path_factory.mktemp("written")
    writer = SceneWriter(root, "scene-0001", log=LOG)
    writer.add_camera("CAM_ROOF", base_from_camera=MOUNT, intrinsics=INTRINSICS, width=160, height=90)
    poses = [
        se3.planar(x, y, yaw) @ se3.transform([0, 0, 0], [0.9998, 0.02, 0.0, 0.0]) for x, y, yaw in places
    ]
    for index, pose in enumerate(poses):
        stamp = STAMP + index * 400 * MS + offset_us * 1000
        writer.add_keyframe(stamp)
        writer.add_file("CAM_ROOF", stamp, pose, None, keyframe=index)
        writer.add_box(
            index, "one", "vehicle.bus.rigid", pose, (11.0, 2.9, 3.5), visibility=3, num_lidar_pts=4
        )
    write_tables(root, "v1.0-x", [writer], [MASK])
    scene = load_scene(NuScenesTables.load(root, "v1.0-x"), "scene-0001")
    for index, keyframe in enumerate(scene.keyframes):
        assert keyframe.stamp_ns == STAMP + index * 400 * MS + offset_us * 1000
        assert np.allclose(keyframe.images["cam_roof"].global_from_base, poses[index], rtol=0, atol=1e-9)
        assert np.allclose(keyframe.boxes[0].global_from_box, poses[index], rtol=0, atol=1e-9)
        assert keyframe.boxes[0].size_lwh.tolist() == [11.0, 2.9, 3.5]
    camera = scene.rig["cam_roof"]
    assert np.array_equal(camera.intrinsics, INTRINSICS) and np.allclose(
        camera.base_from_camera, MOUNT, atol=1e-12
    )


def test_images_are_written_as_jpeg_and_sweeps_get_their_own_folder(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    red = np.zeros((90, 160, 3), np.uint8)
    red[..., 0] = 220
    writer.add_image("CAM_ROOF", STAMP - 10 * MS, np.eye(4), red, keyframe=0)
    writer.add_image("CAM_ROOF", STAMP - 90 * MS, np.eye(4), red, keyframe=None)
    write_tables(tmp_path, "v1.0-x", [writer], [MASK])
    scene = load_scene(NuScenesTables.load(tmp_path, "v1.0-x"), "scene-0001")
    assert scene.missing_images() == ()
    sweep, key = scene.images["cam_roof"]
    assert key.path == tmp_path / "samples/CAM_ROOF/drive__CAM_ROOF__1699999999990000.jpg"
    assert sweep.path == tmp_path / "sweeps/CAM_ROOF/drive__CAM_ROOF__1699999999910000.jpg"
    blue, green, red_seen = cv2.imread(str(key.path))[45, 80]
    assert red_seen > 200 and green < 20 and blue < 20


def test_a_sweep_belongs_to_the_next_keyframe_of_its_sensor_or_to_the_last(tmp_path: Path) -> None:
    writer = SceneWriter(tmp_path, "scene-0001", log=LOG)
    writer.add_camera("CAM_ROOF", base_from_camera=MOUNT, intrinsics=INTRINSICS, width=160, height=90)
    for index in range(2):
        writer.add_keyframe(STAMP + index * 500 * MS)
    # Added in any order: rows are sorted and linked by time.
    for ms, keyframe in ((600, None), (490, 1), (200, None), (-10, 0), (-60, None), (495, None)):
        writer.add_file("CAM_ROOF", STAMP + ms * MS, np.eye(4), None, keyframe=keyframe)
    write_tables(tmp_path, "v1.0-x", [writer], [MASK])
    tables = NuScenesTables.load(tmp_path, "v1.0-x")
    first, last = (row["token"] for row in tables.rows("sample"))
    rows = tables.rows("sample_data")
    assert [row["sample_token"] for row in rows] == [first, first, last, last, last, last]
    assert [row["is_key_frame"] for row in rows] == [False, True, False, True, False, False]
    assert [row["prev"] for row in rows] == [""] + [row["token"] for row in rows[:-1]]
    assert [row["next"] for row in rows] == [row["token"] for row in rows[1:]] + [""]
    assert rows[0]["fileformat"] == "jpg" and rows[0]["height"] == 90


def test_instances_are_linked_and_counted_over_gaps(tmp_path: Path) -> None:
    writer = SceneWriter(tmp_path, "scene-0001", log=LOG)
    writer.add_camera("CAM_ROOF", base_from_camera=MOUNT, intrinsics=INTRINSICS, width=160, height=90)
    for index in range(4):
        writer.add_keyframe(STAMP + index * 500 * MS)
        writer.add_file("CAM_ROOF", STAMP + index * 500 * MS, np.eye(4), None, keyframe=index)
    for index in (3, 0, 2):
        writer.add_box(index, "a", "vehicle.car", np.eye(4), (4, 2, 1), visibility=4, num_lidar_pts=1)
    write_tables(tmp_path, "v1.0-x", [writer], [MASK])
    tables = NuScenesTables.load(tmp_path, "v1.0-x")
    rows = tables.rows("sample_annotation")
    (instance,) = tables.rows("instance")
    assert instance["nbr_annotations"] == 3
    assert (instance["first_annotation_token"], instance["last_annotation_token"]) == (
        rows[0]["token"],
        rows[2]["token"],
    )
    assert [row["next"] for row in rows] == [rows[1]["token"], rows[2]["token"], ""]
    samples = [row["token"] for row in tables.rows("sample")]
    assert [samples.index(row["sample_token"]) for row in rows] == [0, 2, 3]


def test_the_same_calls_write_the_same_bytes_also_from_another_process(tmp_path: Path) -> None:
    for name in ("first", "second"):
        root = tmp_path / name
        scenes = []
        for number in range(2):
            writer = writer_at(root, f"scene-{number}")
            image = np.full((90, 160, 3), 40 * number, np.uint8)
            writer.add_image("CAM_ROOF", STAMP, np.eye(4), image, keyframe=0)
            scenes.append(pickle.loads(pickle.dumps(writer)) if name == "second" else writer)
        write_tables(root, "v1.0-x", scenes, [MASK])
    assert folder_hash(tmp_path / "first") == folder_hash(tmp_path / "second")


def test_tokens_are_32_hexadecimal_digits_and_depend_on_every_name() -> None:
    tokens = {token_of("a", "b"), token_of("a", "c"), token_of("ab"), token_of("a", "b", 1)}
    assert len(tokens) == 4 and all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)


def test_a_set_without_boxes_is_written_and_read(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    writer.add_file("CAM_ROOF", STAMP, np.eye(4), None, keyframe=0)
    write_tables(tmp_path, "v1.0-x", [writer], [MASK])
    assert load_scene(NuScenesTables.load(tmp_path, "v1.0-x"), "scene-0001").keyframes[0].boxes == ()
    mask = cv2.imread(str(tmp_path / "maps/street.png"), cv2.IMREAD_GRAYSCALE)
    assert mask.shape == (5, 6) and (mask == 255).all()


# What the format cannot hold


def box(writer: SceneWriter, **changes) -> None:
    arguments = dict(
        keyframe=0, instance="a", category="vehicle.car", global_from_box=np.eye(4), size_lwh=(4, 2, 1)
    )
    writer.add_box(**{**arguments, "visibility": 4, "num_lidar_pts": 1, **changes})


def test_wrong_calls_are_refused_with_a_sentence(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    image = np.zeros((90, 160, 3), np.uint8)
    twisted = np.diag([1.0, 1.0, -1.0, 1.0])
    writer.add_file("CAM_ROOF", STAMP, np.eye(4), None, keyframe=0)
    box(writer)
    calls = [
        (
            lambda: writer.add_file("CAM_ROOF", STAMP + 1, np.eye(4), None, keyframe=None),
            "whole number of microseconds",
        ),
        (
            lambda: writer.add_file("CAM_ROOF", 0, np.eye(4), None, keyframe=None),
            "whole number of microseconds",
        ),
        (lambda: writer.add_file("CAM_ROOF", STAMP, np.eye(4), None, keyframe=None), "two recordings at"),
        (
            lambda: writer.add_file("CAM_DOOR", STAMP, np.eye(4), None, keyframe=0),
            "no sensor CAM_DOOR, expected one of CAM_ROOF",
        ),
        (lambda: writer.add_file("CAM_ROOF", STAMP + MS, np.eye(4), None, keyframe=1), "names keyframe 1"),
        (lambda: writer.add_file("CAM_ROOF", STAMP + MS, twisted, None, keyframe=0), "no proper rotation"),
        (
            lambda: writer.add_image("CAM_ROOF", STAMP + MS, np.eye(4), image[:80], keyframe=0),
            r"expected \(90, 160, 3\) uint8",
        ),
        (
            lambda: writer.add_image("CAM_ROOF", STAMP + MS, np.eye(4), image.astype(float), keyframe=0),
            "type float64",
        ),
        (lambda: writer.add_keyframe(STAMP), "does not follow the last one"),
        (
            lambda: writer.add_camera(
                "CAM_ROOF", base_from_camera=MOUNT, intrinsics=INTRINSICS, width=1, height=1
            ),
            "added before",
        ),
        (
            lambda: writer.add_camera("C", base_from_camera=MOUNT, intrinsics=np.eye(2), width=1, height=1),
            "3x3",
        ),
        (lambda: writer.add_sensor("L", modality="lidar", base_from_sensor=twisted), "no proper rotation"),
        (lambda: box(writer, keyframe=5), "names keyframe 5"),
        (lambda: box(writer), "annotated twice in keyframe 0"),
        (lambda: box(writer, category="animal"), "a vehicle.car and a animal"),
        (lambda: box(writer, instance="b", visibility=5), "visibility of b is 5"),
        (lambda: box(writer, instance="c", size_lwh=(4, 0, 1)), "size of c"),
        (lambda: box(writer, instance="d", size_lwh=(4, float("nan"), 1)), "size of d"),
    ]
    for call, sentence in calls:
        with pytest.raises(DatasetError, match=sentence):
            call()
    write_tables(tmp_path, "v1.0-x", [writer], [MASK])
    tables = NuScenesTables.load(tmp_path, "v1.0-x")  # refused calls left nothing behind
    assert (tables.count("sample_data"), tables.count("sample_annotation"), tables.count("instance")) == (
        1,
        1,
        1,
    )


def test_wrong_sets_are_refused_and_leave_no_tables(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    empty = SceneWriter(tmp_path, "scene-0002", log=LOG)
    other_log = DriveLog(name="drive", vehicle="another", location="street", date="2026-01-01")
    calls = [
        ([writer], [], "log drive has no map mask"),
        (
            [writer],
            [MapMask(name="m", mask=np.ones((1, 1)), logs=("drive", "ghost"))],
            "logs without a scene: ghost",
        ),
        ([writer, writer_at(tmp_path)], [MASK], "scene names are not unique"),
        (
            [writer, SceneWriter(tmp_path, "scene-0002", log=other_log)],
            [MASK],
            "log drive has two descriptions",
        ),
        ([empty], [MASK], "scene-0002 has no keyframe"),
    ]
    for scenes, maps, sentence in calls:
        with pytest.raises(DatasetError, match=sentence):
            write_tables(tmp_path, "v1.0-x", scenes, maps)
    assert not list(tmp_path.glob("v1.0-x*"))
    write_tables(tmp_path, "v1.0-x", [writer], [MASK])
    with pytest.raises(DatasetError, match="exists already"):
        write_tables(tmp_path, "v1.0-x", [writer], [MASK])


def test_tables_are_json_with_a_row_a_line(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    writer.add_file("CAM_ROOF", STAMP, np.eye(4), None, keyframe=0)
    write_tables(tmp_path, "v1.0-x", [writer], [MASK])
    lines = (tmp_path / "v1.0-x/sample_data.json").read_text().splitlines()
    assert lines[0] == "[" and lines[-1] == "]" and len(lines) == 3
    assert json.loads(lines[1])["timestamp"] == STAMP // 1000
