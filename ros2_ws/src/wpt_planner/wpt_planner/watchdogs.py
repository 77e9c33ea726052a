"""What is wrong at this moment, from a snapshot of the node: silent inputs, missing calibration, a stopped clock.

ROS-free. Steady times are nanoseconds of the monotonic clock, so that a stopped /clock cannot hide anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wpt_planner.findings import Finding, Level, Rank, span

# A planner that leaves out this share of its sets is too slow for its cameras.
SKIPPED_SHARE = 0.1
# Losses below this are the odd dropped frame; above, a transport or a machine is overloaded.
LOSS_PERCENT = 1.0


@dataclass(frozen=True, kw_only=True)
class TopicWatch:
    """A subscribed topic. name: full; publishers: how many; last_ns: steady time of its last message, None if none."""

    name: str
    publishers: int
    last_ns: int | None = None

    def silence(self, now_ns: int, since_ns: int) -> int:
        """Nanoseconds without a message, counted from activation where none has come."""
        return now_ns - (self.last_ns if self.last_ns is not None else since_ns)


@dataclass(frozen=True, kw_only=True)
class CameraWatch:
    """One camera. problem: its calibration's, '' if none. other_publishers: of its image topic in the other transport."""

    name: str
    images: TopicWatch
    camera_info: TopicWatch
    problem: str = ""
    warnings: tuple[str, ...] = ()
    other_transport: str = ""
    other_publishers: int = 0


@dataclass(frozen=True, kw_only=True)
class ClockWatch:
    """ROS time. advanced_ns: steady time at which it was last seen to move."""

    simulated: bool
    now_ns: int
    advanced_ns: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """An active node at now_ns (steady). silent_after_ns: how long an input may be silent. skipped_share: of the recent
    sets, those that came while the planner was working."""

    now_ns: int
    active_since_ns: int
    silent_after_ns: int
    enabled: bool
    clock: ClockWatch
    cameras: Sequence[CameraWatch]
    odometry: TopicWatch
    needs_ego: bool
    last_plan_ns: int | None
    skipped_share: float = 0.0
    losses: Sequence[str] = ()
    skew_problem: str = ""
    incompatible: Sequence[tuple[str, str]] = ()
    other_image_topics: Sequence[str] = ()


def standing_findings(snapshot: Snapshot) -> list[Finding]:
    """Return everything that is wrong with an active node now, unsorted."""
    findings = [
        Finding(rank=Rank.CONNECTION, level=Level.ERROR, subject=topic, sentence=sentence)
        for topic, sentence in snapshot.incompatible
    ]
    if not snapshot.enabled:
        findings.append(
            Finding(
                rank=Rank.STATE,
                level=Level.WARN,
                subject="enable",
                sentence="planning is switched off; switch it on by the ~/enable service",
            )
        )
    findings += _clock(snapshot)
    findings += _cameras(snapshot)
    findings += _odometry(snapshot)
    for sentence in snapshot.losses:
        findings.append(
            Finding(rank=Rank.RATE, level=Level.WARN, subject=sentence.split()[0], sentence=sentence)
        )
    if snapshot.skew_problem:
        findings.append(
            Finding(rank=Rank.RATE, level=Level.ERROR, subject="max_skew", sentence=snapshot.skew_problem)
        )
    if snapshot.skipped_share > SKIPPED_SHARE:
        findings.append(
            Finding(
                rank=Rank.RATE,
                level=Level.WARN,
                subject="skipped",
                sentence=f"the planner was too slow for {100 * snapshot.skipped_share:.0f} % of the last ten seconds' sets: "
                "use a faster device or a smaller policy, or set max_plan_rate",
            )
        )
    if snapshot.enabled and (silence := _no_plans(snapshot)) is not None:
        findings.append(silence)
    return findings


def _clock(snapshot: Snapshot) -> list[Finding]:
    clock = snapshot.clock
    silent_ns = snapshot.now_ns - clock.advanced_ns
    if not clock.simulated or silent_ns <= snapshot.silent_after_ns:
        return []
    if clock.now_ns == 0:
        sentence = "no /clock has been received and use_sim_time is true: play the recording with --clock"
    else:
        sentence = f"/clock has stopped {span(silent_ns)} ago: continue the playback or the simulation"
    return [Finding(rank=Rank.CLOCK, level=Level.ERROR, subject="/clock", sentence=sentence)]


def _cameras(snapshot: Snapshot) -> list[Finding]:
    findings = []
    for camera in snapshot.cameras:
        silent_ns = camera.images.silence(snapshot.now_ns, snapshot.active_since_ns)
        if silent_ns > snapshot.silent_after_ns:
            findings.append(
                Finding(
                    rank=Rank.CAMERA,
                    level=Level.ERROR,
                    subject=camera.name,
                    sentence=_silent_camera(camera, silent_ns, snapshot.other_image_topics),
                )
            )
        # Without images nobody needs the calibration; the silence is the news.
        elif camera.problem and camera.images.last_ns is not None:
            sentence = camera.problem
            if camera.camera_info.publishers == 0 and camera.camera_info.last_ns is None:
                sentence += f" (nobody publishes {camera.camera_info.name})"
            findings.append(
                Finding(rank=Rank.CALIBRATION, level=Level.ERROR, subject=camera.name, sentence=sentence)
            )
        for number, warning in enumerate(camera.warnings):
            findings.append(
                Finding(
                    rank=Rank.CALIBRATION,
                    level=Level.WARN,
                    subject=f"{camera.name} {number}",
                    sentence=warning,
                )
            )
    return findings


def _silent_camera(camera: CameraWatch, silent_ns: int, other_topics: Sequence[str]) -> str:
    if camera.images.last_ns is not None:
        sentence = f"{camera.name} has been silent for {span(silent_ns)}"
    else:
        sentence = f"{camera.name} has sent no image in {span(silent_ns)}"
    if camera.images.publishers:
        return f"{sentence} on {camera.images.name}, which has {camera.images.publishers} publisher(s)"
    sentence += f": nobody publishes {camera.images.name}"
    if camera.other_publishers:
        return f"{sentence}; its images are there as {camera.other_transport}: set transport:={camera.other_transport}"
    if other_topics:
        return f"{sentence}; images are on {', '.join(other_topics[:6])}: remap them, or use the policy of this rig"
    return sentence


def _odometry(snapshot: Snapshot) -> list[Finding]:
    silent_ns = snapshot.odometry.silence(snapshot.now_ns, snapshot.active_since_ns)
    if silent_ns <= snapshot.silent_after_ns:
        return []
    topic = snapshot.odometry
    if topic.last_ns is not None:
        sentence = f"odometry has been silent for {span(silent_ns)} on {topic.name}"
    else:
        sentence = f"no odometry in {span(silent_ns)} on {topic.name}"
    if not topic.publishers:
        sentence += ", which nobody publishes"
    level = Level.ERROR if snapshot.needs_ego else Level.WARN
    return [Finding(rank=Rank.EGO, level=level, subject="odometry", sentence=sentence)]


def _no_plans(snapshot: Snapshot) -> Finding | None:
    last = snapshot.last_plan_ns
    silent_ns = snapshot.now_ns - (last if last is not None else snapshot.active_since_ns)
    if silent_ns <= snapshot.silent_after_ns:
        return None
    if last is None:
        sentence = f"no plan has been published since activation, {span(silent_ns)} ago"
    else:
        sentence = f"no plan has been published for {span(silent_ns)}"
    return Finding(rank=Rank.SILENCE, level=Level.ERROR, subject="plans", sentence=sentence)
