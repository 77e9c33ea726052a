"""Format and size of a compressed image from its header alone; nothing is decoded."""

from __future__ import annotations

import struct
from typing import NamedTuple

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
# Start-of-frame markers (ITU-T T.81, table B.1): all of C0..CF but DHT, JPG and DAC.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, RST0..7, SOI.
JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


class ImageHeader(NamedTuple):
    """format: as in sensor_msgs/CompressedImage (``jpeg`` or ``png``). width, height: pixels."""

    format: str
    width: int
    height: int


def read_image_header(data: bytes) -> ImageHeader | None:
    """Return what an image's first bytes say, or None when it is no JPEG or PNG or is cut off there."""
    if data.startswith(PNG_MAGIC) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return ImageHeader("png", width, height)
    if not data.startswith(JPEG_MAGIC):
        return None
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in JPEG_BARE:
            position += 2
        elif marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return ImageHeader("jpeg", width, height) if width and height else None
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None
