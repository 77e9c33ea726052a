"""From a camera set to a judged plan: await its images, supervise, plan, check. Runs in the plan worker; ROS-free.

Whatever goes wrong with a set becomes its refusal, in one sentence; nothing here raises but for a programming mistake.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import CameraView, EgoState, Frame, ViewStatus
from wpt_policy.plan import Plan, PlanFlag
from wpt_policy.planner import Planner, PlannerError
from wpt_policy.plausibility import plan_problem

from wpt_planner.camera_image import CameraImage, CameraProblem
from wpt_planner.camera_input import CameraInput
from wpt_planner.decode_pool import PendingImage
from wpt_planner.ego_motion import EgoMotion, EgoSample
from wpt_planner.ego_motion import EgoSource as SampleSource
from wpt_planner.findings import Rank
from wpt_planner.parameters import PlannerParameters
from wpt_planner.set_assembler import CameraSet
from wpt_planner.set_outcome import CameraOutcome, CameraStatus, EgoSource, Outcome, SetOutcome
from wpt_planner.supervisor import CommandInUse, SetRefused, Supervisor, command_problem

# Decoding a 1600x900 JPEG takes 5 to 10 ms; a pool that is this late will not catch up with this set.
_DECODE_LIMIT_S = 1.0

RESET_IN_FLIGHT = "the planner was reset while this set was in work; its plan belongs to what was before"


@dataclass(frozen=True, kw_only=True, eq=False)
class SetJob:
    """One set on its way to a plan.

    epoch: count of resets when the set was formed. arrival_ns: steady time at which its newest image arrived.
    to_hold: for each missing camera, older images (stamp, image) that may stand in, newest first.
    """

    camera_set: CameraSet
    command: CommandInUse
    epoch: int
    arrival_ns: int
    to_hold: Mapping[str, list[tuple[int, PendingImage]]] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class SetResult:
    """What became of a job; filled on its way. plan is set only where it may be published.

    cameras: outcome of each, in rig order (see cameras_as_received). images: prepared images by camera.
    rank, subject: what a refusal's reason is about. fault: traceback text of an unexpected exception.
    """

    job: SetJob
    cameras: dict[str, CameraOutcome]
    outcome: Outcome = Outcome.PLANNED
    reason: str = ""
    rank: Rank = Rank.SET
    subject: str = "set"
    fault: str = ""
    plan: Plan | None = None
    images: dict[str, tuple[CameraImage, CameraCalibration]] = field(default_factory=dict)
    ego: EgoState | None = None
    ego_source: EgoSource = EgoSource.NONE
    flags: PlanFlag = PlanFlag.NONE
    memory_reset: bool = False
    stages_ms: dict[str, float] = field(default_factory=dict)
    latency_ms: float = math.nan
    published_ns: int = 0

    @property
    def degraded(self) -> list[str]:
        """Cameras that were held or masked."""
        stood_in = (CameraStatus.HELD, CameraStatus.MASKED)
        return [name for name, camera in self.cameras.items() if camera.status in stood_in]

    def refuse(self, reason: str, *, outcome: Outcome, rank: Rank, subject: str) -> None:
        """Take the plan back."""
        self.plan, self.outcome, self.reason, self.rank, self.subject = None, outcome, reason, rank, subject

    def report(self, *, now_ns: int, skipped_before: int) -> SetOutcome:
        """Return the set's report. now_ns: ROS time; skipped_before: sets skipped since the previous plan."""
        camera_set, command, ego = self.job.camera_set, self.job.command, self.ego
        return SetOutcome(
            outcome=self.outcome,
            reference_stamp_ns=camera_set.reference_stamp_ns,
            set_id=camera_set.set_id,
            reason=self.reason,
            cameras=self.cameras,
            ego_source=self.ego_source,
            odom_from_base=ego.odom_from_base if ego is not None else None,
            linear_velocity=ego.linear_velocity if ego is not None else None,
            angular_velocity=ego.angular_velocity if ego is not None else None,
            command=command.command,
            command_source=command.source,
            command_stamp_ns=command.stamp_ns,
            flags=self.flags,
            memory_reset=self.memory_reset,
            skew_ns=camera_set.skew_ns,
            age_ns=now_ns - camera_set.reference_stamp_ns,
            latency_ms=self.latency_ms,
            stages_ms=self.stages_ms,
            skipped_before=skipped_before,
            published_steady_ns=self.published_ns,
        )


