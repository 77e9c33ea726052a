"""planner.launch.py on the real launch: the node starts, takes its arguments, says what is missing, ends with code 0."""

from __future__ import annotations

import os
import time
import unittest
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_testing")
pytest.importorskip("launch_ros")

import launch_testing.actions  # noqa: E402
import launch_testing.asserts  # noqa: E402
import launch_testing.markers  # noqa: E402
import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402

LAUNCH_FILE = Path(__file__).resolve().parent.parent / "launch" / "planner.launch.py"
LIMIT_S = 60.0
ARGUMENTS = {"planner": "stop", "namespace": "car", "use_sim_time": "true", "topics": "autoware"}


@pytest.mark.launch
@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    return LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(LAUNCH_FILE)), launch_arguments=list(ARGUMENTS.items())
            ),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestRunningPlanner(unittest.TestCase):
    """While it runs."""

    def test_it_becomes_active_with_its_arguments(self, proc_output: Any) -> None:
        context = rclpy.Context()
        rclpy.init(context=context)
        node = rclpy.create_node("observer", context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        statuses: list[Any] = []
        node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda message: statuses.append(message.status[0]), 10
        )
        wanted = "/sensing/camera/camera0/image_rect_color/compressed"
        try:
            deadline = time.monotonic() + LIMIT_S
            while not any(wanted in pair.value for status in statuses for pair in status.values):
                self.assertLess(time.monotonic(), deadline, [status.message for status in statuses[-3:]])
                executor.spin_once(timeout_sec=0.1)
            values = {pair.key: pair.value for pair in statuses[-1].values}
            self.assertEqual(statuses[-1].name, "car/planner: planning")
            self.assertEqual((values["state"], values["planner"]), ("active", "stop"))
            # The clock comes first: it explains the rest.
            self.assertTrue(any("no /clock" in pair.value for pair in statuses[-1].values))
            self.assertEqual(node.count_subscribers(wanted), 1)
        finally:
            executor.shutdown()
            node.destroy_node()
            context.try_shutdown()


@launch_testing.post_shutdown_test()
class TestEndedPlanner(unittest.TestCase):
    """After launch has sent SIGINT."""

    def test_it_ended_with_code_0(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[os.EX_OK])
