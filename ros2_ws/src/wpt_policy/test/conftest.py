"""A six-camera rig like nuScenes' and images of a smooth world at infinity, for all tests of this package."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from wpt_policy import se3
from wpt_policy.bundle import PolicyBundle
from wpt_policy.calibration import CameraCalibration, CameraRig
from wpt_policy.frame import CameraView, Command, EgoState, Frame, ViewStatus
from wpt_policy.image_input import ImageInput
from wpt_policy.seeded_weights import seeded_config, seeded_tensors

REPOSITORY = Path(__file__).resolve().parents[4]

# Name, viewing direction (deg to the left), position in base_link (m), focal length (pixels at 1600x900):
# rounded from the nuScenes schema's sensor layout.
_NUSCENES_LIKE = (
    ("cam_front", 0.0, (1.70, 0.02, 1.51), 1266.0),
    ("cam_front_right", -56.0, (1.55, -0.49, 1.50), 1260.0),
    ("cam_back_right", -111.0, (1.02, -0.48, 1.56), 1259.0),
    ("cam_back", 180.0, (0.03, 0.00, 1.58), 809.0),
    ("cam_back_left", 109.0, (1.03, 0.48, 1.59), 1257.0),
    ("cam_front_left", 55.0, (1.52, 0.49, 1.51), 1272.0),
)
_BODY_FROM_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Sums of one thread always come in one order."""
    torch.set_num_threads(1)


def mounted(yaw_deg: float, position: tuple[float, float, float]) -> np.ndarray:
    """base_from_camera of a level camera."""
    matrix = se3.planar(position[0], position[1], math.radians(yaw_deg))
    matrix[2, 3] = position[2]
    matrix[:3, :3] = matrix[:3, :3] @ _BODY_FROM_OPTICAL
    return matrix


def nuscenes_like_camera(name: str) -> CameraCalibration:
    for camera, yaw_deg, position, focal in _NUSCENES_LIKE:
        if camera == name:
            return CameraCalibration(
                name=name,
                width=1600,
                height=900,
                intrinsics=np.array([[focal, 0, 800.0], [0, focal, 450.0], [0, 0, 1]]),
                base_from_camera=mounted(yaw_deg, position),
            )
    raise KeyError(name)


@pytest.fixture(scope="session")
def rig() -> CameraRig:
    """Six cameras at 1600x900."""
    return CameraRig([nuscenes_like_camera(name) for name, *_ in _NUSCENES_LIKE])


def sky(camera: CameraCalibration, base_yaw: float, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 image of a smooth world at infinity: colour is a function of direction alone.

    A camera that only turns sees it through exactly the homography K R K^-1. base_yaw: heading of the ego in
    it (rad).
    """
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack([columns, rows, np.ones_like(columns)], axis=-1) @ np.linalg.inv(camera.intrinsics).T
    rays = rays @ camera.base_from_camera[:3, :3].T
    azimuth = np.arctan2(rays[..., 1], rays[..., 0]) + base_yaw
    elevation = np.arctan2(rays[..., 2], np.hypot(rays[..., 0], rays[..., 1]))
    random = np.random.default_rng(seed)
    image = np.zeros((*azimuth.shape, 3))
    for wave in range(1, 9):  # whole waves round the horizon
        for channel in range(3):
            phase, tilt, height = random.uniform(0, math.tau), random.uniform(-3, 3), random.uniform(0.4, 1.0)
            image[..., channel] += height * np.sin(wave * azimuth + tilt * elevation + phase)
    return np.clip(128 + 45 * image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def sky_image() -> Callable[[CameraCalibration], np.ndarray]:
    """Returns sky(camera): its view of the world at infinity, the ego heading along x."""
    return lambda camera: sky(camera, 0.0, seed=1)


FrameMaker = Callable[..., Frame]


@pytest.fixture(scope="session")
def make_frame(rig: CameraRig) -> FrameMaker:
    """Returns make_frame(stamp_s, *, pose, seed, command, ego, cameras, image_input, status)."""

    def make(
        stamp_s: float = 0.0,
        *,
        pose: np.ndarray | None = None,
        seed: int = 0,
        command: Command = Command.STRAIGHT,
        ego: bool = True,
        cameras: CameraRig = rig,
        image_input: ImageInput,
        status: Mapping[str, ViewStatus] | None = None,
        pixels: Mapping[str, np.ndarray] | None = None,
    ) -> Frame:
        stamp_ns = round(stamp_s * 1e9)
        pose = np.eye(4) if pose is None else pose
        status, pixels = status or {}, pixels or {}
        views = {}
        for name, camera in cameras.items():
            prepared = image_input.calibration(camera)
            masked = status.get(name) is ViewStatus.MASKED
            shown = pixels.get(name)
            if shown is None and not masked:
                shown = sky(prepared, se3.yaw_of(pose), seed)
            views[name] = CameraView(
                calibration=prepared,
                stamp_ns=stamp_ns,
                pixels=None if masked else shown,
                odom_from_base=pose if ego else None,
                status=status.get(name, ViewStatus.USED),
            )
        state = EgoState(
            stamp_ns=stamp_ns,
            odom_from_base=pose,
            linear_velocity=np.array([5.0, 0.0, 0.0]),
            angular_velocity=np.zeros(3),
        )
        return Frame(reference_stamp_ns=stamp_ns, views=views, ego=state if ego else None, command=command)

    return make


@pytest.fixture(scope="session")
def seeded() -> PolicyBundle:
    """The seeded compact policy, in memory."""
    config = seeded_config(0)
    return PolicyBundle(config=config, tensors=seeded_tensors(config, 0), sha256="")
