"""`wpt-replay check` on bags with one thing wrong: the right line, no other FAIL, and the exit code."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from wpt_policy import se3
from wpt_replay.bag_writer import BagWriter, reliable
from wpt_replay.replay_cli import main

MS = 1_000_000
CAMERAS = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")
IMAGES = tuple(f"/sensing/{camera}/image_rect/compressed" for camera in CAMERAS)
INFOS = tuple(f"/sensing/{camera}/camera_info" for camera in CAMERAS)
ODOMETRY = "/localization/kinematic_state"
Rewrite = Callable[..., Path]
Lines = list[tuple[str, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Lines, str]]:
    """Run the command; return its exit code, (status, rest of the line) of each finding, and all it
    printed.
    """

    def run(bag: Path, *options: str) -> tuple[int, Lines, str]:
        # Most cases are about what constant velocity needs, odometry; the default planner has a test of its own.
        planner = () if {"--planner", "--params-file"} & set(options) else ("--planner", "constant_velocity")
        code = main(["check", "--bag", str(bag), *planner, *options])
        text = capsys.readouterr().out
        lines = [line.split(maxsplit=1) for line in text.splitlines()]
        return code, [(line[0], line[1]) for line in lines if line[0] in ("ok", "warn", "FAIL")], text

    return run


def stamped(message: Any, stamp_ns: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def only(lines: Lines, status: str) -> str:
    """Return the one line of this status."""
    found = [line for kind, line in lines if kind == status]
    assert len(found) == 1, lines
    return found[0]


def without(lines: Lines, status: str) -> None:
    assert not [line for kind, line in lines if kind == status], lines


def test_all_is_well(check: Callable, factory_bag: Path, tmp_path: Path) -> None:
    code, lines, text = check(factory_bag, "--json", str(tmp_path / "report" / "check.json"))
    assert code == 0
    without(lines, "FAIL")
    without(lines, "warn")
    first = text.splitlines()[0]
    assert "our own names: 6 of 6 cameras (compressed images), 6 camera_info, odometry" in first
    assert "start: ros2 launch wpt_planner planner.launch.py planner:=constant_velocity use_sim_time:=true" in first
    assert "images are 160x90 jpeg" in text and "of 12 cycles are complete" in text
    assert "60.0 ms lies between the spread 42.8 ms and 73.9 ms" in text
    assert "twist agrees with the poses" in text and "cam_back 180" in text
    assert text.splitlines()[-1].startswith("constant_velocity can run on bag ")
    document = json.loads((tmp_path / "report" / "check.json").read_text())
    assert document["can_run"] is True and document["preset"] == "ours" and document["remaps"] == {}
    assert len(document["findings"]) == len(lines)
    figures = {name: value for entry in document["findings"] for name, value in entry["figures"].items()}
    assert 42 < figures["spread_ms"] < 44 and figures["covered_percent"] == 100


def test_the_planner_is_by_default_that_of_the_parameter_file(factory_bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--bag", str(factory_bag)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("wpt-compact can run on bag ")


def test_sqlite3_is_read_as_well(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    code, lines, _ = check(rewrite_bag(factory_bag, storage="sqlite3"))
    assert code == 0
    without(lines, "FAIL")


# --- topics
# ---------------------------------------------------------------------------------------------------------


def test_no_camera_info(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    bag = rewrite_bag(factory_bag, lambda topic, ns, m: None if topic in INFOS else (topic, ns, m))
    code, lines, text = check(bag)
    line = only(lines, "FAIL")
    assert code == 1 and text.splitlines()[-1].startswith("constant_velocity cannot run")
    assert (
        line.startswith("all 6 cameras")
        and "no camera_info: /sensing/<camera>/camera_info is not there" in line
    )
    assert "record or publish sensor_msgs/CameraInfo beside the images" in line


def test_missing_camera(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    bag = rewrite_bag(factory_bag, lambda topic, ns, m: None if topic == IMAGES[3] else (topic, ns, m))
    code, lines, text = check(bag)
    line = only(lines, "FAIL")
    assert code == 1 and line.startswith("cam_back ")
    assert "no images: /sensing/cam_back/image_rect/compressed is not there" in line
    assert "5 of 6 cameras" in text and "cycles of the cameras that are there are complete" in text


def test_images_alone(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    bag = rewrite_bag(factory_bag, lambda topic, ns, m: (topic, ns, m) if topic in IMAGES else None)
    code, lines, _ = check(bag)
    fails = [line for status, line in lines if status == "FAIL"]
    assert code == 1 and len(fails) == 3
    assert "no camera_info" in fails[0]
    assert "/tf_static has no transform" in " ".join(fails) and "static_transform_publisher" in " ".join(
        fails
    )
    assert "there is no odometry, and constant_velocity plans from the ego's speed" in fails[2]
    assert "there is no driving command" in only(lines, "warn")
    code, lines, _ = check(bag, "--planner", "stop")
    assert code == 1 and any(
        "plans are flagged uncompensated" in line for status, line in lines if status == "warn"
    )


def test_another_type_on_the_name(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        return (
            ("/localization/pose" if topic == ODOMETRY else ODOMETRY if topic == "/tf" else topic),
            ns,
            message,
        )

    code, lines, _ = check(rewrite_bag(factory_bag, change))
    line = only(lines, "FAIL")
    assert code == 1 and "has type tf2_msgs/msg/TFMessage, expected nav_msgs/msg/Odometry" in line


def test_empty_half_written_and_absent_bags(check: Callable, factory_bag: Path, tmp_path: Path) -> None:
    with Writer(tmp_path / "empty", version=9, storage_plugin=StoragePlugin.MCAP):
        pass
    code, lines, _ = check(tmp_path / "empty")
    assert code == 1 and "holds no message" in only(lines, "FAIL")
    cut = tmp_path / "cut"
    shutil.copytree(factory_bag, cut)
    file = next(cut.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    code, lines, _ = check(cut)
    assert (
        code == 1 and "incomplete or damaged" in only(lines, "FAIL") and "mcap recover" in only(lines, "FAIL")
    )
    (cut / "metadata.yaml").unlink()
    code, lines, _ = check(cut)
    assert (
        code == 1
        and "has no metadata.yaml" in only(lines, "FAIL")
        and "ros2 bag reindex" in only(lines, "FAIL")
    )
    code, lines, _ = check(tmp_path / "nowhere")
    assert code == 1 and "there is no bag at" in only(lines, "FAIL")


def test_bags_of_others(check: Callable, tmp_path: Path) -> None:
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    code, lines, _ = check(tmp_path / "old.bag")
    assert (
        code == 1
        and "is a ROS 1 bag" in only(lines, "FAIL")
        and "rosbags-convert --src" in only(lines, "FAIL")
    )
    texts = b"".join(struct.pack("<I", len(text)) + text for text in (b"", b"foxglove-sdk"))
    magic = b"\x89MCAP0\r\n"
    header = b"\x01" + struct.pack("<Q", len(texts)) + texts
    footer = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0)
    (tmp_path / "foxglove.mcap").write_bytes(magic + header + footer + magic)
    code, lines, _ = check(tmp_path / "foxglove.mcap")
    assert code == 1 and "is an MCAP file without ROS 2 messages" in only(lines, "FAIL")


def test_wrong_usage(factory_bag: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", "--bag", str(factory_bag), "--preset", "apollo"]) == 2
    assert "expected one of ours, autoware" in capsys.readouterr().err
    assert main(["check", "--bag", str(factory_bag), "--planner", "clairvoyant"]) == 2
    assert "planner 'clairvoyant' cannot be loaded" in capsys.readouterr().err
    assert main(["check", "--bag", str(factory_bag), "--params-file", str(tmp_path / "none.yaml")]) == 2
    with pytest.raises(SystemExit) as end:
        main(["check"])
    assert end.value.code == 2


# --- camera_info and mounts
# -----------------------------------------------------------------------------------------


def changed_info(
    rewrite_bag: Rewrite, bag: Path, topics: tuple[str, ...], change: Callable[[Any], None]
) -> Path:
    def apply(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        if topic in topics:
            change(message)
        return topic, ns, message

    return rewrite_bag(bag, apply)


def stereo(info: Any) -> None:
    info.p = np.array(info.p)
    info.p[3] = -66.1


def nan(info: Any) -> None:
    info.k = np.array(info.k)
    info.k[4] = np.nan


def uncalibrated(info: Any) -> None:
    info.k, info.p = np.zeros(9), np.zeros(12)


def no_projection(info: Any) -> None:
    info.p = np.zeros(12)


def other_resolution(info: Any) -> None:
    info.k, info.p = np.array(info.k), np.array(info.p)
    info.k[:6] *= 10
    info.p[:8] *= 10


def other_size(info: Any) -> None:
    other_resolution(info)
    info.width, info.height = 10 * info.width, 10 * info.height


def cut_after_rectifying(info: Any) -> None:
    info.roi.x_offset = info.roi.y_offset = 8
    info.roi.width, info.roi.height, info.roi.do_rectify = 120, 70, True


def binned_away(info: Any) -> None:
    info.binning_x = 1000


def other_frame(info: Any) -> None:
    info.header.frame_id = "lidar_top"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            stereo,
            (
                "camera_info has P[3] = -66.1, P[7] = 0 and P[11] = 0, expected 0: this is the second camera"
                " of a stereo"
            ),
        ),
        (nan, "camera_info has 1 values in K that are not finite"),
        (uncalibrated, "camera_info has K[0] = 0, which marks an uncalibrated camera"),
        (
            no_projection,
            "camera_info has P[0] = 0, expected the projection matrix of the rectified image -> publish P",
        ),
        (cut_after_rectifying, "asks by roi.do_rectify for a region of the rectified image"),
        (binned_away, "a binning of 1000x1 for a region of 160x90 pixels"),
        (other_resolution, "of 160x90 pixels, which fits an image of about 16"),
        (other_size, "images are 160x90 pixels and camera_info is for 1600x900, expected the same"),
        (
            other_frame,
            (
                "images have frame_id 'cam_front_right' and camera_info 'lidar_top', expected the same"
                " optical frame"
            ),
        ),
    ],
)
def test_bad_camera_info(
    check: Callable, factory_bag: Path, rewrite_bag: Rewrite, change: Callable[[Any], None], sentence: str
) -> None:
    code, lines, _ = check(changed_info(rewrite_bag, factory_bag, INFOS[1:2], change))
    fails = [line for status, line in lines if status == "FAIL"]
    assert code == 1 and sentence in fails[0] and fails[0].startswith("cam_front_right ")
    assert all("cam_front_right" in line for line in fails), fails


def test_an_r_that_turns_is_a_warning(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    """As the node: it takes P alone. (WATonomous' converter fills R[0], R[3] and R[6].)"""

    def turn(info: Any) -> None:
        info.r = np.array([1.0, 0, 0, 1, 0, 0, 1, 0, 0])

    code, lines, _ = check(changed_info(rewrite_bag, factory_bag, INFOS, turn))
    warnings = [line for status, line in lines if status == "warn"]
    assert code == 0 and len(warnings) == 1
    assert "all 6 cameras" in warnings[0] and "R other than the identity" in warnings[0]


def test_distortion_with_a_raw_name_is_a_warning(
    check: Callable, factory_bag: Path, rewrite_bag: Rewrite
) -> None:
    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        if topic in INFOS:
            message.d = np.array([-0.3, 0.1, 0, 0, 0])
        topic = "/nuscenes/odom" if topic == ODOMETRY else topic
        return topic.replace("/sensing/", "/nuscenes/").replace("image_rect/", "image_raw/"), ns, message

    code, lines, text = check(rewrite_bag(factory_bag, change))
    assert code == 0
    warnings = [line for status, line in lines if status == "warn"]
    assert any("D is not zero and the images' name does not say rectified" in line for line in warnings)
    assert "set images_rectified to false" in text


def moved_frames(
    rewrite_bag: Rewrite, bag: Path, change: Callable[[Any], Any], *, to: str = "/tf_static"
) -> Path:
    """Change each transform of /tf_static; None leaves it out. to: the topic that gets them."""

    def apply(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        if topic == "/tf_static":
            message.transforms = [new for old in message.transforms if (new := change(old)) is not None]
            topic = to
        return topic, ns, message

    return rewrite_bag(bag, apply)


def test_missing_link(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    def hang_on_a_kit(transform: Any) -> Any:
        transform.header.frame_id = "sensor_kit_base_link"
        return transform

    code, lines, _ = check(moved_frames(rewrite_bag, factory_bag, hang_on_a_kit))
    line = only(lines, "FAIL")
    assert code == 1 and line.startswith("all 6 cameras")
    assert "/tf_static has no frame base_link, expected a chain from base_link to <its frame>" in line
    assert "publish the link from base_link to sensor_kit_base_link" in line
    code, lines, _ = check(
        moved_frames(rewrite_bag, factory_bag, lambda t: None if t.child_frame_id == "cam_back" else t)
    )
    line = only(lines, "FAIL")
    assert (
        code == 1
        and line.startswith("cam_back ")
        and "/tf_static has no frame cam_back, expected a chain" in line
    )
    assert "--frame-id base_link --child-frame-id cam_back" in line


def test_mounts_on_tf(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    code, lines, text = check(moved_frames(rewrite_bag, factory_bag, lambda t: t, to="/tf"))
    assert code == 1 and "needs base_link -> <its frame>, which is on /tf alone" in text
    assert (
        "static_transform_publisher --x 1." in text
        and "--frame-id base_link --child-frame-id cam_front" in text
    )


def inverted(transform: Any) -> Any:
    move, turn = transform.transform.translation, transform.transform.rotation
    matrix = se3.inverse(se3.transform([move.x, move.y, move.z], [turn.w, turn.x, turn.y, turn.z]))
    move.x, move.y, move.z = matrix[:3, 3]
    turn.w, turn.x, turn.y, turn.z = se3.quaternion_from_rotation(matrix[:3, :3])
    return transform


def body_axes(transform: Any) -> Any:
    """A driver's body frame in place of the optical one: x forward."""
    turn = transform.transform.rotation
    optical = se3.rotation_from_quaternion([turn.w, turn.x, turn.y, turn.z])
    body_from_optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    turn.w, turn.x, turn.y, turn.z = se3.quaternion_from_rotation(optical @ body_from_optical.T)
    return transform


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (inverted, "the transform seems inverted: give base_link <- camera, not camera <- base_link"),
        (body_axes, "its frame seems to be a body frame (x forward): give the optical frame"),
    ],
)
def test_wrong_mounts(
    check: Callable, factory_bag: Path, rewrite_bag: Rewrite, change: Callable[[Any], Any], sentence: str
) -> None:
    bag = moved_frames(rewrite_bag, factory_bag, lambda t: change(t) if t.child_frame_id == "cam_back" else t)
    code, lines, _ = check(bag)
    line = only(lines, "FAIL")
    assert code == 1 and line.startswith("mounts") and "camera cam_back" in line and sentence in line


def test_volatile_tf_static(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    code, lines, _ = check(rewrite_bag(factory_bag, qos={"/tf_static": reliable(10)}))
    line = only(lines, "warn")
    assert code == 0 and line.startswith("/tf_static") and "was recorded volatile" in line
    assert "latched subscription never matches it" in line and "ros2/rosbag2#1049" in line
    assert "play with `wpt-replay play`" in line and "--qos-profile-overrides-path" in line


# --- images, times
# --------------------------------------------------------------------------------------------------


def test_stagger_over_the_whole_period(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    """Six cameras 14 ms apart, 84 ms a cycle: every pause is alike."""

    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any] | None:
        if topic not in (*IMAGES, *INFOS):
            return topic, ns, message
        names = IMAGES if topic in IMAGES else INFOS
        counts[topic] = counts.get(topic, -1) + 1
        stamp = start + counts[topic] * 84 * MS + names.index(topic) * 14 * MS
        return topic, stamp, stamped(message, stamp)

    counts: dict[str, int] = {}
    start = first_stamp(factory_bag)
    code, lines, _ = check(rewrite_bag(factory_bag, change))
    fails = [line for status, line in lines if status == "FAIL"]
    assert code == 1 and fails[0].startswith("max_skew")
    assert (
        "no skew bound tells one cycle from the next: the cameras fire over 70.0 ms (spread) of a period of"
        " 84.0 ms" in fails[0]
    )
    assert "a set that spans 70.0 ms (period minus largest gap) can mix two cycles" in fails[0]
    assert "trigger the cameras closer together" in fails[0]
    assert len(fails) == 2 and fails[1].startswith("camera sets") and "none of 12 cycles" in fails[1]


def test_stagger_over_the_whole_period_whose_pauses_differ_by_rounding(
    check: Callable, factory_bag: Path, rewrite_bag: Rewrite
) -> None:
    """Six cameras over 1/12 s, in whole nanoseconds: 69444440 against 69444445 is no room for a bound."""

    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any] | None:
        if topic not in (*IMAGES, *INFOS):
            return topic, ns, message
        names = IMAGES if topic in IMAGES else INFOS
        counts[topic] = counts.get(topic, -1) + 1
        stamp = start + counts[topic] * 83_333_333 + names.index(topic) * 13_888_888
        return topic, stamp, stamped(message, stamp)

    counts: dict[str, int] = {}
    start = first_stamp(factory_bag)
    code, lines, _ = check(rewrite_bag(factory_bag, change))
    fails = [line for status, line in lines if status == "FAIL"]
    assert code == 1 and "no skew bound tells one cycle from the next" in fails[0]
    assert "set max_skew to" not in fails[0]


def first_stamp(bag: Path) -> int:
    from wpt_replay.bag_reader import BagReader

    with BagReader(bag) as reader:
        return reader.start_ns


def test_a_bound_for_another_rig(check: Callable, factory_bag: Path, tmp_path: Path) -> None:
    for bound, sentence in (
        ("0.04", "40.0 ms is too small, no set can be complete"),
        ("0.08", "80.0 ms is too large"),
    ):
        (tmp_path / "car.yaml").write_text(f"/**:\n  ros__parameters:\n    max_skew: {bound}\n")
        code, lines, _ = check(factory_bag, "--params-file", str(tmp_path / "car.yaml"))
        fails = [line for status, line in lines if status == "FAIL"]
        assert (
            code == 1
            and fails[0].startswith("max_skew")
            and sentence in fails[0]
            and "set max_skew to 0.05" in fails[0]
        )


def test_lossy_camera(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    counts = {"images": 0}

    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any] | None:
        if topic == IMAGES[4]:
            counts["images"] += 1
            if counts["images"] in (4, 5, 9):
                return None
        return topic, ns, message

    code, lines, _ = check(rewrite_bag(factory_bag, change))
    warnings = [line for status, line in lines if status == "warn"]
    assert code == 0 and len(warnings) == 2
    assert (
        warnings[0].startswith("cam_back_left ")
        and "25.0 % of its images are missing (3 of 12" in warnings[0]
    )
    assert warnings[1].startswith("camera sets") and "9 of 12 cycles are complete" in warnings[1]


def test_stamps_of_zero(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        return topic, ns, stamped(message, 0) if topic in IMAGES else message

    code, lines, _ = check(rewrite_bag(factory_bag, change))
    line = only(lines, "FAIL")
    assert code == 1 and line.startswith("all 6 cameras") and "all 12 images have stamp 0" in line


def test_empty_frame_ids(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        if topic in IMAGES:
            message.header.frame_id = ""
        return topic, ns, message

    code, lines, _ = check(rewrite_bag(factory_bag, change))
    assert code == 1 and "images have an empty frame_id" in only(lines, "FAIL")


def test_unreadable_pictures_and_encodings(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        if topic == IMAGES[0]:
            message.data = np.array(message.data[: len(message.data) // 2])
        if topic == IMAGES[1]:
            message.format = "mono8; jpeg compressed "
        return topic, ns, message

    code, lines, _ = check(rewrite_bag(factory_bag, change))
    fails = [line for status, line in lines if status == "FAIL"]
    assert code == 1 and len(fails) == 2
    assert "all 12 images are refused: JPEG of" in fails[0] and "it was cut short" in fails[0]
    assert "expected a colour JPEG or PNG -> use the colour image" in fails[1]


def test_stamps_of_another_clock(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    def shifted(shift_ns: int) -> Path:
        return rewrite_bag(factory_bag, lambda topic, ns, m: (topic, ns + shift_ns, m))

    code, lines, _ = check(shifted(7200_000 * MS))
    line = only(lines, "FAIL")
    assert (
        code == 1
        and line.startswith("clock")
        and "image stamps are 2.0 hours before their record times" in line
    )
    code, lines, _ = check(shifted(800 * MS))
    assert code == 1 and "800 ms before their recording (median), expected at most max_age 0.5 s" in only(
        lines, "FAIL"
    )
    code, lines, _ = check(shifted(200 * MS))
    assert code == 0


def test_a_recorded_clock_is_named(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    """A simulator's bag: stamps of /clock, record times of the machine."""

    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
        return topic, ns + 10**15, message

    with_clock = add_clock(rewrite_bag(factory_bag, change), rewrite_bag)
    code, lines, _ = check(with_clock)
    line = only(lines, "warn")
    assert code == 0 and "stamps are of the recorded /clock, 11.6 days before the record times" in line
    assert "WITHOUT --clock" in line
    code, lines, _ = check(add_clock(factory_bag, rewrite_bag))
    assert code == 0 and "`ros2 bag play --clock` would publish a second one" in only(lines, "warn")


def add_clock(bag: Path, rewrite_bag: Rewrite) -> Path:
    """Add a /clock that follows the images' stamps."""
    from wpt_replay.bag_reader import BagReader, header_stamp_ns

    target = bag.parent / f"{bag.name}_clock_{id(bag)}"
    with BagReader(bag) as reader, BagWriter(target) as writer:
        for name, topic in reader.topics.items():
            writer.add_topic(name, topic.type_name, topic.qos[0])
        writer.add_topic("/clock", "rosgraph_msgs/msg/Clock", reliable(10))
        clock, time = writer.type("rosgraph_msgs/msg/Clock"), writer.type("builtin_interfaces/msg/Time")
        for message in reader.messages():
            writer.write_raw(message.topic, message.stamp_ns, message.data)
            if message.topic == IMAGES[0]:
                sec, nanosec = divmod(header_stamp_ns(message.data), 1_000_000_000)
                writer.write("/clock", message.stamp_ns, clock(clock=time(sec=sec, nanosec=nanosec)))
    return target


def test_only_the_first_seconds(check: Callable, factory_bag: Path) -> None:
    code, lines, _ = check(factory_bag, "--seconds", "0.6")
    assert code == 0 and "only its first 0.6 s were read" in only(lines, "warn")


# --- odometry, command, planner
# -------------------------------------------------------------------------------------


def changed_odometry(rewrite_bag: Rewrite, bag: Path, change: Callable[[Any], None]) -> Path:
    return changed_info(rewrite_bag, bag, (ODOMETRY,), change)


def in_kmh(odometry: Any) -> None:
    for axis in ("x", "y", "z"):
        setattr(odometry.twist.twist.linear, axis, 3.6 * getattr(odometry.twist.twist.linear, axis))


def without_twist(odometry: Any) -> None:
    for part in (odometry.twist.twist.linear, odometry.twist.twist.angular):
        part.x = part.y = part.z = 0.0


def in_map_axes(odometry: Any) -> None:
    turn, linear = odometry.pose.pose.orientation, odometry.twist.twist.linear
    rotation = se3.rotation_from_quaternion([turn.w, turn.x, turn.y, turn.z])
    linear.x, linear.y, linear.z = rotation @ [linear.x, linear.y, linear.z]


def of_an_unknown_frame(odometry: Any) -> None:
    odometry.child_frame_id = "ins_link"


def half_a_quaternion(odometry: Any) -> None:
    odometry.pose.pose.orientation.w *= 0.5
    odometry.pose.pose.orientation.z *= 0.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (in_kmh, "the twist is in km/h, expected m/s: the twist says"),
        (without_twist, "the twist is zero while the poses move at"),
        (in_map_axes, "the twist is in the axes of map, expected those of base_link"),
        (
            of_an_unknown_frame,
            "is of frame ins_link, which cannot be moved to base_link: /tf_static has no frame ins_link",
        ),
        (half_a_quaternion, "messages are refused: not finite, or a quaternion that is not of length 1"),
    ],
)
def test_bad_odometry(
    check: Callable, factory_bag: Path, rewrite_bag: Rewrite, change: Callable[[Any], None], sentence: str
) -> None:
    code, lines, _ = check(changed_odometry(rewrite_bag, factory_bag, change))
    fails = [line for status, line in lines if status == "FAIL"]
    assert code == 1 and fails[0].startswith(ODOMETRY) and sentence in fails[0]
    assert all(line.startswith(ODOMETRY) for line in fails)


def test_sparse_odometry(check: Callable, factory_bag: Path, rewrite_bag: Rewrite) -> None:
    kept: list[int] = []

    def change(topic: str, ns: int, message: Any) -> tuple[str, int, Any] | None:
        if topic == ODOMETRY:
            if kept and ns - kept[-1] < 400 * MS:
                return None
            kept.append(ns)
        return topic, ns, message

    bag = rewrite_bag(factory_bag, change)
    code, lines, _ = check(bag)
    fails = [line for status, line in lines if status == "FAIL"]
    assert code == 1 and "% of the images only" in fails[0] and "interpolates over 250 ms at most" in fails[0]
    assert check(bag, "--planner", "stop")[0] == 0


def test_a_bundle_in_place_of_the_default(check: Callable, factory_bag: Path) -> None:
    code, lines, text = check(factory_bag, "--planner", "wpt-seeded")
    assert code == 0
    assert "sees images at" in text.splitlines()[1] and "cam_front, cam_front_right" in text.splitlines()[1]
    assert "planner:=wpt-seeded" in text.splitlines()[0] and "wpt-seeded can run" in text.splitlines()[-1]
