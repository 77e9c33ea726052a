"""What the watchdogs say about a snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from wpt_planner.findings import Finding, Level, Rank
from wpt_planner.watchdogs import CameraWatch, ClockWatch, Snapshot, TopicWatch, standing_findings

S = 10**9
NOW = 100 * S


def camera(
    name: str = "cam_back", *, last_ns: int | None = NOW, publishers: int = 1, **changes: object
) -> CameraWatch:
    return CameraWatch(
        name=name,
        images=TopicWatch(
            name=f"/sensing/{name}/image_rect/compressed", publishers=publishers, last_ns=last_ns
        ),
        camera_info=TopicWatch(name=f"/sensing/{name}/camera_info", publishers=1),
        other_transport="raw",
        **changes,
    )


def snapshot(**changes: object) -> Snapshot:
    good = Snapshot(
        now_ns=NOW,
        active_since_ns=NOW - 20 * S,
        silent_after_ns=S,
        enabled=True,
        clock=ClockWatch(simulated=False, now_ns=1, advanced_ns=NOW),
        cameras=(camera(),),
        odometry=TopicWatch(name="/localization/kinematic_state", publishers=1, last_ns=NOW),
        needs_ego=True,
        last_plan_ns=NOW,
    )
    return replace(good, **changes)


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_nothing_is_wrong_with_a_running_node() -> None:
    assert standing_findings(snapshot()) == []


def test_a_silent_camera_is_named_with_its_silence() -> None:
    finding = only(
        standing_findings(snapshot(cameras=(camera(last_ns=NOW - 32 * S // 10), camera("cam_front"))))
    )
    assert finding.sentence.startswith("cam_back has been silent for 3.2 s")
    assert (finding.rank, finding.level) == (Rank.CAMERA, Level.ERROR)


@pytest.mark.parametrize(
    ("changes", "topics", "parts"),
    [
        (
            {"publishers": 0},
            (),
            ("has sent no image in 20.0 s", "nobody publishes /sensing/cam_back/image_rect/compressed"),
        ),
        ({"publishers": 0, "other_publishers": 1}, (), ("transport:=raw",)),
        ({"publishers": 0}, ("/front/image",), ("/front/image", "remap")),
        ({"publishers": 1}, (), ("1 publisher",)),
    ],
)
def test_a_camera_that_never_came_says_where_its_images_may_be(
    changes: dict, topics: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    finding = only(
        standing_findings(snapshot(cameras=(camera(last_ns=None, **changes),), other_image_topics=topics))
    )
    for part in parts:
        assert part in finding.sentence


def test_a_calibration_problem_is_told_once_images_come() -> None:
    finding = only(standing_findings(snapshot(cameras=(camera(problem="camera cam_back has no mount"),))))
    assert (finding.rank, finding.level) == (Rank.CALIBRATION, Level.ERROR)
    silent = standing_findings(snapshot(cameras=(camera(problem="no mount", last_ns=None),)))
    assert [one.rank for one in silent] == [Rank.CAMERA]


def test_a_camera_info_that_nobody_publishes_is_named() -> None:
    watched = replace(
        camera(problem="camera cam_back has no camera_info yet"),
        camera_info=TopicWatch(name="/sensing/cam_back/camera_info", publishers=0),
    )
    assert (
        "nobody publishes /sensing/cam_back/camera_info"
        in only(standing_findings(snapshot(cameras=(watched,)))).sentence
    )


def test_doubtful_mounts_are_warnings() -> None:
    finding = only(standing_findings(snapshot(cameras=(camera(warnings=("looks backwards",)),))))
    assert (finding.level, finding.sentence) == (Level.WARN, "looks backwards")


def test_odometry_is_an_error_only_for_planners_that_need_it() -> None:
    silent = TopicWatch(name="/odometry", publishers=0)
    assert only(standing_findings(snapshot(odometry=silent))).level is Level.ERROR
    finding = only(standing_findings(snapshot(odometry=silent, needs_ego=False)))
    assert finding.level is Level.WARN and "nobody publishes" in finding.sentence
    stopped = TopicWatch(name="/odometry", publishers=1, last_ns=NOW - 4 * S)
    assert "silent for 4.0 s" in only(standing_findings(snapshot(odometry=stopped))).sentence


def test_the_clock_is_watched_only_where_it_is_simulated() -> None:
    stopped = ClockWatch(simulated=True, now_ns=5, advanced_ns=NOW - 3 * S)
    assert "/clock has stopped 3.0 s ago" in only(standing_findings(snapshot(clock=stopped))).sentence
    assert "--clock" in only(standing_findings(snapshot(clock=replace(stopped, now_ns=0)))).sentence
    assert standing_findings(snapshot(clock=replace(stopped, simulated=False))) == []


def test_silence_of_plans_is_said_unless_planning_is_switched_off() -> None:
    assert "for 5.0 s" in only(standing_findings(snapshot(last_plan_ns=NOW - 5 * S))).sentence
    assert "since activation" in only(standing_findings(snapshot(last_plan_ns=None))).sentence
    off = standing_findings(snapshot(last_plan_ns=None, enabled=False))
    assert only(off).rank is Rank.STATE


def test_losses_skew_and_quality_of_service_are_handed_on() -> None:
    findings = standing_findings(
        snapshot(
            losses=("cam_back: 3 % lost before this node", "cam_front: 2 % lost before this node"),
            skew_problem="max_skew is too small",
            incompatible=(("/odometry", "incompatible reliability"),),
        )
    )
    assert {one.rank for one in findings} == {Rank.RATE, Rank.CONNECTION} and len(findings) == 4
    assert len({(one.rank, one.subject) for one in findings}) == 4


def test_a_planner_that_is_too_slow_is_named_with_the_share() -> None:
    assert standing_findings(snapshot(skipped_share=0.05)) == []
    assert "40 %" in only(standing_findings(snapshot(skipped_share=0.4))).sentence
