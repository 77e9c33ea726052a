"""Clock jumps, restarts and resets by hand: everything is forgotten together, reported, and planning goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger
from wpt_msgs.msg import SetReport

pytestmark = pytest.mark.node
PERIOD_NS = 10**9 // 12
S = 10**9


def resets(bench: Any) -> list[SetReport]:
    return [report for report in bench.reports if report.outcome == SetReport.RESET]


def test_a_clock_that_goes_back_empties_the_memory_and_planning_goes_on(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    planner = make_planner()
    bench = make_bench(planner=planner).ready()
    for index in range(3):
        bench.plan(start_ns + 8 * S + index * PERIOD_NS)
    assert planner.resets == 1
    report, _ = bench.plan(start_ns)  # send_cycle sets the clock back first
    assert report.memory_reset and planner.resets == 2
    assert len(resets(bench)) == 1 and "clock jumped by -8" in resets(bench)[0].reason
    assert bench.reports.index(resets(bench)[0]) == 3
    report, _ = bench.plan(start_ns + PERIOD_NS)
    assert not report.memory_reset
    assert report.set_id == 5
    assert all(camera.problem() is None for camera in bench.node._line.cameras.values())


def test_stamps_that_go_back_without_a_clock_reset_as_well(make_bench: Callable, start_ns: int) -> None:
    # As `ros2 bag play --loop` without --clock, were the stamps those of today.
    bench = make_bench(max_age=60.0).ready()
    for index in range(3):
        bench.plan(start_ns + 20 * S + index * PERIOD_NS)
    now_ns = bench.now_ns
    bench.set_time = lambda at_ns: None  # the clock stays
    for index in range(3):
        for stamp_ns in bench.vehicle.camera_stamps(start_ns + index * PERIOD_NS).values():
            bench.odometry.publish(bench.vehicle.odometry(stamp_ns))
        for name, stamp_ns in bench.vehicle.camera_stamps(start_ns + index * PERIOD_NS).items():
            bench.images[name].publish(bench.vehicle.compressed(name, stamp_ns))
    bench.spin_until(lambda: resets(bench), "the report of the reset")
    bench.spin_until(
        lambda: any(
            one.outcome == SetReport.PLANNED and one.header.stamp.sec < now_ns // S - 10
            for one in bench.reports
        ),
        "a plan on the old time line",
    )


def test_the_reset_service_empties_the_memory_and_keeps_the_command(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    planner = make_planner()
    bench = make_bench(planner=planner).ready()
    bench.plan(start_ns)
    answer = bench.call("reset", Trigger.Request())
    assert answer.success
    report, _ = bench.plan(start_ns + PERIOD_NS)
    assert report.memory_reset and planner.resets == 2 and report.command.source == 2
    assert [one.reason for one in resets(bench)] == ["asked for by the ~/reset service"]


def test_a_set_in_work_when_a_reset_comes_is_dropped_and_reported(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    planner, go = make_planner(), threading.Event()

    def wait(frame: Any) -> Any:
        assert go.wait(10.0)
        return planner.straight_on(frame)

    planner.behaviour = wait
    bench = make_bench(planner=planner).ready()
    bench.send_cycle(start_ns)
    bench.spin_until(lambda: planner.frames, "the set in work")
    bench.send_cycle(start_ns + PERIOD_NS)  # this one waits
    bench.spin_until(lambda: bench.node._line._worker._waiting is not None, "the set that waits")
    bench.call("reset", Trigger.Request())
    go.set()
    bench.spin_until(lambda: len(bench.reports) == 3, "three reports")
    by_id = {report.set_id: report for report in bench.reports}
    assert by_id[0].outcome == SetReport.RESET
    for set_id in (1, 2):
        assert by_id[set_id].outcome == SetReport.REFUSED and "reset" in by_id[set_id].reason
    assert "plan" in [stage.name for stage in by_id[1].stages]
    assert "plan" not in [stage.name for stage in by_id[2].stages]
    bench.plan(start_ns + 2 * PERIOD_NS)
    assert len(bench.plans) == 1


def test_enable_switches_planning_off_and_on(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    assert bench.call("enable", SetBool.Request(data=False)).success
    report = bench.cycle(start_ns)
    assert report.outcome == SetReport.DISABLED and "~/enable" in report.reason
    bench.wait_diagnostics("planning is switched off")
    assert bench.call("enable", SetBool.Request(data=True)).success
    bench.plan(start_ns + PERIOD_NS)
    assert len(bench.plans) == 1


def test_at_simulated_time_zero_the_node_waits_for_the_clock(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(silent_after=0.2).wait_active().calibrate()
    for name, stamp_ns in bench.vehicle.camera_stamps(start_ns).items():
        bench.images[name].publish(bench.vehicle.compressed(name, stamp_ns))
    report = bench.next_report()
    assert report.outcome == SetReport.REFUSED and "--clock" in report.reason
    bench.wait_diagnostics("no /clock has been received")
    bench.plan(start_ns + PERIOD_NS)
    assert not resets(bench)  # time that begins is no jump


def test_a_stopped_clock_is_named(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(silent_after=0.2).ready()
    bench.plan(start_ns)
    bench.wait_diagnostics("/clock has stopped")


def test_recorded_stamps_on_todays_clock_say_what_to_set(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(use_sim_time=False).wait_active().calibrate()
    for name, stamp_ns in bench.vehicle.camera_stamps(start_ns).items():
        bench.images[name].publish(bench.vehicle.compressed(name, stamp_ns))
    report = bench.next_report()
    assert report.outcome == SetReport.REFUSED
    assert "years behind" in report.reason and "use_sim_time:=true" in report.reason
    # And setting it on the running node helps.
    assert bench.node.set_parameters([Parameter("use_sim_time", value=True)])[0].successful
    bench.set_time(start_ns + PERIOD_NS)
    bench.plan(start_ns + PERIOD_NS)


def test_stale_and_leading_sets_are_refused_with_figures(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    bench.set_time(start_ns + S)
    for reference_ns, part in (
        (start_ns + S - 700_000_000, "0.700 s old"),
        (start_ns + S + 200_000_000, "0.200 s"),
    ):
        for name, stamp_ns in bench.vehicle.camera_stamps(reference_ns).items():
            bench.images[name].publish(bench.vehicle.compressed(name, stamp_ns))
        report = bench.next_report()
        assert report.outcome == SetReport.REFUSED and part in report.reason
    bench.plan(start_ns + 2 * S)
