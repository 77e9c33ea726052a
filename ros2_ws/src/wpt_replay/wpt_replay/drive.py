"""Drives the simulated world (wpt_sim) through the real planner node, and holds every plan against the in-process one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from wpt_policy.plan import Plan
from wpt_policy.planner import Planner
from wpt_policy.registry import make_planner

from wpt_replay.errors import ReplayError
from wpt_replay.node_planner import NodePlanner
from wpt_replay.progress import Progress

# As in compare.py: the same float32 arithmetic on both sides.
TOLERANCE_M = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--planner", default="wpt-compact", help="planner name or policy bundle")
    parser.add_argument(
        "--routes", required=True, metavar="FILE|N", help="episodes (JSON lines), or how many to draw"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="test")
    parser.add_argument("--families", nargs="+", metavar="NAME")
    parser.add_argument(
        "--plan-rate", type=float, default=2.0, metavar="HZ", help="2, 4, 5 or 10 plans a second"
    )
    parser.add_argument("--scores", default="b2d", choices=("b2d", "lb21"))
    parser.add_argument("--out", type=Path, required=True, help="results file (JSON)")
    parser.add_argument("--log", type=Path, help="file for the planner node's output")


def run(args: argparse.Namespace) -> int:
    """Entry point of ``wpt-replay drive``; 1 when a plan through the node differs from the one in process."""
    try:
        from wpt_sim import closed_loop, drive, results, scoring
        from wpt_sim.errors import SimulationError
        from wpt_sim.planning_driver import PlanningDriver
    except ImportError as error:
        raise ReplayError(
            f"driving needs the simulation package ({error}); install simulation/ with its extra [traffic]"
        ) from None
    try:
        specs = drive.read_routes(args.routes, args.split, args.seed, args.families)
        torch.set_num_threads(1)
        source = node_plan_source(make_planner(args.planner, device="cpu"))
        outcomes = []
        with source.node(args.planner, args.log), Progress(f"drive {args.planner}", len(specs)) as progress:
            driver = PlanningDriver(source, plan_rate=args.plan_rate)
            for done, spec in enumerate(specs):
                outcomes.append(closed_loop.drive_route(spec, driver))
                progress.show(done + 1, outcomes[-1].name)
        expected: dict[str, int] = {}
        for spec in specs:
            expected[spec.family] = expected.get(spec.family, 0) + 1
        summary = scoring.summarise(outcomes, expected, args.scores)
    except SimulationError as error:
        raise ReplayError(str(error)) from None
    settings = {
        "seed": args.seed,
        "split": args.split,
        "plan_rate": args.plan_rate,
        "scores": args.scores,
        "through": "node",
    }
    document = results.results_document(outcomes, summary, planner=args.planner, settings=settings)
    document["node_vs_in_process"] = {"compared": source.compared, "max_abs_m": source.largest_m}
    results.write_results(args.out, document)
    print(results.summary_table(summary))
    print(f"node against in process: {source.compared} plans, largest difference {source.largest_m:.2e} m")
    return 0 if source.compared and source.largest_m < TOLERANCE_M else 1


def node_plan_source(twin: Planner):
    """Return a PlanSource (wpt_sim.planning_driver) that asks the node; ``twin`` is the same planner in process.

    Made in a function because its base class is there only where wpt_sim is installed.
    """
    from wpt_sim.episode import EpisodeSpec
    from wpt_sim.planner_source import FIRST_STAMP_NS, PlannerSource
    from wpt_sim.world_state import WorldState

    class NodePlanSource(PlannerSource):
        """compared, largest_m: plans held against the twin's, and the largest difference of a coordinate (m)."""

        def __init__(self) -> None:
            super().__init__(twin)
            self.compared, self.largest_m = 0, 0.0
            self._node: NodePlanner | None = None

        def node(self, planner: str, log: Path | None) -> NodePlanner:
            """The node to be entered before driving."""
            self._node = NodePlanner(planner, self._rig, pixels=twin.image_input is not None, log=log)
            return self._node

        def reset(self, spec: EpisodeSpec) -> None:
            super().reset(spec)
            self._node.begin(FIRST_STAMP_NS)

        def plan(self, state: WorldState) -> Plan:
            frame = self.frame(state)
            plan, own = self._node.plan(frame), self.planner.plan(frame)
            self.compared += 1
            self.largest_m = max(self.largest_m, _difference(plan.positions, own.positions))
            return plan

    return NodePlanSource()


def _difference(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    a, b = np.asarray(first), np.asarray(second)
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")
