from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from wpt_planner.rectification import Rectifier, source_coordinates
from wpt_policy.calibration import CameraCalibration
from wpt_policy.camera_model import LensModel
from wpt_policy.image_input import ImageInput, ImageInputError, ImageInputSpec

WIDTH, HEIGHT = 800, 450
K = np.array([[520.0, 0, 407.2], [0, 523.0, 231.8], [0, 0, 1]])
LENSES = {
    "plumb_bob": np.array([-0.28, 0.09, 0.0008, -0.0006, -0.012]),
    "plumb_bob of four": np.array([-0.25, 0.06, 0.0008, -0.0006]),
    "rational_polynomial": np.array([0.42, -0.06, 0.0004, -0.0003, -0.002, 0.71, 0.05, -0.01]),
    "equidistant": np.array([0.03, -0.008, 0.002, -0.0004]),
}


def lens(name: str) -> LensModel:
    return LensModel(name=name.split(" ")[0], coefficients=LENSES[name])


def raw_camera(k: np.ndarray = K) -> CameraCalibration:
    return CameraCalibration(name="cam", width=WIDTH, height=HEIGHT, intrinsics=k, base_from_camera=np.eye(4))


def image_input(width: int = 352, height: int = 160, **changes) -> ImageInput:
    return ImageInput(ImageInputSpec(width=width, height=height, **{"crop": "bottom", **changes}))


def distorted_pixels(directions: np.ndarray, model: LensModel, k: np.ndarray = K) -> np.ndarray:
    """Where (N, 2) normalised directions (x/z, y/z) land in the raw image, by the published formulas."""
    x, y = directions.T
    r = np.hypot(x, y)
    c = np.concatenate([model.coefficients, np.zeros(8 - len(model.coefficients))])
    if model.name == "equidistant":
        angle = np.arctan(r)
        stretched = angle * (1 + c[0] * angle**2 + c[1] * angle**4 + c[2] * angle**6 + c[3] * angle**8)
        scale = np.where(r > 0, stretched / np.maximum(r, 1e-12), 1.0)
        xd, yd = scale * x, scale * y
    else:
        radial = (1 + c[0] * r**2 + c[1] * r**4 + c[4] * r**6) / (1 + c[5] * r**2 + c[6] * r**4 + c[7] * r**6)
        xd = x * radial + 2 * c[2] * x * y + c[3] * (r**2 + 2 * x**2)
        yd = y * radial + c[2] * (r**2 + 2 * y**2) + 2 * c[3] * x * y
    return np.stack([k[0, 0] * xd + k[0, 1] * yd + k[0, 2], k[1, 1] * yd + k[1, 2]], axis=1)


