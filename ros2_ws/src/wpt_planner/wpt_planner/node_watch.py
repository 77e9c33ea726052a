"""Gathers what /diagnostics needs from a node and its line, and publishes it: each second, and when it changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible, qos_policy_name_from_kind

from wpt_planner import topics
from wpt_planner.camera_image import CameraProblem
from wpt_planner.diagnostics import diagnostic_msg, good_line, planner_values, running_values
from wpt_planner.findings import Finding, Level, Rank
from wpt_planner.planning_line import PlanningLine
from wpt_planner.watchdogs import (
    LOSS_PERCENT,
    CameraWatch,
    ClockWatch,
    Snapshot,
    TopicWatch,
    standing_findings,
)

_PERIOD_NS = 10**9


@dataclass(frozen=True, kw_only=True)
class NodeStatus:
    """A node's lifecycle. failure: why configuring failed, '' if it did not. next_attempt_s: of autostart, None if it
    will make none. active_since_ns: steady time, None while not active."""

    label: str
    failure: str = ""
    next_attempt_s: float | None = None
    active_since_ns: int | None = None


class NodeWatch:
    """Owns the /diagnostics publisher, a plain one: it speaks in every state of the lifecycle."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(
            topics.DIAGNOSTICS.type, topics.DIAGNOSTICS.name, topics.DIAGNOSTICS.qos()
        )
        self._incompatible: dict[str, str] = {}
        self._clock_now_ns = 0
        self._clock_moved_ns = time.monotonic_ns()
        self._published_ns = 0
        self._gist: list[tuple[Rank, str, Level]] = []
        # What is dear to ask for is asked for once per second.
        self._publishers: dict[str, int] = {}
        self._losses: list[str] = []
        self._skew_problem = ""
        self._image_topics: list[str] = []

    def restart(self) -> None:
        """Forget what belongs to the last activation."""
        self._incompatible.clear()
        self._clock_moved_ns = time.monotonic_ns()
        self._published_ns = 0

    def note_incompatible(self, topic: str, event: Any) -> None:
        """Take an incompatible-QoS event of a full topic name; it is shown until the other side is gone or changed."""
        self._incompatible[topic] = qos_policy_name_from_kind(event.last_policy_kind).lower()

    def look(self, status: NodeStatus, line: PlanningLine | None, now_ns: int) -> None:
        """Publish where it is time. now_ns: steady."""
        ros_now_ns = self._node.get_clock().now().nanoseconds
        if ros_now_ns != self._clock_now_ns:
            self._clock_now_ns, self._clock_moved_ns = ros_now_ns, now_ns
        is_due = now_ns - self._published_ns >= _PERIOD_NS
        active_since_ns = status.active_since_ns
        if line is None or active_since_ns is None:
            findings = [self._state_finding(status)]
        else:
            if is_due:
                self._ask(line)
            with line.book:
                snapshot = self._snapshot(line, active_since_ns, now_ns)
                findings = line.health.findings(standing_findings(snapshot), now_ns)
        gist = [(finding.rank, finding.subject, finding.level) for finding in findings]
        if is_due or gist != self._gist:
            self._gist, self._published_ns = gist, now_ns
            self._publish(status, line, findings, now_ns)

    def _publish(
        self, status: NodeStatus, line: PlanningLine | None, findings: list[Finding], now_ns: int
    ) -> None:
        good, hardware, values = "", "", [("state", status.label)]
        if line is not None:
            hardware = getattr(line.planner, "device_description", "")
            with line.book:
                good = good_line(line, now_ns)
                values += [*planner_values(line), *running_values(line, now_ns)]
        self._publisher.publish(
            diagnostic_msg(
                node=self._node.get_fully_qualified_name(),
                stamp=self._node.get_clock().now().to_msg(),
                hardware=hardware,
                findings=findings,
                good=good,
                values=values,
            )
        )

    def _state_finding(self, status: NodeStatus) -> Finding:
        level, sentence = Level.WARN, f"not planning: the node is {status.label}"
        if status.failure and status.label in ("unconfigured", "inactive"):
            level, sentence = Level.ERROR, f"not planning: {status.failure}"
            if status.next_attempt_s is not None:
                sentence += f" (next attempt in {status.next_attempt_s:.0f} s)"
        transition = {"unconfigured": "configure", "inactive": "activate"}.get(status.label)
        if status.next_attempt_s is None and transition is not None:
            sentence += f"; ros2 lifecycle set {self._node.get_fully_qualified_name()} {transition}"
        return Finding(rank=Rank.STATE, level=level, subject="state", sentence=sentence)

    def _ask(self, line: PlanningLine) -> None:
        names = [topics.ODOMETRY.name]
        for camera in line.camera_names:
            names += [topics.image_topic(camera, transport).name for transport in ("compressed", "raw")]
            names.append(topics.camera_info_topic(camera).name)
        self._publishers = {name: self._node.count_publishers(name) for name in names}
        self._losses = line.statistics.loss_sentences(LOSS_PERCENT)
        max_skew_ns = round(line.parameters.max_skew * 1e9)
        self._skew_problem = line.statistics.skew_bound_problem(max_skew_ns) or ""
        self._forget_healed()
        self._image_topics = []
        if any(
            not self._publishers[topics.image_topic(name, line.parameters.transport).name]
            for name in line.cameras
        ):
            image_type = {"compressed": "CompressedImage", "raw": "Image"}[line.parameters.transport]
            ours = {self._node.resolve_topic_name(name) for name in names}
            self._image_topics = [
                topic
                for topic, types in self._node.get_topic_names_and_types()
                if f"sensor_msgs/msg/{image_type}" in types and topic not in ours and "/overlay/" not in topic
            ]

    def _forget_healed(self) -> None:
        """Drop those incompatible topics on which every pair fits by now."""
        for topic in list(self._incompatible):
            writers = self._node.get_publishers_info_by_topic(topic)
            readers = self._node.get_subscriptions_info_by_topic(topic)
            ours = (self._node.get_name(), self._node.get_namespace())
            pairs = [
                (writer, reader)
                for writer in writers
                for reader in readers
                if ours in ((end.node_name, end.node_namespace) for end in (writer, reader))
            ]
            if not any(
                qos_check_compatible(writer.qos_profile, reader.qos_profile)[0] == QoSCompatibility.ERROR
                for writer, reader in pairs
            ):
                del self._incompatible[topic]

    def _snapshot(self, line: PlanningLine, active_since_ns: int, now_ns: int) -> Snapshot:
        transport = line.parameters.transport
        other = "raw" if transport == "compressed" else "compressed"

        def watch(topic: topics.Topic, key: str) -> TopicWatch:
            return TopicWatch(
                name=self._node.resolve_topic_name(topic.name),
                publishers=self._publishers.get(topic.name, 0),
                last_ns=line.last_arrival_ns.get(key),
            )

        cameras = []
        for name, camera in line.cameras.items():
            try:
                camera.calibration()
                problem = ""
            except CameraProblem as error:
                problem = error.sentence
            cameras.append(
                CameraWatch(
                    name=name,
                    images=watch(topics.image_topic(name, transport), name),
                    camera_info=watch(topics.camera_info_topic(name), f"camera_info of {name}"),
                    problem=problem,
                    warnings=camera.warnings(),
                    other_transport=other,
                    other_publishers=self._publishers.get(topics.image_topic(name, other).name, 0),
                )
            )
        return Snapshot(
            now_ns=now_ns,
            active_since_ns=active_since_ns,
            silent_after_ns=round(line.parameters.silent_after * 1e9),
            enabled=line.enabled,
            clock=ClockWatch(
                simulated=line.supervisor.use_sim_time, now_ns=self._clock_now_ns, advanced_ns=self._clock_moved_ns
            ),
            cameras=cameras,
            odometry=watch(topics.ODOMETRY, "odometry"),
            needs_ego=line.planner.needs_ego or line.parameters.require_ego,
            last_plan_ns=line.health.tally.last_plan_ns,
            skipped_share=line.health.tally.skipped_share(now_ns),
            losses=self._losses,
            skew_problem=self._skew_problem,
            incompatible=[
                (topic, f"{topic} has a publisher and a subscriber with incompatible {policy}: give both the same quality "
                        "of service, or override ours by the parameter qos_overrides")
                for topic, policy in self._incompatible.items()
            ],
            other_image_topics=self._image_topics,
        )  # fmt: skip
