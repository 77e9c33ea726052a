"""Waits for the planner's answer to a camera cycle: the SetReport with its reference stamp."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from wpt_msgs.msg import SetReport

from wpt_replay.replay_schedule import Cycle

OUTCOMES = {
    SetReport.PLANNED: "planned",
    SetReport.SKIPPED_BUSY: "skipped_busy",
    SetReport.SKIPPED_RATE: "skipped_rate",
    SetReport.INCOMPLETE: "incomplete",
    SetReport.REFUSED: "refused",
    SetReport.RESET: "reset",
    SetReport.DISABLED: "disabled",
}
# Reports that were not yet asked for; more than a planner can send between two cycles.
UNREAD_REPORTS = 200


class Answer(NamedTuple):
    """One SetReport: its reference stamp, its outcome by name, and the reason it gives."""

    stamp_ns: int
    outcome: str
    reason: str


class SetReports:
    """Subscription to a planner's ~/set_report. The node has to be spun by another thread.

    interrupted: asked while waiting; a true answer ends the wait. Whoever makes it true calls ``wake``.
    """

    def __init__(self, node: Node, topic: str, interrupted: Callable[[], bool]) -> None:
        self._interrupted = interrupted
        self._changed = threading.Condition()
        self._unread: deque[Answer] = deque(maxlen=UNREAD_REPORTS)
        self.resets = 0
        self.unmatched = 0
        self._node = node
        self._subscription = node.create_subscription(
            SetReport, topic, self._on_report, QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        )

    @property
    def planners(self) -> int:
        """How many publishers of reports are matched."""
        return self._subscription.get_publisher_count()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, cycle: Cycle, seconds: float) -> Answer | None:
        """Return the report that answers a cycle; None after so long, or when interrupted.

        Reports that came before it are counted and dropped: as resets, or as unmatched (a late one, a set
        formed differently). A RESET answers a cycle only when it bears the cycle's stamp, since images that
        come after a reset still form a set.
        """
        return self._wait(
            lambda answer: cycle.is_answered_by(answer.stamp_ns)
            and (answer.outcome != "reset" or answer.stamp_ns == cycle.newest_ns),
            seconds,
        )

    def wait_for_reset(self, seconds: float) -> Answer | None:
        """Return the next report of a reset; None after so long, or when interrupted."""
        return self._wait(lambda answer: answer.outcome == "reset", seconds)

    def destroy(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def _wait(self, wanted: Callable[[Answer], bool], seconds: float) -> Answer | None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                while self._unread:
                    answer = self._unread.popleft()
                    self.resets += answer.outcome == "reset"
                    if wanted(answer):
                        return answer
                    self.unmatched += answer.outcome != "reset"
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._interrupted():
                    return None
                self._changed.wait(remaining)

    def _on_report(self, message: SetReport) -> None:
        stamp = message.header.stamp
        answer = Answer(
            stamp_ns=stamp.sec * 1_000_000_000 + stamp.nanosec,
            outcome=OUTCOMES.get(message.outcome, str(message.outcome)),
            reason=message.reason,
        )
        with self._changed:
            self._unread.append(answer)
            self._changed.notify_all()
