from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from wpt_planner import conversions
from wpt_planner.camera_input import CameraInput, CameraProblem, EventKind, ProblemKind
from wpt_policy.camera_model import CameraInfoValues
from wpt_planner.decode_pool import DecodePool
from wpt_planner.image_conversion import ZeroCopyConverter
from wpt_planner.static_transforms import StaticTransforms
from wpt_policy import se3
from wpt_policy.image_input import ImageInput, ImageInputSpec

BOUND_S = 10.0
WIDTH, HEIGHT = 320, 180
K = np.array([[250.0, 0, 163.0], [0, 250.0, 95.0], [0, 0, 1]])
SPEC = ImageInputSpec(width=128, height=64)
STAMP = 1_533_000_000_123_456_789

# cam_front at (1.7, 0, 1.5) m, looking ahead: optical axes in base_link.
MOUNT = np.array([[0.0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def pool():
    made = DecodePool(2)
    yield made
    assert made.close(BOUND_S)


def tf(matrix: np.ndarray = MOUNT, child: str = "cam_front", stamp_ns: int = 1) -> TFMessage:
    message = TransformStamped(child_frame_id=child)
    message.header = conversions.header(stamp_ns, "base_link")
    pose = conversions.pose_from_matrix(matrix)
    message.transform.rotation = pose.orientation
    for axis in "xyz":
        setattr(message.transform.translation, axis, getattr(pose.position, axis))
    return TFMessage(transforms=[message])


def info(frame_id: str = "cam_front", k: np.ndarray = K, **changes) -> CameraInfo:
    values = {
        "frame_id": frame_id,
        "width": WIDTH,
        "height": HEIGHT,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": k,
        "r": np.eye(3),
        "p": np.column_stack([k, np.zeros(3)]),
    }
    return conversions.camera_info_msg(CameraInfoValues(**{**values, **changes}), STAMP)


def scene(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(
    frame_id: str = "cam_front", stamp_ns: int = STAMP, rgb: np.ndarray | None = None
) -> CompressedImage:
    data = cv2.imencode(".jpg", cv2.cvtColor(scene() if rgb is None else rgb, cv2.COLOR_RGB2BGR))[1]
    message = CompressedImage(header=conversions.header(stamp_ns, frame_id), format="jpeg")
    message.data.frombytes(data.tobytes())
    return message


def raw(frame_id: str = "cam_front", stamp_ns: int = STAMP, rgb: np.ndarray | None = None) -> Image:
    pixels = scene() if rgb is None else rgb
    message = Image(
        header=conversions.header(stamp_ns, frame_id),
        encoding="rgb8",
        width=pixels.shape[1],
        height=pixels.shape[0],
        step=pixels.shape[1] * 3,
    )
    message.data.frombytes(pixels.tobytes())
    return message


def camera(
    pool: DecodePool,
    *,
    transforms: StaticTransforms | None = None,
    image_input: ImageInput | None = None,
    images_rectified: bool = True,
    reads_images: bool = True,
    name: str = "cam_front",
) -> CameraInput:
    if transforms is None:
        transforms = StaticTransforms()
        transforms.add(tf())
    return CameraInput(
        name,
        (image_input or ImageInput(SPEC)) if reads_images else None,
        images_rectified=images_rectified,
        transforms=transforms,
        pool=pool,
        converter=ZeroCopyConverter("test"),
    )


def calibrated(pool: DecodePool, **options) -> CameraInput:
    made = camera(pool, **options)
    made.on_camera_info(info())
    assert made.problem() is None
    made.take_events()
    return made


def problem_of(call, kind: ProblemKind, *words: str) -> str:
    with pytest.raises(CameraProblem) as error:
        call()
    assert error.value.kind is kind, error.value.sentence
    for word in ("cam_front", *words):
        assert word in error.value.sentence, error.value.sentence
    assert "\n" not in error.value.sentence
    return error.value.sentence


# --- the straight way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [jpeg, raw])
def test_an_image_comes_out_as_the_planner_prepares_it_with_its_calibration(pool, make) -> None:
    source = ImageInput(SPEC)
    front = calibrated(pool, image_input=source)
    message = make()
    pending = front.on_image(message, 77)
    assert (pending.camera, pending.stamp_ns, pending.arrival_ns) == ("cam_front", STAMP, 77)
    image = pending.result(BOUND_S)
    expected = source.decode(message.data) if make is jpeg else source.prepare(scene(), "rgb")
    np.testing.assert_array_equal(image.pixels, expected.pixels)
    assert (image.source_width, image.source_height, image.stamp_ns) == (WIDTH, HEIGHT, STAMP)
    assert image.decode_ms > 0 and image.waited_ms >= 0
    calibration = front.calibration(image)
    assert (calibration.name, calibration.width, calibration.height) == ("cam_front", 128, 64)
    # A point 10 m ahead of the camera on its axis lies at the rescaled principal point.
    pixels, depth = calibration.project(np.array([[11.7, 0.0, 1.5]]))
    np.testing.assert_allclose(pixels[0], [(163.5 * 0.4) - 0.5, (95.5 * 0.4) - 0.5], atol=1e-9)
    assert depth[0] == pytest.approx(10.0)
    assert front.warnings() == () and front.failed_images == 0


def test_every_first_calibration_is_said_once_and_repetitions_say_nothing(pool) -> None:
    front = camera(pool)
    front.on_camera_info(info())
    (event,) = front.take_events()
    assert event.kind is EventKind.CALIBRATED
    assert all(
        word in event.sentence for word in ("cam_front", "320x180", "250", "(1.70, 0.00, 1.50)", "0 degrees")
    )
    first = front.calibration()
    front.on_camera_info(info())
    front.on_transforms()
    assert front.take_events() == [] and front.calibration() is first


def test_without_image_input_nothing_is_decoded_and_the_calibration_is_of_the_published_image(pool) -> None:
    front = calibrated(pool, reads_images=False)
    pending = front.on_image(jpeg(), 5)
    assert pending.done
    image = pending.result(0)
    assert image.pixels is None and (image.source_width, image.source_height) == (WIDTH, HEIGHT)
    calibration = front.calibration(image)
    assert (calibration.width, calibration.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(calibration.intrinsics, K)
    cut = jpeg()
    cut.data = cut.data[:-600]
    problem_of(lambda: front.on_image(cut, 5).result(0), ProblemKind.UNREADABLE, "cut short")


def test_raw_images_are_rectified_by_k_and_d(pool) -> None:
    source = ImageInput(SPEC)
    d = np.array([-0.25, 0.05, 0.0, 0.0, 0.0])
    front = camera(pool, image_input=source, images_rectified=False)
    front.on_camera_info(info(d=d, p=np.zeros((3, 4))))
    pixels = front.on_image(raw(), 0).result(BOUND_S).pixels.astype(float)
    x, y = cv2.initUndistortRectifyMap(K, d, None, K, (WIDTH, HEIGHT), cv2.CV_32FC1)
    slow = source.prepare(cv2.remap(scene(), x, y, cv2.INTER_CUBIC), "rgb").pixels
    unrectified = source.prepare(scene(), "rgb").pixels
    assert np.abs(pixels - slow).mean() < 2.0 < 8.0 < np.abs(pixels - unrectified).mean()
    np.testing.assert_allclose(front.calibration().intrinsics, source.calibration(
        calibrated(pool, reads_images=False).calibration()).intrinsics)  # fmt: skip


def test_raw_images_without_distortion_are_bit_for_bit_the_prepared_ones(pool) -> None:
    front = camera(pool, images_rectified=False)
    front.on_camera_info(info())
    image = front.on_image(raw(), 0).result(BOUND_S)
    np.testing.assert_array_equal(image.pixels, ImageInput(SPEC).prepare(scene(), "rgb").pixels)


# --- late, missing, changing --------------------------------------------------------------------------------


def test_a_camera_without_camera_info_says_so_and_heals(pool) -> None:
    front = camera(pool)
    image = front.on_image(jpeg(), 0).result(BOUND_S)
    problem_of(front.calibration, ProblemKind.NO_CAMERA_INFO, "no camera_info")
    assert front.problem().kind is ProblemKind.NO_CAMERA_INFO
    front.on_camera_info(info())
    assert front.problem() is None
    assert front.calibration(image).width == 128


def test_raw_images_need_the_camera_info_before_they_are_rectified(pool) -> None:
    front = camera(pool, images_rectified=False)
    pending = front.on_image(jpeg(), 0)
    assert pending.done and pending.problem.kind is ProblemKind.NO_CAMERA_INFO
    front.on_camera_info(info())
    assert front.on_image(jpeg(), 0).result(BOUND_S).pixels.shape == (64, 128, 3)


def test_a_late_transform_heals(pool) -> None:
    transforms = StaticTransforms()
    front = camera(pool, transforms=transforms)
    front.on_camera_info(info())
    problem_of(front.calibration, ProblemKind.NO_TRANSFORM, "no mount", "/tf_static", "base_link")
    transforms.add(tf(child="cam_back"))
    front.on_transforms()
    problem_of(front.calibration, ProblemKind.NO_TRANSFORM, "no frame cam_front", "cam_back")
    assert front.take_events() == []
    transforms.add(tf())
    front.on_transforms()
    assert [event.kind for event in front.take_events()] == [EventKind.CALIBRATED]
    np.testing.assert_allclose(front.calibration().base_from_camera, MOUNT, atol=1e-12)


def test_transforms_before_the_camera_info_are_no_problem(pool) -> None:
    front = camera(pool)
    front.on_transforms()
    assert front.problem().kind is ProblemKind.NO_CAMERA_INFO and front.take_events() == []


def test_a_changed_mount_is_named_and_used(pool) -> None:
    transforms = StaticTransforms()
    transforms.add(tf())
    front = calibrated(pool, transforms=transforms)
    moved = MOUNT.copy()
    moved[0, 3] = 2.0
    transforms.add(tf(moved, stamp_ns=2))
    front.on_transforms()
    (event,) = front.take_events()
    assert (
        event.kind is EventKind.CALIBRATION_CHANGED
        and "mount" in event.sentence
        and "cam_front" in event.sentence
    )
    assert front.calibration().base_from_camera[0, 3] == pytest.approx(2.0)


def test_a_mount_that_was_lost_and_comes_back_elsewhere_is_a_change(pool) -> None:
    transforms = StaticTransforms()
    transforms.add(tf())
    front = calibrated(pool, transforms=transforms)
    hung_up = tf()
    hung_up.transforms[0].header.frame_id = "roof"
    transforms.add(hung_up)
    front.on_transforms()
    problem_of(front.calibration, ProblemKind.NO_TRANSFORM, "roof")
    transforms.add(tf(se3.planar(0.5, 0, 0), child="roof"))
    front.on_transforms()
    assert [event.kind for event in front.take_events()] == [EventKind.CALIBRATION_CHANGED]
    assert front.calibration().base_from_camera[0, 3] == pytest.approx(2.2)


def test_a_changed_camera_info_is_named_and_used(pool) -> None:
    front = calibrated(pool)
    k = K.copy()
    k[0, 0] = 251.0
    front.on_camera_info(info(k=k))
    events = front.take_events()
    assert events[0].kind is EventKind.CALIBRATION_CHANGED and "(K, P)" in events[0].sentence
    assert front.calibration().intrinsics[0, 0] == pytest.approx(251.0 * 0.4)


def test_an_image_rectified_with_the_old_camera_info_is_not_used_with_the_new_one(pool) -> None:
    front = camera(pool, images_rectified=False)
    front.on_camera_info(info(d=np.array([-0.1, 0, 0, 0, 0])))
    image = front.on_image(raw(), 0).result(BOUND_S)
    front.calibration(image)
    front.on_camera_info(info(d=np.array([-0.2, 0, 0, 0, 0])))
    problem_of(lambda: front.calibration(image), ProblemKind.CALIBRATION_CHANGED, "new camera_info")
    front.calibration(front.on_image(raw(), 0).result(BOUND_S))


def test_a_bad_camera_info_after_a_good_one_is_not_hidden_by_the_good_one(pool) -> None:
    front = calibrated(pool)
    front.on_camera_info(info(k=np.full((3, 3), math.nan)))
    problem_of(front.calibration, ProblemKind.BAD_CAMERA_INFO, "not finite")
    front.on_camera_info(info())
    assert front.problem() is None


def test_nan_in_camera_info_is_no_new_change_each_time(pool) -> None:
    front = camera(pool)
    front.on_camera_info(info(k=np.full((3, 3), math.nan)))
    front.on_camera_info(info(k=np.full((3, 3), math.nan)))
    assert front.take_events() == []


def test_a_size_that_changes_in_mid_stream_is_named_and_needs_its_camera_info(pool) -> None:
    front = calibrated(pool)
    front.calibration(front.on_image(raw(), 0).result(BOUND_S))
    image = front.on_image(raw(rgb=scene(160, 90)), 0).result(BOUND_S)
    (event,) = front.take_events()
    assert event.kind is EventKind.IMAGE_SIZE_CHANGED and "320x180 to 160x90" in event.sentence
    problem_of(lambda: front.calibration(image), ProblemKind.BAD_SIZE, "160x90", "320x180")
    assert front.problem().kind is ProblemKind.BAD_SIZE
    half = np.array([[125.0, 0, 81.25], [0, 125, 47.25], [0, 0, 1]])
    front.on_camera_info(info(k=half, width=160, height=90))
    assert front.calibration(image).intrinsics[0, 0] == pytest.approx(100.0)


@pytest.mark.parametrize("images_rectified", [True, False])
def test_images_of_another_resolution_than_camera_info_are_refused(pool, images_rectified) -> None:
    front = calibrated(pool, images_rectified=images_rectified)
    pending = front.on_image(jpeg(rgb=scene(640, 360)), 0)
    problem_of(
        lambda: front.calibration(pending.result(BOUND_S)),
        ProblemKind.BAD_SIZE,
        "640x360",
        "320x180",
        "expected",
    )
    front.calibration(front.on_image(jpeg(), 0).result(BOUND_S))
    assert front.problem() is None


# --- bad images ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [jpeg, raw])
@pytest.mark.parametrize("stamp", [(0, 0), (-3, 5), (5, 1_000_000_000)])
def test_an_image_without_a_usable_stamp_belongs_to_no_set(pool, make, stamp) -> None:
    front = calibrated(pool)
    message = make()
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    problem_of(lambda: front.on_image(message, 0), ProblemKind.BAD_STAMP, "stamp", "expected")
    assert front.failed_images == 1


def empty(message):
    message.data = message.data[:0]


def cut(message):
    message.data = message.data[: len(message.data) // 2]


def noise(message):
    message.data = message.data[:0]
    message.data.frombytes(b"no picture at all")


def depth(message):
    message.format = "16UC1; compressedDepth png"


def gray(message):
    message.format = "mono8; jpeg compressed mono8"


def mono(message):
    message.encoding = "mono8"


@pytest.mark.parametrize(
    ("make", "harm", "says"),
    [
        (jpeg, empty, "empty"),
        (jpeg, cut, "cut short"),
        (jpeg, noise, "expected a JPEG or PNG"),
        (jpeg, depth, "compressedDepth"),
        (jpeg, gray, "mono8"),
        (raw, empty, "0 bytes of data"),
        (raw, cut, "bytes of data, expected"),
        (raw, mono, "'mono8'"),
    ],
)
def test_an_unreadable_image_fails_at_once_and_the_next_one_is_taken(pool, make, harm, says) -> None:
    front = calibrated(pool)
    message = make()
    harm(message)
    pending = front.on_image(message, 3)
    assert pending.done and pending.problem is not None and pending.stamp_ns == STAMP
    problem_of(lambda: pending.result(0), ProblemKind.UNREADABLE, says)
    assert front.problem() is not None and front.failed_images == 1
    assert front.on_image(make(), 4).result(BOUND_S).pixels is not None
    assert front.problem() is None


def test_a_jpeg_broken_inside_is_found_when_it_is_decoded(pool) -> None:
    front = calibrated(pool)
    message = jpeg()
    data = bytearray(message.data.tobytes())
    start = data.index(b"\xff\xda")  # start of scan: without its tables and header nothing can be decoded
    del data[20:start]
    frame = (
        b"\xff\xc0\x00\x11\x08" + HEIGHT.to_bytes(2, "big") + WIDTH.to_bytes(2, "big") + b"\x03" + bytes(9)
    )
    message.data = message.data[:0]
    message.data.frombytes(bytes(data[:2]) + frame + bytes(data[20:]))
    problem_of(
        lambda: front.on_image(message, 0).result(BOUND_S), ProblemKind.UNREADABLE, "cannot be decoded"
    )
    assert front.problem().kind is ProblemKind.UNREADABLE and front.failed_images == 1


@pytest.mark.parametrize(
    "format_text", ["", "jpeg", "png", "bgr8; jpeg compressed bgr8", "rgb8; png compressed "]
)
def test_the_bytes_decide_and_not_the_format_text(pool, format_text) -> None:
    front = calibrated(pool)
    message = jpeg()
    message.format = format_text
    assert front.on_image(message, 0).result(BOUND_S).pixels.shape == (64, 128, 3)


def test_a_picture_too_flat_for_the_planner_is_refused_by_its_camera_info(pool) -> None:
    front = camera(pool, image_input=ImageInput(ImageInputSpec(width=128, height=100)))
    front.on_camera_info(info())
    problem_of(front.calibration, ProblemKind.BAD_CAMERA_INFO, "72 rows", "at least 100")


@pytest.mark.parametrize("make", [jpeg, raw])
def test_an_empty_frame_id_is_refused(pool, make) -> None:
    front = calibrated(pool)
    problem_of(
        lambda: front.on_image(make(frame_id=""), 0).result(0), ProblemKind.BAD_FRAME, "empty frame_id"
    )
    front.on_camera_info(info(frame_id=""))
    problem_of(front.calibration, ProblemKind.BAD_FRAME, "empty frame_id", "camera_info")


def test_image_and_camera_info_must_name_the_same_frame(pool) -> None:
    front = calibrated(pool)
    image = front.on_image(jpeg(frame_id="camera_link"), 0).result(BOUND_S)
    problem_of(lambda: front.calibration(image), ProblemKind.BAD_FRAME, "'camera_link'", "'cam_front'")
    assert front.problem().kind is ProblemKind.BAD_FRAME
    front.calibration(front.on_image(jpeg(frame_id="/cam_front"), 0).result(BOUND_S))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k": np.full((3, 3), math.nan)}, "not finite"),
        ({"k": np.zeros((3, 3))}, "uncalibrated"),
        ({"p": np.zeros((3, 4))}, "P[0] = 0"),
        ({"p": np.column_stack([K, [-60.0, 0, 0]])}, "stereo"),
        ({"width": 160, "height": 90}, "another resolution"),
    ],
)
def test_a_bad_camera_info_is_one_sentence_with_the_camera_and_heals(pool, changes, says) -> None:
    front = camera(pool)
    front.on_camera_info(info(**changes))
    sentence = problem_of(front.calibration, ProblemKind.BAD_CAMERA_INFO, says)
    assert front.problem().sentence == sentence
    front.on_camera_info(info())
    assert front.problem() is None
    assert [event.kind for event in front.take_events()] == [
        EventKind.CALIBRATION_CHANGED,
        EventKind.CALIBRATED,
    ]


# --- warnings -----------------------------------------------------------------------------------------------


def test_a_mount_that_looks_wrong_is_used_and_warned_of(pool) -> None:
    transforms = StaticTransforms()
    transforms.add(tf(se3.inverse(MOUNT)))
    front = camera(pool, transforms=transforms)
    front.on_camera_info(info())
    assert front.problem() is None and front.calibration() is not None
    (warning,) = front.warnings()
    assert "inverted" in warning
    assert (EventKind.WARNING, warning) in [(event.kind, event.sentence) for event in front.take_events()]
    transforms.add(tf(stamp_ns=2))
    front.on_transforms()
    assert front.warnings() == ()


def test_an_ignored_r_is_warned_of(pool) -> None:
    front = camera(pool)
    front.on_camera_info(info(r=cv2.Rodrigues(np.array([0.0, 0.1, 0.0]))[0]))
    assert front.problem() is None
    assert (
        len(front.warnings()) == 1 and "cam_front" in front.warnings()[0] and "R other" in front.warnings()[0]
    )


def test_black_parts_of_a_rectified_image_are_warned_of(pool) -> None:
    front = camera(pool, images_rectified=False)
    front.on_camera_info(info(d=np.array([0.4, 0, 0, 0, 0])))
    assert any("% of its rectified image" in sentence for sentence in front.warnings())


def test_events_are_bounded(pool) -> None:
    front = calibrated(pool)
    for i in range(100):
        k = K.copy()
        k[0, 0] += i % 2 + 1
        front.on_camera_info(info(k=k))
    assert len(front.take_events()) == 32 and front.take_events() == []
