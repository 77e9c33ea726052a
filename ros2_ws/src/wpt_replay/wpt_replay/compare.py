"""Does the node plan what the same planner plans offline? Both sides on the same bag, set by set.

The offline side re-runs exactly the sets and resets that the node's SetReports list, in their order, on images read
from the bag (bag_frames.py), and compares the published points with its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from wpt_msgs.msg import SetReport, Trajectory
from wpt_policy import se3
from wpt_policy.frame import CameraView, Command, CommandSource, EgoState, Frame
from wpt_policy.plan import Plan
from wpt_policy.planner import Planner, PlannerError
from wpt_policy.registry import make_planner
from wpt_replay.bag_frames import BagFrames, ReportedSet

PLAN_STAGE = "plan"  # a report with this stage was given to the planner, whatever became of the plan

# Both sides do the same float32 arithmetic; what differs is where poses were composed (rclpy's and rosbags' decoding
# is exact). 1e-4 m is 0.1 mm.
TOLERANCE_M = 1e-4


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """compared: plans held against each other; max_abs_m: largest difference of any coordinate of any point.

    refused_alike: sets on which both sides gave no plan. only_node, only_offline: set ids where one side alone did
    (a plan that the node reports and that was not received counts as offline's alone).
    resets: memory resets that were repeated. extrapolated: sets for which the node's own ego pose had to be used.
    flags_differ: set ids whose flags differ (apart from flags that only the node can know).
    """

    compared: int
    max_abs_m: float
    refused_alike: int
    only_node: tuple[int, ...]
    only_offline: tuple[int, ...]
    resets: int
    extrapolated: int
    flags_differ: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether every plan was met by an equal one."""
        return self.max_abs_m < TOLERANCE_M and not (self.only_node or self.only_offline or self.flags_differ)


def reported_sets(reports: Iterable[SetReport]) -> list[ReportedSet]:
    """Return the sets that the node's planner was given, in order; resets between them mark the set after them."""
    sets, reset = [], True
    for report in reports:
        if report.outcome == SetReport.RESET:
            reset = True
        if all(stage.name != PLAN_STAGE for stage in report.stages):
            continue
        sets.append(_reported_set(report, memory_reset=reset or report.memory_reset))
        reset = False
    return sets


def _reported_set(report: SetReport, memory_reset: bool) -> ReportedSet:
    by_camera = list(zip(report.cameras, report.camera_status, report.camera_stamps, strict=True))
    used = {c: s for c, status, s in by_camera if status in (SetReport.CAMERA_USED, SetReport.CAMERA_HELD)}
    ego, poses = None, {}
    if report.ego_source != SetReport.EGO_NONE:
        twist = report.ego_twist
        ego = EgoState(
            stamp_ns=_ns(report.header.stamp),
            odom_from_base=_matrix(report.ego_pose),
            linear_velocity=np.array([twist.linear.x, twist.linear.y, twist.linear.z]),
            angular_velocity=np.array([twist.angular.x, twist.angular.y, twist.angular.z]),
            extrapolated=report.ego_source == SetReport.EGO_EXTRAPOLATED,
        )
        poses = {
            c: _matrix(p)
            for c, p in zip(report.cameras, report.camera_ego_poses, strict=True)
            if c in used and _is_pose(p)
        }
    return ReportedSet(
        set_id=report.set_id,
        reference_stamp_ns=_ns(report.header.stamp),
        stamps={camera: _ns(stamp) for camera, stamp in used.items()},
        command=Command(report.command.command),
        command_source=CommandSource(report.command.source),
        ego=ego,
        ego_poses=poses,
        held=frozenset(c for c, status, _ in by_camera if status == SetReport.CAMERA_HELD),
        masked=frozenset(c for c, status, _ in by_camera if status == SetReport.CAMERA_MASKED),
        memory_reset=memory_reset,
    )


def compare(
    bag: Path, reports: Sequence[SetReport], trajectories: Mapping[int, Trajectory], planner: Planner
) -> tuple[Comparison, dict[int, Plan]]:
    """Re-run ``planner`` on the reported sets; return the comparison and the offline plans by set id.

    trajectories: what the node published, by set id. Raises BagFramesError when the bag is not the one replayed.
    """
    # As in the node: at batch 1 a second thread gains little, and where cores are shared its waiting costs a multiple
    # (113 sets of the demo took 47 s instead of 8 on two busy cores).
    torch.set_num_threads(1)
    sets = reported_sets(reports)
    cameras = planner.cameras or _cameras_of(reports)
    frames = BagFrames(bag, cameras, planner.image_input)
    offline: dict[int, Plan] = {}
    only_node, only_offline, flags_differ = [], [], []
    largest, compared, refused_alike, extrapolated = 0.0, 0, 0, 0
    announced = {report.set_id for report in reports if report.outcome == SetReport.PLANNED}
    planner.reset()
    for one, frame in frames.frames(sets):
        if one.memory_reset:
            planner.reset()
        extrapolated += one.ego is not None and one.ego.extrapolated
        published = trajectories.get(one.set_id)
        try:
            plan = planner.plan(frame)
        except PlannerError:
            if published is None:
                refused_alike += 1
            else:
                only_node.append(one.set_id)
            continue
        offline[one.set_id] = plan
        if published is None and one.set_id in announced:
            only_offline.append(
                one.set_id
            )  # published by the node's own account, and not received: not compared
            continue
        if published is None:
            # The node refuses implausible plans after planning: not a difference of the plans themselves.
            refused_alike += 1
            continue
        node_positions = np.array(
            [[point.pose.position.x, point.pose.position.y] for point in published.points]
        )
        if node_positions.shape != plan.positions.shape:
            only_offline.append(one.set_id)
            continue
        compared += 1
        difference = float(np.abs(node_positions - plan.positions).max())
        largest = max(largest, difference if np.isfinite(difference) else np.inf)  # max(0, NaN) is 0
        if (published.flags & int(_PLANNER_FLAGS)) != int(plan.flags & _PLANNER_FLAGS):
            flags_differ.append(one.set_id)
    return (
        Comparison(
            compared=compared, max_abs_m=largest, refused_alike=refused_alike, only_node=tuple(only_node),
            only_offline=tuple(only_offline), resets=sum(one.memory_reset for one in sets), extrapolated=extrapolated,
            flags_differ=tuple(flags_differ),
        ),
        offline,
    )  # fmt: skip


# DEFAULT_COMMAND is the node's knowledge; the others follow from the frame and the planner.
_PLANNER_FLAGS = Trajectory.FLAG_WARMING_UP | Trajectory.FLAG_UNTRAINED | Trajectory.FLAG_UNCOMPENSATED


def swapped_cameras_change(
    bag: Path, reports: Sequence[SetReport], planner: Planner, first: str, second: str
) -> float:
    """Return by how much (m) the plan of the last reported set changes when two cameras' images are swapped.

    A network that does not care which image comes from where would pass every equality test: this shows that it does.
    """
    sets = [one for one in reported_sets(reports) if {first, second} <= one.stamps.keys()]
    if not sets:
        return float("nan")
    frames = BagFrames(bag, planner.cameras, planner.image_input)
    _, frame = next(frames.frames([replace(sets[-1], memory_reset=True)]))
    planner.reset()
    straight = planner.plan(frame)
    views = dict(frame.views)
    views[first] = _with_pixels(frame.views[first], frame.views[second])
    views[second] = _with_pixels(frame.views[second], frame.views[first])
    planner.reset()
    swapped = planner.plan(
        Frame(
            reference_stamp_ns=frame.reference_stamp_ns, views=views, ego=frame.ego, command=frame.command,
            command_source=frame.command_source,
        )
    )  # fmt: skip
    planner.reset()
    return float(np.abs(straight.positions - swapped.positions).max())


def _with_pixels(view: CameraView, other: CameraView) -> CameraView:
    return replace(view, pixels=other.pixels)


def _cameras_of(reports: Sequence[SetReport]) -> tuple[str, ...]:
    return next((tuple(report.cameras) for report in reports if report.cameras), ())


def _ns(stamp: object) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _is_pose(pose: object) -> bool:
    """Whether a SetReport's camera had ego motion at its stamp: a quaternion of zeros says that it had none."""
    q = pose.orientation
    return any((q.w, q.x, q.y, q.z))


def _matrix(pose: object) -> np.ndarray:
    p, q = pose.position, pose.orientation
    return se3.transform([p.x, p.y, p.z], [q.w, q.x, q.y, q.z])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="bag to replay")
    parser.add_argument(
        "--planner", default="constant_velocity", help="planner name, bundle, or NAME:CHECKPOINT"
    )
    parser.add_argument("--real-time", action="store_true", help="play in real time instead of in lockstep")
    parser.add_argument("--json", type=Path, help="write the comparison here")


def run(args: argparse.Namespace) -> int:
    """Entry point of ``wpt-replay compare``; 0 when every plan is equal, 1 when not."""
    from wpt_replay.line_run import run_line

    line = run_line(args.bag, args.planner, lockstep=not args.real_time)
    comparison, _ = compare(
        args.bag, line.reports, line.trajectories, make_planner(args.planner, device="cpu")
    )
    result = asdict(comparison) | {"equal": comparison.equal, "planner": args.planner, "bag": str(args.bag)}
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if comparison.equal and comparison.compared else 1
