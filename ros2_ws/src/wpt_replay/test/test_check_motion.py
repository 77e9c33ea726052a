"""The judges of odometry, times, QoS and commands on made-up motion: what is wrong is named, what is right
is not.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_policy.frame import Command
from wpt_replay.bag_info import measure_stagger
from wpt_replay.check_observer import CommandTrack, StampTrack
from wpt_replay.check_planner import PlannerNeeds, judge_command
from wpt_replay.check_qos import (
    Offer,
    OfferedQos,
    judge_static_transforms,
    judge_subscriptions,
    replayed_by_rosbag2,
)
from wpt_replay.check_report import CheckReport, Finding, Status, fail, ok, per_camera
from wpt_replay.check_settings import load_settings
from wpt_replay.check_timing import count_cycles, judge_arrival, judge_clock, judge_timing
from wpt_replay.check_twist import judge_twist

MS = 1_000_000
START = 1_700_000_000_000 * MS
RIG = ("cam_a", "cam_b", "cam_c")
LATCHED, VOLATILE = OfferedQos("reliable", "transient_local"), OfferedQos("reliable", "volatile")
BEST_EFFORT = OfferedQos("best_effort", "transient_local", "/mounts")


def circle(
    speed: float, yaw_rate: float, *, heading: float = 0.4, hz: float = 50.0, seconds: float = 4.0
) -> dict:
    """A vehicle on a circle: the arguments of judge_twist, with the true twist."""
    t = np.arange(0.0, seconds, 1.0 / hz)
    yaw = heading + yaw_rate * t
    if yaw_rate:
        x, y = speed / yaw_rate * np.sin(yaw), -speed / yaw_rate * np.cos(yaw)
    else:
        x, y = speed * t * math.cos(heading), speed * t * math.sin(heading)
    zero, one = np.zeros_like(t), np.ones_like(t)
    cos, sin = np.cos(yaw), np.sin(yaw)
    rotation = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    return {
        "seconds": t,
        "position": np.stack([x, y, zero], axis=-1),
        "rotation": rotation,
        "linear": np.stack([speed * one, zero, zero], axis=-1),
        "angular": np.stack([zero, zero, yaw_rate * one], axis=-1),
    }


def judged(motion: dict) -> list[Finding]:
    return judge_twist(
        "/odom", **motion, base_from_child=np.eye(3), odom_frame="odom", child_frame="base_link"
    )


@given(
    st.floats(1.5, 40.0),
    st.sampled_from([0.0, 0.01, -0.05, 0.2, -0.4]),
    st.floats(-3.1, 3.1),
    st.sampled_from([10.0, 50.0, 115.0]),
)
def test_a_true_twist_is_never_blamed(speed: float, yaw_rate: float, heading: float, hz: float) -> None:
    findings = judged(circle(speed, yaw_rate, heading=heading, hz=hz))
    assert [finding.status for finding in findings] == [Status.OK], findings


@given(
    st.floats(3.0, 40.0),
    st.sampled_from([0.0, 0.1, -0.3]),
    st.sampled_from([(3.6, "km/h"), (2.23694, "mph"), (100.0, "cm/s")]),
)
def test_units_of_speed_are_named(speed: float, yaw_rate: float, unit: tuple[float, str]) -> None:
    motion = circle(speed, yaw_rate)
    motion["linear"] *= unit[0]
    assert judged(motion)[0].found.startswith(f"the twist is in {unit[1]}, expected m/s")


def test_wrong_twists_and_headings() -> None:
    def said(**changes: np.ndarray) -> str:
        findings = judged(circle(8.0, 0.2) | changes)
        assert findings[0].status is not Status.OK or findings[-1].status is not Status.OK
        return " | ".join(f"{finding.status.value} {finding.found}" for finding in findings)

    true = circle(8.0, 0.2)
    in_odom = np.einsum("nij,nj->ni", true["rotation"], true["linear"])
    assert "FAIL the twist is in the axes of odom, expected those of base_link" in said(linear=in_odom)
    assert "FAIL the twist points backward" in said(linear=-true["linear"])
    assert "FAIL the twist is zero while the poses move at 8.0 m/s" in said(linear=0 * true["linear"])
    sideways = true["linear"][:, [1, 0, 2]]
    assert "turned by 90 degrees" in said(linear=sideways)
    assert "1.40 times as much" in said(linear=1.4 * true["linear"])
    assert "FAIL the yaw rate is in degrees/s, expected rad/s" in said(angular=np.degrees(true["angular"]))
    assert "FAIL the yaw rate has the wrong sign" in said(angular=-true["angular"])
    assert "FAIL twist.angular.z is zero while the poses turn at 0.20 rad/s" in said(
        angular=0 * true["angular"]
    )
    from_north = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    turned = true["rotation"] @ from_north
    linear = true["linear"] @ from_north
    words = said(rotation=turned, linear=linear)
    assert "FAIL the pose's heading is 90 degrees (median) off the direction of motion" in words
    backward = true["rotation"] @ np.diag([-1.0, -1.0, 1.0])
    assert "warn the vehicle moves backward all the time" in said(rotation=backward, linear=-true["linear"])


def test_a_standing_vehicle_tells_nothing_but_a_contradiction() -> None:
    still = circle(0.0, 0.0)
    assert [finding.status for finding in judged(still)] == [Status.OK]
    assert "the vehicle stands" in judged(still)[0].found
    still["linear"][:, 0] = 5.0
    assert judged(still)[0].status is Status.FAIL and "the poses do not move" in judged(still)[0].found
    assert judged(circle(5.0, 0.0, seconds=0.1))[0].status is Status.WARN


# --- times
# ----------------------------------------------------------------------------------------------------------


def tracks(
    offsets_ms: tuple[float, ...], period_ms: float, *, count: int = 20, delay_ms: float = 10.0
) -> dict[str, StampTrack]:
    found = {}
    for camera, offset in zip(RIG, offsets_ms, strict=True):
        found[camera] = StampTrack()
        for tick in range(count):
            stamp = START + round((tick * period_ms + offset) * MS)
            found[camera].take(stamp, stamp + round(delay_ms * MS))
    return found


def timing(found: dict[str, StampTrack]) -> str:
    return "\n".join(finding.line() for finding in judge_timing(found, RIG, load_settings(), missing=False))


@given(st.lists(st.sets(st.integers(0, 19), max_size=6), min_size=3, max_size=3))
def test_complete_cycles_are_those_that_no_camera_lost(lost: list[set[int]]) -> None:
    stamps = {
        camera: np.array(
            [START + (100 * tick + 20 * place) * MS for tick in range(20) if tick not in lost[place]]
        )
        for place, camera in enumerate(RIG)
    }
    whole = {
        camera: [START + (100 * tick + 20 * place) * MS for tick in range(20)]
        for place, camera in enumerate(RIG)
    }
    cycles = count_cycles(stamps, measure_stagger(whole), 60 * MS)
    assert cycles.complete == 20 - len(set.union(*lost)) and cycles.complete <= cycles.total <= 20


def test_cameras_at_other_rates() -> None:
    found = tracks((0, 10, 20), 100)
    found["cam_c"] = tracks((0, 0, 20), 200, count=10)["cam_c"]
    assert "cam_c  47.4 % of its images are missing" in timing(found)
    found["cam_c"] = tracks((0, 0, 20), 65, count=30)["cam_c"]
    assert "cam_c  runs at 15.4 Hz and the rig at 10.0 Hz" in timing(found)
    assert "one image alone" in timing(tracks((0, 10, 20), 100, count=1))


def test_a_fast_synchronous_rig_needs_a_smaller_bound() -> None:
    words = timing(tracks((0, 0, 0), 33.3))
    assert "FAIL  max_skew  60.0 ms is too large" in words and "set max_skew to 0.017" in words


def test_one_camera_with_a_clock_of_its_own() -> None:
    found = tracks((0, 10, 20), 100)
    for stamp in found.pop("cam_b").stamps_ns:
        found.setdefault("cam_b", StampTrack()).take(int(stamp) - 3000 * MS, int(stamp) + 10 * MS)
    found = {camera: found[camera] for camera in RIG}
    lines = [finding.line() for finding in judge_clock(found, StampTrack(), RIG, load_settings(), live=False)]
    assert lines[0].startswith("ok ") and "10 ms before their recording" in lines[0]
    assert "warn  cam_b  its stamps lie 3000 ms behind those of the other cameras" in lines[1]
    assert "none of 20 cycles is complete" in timing(found) or "cycles are complete" in timing(found)


def test_stamps_in_the_future_and_simulated_time() -> None:
    settings = load_settings()
    ahead = tracks((0, 10, 20), 100, delay_ms=-120)
    assert (
        "120 ms after their arrival (median), expected at most stamp_lead 0.05 s"
        in judge_clock(ahead, StampTrack(), RIG, settings, live=True)[0].found
    )
    silent = judge_clock(tracks((0, 10, 20), 100), StampTrack(), RIG, settings, live=True, simulated=True)
    assert silent[0].subject == "/clock" and silent[0].status is Status.FAIL
    old = tracks((0, 10, 20), 100, delay_ms=4e7)
    found = judge_clock(old, StampTrack(), RIG, settings, live=True)[0]
    assert (
        "image stamps are 11.1 hours behind ROS time" in found.found and "use_sim_time:=true" in found.remedy
    )


def test_a_slow_transport_outlasts_the_set_timeout() -> None:
    found = tracks((0, 10, 20), 100)
    late = StampTrack()
    for stamp in found["cam_b"].stamps_ns:
        late.take(int(stamp), int(stamp) + 150 * MS)
    lines = judge_arrival(found | {"cam_b": late}, load_settings())
    assert (
        "arrive over 150 ms and a set waits 100 ms" in lines[0].found
        and judge_arrival(found, load_settings()) == []
    )


# --- QoS, commands, report
# ------------------------------------------------------------------------------------------


def static(qos: tuple[OfferedQos, ...], **times: float | None) -> list[Finding]:
    offer = Offer(name="/tf_static", type_name="tf2_msgs/msg/TFMessage", count=None, qos=qos)
    values = {"first_s": 0.0, "interval_s": None, "live": False} | times
    return judge_static_transforms(offer, **values)


def test_qos_of_static_transforms() -> None:
    assert replayed_by_rosbag2(()) == VOLATILE and replayed_by_rosbag2((LATCHED, VOLATILE)) == VOLATILE
    assert replayed_by_rosbag2((LATCHED, LATCHED)) == LATCHED
    assert [finding.status for finding in static((LATCHED,))] == [Status.OK]
    assert [finding.status for finding in static(())] == [
        Status.WARN
    ]  # recorded without profiles: played volatile
    assert [finding.status for finding in static((LATCHED, VOLATILE))] == [Status.WARN]
    assert [finding.status for finding in static((VOLATILE,), interval_s=1.0)] == [Status.OK]
    assert [finding.status for finding in static((LATCHED,), first_s=4.0)] == [Status.OK, Status.WARN]
    refused = static((BEST_EFFORT,), live=True)[0]
    assert (
        refused.status is Status.FAIL
        and "incompatible QoS, reliability: /mounts offers best_effort" in refused.found
    )
    assert static((VOLATILE,), live=True, first_s=None)[0].status is Status.FAIL
    assert static((VOLATILE,), live=True)[0].status is Status.WARN


def test_qos_that_the_users_overrides_forbid() -> None:
    offer = Offer(name="/odom", type_name="nav_msgs/msg/Odometry", count=None, qos=(BEST_EFFORT,))
    assert judge_subscriptions([offer], {}, live=True) == []
    asked = {"qos_overrides./odom.subscription.reliability": "reliable"}
    found = judge_subscriptions([offer], asked, live=True)[0]
    assert (
        "incompatible QoS, reliability: /mounts offers best_effort and qos_overrides ask for reliable"
        in found.found
    )


def test_commands() -> None:
    settings = load_settings()
    needs = PlannerNeeds(
        name="policy",
        cameras=RIG,
        may_mask=frozenset(),
        image_input=None,
        commands=(Command.LEFT, Command.STRAIGHT),
        needs_ego=True,
    )
    assert [finding.status for finding in judge_command(None, "/c", needs, settings)] == [Status.WARN]
    track = CommandTrack(commands=Counter({1: 3, 3: 2}), sources=Counter({2: 5}))
    track.times.count = 5
    assert [finding.status for finding in judge_command(track, "/c", needs, settings)] == [Status.OK]
    track.commands = Counter({2: 1, 9: 4})
    found = judge_command(track, "/c", needs, settings)
    assert [finding.status for finding in found] == [Status.WARN, Status.FAIL]
    assert (
        "has commands [9]" in found[0].found
        and "asks for right, which policy does not know" in found[1].found
    )


def test_cameras_that_say_the_same_are_one_line() -> None:
    findings = {camera: fail(camera, "no images", "send some") for camera in RIG}
    assert [finding.subject for finding in per_camera(RIG, findings)] == ["all 3 cameras"]
    findings["cam_b"] = fail("cam_b", "no picture", "send some")
    assert [finding.subject for finding in per_camera(RIG, findings)] == ["cam_a, cam_c", "cam_b"]


@pytest.mark.parametrize(
    ("findings", "code"), [([], 1), ([ok("a", "b")], 0), ([ok("a", "b"), fail("a", "b", "c")], 1)]
)
def test_exit_code(findings: list[Finding], code: int) -> None:
    assert CheckReport(source="x", planner="p", findings=findings).exit_code == code
