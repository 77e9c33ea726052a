"""Judges a planner node while a bag is replayed to it: open-loop metrics when it ends. See node_evaluation.py."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from wpt_replay.errors import ReplayError
from wpt_replay.node_evaluation import NodeEvaluation
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.metrics import report_tables
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

NODE_NAME = "evaluation"
# Plans of the last sets may be on their way when the interrupt comes, or wait to be taken.
DRAIN_S = 0.3


class EvaluationNode(Node):
    """Parameters: planner_node, report (file, empty writes none), data and version (dataset, for the off-road rate)."""

    def __init__(self) -> None:
        super().__init__(NODE_NAME)
        self._report = str(self.declare_parameter("report", "").value)
        self._data = str(self.declare_parameter("data", "").value)
        self._version = str(self.declare_parameter("version", "v1.0-mini").value)
        planner_node = str(self.declare_parameter("planner_node", "/planner").value)
        self.evaluation = NodeEvaluation(self, planner_node)
        self.get_logger().info(f"judging {planner_node}; the report comes when this node ends")

    def finish(self) -> None:
        """Judge, print the tables and write the report; raises ReplayError or DatasetError in one sentence."""
        report = self.evaluation.report(drivable=self._drivable())
        print(report_tables(report))
        if self._report:
            path = Path(self._report)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(f"evaluation: report written to {path}")

    def _drivable(self) -> DrivableArea | None:
        if not self._data:
            return None
        tables = NuScenesTables.load(self._data, self._version)
        return DrivableArea.load(tables, load_scene(tables, self.evaluation.scene().name))


def main(args: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM, then judge; 0 when a report was made, 1 when there was nothing to judge."""
    # Our own handlers: a second signal, as launch and `timeout` send it, must not end the judging.
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = EvaluationNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not interrupted.is_set():
            executor.spin_once(timeout_sec=0.1)
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
        node.finish()
        return 0
    except (ReplayError, DatasetError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 1
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
