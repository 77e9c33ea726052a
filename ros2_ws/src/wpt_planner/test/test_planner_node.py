"""The node over real rclpy: it plans, and it says why where it does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from wpt_msgs.msg import SetReport

pytestmark = pytest.mark.node
PERIOD_NS = 10**9 // 12


def test_it_plans_on_every_set_at_12_hz(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    for index in range(24):
        report, plan = bench.plan(start_ns + index * PERIOD_NS)
        assert report.set_id == plan.set_id == index + 1
        assert plan.header == report.header and plan.header.frame_id == "base_link"
        assert (plan.header.stamp.sec * 10**9 + plan.header.stamp.nanosec) == start_ns + index * PERIOD_NS
        assert list(report.camera_status) == [SetReport.CAMERA_USED] * 6
        assert report.cameras == list(bench.vehicle.cameras)
        assert report.skew.nanosec == 43_000_000
        assert report.memory_reset == (index == 0)
        # Constant velocity at 8 m/s, straight ahead.
        assert [round(point.pose.position.x, 6) for point in plan.points] == [0, 4, 8, 12, 16, 20, 24]
        assert plan.planner == "constant_velocity" and plan.flags == 0
        assert report.ego_source == SetReport.EGO_INTERPOLATED and len(report.camera_ego_poses) == 6
        # The front camera fired 35 ms before the reference stamp: the ego was 0.28 m further back.
        back_by = report.ego_pose.position.x - report.camera_ego_poses[0].position.x
        assert abs(back_by - 0.28) < 1e-6
        stages = {stage.name: stage.milliseconds for stage in report.stages}
        assert list(stages) == ["wait", "decode", "ego_motion", "plan", "check", "publish"]
        assert np.isfinite(report.latency_ms) and report.latency_ms >= sum(stages.values()) - 1.0
        assert report.published_steady_ns > 0 and report.skipped_before == 0
    assert len(bench.plans) == len(bench.reports) == 24
    status = bench.wait_diagnostics("planning at", "constant_velocity")
    assert "sets planned: 24" in status


def test_raw_images_are_planned_on_too(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(transport="raw").ready()
    bench.plan(start_ns)
