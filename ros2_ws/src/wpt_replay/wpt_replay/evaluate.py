"""Open-loop metrics of planners, or of prediction files, on recorded scenes: tables and JSON. docs/metrics.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wpt_policy.bundle import BundleError
from wpt_policy.frame import Command, CommandSource
from wpt_policy.plan import Plan
from wpt_policy.planner import Planner, PlannerError
from wpt_policy.plausibility import PlausibilityLimits, plan_problem
from wpt_policy.registry import UnknownPlannerError, make_planner
from wpt_policy.runner import DeviceError
from wpt_replay.errors import ReplayError
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.frames import FrameSource
from wpt_scenes.metrics import (
    NAMED_SETS,
    EvaluationSample,
    Jitter,
    MixedWaypointsError,
    PredictionError,
    PredictionFile,
    Predictions,
    WaypointKind,
    evaluate_predictions,
    matched,
    read_predictions,
    read_truth,
    report_tables,
    samples_of_scene,
    select_samples,
    with_truth,
)
from wpt_scenes.scene import Scene, load_scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import NUM_STEPS, WaypointFrame, derived_command, plan_in_keyframe

# Every evaluation has these rows, and truth's own (which evaluate_predictions adds).
BASELINES = ("constant_velocity", "stop")
STEP_S = 0.5


class EvaluationError(ReplayError):
    """An evaluation that cannot be done as asked."""


class PlannerRefusedError(EvaluationError):
    """A planner that cannot be run on these scenes; others can."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannerRun:
    """What one planner said on all keyframes of some scenes, and how many plans a vehicle node would have refused."""

    predictions: Predictions
    implausible: dict[str, str]
    weights_sha256: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("what is judged on")
    data.add_argument("--data", type=Path, help="nuScenes-format dataset root")
    data.add_argument("--version", default="v1.0-mini", help="dataset version (a folder of --data)")
    data.add_argument("--scene", nargs="+", action="extend", help="scene names (default: all of the version)")
    data.add_argument(
        "--tokens",
        default="all",
        metavar="NAME|FILE",
        help=f"samples to judge: {', '.join(NAMED_SETS)}, a scene name, or a file with one sample token a line",
    )
    data.add_argument("--truth", type=Path, help="truth file; with --data it replaces the data set's own")
    judged = parser.add_argument_group("what is judged")
    judged.add_argument(
        "--planner", nargs="+", action="extend", default=[], help="planners, bundles or NAME:CHECKPOINT"
    )
    judged.add_argument(
        "--predictions", nargs="+", action="extend", type=Path, default=[], help="prediction files"
    )
    judged.add_argument(
        "--partial",
        action="store_true",
        help="go on when a file lacks tokens or has unknown ones, and print how many",
    )
    judged.add_argument(
        "--waypoints",
        choices=[kind.value for kind in WaypointKind],
        help="how a planner's points are read: index, point k is the k-th following keyframe (as all published numbers "
        "are; default), or time, point k is exactly k * 0.5 s ahead",
    )
    judged.add_argument(
        "--refuse-implausible",
        action="store_true",
        help="leave out the plans that the vehicle node would refuse",
    )
    judged.add_argument("--device", default="auto", help="device of networks: auto, cpu, cuda, cuda:N")
    judged.add_argument("--precision", default="float32", help="precision of networks")
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, help="where the report is written")
    output.add_argument(
        "--markdown", type=Path, help="where the tables are written (they are printed anyway)"
    )
    output.add_argument(
        "--jitter-draws", type=int, default=20, help="draws of the jitter test; 0 leaves it out"
    )
    output.add_argument("--jitter-sigma", type=float, default=0.01, help="its standard deviation in metres")
    output.add_argument("--seed", type=int, default=0, help="seed of the jitter")


def run(args: argparse.Namespace) -> int:
    """Entry point of ``wpt-replay evaluate``; 1 when a planner that was asked for could not be run."""
    try:
        return _run(args)
    except (PredictionError, MixedWaypointsError, UnknownPlannerError, BundleError, DeviceError) as error:
        raise EvaluationError(str(error)) from error


