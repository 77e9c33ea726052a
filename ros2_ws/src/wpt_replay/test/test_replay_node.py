"""The replay node over real rclpy: what arrives, when, in which order, and what lockstep waits for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage
from tf2_msgs.msg import TFMessage
from wpt_msgs.msg import Keyframe, SetReport
from wpt_replay import replay_clock
from wpt_replay.bag_reader import BagReader, header_stamp_ns
from wpt_replay.bag_topics import camera_info_topic, image_topic
from wpt_replay.bag_types import installed_types
from wpt_replay.bag_writer import reliable
from wpt_replay.errors import BagError, ReplayError
from wpt_replay.raw_publishers import message_class
from wpt_replay.replay_node import Replayer
from wpt_replay.replay_report import ReplayOptions, ReplayReport
from wpt_scenes.scene_types import Scene

pytestmark = pytest.mark.node

PATIENCE_S = 20.0
SENSOR = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
FAST = {"rate": 100.0, "wait_timeout_s": PATIENCE_S, "report_timeout_s": PATIENCE_S}


def ns(stamp: Any) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


class Desk:
    """A context with the replay node, listeners and an executor thread that spins all of them."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes: list[Node] = []
        self.player = self.node("wpt_replay")
        self.listener = self.node("listener")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        """Bounded waits, not executor.spin(): shutdown() destroys what would wake a wait that has just begun."""
        while self.context.ok() and not self._closing.is_set():
            self.executor.spin_once(timeout_sec=0.1)

    def node(self, name: str) -> Node:
        node = rclpy.create_node(name, context=self.context)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def heard(self, message_type: Any, topic: str, qos: QoSProfile = RELIABLE, **options: Any) -> list[Any]:
        """Subscribe; the returned list grows."""
        messages: list[Any] = []
        self.listener.create_subscription(message_type, topic, messages.append, qos, **options)
        return messages

    def play(self, bag: Path, **options: Any) -> ReplayReport:
        return Replayer(self.player, bag, ReplayOptions(**{**FAST, **options})).run()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


class StubPlanner:
    """Collects one image of each camera, as best effort as the planner does, and answers with a SetReport.

    answer(index of the set) -> outcome, or None for silence. Keeps what it knew when each set was complete.
    """

    def __init__(
        self,
        node: Node,
        cameras: tuple[str, ...],
        answer: Callable[[int], int | None] = lambda index: SetReport.PLANNED,
    ) -> None:
        self.answer = answer
        self.sets: list[dict[str, int]] = []
        self.newest_at_answer: list[int] = []
        self.clock_at_answer: list[int] = []
        self.calibrated_at_answer: list[bool] = []
        self.resets = 0
        self._current: dict[str, int] = {}
        self._infos: set[str] = set()
        self._mounts: set[str] = set()
        self._clock_ns = 0
        self._newest_ns = 0
        self._cameras = cameras
        self.reports = node.create_publisher(SetReport, "/planner/set_report", QoSProfile(depth=50))
        node.create_subscription(
            Clock, "/clock", self._on_clock, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        )
        node.create_subscription(TFMessage, "/tf_static", self._on_mounts, LATCHED)
        for camera in cameras:
            node.create_subscription(
                CameraInfo, camera_info_topic(camera), lambda m: self._infos.add(m.header.frame_id), SENSOR
            )
            node.create_subscription(CompressedImage, image_topic(camera), self._on_image, SENSOR)

    def _on_mounts(self, message: TFMessage) -> None:
        self._mounts.update(transform.child_frame_id for transform in message.transforms)

    def _on_clock(self, message: Clock) -> None:
        now_ns = ns(message.clock)
        if now_ns < self._clock_ns:
            self.resets += 1
            self._current = {}
            self.report(0, SetReport.RESET, "clock went back")
        self._clock_ns = now_ns

    def _on_image(self, message: CompressedImage) -> None:
        self._current[message.header.frame_id] = ns(message.header.stamp)
        self._newest_ns = max(self._newest_ns, ns(message.header.stamp))  # topics may overtake one another
        if len(self._current) == len(self._cameras):
            found, self._current = self._current, {}
            outcome = self.answer(len(self.sets))
            self.sets.append(found)
            self.newest_at_answer.append(self._newest_ns)
            self.clock_at_answer.append(self._clock_ns)
            known = self._infos & self._mounts
            self.calibrated_at_answer.append(known >= set(self._cameras))
            if outcome is not None:
                self.report(max(found.values()), outcome)

    def report(self, stamp_ns: int, outcome: int, reason: str = "") -> None:
        message = SetReport(outcome=outcome, reason=reason)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        self.reports.publish(message)


