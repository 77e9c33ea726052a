"""Reads bags of this suite and of `ros2 bag record`: MCAP or sqlite3, split, compressed.

Messages come in record order as the stored CDR bytes, with memory for about one chunk; decoding is asked for
message by message.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rosbags.interfaces import Connection, MessageDefinition, Qos, QosDurability
from rosbags.rosbag2 import Reader
from rosbags.typesys.store import Typestore

from wpt_replay.bag_types import installed_types, starts_with_header, types_of_definition
from wpt_replay.errors import BagError

STORAGE_SUFFIXES = {".mcap": "mcap", ".db3": "sqlite3"}
# CDR encapsulation (4 bytes), then a Header's first two fields: int32 seconds, uint32 nanoseconds.
_STAMP_END = 12
_STAMP = {1: struct.Struct("<iI"), 0: struct.Struct(">iI")}


class BagMessage(NamedTuple):
    """One stored message. stamp_ns: record time. data: CDR with its 4 bytes of encapsulation."""

    topic: str
    type_name: str
    stamp_ns: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class BagTopic:
    """One topic of a bag.

    type_name: e.g. ``sensor_msgs/msg/Image``. qos: as offered by the recorded publishers, one entry each;
    empty in old bags. type_hash: RIHS01, empty where the bag does not say. definition: the type's text as the
    bag holds it.
    """

    name: str
    type_name: str
    count: int
    qos: tuple[Qos, ...]
    type_hash: str
    definition: MessageDefinition

    @property
    def latched(self) -> bool:
        """Whether a publisher offered transient_local: a late subscriber still gets the message."""
        return any(profile.durability is QosDurability.TRANSIENT_LOCAL for profile in self.qos)


def header_stamp_ns(data: bytes) -> int | None:
    """Return the stamp of a CDR message that starts with a std_msgs/Header; None when it is cut off there."""
    if len(data) < _STAMP_END:
        return None
    seconds, nanoseconds = _STAMP[data[1] & 1].unpack_from(data, 4)
    return seconds * 1_000_000_000 + nanoseconds


class BagReader:
    """An open bag; use it in a ``with`` block.

    path: the folder with metadata.yaml, or one .mcap or .db3 file. Raises BagError, in one sentence, for
    whatever cannot be read. start_ns, end_ns: record times of the first and last message (both 0 in an empty
    bag).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _require_bag(self.path)
        self._stack = ExitStack()
        try:
            self._reader = self._stack.enter_context(Reader(self.path))
            self.topics: Mapping[str, BagTopic] = self._read_topics()
            self.message_count = self._reader.message_count
            self.start_ns = self._reader.start_time if self.message_count else 0
            self.end_ns = self._reader.end_time - 1 if self.message_count else 0
            metadata = self._reader.storage.metadata
        except BagError:
            self._stack.close()
            raise
        except Exception as error:  # a damaged file can make any layer below fail in its own way
            self._stack.close()
            raise BagError(self._damage(error)) from error
        self.custom_data: Mapping[str, str] = dict(metadata.custom or {})
        self.ros_distro: str = metadata.ros_distro or ""
        self._stores: dict[str, Typestore] = {}

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        self._stack.close()

    @property
    def storage(self) -> str:
        """``mcap`` or ``sqlite3``."""
        file = self.path if self.path.is_file() else next(iter(_storage_files(self.path)))
        return STORAGE_SUFFIXES.get(
            file.suffix.removesuffix(".zstd"), STORAGE_SUFFIXES.get(Path(file.stem).suffix, "")
        )

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Yield the messages of the named topics (all when None) recorded at start_ns <= time < stop_ns, in
        order.

        Raises BagError for a topic that the bag lacks, and where the file is damaged: its sentence names the
        last good message.
        """
        for topic in topics or ():
            self.topic(topic)
        wanted = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        count, last = 0, None
        stored = iter(self._reader.messages(wanted, start_ns, stop_ns))
        while True:
            try:
                connection, stamp_ns, data = next(stored)
            except StopIteration:
                return
            except Exception as error:  # see __init__
                after = f"after {count} good messages"
                if last is not None:
                    after += f" (the last one on {last.topic} at {last.stamp_ns} ns)"
                raise BagError(f"{self._damage(error)}; reading stopped {after}") from error
            last = BagMessage(connection.topic, connection.msgtype, stamp_ns, data)
            count += 1
            yield last

    def topic(self, name: str) -> BagTopic:
        """Return a topic by name; raises BagError that lists what there is."""
        if name not in self.topics:
            raise BagError(
                f"bag {self.path} has no topic {name}, but {', '.join(self.topics) or 'none at all'}"
            )
        return self.topics[name]

    def store(self, topic: str) -> Typestore:
        """Return the types that decode a topic; raises BagError when nobody knows its type.

        The bag's own definition is used where it differs from the installed one, so that an old bag still
        reads.
        """
        if topic not in self._stores:
            self._stores[topic] = self._find_store(self.topic(topic))
        return self._stores[topic]

    def has_header(self, topic: str) -> bool:
        """Whether the messages of a topic start with a std_msgs/Header; False where the type is unknown."""
        try:
            return starts_with_header(self.store(topic), self.topics[topic].type_name)
        except BagError:
            return False

    def decode(self, message: BagMessage) -> Any:
        """Return the message as an object of its type; raises BagError that names a corrupted one."""
        store = self.store(message.topic)
        try:
            return store.deserialize_cdr(message.data, message.type_name)
        except Exception as error:  # corrupted lengths fail anywhere in the generated code
            raise BagError(
                f"the message on {message.topic} recorded at {message.stamp_ns} ns is no valid "
                f"{message.type_name} ({_reason(error)}): the bag {self.path} is damaged there, convert or "
                "record it again"
            ) from error

    def _read_topics(self) -> dict[str, BagTopic]:
        topics: dict[str, BagTopic] = {}
        for connection in self._reader.connections:
            entry = _topic(connection)
            known = topics.get(entry.name)
            if known is not None and known.type_name != entry.type_name:
                raise BagError(
                    f"topic {entry.name} of bag {self.path} has two types, {known.type_name} and "
                    f"{entry.type_name}, expected one: record the two publishers under different names"
                )
            if known is not None:
                entry = BagTopic(
                    name=entry.name,
                    type_name=entry.type_name,
                    count=known.count + entry.count,
                    qos=known.qos + entry.qos,
                    type_hash=known.type_hash or entry.type_hash,
                    definition=known.definition if known.definition.data else entry.definition,
                )
            topics[entry.name] = entry
        return topics

    def _find_store(self, topic: BagTopic) -> Typestore:
        installed = installed_types()
        own: Typestore | None = None
        if topic.type_name in installed.fielddefs:
            expected = installed.hash_rihs01(topic.type_name)
            if topic.type_hash in ("", expected):
                return installed
        own = types_of_definition(topic.definition, topic.type_name)
        if own is not None:
            return own
        raise BagError(
            f"topic {topic.name} of bag {self.path} has type {topic.type_name}, which this installation does "
            "not know and the bag does not define: leave the topic out, or record it again with a newer ROS 2"
        )

    def _damage(self, error: Exception) -> str:
        what = "file" if self.path.is_file() else "bag"
        return (
            f"{what} {self.path} is incomplete or damaged ({_reason(error)}): convert or record it again, or "
            f"save what is left of an .mcap file with `mcap recover` and then run `ros2 bag reindex` on the "
            "folder"
        )


def _topic(connection: Connection) -> BagTopic:
    return BagTopic(
        name=connection.topic,
        type_name=connection.msgtype,
        count=connection.msgcount,
        qos=tuple(connection.ext.offered_qos_profiles),
        type_hash=connection.digest,
        definition=connection.msgdef,
    )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__


def _storage_files(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.iterdir() if {file.suffix, Path(file.stem).suffix} & STORAGE_SUFFIXES.keys()
    )


def _require_bag(path: Path) -> None:
    """Raise BagError where a look at the names already shows that there is no complete bag."""
    if not path.exists():
        raise BagError(
            f"there is no bag at {path}: name the folder with metadata.yaml, or an .mcap or .db3 file"
        )
    if path.is_file():
        if path.suffix not in STORAGE_SUFFIXES:
            raise BagError(f"{path} is no bag: name the folder with metadata.yaml, or an .mcap or .db3 file")
        return
    if (path / "metadata.yaml").is_file():
        return
    files = _storage_files(path)
    if not files:
        raise BagError(f"folder {path} is no bag: it has no metadata.yaml and no .mcap or .db3 file")
    raise BagError(
        f"bag {path} has no metadata.yaml, so its recording did not end properly: make one with "
        f"`ros2 bag reindex {path}`, or name its file {files[0].name} alone if that is complete"
    )
