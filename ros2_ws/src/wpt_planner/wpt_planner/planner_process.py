"""The planner_node executable: ends quietly on a signal even while its imports are still under way."""

from __future__ import annotations

import os
import signal


def end_quietly_while_starting() -> None:
    """Let SIGINT and SIGTERM end the process with code 0; planner_node.main takes both over once it runs.

    Importing rclpy and torch takes 0.3 to 1.5 s, and Python's own answer to a signal there is a traceback and code -2,
    which launch counts as a failure.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


def main() -> None:
    end_quietly_while_starting()
    from wpt_planner.planner_node import main as run

    run()
