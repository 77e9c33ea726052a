"""The line from messages to plans, without a node: every stage of one configured planner, and what it says.

The receiving thread calls the on_* methods, `poll`, `reset` and `stop`; the plan worker calls the output. Nothing here
knows topics or rclpy's node: tests and benchmarks feed messages directly.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from wpt_msgs.msg import DrivingCommand
from wpt_policy.planner import Planner

from wpt_planner.camera_input import CameraInput, CameraProblem, EventKind
from wpt_planner.camera_statistics import CameraStatistics
from wpt_planner.conversions import ConversionError, odometry_sample, stamp_to_ns
from wpt_planner.decode_pool import DecodePool
from wpt_planner.ego_motion import EgoMotion
from wpt_planner.findings import Finding, Level, Rank
from wpt_planner.health import Health
from wpt_planner.image_conversion import choose_converter
from wpt_planner.parameters import PlannerParameters
from wpt_planner.plan_cycle import (
    RESET_IN_FLIGHT,
    PlanCycle,
    SetJob,
    SetResult,
    StageWatch,
    cameras_as_received,
)
from wpt_planner.plan_worker import PlanWorker
from wpt_planner.set_assembler import CameraSet, ClockJump, Event, ImageOutcome
from wpt_planner.set_assembler import Outcome as ImageFate
from wpt_planner.set_filter import ApproximateTimeFilter, SetFilter
from wpt_planner.set_outcome import Outcome, SetOutcome
from wpt_planner.static_transforms import FindingKind, StaticTransforms
from wpt_planner.supervisor import SetRefused, Supervisor

# Poses are kept for sets that wait, images that are held, and the odometry's own lateness.
_EXTRA_POSES_NS = 2 * 10**9
_SURPRISING = (ImageFate.LATE, ImageFate.DUPLICATE, ImageFate.OUT_OF_ORDER, ImageFate.INVALID)


class LineOutput(Protocol):
    """Where a line's results go. publish_plan is called once per plan, and never after a later reset's report."""

    def publish_plan(self, result: SetResult) -> None:
        """Publish the trajectory and return; the time until then is the plan's latency."""

    def publish_details(self, result: SetResult) -> None:
        """Publish what may come a little later: candidates, markers, overlays."""

    def publish_report(self, outcome: SetOutcome) -> None: ...

    def say(self, level: Level, sentence: str, details: str = "") -> None:
        """Log a sentence; details (a traceback) are for debugging."""


