"""More sets than can be planned on: the newest wins, the others are counted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from wpt_msgs.msg import SetReport

pytestmark = pytest.mark.node
PERIOD_NS = 10**9 // 12


def test_the_newest_set_wins_and_the_skipped_are_counted(
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
    for index in (1, 2, 3):
        bench.send_cycle(start_ns + index * PERIOD_NS)
    bench.spin_until(lambda: len(bench.reports) == 2, "two skipped sets")
    go.set()
    bench.spin_until(lambda: len(bench.reports) == 4, "all four reports")
    outcomes = {report.set_id: (report.outcome, report.skipped_before) for report in bench.reports}
    assert outcomes == {
        1: (SetReport.PLANNED, 2),
        2: (SetReport.SKIPPED_BUSY, 1),
        3: (SetReport.SKIPPED_BUSY, 2),
        4: (SetReport.PLANNED, 0),
    }
    bench.spin_until(lambda: len(bench.plans) == 2, "two plans")
    assert [plan.set_id for plan in bench.plans] == [1, 4]
    bench.wait_diagnostics("sets skipped_busy: 2")


def test_max_plan_rate_leaves_sets_out(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(max_plan_rate=6.0).ready()
    outcomes = [bench.cycle(start_ns + index * PERIOD_NS).outcome for index in range(6)]
    assert outcomes == [SetReport.PLANNED, SetReport.SKIPPED_RATE] * 3


def test_a_plan_that_took_longer_than_max_age_is_not_published(
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
    bench.set_time(start_ns + 800_000_000)
    go.set()
    report = bench.next_report()
    assert report.outcome == SetReport.REFUSED and "0.800 s old when published" in report.reason
    bench.plan(start_ns + 10**9)
    assert len(bench.plans) == 1
