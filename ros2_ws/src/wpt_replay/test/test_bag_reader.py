"""Bags of this suite, of `ros2 bag record`, and broken ones."""

from __future__ import annotations

import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import yaml
from rosbags.interfaces import Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from wpt_replay.bag_reader import BagReader, header_stamp_ns
from wpt_replay.bag_types import installed_type_hash, installed_types
from wpt_replay.bag_writer import reliable
from wpt_replay.errors import BagError

STORE = installed_types()
IMAGE = "sensor_msgs/msg/CompressedImage"
STRING = "std_msgs/msg/String"


def image(stamp_ns: int, size: int = 200) -> bytes:
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="cam_front")
    data = np.frombuffer(np.random.default_rng(stamp_ns).bytes(size), dtype=np.uint8)
    return bytes(STORE.serialize_cdr(STORE.types[IMAGE](header=header, format="jpeg", data=data), IMAGE))


def text(words: str) -> bytes:
    return bytes(STORE.serialize_cdr(STORE.types[STRING](data=words), STRING))


def recorded(
    path: Path,
    *,
    storage: StoragePlugin = StoragePlugin.MCAP,
    version: int = 9,
    compression: CompressionMode | None = None,
    lz4_chunks: bool = False,
    count: int = 40,
    size: int = 200,
    first: int = 0,
    qos: tuple[Qos, ...] = (),
) -> list[tuple[str, int, bytes]]:
    """Write a bag with rosbags alone, as another program would; return its messages (two of each time)."""
    writer = Writer(path, version=version, storage_plugin=storage)
    if compression is not None:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    stored = []
    with writer:
        if lz4_chunks:
            writer.storage.compression, writer.storage.compressor = "lz4", lz4.frame.compress
        topics = {
            name: writer.add_connection(name, kind, typestore=STORE, offered_qos_profiles=qos)
            for name, kind in (("/b", IMAGE), ("/a", STRING))
        }
        for i in range(first, first + count):
            for topic, data in (("/b", image(i * 1000, size)), ("/a", text(f"number {i}"))):
                writer.write(topics[topic], i * 1000, data)
                stored.append((topic, i * 1000, data))
    return stored


def read(path: Path) -> list[tuple[str, int, bytes]]:
    with BagReader(path) as bag:
        return [(message.topic, message.stamp_ns, message.data) for message in bag.messages()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": 8},
        {"compression": CompressionMode.STORAGE, "size": 60_000},
        {"compression": CompressionMode.MESSAGE},
        {"compression": CompressionMode.FILE},
        {"lz4_chunks": True, "size": 60_000},
        {"storage": StoragePlugin.SQLITE3},
        {"storage": StoragePlugin.SQLITE3, "version": 8},
        {"storage": StoragePlugin.SQLITE3, "compression": CompressionMode.MESSAGE},
        {"storage": StoragePlugin.SQLITE3, "compression": CompressionMode.FILE},
    ],
    ids=str,
)
def test_messages_come_unchanged_and_in_record_order(tmp_path: Path, options: dict) -> None:
    stored = recorded(tmp_path / "bag", **options)
    assert read(tmp_path / "bag") == stored
    with BagReader(tmp_path / "bag") as bag:
        assert bag.storage == ("sqlite3" if options.get("storage") is StoragePlugin.SQLITE3 else "mcap")
        assert (bag.start_ns, bag.end_ns, bag.message_count) == (0, 39_000, 80)


def test_split_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    stored = recorded(tmp_path / "bag")
    more = recorded(tmp_path / "more", first=40)
    (tmp_path / "more" / "more.mcap").rename(tmp_path / "bag" / "bag_1.mcap")
    file = tmp_path / "bag" / "metadata.yaml"
    metadata = yaml.safe_load(file.read_text())
    information = metadata["rosbag2_bagfile_information"]
    information["relative_file_paths"].append("bag_1.mcap")
    information["duration"]["nanoseconds"] = 79_000
    information["message_count"] = 160
    file.write_text(yaml.safe_dump(metadata))
    assert read(tmp_path / "bag") == stored + more


