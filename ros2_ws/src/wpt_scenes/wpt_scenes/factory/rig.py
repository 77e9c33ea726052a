"""The factory's sensors: mounts and intrinsics like those of a nuScenes car, each camera its own."""

from __future__ import annotations

import math

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration

# channel: (x, y, z) m, viewing yaw, pitch up, roll (degrees), focal length, principal point (pixels at
# 1600x900). Mounts are never ideal: a fraction of a degree here, some pixels there.
_NATIVE_SIZE = (1600, 900)
_CAMERAS = {
    "CAM_FRONT": ((1.70, 0.01, 1.51), (0.3, 0.4, -0.2), 1262.0, (812.0, 487.0)),
    "CAM_FRONT_RIGHT": ((1.55, -0.49, 1.50), (-55.6, -0.3, 0.3), 1256.0, (806.0, 492.0)),
    "CAM_BACK_RIGHT": ((1.02, -0.48, 1.56), (-110.4, -0.5, 0.4), 1254.0, (794.0, 478.0)),
    "CAM_BACK": ((0.03, 0.00, 1.57), (179.6, -0.8, -0.3), 804.0, (826.0, 481.0)),
    "CAM_BACK_LEFT": ((1.04, 0.48, 1.59), (109.2, -0.4, -0.3), 1258.0, (799.0, 476.0)),
    "CAM_FRONT_LEFT": ((1.53, 0.50, 1.51), (55.1, -0.2, 0.2), 1269.0, (826.0, 484.0)),
}

# Exposure relative to the LiDAR stamp, ms: nuScenes triggers each camera as the LiDAR sweeps past its centre.
STAGGER_MS = {
    "CAM_FRONT_LEFT": -43.0,
    "CAM_FRONT": -35.0,
    "CAM_FRONT_RIGHT": -27.0,
    "CAM_BACK_RIGHT": -20.0,
    "CAM_BACK": -10.0,
    "CAM_BACK_LEFT": 0.0,
}

# 0.94 m ahead of the rear axle, x to the right, y forward, z up.
BASE_FROM_LIDAR = np.array(
    [[0.0, 1.0, 0.0, 0.94], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.84], [0.0, 0.0, 0.0, 1.0]]
)

_BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def cameras(width: int, height: int) -> dict[str, CameraCalibration]:
    """Return the six calibrations by channel, scaled from 1600x900 to width x height (16:9)."""
    result = {}
    for channel, (position, (yaw, pitch, roll), focal, centre) in _CAMERAS.items():
        mount = np.eye(4)
        mount[:3, :3] = (
            _rotation(math.radians(yaw), math.radians(pitch), math.radians(roll)) @ _BODY_FROM_OPTICAL
        )
        mount[:3, 3] = position
        native = CameraCalibration(
            name=channel.lower(),
            width=_NATIVE_SIZE[0],
            height=_NATIVE_SIZE[1],
            intrinsics=np.array([[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]]),
            base_from_camera=mount,
        )
        result[channel] = native if (width, height) == _NATIVE_SIZE else native.resized(width, height)
    return result


def _rotation(yaw: float, pitch_up: float, roll: float) -> np.ndarray:
    turn = se3.exp_rotation(np.array([0.0, 0.0, yaw]))
    lift = se3.exp_rotation(np.array([0.0, -pitch_up, 0.0]))
    return turn @ lift @ se3.exp_rotation(np.array([roll, 0.0, 0.0]))
