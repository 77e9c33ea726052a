"""The /clock of a replay: its publisher, and the steady times at which it ticks."""

from __future__ import annotations

import time

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

CLOCK_TOPIC = "/clock"


class ReplayClock:
    """Publishes /clock, or does nothing but remember the time when switched off."""

    def __init__(self, node: Node, enabled: bool) -> None:
        self._node = node
        # Reliable: it serves the best-effort subscriptions of rclpy and rclcpp and a recorder alike.
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._publisher = node.create_publisher(Clock, CLOCK_TOPIC, qos) if enabled else None
        self.now_ns = 0

    def set(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.repeat()

    def repeat(self) -> None:
        if self._publisher is not None:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(self.now_ns, 1_000_000_000)
            self._publisher.publish(message)

    def destroy(self) -> None:
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)


class ClockTicks:
    """Steady times at which /clock ticks; none at a rate of 0."""

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(1e9 / rate_hz) if rate_hz > 0 else 0
        self._next_ns = time.monotonic_ns()

    def next_until(self, due_ns: int) -> int | None:
        """Return the next tick up to a time, or None.

        A player that is behind leaves out ticks that are past, but never goes beyond due_ns: the clock must
        not run ahead of messages that are still to come.
        """
        if not self._period_ns or self._next_ns > due_ns:
            return None
        past = (min(time.monotonic_ns(), due_ns) - self._next_ns) // self._period_ns
        tick_ns = self._next_ns + max(0, past) * self._period_ns
        self._next_ns = tick_ns + self._period_ns
        return tick_ns
