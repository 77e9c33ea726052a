"""Presets and camera names: found by the check, and right in the file that the launch argument reads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_replay.bag_reader import BagReader
from wpt_replay.bag_writer import BagWriter, reliable
from wpt_replay.check_names import by_mount, choose_names, direction_words, expected_yaw
from wpt_replay.check_qos import Offer
from wpt_replay.check_settings import load_presets, load_settings
from wpt_replay.replay_cli import main

CAMERAS = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")
COMPRESSED, IMAGE = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"
Rewrite = Callable[..., Path]


def our_names(camera: str) -> tuple[str, str]:
    return f"/sensing/{camera}/image_rect/compressed", f"/sensing/{camera}/camera_info"


def renamed(
    bag: Path, rewrite_bag: Rewrite, names: Mapping[str, str], frames: Mapping[str, str] | None = None
) -> Path:
    """Rename topics and, in every message, frames."""
    frames = frames or {}

    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        for header in [message, *getattr(message, "transforms", [])]:
            if hasattr(header, "header"):
                header.header.frame_id = frames.get(header.header.frame_id, header.header.frame_id)
            if hasattr(header, "child_frame_id"):
                header.child_frame_id = frames.get(header.child_frame_id, header.child_frame_id)
        return names.get(topic, topic), ns, message

    return rewrite_bag(bag, change)


def as_autoware(order: Mapping[str, int]) -> dict[str, str]:
    names = {}
    for camera, number in order.items():
        image, info = our_names(camera)
        names[image] = f"/sensing/camera/camera{number}/image_rect_color/compressed"
        names[info] = f"/sensing/camera/camera{number}/camera_info"
    return names


def run(bag: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    code = main(["check", "--bag", str(bag), *options])
    return code, capsys.readouterr().out.splitlines()


def test_autoware_names_in_the_presets_order(
    factory_bag: Path, rewrite_bag: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    order = {camera: number for number, camera in enumerate(CAMERAS)}
    frames = {camera: f"camera{number}/camera_optical_link" for camera, number in order.items()}
    code, lines = run(renamed(factory_bag, rewrite_bag, as_autoware(order), frames), capsys)
    assert code == 0, lines
    assert (
        lines[0].startswith("ok ")
        and "preset autoware: 6 of 6 cameras (compressed images), 6 camera_info" in lines[0]
    )
    assert "planner.launch.py topics:=autoware use_sim_time:=true" in lines[0]
    assert lines[1].startswith("ok ") and "by their mounts: cam_front = camera0 (0 degrees)" in lines[1]
    assert "cam_back = camera3 (180 degrees)" in lines[1]


def test_autoware_names_in_another_vehicles_order(
    factory_bag: Path, rewrite_bag: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    order = dict(zip(CAMERAS, (0, 2, 4, 1, 5, 3), strict=True))
    bag = renamed(factory_bag, rewrite_bag, as_autoware(order))
    code, lines = run(bag, capsys)
    assert code == 0, lines
    assert lines[0].startswith("warn ") and "its camera order is another vehicle's" in lines[0]
    assert "cam_back = camera1 (180 degrees)" in lines[0]
    assert (
        "-r sensing/cam_back/image_rect/compressed:=/sensing/camera/camera1/image_rect_color/compressed"
        in lines[0]
    )
    assert "-r sensing/cam_back/camera_info:=/sensing/camera/camera1/camera_info" in lines[0]
    assert "planner_node --ros-args -p use_sim_time:=true" in lines[0]
    assert not [line for line in lines if line.startswith("FAIL")]


def test_autoware_without_mounts(
    factory_bag: Path, rewrite_bag: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    names = as_autoware({camera: number for number, camera in enumerate(CAMERAS)}) | {
        "/tf_static": "/tf_static_lost"
    }
    code, lines = run(renamed(factory_bag, rewrite_bag, names), capsys)
    assert code == 1
    assert (
        lines[1].startswith("warn ")
        and "nothing says which looks where; taken for cam_front = camera0" in lines[1]
    )


def test_watonomous_names_and_a_wrong_wish(
    factory_bag: Path, rewrite_bag: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"/localization/kinematic_state": "/odom"}
    for camera in CAMERAS:
        image, info = our_names(camera)
        names |= {image: f"/{camera.upper()}/image_rect_compressed", info: f"/{camera.upper()}/camera_info"}
    bag = renamed(factory_bag, rewrite_bag, names, {camera: camera.upper() for camera in CAMERAS})
    code, lines = run(bag, capsys)
    assert code == 0 and "preset watonomous: 6 of 6 cameras" in lines[0] and "topics:=watonomous" in lines[0]
    code, lines = run(bag, capsys, "--preset", "nuscenes2mcap")
    assert (
        code == 1 and "no preset explains a camera; there are 6 image topics with images (/CAM_" in lines[0]
    )


def test_our_names_in_a_namespace(
    factory_bag: Path, rewrite_bag: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagReader(factory_bag) as bag:
        names = {
            topic: f"/car1{topic}"
            for topic in bag.topics
            if topic.split("/")[1] in ("sensing", "localization")
        }
    code, lines = run(renamed(factory_bag, rewrite_bag, names), capsys)
    assert code == 0 and "our own names in namespace car1" in lines[0] and "namespace:=car1" in lines[0]


def test_names_of_nobody_are_told_apart_by_their_mounts(
    factory_bag: Path, rewrite_bag: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"/localization/kinematic_state": "/ins/odometry"}
    for letter, camera in zip("fedcba", CAMERAS, strict=True):
        image, info = our_names(camera)
        names |= {image: f"/video/{letter}/image", info: f"/video/{letter}/camera_info"}
    code, lines = run(renamed(factory_bag, rewrite_bag, names), capsys)
    assert code == 0, lines
    assert (
        lines[0].startswith("warn ")
        and "no preset has these names; cameras told apart by name or mount" in lines[0]
    )
    assert "-r sensing/cam_back/image_rect/compressed:=/video/c/image" in lines[0]
    assert "-r sensing/cam_back/camera_info:=/video/c/camera_info" in lines[0]
    assert "-r localization/kinematic_state:=/ins/odometry" in lines[0]


def test_names_of_nobody_are_told_apart_by_their_words(
    factory_bag: Path, rewrite_bag: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {}
    for camera in CAMERAS:
        image, info = our_names(camera)
        place = camera.removeprefix("cam_").replace("back", "rear")
        names |= {image: f"/video/{place}/image", info: f"/video/{place}/camera_info"}
    code, lines = run(renamed(factory_bag, rewrite_bag, names), capsys)
    assert code == 0 and "-r sensing/cam_back_left/image_rect/compressed:=/video/rear_left/image" in lines[0]


def test_raw_images(factory_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As Chris7462's converter names them, with an encoding that the planner does not read in the second
    bag.
    """
    for encoding, expected in (("bgr8", 0), ("bayer_rggb8", 1)):
        bag = raw_bag(factory_bag, tmp_path / encoding, encoding)
        code, lines = run(bag, capsys)
        assert code == expected, lines
        assert "preset chris7462: 6 of 6 cameras (raw images)" in lines[0]
        assert "topics:=chris7462 use_sim_time:=true transport:=raw" in lines[0]
        text = "\n".join(lines)
        if expected:
            assert (
                "FAIL  all 6 cameras" in text
                and "image encoding is 'bayer_rggb8', expected one of bgr8" in text
            )
            assert "-> debayer the images" in text
        else:
            assert "images are 160x90 bgr8" in text