def test_a_single_storage_file_is_a_bag_too(tmp_path: Path) -> None:
    stored = recorded(tmp_path / "bag")
    assert read(tmp_path / "bag" / "bag.mcap") == stored


def test_a_bag_of_ros_humble_is_read(tmp_path: Path) -> None:
    """Metadata version 5 and sqlite3 schema 3: no type hashes, no definitions, QoS as a string of numbers."""
    stored = recorded(
        tmp_path / "bag", storage=StoragePlugin.SQLITE3, version=8, qos=(reliable(1, transient_local=True),)
    )
    with closing(sqlite3.connect(tmp_path / "bag" / "bag.db3")) as database:
        database.executescript(
            "DROP TABLE message_definitions; ALTER TABLE topics DROP COLUMN type_description_hash;"
            "UPDATE schema SET schema_version = 3;"
        )
    file = tmp_path / "bag" / "metadata.yaml"
    metadata = yaml.safe_load(file.read_text())
    information = metadata["rosbag2_bagfile_information"]
    information["version"] = 5
    del information["custom_data"], information["ros_distro"]
    for entry in information["topics_with_message_count"]:
        del entry["topic_metadata"]["type_description_hash"]
        assert isinstance(entry["topic_metadata"]["offered_qos_profiles"], str)
    file.write_text(yaml.safe_dump(metadata))
    assert read(tmp_path / "bag") == stored
    with BagReader(tmp_path / "bag") as bag:
        assert bag.topics["/b"].latched and bag.topics["/b"].type_hash == "" and bag.custom_data == {}
        assert bag.decode(next(bag.messages(["/a"]))).data == "number 0"


def test_topics_times_and_qos_can_be_asked_for(tmp_path: Path) -> None:
    stored = recorded(tmp_path / "bag", qos=(reliable(1, transient_local=True),))
    with BagReader(tmp_path / "bag") as bag:
        assert [m.data for m in bag.messages(["/a"], start_ns=5_000, stop_ns=7_000)] == [
            data for topic, stamp, data in stored if topic == "/a" and 5_000 <= stamp < 7_000
        ]
        assert (
            bag.topics["/a"].latched and bag.topics["/a"].type_name == STRING and bag.topics["/a"].count == 40
        )
        with pytest.raises(BagError, match="has no topic /nothing, but /b, /a"):
            next(bag.messages(["/nothing"]))


def test_decoding_and_header_stamps(tmp_path: Path) -> None:
    recorded(tmp_path / "bag")
    with BagReader(tmp_path / "bag") as bag:
        assert bag.has_header("/b") and not bag.has_header("/a")
        for message in bag.messages(["/b"]):
            assert header_stamp_ns(message.data) == message.stamp_ns
        assert [bag.decode(m).data for m in bag.messages(["/a"])][:2] == ["number 0", "number 1"]
    assert header_stamp_ns(b"\0\1\0\0\1\0\0\0") is None


def test_big_endian_stamps_are_read() -> None:
    time = STORE.types["builtin_interfaces/msg/Time"](sec=1533151603, nanosec=547590000)
    header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="map")
    for little_endian in (True, False):
        data = bytes(STORE.serialize_cdr(header, "std_msgs/msg/Header", little_endian=little_endian))
        assert header_stamp_ns(data) == 1533151603_547590000


def test_memory_stays_bounded(tmp_path: Path) -> None:
    recorded(tmp_path / "bag", count=120, size=200_000)
    with BagReader(tmp_path / "bag") as bag:
        tracemalloc.start()
        try:
            assert sum(len(message.data) for message in bag.messages(["/b"])) > 24_000_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000, "a chunk is 1 MB; the bag is 24 MB"


def test_a_type_that_only_the_bag_defines_is_decoded(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("std_msgs/Header header\nfloat64 angle\n", "car_msgs/msg/Steering"))
    header = store.types["std_msgs/msg/Header"](
        stamp=store.types["builtin_interfaces/msg/Time"](sec=3, nanosec=4), frame_id="x"
    )
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/steering", "car_msgs/msg/Steering", typestore=store)
        message = store.types["car_msgs/msg/Steering"](header=header, angle=0.25)
        writer.write(connection, 1, store.serialize_cdr(message, "car_msgs/msg/Steering"))
    with BagReader(tmp_path / "bag") as bag:
        assert bag.has_header("/steering")
        (stored,) = bag.messages()
        assert bag.decode(stored).angle == 0.25 and header_stamp_ns(stored.data) == 3_000_000_004