def _run(args: argparse.Namespace) -> int:
    if args.jitter_draws < 0 or not args.jitter_sigma >= 0:
        raise EvaluationError(
            f"jitter of {args.jitter_draws} draws and {args.jitter_sigma} m is impossible, expected both at least 0"
        )
    files = [read_predictions(path) for path in args.predictions]
    tables, scenes = _scenes(args)
    everything = _samples(args, tables, scenes, files)
    selected = select_samples(everything, args.tokens)
    kind = _kind(args, files)
    rows, matches = [], {}
    for file in files:
        judged, matches[file.predictions.planner] = matched(
            file.predictions, everything, selected, args.partial
        )
        rows.append(judged)
    runs, refused = _planner_runs(args, scenes, kind)
    wanted = {sample.token for sample in selected}
    rows += [_restricted(planner_run, wanted, args.refuse_implausible) for planner_run in runs]
    report = evaluate_predictions(
        selected,
        rows,
        token_set=args.tokens,
        jitter=Jitter(draws=args.jitter_draws, sigma_m=args.jitter_sigma, seed=args.seed),
    )
    _complete(report, args, runs, refused, matches, wanted)
    text = report_tables(report) + _remarks(report)
    print(text)
    if args.markdown is not None:
        _write(args.markdown, text)
    if args.json is not None:
        _write(args.json, json.dumps(report, indent=1) + "\n")
    return 1 if any(name in args.planner for name in refused) else 0


def run_planner(planner: Planner, name: str, scenes: Sequence[Scene], kind: WaypointKind) -> PlannerRun:
    """Run a planner over the keyframes of scenes in order (memory reset before each scene).

    Each plan is moved into base_link at its keyframe by the recorded poses; its six points are read as waypoints of
    ``kind``. A keyframe without a plan, or whose plan is not finite, is in predictions.refused with its sentence. Raises
    PlannerRefusedError when the planner reads images that are not on disk, or plans other than six steps of 0.5 s.
    """
    if planner.image_input is not None:
        _require_images(name, planner, scenes)
    positions, refused, implausible = {}, {}, {}
    for scene in scenes:
        source = FrameSource(scene, planner.image_input, planner.cameras or None)
        planner.reset()
        for keyframe in scene.keyframes:
            frame = source.keyframe_frame(keyframe.index, *_command(scene, keyframe.index))
            try:
                plan = planner.plan(frame)
            except PlannerError as error:
                refused[keyframe.sample_token] = str(error)
                continue
            _require_six_steps(name, plan)
            if not np.all(np.isfinite(plan.positions)):
                refused[keyframe.sample_token] = f"plan of {name} has values that are not finite"
                continue
            problem = plan_problem(plan, PlausibilityLimits(), frame.ego.speed if frame.ego else None)
            if problem is not None:
                implausible[keyframe.sample_token] = problem
            moved = plan_in_keyframe(
                plan.waypoints, plan.reference_stamp_ns, scene.poses, keyframe.global_from_base
            )
            positions[keyframe.sample_token] = moved
    predictions = Predictions(
        planner=name, kind=kind, frame=WaypointFrame.EGO, positions=positions, refused=refused
    )
    return PlannerRun(
        predictions=predictions,
        implausible=implausible,
        weights_sha256=getattr(planner, "weights_sha256", "") or "",
    )


def _scenes(args: argparse.Namespace) -> tuple[NuScenesTables | None, list[Scene]]:
    if args.data is None:
        if args.scene:
            raise EvaluationError(
                "--scene was given without --data, expected a dataset; name its root with --data"
            )
        return None, []
    tables = NuScenesTables.load(args.data, args.version)
    names = tables.scene_names()
    wanted = list(dict.fromkeys(args.scene or names))
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise EvaluationError(
            f"{args.version} in {args.data} has no scene {', '.join(unknown)}, expected some of {', '.join(names)}"
        )
    return tables, [load_scene(tables, name) for name in wanted]


def _samples(
    args: argparse.Namespace,
    tables: NuScenesTables | None,
    scenes: Sequence[Scene],
    files: Sequence[PredictionFile],
) -> list[EvaluationSample]:
    brought = [file for file in files if file.truth is not None]
    if args.truth is not None and brought:
        raise EvaluationError(
            f"truth is given by --truth and by the file of {brought[0].predictions.planner}, expected one; drop --truth"
        )
    if len(brought) > 1:
        raise EvaluationError(
            "two prediction files bring their own truth, expected one; write it to a file of its own for --truth"
        )
    truth = read_truth(args.truth) if args.truth is not None else (brought[0].truth if brought else None)
    if tables is None:
        if truth is None:
            raise EvaluationError(
                "nothing to judge on: neither --data nor a truth is given; name a dataset, or a truth file with --truth"
            )
        return truth
    samples = [sample for scene in scenes for sample in samples_of_scene(scene, _drivable(tables, scene))]
    return samples if truth is None else with_truth(samples, truth)


def _drivable(tables: NuScenesTables, scene: Scene) -> DrivableArea | None:
    """The scene's drivable area, None where its map has none: the off-road rate is then said to be not available."""
    try:
        return DrivableArea.load(tables, scene)
    except DatasetError as error:
        print(f"evaluate: no drivable area for {scene.name}: {error}", file=sys.stderr)
        return None