def raw_bag(bag: Path, target: Path, encoding: str) -> Path:
    with BagReader(bag) as reader, BagWriter(target) as writer:
        image = writer.type(IMAGE)
        for name, topic in reader.topics.items():
            is_image = topic.type_name == COMPRESSED
            writer.add_topic(
                raw_name(name),
                IMAGE if is_image else topic.type_name,
                reliable(10, transient_local=topic.latched),
            )
        for message in reader.messages():
            if message.type_name != COMPRESSED:
                writer.write_raw(raw_name(message.topic), message.stamp_ns, message.data)
                continue
            stored = reader.decode(message)
            pixels = cv2.imdecode(stored.data, cv2.IMREAD_COLOR)
            raw = image(
                header=stored.header,
                height=pixels.shape[0],
                width=pixels.shape[1],
                encoding=encoding,
                is_bigendian=0,
                step=3 * pixels.shape[1],
                data=np.ascontiguousarray(pixels).reshape(-1),
            )
            writer.write(raw_name(message.topic), message.stamp_ns, raw)
    return target


def raw_name(topic: str) -> str:
    if topic == "/localization/kinematic_state":
        return "/nuscenes/odom"
    return topic.replace("/sensing/", "/nuscenes/").replace("image_rect/compressed", "image_raw")


