"""From calibrations and ego poses to the matrices that the network samples by. NumPy, float64, one set at a
time.
"""

from __future__ import annotations

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration


def image_from_base(
    camera: CameraCalibration,
    odom_from_base_at_image: np.ndarray | None,
    odom_from_base_at_reference: np.ndarray | None,
) -> np.ndarray:
    """Return (3, 4) float64: base_link at the reference stamp to homogeneous pixels of a camera at its own
    stamp.

    camera: calibration of the pixels the network sees. The ego may have moved between the two stamps; where
    one of the poses is None the motion between them is left out.
    """
    camera_from_base = se3.inverse(camera.base_from_camera)
    if odom_from_base_at_image is not None and odom_from_base_at_reference is not None:
        camera_from_base = (
            camera_from_base @ se3.inverse(odom_from_base_at_image) @ odom_from_base_at_reference
        )
    return camera.intrinsics @ camera_from_base[:3]


def ground_motion(odom_from_base_earlier: np.ndarray, odom_from_base_present: np.ndarray) -> np.ndarray:
    """Return (2, 3) float64 ``earlier_from_present``: rotation and translation on the ground, metres.

    Height, roll and pitch between the two poses are left out: a bird's-eye view has none.
    """
    relative = se3.inverse(odom_from_base_earlier) @ odom_from_base_present
    planar = se3.planar(relative[0, 3], relative[1, 3], se3.yaw_of(relative))
    return planar[[0, 1]][:, [0, 1, 3]]