def stored(bag: Path) -> dict[str, list[bytes]]:
    with BagReader(bag) as reader:
        messages: dict[str, list[bytes]] = {topic: [] for topic in reader.topics}
        for message in reader.messages():
            messages[message.topic].append(message.data)
    return messages


# ---- what arrives


def test_every_topic_arrives_as_it_was_stored(desk: Desk, factory_bag: Path) -> None:
    """Decoded messages are compared; the padding of CDR is of no account."""
    with BagReader(factory_bag) as bag:
        types = {name: topic.type_name for name, topic in bag.topics.items()}
    wanted = stored(factory_bag)
    heard = {topic: desk.heard(message_class(kind), topic, raw=True) for topic, kind in types.items()}
    report = desk.play(factory_bag, wait_for=tuple(types))
    assert report.ended == "end" and report.ok and not report.skipped
    assert report.published == Counter({topic: len(messages) for topic, messages in wanted.items()})
    primed = {"/tf_static": 1} | {topic: 1 for topic, kind in types.items() if kind.endswith("CameraInfo")}
    assert report.primed == len(primed)
    for topic, kind in types.items():
        expected = wanted[topic][: primed.get(topic, 0)] + wanted[topic]
        decode = message_class(kind)
        assert len(heard[topic]) == len(expected), topic
        for got, data in zip(heard[topic], expected, strict=True):
            got, wanted_message = deserialize_message(got, decode), deserialize_message(data, decode)
            assert got == wanted_message or repr(got) == repr(wanted_message), (
                topic
            )  # NaN is not equal to itself


def test_a_late_subscriber_still_gets_tf_static(desk: Desk, factory_bag: Path) -> None:
    heard: list[list[Any]] = []

    def subscribe_late(seconds: float) -> None:
        if seconds > 0.5 and not heard:
            heard.append(desk.heard(TFMessage, "/tf_static", LATCHED))

    options = ReplayOptions(rate=2.0, wait_timeout_s=0.0)
    Replayer(desk.player, factory_bag, options, on_progress=subscribe_late).run()
    assert [len(message.transforms) for message in heard[0]] == [7]


def test_qos_is_offered_as_recorded(desk: Desk, factory_bag: Path) -> None:
    replayer = Replayer(desk.player, factory_bag, ReplayOptions(wait_timeout_s=0.0))
    offers = {
        topic: desk.player.get_publishers_info_by_topic(topic)[0].qos_profile
        for topic in ("/tf_static", "/tf", image_topic("cam_front"))
    }
    replayer.stop()
    assert replayer.run().ended == "interrupted"
    assert {topic: qos.durability for topic, qos in offers.items()} == {
        "/tf_static": DurabilityPolicy.TRANSIENT_LOCAL,
        "/tf": DurabilityPolicy.VOLATILE,
        image_topic("cam_front"): DurabilityPolicy.VOLATILE,
    }
    assert {qos.reliability for qos in offers.values()} == {ReliabilityPolicy.RELIABLE}


def test_topics_can_be_chosen_and_renamed(desk: Desk, factory_bag: Path) -> None:
    heard = desk.heard(Keyframe, "/elsewhere")
    other = desk.heard(Keyframe, "/nuscenes/keyframe")
    report = desk.play(
        factory_bag,
        topics=("/nuscenes/keyframe", "/tf"),
        exclude=("/tf",),
        remap={"/nuscenes/keyframe": "/elsewhere"},
        wait_for=("/nuscenes/keyframe",),
    )
    assert [message.index for message in heard] == [0, 1, 2] and other == []
    assert report.published == {"/nuscenes/keyframe": 3}


def test_the_replay_waits_for_a_judge_beside_the_planner(desk: Desk, factory_bag: Path) -> None:
    desk.heard(CompressedImage, image_topic("cam_front"), SENSOR)
    options = {
        "topics": (image_topic("cam_front"), "/nuscenes/keyframe"),
        "wait_also": ("/nuscenes/keyframe",),
    }
    with pytest.raises(ReplayError, match="nobody subscribes to /nuscenes/keyframe: start what listens"):
        desk.play(factory_bag, wait_timeout_s=1.0, **options)
    heard = desk.heard(Keyframe, "/nuscenes/keyframe")
    assert desk.play(factory_bag, **options).ok
    assert [message.index for message in heard] == [0, 1, 2]


