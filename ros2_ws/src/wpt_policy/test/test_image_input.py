"""One image input: decoding, resize and crop, the matching intrinsics, and sentences for everything that is
no image.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wpt_policy.calibration import CameraCalibration
from wpt_policy.image_input import ImageInput, ImageInputError, ImageInputSpec, encoded_size

COMPACT = ImageInputSpec(width=256, height=128)


def scene(width: int, height: int) -> np.ndarray:
    """Smooth RGB colours, so that JPEG and resizing change little."""
    columns, rows = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([255 * columns, 255 * rows, 127 + 100 * np.sin(6 * columns)], axis=-1).astype(np.uint8)


def jpeg(rgb: np.ndarray, extension: str = ".jpg") -> bytes:
    return cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])[
        1
    ].tobytes()


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_file_and_the_same_pixels_in_memory_give_the_same(extension: str) -> None:
    rgb = scene(1600, 900)
    prepared = ImageInput(COMPACT).decode(jpeg(rgb, extension))
    assert prepared.pixels.shape == (128, 256, 3) and prepared.pixels.dtype == np.uint8
    assert (prepared.source_width, prepared.source_height) == (1600, 900)
    direct = ImageInput(COMPACT).prepare(rgb).pixels
    difference = np.abs(prepared.pixels.astype(int) - direct.astype(int))
    assert difference.max() <= (0 if extension == ".png" else 6)


@pytest.mark.parametrize("order", ["rgb", "bgr", "rgba", "bgra"])
def test_every_channel_order_gives_rgb(order: str) -> None:
    rgb = scene(640, 360)
    image = rgb[..., ::-1] if order.startswith("bgr") else rgb
    if order.endswith("a"):
        image = np.dstack([image, np.full(image.shape[:2], 7, np.uint8)])
    result = ImageInput(COMPACT).prepare(np.ascontiguousarray(image), order).pixels
    np.testing.assert_array_equal(result, ImageInput(COMPACT).prepare(rgb).pixels)
    assert result.flags.c_contiguous


def test_padded_rows_are_read_right() -> None:
    rgb = scene(640, 360)
    padded = np.zeros((360, 700, 3), np.uint8)
    padded[:, :640] = rgb
    np.testing.assert_array_equal(
        ImageInput(COMPACT).prepare(padded[:, :640]).pixels, ImageInput(COMPACT).prepare(rgb).pixels
    )


@pytest.mark.parametrize(("crop", "first_row"), [("top", 0), ("center", 8), ("bottom", 16)])
def test_crop_keeps_the_rows_it_names(crop: str, first_row: int) -> None:
    spec = ImageInputSpec(width=256, height=128, crop=crop)
    image = np.repeat(np.arange(144, dtype=np.uint8)[:, None, None], 256, axis=1).repeat(3, axis=2)
    np.testing.assert_array_equal(ImageInput(spec).prepare(image).pixels[:, 0, 0], first_row + np.arange(128))


@pytest.mark.parametrize("factor", [2, 4])
def test_reduced_decoding_is_near_the_full_one(factor: int) -> None:
    data = jpeg(scene(1600, 900))
    full = ImageInput(COMPACT).decode(data).pixels.astype(int)
    reduced = ImageInput(ImageInputSpec(width=256, height=128, decode=f"opencv_reduced_{factor}")).decode(
        data
    )
    assert (reduced.source_width, reduced.source_height) == (1600, 900)
    assert np.abs(reduced.pixels.astype(int) - full).mean() < 2.0


@settings(max_examples=25)
@given(
    st.integers(200, 1300),
    st.floats(0.55, 1.2),
    st.sampled_from(["top", "center", "bottom"]),
    st.floats(0.2, 0.8),
    st.floats(0.3, 0.7),
)
def test_calibration_follows_the_pixels(
    width: int, ratio: float, crop: str, at_x: float, at_y: float
) -> None:
    """A blob painted at a point's projection is found at the prepared calibration's projection."""
    height = round(width * ratio)
    camera = CameraCalibration(
        name="cam_front",
        width=width,
        height=height,
        intrinsics=np.array([[0.8 * width, 0, 0.5 * width], [0, 0.8 * width, 0.5 * height], [0, 0, 1]]),
        base_from_camera=np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]]),
    )
    column, row = at_x * width, at_y * height
    ray = np.linalg.inv(camera.intrinsics) @ [column, row, 1.0]
    point = (camera.base_from_camera @ [*(10 * ray), 1.0])[:3]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    spread = 2 * (0.02 * width) ** 2
    blob = 255 * np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / spread)
    image_input = ImageInput(ImageInputSpec(width=128, height=64, crop=crop))
    pixels = (
        image_input.prepare(np.repeat(blob.astype(np.uint8)[..., None], 3, axis=2))
        .pixels[..., 0]
        .astype(float)
    )
    found_column, found_row = image_input.calibration(camera).project(point[None])[0][0]
    if 15 < found_row < 49:  # the whole blob lies inside the crop
        rows, columns = np.mgrid[0:64, 0:128]
        centre = np.array([(columns * pixels).sum(), (rows * pixels).sum()]) / pixels.sum()
        # A rounded height scales rows by up to 0.5 / 64 more or less than columns; the calibration knows it.
        np.testing.assert_allclose(centre, [found_column, found_row], atol=0.1)


def test_a_flat_image_is_refused_by_its_size() -> None:
    with pytest.raises(ImageInputError, match="1600x700.*only 112 rows.*at least 128"):
        ImageInput(COMPACT).prepare(scene(1600, 700))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(100), "starts with 47494638"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"\xff\xd8" + bytes(20) + b"\xff\xd9", "no valid frame header"),
    ],
)
def test_files_that_are_no_image_are_named(data: bytes, words: str) -> None:
    with pytest.raises(ImageInputError, match=words):
        ImageInput(COMPACT).decode(data)


@pytest.mark.parametrize(
    ("pixels", "extension", "words"),
    [
        (scene(320, 180)[..., 0], ".jpg", "JPEG is grey"),
        (scene(320, 180)[..., 0], ".png", "PNG is grey"),
        (scene(320, 180).astype(np.uint16) * 256, ".png", "16 bits"),
    ],
)
def test_files_without_eight_bit_colour_are_refused(pixels: np.ndarray, extension: str, words: str) -> None:
    """As raw mono8 and bgr16 are: OpenCV would make colours of them and say nothing."""
    with pytest.raises(ImageInputError, match=words):
        ImageInput(COMPACT).decode(cv2.imencode(extension, pixels)[1].tobytes())


@given(st.floats(0.02, 0.98))
def test_a_cut_file_is_never_taken(share: float) -> None:
    for extension in (".jpg", ".png"):
        data = jpeg(scene(320, 180), extension)
        with pytest.raises(
            ImageInputError, match="cut short|empty|expected a JPEG or PNG|no valid frame header"
        ):
            ImageInput(COMPACT).decode(data[: int(share * len(data))])


@given(st.binary(max_size=300))
def test_noise_gives_an_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ImageInputError):
        ImageInput(COMPACT).decode(data)


@given(st.integers(20, 90), st.integers(20, 70), st.sampled_from([".jpg", ".png"]))
def test_size_is_read_from_the_header(width: int, height: int, extension: str) -> None:
    assert encoded_size(np.frombuffer(jpeg(scene(width, height), extension), np.uint8)) == (width, height)


@pytest.mark.parametrize(
    ("image", "order", "words"),
    [
        (np.zeros((90, 160), np.uint8), "rgb", r"shape \(90, 160\)"),
        (np.zeros((90, 160, 4), np.uint8), "rgb", r"expected \(H, W, 3\)"),
        (np.zeros((90, 160, 3), np.uint8), "bgra", r"expected \(H, W, 4\)"),
        (np.zeros((90, 160, 3), np.float32), "rgb", "float32"),
        (np.zeros((90, 160, 3), np.uint8), "yuv", "expected one of rgb, bgr, rgba, bgra"),
    ],
)
def test_arrays_that_do_not_fit_are_named(image: np.ndarray, order: str, words: str) -> None:
    with pytest.raises(ImageInputError, match=words):
        ImageInput(COMPACT).prepare(image, order)


@pytest.mark.parametrize(
    ("field", "value"), [("crop", "middle"), ("decode", "turbo"), ("resize", "cubic"), ("width", 4)]
)
def test_unknown_spec_values_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=str(value)):
        ImageInputSpec(**({"width": 256, "height": 128} | {field: value}))
