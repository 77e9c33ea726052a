"""`wpt-replay check --live` against a bag that is being played."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from wpt_replay.bag_writer import reliable
from wpt_replay.check_live import check_live
from wpt_replay.check_planner import load_needs
from wpt_replay.check_report import CheckReport
from wpt_replay.check_settings import load_presets, load_settings
from wpt_replay.replay_cli import main
from wpt_replay.replay_node import Replayer
from wpt_replay.replay_report import ReplayOptions

pytestmark = pytest.mark.node
CAMERAS = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")
AWAITED = (
    *(f"/sensing/{camera}/image_rect/compressed" for camera in CAMERAS),
    *(f"/sensing/{camera}/camera_info" for camera in CAMERAS),
    "/localization/kinematic_state",
    "/planning/command",
    "/tf_static",
)


def listen_to(bag: Path, ros_domain_id: int) -> CheckReport:
    """Play a bag once, when everything that the check listens to is connected, and return the check's
    report.
    """
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain_id, args=[])
    executor = SingleThreadedExecutor(context=context)
    node = rclpy.create_node("player", context=context)
    executor.add_node(node)
    spinner = threading.Thread(target=spin, args=(executor,), daemon=True)
    spinner.start()
    ended = threading.Event()

    def play() -> None:
        try:
            options = ReplayOptions(wait_for=AWAITED, wait_timeout_s=30.0)
            Replayer(node, bag, options).run()
        finally:
            ended.set()

    player = threading.Thread(target=play, daemon=True)
    player.start()
    settings = load_settings()
    needs = load_needs("constant_velocity", settings)
    report = check_live(60.0, settings, load_presets(), needs, {}, None, [], ended.is_set)
    player.join(timeout=10.0)
    executor.shutdown(timeout_sec=1.0)
    spinner.join(timeout=2.0)
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    return report


def spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass


def test_a_vehicle_that_is_well_but_for_its_static_transforms(
    factory_bag: Path, rewrite_bag: Callable[..., Path], ros_domain_id: int
) -> None:
    bag = rewrite_bag(factory_bag, qos={"/tf_static": reliable(10)})
    report = listen_to(bag, ros_domain_id)
    text = report.as_text()
    lines = text.splitlines()
    assert report.can_run, text
    assert "our own names: 6 of 6 cameras (compressed images), 6 camera_info, odometry" in lines[0]
    assert "use_sim_time:=true" in lines[0]
    warnings = [line for line in lines if line.startswith("warn ")]
    assert "is offered volatile by /player: only a planner that listens when it is sent gets it" in "\n".join(
        warnings
    )
    assert (
        "images are 160x90 jpeg" in text and "twist agrees with the poses" in text and "cam_back 180" in text
    )
    assert "ROS time is /clock: start the planner with use_sim_time:=true" in text


def test_nothing_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--live", "--seconds", "0.5"]) == 1
    text = capsys.readouterr().out
    assert (
        "FAIL  topics" in text and "no preset explains a camera; there are 0 image topics with images" in text
    )
    assert text.splitlines()[-1].startswith("wpt-compact cannot run on live topics of 0.5 s")
