"""A dead camera under each rule, over real rclpy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from wpt_msgs.msg import SetReport, Trajectory
from wpt_policy.frame import ViewStatus

pytestmark = pytest.mark.node
PERIOD_NS = 10**9 // 12
DEAD = ("cam_back",)


def test_skip_reports_the_set_as_incomplete_and_names_the_camera(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    for index in range(3):
        bench.plan(start_ns + index * PERIOD_NS)
    report = bench.cycle(start_ns + 3 * PERIOD_NS, leave_out=DEAD)
    assert report.outcome == SetReport.INCOMPLETE and "cam_back" in report.reason
    assert list(report.camera_status) == [0, 0, 0, SetReport.CAMERA_MISSING, 0, 0]
    assert report.camera_stamps[3].sec == 0
    bench.wait_diagnostics("no image of cam_back")
    bench.plan(start_ns + 4 * PERIOD_NS)
    assert len(bench.plans) == 4


def test_hold_uses_the_last_image_flagged_and_only_while_it_is_young(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    planner = make_planner()
    bench = make_bench(planner=planner, missing_camera="hold", hold_max_age=0.2).ready()
    bench.plan(start_ns)
    report, plan = bench.plan(start_ns + PERIOD_NS, leave_out=DEAD)
    assert report.camera_status[3] == SetReport.CAMERA_HELD
    assert plan.flags & Trajectory.FLAG_CAMERA_HELD and list(plan.cameras_degraded) == ["cam_back"]
    view = planner.frames[-1].views["cam_back"]
    assert view.status is ViewStatus.HELD and view.stamp_ns == start_ns - 10_000_000
    assert (view.pixels == planner.frames[0].views["cam_back"].pixels).all()
    # Projected with the pose of its own, older stamp.
    moved = planner.frames[-1].ego.odom_from_base[0, 3] - view.odom_from_base[0, 3]
    assert moved == pytest.approx(8.0 * (PERIOD_NS + 10_000_000) / 1e9)
    old = bench.cycle(start_ns + 3 * PERIOD_NS, leave_out=DEAD)
    assert old.outcome == SetReport.INCOMPLETE and "hold_max_age 0.2 s" in old.reason
    bench.plan(start_ns + 4 * PERIOD_NS)


def test_hold_replaces_a_broken_image_too(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    bench = make_bench(planner=make_planner(), missing_camera="hold").ready()
    bench.plan(start_ns)
    bad = bench.vehicle.compressed("cam_back", start_ns + PERIOD_NS - 10_000_000)
    del bad.data[len(bad.data) // 2 :]
    report, _ = bench.plan(start_ns + PERIOD_NS, cam_back=bad)
    assert report.camera_status[3] == SetReport.CAMERA_HELD
    assert report.camera_stamps[3].nanosec == (start_ns - 10_000_000) % 10**9
    bench.wait_diagnostics("cam_back", "cut short")


def test_mask_leaves_out_what_the_planner_may_lose_and_nothing_else(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    planner = make_planner(may_mask=frozenset({"cam_back"}))
    bench = make_bench(planner=planner, missing_camera="mask").ready()
    for index in range(3):
        bench.plan(start_ns + index * PERIOD_NS)
    report, plan = bench.plan(start_ns + 3 * PERIOD_NS, leave_out=DEAD)
    assert report.camera_status[3] == SetReport.CAMERA_MASKED
    assert plan.flags & Trajectory.FLAG_CAMERA_MASKED and list(plan.cameras_degraded) == ["cam_back"]
    view = planner.frames[-1].views["cam_back"]
    assert view.status is ViewStatus.MASKED and view.pixels is None
    refused = bench.cycle(start_ns + 4 * PERIOD_NS, leave_out=("cam_front",))
    assert refused.outcome == SetReport.INCOMPLETE
    assert "cam_front" in refused.reason and "not trained to lose it" in refused.reason


def test_a_camera_that_was_never_there_can_be_masked(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    planner = make_planner(may_mask=frozenset({"cam_back"}))
    bench = make_bench(planner=planner, missing_camera="mask").ready()
    report, _ = bench.plan(start_ns, leave_out=DEAD)
    assert report.camera_status[3] == SetReport.CAMERA_MASKED


def test_a_silent_camera_is_named_with_its_silence(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(silent_after=0.3).ready()
    bench.plan(start_ns)
    times = iter(range(1, 10_000))

    def feed_others() -> bool:
        reference_ns = start_ns + next(times) * PERIOD_NS
        bench.cycle(reference_ns, leave_out=DEAD)
        return any("cam_back has been silent for" in one.status[0].message for one in bench.diagnostics)

    bench.spin_until(feed_others, "the finding about cam_back")
    bench.plan(start_ns + 10_001 * PERIOD_NS)
