"""A bag is complete or it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader
from wpt_replay.bag_writer import BagWriter, reliable
from wpt_replay.errors import BagError

TOPIC = "/planning/command"
TYPE = "wpt_msgs/msg/DrivingCommand"


def command(writer: BagWriter, seconds: int) -> object:
    time = writer.type("builtin_interfaces/msg/Time")(sec=seconds, nanosec=5)
    header = writer.type("std_msgs/msg/Header")(stamp=time, frame_id="base_link")
    return writer.type(TYPE)(header=header, command=3, source=1)


def write_one(path: Path, *, seconds: int = 1, **options: object) -> None:
    with BagWriter(path, **options) as writer:
        writer.add_topic(TOPIC, TYPE, reliable(10))
        writer.write(TOPIC, seconds * 10**9, command(writer, seconds))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_written_bag_is_read_back_by_another_reader(tmp_path: Path, storage: str) -> None:
    path = tmp_path / "bag"
    with BagWriter(path, storage=storage) as writer:
        writer.add_topic(TOPIC, TYPE, reliable(10))
        for seconds in (1, 2, 2):
            writer.write(TOPIC, seconds * 10**9, command(writer, seconds))
        writer.set_custom_data({"scene": "scene-0001"})
        assert not path.exists(), "the bag's name is given at the end alone"
    with Reader(path) as reader:
        assert [stamp for _, stamp, _ in reader.messages()] == [10**9, 2 * 10**9, 2 * 10**9]
        assert reader.storage.metadata.custom == {"scene": "scene-0001"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["bag"], "nothing else is left"


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with BagWriter(tmp_path / "bag") as writer:
            writer.add_topic(TOPIC, TYPE, reliable(10))
            writer.write(TOPIC, 1, command(writer, 1))
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_record_times_do_not_decrease(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="sort the messages"), BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(TOPIC, TYPE, reliable(10))
        writer.write(TOPIC, 2, command(writer, 1))
        writer.write(TOPIC, 1, command(writer, 1))
    assert list(tmp_path.iterdir()) == []


def test_a_bag_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write_one(path, seconds=1)
    with pytest.raises(BagError, match="--overwrite"):
        write_one(path, seconds=2)
    write_one(path, seconds=2, overwrite=True)
    with Reader(path) as reader:
        assert reader.start_time == 2 * 10**9


def test_a_failed_replacement_keeps_the_old_bag(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write_one(path)
    with pytest.raises(RuntimeError), BagWriter(path, overwrite=True) as writer:
        writer.add_topic(TOPIC, TYPE, reliable(10))
        raise RuntimeError
    with Reader(path) as reader:
        assert reader.message_count == 1


def test_a_folder_that_is_no_bag_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "thesis.txt").write_text("mine")
    with pytest.raises(BagError, match="no bag, so it is never replaced"):
        write_one(tmp_path / "bag", overwrite=True)
    assert (tmp_path / "bag" / "thesis.txt").read_text() == "mine"


def test_an_unknown_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="mcap, sqlite3"):
        BagWriter(tmp_path / "bag", storage="rosbag1")