def test_a_part_of_the_bag_with_the_latched_topics_from_before(
    desk: Desk, factory_bag: Path, factory_scene: Scene
) -> None:
    mounts, keyframes = (
        desk.heard(TFMessage, "/tf_static", LATCHED),
        desk.heard(Keyframe, "/nuscenes/keyframe"),
    )
    report = desk.play(factory_bag, start_s=0.3, stop_s=0.8, wait_for=("/tf_static", "/nuscenes/keyframe"))
    assert len(mounts) == 1, "recorded before the start, given all the same"
    assert [message.index for message in keyframes] == [1]
    first, last = factory_scene.ego_poses[0][0], factory_scene.ego_poses[-1][0]
    assert report.bag_s == pytest.approx(0.5, abs=0.1) and last - first > 0.9e9


# ---- time


def test_real_time_runs_the_clock_and_says_how_late_it_was(desk: Desk, factory_bag: Path) -> None:
    clock, images = desk.heard(Clock, "/clock"), desk.heard(CompressedImage, image_topic("cam_front"))
    report = desk.play(factory_bag, rate=4.0, clock_hz=200.0)
    with BagReader(factory_bag) as bag:
        start_ns, end_ns = bag.start_ns, bag.end_ns
    ticks = [ns(message.clock) for message in clock]
    assert ticks == sorted(ticks) and ticks[0] == start_ns and end_ns - ticks[-1] < 100_000_000
    assert len(set(ticks)) > 20, "it runs between messages, not with them alone"
    assert len(images) == report.published[image_topic("cam_front")]
    result = report.as_dict()
    assert result["mode"] == "real_time" and set(result["lateness_ms"]) == {"p50", "p99", "max"}
    assert report.cycles_complete * 6 == sum(
        n for topic, n in report.published.items() if "image_rect" in topic
    )
    assert report.cycles_incomplete == 0 and "lateness p50" in report.as_text()


def test_clock_ticks_are_even_and_leave_out_what_is_past(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000]
    monkeypatch.setattr(replay_clock.time, "monotonic_ns", lambda: now[0])
    ticks = replay_clock.ClockTicks(1e9 / 100)  # every 100 ns

    def until(due_ns: int) -> list[int]:
        return list(iter(lambda: ticks.next_until(due_ns), None))

    assert until(1_250) == [1_000, 1_100, 1_200] and until(1_299) == [] and until(1_300) == [1_300]
    now[0] = 1_950  # behind: one tick for all that is past, but none after the message that is due
    assert until(1_620) == [1_600] and until(2_010) == [1_900, 2_000]
    assert replay_clock.ClockTicks(0.0).next_until(10**18) is None


def test_without_a_clock_nothing_is_published_on_it(desk: Desk, factory_bag: Path) -> None:
    clock = desk.heard(Clock, "/clock")
    desk.heard(Keyframe, "/nuscenes/keyframe")
    desk.play(factory_bag, clock_hz=0.0, topics=("/nuscenes/keyframe",), wait_for=("/nuscenes/keyframe",))
    assert clock == [] and desk.player.get_publishers_info_by_topic("/clock") == []


def test_images_are_announced_just_before_they_are_published(
    desk: Desk, factory_bag: Path, factory_scene: Scene
) -> None:
    announced: list[tuple[str, int, int]] = []
    heard: list[int] = []
    topic = image_topic("cam_front")
    desk.listener.create_subscription(
        CompressedImage,
        topic,
        lambda m: heard.append(len([entry for entry in announced if entry[0] == topic])),
        RELIABLE,
    )
    options = ReplayOptions(**FAST, topics=(topic, image_topic("cam_back")), wait_for=(topic,))
    Replayer(desk.player, factory_bag, options, on_image=lambda *entry: announced.append(entry)).run()
    stamps = [stamp for name, stamp, _ in announced if name == topic]
    assert stamps == [frame.stamp_ns for frame in factory_scene.images["cam_front"]]
    assert all(known > number for number, known in enumerate(heard)) and len(heard) == len(stamps)
    steady = [entry[2] for entry in announced]
    assert steady == sorted(steady)


def test_a_replay_can_be_stopped_from_another_thread(desk: Desk, factory_bag: Path) -> None:
    replayer = Replayer(desk.player, factory_bag, ReplayOptions(loops=0, wait_timeout_s=0.0, rate=0.01))
    thread = threading.Thread(target=replayer.run)
    thread.start()
    replayer.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and replayer.report.ended == "interrupted"


# ---- lockstep


