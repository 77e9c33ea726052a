"""Rigs: the suite's six cameras, Bench2Drive's published figures, small changes, a network's own view."""

from __future__ import annotations

import math

import numpy as np
import pytest
from wpt_policy.calibration import rig_problems
from wpt_policy.image_input import ImageInputSpec
from wpt_sim.renderer.rigs import bench2drive_rig, network_rig, nuscenes_rig, perturbed

ORDER = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")


@pytest.mark.parametrize("rig", [nuscenes_rig(), bench2drive_rig(), nuscenes_rig(352, 198)])
def test_rigs_have_the_suites_cameras_and_look_right(rig) -> None:
    assert rig.names == ORDER
    assert rig_problems(rig) == []


def test_the_nuscenes_like_rig_differs_by_camera_and_is_wide_behind() -> None:
    rig = nuscenes_rig()
    focals = [camera.intrinsics[0, 0] for camera in rig.values()]
    assert len(set(focals)) == 6
    assert rig["cam_back"].intrinsics[0, 0] < 0.7 * min(focal for focal in focals if focal > 1000)


def test_bench2drives_figures() -> None:
    rig = bench2drive_rig(origin_ahead_of_rear_axle=0.0)
    for name, yaw, focal, x, y in (
        ("cam_front", 0.0, 1142.5, 0.80, 0.0), ("cam_front_left", 55.0, 1142.5, 0.27, 0.55),
        ("cam_back", 180.0, 560.2, -2.0, 0.0), ("cam_back_right", -110.0, 1142.5, -0.32, -0.55),
    ):  # fmt: skip
        camera = rig[name]
        assert math.degrees(camera.yaw()) % 360 == pytest.approx(yaw % 360, abs=1e-6)
        assert camera.intrinsics[0, 0] == pytest.approx(focal, abs=0.1)
        assert camera.base_from_camera[:3, 3] == pytest.approx([x, y, 1.6])


def test_perturbed_rigs_stay_near_and_follow_the_generator() -> None:
    rig = nuscenes_rig()
    changed = perturbed(rig, np.random.default_rng(3))
    again = perturbed(rig, np.random.default_rng(3))
    assert changed.names == rig.names and rig_problems(changed) == []
    for name in rig:
        shift = changed[name].base_from_camera[:3, 3] - rig[name].base_from_camera[:3, 3]
        assert 0 < np.abs(shift).max() <= 0.10
        assert changed[name].optical_axis() @ rig[name].optical_axis() > math.cos(math.radians(3.0))
        assert np.array_equal(changed[name].intrinsics, again[name].intrinsics)


def test_a_networks_rig_has_its_size_and_the_same_rays() -> None:
    rig = nuscenes_rig()
    small = network_rig(rig, ImageInputSpec(width=256, height=128, crop="top"))
    point = np.array([[20.0, 1.0, 2.0]])
    for name in ("cam_front",):
        camera = small[name]
        assert (camera.width, camera.height) == (256, 128)
        full, _ = rig[name].project(point)
        own, _ = camera.project(point)
        assert own == pytest.approx((full + 0.5) * 256 / 1600 - 0.5, abs=1e-6)
