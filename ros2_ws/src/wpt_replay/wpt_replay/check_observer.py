"""Collects what the check needs to know from a stream of messages, read once, with memory that does not grow
with it.

A bag and a live vehicle feed the same observer: topic, type, time of recording or arrival, CDR bytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wpt_replay.bag_reader import header_stamp_ns
from wpt_replay.check_fields import FieldError, compressed_image_fields, image_fields, odometry_fields
from wpt_replay.check_frames import FrameTree
from wpt_replay.errors import BagError

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
COMMAND = "wpt_msgs/msg/DrivingCommand"
CLOCK = "rosgraph_msgs/msg/Clock"
OBSERVED_TYPES = frozenset({COMPRESSED_IMAGE, IMAGE, CAMERA_INFO, ODOMETRY, TF_MESSAGE, COMMAND, CLOCK})
IMAGE_TYPES = (COMPRESSED_IMAGE, IMAGE)
TF_STATIC = "/tf_static"

# Stamps kept per topic: 4.6 hours at 12 Hz, 1.6 MB. What comes after is counted and not kept.
KEPT_STAMPS = 200_000
# Odometry kept: 33 minutes at 100 Hz, 21 MB with pose and twist.
KEPT_ODOMETRY = 200_000
# Different values kept of what should be one: sizes, frames, calibrations, commands.
KEPT_KINDS = 16
# /tf repeats itself; mounts that a converter puts there come with its first messages.
READ_TF_MESSAGES = 500


class StampTrack:
    """Header stamps and record times of one topic."""

    def __init__(self) -> None:
        self.count = 0
        self.zero = 0
        self.backward = 0
        self.largest_step_back_ns = 0
        self.repeated = 0
        self.last_ns: int | None = None
        self._stamps = array("q")
        self._records = array("q")

    def take(self, stamp_ns: int, record_ns: int) -> None:
        self.count += 1
        if stamp_ns <= 0:
            self.zero += 1
            return
        if self.last_ns is not None and stamp_ns <= self.last_ns:
            step_back = self.last_ns - stamp_ns
            self.repeated += step_back == 0
            self.backward += step_back > 0
            self.largest_step_back_ns = max(self.largest_step_back_ns, step_back)
        self.last_ns = stamp_ns
        if len(self._stamps) < KEPT_STAMPS:
            self._stamps.append(stamp_ns)
            self._records.append(record_ns)

    @property
    def stamps_ns(self) -> np.ndarray:
        """(N,) int64 in order of recording, without zero stamps."""
        return np.array(self._stamps, dtype=np.int64)

    @property
    def records_ns(self) -> np.ndarray:
        """(N,) int64, for the same messages as stamps_ns."""
        return np.array(self._records, dtype=np.int64)

    @property
    def sorted_ns(self) -> np.ndarray:
        """(N,) int64 stamps, rising, each once."""
        return np.unique(self.stamps_ns)


@dataclass
class ImageTrack:
    """Images of one topic. kinds: (encoding, width, height); problem: of the first image that would be
    refused.
    """

    type_name: str
    times: StampTrack = field(default_factory=StampTrack)
    kinds: Counter = field(default_factory=Counter)
    frame_ids: Counter = field(default_factory=Counter)
    refused: int = 0
    problem: str = ""
    example_frame_id: str = ""


@dataclass
class CameraInfoTrack:
    """CameraInfo of one topic. values: the first message; changes: how often a message differed from the
    one before.
    """

    times: StampTrack = field(default_factory=StampTrack)
    values: Any = None
    changes: int = 0
    problem: str = ""
    first_record_ns: int | None = None
    _last: bytes = b""

    def is_repetition(self, data: bytes) -> bool:
        """Whether a message differs from the one before in its stamp alone, which are bytes 4 to 12."""
        same = len(data) == len(self._last) and data[12:] == self._last[12:]
        self._last = data
        return same


@dataclass
class OdometryTrack:
    """Odometry of one topic; rows of ``values`` as in check_fields.OdometryFields."""

    times: StampTrack = field(default_factory=StampTrack)
    frame_ids: Counter = field(default_factory=Counter)
    child_frame_ids: Counter = field(default_factory=Counter)
    problem: str = ""
    _rows: array = field(default_factory=lambda: array("d"))
    _row_stamps: array = field(default_factory=lambda: array("q"))

    def take(self, stamp_ns: int, values: tuple[float, ...]) -> None:
        if stamp_ns > 0 and len(self._row_stamps) < KEPT_ODOMETRY:
            self._row_stamps.append(stamp_ns)
            self._rows.extend(values)

    @property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return stamps (N,) int64, rising, each once, and their values (N, 13)."""
        stamps, first = np.unique(np.array(self._row_stamps, dtype=np.int64), return_index=True)
        return stamps, np.array(self._rows, dtype=np.float64).reshape(-1, 13)[first]