def test_lockstep_releases_each_set_by_its_report(
    desk: Desk, factory_bag: Path, factory_scene: Scene
) -> None:
    planner = StubPlanner(desk.node("planner"), factory_scene.camera_names)
    report = desk.play(factory_bag, lockstep=True)
    frames = len(factory_scene.images["cam_front"])
    assert report.ok and report.ended == "end"
    assert (report.cycles_complete, report.cycles_incomplete) == (frames, 0)
    assert report.outcomes == {"planned": frames} and report.timed_out == []
    # Sets are the recorded ones, and while the planner worked nothing newer had come and time stood still.
    expected = [
        {camera: factory_scene.images[camera][i].stamp_ns for camera in factory_scene.camera_names}
        for i in range(frames)
    ]
    assert planner.sets == expected
    assert planner.newest_at_answer == [max(found.values()) for found in expected]
    assert all(
        clock <= newest
        for clock, newest in zip(planner.clock_at_answer, planner.newest_at_answer, strict=True)
    )
    assert all(planner.calibrated_at_answer), "tf_static and camera_info come before the first image"
    assert set(report.cameras) == {image_topic(camera) for camera in factory_scene.camera_names}
    assert report.as_dict()["sets"]["released_by_report"] == frames


def test_refusals_release_too_and_silence_times_out(
    desk: Desk, factory_bag: Path, factory_scene: Scene
) -> None:
    answers = {0: SetReport.REFUSED, 1: SetReport.INCOMPLETE, 2: SetReport.SKIPPED_BUSY, 3: None}
    planner = StubPlanner(
        desk.node("planner"), factory_scene.camera_names, lambda index: answers.get(index, SetReport.PLANNED)
    )
    report = desk.play(factory_bag, lockstep=True, report_timeout_s=1.0)
    frames = len(factory_scene.images["cam_front"])
    assert report.outcomes == {"refused": 1, "incomplete": 1, "skipped_busy": 1, "planned": frames - 4}
    assert report.timed_out == [max(planner.sets[3].values())] and not report.ok
    assert "by time-out: 1" in report.as_text() and report.as_dict()["sets"]["timed_out"] == 1


def test_reports_on_other_sets_release_nothing(desk: Desk, factory_bag: Path, factory_scene: Scene) -> None:
    node = desk.node("planner")

    def answer(index: int) -> int:
        planner.report(12345, SetReport.PLANNED)
        return SetReport.PLANNED

    planner = StubPlanner(node, factory_scene.camera_names, answer)
    report = desk.play(factory_bag, lockstep=True)
    frames = len(factory_scene.images["cam_front"])
    assert report.outcomes == {"planned": frames} and report.unmatched_reports == frames
    assert len(planner.sets) == frames


def test_a_loop_sets_the_clock_back_and_waits_for_the_reset(
    desk: Desk, factory_bag: Path, factory_scene: Scene
) -> None:
    planner = StubPlanner(desk.node("planner"), factory_scene.camera_names)
    report = desk.play(factory_bag, lockstep=True, loops=2)
    frames = len(factory_scene.images["cam_front"])
    assert report.loops == 2 and report.outcomes == {"planned": 2 * frames}
    assert planner.resets == 1 and (report.resets, report.resets_missed) == (1, 0)
    assert planner.sets[:frames] == planner.sets[frames:]