def _kind(args: argparse.Namespace, files: Sequence[PredictionFile]) -> WaypointKind:
    kinds = {file.predictions.kind for file in files}
    if args.waypoints is not None:
        kinds.add(WaypointKind(args.waypoints))
    if len(kinds) > 1:
        raise EvaluationError(
            "index-based and time-based waypoints were asked for together, expected one kind; evaluate them separately"
        )
    return kinds.pop() if kinds else WaypointKind.INDEX


def _planner_runs(
    args: argparse.Namespace, scenes: Sequence[Scene], kind: WaypointKind
) -> tuple[list[PlannerRun], dict[str, str]]:
    """Run the planners asked for and the baselines; return their runs, and a sentence for each that could not be."""
    names = list(dict.fromkeys([*args.planner, *BASELINES]))
    if not scenes:
        reason = "needs the frames of a scene and no dataset is given; name it with --data"
        return [], {name: f"{name} {reason}" for name in names if name != "stop"}
    runs, refused = [], {}
    for name in names:
        planner = make_planner(name, device=args.device, precision=args.precision)
        try:
            runs.append(run_planner(planner, name, scenes, kind))
        except PlannerRefusedError as error:
            refused[name] = str(error)
    return runs, refused


def _command(scene: Scene, index: int) -> tuple[Command, CommandSource]:
    """The command derived from the future. Where there is none (the last keyframe) the one before stands, as in a bag
    of the scene; without any it is straight on, the node's default."""
    for earlier in range(index, max(index - 2, -1), -1):
        command, source = derived_command(scene, earlier)
        if command is not Command.UNKNOWN:
            return command, source
    return Command.STRAIGHT, CommandSource.FIXED


def _require_images(name: str, planner: Planner, scenes: Sequence[Scene]) -> None:
    for scene in scenes:
        absent = [
            image
            for keyframe in scene.keyframes
            for camera, image in keyframe.images.items()
            if camera in planner.cameras and not image.exists
        ]
        if absent:
            raise PlannerRefusedError(
                f"{name} reads images and {len(absent)} keyframe images of {scene.name} are not on disk (first: "
                f"{absent[0].path}); fetch them, or choose planners without images"
            )


def _require_six_steps(name: str, plan: Plan) -> None:
    if len(plan.positions) != NUM_STEPS + 1 or abs(plan.dt_s - STEP_S) > 1e-9:
        raise PlannerRefusedError(
            f"{name} plans {len(plan.positions) - 1} steps of {plan.dt_s:g} s, expected {NUM_STEPS} of {STEP_S} s; "
            "the metrics are defined for these alone"
        )


def _restricted(planner_run: PlannerRun, wanted: set[str], refuse_implausible: bool) -> Predictions:
    whole = planner_run.predictions
    out = planner_run.implausible if refuse_implausible else {}
    positions = {
        token: value for token, value in whole.positions.items() if token in wanted and token not in out
    }
    refused = {token: sentence for token, sentence in {**whole.refused, **out}.items() if token in wanted}
    return Predictions(
        planner=whole.planner, kind=whole.kind, frame=whole.frame, positions=positions, refused=refused
    )


def _complete(
    report: dict,
    args: argparse.Namespace,
    runs: Sequence[PlannerRun],
    refused: dict[str, str],
    matches: dict[str, dict],
    wanted: set[str],
) -> None:
    """Add what only this command knows: the data, what ran and what did not, and the machine."""
    from wpt_replay.run_summary import hardware, versions

    report["data"] = None if args.data is None else {"version": args.version}
    report["refused_planners"] = refused
    report["hardware"], report["software"] = hardware(), versions()
    for planner_run in runs:
        entry = report["planners"][planner_run.predictions.planner]
        entry["implausible"] = {t: s for t, s in planner_run.implausible.items() if t in wanted}
        entry["weights_sha256"] = planner_run.weights_sha256
    for name, match in matches.items():
        report["planners"][name]["tokens"] = match


def _remarks(report: dict) -> str:
    lines = [f"not run: {sentence}" for sentence in report["refused_planners"].values()]
    for name, entry in report["planners"].items():
        if entry.get("implausible"):
            token, sentence = next(iter(entry["implausible"].items()))
            lines.append(
                f"{name}: {len(entry['implausible'])} plans that the vehicle node would refuse (first {token}: {sentence})"
            )
        if "tokens" in entry:
            match = entry["tokens"]
            lines.append(
                f"{name}: {match['judged']} of {match['file_tokens']} tokens of the file judged, {len(match['missing'])} "
                f"missing, {len(match['unknown'])} unknown, {match['outside_the_selection']} outside the selection"
            )
    machine = report["hardware"]
    lines.append(f"on {machine['cpu']}, {machine['cores']} cores, GPU {machine['gpu'] or 'none'}")
    return "\n" + "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvaluationError(
            f"{path} cannot be written ({error.strerror or error}); choose another place"
        ) from None
