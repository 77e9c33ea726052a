from __future__ import annotations

import cv2
import numpy as np
import pytest
from wpt_planner import conversions
from wpt_planner.overlay import overlay_msg
from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration
from wpt_policy.image_input import ImageInput, ImageInputSpec
from wpt_policy.plan import Plan, PlanFlag

STAMP = 1_533_000_000_123_456_789
MOUNT = np.array([[0.0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])


def camera() -> CameraCalibration:
    k = np.array([[633.0, 0, 408], [0, 633, 245], [0, 0, 1]])
    return CameraCalibration(name="cam_front", width=800, height=450, intrinsics=k, base_from_camera=MOUNT)


def plan(flags: PlanFlag = PlanFlag.NONE) -> Plan:
    positions = np.stack([np.arange(7) * 4.0, np.zeros(7)], axis=1)
    return Plan(reference_stamp_ns=STAMP, positions=positions, dt_s=0.5, planner="test", flags=flags)


def picture(message) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def green(image: np.ndarray) -> np.ndarray:
    pixels = image.astype(int)
    return pixels[..., 1] - np.maximum(pixels[..., 0], pixels[..., 2]) > 40


def message_of(image: np.ndarray, calibration: CameraCalibration, a_plan: Plan | None = None, **options):
    return overlay_msg(image, calibration, a_plan or plan(), stamp_ns=STAMP, frame_id="cam_front", **options)


def test_the_plan_is_drawn_where_the_road_is_and_the_image_given_stays_as_it_was() -> None:
    grey = np.full((450, 800, 3), 100, np.uint8)
    message = message_of(grey, camera())
    assert np.all(grey == 100)
    assert message.format == "rgb8; jpeg compressed bgr8" and message.header.frame_id == "cam_front"
    assert conversions.stamp_to_ns(message.header.stamp) == STAMP
    drawn = green(picture(message))
    pixels, _ = camera().project(np.array([[12.0, 0.0, 0.0], [20.0, 0.0, 0.0]]))
    for u, v in np.round(pixels).astype(int):
        assert drawn[v, u]
    assert not drawn[: int(245 - 5)].any()  # nothing above the horizon


def test_the_prepared_image_is_drawn_on_as_well() -> None:
    source = ImageInput(ImageInputSpec(width=256, height=128, crop="bottom"))
    calibration = source.calibration(camera())
    drawn = green(picture(message_of(np.full((128, 256, 3), 100, np.uint8), calibration)))
    ((u, v),) = np.round(calibration.project(np.array([[12.0, 0.0, 0.0]]))[0]).astype(int)
    assert drawn[v, u]


def test_the_ego_may_have_moved_between_image_and_plan() -> None:
    """The plan's base_link lies 3 m to the left of where the image was taken."""
    grey = np.full((450, 800, 3), 100, np.uint8)
    here = green(picture(message_of(grey, camera())))
    left = green(picture(message_of(grey, camera(), camera_base_from_plan_base=se3.planar(0, 3, 0))))
    assert np.nonzero(left)[1].mean() < np.nonzero(here)[1].mean() - 50


def test_flags_are_written_into_the_picture() -> None:
    grey = np.full((450, 800, 3), 100, np.uint8)
    without = picture(message_of(grey, camera())).astype(int)
    flagged = picture(message_of(grey, camera(), plan(PlanFlag.UNTRAINED | PlanFlag.WARMING_UP))).astype(int)
    rows, columns = np.nonzero(np.abs(flagged - without).max(axis=2) > 60)
    assert rows.size > 50 and rows.min() > 400 and columns.min() > 100


def test_an_image_of_another_size_than_its_calibration_is_refused() -> None:
    with pytest.raises(ValueError, match="as in the calibration of cam_front"):
        message_of(np.zeros((128, 256, 3), np.uint8), camera())