# --- the presets themselves
# -----------------------------------------------------------------------------------------


def test_each_preset_is_chosen_for_its_own_names() -> None:
    presets, settings = load_presets(), load_settings()
    assert list(presets)[0] == "ours" and {
        "autoware",
        "nuscenes2mcap",
        "watonomous",
        "chris7462",
        "nuscenes2bag",
    } < set(presets)
    for preset, mapping in presets.items():
        offers = {}
        for camera in CAMERAS:
            for transport, kind in (("compressed", COMPRESSED), ("raw", IMAGE)):
                ours = f"sensing/{camera}/image_rect" + ("/compressed" if transport == "compressed" else "")
                if ours in mapping or preset == "ours":
                    name = mapping.get(ours, f"/{ours}")
                    offers[name] = Offer(name=name, type_name=kind, count=1, qos=())
        assert choose_names(offers, CAMERAS, presets, settings).preset == preset


def test_presets_name_every_camera_once() -> None:
    for preset, mapping in load_presets().items():
        assert len(set(mapping.values())) == len(mapping), preset
        for camera in CAMERAS:
            if preset != "ours":
                assert f"sensing/{camera}/camera_info" in mapping, preset
                assert f"sensing/{camera}/image_rect/compressed" in mapping, preset


@given(st.permutations(CAMERAS), st.lists(st.floats(-20, 20), min_size=6, max_size=6))
def test_cameras_are_told_apart_by_direction(order: list[str], noise: list[float]) -> None:
    yaws = {f"/c{i}": expected_yaw(camera) + noise[i] for i, camera in enumerate(order)}
    assert by_mount(yaws, CAMERAS) == {camera: f"/c{order.index(camera)}" for camera in CAMERAS}


def test_a_direction_too_far_off_is_no_camera() -> None:
    yaws = {f"/{camera}": expected_yaw(camera) for camera in CAMERAS}
    assert by_mount(yaws | {"/cam_back": 0.0}, CAMERAS) is None
    assert by_mount({}, CAMERAS) is None
    assert (
        direction_words("/CAM_REAR_LEFT/x") == {"back", "left"} and direction_words("/camera0") == frozenset()
    )


def test_a_chain_of_frames_joins_upward_and_sideways() -> None:
    from wpt_replay.check_frames import FrameTree

    class Message:
        pass

    def link(parent: str, child: str, x: float) -> Any:
        message = Message()
        message.header, message.child_frame_id, message.transform = Message(), child, Message()
        message.header.frame_id = parent
        message.transform.translation, message.transform.rotation = Message(), Message()
        message.transform.translation.x, message.transform.translation.y, message.transform.translation.z = (
            x,
            0.0,
            0.0,
        )
        for axis in "xyz":
            setattr(message.transform.rotation, axis, 0.0)
        message.transform.rotation.w = 1.0
        return message

    tree = FrameTree("base_link")
    for parent, child, x in (("vehicle", "base_link", 1.0), ("vehicle", "kit", 3.0), ("kit", "camera", 0.5)):
        tree.add(link(parent, child, x), static=True)
    assert np.allclose(tree.base_from("camera"), se3.transform([2.5, 0, 0], [1, 0, 0, 0]))
    assert tree.base_from("/camera") is not None and tree.base_from("other") is None
    tree.add(link("camera", "vehicle", 1.0), static=True)
    tree.add(link("vehicle", "camera", 1.0), static=True)
    broken = copy.deepcopy(link("vehicle", "camera2", 1.0))
    broken.transform.rotation.w = 0.0
    tree.add(broken, static=True)
    assert ["closes a loop", "has two parents", "is refused: quaternion"] == [
        next(
            part
            for part in ("closes a loop", "has two parents", "is refused: quaternion")
            if part in sentence
        )
        for sentence in tree.problems
    ]


def test_the_page_about_bringing_a_car_knows_every_preset() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs" / "bringing-a-car.md").read_text(encoding="utf-8")
    assert [preset for preset in load_presets() if preset != "ours" and f"| `{preset}` |" not in page] == []
