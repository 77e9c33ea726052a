"""Every bad input: one clear sentence in the set's report and in /diagnostics, and the node plans afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from tf2_msgs.msg import TFMessage
from wpt_msgs.msg import SetReport

pytestmark = pytest.mark.node
PERIOD_NS = 10**9 // 12
LATER_NS = 10**9


def refused(
    bench: Any, reference_ns: int, *parts: str, outcome: int = SetReport.REFUSED, **options: Any
) -> SetReport:
    """Send one cycle that must be refused with all parts in one sentence, on report and diagnostics."""
    report = bench.cycle(reference_ns, **options)
    assert report.outcome == outcome, report.reason
    for part in parts:
        assert part in report.reason, report.reason
    assert "\n" not in report.reason and math.isnan(report.latency_ms) and report.published_steady_ns == 0
    bench.wait_diagnostics(*parts)
    return report


# Images


def test_a_wrong_encoding(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(transport="raw").ready()
    bench.plan(start_ns)
    bad = bench.vehicle.raw("cam_back", start_ns + PERIOD_NS, encoding="yuv422")
    report = refused(bench, start_ns + PERIOD_NS, "cam_back", "yuv422", cam_back=bad)
    assert report.camera_status[3] == SetReport.CAMERA_FAILED
    bench.plan(start_ns + 2 * PERIOD_NS)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: b"", "empty"),
        (lambda data: b"GIF89a" + data, "JPEG or PNG"),
    ],
    ids=["truncated", "empty", "another format"],
)
def test_a_broken_jpeg(
    make_bench: Callable, start_ns: int, spoil: Callable[[bytes], bytes], part: str
) -> None:
    bench = make_bench().ready()
    bench.plan(start_ns)
    bad = bench.vehicle.compressed("cam_back", start_ns + PERIOD_NS)
    data = spoil(bytes(bad.data))
    del bad.data[:]
    bad.data.frombytes(data)
    refused(bench, start_ns + PERIOD_NS, "cam_back", part, cam_back=bad)
    bench.plan(start_ns + 2 * PERIOD_NS)


def test_a_jpeg_whose_inside_is_broken_is_found_by_decoding(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    bench = make_bench(planner=make_planner()).ready()
    bench.plan(start_ns)
    bad = bench.vehicle.compressed("cam_back", start_ns + PERIOD_NS)
    whole = bytes(bad.data)
    header_end = whole.find(b"\xff\xda")
    del bad.data[:]
    bad.data.frombytes(whole[:2] + b"\xff\xd9" + whole[2:40] + whole[header_end:])
    refused(bench, start_ns + PERIOD_NS, "cam_back", cam_back=bad)
    bench.plan(start_ns + 2 * PERIOD_NS)


def test_a_size_change_in_mid_stream(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    bench.plan(start_ns)
    small = type(bench.vehicle)(width=80, height=45).compressed("cam_back", start_ns + PERIOD_NS)
    refused(bench, start_ns + PERIOD_NS, "cam_back", "80x45", "160x90", cam_back=small)
    bench.plan(start_ns + 2 * PERIOD_NS)


def test_an_empty_frame_id(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    bad = bench.vehicle.compressed("cam_back", start_ns)
    bad.header.frame_id = ""
    refused(bench, start_ns, "cam_back", "frame_id", cam_back=bad)
    bench.plan(start_ns + PERIOD_NS)


def test_stamp_zero_belongs_to_no_set(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    bench.images["cam_back"].publish(bench.vehicle.compressed("cam_back", 0))
    bench.wait_diagnostics("cam_back", "stamp 0.0")
    bench.plan(start_ns)


def test_a_stamp_that_goes_back_and_a_duplicate_are_named_and_spoil_no_set(
    make_bench: Callable, start_ns: int
) -> None:
    bench = make_bench().ready()
    for index in range(3):
        bench.plan(start_ns + index * PERIOD_NS)
    now_ns = start_ns + 2 * PERIOD_NS
    bench.images["cam_back"].publish(bench.vehicle.compressed("cam_back", now_ns - 10_000_000))
    bench.wait_diagnostics("cam_back", "received before")
    bench.images["cam_back"].publish(
        bench.vehicle.compressed("cam_back", now_ns - 10_000_000 - PERIOD_NS // 2)
    )
    bench.wait_diagnostics("cam_back", "goes back")
    report, _ = bench.plan(start_ns + 3 * PERIOD_NS)
    assert report.set_id == 4


# Calibration


@pytest.mark.parametrize(
    ("k", "part"),
    [
        ([math.nan] * 9, "finite"),
        ([0.0] * 9, "P[0]"),
    ],
    ids=["NaN", "singular"],
)
def test_impossible_intrinsics_are_refused_until_good_ones_come(
    make_bench: Callable, start_ns: int, k: list[float], part: str
) -> None:
    bench = make_bench().wait_active()
    bench.set_time(start_ns)
    bench.transforms.publish(bench.vehicle.transforms())
    for name, publisher in bench.camera_infos.items():
        message = bench.vehicle.camera_info(name)
        if name == "cam_back":
            message.k = k
            message.p = np.hstack([np.array(k).reshape(3, 3), np.zeros((3, 1))]).ravel()
        publisher.publish(message)
    cameras = bench.node._line.cameras
    bench.spin_until(
        lambda: sum(camera.problem() is None for camera in cameras.values()) == 5, "five calibrations"
    )
    bench.spin_until(
        lambda: "no camera_info" not in cameras["cam_back"].problem().sentence, "the bad camera_info"
    )
    refused(bench, start_ns, "cam_back")
    bench.calibrate()
    bench.plan(start_ns + PERIOD_NS)


def test_intrinsics_of_another_resolution(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    bench.plan(start_ns)
    bench.camera_infos["cam_back"].publish(
        type(bench.vehicle)(width=1600, height=900).camera_info("cam_back")
    )
    bench.wait_diagnostics("cam_back", "changed")
    refused(bench, start_ns + PERIOD_NS, "cam_back", "160x90", "1600x900")
    bench.calibrate()
    bench.wait_diagnostics("cam_back")
    bench.plan(start_ns + 2 * PERIOD_NS)


def test_missing_camera_info_and_missing_transform_are_named_and_heal(
    make_bench: Callable, start_ns: int
) -> None:
    bench = make_bench().wait_active()
    refused(bench, start_ns, "cam_front", "camera_info")
    for name, publisher in bench.camera_infos.items():
        publisher.publish(bench.vehicle.camera_info(name))
    cameras = bench.node._line.cameras
    bench.spin_until(
        lambda: all("camera_info" not in camera.problem().sentence for camera in cameras.values()),
        "camera_infos",
    )
    refused(bench, start_ns + PERIOD_NS, "cam_front", "/tf_static")
    bench.transforms.publish(bench.vehicle.transforms("cam_front"))
    bench.spin_until(lambda: cameras["cam_front"].problem() is None, "the mount of cam_front")
    refused(bench, start_ns + 2 * PERIOD_NS, "cam_front_right", "/tf_static")
    bench.calibrate()
    bench.plan(start_ns + 3 * PERIOD_NS)


def test_transforms_that_are_volatile_or_twice_there_work(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(volatile_transforms=True).ready()
    bench.transforms.publish(bench.vehicle.transforms())
    bench.plan(start_ns)
    report, _ = bench.plan(start_ns + PERIOD_NS)
    assert not report.memory_reset


def test_a_transform_with_a_quaternion_that_is_none_is_refused(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench().ready()
    bad = TransformStamped()
    bad.header.frame_id, bad.child_frame_id = "base_link", "cam_back"
    bad.transform.rotation.w = 2.0
    bench.transforms.publish(TFMessage(transforms=[bad]))
    bench.wait_diagnostics("cam_back", "quaternion", "length 2")
    bench.plan(start_ns)


def test_a_bundle_for_another_rig_names_the_missing_topics_and_those_that_are_there(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    planner = make_planner(cameras=("front_wide", "rear"))
    bench = make_bench(planner=planner, silent_after=0.05)
    bench.spin_until(lambda: bench.node.state_label == "active", "activation")
    text = bench.wait_diagnostics("front_wide", "nobody publishes /sensing/front_wide/image_rect/compressed")
    assert "/sensing/cam_front/image_rect/compressed" in text
    assert bench.diagnostics[-1].status[0].level == DiagnosticStatus.ERROR


# Ego motion


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda message: setattr(message.pose.pose.position, "x", math.nan), "finite"),
        (lambda message: setattr(message.twist.twist.linear, "x", math.inf), "finite"),
        (lambda message: setattr(message.pose.pose.orientation, "w", 3.0), "length 3"),
        (lambda message: setattr(message.header.stamp, "sec", 0), "odometry"),
        (lambda message: setattr(message, "child_frame_id", ""), "child_frame_id"),
        (lambda message: setattr(message, "child_frame_id", "imu"), "imu"),
    ],
    ids=[
        "NaN pose",
        "infinite twist",
        "no unit quaternion",
        "stamp zero",
        "no child frame",
        "unknown child frame",
    ],
)
def test_bad_odometry_is_named_and_the_good_is_used(
    make_bench: Callable, start_ns: int, spoil: Callable[[Any], None], part: str
) -> None:
    bench = make_bench().ready()
    message = bench.vehicle.odometry(start_ns - 10_000_000)
    spoil(message)
    if "sec" in str(message.header.stamp) and message.header.stamp.sec == 0:
        message.header.stamp.nanosec = 0
    bench.odometry.publish(message)
    bench.wait_diagnostics("odometry", part)
    bench.plan(start_ns)


def test_without_odometry_a_planner_that_needs_it_is_refused_and_heals(
    make_bench: Callable, start_ns: int
) -> None:
    bench = make_bench().ready()
    for name, stamp_ns in bench.vehicle.camera_stamps(start_ns).items():
        bench.images[name].publish(bench.vehicle.compressed(name, stamp_ns))
    report = bench.next_report()
    assert report.outcome == SetReport.REFUSED and report.ego_source == SetReport.EGO_NONE
    assert "odometry" in report.reason and "constant_velocity needs it" in report.reason
    bench.plan(start_ns + PERIOD_NS)


def test_without_odometry_other_planners_are_flagged_or_refused_by_parameter(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    for require_ego in (False, True):
        bench = make_bench(planner=make_planner(), require_ego=require_ego).ready()
        for name, stamp_ns in bench.vehicle.camera_stamps(start_ns).items():
            bench.images[name].publish(bench.vehicle.compressed(name, stamp_ns))
        report = bench.next_report()
        if require_ego:
            assert report.outcome == SetReport.REFUSED and "require_ego" in report.reason
        else:
            assert report.outcome == SetReport.PLANNED and report.flags & 8 and not report.camera_ego_poses


def test_a_pose_jump_resets_the_memory(make_bench: Callable, make_planner: Callable, start_ns: int) -> None:
    planner = make_planner()
    bench = make_bench(planner=planner).ready()
    for index in range(3):
        bench.plan(start_ns + index * PERIOD_NS)
    assert planner.resets == 1  # at its first set after activation
    jumped = bench.vehicle.odometry(start_ns + 2 * PERIOD_NS + 20_000_000)
    jumped.pose.pose.position.y += 30.0
    bench.odometry.publish(jumped)
    reset = bench.next_report("the report of the reset")
    assert reset.outcome == SetReport.RESET and reset.set_id == 0 and "jumped" in reset.reason


# Commands and planners


def test_an_unknown_command_is_named_and_the_default_used(make_bench: Callable, start_ns: int) -> None:
    bench = make_bench(default_command="left").ready()
    bench.command.publish(bench.vehicle.command(start_ns, command=99))
    bench.wait_diagnostics("driving command 99")
    for name, stamp_ns in bench.vehicle.camera_stamps(start_ns).items():
        bench.images[name].publish(bench.vehicle.compressed(name, stamp_ns))
    bench.odometry.publish(bench.vehicle.odometry(start_ns))
    report = bench.next_report()
    assert (report.command.command, report.command.source) == (1, 1)
    bench.wait_diagnostics("default_command left is used")
    bench.plan(start_ns + PERIOD_NS)


def raising(frame: Any) -> np.ndarray:
    raise ZeroDivisionError("one too many")


def not_finite(frame: Any) -> np.ndarray:
    return np.full((7, 2), math.nan)


def leaping(frame: Any) -> np.ndarray:
    return np.column_stack([np.arange(7) * 100.0, np.zeros(7)])


@pytest.mark.parametrize(
    ("behaviour", "parts"),
    [
        (raising, ("ZeroDivisionError", "one too many")),
        (not_finite, ("not finite",)),
        (leaping, ("speed", "60 m/s")),
        (lambda frame: np.zeros(3), ("shape",)),
        (lambda frame: None, ()),
    ],
    ids=["raises", "NaN", "impossible speed", "wrong shape", "nothing"],
)
def test_a_planner_that_fails_is_refused_and_gets_the_next_set(
    make_bench: Callable, make_planner: Callable, start_ns: int, behaviour: Callable, parts: tuple[str, ...]
) -> None:
    planner = make_planner()
    bench = make_bench(planner=planner).ready()
    bench.plan(start_ns)
    planner.behaviour = behaviour
    report = refused(bench, start_ns + PERIOD_NS, *parts)
    assert "plan" in [stage.name for stage in report.stages]
    planner.behaviour = planner.straight_on
    bench.plan(start_ns + 2 * PERIOD_NS)
    assert len(bench.plans) == 2