def test_an_older_definition_of_a_known_type_is_used_for_its_bag(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("uint8 command\n", "wpt_msgs/msg/DrivingCommand"))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/command", "wpt_msgs/msg/DrivingCommand", typestore=store)
        message = store.types["wpt_msgs/msg/DrivingCommand"](command=2)
        writer.write(connection, 1, store.serialize_cdr(message, "wpt_msgs/msg/DrivingCommand"))
    with BagReader(tmp_path / "bag") as bag:
        assert bag.decode(next(bag.messages())).command == 2


def test_the_types_used_in_our_bags_have_the_hash_that_ros_declares() -> None:
    pytest.importorskip("wpt_msgs.msg")
    checked = 0
    for type_name in STORE.fielddefs:
        if type_name.startswith(
            ("wpt_msgs/", "sensor_msgs/", "nav_msgs/", "tf2_msgs/", "visualization_msgs/")
        ):
            declared = installed_type_hash(type_name)
            if declared is not None:
                checked += 1
                assert declared == STORE.hash_rihs01(type_name), type_name
    assert checked > 20


# ---- broken bags: one sentence that says what and what to do


def sentence(path: Path) -> str:
    with pytest.raises(BagError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_bag_at_all(tmp_path: Path) -> None:
    assert "there is no bag at" in sentence(tmp_path / "nothing")
    assert "is no bag: it has no metadata.yaml" in sentence(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert "name the folder with metadata.yaml" in sentence(tmp_path / "notes.txt")


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_recording_that_was_cut_off_has_no_metadata(tmp_path: Path, storage: StoragePlugin) -> None:
    recorded(tmp_path / "bag", storage=storage)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert "did not end properly" in sentence(tmp_path / "bag") and "ros2 bag reindex" in sentence(
        tmp_path / "bag"
    )


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.3, 0.9, 0.999])
def test_a_truncated_file(tmp_path: Path, storage: StoragePlugin, kept: float) -> None:
    recorded(tmp_path / "bag", storage=storage, size=20_000)
    (file,) = (tmp_path / "bag").glob("bag.*")
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    assert "incomplete or damaged" in sentence(tmp_path / "bag")


def test_a_damaged_chunk_names_the_last_good_message(tmp_path: Path) -> None:
    recorded(tmp_path / "bag", compression=CompressionMode.STORAGE, count=100, size=60_000)
    (file,) = (tmp_path / "bag").glob("*.mcap")
    data = bytearray(file.read_bytes())
    frame = data.index(b"\x28\xb5\x2f\xfd", len(data) // 2)  # where a chunk in the middle begins
    data[frame : frame + 8] = bytes(8)
    file.write_bytes(data)
    words = sentence(tmp_path / "bag")
    assert "good messages (the last one on /" in words and "mcap recover" in words


def test_a_corrupted_message_is_named(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/a", STRING, typestore=STORE)
        writer.write(connection, 1, text("good"))
        writer.write(connection, 77, b"\0\1\0\0\xff\xff\xff\x7fshort")
    with BagReader(tmp_path / "bag") as bag:
        good, bad = bag.messages()
        assert bag.decode(good).data == "good"
        with pytest.raises(BagError, match=f"message on /a recorded at 77 ns is no valid {STRING}"):
            bag.decode(bad)


def test_metadata_that_is_no_yaml(tmp_path: Path) -> None:
    recorded(tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").write_text("rosbag2_bagfile_information: [unclosed")
    assert "incomplete or damaged" in sentence(tmp_path / "bag")


def test_an_empty_bag_is_read(tmp_path: Path) -> None:
    recorded(tmp_path / "bag", count=0)
    assert read(tmp_path / "bag") == []
