"""Writes bags that `ros2 bag play --clock` and this suite play: a bag is complete or it is not there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from wpt_replay.bag_types import installed_types
from wpt_replay.errors import BagError

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
# Metadata version of Jazzy; it is what its `ros2 bag` reads and writes.
METADATA_VERSION = 9
# rmw's RMW_DURATION_INFINITE, which `ros2 bag record` writes for a policy that was left at its default.
INFINITE = QosTime(9223372036, 854775807)


def reliable(depth: int, *, transient_local: bool = False) -> Qos:
    """Return a reliable, keep-last profile; volatile unless transient_local."""
    durability = QosDurability.TRANSIENT_LOCAL if transient_local else QosDurability.VOLATILE
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        durability,
        INFINITE,
        INFINITE,
        QosLiveliness.AUTOMATIC,
        INFINITE,
        False,
    )


class BagWriter:
    """A bag being written; use it in a ``with`` block.

    Everything goes to a hidden folder beside the target, which takes the target's name when the block ends
    well, so an interrupted writer leaves no half bag. storage: ``mcap`` or ``sqlite3``. overwrite: replace a
    bag of that name (any other folder is left alone). Raises BagError, at construction, when the target is
    taken or cannot be made.
    """

    def __init__(self, path: str | Path, *, storage: str = "mcap", overwrite: bool = False) -> None:
        if storage not in STORAGES:
            raise BagError(f"bag storage is {storage}, expected one of {', '.join(STORAGES)}")
        self.path = Path(path).absolute()
        self._overwrite = overwrite
        self._require_free()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._aside = Path(
                tempfile.mkdtemp(prefix=f".{self.path.name}.", suffix=".partial", dir=self.path.parent)
            )
        except OSError as error:
            raise BagError(
                f"bag {self.path} cannot be made ({error.strerror}): choose another folder"
            ) from error
        self._written = self._aside / self.path.name
        self._types = installed_types()
        self._writer = Writer(self._written, version=METADATA_VERSION, storage_plugin=STORAGES[storage])
        self._writer.open()
        self._connections: dict[str, Connection] = {}
        self._last_ns = -1
        self.counts: dict[str, int] = {}

    def add_topic(self, name: str, type_name: str, qos: Qos) -> None:
        """Declare a topic; its QoS goes into the metadata, from where players offer it again."""
        self._connections[name] = self._writer.add_connection(
            name, type_name, typestore=self._types, offered_qos_profiles=[qos]
        )
        self.counts[name] = 0

    def set_custom_data(self, values: Mapping[str, str]) -> None:
        """Put words about the recording into the metadata."""
        for key, value in values.items():
            self._writer.set_custom_data(key, value)

    def type(self, type_name: str) -> Any:
        """Return the message class of a type, to be filled and written."""
        return self._types.types[type_name]

    def write(self, topic: str, record_ns: int, message: Any) -> None:
        """Store a message of a declared topic; raises BagError for a record time before the previous one."""
        self.write_raw(topic, record_ns, self._types.serialize_cdr(message, self._connections[topic].msgtype))

    def write_raw(self, topic: str, record_ns: int, data: bytes | memoryview) -> None:
        """Store CDR bytes; as write."""
        if record_ns < self._last_ns:
            raise BagError(
                f"the message on {topic} at {record_ns} ns comes after one at {self._last_ns} ns, expected "
                "record times that do not decrease: sort the messages"
            )
        try:
            self._writer.write(self._connections[topic], record_ns, data)
        except OSError as error:
            raise BagError(
                f"bag {self.path} cannot be written on ({error.strerror}): free some space"
            ) from error
        self._last_ns = record_ns
        self.counts[topic] += 1

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._writer.abort()
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def _finish(self) -> None:
        try:
            self._writer.close()
            self._require_free()
            if self.path.exists():
                self.path.rename(self._aside / "replaced")
            self._written.rename(self.path)
        except OSError as error:
            raise BagError(
                f"bag {self.path} cannot be completed ({error.strerror}): free some space"
            ) from error

    def _require_free(self) -> None:
        if not self.path.exists():
            return
        empty = self.path.is_dir() and not any(self.path.iterdir())
        if empty:
            return
        if not (self.path / "metadata.yaml").is_file():
            raise BagError(
                f"{self.path} exists and is no bag, so it is never replaced: choose another folder"
            )
        if not self._overwrite:
            raise BagError(f"bag {self.path} exists: name another folder, or say --overwrite to replace it")
