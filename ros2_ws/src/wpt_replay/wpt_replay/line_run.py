"""One run of the whole line: a planner node in its own process, a bag played to it, everything it says recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from wpt_msgs.msg import SetReport, Trajectory, TrajectoryCandidates
from wpt_replay.bag_reader import BagReader
from wpt_replay.errors import ReplayError
from wpt_replay.replay_node import Replayer
from wpt_replay.replay_report import ReplayOptions, ReplayReport

PLANNER_NODE = "/planner"
START_TIMEOUT_S = (
    90.0  # a first start on a busy two-core machine imports torch from a cold disk in about 20 s
)
STOP_TIMEOUT_S = 5.0
# A reliable message that got lost comes again with the next heartbeat, 0.1 to 0.2 s later: longer than the node's own
# time-out of 0.1 s, within which one set in some hundreds was then closed without it. It must stay below max_age (0.5 s).
LOCKSTEP_SET_TIMEOUT_S = 0.4
_INPUT_TYPES = {
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "nav_msgs/msg/Odometry",
    "wpt_msgs/msg/DrivingCommand",
}
# After the bag's end: how long the last reports may take. The wait ends as soon as every played cycle is reported.
DRAIN_S = 5.0


@dataclass(kw_only=True, eq=False)
class LineRun:
    """What one run gave.

    reports: in order of arrival. trajectories, candidates: by set id. image_published_ns: host monotonic clock just
    before publish() of an image, by its stamp. replay: of the player. planner_exit: exit code of the node's process.
    """

    reports: list[SetReport] = field(default_factory=list)
    trajectories: dict[int, Trajectory] = field(default_factory=dict)
    candidates: dict[int, TrajectoryCandidates] = field(default_factory=dict)
    image_published_ns: dict[int, int] = field(default_factory=dict)
    replay: ReplayReport | None = None
    planner_exit: int | None = None
    repeated_plans: int = 0

    @property
    def set_reports(self) -> list[SetReport]:
        """Reports of sets, without those of resets."""
        return [report for report in self.reports if report.outcome != SetReport.RESET]

    def ages_ms(self) -> list[float]:
        """Age of each published plan: publish() of the set's newest image to return of publish() of the plan, ms."""
        return [
            (report.published_steady_ns - self.image_published_ns[stamp]) / 1e6
            for report in self.reports
            if report.outcome == SetReport.PLANNED
            and (stamp := _stamp_ns(report.header.stamp)) in self.image_published_ns
        ]


class _Recorder:
    """Subscribes to a planner's outputs and keeps them."""

    def __init__(self, node: Node, run: LineRun):
        self.run = run
        self.changed = threading.Condition()
        self.last_diagnosis = "it has said nothing on /diagnostics"
        reliable = QoSProfile(
            depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
        )
        node.create_subscription(SetReport, f"{PLANNER_NODE}/set_report", self._on_report, reliable)
        node.create_subscription(Trajectory, f"{PLANNER_NODE}/trajectory", self._on_trajectory, reliable)
        node.create_subscription(
            TrajectoryCandidates, f"{PLANNER_NODE}/candidates", self._on_candidates, reliable
        )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable)

    def _on_report(self, report: SetReport) -> None:
        with self.changed:
            self.run.reports.append(report)
            self.changed.notify_all()

    def _on_trajectory(self, trajectory: Trajectory) -> None:
        with self.changed:
            self.run.repeated_plans += trajectory.set_id in self.run.trajectories
            self.run.trajectories[trajectory.set_id] = trajectory
            self.changed.notify_all()

    def _on_candidates(self, candidates: TrajectoryCandidates) -> None:
        self.run.candidates[candidates.set_id] = candidates

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.message:
                self.last_diagnosis = status.message

    def wait_until_settled(self, expected_sets: int, timeout_s: float) -> None:
        """Wait until every cycle is reported and every reported plan has come, or the time is over."""

        def settled() -> bool:
            planned = {r.set_id for r in self.run.reports if r.outcome == SetReport.PLANNED}
            return len(self.run.set_reports) >= expected_sets and planned <= self.run.trajectories.keys()

        with self.changed:
            self.changed.wait_for(settled, timeout_s)


