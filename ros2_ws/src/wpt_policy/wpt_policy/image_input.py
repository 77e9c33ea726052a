"""The one way an image enters the suite: decode, resize, crop (OpenCV, uint8) and the matching intrinsics.

Training, offline evaluation and the node all read images through this module, so that a policy sees the same pixels
everywhere. Normalisation is not done here: it runs on the device, in the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from wpt_policy.calibration import CameraCalibration

DECODE_METHODS = ("opencv", "opencv_reduced_2", "opencv_reduced_4")
RESIZE_METHODS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}
CROP_ANCHORS = ("top", "center", "bottom")

_IMREAD_FLAGS = {
    "opencv": cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    "opencv_reduced_2": cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    "opencv_reduced_4": cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
}


class ImageInputError(ValueError):
    """An image that cannot be read or does not fit; the message is one sentence without the camera's name."""


@dataclass(frozen=True, kw_only=True)
class ImageInputSpec:
    """How an image of any size becomes the network's image.

    The image is scaled so that its width is ``width`` (both axes by the same factor up to a rounding of the height),
    then ``height`` rows are kept at ``crop``: ``top`` keeps the top rows (signals hang there), ``center``, ``bottom``.
    decode: one of DECODE_METHODS; ``opencv_reduced_N`` lets the JPEG decoder scale by 1/N first (other pixels!).
    resize: one of RESIZE_METHODS. Raises ValueError naming the field when a value is unknown.
    """

    width: int
    height: int
    crop: str = "top"
    decode: str = "opencv"
    resize: str = "area"

    def __post_init__(self) -> None:
        if self.width < 16 or self.height < 16:
            raise ValueError(f"image input size {self.width}x{self.height} is too small, expected at least 16x16")
        for field, value, known in (
            ("crop", self.crop, CROP_ANCHORS),
            ("decode", self.decode, DECODE_METHODS),
            ("resize", self.resize, tuple(RESIZE_METHODS)),
        ):
            if value not in known:
                raise ValueError(f"image input {field} is {value!r}, expected one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedImage:
    """pixels: (height, width, 3) uint8 RGB at the spec's size. source_width, source_height: of the image given."""

    pixels: np.ndarray
    source_width: int
    source_height: int


class ImageInput:
    """Prepares images and their calibrations by one spec. Stateless and safe to call from several threads."""

    def __init__(self, spec: ImageInputSpec):
        self.spec = spec

    def decode(self, data: bytes | bytearray | memoryview | np.ndarray) -> PreparedImage:
        """Decode a whole JPEG or PNG file and prepare it; raises ImageInputError for anything else."""
        bgr, width, height = self.read(data)
        pixels = self._fit(bgr, width, height)
        return PreparedImage(pixels=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), source_width=width, source_height=height)

    def read(self, data: bytes | bytearray | memoryview | np.ndarray) -> tuple[np.ndarray, int, int]:
        """Decode a whole JPEG or PNG file by the spec's method, without fitting it.

        Returns (H, W, 3) uint8 BGR, smaller than the file's image for the reduced methods, and the file's own width
        and height. Raises ImageInputError.
        """
        encoded = np.frombuffer(data, dtype=np.uint8)
        width, height = encoded_size(encoded)
        bgr = cv2.imdecode(encoded, _IMREAD_FLAGS[self.spec.decode])
        if bgr is None:
            raise ImageInputError(
                f"compressed image of {encoded.size} bytes cannot be decoded, expected a whole JPEG or PNG; "
                "check the sender"
            )
        return bgr, width, height

    def prepare(self, image: np.ndarray, order: str = "rgb") -> PreparedImage:
        """Prepare an image already in memory.

        image: (H, W, 3) or (H, W, 4) uint8, rows may be padded (any strides); order: rgb, bgr, rgba or bgra.
        """
        conversions = {
            "rgb": (3, None), "bgr": (3, cv2.COLOR_BGR2RGB), "rgba": (4, cv2.COLOR_RGBA2RGB), "bgra": (4, cv2.COLOR_BGRA2RGB),
        }  # fmt: skip
        if order not in conversions:
            raise ImageInputError(f"channel order is {order!r}, expected one of {', '.join(conversions)}")
        channels, conversion = conversions[order]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
            raise ImageInputError(
                f"image has shape {image.shape} and type {image.dtype}, expected (H, W, {channels}) uint8 for {order}"
            )
        height, width = image.shape[:2]
        pixels = self._fit(image, width, height)
        # Channels are swapped after the resize: it is 39 times fewer pixels at 256x128 than at 1600x900.
        pixels = np.ascontiguousarray(pixels) if conversion is None else cv2.cvtColor(pixels, conversion)
        return PreparedImage(pixels=pixels, source_width=width, source_height=height)

    def calibration(self, camera: CameraCalibration) -> CameraCalibration:
        """Return the calibration of the prepared image of a camera whose own image has camera.width x camera.height."""
        scaled_height, top = self._layout(camera.width, camera.height)
        return camera.resized(self.spec.width, scaled_height).cropped(0, top, self.spec.width, self.spec.height)

    def _layout(self, source_width: int, source_height: int) -> tuple[int, int]:
        """Return the height after scaling and the first row that is kept."""
        scaled_height = round(source_height * self.spec.width / source_width)
        if scaled_height < self.spec.height:
            raise ImageInputError(
                f"image is {source_width}x{source_height}, which scaled to width {self.spec.width} has only "
                f"{scaled_height} rows, expected at least {self.spec.height}; use a taller image or another policy"
            )
        spare = scaled_height - self.spec.height
        top = {"top": 0, "center": spare // 2, "bottom": spare}[self.spec.crop]
        return scaled_height, top

    def _fit(self, image: np.ndarray, source_width: int, source_height: int) -> np.ndarray:
        scaled_height, top = self._layout(source_width, source_height)
        if image.shape[:2] != (scaled_height, self.spec.width):
            image = cv2.resize(
                image, (self.spec.width, scaled_height), interpolation=RESIZE_METHODS[self.spec.resize]
            )
        return image[top : top + self.spec.height]


def encoded_size(encoded: np.ndarray) -> tuple[int, int]:
    """Return (width, height) of a whole JPEG or PNG held in a 1-D uint8 array, from its header.

    Raises ImageInputError when it is empty, of another format, cut short, or without colour: OpenCV itself fills the
    missing part of a cut JPEG with grey, makes three equal channels of one, and reports success.
    """
    data = memoryview(np.ascontiguousarray(encoded))
    size = len(data)
    if size == 0:
        raise ImageInputError("compressed image is empty, expected a JPEG or PNG file; check the sender")
    if size >= 33 and bytes(data[:8]) == b"\x89PNG\r\n\x1a\n":
        if bytes(data[-64:]).rfind(b"IEND") < 0:
            raise _cut_short("PNG", size)
        if data[24] == 16:
            raise ImageInputError("PNG has 16 bits a channel, expected 8; publish eight bits a channel")
        if data[25] in (0, 4):  # colour types grey, and grey with alpha
            raise _colourless("PNG")
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if bytes(data[:2]) != b"\xff\xd8":
        start = bytes(data[:24])
        if start.startswith(b"version https://git-lfs"):
            raise ImageInputError("image is a Git LFS pointer, not the picture itself; fetch the LFS content")
        raise ImageInputError(
            f"compressed image of {size} bytes starts with {start[:4].hex()}, expected a JPEG or PNG file; "
            "check the sender's format"
        )
    # Some senders pad the buffer, so the end-of-image marker may stand a little before its end.
    if bytes(data[-4096:]).rfind(b"\xff\xd9") < 0:
        raise _cut_short("JPEG", size)
    at = 2
    while at + 9 < size:
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            if width == 0 or height == 0:
                break
            if data[at + 9] == 1:  # components
                raise _colourless("JPEG")
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ImageInputError(f"JPEG of {size} bytes has no valid frame header; check the sender")


def _colourless(kind: str) -> ImageInputError:
    return ImageInputError(f"{kind} is grey, expected a colour image; publish or store the colour image")


def _cut_short(kind: str, size: int) -> ImageInputError:
    return ImageInputError(
        f"{kind} of {size} bytes has no end marker: it was cut short; check the sender, the transport or the disk"
    )