class PlanningLine:
    """All stages of one configured planner. `start` begins planning, `stop` ends it, `close` frees everything.

    ros_now_ns: reads ROS time. What must survive a deactivation (transforms, camera_info) does.
    """

    def __init__(
        self,
        parameters: PlannerParameters,
        planner: Planner,
        output: LineOutput,
        *,
        use_sim_time: bool,
        ros_now_ns: Callable[[], int],
    ) -> None:
        self.parameters = parameters
        self.planner = planner
        self.camera_names = tuple(planner.cameras) or parameters.cameras
        self.health = Health()
        self.enabled = True
        self.last_arrival_ns: dict[str, int] = {}
        self.transforms = StaticTransforms(parameters.base_frame)
        self.converter = choose_converter()
        self._output = output
        self._ros_now_ns = ros_now_ns
        self.sets = self._new_filter()  # may raise, so before threads are started
        self._pool = DecodePool(parameters.decode_threads)
        self.cameras = {
            name: CameraInput(
                name,
                planner.image_input,
                images_rectified=parameters.images_rectified,
                transforms=self.transforms,
                pool=self._pool,
                converter=self.converter,
            )
            for name in self.camera_names
        }
        self.ego_motion = EgoMotion(
            horizon_ns=round((parameters.hold_max_age + parameters.max_age) * 1e9) + _EXTRA_POSES_NS,
            max_extrapolation_ns=round(parameters.max_extrapolation * 1e9),
            wait_ns=round(parameters.ego_wait * 1e9),
        )
        self.statistics = CameraStatistics(self.camera_names)
        self.supervisor = Supervisor(
            parameters,
            cameras=self.camera_names,
            may_mask=planner.may_mask,
            planner_name=planner.name,
            use_sim_time=use_sim_time,
        )
        self._cycle = PlanCycle(
            planner,
            self.supervisor,
            self.cameras,
            self.ego_motion,
            parameters,
            ros_now_ns=ros_now_ns,
            epoch=lambda: self._epoch,
        )
        # Guards epoch, health and the order of what is published: a plan never follows the report of a later reset.
        self._book = threading.RLock()
        self._epoch = 0
        self._skipped = 0
        self._worker: PlanWorker[SetJob] | None = None
        self._left_behind: PlanWorker[SetJob] | None = None

    @property
    def book(self) -> threading.RLock:
        """Hold it while reading health."""
        return self._book

    # Life

    @property
    def is_hanging(self) -> bool:
        """Whether a planner that did not end with the last stop is still at work."""
        return self._left_behind is not None and self._left_behind.is_alive

    def start(self) -> None:
        """Begin planning, with an empty memory and sets counted from 1. Not while is_hanging: a planner is no party for
        two threads."""
        with self._book:
            self.health.forget()
            self._epoch += 1
            self._skipped = 0
        self.last_arrival_ns.clear()
        self.statistics.reset()
        self.ego_motion.reset()
        self.supervisor.reset(keep_command=False)
        self.sets = self._new_filter()
        self._worker = PlanWorker(self._work, on_skipped=self._skip, on_error=self._worker_failed)
        self._worker.start()

    def stop(self, timeout_s: float) -> bool:
        """End planning: the set in work is dropped and reported; return whether the worker ended within timeout_s."""
        worker, self._worker = self._worker, None
        if worker is None:
            return True
        with self._book:
            self._epoch += 1
        self.sets.reset(time.monotonic_ns())
        ended, waiting = worker.stop(timeout_s)
        self._left_behind = None if ended else worker
        if waiting is not None:
            self._refuse(waiting, RESET_IN_FLIGHT)
        return ended

    def close(self) -> None:
        """Free threads and images."""
        self._pool.close()

    def poll(self) -> None:
        """Let sets whose time is up go; call at next_deadline_ns."""
        self.sets.poll(time.monotonic_ns())

    def reset(self, reason: str) -> None:
        """Forget images, ego motion and memory, as the ~/reset service asks; the driving command stays."""
        self.sets.reset(time.monotonic_ns())
        self.ego_motion.reset()
        self.supervisor.reset(keep_command=True)
        self.statistics.reset()
        self._forget(reason)

    def clock_jumped(self, now_ns: int, reason: str) -> None:
        """Begin anew at ROS time now_ns, keeping what has already arrived from there."""
        self.sets.reset(time.monotonic_ns(), keep_stamp_ns=now_ns)
        self._move_to(now_ns, reason)

    # What arrives

    def on_transforms(self, message: TFMessage) -> None:
        """Take /tf_static."""
        before = self.transforms.revision
        for finding in self.transforms.add(message):
            level = Level.ERROR if finding.kind is FindingKind.REFUSED else Level.WARN
            self.note(Rank.CALIBRATION, level, "/tf_static", finding.sentence)
        if self.transforms.revision != before:
            for camera in self.cameras.values():
                camera.on_transforms()
                self._take_camera_events(camera)

    def on_camera_info(self, name: str, message: CameraInfo) -> None:
        """Take a camera's calibration."""
        camera = self.cameras[name]
        camera.on_camera_info(message)
        self._take_camera_events(camera)

    def on_image(self, name: str, message: Image | CompressedImage) -> None:
        """Take an image: its decoding begins, and the set that it completes goes to the worker."""
        now_ns = time.monotonic_ns()
        self.last_arrival_ns[name] = now_ns
        camera = self.cameras[name]
        try:
            pending = camera.on_image(message, now_ns)
        except CameraProblem as problem:
            self.note(Rank.CAMERA, Level.ERROR, name, problem.sentence)
            return
        if pending.problem is not None:
            self.note(Rank.CAMERA, Level.ERROR, name, pending.problem.sentence)
        self._take_camera_events(camera)
        self.statistics.add(name, pending.stamp_ns)
        self.supervisor.remember(name, pending.stamp_ns, pending)
        self.sets.add(name, pending.stamp_ns, pending, now_ns)

    def on_odometry(self, message: Odometry) -> None:
        """Take the ego's motion."""
        self.last_arrival_ns["odometry"] = time.monotonic_ns()
        try:
            sample = odometry_sample(message, self.transforms)
        except ConversionError as error:
            self.note(Rank.EGO, Level.ERROR, "odometry", str(error))
            return
        for finding in self.ego_motion.add(
            sample.stamp_ns, sample.odom_from_base, sample.linear, sample.angular
        ):
            self.note(Rank.EGO, Level.WARN, "odometry", finding.sentence)
            if finding.resets_memory:
                self._forget(finding.sentence)

    def on_command(self, message: DrivingCommand) -> None:
        """Take a driving command."""
        now_ns = self._ros_now_ns()
        stamp_ns = stamp_to_ns(message.header.stamp)
        problem = self.supervisor.set_command(message.command, message.source, stamp_ns, now_ns)
        if problem is not None:
            self.note(Rank.COMMAND, Level.ERROR, "planning/command", problem)

    def note(self, rank: Rank, level: Level, subject: str, sentence: str, details: str = "") -> None:
        """Show a sentence in /diagnostics for a while, and log it where it is news."""
        finding = Finding(rank=rank, level=level, subject=subject, sentence=sentence)
        with self._book:
            self.health.tally.notes[f"{rank.name.lower()} {subject}"] += 1
            is_news = self.health.note(finding, time.monotonic_ns())
        if is_news:
            self._output.say(level, sentence, details)

    # Sets

    def _new_filter(self) -> SetFilter | ApproximateTimeFilter:
        max_skew_ns = round(self.parameters.max_skew * 1e9)
        common = {"on_event": self._on_set_event, "on_error": self._on_callback_error}
        sets: SetFilter | ApproximateTimeFilter
        if self.parameters.synchronizer == "approximate_time":
            sets = ApproximateTimeFilter(self.camera_names, slop_ns=max_skew_ns, **common)
        else:
            timeout_ns = round(self.parameters.set_timeout * 1e9)
            sets = SetFilter(self.camera_names, max_skew_ns=max_skew_ns, timeout_ns=timeout_ns, **common)
        sets.registerCallback(self._on_set)
        return sets

    def _on_set(self, camera_set: CameraSet) -> None:
        """Hand a set to the worker, or report at once why not. In the receiving thread."""
        reference_ns = camera_set.reference_stamp_ns
        job = SetJob(
            camera_set=camera_set,
            command=self.supervisor.command_for(reference_ns),
            epoch=self._epoch,
            arrival_ns=max(item.arrival_ns for item in camera_set.images.values()),
            to_hold=self.supervisor.candidates_to_hold(self.camera_names, reference_ns),
        )
        if not self.enabled:
            self._finish(
                job, Outcome.DISABLED, "planning is switched off; switch it on by the ~/enable service"
            )
            return
        max_skew_ns = round(self.parameters.max_skew * 1e9)
        if problem := self.statistics.skew_bound_problem(max_skew_ns):
            self._finish(job, Outcome.REFUSED, problem, Rank.RATE, "max_skew")
            return
        try:
            self.supervisor.require_possible(camera_set.missing, job.to_hold, Outcome.INCOMPLETE)
        except SetRefused as refusal:
            self._finish(job, refusal.outcome, str(refusal), refusal.rank, refusal.subject)
            return
        if self.supervisor.is_too_soon(reference_ns):
            self._finish(job, Outcome.SKIPPED_RATE, "left out by max_plan_rate")
            return
        if self._worker is None:
            self._finish(job, Outcome.REFUSED, "the node is not active")
            return
        for item in camera_set.images.values():
            item.item.claim()
        self._worker.submit(job)

    def _on_set_event(self, event: Event) -> None:
        if isinstance(event, ClockJump):
            # The assembler has begun anew by itself and kept what belongs to the new time.
            self._move_to(event.to_ns, event.sentence)
        elif isinstance(event, ImageOutcome):
            with self._book:
                self.health.tally.images.setdefault(event.camera, Counter())[event.outcome.value] += 1
            if event.outcome in _SURPRISING:
                self.note(Rank.RATE, Level.WARN, event.camera, event.sentence)

    def _on_callback_error(self, sentence: str, error: Exception) -> None:
        self.note(Rank.PLANNER, Level.ERROR, "set callback", sentence, repr(error))

    def _take_camera_events(self, camera: CameraInput) -> None:
        for event in camera.take_events():
            if event.kind is EventKind.CALIBRATED:
                self._output.say(Level.OK, event.sentence)
            elif event.kind is EventKind.IMAGE_SIZE_CHANGED:
                self.note(Rank.CAMERA, Level.WARN, event.camera, event.sentence)
            else:
                self.note(Rank.CALIBRATION, Level.WARN, event.camera, event.sentence)
                if event.kind is EventKind.CALIBRATION_CHANGED:
                    self._forget(event.sentence)

    # In the worker

    def _work(self, job: SetJob) -> None:
        result = self._cycle.run(job)
        if result.plan is not None:
            watch = StageWatch(time.monotonic_ns(), result.stages_ms)
            with self._book:
                if job.epoch != self._epoch:
                    result.refuse(RESET_IN_FLIGHT, outcome=Outcome.REFUSED, rank=Rank.SET, subject="reset")
                else:
                    self._publish(result)
            watch.end("publish")
        self._report(result)
        if result.plan is not None:
            self._output.publish_details(result)

    def _publish(self, result: SetResult) -> None:
        try:
            self._output.publish_plan(result)
        except Exception as error:  # noqa: BLE001 - the set still gets its report
            sentence = f"the plan could not be published: {type(error).__name__}: {error}"
            result.refuse(sentence, outcome=Outcome.REFUSED, rank=Rank.PLANNER, subject="publishing")
            return
        result.published_ns = time.monotonic_ns()
        result.latency_ms = (result.published_ns - result.job.arrival_ns) / 1e6

    def _worker_failed(self, job: SetJob, error: BaseException) -> None:
        sentence = (
            f"details of set {job.camera_set.set_id} could not be published: {type(error).__name__}: {error}"
        )
        self.note(Rank.PLANNER, Level.ERROR, "publishing", sentence, repr(error))

    def _skip(self, job: SetJob) -> None:
        self._finish(job, Outcome.SKIPPED_BUSY, "a newer set came while the planner was working")

    def _refuse(self, job: SetJob, reason: str) -> None:
        self._finish(job, Outcome.REFUSED, reason, Rank.SET, "reset")

    def _finish(
        self, job: SetJob, outcome: Outcome, reason: str, rank: Rank = Rank.SET, subject: str = "set"
    ) -> None:
        """Report a set that is not planned on, and let its images go."""
        result = SetResult(job=job, cameras=cameras_as_received(job.camera_set, self.camera_names))
        result.refuse(reason, outcome=outcome, rank=rank, subject=subject)
        if self.parameters.missing_camera != "hold":  # a held image may still be wanted
            for item in job.camera_set.images.values():
                item.item.cancel()
        self._report(result)

    def _report(self, result: SetResult) -> None:
        """Count and publish what became of a set: once for each, in either thread."""
        steady_ns = time.monotonic_ns()
        with self._book:
            now_ns = self._ros_now_ns()
            tally = self.health.tally
            tally.outcomes[result.outcome] += 1
            if result.outcome in (Outcome.SKIPPED_BUSY, Outcome.SKIPPED_RATE):
                self._skipped += 1
            report = result.report(now_ns=now_ns, skipped_before=self._skipped)
            tally.measure("skew_ms", steady_ns, report.skew_ns / 1e6)
            tally.measure("skipped_busy", steady_ns, float(result.outcome is Outcome.SKIPPED_BUSY))
            if result.outcome is Outcome.PLANNED:
                self._skipped = 0
                tally.last_plan_ns = steady_ns
                tally.measure("age_ms", steady_ns, report.age_ns / 1e6)
                tally.measure("latency_ms", steady_ns, result.latency_ms)
                tally.last_flags, tally.last_degraded = result.flags, tuple(result.degraded)
            self._output.publish_report(report)
        if result.outcome in (Outcome.REFUSED, Outcome.INCOMPLETE):
            self.note(result.rank, Level.ERROR, result.subject, result.reason, result.fault)
        elif result.outcome is Outcome.PLANNED and result.job.command.is_default:
            self.note(Rank.COMMAND, Level.WARN, "default command", result.job.command.problem)

    # Resets

    def _move_to(self, now_ns: int, reason: str) -> None:
        self.ego_motion.move_to(now_ns)
        self.supervisor.reset(keep_command=False)
        self.statistics.reset()
        self._forget(reason)

    def _forget(self, reason: str) -> None:
        """Empty the planner's memory before its next set; report that, and whatever was in work comes to nothing."""
        with self._book:
            self._epoch += 1
            if self._worker is None:
                return  # nothing has been planned yet; start empties the memory anyway
            self.health.tally.resets += 1
            self.health.tally.last_reset_reason = reason
            now_ns = self._ros_now_ns()
            self._output.publish_report(
                SetOutcome(outcome=Outcome.RESET, reference_stamp_ns=now_ns, reason=reason, memory_reset=True)
            )
        self.note(Rank.EGO, Level.WARN, "reset", f"reset: {reason}")
        if (waiting := self._worker.withdraw()) is not None:
            self._refuse(waiting, RESET_IN_FLIGHT)
