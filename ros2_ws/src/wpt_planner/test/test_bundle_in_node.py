"""A policy bundle in the node: the same plans as offline, cameras not interchangeable, and broken bundles."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wpt_msgs.msg import Trajectory
from wpt_policy import se3
from wpt_policy.bundle import load_bundle
from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import CameraView, Command, CommandSource, EgoState, Frame
from wpt_policy.runner import PolicyRunner
from wpt_policy.seeded_weights import write_seeded_bundle

pytestmark = pytest.mark.node
PERIOD_NS = 10**9 // 12
SPEED = 8.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "wpt-seeded"
    write_seeded_bundle(folder)
    return folder


def offline_frame(vehicle: Any, runner: PolicyRunner, reference_ns: int, start_ns: int) -> Frame:
    """The frame of a cycle, made from files and numbers without any code of the node."""

    def pose(stamp_ns: int) -> np.ndarray:
        return se3.planar(100.0 + SPEED * (stamp_ns - start_ns) / 1e9, 0.0, 0.0)

    mounts = {one.child_frame_id: one.transform for one in vehicle.transforms().transforms}
    views = {}
    for name, stamp_ns in vehicle.camera_stamps(reference_ns).items():
        t, r = mounts[name].translation, mounts[name].rotation
        camera = CameraCalibration(
            name=name,
            width=vehicle.width,
            height=vehicle.height,
            intrinsics=np.array(vehicle.camera_info(name).k).reshape(3, 3),
            base_from_camera=se3.transform([t.x, t.y, t.z], [r.w, r.x, r.y, r.z]),
        )
        views[name] = CameraView(
            calibration=runner.image_input.calibration(camera),
            stamp_ns=stamp_ns,
            pixels=runner.image_input.decode(vehicle.jpegs[name]).pixels,
            odom_from_base=pose(stamp_ns),
        )
    ego = EgoState(
        stamp_ns=reference_ns,
        odom_from_base=pose(reference_ns),
        linear_velocity=np.array([SPEED, 0.0, 0.0]),
        angular_velocity=np.zeros(3),
    )
    views = {name: views[name] for name in vehicle.cameras}
    return Frame(
        reference_stamp_ns=reference_ns,
        views=views,
        ego=ego,
        command=Command.STRAIGHT,
        command_source=CommandSource.ROUTE,
    )


def positions(plan: Trajectory) -> np.ndarray:
    return np.array([[point.pose.position.x, point.pose.position.y] for point in plan.points])


def test_the_node_plans_as_the_runner_does_offline(make_bench: Callable, bundle: Path, start_ns: int) -> None:
    bench = make_bench(planner_factory=None, planner_spec=str(bundle), max_age=10.0).ready()
    runner = PolicyRunner(load_bundle(bundle), device="cpu")
    largest, flags = 0.0, []
    for index in range(9):
        reference_ns = start_ns + index * PERIOD_NS
        _, plan = bench.plan(reference_ns)
        offline = runner.plan(offline_frame(bench.vehicle, runner, reference_ns, start_ns))
        largest = max(largest, float(np.abs(positions(plan) - offline.positions).max()))
        flags.append(plan.flags)
        assert plan.flags == int(offline.flags)
        assert plan.weights_sha256 == runner.weights_sha256 and plan.planner == runner.name
    assert largest < 1e-4
    assert all(flag & Trajectory.FLAG_UNTRAINED for flag in flags)
    assert flags[0] & Trajectory.FLAG_WARMING_UP and not flags[-1] & Trajectory.FLAG_WARMING_UP
    bench.wait_diagnostics("untrained: true", runner.weights_sha256, "plan age, last minute")


def test_cameras_are_not_interchangeable(make_bench: Callable, bundle: Path, start_ns: int) -> None:
    plans = []
    for swapped in (False, True):
        bench = make_bench(planner_factory=None, planner_spec=str(bundle), max_age=10.0).ready()
        replaced = {}
        if swapped:
            for name, other in (("cam_front", "cam_back"), ("cam_back", "cam_front")):
                replaced[name] = bench.vehicle.compressed(other, bench.vehicle.camera_stamps(start_ns)[name])
                replaced[name].header.frame_id = name
        plans.append(positions(bench.plan(start_ns, **replaced)[1]))
    assert np.abs(plans[0] - plans[1]).max() > 1e-3


def test_a_half_copied_bundle_is_a_failure_that_heals(
    make_bench: Callable, bundle: Path, tmp_path: Path, start_ns: int
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    weights = copy / "policy.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    bench = make_bench(planner_factory=None, planner_spec=str(copy), max_age=10.0)
    text = bench.wait_diagnostics("not planning: cannot configure", "next attempt")
    assert "policy.safetensors" in text or "sha256" in text.lower()
    assert bench.node.state_label == "unconfigured"
    weights.write_bytes(whole)
    report, _ = bench.ready().plan(start_ns)
    assert math.isfinite(report.latency_ms)
