"""Scenes as bags: nothing is changed, nothing invented, what is missing is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import Command, CommandSource
from wpt_replay import bag_topics
from wpt_replay.bag_cli import main
from wpt_replay.bag_reader import BagMessage, BagReader, header_stamp_ns
from wpt_replay.image_header import read_image_header
from wpt_replay.scene_to_bag import convert_scene
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import derived_command, timed_waypoints


@pytest.fixture(scope="module")
def bag(factory_bag: Path) -> Iterator[BagReader]:
    with BagReader(factory_bag) as reader:
        yield reader


@pytest.fixture(scope="module")
def real_103(nuscenes_tables: NuScenesTables, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """scene-0103: 40 keyframes of real poses and boxes, no image files."""
    return convert_scene(nuscenes_tables, "scene-0103", tmp_path_factory.mktemp("real"))


def messages(bag: BagReader, topic: str) -> list[tuple[BagMessage, Any]]:
    return [(message, bag.decode(message)) for message in bag.messages([topic])]


def ns(stamp: Any) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def matrix(translation: Any, rotation: Any) -> np.ndarray:
    return se3.transform(
        [translation.x, translation.y, translation.z], [rotation.w, rotation.x, rotation.y, rotation.z]
    )


def vector(value: Any) -> np.ndarray:
    return np.array([value.x, value.y, value.z])


# ---- images and calibration


def test_jpeg_bytes_and_stamps_are_those_of_the_files(bag: BagReader, factory_scene: Scene) -> None:
    for camera in factory_scene.camera_names:
        frames = factory_scene.images[camera]
        images = messages(bag, bag_topics.image_topic(camera))
        assert [ns(image.header.stamp) for _, image in images] == [frame.stamp_ns for frame in frames]
        assert [image.data.tobytes() for _, image in images] == [frame.path.read_bytes() for frame in frames]
        assert {(image.format, image.header.frame_id) for _, image in images} == {("jpeg", camera)}


def test_every_image_has_its_camera_info(bag: BagReader, factory_scene: Scene) -> None:
    for camera in factory_scene.camera_names:
        calibration = factory_scene.rig[camera]
        infos = [info for _, info in messages(bag, bag_topics.camera_info_topic(camera))]
        assert [ns(info.header.stamp) for info in infos] == [f.stamp_ns for f in factory_scene.images[camera]]
        for info in infos:
            assert (info.width, info.height, info.header.frame_id) == (160, 90, camera)
            assert info.distortion_model == "plumb_bob" and info.d.tolist() == [0.0] * 5
            assert np.array_equal(info.k.reshape(3, 3), calibration.intrinsics)
            assert np.array_equal(info.r.reshape(3, 3), np.eye(3))
            assert np.array_equal(info.p.reshape(3, 4), np.hstack([calibration.intrinsics, np.zeros((3, 1))]))


def test_mounts_come_first_and_are_latched(bag: BagReader, factory_scene: Scene, factory_bag: Path) -> None:
    first = next(bag.messages())
    assert first.topic == bag_topics.TF_STATIC and first.stamp_ns == bag.start_ns
    transforms = {t.child_frame_id: t for t in bag.decode(first).transforms}
    assert set(transforms) == {*factory_scene.camera_names, "lidar_top"}
    for camera, calibration in factory_scene.rig.items():
        got = matrix(transforms[camera].transform.translation, transforms[camera].transform.rotation)
        assert transforms[camera].header.frame_id == "base_link"
        np.testing.assert_allclose(got, calibration.base_from_camera, atol=1e-14)
    metadata = yaml.safe_load((factory_bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    offers = {
        entry["topic_metadata"]["name"]: entry["topic_metadata"]["offered_qos_profiles"]
        for entry in metadata["topics_with_message_count"]
    }
    (mounts,), (images,) = offers[bag_topics.TF_STATIC], offers[bag_topics.image_topic("cam_front")]
    assert (mounts["reliability"], mounts["durability"]) == ("reliable", "transient_local")
    assert (images["reliability"], images["durability"]) == ("reliable", "volatile") and images["depth"] >= 6
    assert metadata["version"] == 9 and metadata["storage_identifier"] == "mcap"


# ---- order and times


def test_record_time_is_the_header_stamp_and_never_decreases(bag: BagReader) -> None:
    last_ns = 0
    after_images = (bag_topics.KEYFRAME, bag_topics.BOXES, bag_topics.TRUE_TRAJECTORY, bag_topics.TRUE_PATH)
    for message in bag.messages():
        assert message.stamp_ns >= last_ns
        last_ns = message.stamp_ns
        if bag.has_header(message.topic):
            stamp = header_stamp_ns(message.data)
            assert stamp % 1000 == 0, "microseconds of the data set"
            if message.topic in after_images:
                assert 0 <= message.stamp_ns - stamp < 10_000_000
            else:
                assert stamp == message.stamp_ns


def test_keyframe_messages_follow_their_six_images(bag: BagReader, factory_scene: Scene) -> None:
    seen: set[tuple[str, int]] = set()
    images = {bag_topics.image_topic(camera): camera for camera in factory_scene.camera_names}
    index = 0
    for message in bag.messages():
        if message.topic in images:
            seen.add((images[message.topic], message.stamp_ns))
        elif message.topic == bag_topics.KEYFRAME:
            keyframe, decoded = factory_scene.keyframes[index], bag.decode(message)
            assert (decoded.index, decoded.sample_token) == (index, keyframe.sample_token)
            assert (decoded.scene_name, decoded.scene_token) == (factory_scene.name, factory_scene.token)
            assert (decoded.dataset_version, decoded.location) == (FACTORY_VERSION, factory_scene.location)
            assert ns(decoded.header.stamp) == keyframe.stamp_ns
            assert {(camera, image.stamp_ns) for camera, image in keyframe.images.items()} <= seen
            index += 1
    assert index == len(factory_scene.keyframes)


def test_a_keyframe_stamped_before_its_last_image_is_recorded_after_it(tmp_path: Path) -> None:
    root = write_factory_scene(
        tmp_path / "data", keyframes=2, image_size=(160, 90), sweeps=False, lidar=False
    )
    file = root / FACTORY_VERSION / "sample.json"
    samples = json.loads(file.read_text())
    for sample in samples:
        sample["timestamp"] -= 10_000  # microseconds
    file.write_text(json.dumps(samples))
    report = convert_scene(NuScenesTables.load(root, FACTORY_VERSION), FACTORY_SCENE, tmp_path / "out")
    with BagReader(report.path) as bag:
        order = [
            m
            for m in bag.messages()
            if m.topic in (bag_topics.KEYFRAME, bag_topics.image_topic("cam_back_left"))
        ]
        assert [m.topic == bag_topics.KEYFRAME for m in order] == [False, True] * 2
        for image, keyframe in zip(order[::2], order[1::2], strict=True):
            assert header_stamp_ns(keyframe.data) < image.stamp_ns == keyframe.stamp_ns


def test_what_an_image_needs_comes_before_it(bag: BagReader, factory_scene: Scene) -> None:
    seen: set[tuple[str, int]] = set()
    for message in bag.messages():
        seen.add((message.topic, message.stamp_ns))
        if message.topic.endswith("/compressed"):
            camera = message.topic.split("/")[2]
            for topic in (bag_topics.camera_info_topic(camera), bag_topics.TF, bag_topics.ODOMETRY):
                assert (topic, message.stamp_ns) in seen


# ---- poses, command, truth


def test_poses_and_twist_at_every_recorded_stamp(bag: BagReader, factory_scene: Scene) -> None:
    check_poses(bag, factory_scene)
    check_twist(bag, factory_scene, linear=0.02, angular=0.02)


def check_poses(bag: BagReader, scene: Scene) -> None:
    """Stamps and positions to the last bit; rotations to 1e-14, as matrix to quaternion and back rounds."""
    transforms = messages(bag, bag_topics.TF)
    odometry = messages(bag, bag_topics.ODOMETRY)
    assert [message.stamp_ns for message, _ in transforms] == [stamp for stamp, _ in scene.ego_poses]
    assert [ns(entry.header.stamp) for _, entry in odometry] == [stamp for stamp, _ in scene.ego_poses]
    for (_, tf), (_, odom), (stamp, pose) in zip(transforms, odometry, scene.ego_poses, strict=True):
        (entry,) = tf.transforms
        assert (entry.header.frame_id, entry.child_frame_id) == ("map", "base_link")
        assert (odom.header.frame_id, odom.child_frame_id) == ("map", "base_link")
        assert ns(entry.header.stamp) == stamp
        for got in (
            matrix(entry.transform.translation, entry.transform.rotation),
            matrix(odom.pose.pose.position, odom.pose.pose.orientation),
        ):
            assert np.array_equal(got[:3, 3], pose[:3, 3])
            np.testing.assert_allclose(got, pose, atol=1e-14)


def check_twist(bag: BagReader, scene: Scene, *, linear: float, angular: float) -> None:
    """The twist carries each pose to the recorded one 50 ms later: within linear (m) and angular (rad) of it.

    A twist left at zero, in the map frame, or with the wrong sign is off by the way of 50 ms, 0.2 to 0.5 m
    here.
    """
    checked = 0
    for _, odom in messages(bag, bag_topics.ODOMETRY):
        stamp = ns(odom.header.stamp)
        if not scene.poses.covers(stamp + 50_000_000):
            continue
        pose = matrix(odom.pose.pose.position, odom.pose.pose.orientation)
        moved = se3.extrapolate(pose, vector(odom.twist.twist.linear), vector(odom.twist.twist.angular), 0.05)
        error = se3.inverse(scene.poses.at(stamp + 50_000_000)) @ moved
        assert np.linalg.norm(error[:3, 3]) < linear
        assert np.linalg.norm(se3.log_rotation(error[:3, :3])) < angular
        checked += 1
    assert checked > 10


def test_command_precedes_the_images_of_its_keyframe(bag: BagReader, factory_scene: Scene) -> None:
    commands = messages(bag, bag_topics.COMMAND)
    known = factory_scene.keyframes[:-1]  # the last one has no future
    for keyframe, (message, command) in zip(known, commands, strict=True):
        expected = derived_command(factory_scene, keyframe.index)
        assert (Command(command.command), CommandSource(command.source)) == expected
        assert message.stamp_ns == min(image.stamp_ns for image in keyframe.images.values())
    assert commands[0][1].source == CommandSource.DERIVED_FROM_FUTURE


def test_boxes_in_map(bag: BagReader, factory_scene: Scene) -> None:
    for keyframe, (_, array), (_, markers) in zip(
        factory_scene.keyframes,
        messages(bag, bag_topics.BOXES),
        messages(bag, bag_topics.MARKERS),
        strict=True,
    ):
        assert array.header.frame_id == "map" and ns(array.header.stamp) == keyframe.stamp_ns
        assert [o.token for o in array.objects] == [box.token for box in keyframe.boxes] and keyframe.boxes
        for got, marker, box in zip(array.objects, markers.markers, keyframe.boxes, strict=True):
            np.testing.assert_allclose(
                matrix(got.pose.position, got.pose.orientation), box.global_from_box, atol=1e-14
            )
            assert np.array_equal(vector(got.size), box.size_lwh) and got.category == box.category
            np.testing.assert_array_equal(vector(got.velocity), box.velocity)
            assert np.array_equal(vector(marker.scale), box.size_lwh) and marker.ns.startswith(
                "ground_truth/"
            )


def test_an_object_keeps_its_marker_id(bag: BagReader, factory_scene: Scene) -> None:
    ids: dict[str, int] = {}
    for keyframe, (_, markers) in zip(
        factory_scene.keyframes, messages(bag, bag_topics.MARKERS), strict=True
    ):
        for box, marker in zip(keyframe.boxes, markers.markers, strict=True):
            assert ids.setdefault(box.instance_token, marker.id) == marker.id
    assert len(set(ids.values())) == len(ids)


def test_true_future_is_timed(bag: BagReader, factory_scene: Scene) -> None:
    trajectories, paths = messages(bag, bag_topics.TRUE_TRAJECTORY), messages(bag, bag_topics.TRUE_PATH)
    for keyframe, (_, trajectory), (_, path) in zip(
        factory_scene.keyframes, trajectories, paths, strict=True
    ):
        positions, valid = timed_waypoints(factory_scene.poses, keyframe.stamp_ns)
        known = int(valid.sum())
        assert [ns(p.time_from_start) for p in trajectory.points] == [
            i * 500_000_000 for i in range(known + 1)
        ]
        got = np.array([[p.pose.position.x, p.pose.position.y] for p in trajectory.points])
        assert np.array_equal(got, np.vstack([[0.0, 0.0], positions[:known]]))
        assert trajectory.header.frame_id == "base_link" and trajectory.planner == "ground_truth"
        assert [ns(p.header.stamp) for p in path.poses] == [
            k.stamp_ns for k in factory_scene.keyframes[keyframe.index :]
        ]
    assert len(trajectories[0][1].points) > 1 and trajectories[0][1].points[0].longitudinal_velocity > 1.0


# ---- storages, keyframes, metadata


def test_both_storages_and_keyframes_alone(
    factory_tables: NuScenesTables, bag: BagReader, tmp_path: Path
) -> None:
    sqlite = convert_scene(factory_tables, FACTORY_SCENE, tmp_path / "s", storage="sqlite3")
    with BagReader(sqlite.path) as other:
        assert other.storage == "sqlite3"
        assert list(other.messages()) == list(bag.messages())
    keyframes = convert_scene(factory_tables, FACTORY_SCENE, tmp_path / "k", sweeps=False)
    with BagReader(keyframes.path) as other:
        assert other.topics[bag_topics.image_topic("cam_back")].count == 3
        assert other.custom_data["images"] == "keyframes"
        for topic in (bag_topics.TF, bag_topics.ODOMETRY, bag_topics.BOXES, bag_topics.COMMAND):
            assert [m.data for m in other.messages([topic])] == [m.data for m in bag.messages([topic])]


def test_metadata_says_where_it_comes_from(bag: BagReader, factory_scene: Scene) -> None:
    data = bag.custom_data
    assert data["scene"] == factory_scene.name and data["location"] == factory_scene.location
    assert data["vehicle"] == factory_scene.vehicle and data["dataset_version"] == FACTORY_VERSION
    assert data["log"] and data["images_missing"] == "{}" and data["images"] == "sweeps"
    assert data["licence"].startswith("synthetic") and "Apache-2.0" in data["licence"]


# ---- what is missing or unfit


@pytest.fixture
def damaged_root(tmp_path: Path) -> Path:
    return write_factory_scene(tmp_path / "data", keyframes=2, image_size=(160, 90), sweeps=False)


def test_missing_and_unusable_files_are_named_and_left_out(damaged_root: Path, tmp_path: Path) -> None:
    scene = load_scene(NuScenesTables.load(damaged_root, FACTORY_VERSION), FACTORY_SCENE)
    gone, pointer = scene.images["cam_back"][0].path, scene.images["cam_front"][1].path
    gone.unlink()
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    report = convert_scene(
        NuScenesTables.load(damaged_root, FACTORY_VERSION), FACTORY_SCENE, tmp_path / "out"
    )
    assert report.missing == {"cam_back": [gone]} and report.unusable == {"cam_front": [pointer]}
    words = "\n".join(report.warnings())
    assert f"1 of 2 images of cam_back are missing and are left out ({gone.name})" in words
    assert f"1 of 2 images of cam_front are no JPEG or PNG and are left out ({pointer.name})" in words
    with BagReader(report.path) as bag:
        for camera, count in (("cam_back", 1), ("cam_front", 1), ("cam_back_left", 2)):
            assert bag.topics[bag_topics.image_topic(camera)].count == count
            assert bag.topics[bag_topics.camera_info_topic(camera)].count == count
        assert bag.custom_data["images_missing"] == '{"cam_back": 1, "cam_front": 1}'


def test_images_shrunk_after_recording_get_scaled_intrinsics(damaged_root: Path, tmp_path: Path) -> None:
    tables = NuScenesTables.load(damaged_root, FACTORY_VERSION)
    scene = load_scene(tables, FACTORY_SCENE)
    path = scene.images["cam_front"][0].path
    assert cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (80, 45)))
    report = convert_scene(tables, FACTORY_SCENE, tmp_path / "out")
    assert any("80x45" in line and "160x90" in line for line in report.warnings())
    with BagReader(report.path) as bag:
        info = messages(bag, bag_topics.camera_info_topic("cam_front"))[0][1]
        expected = scene.rig["cam_front"].resized(80, 45)
        assert (info.width, info.height) == (80, 45)
        assert np.array_equal(info.k.reshape(3, 3), expected.intrinsics)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_image_headers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(path), np.zeros((37, 91, 3), dtype=np.uint8))
    data = path.read_bytes()
    header = read_image_header(data)
    assert header == ({".jpg": "jpeg", ".png": "png"}[suffix], 91, 37)
    for end in range(24):
        assert read_image_header(data[:end]) in (None, header)
    assert read_image_header(b"GIF89a" + bytes(50)) is None


# ---- the command


def test_command_line(damaged_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "convert",
        "--data",
        str(damaged_root),
        "--version",
        FACTORY_VERSION,
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--scene", "all"]) == 0
    assert "12 of 12 images" in capsys.readouterr().out
    assert main([*arguments, "--scene", FACTORY_SCENE]) == 1
    assert "exists" in capsys.readouterr().err
    assert (
        main([*arguments, "--scene", FACTORY_SCENE, "--overwrite", "--keyframes", "--storage", "sqlite3"])
        == 0
    )
    assert main([*arguments, "--scene", "scene-9999"]) == 1
    assert "scene-9999" in capsys.readouterr().err
    shutil.rmtree(damaged_root / FACTORY_VERSION)
    assert main([*arguments, "--scene", "all"]) == 1
    assert "Traceback" not in capsys.readouterr().err


# ---- real nuScenes, where it is at hand


def test_real_scene_without_images_says_so(real_103: Any) -> None:
    assert {camera: len(files) for camera, files in real_103.missing.items()} == dict.fromkeys(
        ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left"), 40
    )
    assert real_103.images_written == 0
    words = "\n".join(real_103.warnings())
    assert "40 of 40 images of cam_front are missing" in words
    assert "__CAM_FRONT__1533151603512404.jpg" in words
    assert "no image at all was found" in words
    assert real_103.counts[bag_topics.KEYFRAME] == 40 and real_103.counts[bag_topics.BOXES] == 40


def test_real_poses_come_back_exactly(real_103: Any, nuscenes_tables: NuScenesTables) -> None:
    scene = load_scene(nuscenes_tables, "scene-0103")
    with BagReader(real_103.path) as bag:
        assert len(scene.ego_poses) == 280
        check_poses(bag, scene)
        # Poses are 43 ms apart within a keyframe and up to 0.45 s between keyframes: what lies between is
        # interpolated.
        check_twist(bag, scene, linear=0.1, angular=0.02)


def test_real_odometry_agrees_with_the_way_between_keyframes(
    real_103: Any, nuscenes_tables: NuScenesTables
) -> None:
    scene = load_scene(nuscenes_tables, "scene-0103")
    with BagReader(real_103.path) as bag:
        speeds = {ns(o.header.stamp): o.twist.twist.linear.x for _, o in messages(bag, bag_topics.ODOMETRY)}
        keyframes = [ns(k.header.stamp) for _, k in messages(bag, bag_topics.KEYFRAME)]
    assert [k.stamp_ns for k in scene.keyframes] == keyframes
    for before, after in zip(scene.keyframes, scene.keyframes[1:], strict=False):
        way = np.linalg.norm(after.global_from_base[:3, 3] - before.global_from_base[:3, 3])
        mean = way / ((after.stamp_ns - before.stamp_ns) / 1e9)
        assert mean == pytest.approx((speeds[before.stamp_ns] + speeds[after.stamp_ns]) / 2, abs=0.5)


def test_real_boxes_reproject_from_the_bag_alone_onto_the_same_pixels(
    nuscenes_tables: NuScenesTables, tmp_path: Path
) -> None:
    report = convert_scene(nuscenes_tables, "scene-0061", tmp_path)
    assert report.images_written == 6
    from_bag = bag_pixels(report.path)
    scene = load_scene(nuscenes_tables, "scene-0061")
    compared = 0
    for camera, image in scene.keyframes[0].images.items():
        for box in scene.keyframes[0].boxes:
            corners = se3.apply(se3.inverse(image.global_from_base), box.corners())
            pixels, depth = image.calibration.project(corners)
            if np.all(depth > 1.0) and image.calibration.visible(pixels, depth).any():
                np.testing.assert_allclose(from_bag[camera, box.token], pixels, atol=1.0)
                np.testing.assert_allclose(from_bag[camera, box.token], pixels, atol=1e-6)
                compared += 1
    assert compared >= 40


def bag_pixels(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Project every box into every camera with what the bag says alone: camera_info, tf_static and tf."""
    mounts: dict[str, np.ndarray] = {}
    poses: dict[int, np.ndarray] = {}
    infos: dict[str, Any] = {}
    objects: list[Any] = []
    with BagReader(path) as bag:
        for message in bag.messages():
            decoded = bag.decode(message)
            if message.topic == bag_topics.TF_STATIC:
                for t in decoded.transforms:
                    mounts[t.child_frame_id] = matrix(t.transform.translation, t.transform.rotation)
            elif message.topic == bag_topics.TF:
                (t,) = decoded.transforms
                poses[ns(t.header.stamp)] = matrix(t.transform.translation, t.transform.rotation)
            elif message.topic.endswith("/camera_info"):
                infos[decoded.header.frame_id] = decoded
            elif message.topic == bag_topics.BOXES:
                objects += decoded.objects
    pixels = {}
    for camera, info in infos.items():
        calibration = CameraCalibration(
            name=camera,
            width=info.width,
            height=info.height,
            intrinsics=info.p.reshape(3, 4)[:, :3],
            base_from_camera=mounts[camera],
        )
        base_from_map = se3.inverse(poses[ns(info.header.stamp)])
        for entry in objects:
            half = vector(entry.size) / 2
            signs = [
                [1, 1, 1],
                [1, 1, -1],
                [1, -1, -1],
                [1, -1, 1],
                [-1, 1, 1],
                [-1, 1, -1],
                [-1, -1, -1],
                [-1, -1, 1],
            ]
            in_map = se3.apply(matrix(entry.pose.position, entry.pose.orientation), half * np.array(signs))
            pixels[camera, entry.token], _ = calibration.project(se3.apply(base_from_map, in_map))
    assert len(pixels) == 6 * len(objects) > 0
    return pixels
