"""Configure, activate, deactivate, clean up; autostart; what cannot be configured says why and heals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from wpt_policy.baselines import ConstantVelocityPlanner
from wpt_policy.frame import Command

pytestmark = pytest.mark.node
PERIOD_NS = 10**9 // 12
LIMIT_S = 30.0


def input_subscriptions(bench: Any) -> int:
    return sum(
        bench.feeder.count_subscribers(f"/sensing/{name}/camera_info") for name in bench.vehicle.cameras
    )


def test_inputs_exist_only_while_active_and_it_plans_again_after_reactivation(
    make_bench: Callable, start_ns: int
) -> None:
    bench = make_bench().ready()
    report, _ = bench.plan(start_ns)
    assert report.set_id == 1
    assert bench.change_state(Transition.TRANSITION_DEACTIVATE)
    assert bench.node.state_label == "inactive"
    bench.spin_until(lambda: input_subscriptions(bench) == 0, "the end of the subscriptions")
    assert bench.transforms.get_subscription_count() >= 1
    text = bench.wait_diagnostics(
        "not planning: the node is inactive", "ros2 lifecycle set /planner activate"
    )
    assert "state: inactive" in text
    assert bench.change_state(Transition.TRANSITION_ACTIVATE)
    bench.wait_active()
    report, _ = bench.plan(start_ns + PERIOD_NS)  # calibration has survived
    assert report.set_id == 1 and report.memory_reset


def test_autostart_leaves_a_node_alone_that_a_user_has_deactivated(make_bench: Callable) -> None:
    bench = make_bench().wait_active()
    assert bench.change_state(Transition.TRANSITION_DEACTIVATE)
    seen = len(bench.diagnostics)
    bench.spin_until(lambda: len(bench.diagnostics) >= seen + 3, "three more diagnostics")
    assert bench.node.state_label == "inactive"


def test_without_autostart_the_node_waits_and_says_so(make_bench: Callable) -> None:
    bench = make_bench(autostart=False)
    bench.wait_diagnostics("not planning: the node is unconfigured", "ros2 lifecycle set /planner configure")
    assert bench.node.state_label == "unconfigured"
    assert bench.change_state(Transition.TRANSITION_CONFIGURE)
    assert bench.change_state(Transition.TRANSITION_ACTIVATE)
    bench.wait_active()


def test_cleanup_lets_the_planner_go_and_parameters_can_be_set_then(make_bench: Callable) -> None:
    bench = make_bench().wait_active()
    refused = bench.node.set_parameters([Parameter("planner", value="stop")])[0]
    assert not refused.successful and "ros2 lifecycle set /planner cleanup" in refused.reason
    assert bench.change_state(Transition.TRANSITION_DEACTIVATE) and bench.change_state(
        Transition.TRANSITION_CLEANUP
    )
    assert bench.node._line is None and bench.transforms.get_subscription_count() == 0
    bad = bench.node.set_parameters([Parameter("missing_camera", value="black")])[0]
    assert not bad.successful and "skip, hold, mask" in bad.reason
    assert bench.node.set_parameters([Parameter("planner", value="stop")])[0].successful
    assert bench.change_state(Transition.TRANSITION_CONFIGURE)
    assert bench.node._line.planner.name == "stop"


def test_an_unknown_planner_is_a_failure_to_configure_with_the_reason(make_bench: Callable) -> None:
    bench = make_bench(planner_factory=None, autostart=False)
    bench.node.set_parameters([Parameter("planner", value="no_such_bundle")])
    assert not bench.change_state(Transition.TRANSITION_CONFIGURE)
    assert bench.node.state_label == "unconfigured"
    bench.wait_diagnostics("not planning: cannot configure", "no_such_bundle", "constant_velocity")
    assert bench.diagnostics[-1].status[0].level == DiagnosticStatus.ERROR


def test_autostart_tries_again_until_the_planner_is_there(make_bench: Callable, start_ns: int) -> None:
    attempts: list[str] = []

    def factory(spec: str, **options: Any) -> ConstantVelocityPlanner:
        attempts.append(spec)
        if len(attempts) < 2:
            raise FileNotFoundError("bundle folder is not there yet")
        return ConstantVelocityPlanner()

    bench = make_bench(planner_factory=factory)
    bench.wait_diagnostics("cannot configure: bundle folder is not there yet", "next attempt in")
    bench.ready().plan(start_ns)
    assert len(attempts) == 2


def test_a_default_command_that_the_planner_does_not_know_is_a_failure(
    make_bench: Callable, make_planner: Callable
) -> None:
    planner = make_planner()
    planner.commands = (Command.LEFT, Command.RIGHT)
    bench = make_bench(planner=planner)
    bench.wait_diagnostics("default_command straight", "left, right")


def test_a_command_that_the_planner_does_not_know_is_refused(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    planner = make_planner()
    planner.commands = (Command.LEFT, Command.STRAIGHT)
    bench = make_bench(planner=planner).ready()
    bench.plan(start_ns)
    bench.vehicle.command = lambda stamp_ns: type(bench.vehicle).command(
        bench.vehicle, stamp_ns, Command.LANE_FOLLOW
    )
    report = bench.cycle(start_ns + PERIOD_NS)
    assert "lane_follow" in report.reason and "left, straight" in report.reason


def test_an_error_in_a_transition_leads_back_to_unconfigured(make_bench: Callable) -> None:
    bench = make_bench(autostart=False)
    assert bench.change_state(Transition.TRANSITION_CONFIGURE)
    bench.node._line.start = lambda: 1 / 0
    assert bench.node.trigger_activate() is TransitionCallbackReturn.ERROR
    assert bench.node.state_label == "unconfigured"
    bench.wait_diagnostics(
        "not planning: activate failed with ZeroDivisionError", "lifecycle set /planner configure"
    )
    assert bench.change_state(Transition.TRANSITION_CONFIGURE)
    assert bench.change_state(Transition.TRANSITION_ACTIVATE)


def test_shutdown_ends_in_finalized(make_bench: Callable) -> None:
    bench = make_bench().wait_active()
    assert bench.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert bench.node.state_label == "finalized" and bench.node._line is None
    bench.wait_diagnostics("the node is finalized")


def test_details_are_published_where_somebody_listens(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    from nav_msgs.msg import Path
    from sensor_msgs.msg import CompressedImage
    from visualization_msgs.msg import MarkerArray
    from wpt_msgs.msg import TrajectoryCandidates

    bench = make_bench(planner=make_planner()).ready()
    received: dict[str, list[Any]] = {}
    kinds = {
        "candidates": TrajectoryCandidates,
        "path": Path,
        "markers": MarkerArray,
        "overlay/cam_front/compressed": CompressedImage,
    }
    for name, kind in kinds.items():
        received[name] = []
        qos = 1 if "overlay" not in name else bench_best_effort()
        bench.feeder.create_subscription(kind, f"/planner/{name}", received[name].append, qos)
    outputs = bench.node._outputs
    waited_for = [outputs._candidates, outputs._path, outputs._markers, outputs._overlays["cam_front"]]
    bench.spin_until(lambda: all(one.get_subscription_count() for one in waited_for), "match of the details")
    report, _ = bench.plan(start_ns)
    bench.spin_until(lambda: all(received.values()), "the details")
    assert received["candidates"][0].set_id == report.set_id and received["candidates"][0].selected == 0
    assert received["path"][0].header == report.header
    assert received["overlay/cam_front/compressed"][0].header.stamp == report.camera_stamps[0]
    assert {marker.ns for marker in received["markers"][0].markers} >= {"plan", "ego"}


def bench_best_effort() -> Any:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    return QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def test_incompatible_quality_of_service_is_named_by_topic_and_policy_and_heals(make_bench: Callable) -> None:
    from nav_msgs.msg import Odometry

    # The input is overridden to reliable, and a best-effort publisher turns up.
    bench = make_bench(
        **{"qos_overrides./localization/kinematic_state.subscription.reliability": "reliable"}
    ).wait_active()
    wrong = bench.feeder.create_publisher(Odometry, "/localization/kinematic_state", bench_best_effort())
    bench.wait_diagnostics("/localization/kinematic_state", "reliability")
    bench.feeder.destroy_publisher(wrong)
    seen = len(bench.diagnostics)
    bench.spin_until(
        lambda: (
            len(bench.diagnostics) > seen + 1
            and not any("reliability" in pair.value for pair in bench.diagnostics[-1].status[0].values)
        ),
        "healed quality of service",
    )


def test_a_planner_that_still_hangs_is_not_asked_by_a_second_thread(make_bench, make_planner, start_ns) -> None:
    planner = make_planner()
    inside, go = threading.Event(), threading.Event()

    def hang(frame: Any) -> Any:
        inside.set()
        go.wait(LIMIT_S)
        return planner.straight_on(frame)

    planner.behaviour = hang
    bench = make_bench(planner=planner).ready()
    bench.send_cycle(start_ns)
    bench.spin_until(inside.is_set, "the planner at work")
    assert bench.change_state(Transition.TRANSITION_DEACTIVATE)
    assert not bench.change_state(Transition.TRANSITION_ACTIVATE)
    bench.wait_diagnostics("still at work", "cleanup and configure")
    go.set()
    bench.spin_until(lambda: not bench.node._line.is_hanging, "the planner's end")
    bench.node.joined = True  # for the bench, which asks that nothing is left behind
    assert bench.change_state(Transition.TRANSITION_ACTIVATE)
    assert bench.node.state_label == "active"
