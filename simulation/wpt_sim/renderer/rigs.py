"""Camera rigs to render with: like a nuScenes car's, Bench2Drive's, a random change of either, and a
network's view.

Camera names and their order are those of the rest of the suite: front, front right, back right, back, back
left, front left."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration, CameraRig
from wpt_policy.image_input import ImageInput, ImageInputSpec

NATIVE_WIDTH, NATIVE_HEIGHT = 1600, 900
_BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])

# name: mount (m), viewing yaw, pitch up, roll (degrees), focal length and principal point (pixels at
# 1600x900). Like nuScenes: yaw 0, +-55, +-110, 180 degrees, 70 degrees wide, 110 behind, each camera with its
# own small deviations.
_NUSCENES_LIKE = {
    "cam_front": ((1.72, 0.00, 1.50), (0.1, 0.2, -0.1), 1266.0, (815.0, 490.0)),
    "cam_front_right": ((1.58, -0.49, 1.51), (-55.4, -0.1, 0.2), 1260.0, (808.0, 496.0)),
    "cam_back_right": ((1.05, -0.48, 1.56), (-110.6, -0.3, 0.2), 1259.0, (792.0, 480.0)),
    "cam_back": ((0.05, 0.01, 1.57), (179.8, -0.5, -0.2), 809.0, (829.0, 482.0)),
    "cam_back_left": ((1.04, 0.48, 1.56), (109.8, -0.2, -0.2), 1256.0, (792.0, 492.0)),
    "cam_front_left": ((1.56, 0.49, 1.51), (55.3, -0.1, 0.1), 1272.0, (826.0, 480.0)),
}

# Bench2Drive's six cameras (CARLA axes x forward, y right; here y is left): mount relative to the vehicle's
# origin, yaw to the left, field of view in degrees. CARLA's vehicle origin is the box centre; base_link is
# the rear axle.
_BENCH2DRIVE = {
    "cam_front": ((0.80, 0.00, 1.60), 0.0, 70.0),
    "cam_front_right": ((0.27, -0.55, 1.60), -55.0, 70.0),
    "cam_back_right": ((-0.32, -0.55, 1.60), -110.0, 70.0),
    "cam_back": ((-2.00, 0.00, 1.60), 180.0, 110.0),
    "cam_back_left": ((-0.32, 0.55, 1.60), 110.0, 70.0),
    "cam_front_left": ((0.27, 0.55, 1.60), 55.0, 70.0),
}


def nuscenes_rig(width: int = NATIVE_WIDTH, height: int = NATIVE_HEIGHT) -> CameraRig:
    """Return a rig like that of a nuScenes car, scaled from 1600x900 to width x height."""
    cameras = []
    for name, (position, angles, focal, centre) in _NUSCENES_LIKE.items():
        cameras.append(
            CameraCalibration(
                name=name,
                width=NATIVE_WIDTH,
                height=NATIVE_HEIGHT,
                intrinsics=np.array([[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]]),
                base_from_camera=_mount(position, *(math.radians(angle) for angle in angles)),
            )
        )
    return _resized(CameraRig(cameras), width, height)


def bench2drive_rig(
    width: int = NATIVE_WIDTH, height: int = NATIVE_HEIGHT, origin_ahead_of_rear_axle: float = 1.362
) -> CameraRig:
    """Return Bench2Drive's rig, scaled from 1600x900.

    origin_ahead_of_rear_axle: metres from base_link to the vehicle's origin (box centre); default: the ego's
    own."""
    cameras = []
    for name, ((x, y, z), yaw, field_of_view) in _BENCH2DRIVE.items():
        focal = 0.5 * NATIVE_WIDTH / math.tan(math.radians(0.5 * field_of_view))
        # CARLA's principal point is the middle of the image, between pixel centres.
        intrinsics = np.array([[focal, 0.0, 799.5], [0.0, focal, 449.5], [0.0, 0.0, 1.0]])
        mount = _mount((x + origin_ahead_of_rear_axle, y, z), math.radians(yaw), 0.0, 0.0)
        cameras.append(
            CameraCalibration(
                name=name,
                width=NATIVE_WIDTH,
                height=NATIVE_HEIGHT,
                intrinsics=intrinsics,
                base_from_camera=mount,
            )
        )
    return _resized(CameraRig(cameras), width, height)


def perturbed(
    rig: CameraRig,
    rng: np.random.Generator,
    *,
    position: float = 0.10,
    angle: float = math.radians(1.5),
    focal: float = 0.03,
    centre: float = 0.01,
) -> CameraRig:
    """Return the rig with random mounts and intrinsics, each uniform within its bound.

    position: metres per axis; angle: rad about each axis; focal: relative; centre: of the width, for both
    axes."""
    cameras = []
    for camera in rig.values():
        intrinsics = camera.intrinsics.copy()
        intrinsics[[0, 1], [0, 1]] *= 1.0 + rng.uniform(-focal, focal)
        intrinsics[:2, 2] += rng.uniform(-centre, centre, 2) * camera.width
        mount = camera.base_from_camera.copy()
        mount[:3, :3] = mount[:3, :3] @ se3.exp_rotation(rng.uniform(-angle, angle, 3))
        mount[:3, 3] += rng.uniform(-position, position, 3)
        cameras.append(replace(camera, intrinsics=intrinsics, base_from_camera=mount))
    return CameraRig(cameras)


def network_rig(rig: CameraRig, spec: ImageInputSpec) -> CameraRig:
    """Return the rig of a policy's prepared images, so that training images are rendered as small as they are
    read."""
    image_input = ImageInput(spec)
    return CameraRig([image_input.calibration(camera) for camera in rig.values()])


def _mount(position: tuple[float, float, float], yaw: float, pitch_up: float, roll: float) -> np.ndarray:
    """Return base_from_camera of a camera that looks along ``yaw``, then up by ``pitch_up``, then rolled
    (rad)."""
    turn = se3.exp_rotation(np.array([0.0, 0.0, yaw]))
    lift = se3.exp_rotation(np.array([0.0, -pitch_up, 0.0]))
    mount = np.eye(4)
    mount[:3, :3] = turn @ lift @ se3.exp_rotation(np.array([roll, 0.0, 0.0])) @ _BODY_FROM_OPTICAL
    mount[:3, 3] = position
    return mount


def _resized(rig: CameraRig, width: int, height: int) -> CameraRig:
    if (width, height) == (NATIVE_WIDTH, NATIVE_HEIGHT):
        return rig
    return CameraRig([camera.resized(width, height) for camera in rig.values()])
