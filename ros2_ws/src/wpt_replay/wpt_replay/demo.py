"""The whole line on one scene: data -> bag -> planner node -> plans, held against the offline plans; report and picture.

Three replays through the real node: the network in lockstep (is every set planned, does node equal offline?), the
network in real time (how old are its plans?), and the planner that a user gets by default (what the picture shows).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
from rclpy.node import Node

import wpt_scenes
from wpt_msgs.msg import SetReport
from wpt_policy.planner import Planner
from wpt_policy.registry import make_planner
from wpt_replay.compare import compare, swapped_cameras_change
from wpt_replay.errors import ReplayError
from wpt_replay.bag_reader import BagReader
from wpt_replay.line_run import LineRun, run_line
from wpt_replay.node_evaluation import NodeEvaluation
from wpt_replay.overview import draw_overview
from wpt_replay.progress import Progress
from wpt_replay.run_summary import hardware, summary_of_run, versions
from wpt_replay.scene_to_bag import convert_scene
from wpt_replay.set_overview import most_telling_set, overview_of_set
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene
from wpt_scenes.metrics import report_tables
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

DEFAULT_PLANNER = "wpt-compact"
# Where the picture is of a planner that reads no images, the network's line is proven with this one.
DEFAULT_NETWORK = "wpt-compact"
# 10 s: a real-time replay and a picture with its whole 3 s future fit well into a minute.
FACTORY_KEYFRAMES = 20


@dataclass(frozen=True, kw_only=True)
class DemoData:
    root: Path
    version: str
    scene: str
    synthetic: bool


@dataclass(frozen=True, kw_only=True)
class SceneMaker:
    """Writes a scene of its own into a new folder; sources: packages whose files decide what it looks like."""

    version: str
    scene: str
    write: Callable[[Path], object]
    sources: Sequence[Path]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for everything that is made"
    )
    parser.add_argument(
        "--data", type=Path, help="nuScenes-format dataset root (default: a scene made on the spot)"
    )
    parser.add_argument("--version", default="v1.0-mini", help="dataset version, with --data")
    parser.add_argument("--scene", help="scene name, with --data (default: the version's first)")
    parser.add_argument("--planner", default=DEFAULT_PLANNER, help="planner or bundle of the picture")
    parser.add_argument(
        "--network", help=f"bundle for node against offline (default: --planner, or {DEFAULT_NETWORK})"
    )
    parser.add_argument("--no-real-time", action="store_true", help="leave the real-time replay out")


def run(args: argparse.Namespace) -> int:
    """Entry point of ``wpt-replay demo``; 0 when every set was planned and node and offline agree."""
    begin = time.monotonic()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    data = _data(args, out)
    bag = _bag(data, out)

    network = make_planner(args.network or args.planner, device="cpu")
    if args.network is None and network.image_input is None:
        network = make_planner(DEFAULT_NETWORK, device="cpu")
    print(f"demo: {network.name} through the node, in lockstep")
    lockstep = _replay(bag, network.name, lockstep=True, out=out, name="lockstep")
    comparison, _ = compare(bag, lockstep.reports, lockstep.trajectories, network)
    report = {
        "scene": {"version": data.version, "name": data.scene, "synthetic": data.synthetic},
        "planner": network.name,
        **summary_of_run(lockstep),
        "node_vs_offline": _node_vs_offline(comparison, bag, lockstep, network),
    }
    problems = _problems(report, "lockstep")

    if not args.no_real_time:
        print(f"demo: {network.name} through the node, in real time")
        real_time = _replay(bag, network.name, lockstep=False, out=out, name="real_time")
        comparison, _ = compare(bag, real_time.reports, real_time.trajectories, network)
        report["real_time"] = {
            "planner": network.name, **summary_of_run(real_time), "node_vs_offline": asdict(comparison),
        }  # fmt: skip
        if not comparison.equal:
            problems.append(f"in real time the node's plans differ from the offline plans: {comparison}")

    print(f"demo: {args.planner} through the node, for the picture")
    judged: list[NodeEvaluation] = []
    shown = _replay(
        bag,
        args.planner,
        lockstep=True,
        out=out,
        name="shown",
        attach=lambda node: judged.append(NodeEvaluation(node)),
    )
    report["shown"] = {"planner": args.planner, **summary_of_run(shown)}
    problems += _problems(report["shown"], args.planner)
    report["open_loop"] = judged[0].report(drivable=_drivable(data))
    report |= {"hardware": hardware(), "versions": versions(), "seconds": round(time.monotonic() - begin, 1)}
    picture = _picture(bag, shown, report, data, out)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "open_loop.md").write_text(report_tables(report["open_loop"]) + "\n")

    _print_summary(report, out, picture)
    for problem in problems:
        print(f"demo: PROBLEM: {problem}")
    return 1 if problems else 0


def _data(args: argparse.Namespace, out: Path) -> DemoData:
    if args.data is not None:
        tables = NuScenesTables.load(args.data, args.version)
        names = tables.scene_names()
        scene = args.scene or names[0]
        if scene not in names:
            raise ReplayError(
                f"{args.version} in {args.data} has no scene {scene}, expected one of {', '.join(names)}"
            )
        return DemoData(root=args.data, version=args.version, scene=scene, synthetic=False)
    maker = scene_maker()
    root = out / "data"
    stamp, fingerprint = out / "data.sha256", _fingerprint(maker)
    if not (root.exists() and stamp.exists() and stamp.read_text() == fingerprint):
        print("demo: making a scene in the nuScenes format")
        stamp.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)
        maker.write(root)
        stamp.write_text(fingerprint)
    return DemoData(root=root, version=maker.version, scene=maker.scene, synthetic=True)


def scene_maker() -> SceneMaker:
    """The driving world's scene where wpt_sim is installed, else the factory's (a vehicle's workspace has no simulation)."""
    sources = [Path(wpt_scenes.__file__).parent]
    try:
        from wpt_sim import demo_scene
    except ImportError:
        return SceneMaker(
            version=FACTORY_VERSION,
            scene=FACTORY_SCENE,
            write=lambda root: write_factory_scene(root, keyframes=FACTORY_KEYFRAMES, image_size=(1600, 900)),
            sources=sources,
        )
    return SceneMaker(
        version=demo_scene.DEMO_VERSION,
        scene=demo_scene.DEMO_SCENE,
        write=demo_scene.write_demo_scene,
        sources=[*sources, Path(demo_scene.__file__).parent],
    )


def _drivable(data: DemoData) -> DrivableArea | None:
    """The scene's drivable area; None where the dataset's map has none (the off-road rate is then left out)."""
    tables = NuScenesTables.load(data.root, data.version)
    try:
        return DrivableArea.load(tables, load_scene(tables, data.scene))
    except DatasetError as error:
        print(f"demo: no off-road rate: {error}")
        return None


def _bag(data: DemoData, out: Path) -> Path:
    tables = NuScenesTables.load(data.root, data.version)
    print(f"demo: {data.scene} of {data.version} -> bag")
    conversion = convert_scene(tables, data.scene, out / "bag", overwrite=True)
    for warning in conversion.warnings():
        print(f"demo: {warning}")
    if conversion.images_written == 0:
        raise ReplayError(
            f"no image of {data.scene} is on disk in {data.root}, so nothing can be planned; "
            "the bag with its poses and boxes is kept, choose a scene with images"
        )
    return conversion.path


def _replay(
    bag: Path,
    planner: str,
    *,
    lockstep: bool,
    out: Path,
    name: str,
    attach: Callable[[Node], None] | None = None,
) -> LineRun:
    with BagReader(bag) as reader:
        seconds = reader.duration_ns / 1e9
    with Progress(name, seconds) as progress:
        return run_line(
            bag,
            planner,
            lockstep=lockstep,
            log=out / "logs" / f"{name}.log",
            attach=attach,
            on_progress=progress.show,
        )


def _node_vs_offline(comparison, bag: Path, run: LineRun, network: Planner) -> dict:
    result = asdict(comparison)
    cameras = network.cameras
    if len(cameras) >= 2:
        planned = [report for report in run.reports if report.outcome == SetReport.PLANNED]
        result["swapped_cameras"] = [cameras[0], cameras[len(cameras) // 2]]
        result["swapped_cameras_change_m"] = swapped_cameras_change(
            bag, planned, network, *result["swapped_cameras"]
        )
    return result


def _problems(report: dict, name: str) -> list[str]:
    """Say what a lockstep run must fulfil and does not."""
    sets, plans = report["sets"], report["plans"]
    problems = []
    if not sets["expected"] == sets["assembled"] == plans["published"]:
        problems.append(
            f"{name}: {sets['expected']} sets expected, {sets['assembled']} assembled, {plans['published']} plans published, "
            f"expected the same three times; refused: {plans['refusal_reasons'] or 'none'}"
        )
    if sets["expected"] == 0:
        problems.append(f"{name}: the bag has no complete camera set, expected at least one")
    if "node_vs_offline" in report:
        against = report["node_vs_offline"]
        if (
            against["compared"] == 0
            or not against["max_abs_m"] < 1e-4
            or against["only_node"]
            or against["only_offline"]
        ):
            problems.append(
                f"{name}: node and offline plans differ: {against}, expected less than 1e-4 m everywhere"
            )
        if against.get("swapped_cameras_change_m", 1.0) < 1e-2:
            problems.append(
                f"{name}: swapping two cameras changes the plan by {against['swapped_cameras_change_m']:.2g} m only, "
                "so equal plans would prove nothing"
            )
    return problems


def _picture(bag: Path, run: LineRun, report: dict, data: DemoData, out: Path) -> Path | None:
    chosen = most_telling_set(bag, run.reports)
    if chosen is None:
        return None
    planner = report["shown"]["planner"]
    against, ages = report["node_vs_offline"], report.get("real_time", report)["age_ms"]
    lines = [
        f"scene {data.scene} ({data.version})" + (", synthetic" if data.synthetic else ""),
        f"sets {report['sets']['assembled']} of {report['sets']['expected']}, plans {report['plans']['published']}",
        f"node against offline ({report['planner']}):",
        f"  {against['compared']} plans, max {against['max_abs_m']:.1e} m",
        f"age of a plan, {'real time' if 'real_time' in report else 'lockstep'}:",
        f"  p50 {ages['p50']:.0f}  p99 {ages['p99']:.0f}  max {ages['max']:.0f} ms",
        f"skew p50 {report['skew_ms']['p50']:.1f} ms",
        "",
        f"{report['hardware']['cpu']}",
        "research software, no safety function",
    ]
    overview = overview_of_set(
        bag, chosen, run.trajectories[chosen.set_id], run.candidates.get(chosen.set_id),
        title=f"{planner}   set {chosen.set_id}   {data.scene}", lines=lines,
    )  # fmt: skip
    path = out / "overview.png"
    cv2.imwrite(str(path), cv2.cvtColor(draw_overview(overview), cv2.COLOR_RGB2BGR))
    return path


def _print_summary(report: dict, out: Path, picture: Path | None) -> None:
    against = report["node_vs_offline"]
    print(f"\nsets      {report['sets']}")
    print(f"plans     published {report['plans']['published']}, refused {report['plans']['refused']}")
    print(f"offline   {against['compared']} plans compared, largest difference {against['max_abs_m']:.2e} m")
    for name, part in (("lockstep", report), ("real time", report.get("real_time"))):
        if part is not None:
            ages = part["age_ms"]
            print(
                f"age       {name}: p50 {ages['p50']:.1f} ms, p99 {ages['p99']:.1f} ms, max {ages['max']:.1f} ms"
            )
    print(f"metrics   {out / 'open_loop.md'}")
    print(f"report    {out / 'report.json'}")
    print(f"picture   {picture or 'none: no plan was published'}")


def _fingerprint(maker: SceneMaker) -> str:
    """Hash what makes the scene: data made by other sources is made anew."""
    digest = hashlib.sha256(f"{maker.version} {FACTORY_KEYFRAMES}".encode())
    for package in maker.sources:
        for source in sorted(path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            digest.update(source.read_bytes())
    return digest.hexdigest()
