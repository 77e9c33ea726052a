"""The planner's publishers: plans, what explains them, and the report of every set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode

from wpt_planner import topics
from wpt_planner.conversions import candidates_msg, command_msg, path_msg, set_report_msg, trajectory_msg
from wpt_planner.findings import Level
from wpt_planner.markers import delete_all_markers, ego_markers, plan_markers
from wpt_planner.overlay import overlay_msg
from wpt_planner.parameters import PlannerParameters
from wpt_planner.plan_cycle import SetResult, base_at_camera_from_base_at_reference
from wpt_planner.set_outcome import Outcome, SetOutcome

# Markers outlive one plan that comes late, so that they do not flicker, and then vanish: old plans are no plans.
_MARKER_LIFETIME_IN_MAX_AGES = 2.0


class PlanOutputs:
    """Publishes a line's results on a lifecycle node: while the node is inactive nothing leaves.

    on_incompatible(topic, event): a subscriber asks for what a publisher does not offer.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: PlannerParameters,
        camera_names: Iterable[str],
        on_incompatible: Callable[[str, Any], None],
    ) -> None:
        self._node = node
        self._frame_id = parameters.base_frame
        self._lifetime_s = _MARKER_LIFETIME_IN_MAX_AGES * parameters.max_age

        def publisher(topic: topics.Topic) -> Any:
            name = node.resolve_topic_name(topic.name)
            events = PublisherEventCallbacks(incompatible_qos=lambda event: on_incompatible(name, event))
            return node.create_lifecycle_publisher(
                topic.type, topic.name, topic.qos(), event_callbacks=events
            )

        self._trajectory = publisher(topics.trajectory_topic(parameters.trajectory_deadline))
        self._report = publisher(topics.SET_REPORT)
        self._candidates = publisher(topics.CANDIDATES)
        self._path = publisher(topics.PATH)
        self._markers = publisher(topics.MARKERS)
        self._overlays = (
            {name: publisher(topics.overlay_topic(name)) for name in camera_names}
            if parameters.publish_overlay
            else {}
        )

    def destroy(self) -> None:
        """Take every publisher away."""
        singles = (self._trajectory, self._report, self._candidates, self._path, self._markers)
        for publisher in (*singles, *self._overlays.values()):
            self._node.destroy_lifecycle_publisher(publisher)

    def publish_plan(self, result: SetResult) -> None:
        """Publish the trajectory alone: everything else can wait for it."""
        assert result.plan is not None
        command = result.job.command
        now_ns = self._node.get_clock().now().nanoseconds
        self._trajectory.publish(
            trajectory_msg(
                result.plan,
                set_id=result.job.camera_set.set_id,
                frame_id=self._frame_id,
                command=command_msg(command.command, command.source, command.stamp_ns),
                age_ns=now_ns - result.plan.reference_stamp_ns,
                cameras_degraded=result.degraded,
                ego_speed=result.ego.speed if result.ego is not None else None,
                flags=result.flags,
            )
        )

    def publish_details(self, result: SetResult) -> None:
        """Publish candidates, path, markers and overlays, each only where somebody listens."""
        plan, set_id = result.plan, result.job.camera_set.set_id
        assert plan is not None
        speed = result.ego.speed if result.ego is not None else None
        if plan.candidates and self._candidates.get_subscription_count():
            self._candidates.publish(
                candidates_msg(plan, set_id=set_id, frame_id=self._frame_id, ego_speed=speed)
            )
        if self._path.get_subscription_count():
            self._path.publish(path_msg(plan, frame_id=self._frame_id))
        if self._markers.get_subscription_count():
            message = plan_markers(plan, frame_id=self._frame_id, lifetime_s=self._lifetime_s)
            message.markers.extend(ego_markers(self._frame_id).markers)
            self._markers.publish(message)
        for name, publisher in self._overlays.items():
            if name not in result.images or not publisher.get_subscription_count():
                continue
            image, calibration = result.images[name]
            if image.pixels is not None:
                publisher.publish(
                    overlay_msg(
                        image.pixels,
                        calibration,
                        plan,
                        stamp_ns=image.stamp_ns,
                        frame_id=image.frame_id,
                        camera_base_from_plan_base=base_at_camera_from_base_at_reference(result, name),
                    )
                )

    def publish_report(self, outcome: SetOutcome) -> None:
        """Publish what became of a set; a reset also clears RViz."""
        self._report.publish(set_report_msg(outcome, frame_id=self._frame_id))
        if outcome.outcome is Outcome.RESET and self._markers.get_subscription_count():
            self._markers.publish(delete_all_markers())

    def say(self, level: Level, sentence: str, details: str = "") -> None:
        """Log a sentence at its level, and details for debugging."""
        logger = self._node.get_logger()
        # One line each: rclpy ties a severity to the place of the call.
        if level is Level.ERROR:
            logger.error(sentence)
        elif level is Level.WARN:
            logger.warning(sentence)
        else:
            logger.info(sentence)
        if details:
            logger.debug(details)
