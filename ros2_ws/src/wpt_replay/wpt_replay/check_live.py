"""The check on a running vehicle: listens as the planner would, and asks publishers what they offer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from wpt_replay.bag_reader import header_stamp_ns
from wpt_replay.bag_types import installed_types
from wpt_replay.check import judge
from wpt_replay.check_names import InputNames, choose_names, image_topics, missing_cameras
from wpt_replay.check_observer import CAMERA_INFO, CLOCK, IMAGE_TYPES, OBSERVED_TYPES, TF_STATIC, Observer
from wpt_replay.check_planner import PlannerNeeds
from wpt_replay.check_qos import OfferedQos, Offer
from wpt_replay.check_report import CheckReport
from wpt_replay.check_settings import PlannerSettings, planner_file
from wpt_replay.errors import BagError
from wpt_replay.progress import Progress
from wpt_replay.raw_publishers import message_class

# How often the graph is looked at for topics that have appeared since.
_LOOK_S = 0.2
# Messages kept until the first /clock says when they came; a player sends mounts and calibrations ahead of
# it.
_MOST_WAITING = 300
_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def check_live(
    seconds: float,
    settings: PlannerSettings,
    presets: Mapping[str, Mapping[str, str]],
    needs: PlannerNeeds,
    start_values: Mapping[str, str],
    preset: str | None,
    ros_args: list[str],
    enough: Callable[[], bool] = lambda: False,
) -> CheckReport:
    """Listen for so many seconds, or until ``enough`` says so, and judge what came."""
    if not any(os.environ.get(variable) for variable in _PROFILE_VARIABLES):
        # The default transport loses images of this size, and the loss would be blamed on the vehicle.
        for variable in _PROFILE_VARIABLES:
            os.environ[variable] = str(planner_file("dds", "fastdds_profile.xml"))
    context = Context()
    rclpy.init(context=context, args=ros_args)
    node = rclpy.create_node("wpt_check", context=context)
    try:
        listener = Listener(node, settings, presets, needs, preset)
        listener.listen(seconds, enough)
        report = CheckReport(source=f"live topics of {seconds:g} s", planner=needs.name)
        values = {**start_values, **({"use_sim_time": "true"} if listener.is_simulated else {})}
        judge(
            report,
            listener.names,
            listener.offers,
            listener.seen,
            settings,
            needs,
            values,
            wanted=preset is not None,
            live=True,
        )
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return report


class Listener:
    """Subscribes to the planner's inputs and feeds an Observer. names and offers are those of the latest
    look.
    """

    def __init__(
        self,
        node: Node,
        settings: PlannerSettings,
        presets: Mapping[str, Mapping[str, str]],
        needs: PlannerNeeds,
        preset: str | None,
    ) -> None:
        self._node = node
        self._settings = settings
        self._presets = presets
        self._needs = needs
        self._preset = preset
        self._subscribed: set[str] = set()
        self._simulated_ns: int | None = None
        self._waiting: list[tuple[str, str, bytes]] = []
        self.seen = Observer(_decode, settings.base_frame)
        self.offers: dict[str, Offer] = {}
        self.names: InputNames = self._look()

    @property
    def is_simulated(self) -> bool:
        """Whether somebody publishes /clock."""
        return "/clock" in self.offers

    def listen(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Take what comes for so long, or until it is enough; topics that appear meanwhile are subscribed
        to as well.
        """
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        begin = time.monotonic()
        looked = float("-inf")
        with Progress("listening", seconds) as progress:
            while (passed := time.monotonic() - begin) < seconds and self._node.context.ok() and not enough():
                if passed - looked >= _LOOK_S:
                    looked = passed
                    self.names = self._look()
                    self._subscribe()
                executor.spin_once(timeout_sec=_LOOK_S / 4)
                progress.show(
                    passed, f"{sum(track.times.count for track in self.seen.images.values())} images"
                )
        executor.remove_node(self._node)
        executor.shutdown()
        self._take_waiting()
        self.names = self._look()

    def _now_ns(self) -> int:
        """ROS time: simulated where there is a /clock."""
        return time.time_ns() if self._simulated_ns is None else self._simulated_ns

    def _take_waiting(self) -> None:
        """Take what came before the first /clock."""
        waiting, self._waiting = self._waiting, []
        for name, type_name, data in waiting:
            self.seen.take(name, type_name, self._now_ns(), data)

    def _look(self) -> InputNames:
        """Ask the graph what is published, and choose the names by it. Publishers that have gone are not
        forgotten.
        """
        for name, types in self._node.get_topic_names_and_types():
            publishers = self._node.get_publishers_info_by_topic(name)
            if publishers:
                self.offers[name] = Offer(
                    name=name,
                    type_name=publishers[0].topic_type or types[0],
                    count=None,
                    qos=tuple(_offered(publisher) for publisher in publishers),
                )
        return choose_names(self.offers, self._needs.cameras, self._presets, self._settings, self._preset)

    def _subscribe(self) -> None:
        wanted = {*self.names.topics(), "/tf", TF_STATIC, "/clock"}
        wanted |= {name for name, offer in self.offers.items() if offer.type_name == CAMERA_INFO}
        if missing_cameras(self.names, self.offers):
            wanted |= set(image_topics(self.offers))
        for name in wanted & self.offers.keys() - self._subscribed:
            if self.offers[name].type_name in OBSERVED_TYPES:
                self._subscribed.add(name)
                self._subscribe_to(name, self.offers[name].type_name)

    def _subscribe_to(self, name: str, type_name: str) -> None:
        def take(data: bytes) -> None:
            if type_name == CLOCK:
                self._simulated_ns = header_stamp_ns(data)
                self._take_waiting()
            if self.is_simulated and self._simulated_ns is None and len(self._waiting) < _MOST_WAITING:
                self._waiting.append((name, type_name, data))
            else:
                self.seen.take(name, type_name, self._now_ns(), data)

        kind = message_class(type_name)
        # As the planner subscribes: sensor topics best effort and volatile, /tf_static reliable, latched
        # where a publisher offers that and volatile where one does not.
        if name != TF_STATIC:
            depth = 10 if type_name in IMAGE_TYPES else 100
            profile = QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._node.create_subscription(kind, name, take, profile, raw=True)
            return
        for latched in {profile.latched for profile in self.offers[name].qos}:
            durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
            self._node.create_subscription(kind, name, take, profile, raw=True)


def _decode(topic: str, type_name: str, data: bytes) -> Any:
    try:
        return installed_types().deserialize_cdr(data, type_name)
    except Exception as error:  # corrupted lengths fail anywhere in the generated code
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BagError(f"a message is no valid {type_name} ({reason})") from error


def _offered(publisher: TopicEndpointInfo) -> OfferedQos:
    """Return a publisher's profile in words."""
    profile = publisher.qos_profile
    namespace = publisher.node_namespace.rstrip("/")
    return OfferedQos(
        "best_effort" if profile.reliability is ReliabilityPolicy.BEST_EFFORT else "reliable",
        "transient_local" if profile.durability is DurabilityPolicy.TRANSIENT_LOCAL else "volatile",
        f"{namespace}/{publisher.node_name}",
    )
