"""What /diagnostics says: the culprit first, figures of the last minute, and no flood on the log."""

from __future__ import annotations

import math

from wpt_planner.findings import Finding, Level, Rank
from wpt_planner.health import Health, Tally, percentiles, summary

S = 10**9


def finding(rank: Rank, subject: str = "x", level: Level = Level.WARN, sentence: str = "") -> Finding:
    return Finding(rank=rank, level=level, subject=subject, sentence=sentence or f"{rank.name} {subject}")


def test_the_cause_comes_before_its_consequences_and_the_level_is_the_worst() -> None:
    health = Health()
    health.note(finding(Rank.SET, level=Level.ERROR), 0)
    found = health.findings([finding(Rank.SILENCE, level=Level.ERROR), finding(Rank.CAMERA, "cam_back")], 0)
    assert [one.rank for one in found] == [Rank.CAMERA, Rank.SET, Rank.SILENCE]
    assert summary(found, "good") == (Level.ERROR, "CAMERA cam_back (and 2 more)")


def test_without_findings_the_line_is_the_good_one() -> None:
    assert summary([], "planning at 12.0 Hz") == (Level.OK, "planning at 12.0 Hz")


def test_a_standing_finding_replaces_a_noted_one_of_the_same_subject() -> None:
    health = Health()
    health.note(finding(Rank.CAMERA, "cam_back", sentence="broken image"), 0)
    found = health.findings([finding(Rank.CAMERA, "cam_back", sentence="silent")], S)
    assert [one.sentence for one in found] == ["silent"]


def test_events_fade_and_can_heal() -> None:
    health = Health()
    health.note(finding(Rank.CAMERA), 0)
    assert health.findings([], 5 * S) and not health.findings([], 5 * S + 1)
    health.note(finding(Rank.CAMERA), 6 * S)
    health.clear(Rank.CAMERA, "x")
    assert not health.findings([], 6 * S)


def test_a_repeated_event_is_logged_once_in_five_seconds_unless_it_says_something_else() -> None:
    health = Health()
    logged = [
        health.note(finding(Rank.CAMERA, sentence=f"{i} bytes cut short"), i * S // 10) for i in range(60)
    ]
    assert [i for i, now in enumerate(logged) if now] == [0, 51]
    assert health.note(finding(Rank.CAMERA, sentence="wrong encoding"), 6 * S)


def test_measurements_are_of_the_last_minute() -> None:
    tally = Tally()
    for second in range(100):
        tally.measure("age_ms", second * S, float(second))
    values = tally.values("age_ms", 99 * S)
    assert min(values) == 39.0 and max(values) == 99.0


def test_a_rate_falls_when_something_stops() -> None:
    tally = Tally()
    for tick in range(120):
        tally.measure("plan", tick * S // 12, 0.0)
    assert abs(tally.rate_hz("plan", 119 * S // 12) - 12.0) < 0.5
    assert tally.rate_hz("plan", 15 * S) < 8.0
    assert tally.rate_hz("nothing", 0) == 0.0


def test_percentiles_by_nearest_rank() -> None:
    assert percentiles([float(i) for i in range(1, 101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}
    assert percentiles([7.0]) == {"p50": 7.0, "p99": 7.0, "max": 7.0}
    assert all(math.isnan(value) for value in percentiles([]).values())


def test_the_skipped_share_is_of_the_last_ten_seconds_and_of_enough_sets() -> None:
    tally = Tally()
    for index in range(9):
        tally.measure("skipped_busy", index * S, 1.0)
    assert tally.skipped_share(9 * S) == 0.0
    for index in range(9, 30):
        tally.measure("skipped_busy", index * S, float(index % 2))
    assert tally.skipped_share(29 * S) == 6 / 11
