"""What the check says of a bag is what the planner node does with it: no FAIL and plans, or a FAIL and
none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import Qos
from wpt_msgs.msg import SetReport
from wpt_replay.bag_writer import reliable
from wpt_replay.line_run import PLANNER_NODE, run_line
from wpt_replay.replay_cli import main
from wpt_replay.replay_report import ReplayOptions

pytestmark = pytest.mark.node
Change = Callable[[str, int, Any], tuple[str, int, Any] | None]


def same(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
    return topic, ns, message


def stereo_offset(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
    if topic == "/sensing/cam_back/camera_info":
        message.p = np.array(message.p)
        message.p[3] = -66.1
    return topic, ns, message


def late_stamps(topic: str, ns: int, message: Any) -> tuple[str, int, Any]:
    """Recorded 0.8 s after exposure."""
    return topic, ns + 800_000_000, message


@pytest.mark.parametrize(
    ("change", "qos", "runs"),
    [
        (same, {"/tf_static": reliable(10)}, True),
        (stereo_offset, {}, False),
        (late_stamps, {}, False),
    ],
    ids=["volatile_tf_static", "stereo_offset", "late_stamps"],
)
def test_check_and_node_agree(
    factory_bag: Path,
    rewrite_bag: Callable[..., Path],
    change: Change,
    qos: dict[str, Qos],
    runs: bool,
    tmp_path: Path,
) -> None:
    bag = rewrite_bag(factory_bag, change, qos=qos)
    assert main(["check", "--bag", str(bag)]) == (0 if runs else 1)
    options = ReplayOptions(lockstep=True, planner=PLANNER_NODE, wait_timeout_s=90.0)
    run = run_line(bag, "constant_velocity", lockstep=True, options=options, log=tmp_path / "planner.log")
    planned = sum(report.outcome == SetReport.PLANNED for report in run.reports)
    assert planned == (12 if runs else 0), [report.reason for report in run.set_reports]
