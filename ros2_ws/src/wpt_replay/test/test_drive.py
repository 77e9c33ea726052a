"""A closed loop through the planner node plans what the same planner plans in process."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from wpt_policy.frame import Command, Frame
from wpt_policy.planner import PlannerError
from wpt_replay import drive
from wpt_replay.node_planner import NodePlanner

pytest.importorskip("wpt_sim", reason="the driving world is not installed")
pytest.importorskip("libsumo", reason="libsumo is not installed")
rigs = pytest.importorskip("wpt_sim.renderer.rigs")

pytestmark = [pytest.mark.node, pytest.mark.timeout(240)]


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    drive.add_arguments(parser)
    return parser.parse_args(words)


def test_two_routes_through_the_node(tmp_path: Path) -> None:
    """Two, so that the clock jumps back between them and the network's memory has to be empty again."""
    out = tmp_path / "results.json"
    words = ("--planner", "wpt-seeded", "--routes", "2", "--families", "merging", "--out", str(out))
    assert drive.run(arguments(*words)) == 0
    document = json.loads(out.read_text())
    assert document["node_vs_in_process"]["compared"] > 10
    assert document["node_vs_in_process"]["max_abs_m"] < drive.TOLERANCE_M
    assert 0 <= document["driving_score"] <= 100


def test_a_refusal_of_the_node_is_a_planner_error_with_its_reason() -> None:
    rig = rigs.nuscenes_rig(320, 180)
    with NodePlanner("constant_velocity", rig, pixels=False) as node:
        node.begin(1_000_000_000)
        frame = Frame(reference_stamp_ns=1_000_000_000, views={}, ego=None, command=Command.STRAIGHT)
        views = {name: view(camera) for name, camera in rig.items()}
        with pytest.raises(PlannerError, match="odometry"):
            node.plan(Frame(**{**vars(frame), "views": views}))


def view(camera: object) -> object:
    from wpt_policy.frame import CameraView

    return CameraView(calibration=camera, stamp_ns=1_000_000_000, pixels=None, odom_from_base=np.eye(4))
