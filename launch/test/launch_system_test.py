"""system.launch.py on the real launch: a looping bag, a namespace, a judge, and a stand-in for RViz, until SIGINT.

The stand-in reads planner.rviz and subscribes to every display's topic, with the remappings that launch gives it.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
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
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402

LAUNCH_FILE = Path(__file__).resolve().parent.parent / "system.launch.py"
LIMIT_S = 60.0
WORK = Path(tempfile.mkdtemp(prefix="wpt_bringup_"))
atexit.register(shutil.rmtree, WORK, ignore_errors=True)
KEYFRAMES = 3
HEARD, REPORT = WORK / "heard.json", WORK / "report.json"

RVIZ = f"""#!{sys.executable}
import functools, json, pathlib, sys
import rclpy, yaml
from nav_msgs.msg import Path
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from visualization_msgs.msg import MarkerArray

TYPES = {{"Image": CompressedImage, "Path": Path, "MarkerArray": MarkerArray}}
words = sys.argv[1 : sys.argv.index("--ros-args")]
configuration = yaml.safe_load(pathlib.Path(words[words.index("-d") + 1]).read_text())
rclpy.init(args=sys.argv)
node = rclpy.create_node("rviz")
heard = {{"words": words, "use_sim_time": node.get_parameter("use_sim_time").value, "messages": {{}}}}

def take(topic, message):
    heard["messages"][topic] += 1
    text = json.dumps(heard)
    pathlib.Path({str(HEARD)!r} + ".new").write_text(text)
    pathlib.Path({str(HEARD)!r} + ".new").rename({str(HEARD)!r})

def subscribe(displays):
    for display in displays:
        subscribe(display.get("Displays") or ())
        kind = TYPES.get(display["Class"].split("/")[1])
        if kind is not None:
            topic = display["Topic"]
            best_effort = topic["Reliability Policy"] == "Best Effort"
            qos = QoSProfile(
                depth=topic["Depth"],
                reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
            )
            heard["messages"][topic["Value"]] = 0
            node.create_subscription(kind, topic["Value"], functools.partial(take, topic["Value"]), qos)

subscribe(configuration["Visualization Manager"]["Displays"])
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
rclpy.try_shutdown()
"""


def make_bag() -> Path:
    """A small scene as a bag."""
    from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene

    write_factory_scene(WORK / "data", keyframes=KEYFRAMES, image_size=(160, 90))
    data = ["--data", str(WORK / "data"), "--version", FACTORY_VERSION, "--scene", FACTORY_SCENE]
    subprocess.run(["wpt-bag", "convert", *data, "--out", str(WORK / "bags")], check=True)
    return WORK / "bags" / FACTORY_SCENE


def make_rviz() -> Path:
    """An ament prefix with a package rviz2, whose program is the stand-in."""
    prefix = WORK / "prefix"
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for package in ("rviz2", "compressed_image_transport"):
        (index / package).touch()
    program = prefix / "lib" / "rviz2" / "rviz2"
    program.parent.mkdir(parents=True)
    program.write_text(RVIZ, encoding="utf-8")
    program.chmod(0o755)
    return prefix


@pytest.mark.launch
@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    # Also in this process: packages are looked up by it.
    os.environ["AMENT_PREFIX_PATH"] = f"{make_rviz()}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}"
    arguments = {
        "bag": str(make_bag()),
        "loop": "0",
        "planner": "wpt-seeded",
        "namespace": "car",
        "evaluate": "true",
        "report": str(REPORT),
        "rviz": "true",
        "fixed_frame": "odom",
    }
    return LaunchDescription(
        [
            SetEnvironmentVariable("AMENT_PREFIX_PATH", os.environ["AMENT_PREFIX_PATH"]),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(LAUNCH_FILE)), launch_arguments=list(arguments.items())
            ),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestRunningSystem(unittest.TestCase):
    """While the bag is played again and again."""

    def test_every_display_hears_its_topic(self) -> None:
        deadline = time.monotonic() + LIMIT_S
        counts = {"/ground_truth/markers": 0}
        # More of these than the scene has keyframes: the judge has then heard all of them.
        while not all(counts.values()) or counts["/ground_truth/markers"] <= KEYFRAMES:
            self.assertLess(time.monotonic(), deadline, f"messages by display: {counts}")
            time.sleep(0.1)  # polls a file of another process
            counts = heard().get("messages", counts)
        self.assertIn("/planner/overlay/cam_back/compressed", counts)
        self.assertEqual(heard()["words"][-2:], ["--fixed-frame", "odom"])
        self.assertIs(heard()["use_sim_time"], True)


@launch_testing.post_shutdown_test()
class TestEndedSystem(unittest.TestCase):
    """After launch has sent SIGINT."""

    def test_every_program_ended_well(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[os.EX_OK])
        self.assertEqual(len(proc_info.processes()), 4)

    def test_the_judge_wrote_its_report(self) -> None:
        report = json.loads(REPORT.read_text(encoding="utf-8"))
        self.assertEqual(report["samples"], KEYFRAMES)
        self.assertIn("wpt-seeded", report["planners"])
        self.assertGreater(report["planners"]["wpt-seeded"]["samples"], 0)


def heard() -> dict[str, Any]:
    """What the stand-in has written so far."""
    return json.loads(HEARD.read_text(encoding="utf-8")) if HEARD.is_file() else {}
