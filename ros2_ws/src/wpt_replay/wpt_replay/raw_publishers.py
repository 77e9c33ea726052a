"""Publishers for the topics of a bag: they send stored CDR bytes with the recorded quality of service."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosReliability

from wpt_replay.bag_reader import BagTopic
from wpt_replay.bag_types import installed_type_hash, installed_types

# For topics without a recorded profile, and the least depth of any: a cycle of six images goes out back to
# back.
DEFAULT_DEPTH = 10


def message_class(type_name: str) -> Any:
    """Return the Python class of a message type, e.g. ``sensor_msgs/msg/Image``.

    Raises ImportError or AttributeError when its package is not installed or has no such message.
    """
    package, _, name = type_name.replace("/msg/", "/").partition("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def offered_qos(recorded: Iterable[Qos]) -> QoSProfile:
    """Return the profile to offer for a topic that was recorded with these offers.

    One publisher now stands for all recorded ones, so it offers the most that any of them did: reliable and
    transient_local match every subscriber that matched one of them. Deadline, lifespan and liveliness are not
    renewed: they speak of the recorded system's timing. Without a recorded profile: reliable and volatile.
    """
    profiles = list(recorded)
    best_effort = bool(profiles) and all(p.reliability is QosReliability.BEST_EFFORT for p in profiles)
    latched = any(p.durability is QosDurability.TRANSIENT_LOCAL for p in profiles)
    keep_all = any(p.history is QosHistory.KEEP_ALL for p in profiles)
    depth = max((p.depth for p in profiles), default=DEFAULT_DEPTH)
    return QoSProfile(
        history=HistoryPolicy.KEEP_ALL if keep_all else HistoryPolicy.KEEP_LAST,
        depth=depth if latched and depth else max(depth, DEFAULT_DEPTH),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def type_problem(topic: BagTopic) -> str | None:
    """Return why a topic's stored bytes cannot be published here, or None."""
    try:
        message_class(topic.type_name)
    except (ImportError, AttributeError):
        return f"its type {topic.type_name} is not installed here"
    installed = installed_type_hash(topic.type_name)
    if topic.type_hash and installed and topic.type_hash != installed:
        # rosbags hashes a few types (std_msgs/Char) differently from rosidl; its own bags carry that hash.
        types = installed_types()
        if topic.type_name not in types.fielddefs or types.hash_rihs01(topic.type_name) != topic.type_hash:
            return f"its type {topic.type_name} was recorded with other fields than the installed one has"
    return None


class RawPublishers:
    """One publisher for each given topic; those that cannot be had are in ``skipped`` with the reason.

    remap: published name by recorded name; all other methods take recorded names.
    """

    def __init__(self, node: Node, topics: Iterable[BagTopic], remap: Mapping[str, str]) -> None:
        self._node = node
        self._publishers: dict[str, Publisher] = {}
        self.skipped: dict[str, str] = {}
        for topic in topics:
            problem = type_problem(topic)
            if problem is None:
                try:
                    self._publishers[topic.name] = node.create_publisher(
                        message_class(topic.type_name),
                        remap.get(topic.name, topic.name),
                        offered_qos(topic.qos),
                    )
                    continue
                except (
                    Exception
                ) as error:  # no type support for this middleware, an invalid name: all are reasons
                    problem = f"no publisher could be made for it ({' '.join(str(error).split())})"
            self.skipped[topic.name] = problem

    @property
    def topics(self) -> tuple[str, ...]:
        """Recorded names of the topics that are published."""
        return tuple(self._publishers)

    def publish(self, topic: str, data: bytes) -> None:
        self._publishers[topic].publish(data)

    def subscribers(self, topic: str) -> int:
        """How many subscriptions are matched with a topic's publisher."""
        return self._publishers[topic].get_subscription_count()

    def wait_for_acknowledgement(self, seconds: float) -> bool:
        """Wait until reliable subscribers have everything, at most so long in all; whether they have."""
        deadline = time.monotonic() + seconds
        for publisher in self._publishers.values():
            if not publisher.wait_for_all_acked(Duration(seconds=max(0.0, deadline - time.monotonic()))):
                return False
        return True

    def destroy(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()
