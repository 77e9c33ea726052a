"""Autostart: one step after the other, patient where something fails, gone once somebody else acts."""

from __future__ import annotations

from wpt_planner.autostart import Autostart

S = 10**9


def test_it_configures_then_activates_then_rests() -> None:
    autostart = Autostart(enabled=True)
    assert autostart.next_action("unconfigured", 0) == "configure"
    autostart.tried(succeeded=True, now_ns=0)
    assert autostart.next_action("inactive", 0) == "activate"
    autostart.tried(succeeded=True, now_ns=0)
    assert autostart.next_action("active", 0) is None
    assert autostart.next_action("finalized", 0) is None


def test_it_waits_longer_after_each_failure_up_to_half_a_minute() -> None:
    autostart, now, waits = Autostart(enabled=True), 0, []
    for _ in range(8):
        autostart.tried(succeeded=False, now_ns=now)
        waits.append(autostart.seconds_to_next(now))
        assert autostart.next_action("unconfigured", now) is None
        now += round(waits[-1] * S)
        assert autostart.next_action("unconfigured", now) == "configure"
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    autostart.tried(succeeded=True, now_ns=now)
    autostart.tried(succeeded=False, now_ns=now)
    assert autostart.seconds_to_next(now) == 1


def test_a_transition_of_somebody_else_ends_it_and_its_own_does_not() -> None:
    autostart = Autostart(enabled=True)
    with autostart.acting():
        autostart.transition_begins()
    assert autostart.enabled
    autostart.transition_begins()
    assert autostart.next_action("unconfigured", 0) is None and autostart.seconds_to_next(0) is None
