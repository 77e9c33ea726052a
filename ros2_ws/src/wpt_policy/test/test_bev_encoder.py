"""The bird's-eye view follows from calibration and pixels alone, for any rig, and loses nothing to masks."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wpt_policy import se3
from wpt_policy.bundle import PolicyBundle, network_of
from wpt_policy.calibration import CameraCalibration, CameraRig
from wpt_policy.image_input import ImageInput, ImageInputSpec
from wpt_policy.network.bev_encoder import BevEncoder, CameraSampler, cell_centres, pillar_points
from wpt_policy.network.projection import image_from_base
from wpt_policy.network.student import Student
from wpt_policy.policy_config import BevEncoderConfig, BevGrid

GRID = BevGrid(x_range_m=(-8.0, 16.0), y_range_m=(-10.0, 10.0), cell_m=2.0, heights_m=(0.0, 1.5))
IMAGE = ImageInputSpec(width=256, height=128)


def matrices(rig: CameraRig, spec: ImageInputSpec = IMAGE) -> torch.Tensor:
    prepared = ImageInput(spec)
    return torch.from_numpy(
        np.stack([image_from_base(prepared.calibration(camera), None, None) for camera in rig.values()])
    ).float()[None]


def all_used(count: int) -> torch.Tensor:
    return torch.ones(1, count, dtype=torch.bool)


def test_cells_are_where_the_grid_says() -> None:
    x, y = cell_centres(GRID)
    assert x.shape == y.shape == GRID.shape == (12, 10)
    assert x[0, 0] == -7.0 and x[-1, 0] == 15.0 and y[0, 0] == -9.0 and y[0, -1] == 9.0
    points = pillar_points(GRID).reshape(3, 2, 12, 10)
    torch.testing.assert_close(points[0, 1], x)
    torch.testing.assert_close(points[1, 0], y)
    assert points[2, 0].unique().tolist() == [0.0] and points[2, 1].unique().tolist() == [1.5]


def test_projection_agrees_with_the_calibration(rig: CameraRig) -> None:
    sampler = CameraSampler(GRID, IMAGE, 8, 1)
    column, row, depth = sampler.project(matrices(rig))
    points = pillar_points(GRID).T.numpy().astype(float)
    for index, camera in enumerate(rig.values()):
        prepared = ImageInput(IMAGE).calibration(camera)
        pixels, expected_depth = prepared.project(points)
        seen = expected_depth > 0.2
        np.testing.assert_allclose(depth[0, index].numpy(), expected_depth, atol=1e-4)
        np.testing.assert_allclose(column[0, index].numpy()[seen], pixels[seen, 0], rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(row[0, index].numpy()[seen], pixels[seen, 1], rtol=1e-4, atol=1e-2)


poses = st.builds(se3.planar, st.floats(-5, 5), st.floats(-5, 5), st.floats(-0.5, 0.5))


@given(poses, poses, st.tuples(st.floats(4, 40), st.floats(-3, 3), st.floats(-1, 3)))
def test_each_camera_is_projected_with_the_ego_pose_of_its_own_stamp(
    at_image: np.ndarray, at_reference: np.ndarray, ahead: tuple[float, float, float]
) -> None:
    camera = CameraCalibration(
        name="cam_front",
        width=256,
        height=128,
        intrinsics=np.array([[200.0, 0, 128], [0, 200, 64], [0, 0, 1]]),
        base_from_camera=np.array([[0.0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]),
    )
    # A thing that stands in the world, seen by the camera at its own stamp, known in base_link at the
    # reference.
    odom_point = se3.apply(at_image, np.array([ahead]))
    pixel, _ = camera.project(np.array([ahead]))
    base_point = se3.apply(se3.inverse(at_reference), odom_point)[0]
    column, row, depth = image_from_base(camera, at_image, at_reference) @ [*base_point, 1.0]
    np.testing.assert_allclose([column / depth, row / depth], pixel[0], atol=1e-6)


def test_without_poses_the_motion_is_left_out(rig: CameraRig) -> None:
    camera, pose = rig["cam_front"], se3.planar(1.0, 2.0, 0.3)
    still = image_from_base(camera, None, None)
    np.testing.assert_array_equal(image_from_base(camera, None, pose), still)
    np.testing.assert_array_equal(image_from_base(camera, pose, None), still)
    np.testing.assert_allclose(image_from_base(camera, pose, pose), still, atol=1e-9)


def read_positions(rig: CameraRig, sampler: CameraSampler) -> tuple[np.ndarray, np.ndarray]:
    """Sample feature maps that hold (camera index, pixel column, pixel row) of their own centres."""
    height, width = sampler.feature_height, sampler.feature_width
    rows, columns = torch.meshgrid(torch.arange(height) * 8.0, torch.arange(width) * 8.0, indexing="ij")
    maps = torch.stack(
        [torch.stack([torch.full_like(rows, index), columns, rows]) for index in range(len(rig))]
    )
    positions, visible = sampler(matrices(rig), all_used(len(rig)))
    stacked = maps.transpose(0, 1).reshape(1, 3, len(rig) * height, width)
    read = torch.nn.functional.grid_sample(stacked, positions, align_corners=True, padding_mode="border")
    return read.reshape(3, *visible.shape[1:]).numpy(), visible[0].numpy()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_samples_come_from_the_right_camera_and_pixel(rig: CameraRig, count: int) -> None:
    sampler = CameraSampler(GRID, IMAGE, 8, count)
    read, visible = read_positions(rig, sampler)
    points = pillar_points(GRID).T.numpy().astype(float)
    prepared = [ImageInput(IMAGE).calibration(camera) for camera in rig.values()]
    for at, point in enumerate(points):
        seeing = []
        for index, camera in enumerate(prepared):
            pixel, depth = camera.project(point[None])
            if depth[0] > 0.1 and camera.visible(pixel, depth)[0]:
                off = max(abs((pixel[0, 0] + 0.5) / 128 - 1), abs((pixel[0, 1] + 0.5) / 64 - 1))
                seeing.append((off, index, pixel[0]))
        seeing.sort(key=lambda item: item[0])
        assert visible[:, at].tolist() == [slot < len(seeing) for slot in range(count)], point
        for slot, (_, index, pixel) in enumerate(seeing[:count]):
            expected = [index, min(pixel[0], 248.0), min(pixel[1], 120.0)]  # the last features' centres
            np.testing.assert_allclose(
                read[:, slot, at], [expected[0], max(expected[1], 0), max(expected[2], 0)], atol=2e-2
            )


def encoder(count: int = 2, layers: int = 1, seed: int = 0) -> BevEncoder:
    torch.manual_seed(seed)
    config = BevEncoderConfig(channels=8, heads=2, layers=layers, blocks=1, cameras_per_point=count)
    return BevEncoder(config, GRID, inputs=6).eval()


def test_unseen_cells_are_zero_and_marked(rig: CameraRig) -> None:
    sampler = CameraSampler(GRID, IMAGE, 8, 2)
    front = CameraRig([rig["cam_front"]])
    sampling = sampler(matrices(front), all_used(1))
    bev = encoder()(torch.randn(1, 1, 6, 16, 32), sampling)[0].detach()
    seen = sampling.visible.reshape(-1, *GRID.shape).any(dim=0)
    assert 0 < seen.sum() < seen.numel()
    torch.testing.assert_close(bev[-1], seen.float())
    assert torch.all(bev[:-1, ~seen] == 0) and torch.all(bev[:-1, seen].abs().sum(dim=0) > 0)
    x, _ = cell_centres(GRID)
    assert torch.all(x[seen] > 1.7)  # a front camera sees nothing behind its lens


@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_is_nan_when_everything_is_masked(rig: CameraRig, layers: int) -> None:
    sampler = CameraSampler(GRID, IMAGE, 8, 2)
    features = torch.randn(1, 6, 6, 16, 32, requires_grad=True)
    net = encoder(layers=layers).train()
    bev = net(features, sampler(matrices(rig), torch.zeros(1, 6, dtype=torch.bool)))
    assert torch.all(bev == 0)
    bev.sum().backward()
    assert torch.all(features.grad == 0)
    assert all(
        torch.isfinite(parameter.grad).all() for parameter in net.parameters() if parameter.grad is not None
    )


@settings(max_examples=10)
@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_masked_camera_does_not_exist(used: list[bool]) -> None:
    """Masked, a camera's pixels do not matter, and the result is that of a rig without it."""
    rig = CameraRig([_camera(index) for index in range(6)])
    sampler, net = CameraSampler(GRID, IMAGE, 8, 2), encoder()
    features = torch.randn(1, 6, 6, 16, 32, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([used])
    with torch.no_grad():
        bev = net(features, sampler(matrices(rig), mask))
        noisy = torch.where(mask[..., None, None, None], features, torch.full_like(features, 1e3))
        torch.testing.assert_close(net(noisy, sampler(matrices(rig), mask)), bev, rtol=0, atol=0)
        if sum(used) >= 1:
            kept = [index for index, on in enumerate(used) if on]
            smaller = CameraRig([_camera(index) for index in kept])
            without = net(features[:, kept], sampler(matrices(smaller), all_used(len(kept))))
            torch.testing.assert_close(without, bev, rtol=1e-4, atol=1e-4)


def _camera(index: int) -> CameraCalibration:
    mount = se3.planar(1.0, 0.0, math.radians(60.0 * index + 3.0))
    mount[2, 3] = 1.5
    mount[:3, :3] = mount[:3, :3] @ [[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    return CameraCalibration(
        name=f"camera_{index}",
        width=1600,
        height=900,
        intrinsics=np.array([[900.0, 0, 800], [0, 900, 450], [0, 0, 1]]),
        base_from_camera=mount,
    )


def test_the_order_of_cameras_means_nothing(rig: CameraRig) -> None:
    order = [3, 0, 5, 1, 4, 2]
    sampler, net = CameraSampler(GRID, IMAGE, 8, 2), encoder(layers=2)
    features = torch.randn(1, 6, 6, 16, 32)
    with torch.no_grad():
        bev = net(features, sampler(matrices(rig), all_used(6)))
        shuffled = CameraRig([list(rig.values())[index] for index in order])
        permuted = net(features[:, order], sampler(matrices(shuffled), all_used(6)))
        exchanged = net(features[:, order], sampler(matrices(rig), all_used(6)))
    torch.testing.assert_close(permuted, bev, rtol=1e-4, atol=1e-4)
    assert (exchanged - bev).abs().max() > 0.1


# Turning a mount by 10 degrees together with what it sees may change the features near its axis by this share
# of their norm (an image seen under another angle is sheared a little, and convolutions see the sheared
# patch) ...
TURNED_TOGETHER = 0.13
# ... while turning the mount alone changes them by more than this.
TURNED_ALONE = 0.26


@pytest.mark.parametrize("name", ["cam_front", "cam_back", "cam_front_left"])
@pytest.mark.parametrize("count", [1, 2])
def test_turning_a_mount_and_its_image_alike_leaves_the_features(
    rig: CameraRig, seeded: PolicyBundle, name: str, count: int, sky_image
) -> None:
    config = seeded.config
    architecture = config.architecture
    config = replace(
        config,
        architecture=replace(
            architecture, bev_encoder=replace(architecture.bev_encoder, cameras_per_point=count)
        ),
    )
    network = network_of(replace(seeded, config=config))
    prepared = ImageInput(config.image_input)

    def features(seen: CameraRig, mounted: CameraRig) -> tuple[np.ndarray, np.ndarray]:
        images = np.stack([sky_image(prepared.calibration(camera)) for camera in seen.values()])[None]
        encode = network.encoder
        with torch.no_grad():
            sampling = encode.sampler(matrices(mounted, config.image_input), all_used(6))
            bev = encode.bev_encoder(encode.image_features(torch.from_numpy(images)), sampling)
        return bev[0, :-1].numpy(), sampling.visible.reshape(-1, *config.bev.shape).numpy()

    turn = se3.planar(0.0, 0.0, math.radians(10.0))[:3, :3]
    mount = rig[name].base_from_camera.copy()
    mount[:3, :3] = turn @ mount[:3, :3]
    turned = CameraRig(
        [
            replace(camera, base_from_camera=mount) if camera.name == name else camera
            for camera in rig.values()
        ]
    )
    before, seen_before = features(rig, rig)
    together, seen_together = features(turned, turned)
    alone, _ = features(rig, turned)

    # Cells within 20 degrees of the old axis, beyond the ego, whose pillar is seen by as many samples as
    # before.
    x, y = (values.numpy() for values in cell_centres(config.bev))
    origin = rig[name].base_from_camera[:2, 3]
    bearing = np.arctan2(y - origin[1], x - origin[0]) - rig[name].yaw()
    near_axis = np.abs(np.remainder(bearing + math.pi, math.tau) - math.pi) < math.radians(20.0)
    cells = (
        near_axis
        & (np.hypot(x, y) > 6.0)
        & (seen_before == seen_together).all(axis=0)
        & seen_before.any(axis=0)
    )
    assert cells.sum() > 200
    scale = np.linalg.norm(before[:, cells])
    assert np.linalg.norm((together - before)[:, cells]) < TURNED_TOGETHER * scale
    assert np.linalg.norm((alone - before)[:, cells]) > TURNED_ALONE * scale


def test_the_world_at_infinity_turns_by_the_homography(rig: CameraRig, sky_image) -> None:
    """The images of the test above are related by K R K^-1, as a turned camera's are."""
    camera = ImageInput(IMAGE).calibration(rig["cam_front"])
    turn = se3.planar(0.0, 0.0, math.radians(10.0))[:3, :3]
    mount = camera.base_from_camera.copy()
    mount[:3, :3] = turn @ mount[:3, :3]
    relative = camera.base_from_camera[:3, :3].T @ mount[:3, :3]
    # A pixel of the turned image, as ray, in the old camera, as pixel.
    homography = camera.intrinsics @ relative @ np.linalg.inv(camera.intrinsics)
    warped = cv2.warpPerspective(
        sky_image(camera), homography, (256, 128), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    turned = sky_image(replace(camera, base_from_camera=mount))
    columns, rows = np.meshgrid(np.arange(256), np.arange(128))
    column, row, depth = np.tensordot(homography, np.stack([columns, rows, np.ones_like(rows)]), axes=1)
    inside = (column >= 0) & (column <= 255 * depth) & (row >= 0) & (row <= 127 * depth)
    assert inside.mean() > 0.5
    assert np.abs(warped[inside].astype(int) - turned[inside].astype(int)).max() <= 3


def test_any_rig_runs(seeded: PolicyBundle) -> None:
    """Four wide cameras on the policy's network: no parameter knows how many cameras there are."""
    network: Student = network_of(seeded)
    rig = CameraRig([_camera(index) for index in (0, 2, 3, 5)])
    images = torch.randint(0, 255, (1, 4, 128, 256, 3), dtype=torch.uint8)
    with torch.no_grad():
        bev = network.encoder(images, matrices(rig), all_used(4))
    assert bev.shape == (1, 33, 80, 48) and torch.isfinite(bev).all() and bev[0, -1].mean() > 0.5
