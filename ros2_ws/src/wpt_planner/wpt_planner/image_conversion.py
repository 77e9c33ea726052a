"""sensor_msgs/Image to a numpy array, by cv_bridge where it really works and by our own view otherwise.

Both give the same array. Our own view copies nothing: it looks into the message's data, row padding included,
and keeps the message's buffer alive (cv_bridge may copy). ``is_bigendian`` says nothing about channels of
eight bits and is not read.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from sensor_msgs.msg import Image

# Encoding -> channels and their order, as ImageInput.prepare names it.
ENCODINGS: dict[str, tuple[int, str]] = {
    "bgr8": (3, "bgr"),
    "rgb8": (3, "rgb"),
    "bgra8": (4, "bgra"),
    "rgba8": (4, "rgba"),
}


class ImageConversionError(ValueError):
    """An image message that cannot be read; the message is one sentence without the camera's name."""


class ImageConverter(Protocol):
    """name: ``cv_bridge`` or ``zero-copy``. reason: one phrase why this one is in use, for the log."""

    name: str
    reason: str

    def convert(self, message: Image) -> tuple[np.ndarray, str]:
        """Return (H, W, 3 or 4) uint8 pixels of a sensor_msgs/Image and their order: rgb, bgr, rgba or bgra.

        Raises ImageConversionError. The array may be a view into the message.
        """
        ...


def check_image(message: Image) -> tuple[int, str]:
    """Return the channels and their order of a sensor_msgs/Image; raises ImageConversionError.

    Looks at the fields alone, not at the pixels.
    """
    encoding = message.encoding
    if encoding not in ENCODINGS:
        raise ImageConversionError(
            f"image encoding is {encoding!r}, expected one of {', '.join(ENCODINGS)}; {_remedy(encoding)}"
        )
    channels, order = ENCODINGS[encoding]
    width, height, step, size = message.width, message.height, message.step, len(message.data)
    if width == 0 or height == 0:
        raise ImageConversionError(
            f"image is empty ({width}x{height} pixels), expected pixels; check the sender"
        )
    if step < width * channels:
        raise ImageConversionError(
            f"image has rows of {step} bytes (step), expected at least {width * channels} for {width} pixels "
            f"of {encoding}; fix the sender"
        )
    if size != step * height:
        raise ImageConversionError(
            f"image has {size} bytes of data, expected {step * height} ({height} rows of {step} bytes); "
            "it was cut short or step is wrong, fix the sender"
        )
    return channels, order


def _remedy(encoding: str) -> str:
    lower = encoding.lower()
    if lower.startswith("bayer"):
        return "debayer the images before the planner (image_proc's debayer node does it)"
    if lower.startswith("mono") or lower.endswith("c1"):
        return "the planner reads colour, publish the colour image"
    if any(word in lower for word in ("yuv", "uyvy", "yuyv", "nv12", "nv21", "nv24")):
        return "let the camera driver convert to rgb8"
    if lower.endswith("16"):
        return "publish eight bits a channel"
    if lower in ("8uc3", "8uc4"):
        return "this one does not say the order of its channels, let the sender name it"
    return "let the sender convert it"


class ZeroCopyConverter:
    """Views into the message's own data."""

    name = "zero-copy"

    def __init__(self, reason: str):
        self.reason = reason

    def convert(self, message: Image) -> tuple[np.ndarray, str]:
        channels, order = check_image(message)
        rows = np.frombuffer(message.data, dtype=np.uint8).reshape(message.height, message.step)
        return rows[:, : message.width * channels].reshape(message.height, message.width, channels), order


class CvBridgeConverter:
    """cv_bridge's passthrough conversion, after the same checks."""

    name = "cv_bridge"

    def __init__(self, bridge: Any, reason: str):
        self._bridge = bridge
        self.reason = reason

    def convert(self, message: Image) -> tuple[np.ndarray, str]:
        _, order = check_image(message)
        try:
            return self._bridge.imgmsg_to_cv2(message, desired_encoding="passthrough"), order
        except Exception as error:
            raise ImageConversionError(
                f"cv_bridge cannot convert the image: {error}; check the sender"
            ) from error


def choose_converter() -> ImageConverter:
    """Return the cv_bridge converter where trial conversions of all encodings come out right, our own
    otherwise.

    A trial is needed: cv_bridge imports without its compiled module, which is also absent or broken where
    OpenCV or numpy are other than those it was built for, and then fails at the first image. Older ones
    ignore row padding.
    """
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
    except Exception as error:  # a module built for another numpy raises more than ImportError
        return ZeroCopyConverter(
            f"cv_bridge cannot be imported ({type(error).__name__}: {_first_line(error)})"
        )
    own = ZeroCopyConverter("")
    for message in _trial_images():
        try:
            image = np.asarray(bridge.imgmsg_to_cv2(message, desired_encoding="passthrough"))
        except Exception as error:
            return ZeroCopyConverter(
                f"cv_bridge's trial conversion of {message.encoding} failed ({type(error).__name__}: "
                f"{_first_line(error)})"
            )
        expected, _ = own.convert(message)
        if image.dtype != np.uint8 or not np.array_equal(image, expected):
            padded = "with padded rows " if message.step > message.width * expected.shape[2] else ""
            return ZeroCopyConverter(
                f"cv_bridge's trial conversion of {message.encoding} {padded}gave other pixels"
            )
    return CvBridgeConverter(bridge, "its trial conversions came out right")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _trial_images() -> list[Image]:
    height, width = 3, 5
    images = []
    for encoding, (channels, _) in ENCODINGS.items():
        for padding in (0, channels, 7):
            image = Image(encoding=encoding, height=height, width=width, step=width * channels + padding)
            image.data.frombytes(bytes((7 * i) % 251 for i in range(image.step * height)))
            images.append(image)
    return images