def test_a_missing_image_makes_an_incomplete_set(
    desk: Desk, factory_bag: Path, factory_scene: Scene, tmp_path: Path
) -> None:
    """One image of cam_back is left out; the planner's report on what there is of that set goes on."""
    lost_ns = factory_scene.images["cam_back"][2].stamp_ns
    with (
        BagReader(factory_bag) as bag,
        Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        topics = {
            topic.name: writer.add_connection(
                topic.name, topic.type_name, typestore=installed_types(), offered_qos_profiles=list(topic.qos)
            )
            for topic in bag.topics.values()
        }
        for message in bag.messages():
            if message.topic != image_topic("cam_back") or header_stamp_ns(message.data) != lost_ns:
                writer.write(topics[message.topic], message.stamp_ns, message.data)
    node = desk.node("planner")
    planner = StubPlanner(node, factory_scene.camera_names)
    newest = factory_scene.images["cam_back_left"][2].stamp_ns

    def on_last_image(message: CompressedImage) -> None:
        if ns(message.header.stamp) == newest:  # a planner's own time-out on the five images it has
            planner.report(newest, SetReport.INCOMPLETE, "cam_back is missing")
            planner._current = {}

    node.create_subscription(CompressedImage, image_topic("cam_back_left"), on_last_image, SENSOR)
    report = desk.play(tmp_path / "bag", lockstep=True)
    frames = len(factory_scene.images["cam_front"])
    assert (report.cycles_complete, report.cycles_incomplete) == (frames - 1, 1)
    assert report.outcomes == {"planned": frames - 1, "incomplete": 1} and report.ok


def test_lockstep_without_a_planner_is_an_error(desk: Desk, factory_bag: Path) -> None:
    with pytest.raises(ReplayError, match="nobody publishes /planner/set_report"):
        desk.play(factory_bag, lockstep=True, wait_timeout_s=0.5)


def test_lockstep_with_a_deaf_planner_is_an_error(desk: Desk, factory_bag: Path) -> None:
    desk.node("planner").create_publisher(SetReport, "/planner/set_report", 50)
    with pytest.raises(ReplayError, match="nobody subscribes to /sensing/cam_front/image_rect/compressed"):
        desk.play(factory_bag, lockstep=True, wait_timeout_s=0.5)


def test_a_camera_that_the_planner_does_not_use_is_no_part_of_its_sets(
    desk: Desk, factory_bag: Path, factory_scene: Scene
) -> None:
    five = factory_scene.camera_names[:5]
    StubPlanner(desk.node("planner"), five)
    report = desk.play(factory_bag, lockstep=True, wait_for=tuple(map(image_topic, five)))
    assert report.unheard_cameras == (image_topic(factory_scene.camera_names[5]),)
    assert report.outcomes == {"planned": len(factory_scene.images["cam_front"])}


def test_the_replay_ends_when_the_planner_has_gone(
    desk: Desk, factory_bag: Path, factory_scene: Scene
) -> None:
    node = desk.node("planner")

    def answer(index: int) -> int | None:
        if index < 2:
            return SetReport.PLANNED
        node.destroy_publisher(planner.reports)
        return None

    planner = StubPlanner(node, factory_scene.camera_names, answer)
    report = desk.play(factory_bag, lockstep=True, report_timeout_s=1.0)
    assert report.ended == "planner gone" and not report.ok
    assert report.outcomes == {"planned": 2} and len(report.timed_out) == 1 and len(planner.sets) == 3


# ---- foreign and unfit bags


def test_types_that_are_not_installed_are_named_and_left_out(desk: Desk, tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("float64 angle\n", "car_msgs/msg/Steering"))
    store.register(get_types_from_msg("uint8 command\n", "wpt_msgs/msg/DrivingCommand"))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        for topic, kind, fields in (
            ("/steering", "car_msgs/msg/Steering", {"angle": 0.1}),
            ("/command", "wpt_msgs/msg/DrivingCommand", {"command": 1}),
            ("/text", "std_msgs/msg/String", {"data": "hello"}),
            ("/clock", "std_msgs/msg/String", {"data": "recorded clock"}),
            ("/planner/trajectory", "std_msgs/msg/String", {"data": "recorded plan"}),
        ):
            connection = writer.add_connection(
                topic, kind, typestore=store, offered_qos_profiles=[reliable(1)]
            )
            writer.write(connection, 1_000_000_000, store.serialize_cdr(store.types[kind](**fields), kind))
    heard = desk.heard(message_class("std_msgs/msg/String"), "/text")
    report = desk.play(tmp_path / "bag", wait_for=("/text",))
    assert [message.data for message in heard] == ["hello"] and report.published == {"/text": 1}
    assert report.skipped == {
        "/steering": "its type car_msgs/msg/Steering is not installed here",
        "/command": "its type wpt_msgs/msg/DrivingCommand was recorded with other fields than the installed "
        "one has",
        "/clock": "this player publishes /clock itself",
        "/planner/trajectory": "it is an output of /planner, which is played to",
    }


def test_options_that_do_not_fit_the_bag(desk: Desk, factory_bag: Path) -> None:
    for options, words in (
        ({"topics": ("/nothing",)}, "has no topic /nothing"),
        ({"start_s": 100.0}, "begin earlier"),
        ({"lockstep": True, "topics": ("/tf",)}, "no image topic of bag"),
        ({"wait_for": ("/tf",), "exclude": ("/tf",)}, "waited for but is not played"),
        ({"wait_also": ("/tf",), "exclude": ("/tf",)}, "waited for but is not played"),
    ):
        with pytest.raises(ReplayError, match=words):
            Replayer(desk.player, factory_bag, ReplayOptions(**options))
    with pytest.raises(BagError):
        Replayer(desk.player, factory_bag / "nothing")
    for options in (
        {"rate": 0.0},
        {"rate": float("nan")},
        {"stop_s": 1.0, "start_s": 2.0},
        {"planner": "planner"},
    ):
        with pytest.raises(ReplayError, match="expected"):
            ReplayOptions(**options)