def blob_image(pixels: np.ndarray, sigma: float, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A grey image with one round white blob at each pixel position."""
    v, u = np.mgrid[: size[1], : size[0]]
    image = np.full((size[1], size[0]), 40.0)
    for x, y in pixels:
        image += 200.0 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def blob_centre(image: np.ndarray, expected: np.ndarray, reach: int = 9) -> np.ndarray:
    """Centre of the brightness above the background near ``expected``."""
    x0, y0 = np.round(expected).astype(int) - reach
    patch = image[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1, 0].astype(float)
    weight = np.clip(patch - 60, 0, None)
    v, u = np.mgrid[: patch.shape[0], : patch.shape[1]]
    return np.array([np.sum(u * weight), np.sum(v * weight)]) / np.sum(weight) + [x0, y0]


DIRECTIONS = np.array([[x, y] for x in (-0.6, -0.3, 0.02, 0.35, 0.62) for y in (-0.06, 0.1, 0.28)])


@pytest.mark.parametrize("name", LENSES)
@pytest.mark.parametrize(("width", "height"), [(704, 300), (352, 160), (128, 64)])
def test_known_points_seen_through_the_lens_come_back_to_their_place(name, width, height) -> None:
    """Reductions of 1.1, 2.3 and 6.3: with one look-up and with the reduction before it."""
    source = image_input(width, height)
    rectifier = Rectifier(raw_camera(), lens(name), source)
    calibration = source.calibration(raw_camera())
    scale = WIDTH / width
    found = 0
    for direction in DIRECTIONS:
        expected = (calibration.intrinsics @ [*direction, 1.0])[:2]
        reach = 9 if width > 200 else 4
        if not (reach < expected[0] < width - 1 - reach and reach < expected[1] < height - 1 - reach):
            continue
        seen = distorted_pixels(direction[None], lens(name))
        image = blob_image(seen, sigma=(2.5 if width > 200 else 1.2) * scale)
        centre = blob_centre(rectifier.prepare(image, "bgr").pixels, expected, reach)
        assert np.abs(centre - expected).max() < 0.5, (direction, centre, expected)
        # The lens matters here: without rectification the point would be elsewhere.
        if width > 200 and np.hypot(*direction) > 0.3 and name != "rational_polynomial":
            unrectified = (seen[0] + 0.5) / scale - 0.5
            assert np.hypot(*(unrectified - [expected[0], expected[1] + _cropped(source)])) > 1.0
        found += 1
    assert found >= 6


def _cropped(source: ImageInput) -> float:
    """Rows that the crop takes off the top."""
    spec = source.spec
    scaled = raw_camera().resized(spec.width, round(HEIGHT * spec.width / WIDTH)).intrinsics
    return float(scaled[1, 2] - source.calibration(raw_camera()).intrinsics[1, 2])


@pytest.mark.parametrize("name", LENSES)
def test_every_pixel_is_read_where_the_formulas_say(name) -> None:
    calibration = image_input(704, 300).calibration(raw_camera())
    x, y = source_coordinates(raw_camera(), lens(name), calibration)
    u, v = np.meshgrid(np.arange(704), np.arange(300))
    rays = np.stack([u.ravel(), v.ravel(), np.ones(u.size)]).T @ np.linalg.inv(calibration.intrinsics).T
    expected = distorted_pixels(rays[:, :2], lens(name)).reshape(300, 704, 2)
    np.testing.assert_allclose(np.dstack([x, y]), expected, atol=1e-3)


def test_skew_of_the_raw_matrix_counts() -> None:
    k = K.copy()
    k[0, 1] = 40.0
    source = image_input(704, 300)
    rectifier = Rectifier(raw_camera(k), lens("plumb_bob"), source)
    direction = np.array([0.3, 0.25])
    expected = (source.calibration(raw_camera(k)).intrinsics @ [*direction, 1.0])[:2]
    image = blob_image(distorted_pixels(direction[None], lens("plumb_bob"), k), sigma=3.0)
    assert np.abs(blob_centre(rectifier.prepare(image, "rgb").pixels, expected) - expected).max() < 0.5


def street(seed: int = 0) -> np.ndarray:
    """Structure at all scales, as a street has it."""
    rng = np.random.default_rng(seed)
    image = np.zeros((HEIGHT, WIDTH, 3))
    for size in (4, 8, 16, 64, 256):
        noise = rng.normal(0, 1, (HEIGHT // size + 2, WIDTH // size + 2, 3))
        image += cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 40 * image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("width", "height", "least_db"), [(704, 300, 45), (352, 160, 38), (128, 64, 32)])
def test_pixels_are_close_to_rectifying_at_full_size_and_then_preparing(width, height, least_db) -> None:
    """The slow way is what a policy was trained on; the least figures are 3 dB under what was measured."""
    image, model, source = street(), lens("plumb_bob"), image_input(width, height)
    x, y = cv2.initUndistortRectifyMap(K, model.coefficients, None, K, (WIDTH, HEIGHT), cv2.CV_32FC1)
    slow = source.prepare(cv2.remap(image, x, y, cv2.INTER_LANCZOS4), "bgr").pixels.astype(float)
    fast = Rectifier(raw_camera(), model, source).prepare(image, "bgr").pixels.astype(float)
    decibel = 10 * math.log10(255**2 / np.mean((slow - fast) ** 2))
    assert decibel > least_db


def test_all_channel_orders_and_the_jpeg_give_the_same_picture() -> None:
    image, source = street(), image_input()
    rectifier = Rectifier(raw_camera(), lens("plumb_bob"), source)
    expected = rectifier.prepare(image, "rgb")
    assert expected.pixels.shape == (160, 352, 3) and expected.pixels.flags.c_contiguous
    assert (expected.source_width, expected.source_height) == (WIDTH, HEIGHT)
    alpha = np.dstack([image, np.full((HEIGHT, WIDTH), 7, np.uint8)])
    for order, given_image in (
        ("bgr", image[..., ::-1].copy()),
        ("rgba", alpha),
        ("bgra", np.ascontiguousarray(alpha[..., [2, 1, 0, 3]])),
    ):
        np.testing.assert_array_equal(rectifier.prepare(given_image, order).pixels, expected.pixels)
    png = cv2.imencode(".png", image[..., ::-1])[1]
    np.testing.assert_array_equal(rectifier.decode(png.tobytes()).pixels, expected.pixels)


def test_a_padded_view_is_taken_as_it_is() -> None:
    padded = np.zeros((HEIGHT, WIDTH * 3 + 11), np.uint8)
    padded[:, : WIDTH * 3] = street().reshape(HEIGHT, -1)
    view = padded[:, : WIDTH * 3].reshape(HEIGHT, WIDTH, 3)
    rectifier = Rectifier(raw_camera(), lens("plumb_bob"), image_input())
    np.testing.assert_array_equal(
        rectifier.prepare(view, "rgb").pixels, rectifier.prepare(street(), "rgb").pixels
    )


def test_the_reduced_decode_methods_keep_the_geometry() -> None:
    direction = np.array([0.4, 0.2])
    source = image_input(decode="opencv_reduced_2")
    expected = (source.calibration(raw_camera()).intrinsics @ [*direction, 1.0])[:2]
    image = blob_image(distorted_pixels(direction[None], lens("plumb_bob")), sigma=6.0)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    prepared = Rectifier(raw_camera(), lens("plumb_bob"), source).decode(jpeg)
    assert (prepared.source_width, prepared.source_height) == (WIDTH, HEIGHT)
    assert np.abs(blob_centre(prepared.pixels, expected) - expected).max() < 0.5


def test_what_the_raw_image_does_not_show_is_black_and_counted() -> None:
    pincushion = LensModel(name="plumb_bob", coefficients=np.array([0.3, 0.0, 0.0, 0.0, 0.0]))
    source = image_input(crop="center")
    rectifier = Rectifier(raw_camera(), pincushion, source)
    pixels = rectifier.prepare(np.full((HEIGHT, WIDTH, 3), 200, np.uint8), "rgb").pixels
    assert 0.02 < rectifier.uncovered < 0.5
    assert np.mean(pixels[..., 0] == 0) == pytest.approx(rectifier.uncovered, abs=0.01)
    assert Rectifier(raw_camera(), lens("plumb_bob"), source).uncovered == 0.0


def test_a_lens_model_beyond_its_range_does_not_show_the_image_twice() -> None:
    """r (1 - 0.6 r^2) rises up to r = 0.745 alone; the corners of this image lie at 0.9."""
    folding = LensModel(name="plumb_bob", coefficients=np.array([-0.6, 0.0, 0.0, 0.0]))
    source = image_input(704, 300)
    rectifier = Rectifier(raw_camera(), folding, source)
    pixels = rectifier.prepare(np.full((HEIGHT, WIDTH, 3), 200, np.uint8), "rgb").pixels
    inverse = np.linalg.inv(source.calibration(raw_camera()).intrinsics)
    u, v = np.meshgrid(np.arange(704), np.arange(300))
    radius = np.hypot(inverse[0, 0] * u + inverse[0, 2], inverse[1, 1] * v + inverse[1, 2])
    assert np.all(pixels[radius > 0.75] == 0) and np.all(pixels[radius < 0.73] == 200)
    assert rectifier.uncovered == pytest.approx(np.mean(radius > 0.745), abs=0.005)


def test_images_of_another_size_are_a_programming_error_and_broken_files_an_input_error() -> None:
    rectifier = Rectifier(raw_camera(), lens("plumb_bob"), image_input())
    with pytest.raises(ValueError, match="640x360, expected 800x450"):
        rectifier.prepare(np.zeros((360, 640, 3), np.uint8), "rgb")
    with pytest.raises(ImageInputError):
        rectifier.decode(b"\xff\xd8 cut short")