def run_line(
    bag: Path,
    planner: str,
    *,
    lockstep: bool,
    parameters: Mapping[str, object] | None = None,
    options: ReplayOptions | None = None,
    log: Path | None = None,
    attach: Callable[[Node], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> LineRun:
    """Start the planner node with ``planner``, play ``bag`` to it, stop it, and return what it said.

    parameters: further ROS parameters of the node. options: of the player, its defaults with ``lockstep`` else.
    log: file for the node's output (default: its output is shown only when it fails). attach(node) may add
    subscriptions to the recording node (an evaluator). Uses ROS_DOMAIN_ID of the environment, or one of its own.
    Raises ReplayError when the node ends early or never becomes ready.
    """
    environment = dict(os.environ)
    environment.setdefault("ROS_DOMAIN_ID", str(own_domain()))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    options = options or ReplayOptions(
        lockstep=lockstep, planner=PLANNER_NODE, wait_timeout_s=START_TIMEOUT_S
    )
    run = LineRun()
    context = Context()
    rclpy.init(context=context, domain_id=int(environment["ROS_DOMAIN_ID"]), args=[])
    executor = SingleThreadedExecutor(context=context)
    node = rclpy.create_node("wpt_line_run", context=context)
    executor.add_node(node)
    recorder = _Recorder(node, run)
    if attach is not None:
        attach(node)
    spinner = threading.Thread(target=_spin, args=(executor,), name="line_run_spin", daemon=True)
    spinner.start()
    parameters = dict(parameters or {})
    if lockstep:
        parameters = reliable_inputs(bag) | {"set_timeout": LOCKSTEP_SET_TIMEOUT_S} | parameters
    process = start_planner(planner, parameters, environment, log)
    try:
        replayer = Replayer(node, bag, options, on_progress=on_progress, on_image=_image_clock(run))
        watch = threading.Thread(target=_stop_with, args=(process, replayer), daemon=True)
        watch.start()
        try:
            run.replay = replayer.run()
        except ReplayError as error:
            raise ReplayError(f"{error}; the planner node says: {recorder.last_diagnosis}") from error
        if process.poll() is not None:
            raise ReplayError(
                f"the planner node ended with code {process.returncode} during the replay: "
                f"{_last_words(process, log) or recorder.last_diagnosis}"
            )
        recorder.wait_until_settled(run.replay.cycles_complete, DRAIN_S)
    finally:
        run.planner_exit = stop_planner(process)
        executor.shutdown(timeout_sec=1.0)
        spinner.join(timeout=2.0)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return run


def reliable_inputs(bag: Path) -> dict[str, object]:
    """Return the QoS overrides that make a planner's inputs reliable.

    Lockstep promises that every set is planned; by best effort, as on a vehicle, one image in some thousands was lost on
    a machine with seven busy processes a core.
    """
    with BagReader(bag) as reader:
        topics = [topic.name for topic in reader.topics.values() if topic.type_name in _INPUT_TYPES]
    return {f"qos_overrides.{name}.subscription.reliability": "reliable" for name in topics}


def planner_executable() -> Path:
    """Return the installed planner_node; raises ReplayError naming the places looked at."""
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    for prefix in prefixes:
        path = Path(prefix, "lib", "wpt_planner", "planner_node")
        if path.exists():
            return path
    raise ReplayError(
        f"lib/wpt_planner/planner_node is in none of {', '.join(dict.fromkeys(prefixes))}: "
        "run `make env`, or source the workspace's setup.bash"
    )


def start_planner(
    planner: str, parameters: Mapping[str, object], environment: dict[str, str], log: Path | None
) -> subprocess.Popen:
    command = [
        str(planner_executable()),
        "--ros-args",
        "-p",
        "use_sim_time:=true",
        "-p",
        f"planner:={planner}",
    ]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            return subprocess.Popen(
                command, env=environment, stdout=file, stderr=file, start_new_session=True
            )
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def stop_planner(process: subprocess.Popen) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def _stop_with(process: subprocess.Popen, replayer: Replayer) -> None:
    process.wait()
    replayer.stop()


def _image_clock(run: LineRun) -> Callable[[str, int, int], None]:
    def note(_topic: str, stamp_ns: int, steady_ns: int) -> None:
        run.image_published_ns[stamp_ns] = steady_ns

    return note


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass


def own_domain() -> int:
    # 1..100: the ports of higher ids can collide with those that the system hands out.
    return 1 + os.getpid() % 100


def _last_words(process: subprocess.Popen, log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _stamp_ns(stamp: object) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec
