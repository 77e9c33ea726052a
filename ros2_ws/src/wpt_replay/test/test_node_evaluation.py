"""What the node published on a replayed bag is judged exactly as the same planner offline."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from rclpy.node import Node

from wpt_msgs.msg import Trajectory, TrajectoryPoint
from wpt_policy.registry import make_planner
from wpt_replay.errors import ReplayError
from wpt_replay.evaluate import BASELINES, run_planner
from wpt_replay.line_run import run_line
from wpt_replay.node_evaluation import NodeEvaluation, _waypoints
from wpt_replay.scene_to_bag import convert_scene
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene
from wpt_scenes.metrics import WaypointKind, evaluate_predictions, samples_of_scene
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

pytestmark = [pytest.mark.node, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> NuScenesTables:
    root = write_factory_scene(tmp_path_factory.mktemp("evaluation"), keyframes=9, image_size=(320, 180))
    return NuScenesTables.load(root, FACTORY_VERSION)


def differences(first: object, second: object, path: str = "") -> list[str]:
    """Every place where two reports differ by more than 1e-6 (or at all, where they are no numbers)."""
    if isinstance(first, dict) and isinstance(second, dict):
        places = [f"{path}: keys" for _ in [0] if first.keys() != second.keys()]
        return places + [
            d
            for key in first.keys() & second.keys()
            for d in differences(first[key], second[key], f"{path}/{key}")
        ]
    if isinstance(first, list) and isinstance(second, list):
        if len(first) != len(second):
            return [f"{path}: lengths {len(first)}, {len(second)}"]
        return [
            d
            for i, pair in enumerate(zip(first, second, strict=True))
            for d in differences(*pair, f"{path}[{i}]")
        ]
    if isinstance(first, float) and isinstance(second, float):
        same = math.isclose(first, second, rel_tol=0, abs_tol=1e-6) or (
            math.isnan(first) and math.isnan(second)
        )
        return [] if same else [f"{path}: {first} {second}"]
    return [] if first == second else [f"{path}: {first} {second}"]


@pytest.mark.parametrize("planner_name", ["constant_velocity", "wpt-seeded"])
def test_numbers_through_the_node_equal_offline_numbers(
    tables: NuScenesTables, tmp_path: Path, planner_name: str
) -> None:
    # Keyframes alone: a memory that also saw sweeps would have other entries than offline.
    bag = convert_scene(tables, FACTORY_SCENE, tmp_path, sweeps=False).path
    collected: list[NodeEvaluation] = []

    def attach(node: Node) -> None:
        collected.append(NodeEvaluation(node))

    run = run_line(bag, planner_name, lockstep=True, attach=attach)
    assert run.replay is not None and run.replay.ok
    scene = load_scene(tables, FACTORY_SCENE)
    drivable = DrivableArea.load(tables, scene)
    for kind in WaypointKind:
        through_node = collected[0].report(kind=kind, drivable=drivable)
        names = dict.fromkeys([planner_name, *BASELINES])
        rows = [
            run_planner(make_planner(name, device="cpu"), name, [scene], kind).predictions for name in names
        ]
        offline = evaluate_predictions(samples_of_scene(scene, drivable), rows)
        assert through_node["planners"][planner_name]["samples"] == 9
        assert {"constant_velocity", "stop", "truth"} <= through_node["planners"].keys()
        assert differences(through_node, offline) == []


def test_nothing_heard_is_said(tables: NuScenesTables) -> None:
    import rclpy
    from rclpy.context import Context

    context = Context()
    rclpy.init(context=context, args=[])
    node = rclpy.create_node("silent", context=context)
    try:
        with pytest.raises(ReplayError, match="0 keyframes and 0 odometry"):
            NodeEvaluation(node).report()
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


@pytest.mark.parametrize("steps_s", [[0.25 * k for k in range(7)], [0.5 * k for k in range(5)]])
def test_plans_of_other_steps_are_not_judged_as_half_seconds(steps_s: list[float]) -> None:
    """Six points a quarter of a second apart would otherwise be held against places half a second apart."""
    trajectory = Trajectory(planner="quick")
    for seconds in steps_s:
        point = TrajectoryPoint()
        point.time_from_start.sec, point.time_from_start.nanosec = int(seconds), round(seconds % 1 * 1e9)
        trajectory.points.append(point)
    with pytest.raises(ReplayError, match=r"quick plans .* expected 6 steps of 0.5 s"):
        _waypoints(trajectory)
