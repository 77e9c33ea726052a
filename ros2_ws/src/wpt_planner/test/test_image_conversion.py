from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Image
from wpt_planner.image_conversion import (
    ENCODINGS,
    ImageConversionError,
    ZeroCopyConverter,
    check_image,
    choose_converter,
)


def image_msg(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    """A message whose rows end in ``padding`` bytes of 0xEE."""
    height, width, channels = pixels.shape
    rows = np.full((height, width * channels + padding), 0xEE, dtype=np.uint8)
    rows[:, : width * channels] = pixels.reshape(height, -1)
    message = Image(encoding=encoding, height=height, width=width, step=rows.shape[1])
    message.data.frombytes(rows.tobytes())
    return message


def random_pixels(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 17),
    bigendian=st.sampled_from([0, 1]),
)
def test_pixels_come_back_whatever_the_row_padding(encoding, height, width, padding, bigendian) -> None:
    channels, order = ENCODINGS[encoding]
    pixels = random_pixels(height, width, channels)
    message = image_msg(pixels, encoding, padding)
    message.is_bigendian = bigendian
    array, converted_order = ZeroCopyConverter("").convert(message)
    np.testing.assert_array_equal(array, pixels)
    assert (converted_order, array.dtype) == (order, np.uint8)


def test_the_view_copies_nothing_and_keeps_the_buffer_alive() -> None:
    message = image_msg(random_pixels(4, 6, 3), "rgb8", padding=5)
    array, _ = ZeroCopyConverter("").convert(message)
    message.data[0] = (message.data[0] + 1) % 256
    assert array[0, 0, 0] == message.data[0]
    expected = array.copy()
    del message
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("mono8", "colour"),
        ("mono16", "colour"),
        ("8UC1", "colour"),
        ("16UC1", "colour"),
        ("32FC1", "colour"),
        ("bayer_rggb8", "debayer"),
        ("bayer_grbg16", "debayer"),
        ("yuv422", "driver"),
        ("yuv422_yuy2", "driver"),
        ("uyvy", "driver"),
        ("nv21", "driver"),
        ("rgb16", "eight bits"),
        ("8UC3", "order"),
        ("BGR8", "convert"),
        ("", "convert"),
        ("jpeg", "convert"),
    ],
)
def test_other_encodings_are_refused_by_name_with_the_known_ones_and_a_remedy(encoding, says) -> None:
    message = image_msg(random_pixels(2, 2, 3), encoding)
    with pytest.raises(ImageConversionError) as error:
        ZeroCopyConverter("").convert(message)
    sentence = str(error.value)
    assert repr(encoding) in sentence and says in sentence
    assert all(known in sentence for known in ENCODINGS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: setattr(m, "width", 0), "empty"),
        (lambda m: setattr(m, "height", 0), "empty"),
        (lambda m: setattr(m, "step", 17), "at least 18"),
        (lambda m: setattr(m, "step", 19), "expected 76"),
        (lambda m: m.data.pop(), "71 bytes of data, expected 72"),
        (lambda m: m.data.append(0), "73 bytes of data, expected 72"),
        (lambda m: setattr(m, "data", []), "0 bytes of data, expected 72"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(change, says) -> None:
    message = image_msg(random_pixels(4, 6, 3), "bgr8")
    check_image(message)
    change(message)
    with pytest.raises(ImageConversionError, match=says):
        ZeroCopyConverter("").convert(message)


# --- the choice ---------------------------------------------------------------------------------------------


class WorkingBridge:
    """What cv_bridge's passthrough conversion does, padding included."""

    def imgmsg_to_cv2(self, message: Image, desired_encoding: str) -> np.ndarray:
        assert desired_encoding == "passthrough"
        channels = {"bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4}[message.encoding]
        rows = np.ndarray((message.height, message.step), np.uint8, buffer=bytes(message.data))
        return rows[:, : message.width * channels].reshape(message.height, message.width, channels)


class WithoutCompiledModule(WorkingBridge):
    def imgmsg_to_cv2(self, message: Image, desired_encoding: str) -> np.ndarray:
        raise ModuleNotFoundError("No module named 'cv_bridge.boost'")


class BlindToPadding(WorkingBridge):
    def imgmsg_to_cv2(self, message: Image, desired_encoding: str) -> np.ndarray:
        channels = len(message.data) // (message.height * message.width)
        return np.ndarray((message.height, message.width, channels), np.uint8, buffer=bytes(message.data))


class SwapsChannels(WorkingBridge):
    def imgmsg_to_cv2(self, message: Image, desired_encoding: str) -> np.ndarray:
        return super().imgmsg_to_cv2(message, desired_encoding)[..., ::-1]


def with_bridge(monkeypatch: pytest.MonkeyPatch, bridge: object) -> None:
    module = ModuleType("cv_bridge")
    module.CvBridge = bridge
    monkeypatch.setitem(sys.modules, "cv_bridge", module)


def test_a_cv_bridge_that_works_is_used(monkeypatch) -> None:
    with_bridge(monkeypatch, WorkingBridge)
    converter = choose_converter()
    assert converter.name == "cv_bridge" and "right" in converter.reason
    pixels = random_pixels(3, 4, 4)
    array, order = converter.convert(image_msg(pixels, "bgra8", padding=3))
    np.testing.assert_array_equal(array, pixels)
    assert order == "bgra"


def test_a_cv_bridge_in_use_is_handed_checked_images_only_and_its_errors_are_sentences(monkeypatch) -> None:
    with_bridge(monkeypatch, WorkingBridge)
    converter = choose_converter()
    with pytest.raises(ImageConversionError, match="mono8"):
        converter.convert(image_msg(random_pixels(2, 2, 3), "mono8"))
    monkeypatch.setattr(WorkingBridge, "imgmsg_to_cv2", WithoutCompiledModule.imgmsg_to_cv2)
    with pytest.raises(ImageConversionError, match="cv_bridge cannot convert"):
        converter.convert(image_msg(random_pixels(2, 2, 3), "rgb8"))


@pytest.mark.parametrize(
    ("bridge", "says"),
    [
        (WithoutCompiledModule, "cv_bridge.boost"),
        (BlindToPadding, "failed|other pixels"),
        (SwapsChannels, "gave other pixels"),
        (lambda: (_ for _ in ()).throw(RuntimeError("numpy.core.multiarray failed")), "multiarray"),
    ],
)
def test_a_cv_bridge_that_does_not_work_is_not_used_and_the_reason_is_told(monkeypatch, bridge, says) -> None:
    with_bridge(monkeypatch, bridge)
    converter = choose_converter()
    assert converter.name == "zero-copy"
    assert "cv_bridge" in converter.reason
    assert re.search(says, converter.reason)


def test_without_cv_bridge_the_zero_copy_conversion_is_used(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    converter = choose_converter()
    assert converter.name == "zero-copy" and "imported" in converter.reason


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_the_installed_cv_bridge_and_the_zero_copy_conversion_give_the_same_arrays(encoding) -> None:
    pytest.importorskip("cv_bridge", reason="cv_bridge is not installed")
    converter = choose_converter()
    if converter.name != "cv_bridge":
        pytest.skip(converter.reason)
    message = image_msg(random_pixels(48, 64, ENCODINGS[encoding][0]), encoding, padding=12)
    ours, our_order = ZeroCopyConverter("").convert(message)
    theirs, their_order = converter.convert(message)
    np.testing.assert_array_equal(ours, theirs)
    assert our_order == their_order


def test_only_fields_are_looked_at_by_the_check() -> None:
    """The receiving thread calls it for every image: it must not touch the pixels."""
    message = SimpleNamespace(encoding="rgb8", width=2, height=2, step=6, data=range(12))
    assert check_image(message) == (3, "rgb")