class StageWatch:
    """Adds up the milliseconds of consecutive stages, on the monotonic clock."""

    def __init__(self, started_ns: int, stages_ms: dict[str, float]) -> None:
        self._last_ns = started_ns
        self._stages_ms = stages_ms

    def end(self, stage: str) -> None:
        """Name what was done since the last call."""
        now_ns = time.monotonic_ns()
        self._stages_ms[stage] = self._stages_ms.get(stage, 0.0) + (now_ns - self._last_ns) / 1e6
        self._last_ns = now_ns


class PlanCycle:
    """Plans on one set at a time. One thread calls `run`; the planner is touched by no other.

    cameras: inputs by name in the rig's order. ros_now_ns: reads ROS time. epoch: reads the present count of resets:
    a set of an earlier epoch is refused, and the planner's memory is emptied before the first set of a new one.
    """

    def __init__(
        self,
        planner: Planner,
        supervisor: Supervisor,
        cameras: Mapping[str, CameraInput],
        ego_motion: EgoMotion,
        parameters: PlannerParameters,
        *,
        ros_now_ns: Callable[[], int],
        epoch: Callable[[], int],
    ) -> None:
        self._planner = planner
        self._supervisor = supervisor
        self._cameras = cameras
        self._ego_motion = ego_motion
        self._parameters = parameters
        self._ros_now_ns = ros_now_ns
        self._epoch = epoch
        self._planner_epoch: int | None = None
        self._memory_was_reset = False

    def run(self, job: SetJob) -> SetResult:
        """Return the result of one set; never raises."""
        result = SetResult(job=job, cameras=cameras_as_received(job.camera_set, self._cameras))
        watch = StageWatch(job.arrival_ns, result.stages_ms)
        try:
            watch.end("wait")
            self._plan(job, result, watch)
        except SetRefused as refusal:
            result.refuse(str(refusal), outcome=refusal.outcome, rank=refusal.rank, subject=refusal.subject)
        except CameraProblem as problem:
            result.refuse(
                problem.sentence, outcome=Outcome.REFUSED, rank=Rank.CALIBRATION, subject=problem.camera
            )
        except BaseException as error:  # noqa: BLE001 - the node lives, whatever a planner does, sys.exit() too
            what = " ".join(str(error).split()) or "no message"
            name = type(error).__name__
            self._fail(
                result, f"planning on the set failed with {name}: {what}; run with log_level debug for more"
            )
        return result

    def _fail(self, result: SetResult, reason: str) -> None:
        result.refuse(reason, outcome=Outcome.REFUSED, rank=Rank.PLANNER, subject=self._planner.name)
        result.fault = traceback.format_exc()

    def _plan(self, job: SetJob, result: SetResult, watch: StageWatch) -> None:
        reference_ns = job.camera_set.reference_stamp_ns
        self._require_present(job)
        if (problem := self._supervisor.time_problem(reference_ns, self._ros_now_ns())) is not None:
            raise SetRefused(problem, rank=Rank.CLOCK, subject="stamps")
        if (
            problem := command_problem(job.command.command, self._planner.commands, self._planner.name)
        ) is not None:
            raise SetRefused(problem, rank=Rank.COMMAND, subject="command")
        self._await_images(job, result)
        watch.end("decode")
        frame = self._frame(job, result)
        watch.end("ego_motion")
        self._require_present(job)
        if self._planner_epoch != job.epoch:
            self._planner.reset()
            self._planner_epoch, self._memory_was_reset = job.epoch, True
        result.memory_reset = self._memory_was_reset
        try:
            plan = self._planner.plan(frame)
        except PlannerError as error:
            raise SetRefused(str(error), rank=Rank.PLANNER, subject=self._planner.name) from None
        finally:
            self._memory_was_reset = False
            watch.end("plan")
            for stage, milliseconds in getattr(self._planner, "last_stage_ms", {}).items():
                result.stages_ms[f"plan/{stage}"] = float(milliseconds)
        self._check(job, result, plan, frame)
        result.flags |= plan.flags
        result.plan = plan
        watch.end("check")

    def _require_present(self, job: SetJob) -> None:
        if job.epoch != self._epoch():
            raise SetRefused(RESET_IN_FLIGHT, rank=Rank.SET, subject="reset")

    def _check(self, job: SetJob, result: SetResult, plan: Plan, frame: Frame) -> None:
        """Refuse a plan that is not of this set, impossible, or too old; a planner's word is not taken for it."""
        name = self._planner.name
        if plan.reference_stamp_ns != frame.reference_stamp_ns:
            raise SetRefused(
                f"plan of {name} has reference stamp {plan.reference_stamp_ns}, expected that of its set, "
                f"{frame.reference_stamp_ns}; this is a fault of the planner",
                rank=Rank.PLANNER,
                subject=name,
            )
        speed = frame.ego.speed if frame.ego is not None else None
        if (problem := plan_problem(plan, self._parameters.limits, speed)) is not None:
            raise SetRefused(problem, rank=Rank.PLANNER, subject=name)
        self._require_present(job)
        problem = self._supervisor.plan_age_problem(
            frame.reference_stamp_ns, self._ros_now_ns(), result.stages_ms["plan"]
        )
        if problem is not None:
            raise SetRefused(problem, rank=Rank.PLANNER, subject=name)

    # Cameras

    def _await_images(self, job: SetJob, result: SetResult) -> None:
        """Fill result.images and result.cameras; raises SetRefused or, for a camera without calibration, CameraProblem."""
        received = job.camera_set.images
        failures: dict[str, CameraProblem] = {}
        for name, item in received.items():
            try:
                image = item.item.result(_DECODE_LIMIT_S)
            except CameraProblem as problem:
                failures[name] = problem
                result.cameras[name] = CameraOutcome(status=CameraStatus.FAILED, stamp_ns=item.stamp_ns)
            else:
                result.images[name] = (image, self._calibration(name, image, result, item.stamp_ns))
        lost = tuple(name for name in self._cameras if name not in result.images)
        if not lost:
            return
        try:
            self._supervisor.require_possible(lost, job.to_hold, Outcome.INCOMPLETE)
        except SetRefused as refusal:
            if (failure := failures.get(refusal.subject)) is None:
                raise
            raise SetRefused(failure.sentence, rank=Rank.CAMERA, subject=failure.camera) from None
        for name in lost:
            self._stand_in(name, job, result, failures.get(name))

    def _calibration(
        self, name: str, image: CameraImage, result: SetResult, stamp_ns: int
    ) -> CameraCalibration:
        try:
            return self._cameras[name].calibration(image)
        except CameraProblem:
            result.cameras[name] = CameraOutcome(status=CameraStatus.FAILED, stamp_ns=stamp_ns)
            raise

    def _stand_in(self, name: str, job: SetJob, result: SetResult, failure: CameraProblem | None) -> None:
        last = failure
        for stand_in in self._supervisor.stand_in(name, job.to_hold):
            if stand_in.is_mask:
                result.cameras[name] = CameraOutcome(status=CameraStatus.MASKED)
                result.flags |= PlanFlag.CAMERA_MASKED
                return
            try:
                image = stand_in.item.result(_DECODE_LIMIT_S)
            except CameraProblem as problem:
                last = problem
                continue
            result.images[name] = (image, self._calibration(name, image, result, stand_in.stamp_ns))
            result.cameras[name] = CameraOutcome(status=CameraStatus.HELD, stamp_ns=stand_in.stamp_ns)
            result.flags |= PlanFlag.CAMERA_HELD
            return
        sentence = last.sentence if last is not None else f"no image of {name} in this set; check {name}"
        raise SetRefused(sentence, rank=Rank.CAMERA, subject=name)

    # Ego motion and frame

    def _frame(self, job: SetJob, result: SetResult) -> Frame:
        reference_ns = job.camera_set.reference_stamp_ns
        self._ego_motion.wait_covered(reference_ns, self._parameters.ego_wait)
        reference = self._ego_motion.at(reference_ns)
        samples = {name: self._ego_motion.at(image.stamp_ns) for name, (image, _) in result.images.items()}
        uncovered = [name for name, sample in samples.items() if sample is None]
        if reference is None or uncovered:
            if self._planner.needs_ego and reference is None:
                raise SetRefused(
                    self._ego_problem(reference_ns, f"{self._planner.name} needs it"),
                    rank=Rank.EGO,
                    subject="odometry",
                )
            if self._parameters.require_ego:
                stamp_ns = reference_ns if reference is None else result.images[uncovered[0]][0].stamp_ns
                raise SetRefused(
                    self._ego_problem(stamp_ns, "require_ego is set"), rank=Rank.EGO, subject="odometry"
                )
            result.flags |= PlanFlag.UNCOMPENSATED
        if reference is not None:
            result.ego = _ego_state(reference)
            result.ego_source = EgoSource.EXTRAPOLATED if result.ego.extrapolated else EgoSource.INTERPOLATED
            if result.ego.extrapolated:
                result.flags |= PlanFlag.EGO_EXTRAPOLATED
        if job.command.is_default:
            result.flags |= PlanFlag.DEFAULT_COMMAND
        views: dict[str, CameraView] = {}
        for name in self._cameras:
            pose = None
            if name in result.images:
                image, calibration = result.images[name]
                sample = samples[name]
                pose = sample.odom_from_base if sample is not None and reference is not None else None
                status = (
                    ViewStatus.HELD if result.cameras[name].status is CameraStatus.HELD else ViewStatus.USED
                )
                views[name] = CameraView(
                    calibration=calibration,
                    stamp_ns=image.stamp_ns,
                    pixels=image.pixels,
                    odom_from_base=pose,
                    status=status,
                )
            elif (view := self._masked_view(name, reference_ns, result.ego)) is not None:
                views[name] = view
            old = result.cameras[name]
            result.cameras[name] = CameraOutcome(
                status=old.status, stamp_ns=old.stamp_ns, odom_from_base=pose
            )
        return Frame(
            reference_stamp_ns=reference_ns,
            views=views,
            ego=result.ego,
            command=job.command.command,
            command_source=job.command.source,
        )

    def _ego_problem(self, stamp_ns: int, why: str) -> str:
        reason = self._ego_motion.problem(stamp_ns) or "no odometry covers this set"
        return f"{reason} ({why})"

    def _masked_view(self, name: str, reference_ns: int, ego: EgoState | None) -> CameraView | None:
        """The view of a masked camera; None where its calibration never came, which is as good."""
        try:
            calibration = self._cameras[name].calibration()
        except CameraProblem:
            return None
        return CameraView(
            calibration=calibration,
            stamp_ns=reference_ns,
            pixels=None,
            odom_from_base=ego.odom_from_base if ego is not None else None,
            status=ViewStatus.MASKED,
        )


def cameras_as_received(camera_set: CameraSet, rig: Iterable[str]) -> dict[str, CameraOutcome]:
    """Return each camera's outcome as far as the set alone tells it, in the rig's order."""
    return {
        name: CameraOutcome(status=CameraStatus.USED, stamp_ns=camera_set.images[name].stamp_ns)
        if name in camera_set.images
        else CameraOutcome(status=CameraStatus.MISSING)
        for name in rig
    }


def base_at_camera_from_base_at_reference(result: SetResult, camera: str) -> np.ndarray | None:
    """Return (4, 4) base_link at the camera's stamp from base_link at the reference stamp, None without ego motion."""
    pose = result.cameras[camera].odom_from_base
    if pose is None or result.ego is None:
        return None
    return se3.inverse(pose) @ result.ego.odom_from_base


def _ego_state(sample: EgoSample) -> EgoState:
    return EgoState(
        stamp_ns=sample.stamp_ns,
        odom_from_base=sample.odom_from_base,
        linear_velocity=sample.linear,
        angular_velocity=sample.angular,
        extrapolated=sample.source is SampleSource.EXTRAPOLATED,
    )
