"""Fields of large or frequent messages straight from their CDR bytes: no pixel is copied, no object is made.

Layouts are those of sensor_msgs/Image, sensor_msgs/CompressedImage and nav_msgs/Odometry, which have not
changed in ROS 2. Numbers are aligned to their size, counted from behind the four bytes of encapsulation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from wpt_policy.image_input import ImageInputError, encoded_size

# Encoding -> bytes per pixel: what the planner reads.
ENCODINGS = {"bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4}
# Pixel formats that compressed_image_transport names before the codec and that hold no colour.
_COLOURLESS = ("mono", "8uc1", "16uc1", "32fc1")


class FieldError(ValueError):
    """A message that ends before its fields do."""


class CdrReader:
    """Reads one field after the other; raises FieldError where the message ends too early."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 4:
            raise FieldError(f"message has {len(data)} bytes, expected an encapsulated CDR message")
        self._data = data
        self._order = "<" if data[1] & 1 else ">"
        self._at = 4

    def number(self, kind: str) -> int:
        """Read one number by its struct letter."""
        return self.numbers(kind, 1)[0]

    def numbers(self, kind: str, count: int) -> tuple:
        """Read ``count`` numbers of one kind."""
        size = struct.calcsize(kind)
        self._at += -(self._at - 4) % size
        try:
            values = struct.unpack_from(f"{self._order}{count}{kind}", self._data, self._at)
        except struct.error:
            raise FieldError(f"message of {len(self._data)} bytes is cut short") from None
        self._at += size * count
        return values

    def text(self) -> str:
        """Read a string."""
        raw = self._take(self.number("I"))
        return bytes(raw).rstrip(b"\0").decode("utf-8", "replace")

    def octets(self) -> memoryview:
        """Read a sequence of bytes as a view."""
        return self._take(self.number("I"))

    def stamp_ns(self) -> int:
        """Read a builtin_interfaces/Time."""
        seconds, nanoseconds = self.number("i"), self.number("I")
        return seconds * 1_000_000_000 + nanoseconds

    def _take(self, count: int) -> memoryview:
        taken = memoryview(self._data)[self._at : self._at + count]
        if len(taken) < count:
            raise FieldError(f"message of {len(self._data)} bytes is cut short")
        self._at += count
        return taken


@dataclass(frozen=True, kw_only=True)
class ImageFields:
    """An image as published. encoding: of sensor_msgs/Image, or the format of a compressed one.

    problem: why the planner would refuse it, with the remedy, empty when it would not.
    """

    stamp_ns: int
    frame_id: str
    encoding: str
    width: int
    height: int
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class OdometryFields:
    """values: position x y z, quaternion x y z w, linear velocity x y z, angular velocity x y z."""

    stamp_ns: int
    frame_id: str
    child_frame_id: str
    values: tuple[float, ...]


def compressed_image_fields(data: bytes) -> ImageFields:
    """Read a sensor_msgs/CompressedImage; the picture's size comes from its own header. Raises FieldError."""
    reader = CdrReader(data)
    stamp_ns, frame_id, encoding = reader.stamp_ns(), reader.text(), reader.text()
    picture = reader.octets()
    lower = encoding.lower()
    width = height = 0
    problem = ""
    if "compresseddepth" in lower or lower.startswith(_COLOURLESS):
        problem = (
            f"compressed image has format {encoding!r}, expected a colour JPEG or PNG; use the colour image"
        )
    else:
        try:
            width, height = encoded_size(np.frombuffer(picture, dtype=np.uint8))
        except ImageInputError as error:
            problem = str(error)
    return ImageFields(
        stamp_ns=stamp_ns, frame_id=frame_id, encoding=encoding, width=width, height=height, problem=problem
    )


def image_fields(data: bytes) -> ImageFields:
    """Read a sensor_msgs/Image without its pixels; raises FieldError."""
    reader = CdrReader(data)
    stamp_ns, frame_id = reader.stamp_ns(), reader.text()
    height, width = reader.numbers("I", 2)
    encoding = reader.text()
    reader.number("B")  # is_bigendian says nothing about channels of eight bits
    step, size = reader.numbers("I", 2)
    problem = ""
    if encoding not in ENCODINGS:
        problem = (
            f"image encoding is {encoding!r}, expected one of {', '.join(ENCODINGS)};"
            f" {_encoding_remedy(encoding)}"
        )
    elif width == 0 or height == 0:
        problem = f"image is empty ({width}x{height} pixels), expected pixels; check the sender"
    elif step < width * ENCODINGS[encoding]:
        problem = (
            f"image has rows of {step} bytes (step), expected at least {width * ENCODINGS[encoding]}; fix the"
            " sender"
        )
    elif size != step * height:
        problem = (
            f"image has {size} bytes of data, expected {step * height} (step times height); fix the sender"
        )
    return ImageFields(
        stamp_ns=stamp_ns, frame_id=frame_id, encoding=encoding, width=width, height=height, problem=problem
    )


def odometry_fields(data: bytes) -> OdometryFields:
    """Read a nav_msgs/Odometry without its covariances; raises FieldError."""
    reader = CdrReader(data)
    stamp_ns, frame_id, child_frame_id = reader.stamp_ns(), reader.text(), reader.text()
    pose = reader.numbers("d", 7)
    reader.numbers("d", 36)
    twist = reader.numbers("d", 6)
    return OdometryFields(
        stamp_ns=stamp_ns, frame_id=frame_id, child_frame_id=child_frame_id, values=(*pose, *twist)
    )


def _encoding_remedy(encoding: str) -> str:
    lower = encoding.lower()
    if lower.startswith("bayer"):
        return "debayer the images before the planner (image_proc's debayer node does it)"
    if lower.startswith("mono") or lower.endswith("c1"):
        return "the planner reads colour, publish the colour image"
    if any(word in lower for word in ("yuv", "uyvy", "yuyv", "nv12", "nv21", "nv24")):
        return "let the camera driver convert to rgb8"
    return "let the sender convert it"