@dataclass
class CommandTrack:
    times: StampTrack = field(default_factory=StampTrack)
    commands: Counter = field(default_factory=Counter)
    sources: Counter = field(default_factory=Counter)


@dataclass
class TransformTrack:
    """Messages of /tf_static, or the first ones of /tf."""

    count: int = 0
    first_record_ns: int | None = None
    last_record_ns: int | None = None


class Observer:
    """Takes messages; what it has seen lies in its public fields, by topic name.

    decode(topic, type_name, data): gives a message as an object, or raises BagError; asked for rare messages
    alone.
    """

    def __init__(self, decode: Callable[[str, str, bytes], Any], base_frame: str) -> None:
        self._decode = decode
        self.images: dict[str, ImageTrack] = {}
        self.camera_infos: dict[str, CameraInfoTrack] = {}
        self.odometry: dict[str, OdometryTrack] = {}
        self.commands: dict[str, CommandTrack] = {}
        self.clock = StampTrack()
        self.static = TransformTrack()
        self.dynamic = TransformTrack()
        self.frames = FrameTree(base_frame)
        self.unreadable: dict[str, str] = {}

    def take(self, topic: str, type_name: str, record_ns: int, data: bytes) -> None:
        """Take one message; one that cannot be read is counted as its topic's problem and raises nothing."""
        try:
            if type_name in IMAGE_TYPES:
                self._take_image(topic, type_name, record_ns, data)
            elif type_name == CAMERA_INFO:
                self._take_camera_info(topic, record_ns, data)
            elif type_name == ODOMETRY:
                self._take_odometry(topic, record_ns, data)
            elif type_name == TF_MESSAGE:
                self._take_transforms(topic, record_ns, data)
            elif type_name == COMMAND:
                self._take_command(topic, record_ns, data)
            elif type_name == CLOCK and topic == "/clock":
                self.clock.take(header_stamp_ns(data) or 0, record_ns)
        except (FieldError, BagError) as error:
            self.unreadable.setdefault(topic, str(error))

    def _take_image(self, topic: str, type_name: str, record_ns: int, data: bytes) -> None:
        track = self.images.setdefault(topic, ImageTrack(type_name))
        fields = image_fields(data) if type_name == IMAGE else compressed_image_fields(data)
        track.times.take(fields.stamp_ns, record_ns)
        _count(track.frame_ids, fields.frame_id)
        if fields.problem:
            track.refused += 1
            track.problem = track.problem or fields.problem
        else:
            _count(track.kinds, (fields.encoding, fields.width, fields.height))

    def _take_camera_info(self, topic: str, record_ns: int, data: bytes) -> None:
        track = self.camera_infos.setdefault(topic, CameraInfoTrack())
        track.times.take(header_stamp_ns(data) or 0, record_ns)
        if track.first_record_ns is None:
            track.first_record_ns = record_ns
        if track.is_repetition(data):
            return
        values = self._decode(topic, CAMERA_INFO, data)
        if track.values is None:
            track.values = values
        else:
            track.changes += 1

    def _take_odometry(self, topic: str, record_ns: int, data: bytes) -> None:
        track = self.odometry.setdefault(topic, OdometryTrack())
        fields = odometry_fields(data)
        track.times.take(fields.stamp_ns, record_ns)
        _count(track.frame_ids, fields.frame_id)
        _count(track.child_frame_ids, fields.child_frame_id)
        track.take(fields.stamp_ns, fields.values)

    def _take_transforms(self, topic: str, record_ns: int, data: bytes) -> None:
        static = topic == TF_STATIC
        track = self.static if static else self.dynamic
        track.count += 1
        track.last_record_ns = record_ns
        if track.first_record_ns is None:
            track.first_record_ns = record_ns
        if static or track.count <= READ_TF_MESSAGES:
            for transform in self._decode(topic, TF_MESSAGE, data).transforms:
                self.frames.add(transform, static=static)

    def _take_command(self, topic: str, record_ns: int, data: bytes) -> None:
        track = self.commands.setdefault(topic, CommandTrack())
        message = self._decode(topic, COMMAND, data)
        stamp = message.header.stamp
        track.times.take(stamp.sec * 1_000_000_000 + stamp.nanosec, record_ns)
        _count(track.commands, int(message.command))
        _count(track.sources, int(message.source))


def _count(counter: Counter, value: Any) -> None:
    """Count a value; beyond the bound of kinds, unknown ones are left out."""
    if value in counter or len(counter) < KEPT_KINDS:
        counter[value] += 1
