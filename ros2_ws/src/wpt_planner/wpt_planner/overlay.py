"""A camera image with the plan drawn in, as JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage

from wpt_planner.conversions import header
from wpt_policy.calibration import CameraCalibration
from wpt_policy.plan import Plan, PlanFlag
from wpt_policy.plan_drawing import draw_caption, draw_plan

JPEG_QUALITY = 85


def overlay_msg(
    image_rgb: np.ndarray,
    calibration: CameraCalibration,
    plan: Plan,
    *,
    stamp_ns: int,
    frame_id: str,
    camera_base_from_plan_base: np.ndarray | None = None,
) -> CompressedImage:
    """Return a CompressedImage (JPEG) of ``image_rgb`` with ``plan`` on the ground and a caption with its
    flags.

    image_rgb: (H, W, 3) uint8 RGB, left unchanged; calibration: of it, prepared or full size alike. stamp_ns
    and frame_id: of the camera image. camera_base_from_plan_base: as in draw_plan. Raises ValueError for a
    wrong size.
    """
    canvas = np.array(image_rgb, copy=True)
    draw_plan(canvas, calibration, plan.positions, camera_base_from_plan_base=camera_base_from_plan_base)
    flags = [flag.name.lower().replace("_", " ") for flag in PlanFlag if flag and flag in plan.flags]
    draw_caption(canvas, "  ".join([calibration.name, plan.planner, *flags]))
    encoded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not encoded:
        raise ValueError(f"overlay of {calibration.name} with shape {canvas.shape} cannot be encoded as JPEG")
    message = CompressedImage(header=header(stamp_ns, frame_id), format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(data.tobytes())
    return message
