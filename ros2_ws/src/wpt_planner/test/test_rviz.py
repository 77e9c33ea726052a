"""planner.rviz shows what there is: each display against the topics of a running node and of a converted bag."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import yaml
from nav_msgs.msg import Path as PathMessage
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray
from wpt_planner.markers import ego_markers, plan_markers
from wpt_planner.parameters import load_declarations
from wpt_planner.shared_files import shared_file
from wpt_policy.plan import Plan

# The plugins of RViz 14 (Jazzy) that may be used here, and the message that each display subscribes to. Image goes through
# image_transport: the message follows from the topic's last part.
DISPLAY_TYPES = {"rviz_default_plugins/MarkerArray": MarkerArray, "rviz_default_plugins/Path": PathMessage}
WITHOUT_TOPIC = {"rviz_default_plugins/Grid", "rviz_default_plugins/TF", "rviz_common/Group"}
IMAGE = "rviz_default_plugins/Image"
PANELS = {"rviz_common/Displays", "rviz_common/Views", "rviz_common/Time"}
TOOLS = {"MoveCamera", "Select", "FocusCamera", "Measure"}
VIEWS = {"ThirdPersonFollower", "TopDownOrtho"}
RELIABILITY = {"Reliable": ReliabilityPolicy.RELIABLE, "Best Effort": ReliabilityPolicy.BEST_EFFORT}
DURABILITY = {"Volatile": DurabilityPolicy.VOLATILE, "Transient Local": DurabilityPolicy.TRANSIENT_LOCAL}
CONFIGURATION = yaml.safe_load(shared_file("rviz", "planner.rviz").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Display:
    """One display that subscribes: message is the class that RViz asks for under its topic's name."""

    name: str
    kind: str
    topic: str
    message: Any
    qos: QoSProfile
    enabled: bool

    @property
    def type_name(self) -> str:
        return f"{self.message.__module__.split('.')[0]}/msg/{self.message.__name__}"


def all_displays(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        yield entry
        yield from all_displays(entry.get("Displays") or [])


def read_display(entry: dict[str, Any]) -> Display:
    topic = entry["Topic"]
    if entry["Class"] == IMAGE:
        assert topic["Value"].endswith("/compressed"), f"{entry['Name']}: RViz would take this for raw images"
        message = CompressedImage
    else:
        message = DISPLAY_TYPES[entry["Class"]]
    assert topic["History Policy"] == "Keep Last"
    qos = QoSProfile(
        depth=topic["Depth"],
        reliability=RELIABILITY[topic["Reliability Policy"]],
        durability=DURABILITY[topic["Durability Policy"]],
    )
    return Display(entry["Name"], entry["Class"], topic["Value"], message, qos, entry["Enabled"])


ENTRIES = list(all_displays(CONFIGURATION["Visualization Manager"]["Displays"]))
DISPLAYS = [read_display(entry) for entry in ENTRIES if entry["Class"] not in WITHOUT_TOPIC]
OF_THE_NODE = [display for display in DISPLAYS if display.topic.startswith("/planner/")]
OF_THE_BAG = [display for display in DISPLAYS if not display.topic.startswith("/planner/")]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, QoSProfile]]:
    """Type and offered QoS by topic of a bag, as the converter writes it."""
    factory = pytest.importorskip("wpt_scenes.factory")
    program = shutil.which("wpt-bag")
    if program is None:
        pytest.skip("wpt_replay, which writes bags, is not installed here")
    folder = tmp_path_factory.mktemp("scene")
    factory.write_factory_scene(folder / "data", keyframes=2, sweeps=False, image_size=(64, 36))
    command = [program, "convert", "--data", str(folder / "data"), "--version", factory.FACTORY_VERSION]
    subprocess.run(
        [*command, "--scene", factory.FACTORY_SCENE, "--out", str(folder)], check=True, capture_output=True
    )
    metadata = yaml.safe_load((folder / factory.FACTORY_SCENE / "metadata.yaml").read_text(encoding="utf-8"))
    topics = {}
    for entry in metadata["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        (offer,) = topic["offered_qos_profiles"]
        topics[topic["name"]] = (
            topic["type"],
            QoSProfile(
                depth=offer["depth"],
                reliability=ReliabilityPolicy[offer["reliability"].upper()],
                durability=DurabilityPolicy[offer["durability"].upper()],
            ),
        )
    return topics


def assert_fits(display: Display, type_name: str, offered: QoSProfile) -> None:
    assert display.type_name == type_name, f"{display.name} ({display.topic})"
    compatible, reason = qos_check_compatible(offered, display.qos)
    assert compatible != QoSCompatibility.ERROR, f"{display.name} ({display.topic}): {reason}"


def test_only_plugins_that_rviz_has_and_every_name_once() -> None:
    known = {*DISPLAY_TYPES, *WITHOUT_TOPIC, IMAGE}
    assert {entry["Class"] for entry in ENTRIES} <= known
    assert {panel["Class"] for panel in CONFIGURATION["Panels"]} <= PANELS
    manager = CONFIGURATION["Visualization Manager"]
    assert {tool["Class"].removeprefix("rviz_default_plugins/") for tool in manager["Tools"]} <= TOOLS
    views = [manager["Views"]["Current"], *manager["Views"]["Saved"]]
    assert {view["Class"].removeprefix("rviz_default_plugins/") for view in views} <= VIEWS
    # A dock is found by its display's or panel's name.
    names = [entry["Name"] for entry in (*ENTRIES, *CONFIGURATION["Panels"])]
    assert len(set(names)) == len(names)
    for entry in ENTRIES:
        assert entry["Enabled"] is entry["Value"], entry["Name"]


def test_the_frames_are_those_of_the_planner_and_of_converted_bags() -> None:
    manager = CONFIGURATION["Visualization Manager"]
    base_frame = load_declarations()["base_frame"].default
    assert manager["Global Options"]["Fixed Frame"] == "map"
    for view in (manager["Views"]["Current"], *manager["Views"]["Saved"]):
        assert view["Target Frame"] == base_frame


def test_every_camera_is_shown_once_raw_and_once_with_the_plan() -> None:
    images = {display.topic: display.enabled for display in DISPLAYS if display.kind == IMAGE}
    cameras = load_declarations()["cameras"].default
    assert images == {f"/sensing/{name}/image_rect/compressed": True for name in cameras} | {
        f"/planner/overlay/{name}/compressed": False for name in cameras
    }


def test_every_dock_has_its_place_in_the_window() -> None:
    geometry = CONFIGURATION["Window Geometry"]
    docks = [entry["Name"] for entry in ENTRIES if entry["Class"] == IMAGE]
    docks += [panel["Name"] for panel in CONFIGURATION["Panels"]]
    state = bytes.fromhex(geometry["QMainWindow State"])
    assert state.startswith(bytes.fromhex("000000ff00000000fd"))  # Qt's mark, version 0 and docks
    for name in docks:
        text = name.encode("utf-16-be")
        assert len(text).to_bytes(4, "big") + text in state, f"the window's state has no place for {name}"
        assert geometry[name] == {"collapsed": False}
    # Absent, RViz reads an uninitialised value.
    assert geometry["Hide Left Dock"] is False and geometry["Hide Right Dock"] is False


@pytest.mark.node
def test_what_comes_from_the_planner_is_published_and_reaches_rviz(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    bench = make_bench(planner=make_planner()).ready()
    received: dict[str, list[Any]] = {display.topic: [] for display in OF_THE_NODE}
    for display in OF_THE_NODE:
        bench.spin_until(lambda d=display: bench.feeder.count_publishers(d.topic), display.topic)
        (publisher,) = bench.feeder.get_publishers_info_by_topic(display.topic)
        assert_fits(display, publisher.topic_type, publisher.qos_profile)
        bench.feeder.create_subscription(
            display.message, display.topic, received[display.topic].append, display.qos
        )
    outputs = bench.node._outputs
    publishers = [outputs._path, outputs._markers, *outputs._overlays.values()]
    bench.spin_until(lambda: all(one.get_subscription_count() for one in publishers), "match of the displays")
    bench.plan(start_ns)
    bench.spin_until(lambda: all(received.values()), "a message for each display")


def test_what_comes_from_a_bag_is_recorded_under_that_name(
    recorded: dict[str, tuple[str, QoSProfile]],
) -> None:
    for display in OF_THE_BAG:
        assert display.topic in recorded, f"{display.name}: no {display.topic} in the bag"
        assert_fits(display, *recorded[display.topic])
    # RViz listens to these two by itself.
    assert recorded["/tf"][0] == recorded["/tf_static"][0] == "tf2_msgs/msg/TFMessage"
    assert recorded["/tf_static"][1].durability == DurabilityPolicy.TRANSIENT_LOCAL


def test_the_listed_marker_namespaces_are_those_of_the_planner() -> None:
    (entry,) = [entry for entry in ENTRIES if (entry.get("Topic") or {}).get("Value") == "/planner/markers"]
    positions = np.column_stack([np.arange(7.0), np.zeros(7)])
    plan = Plan(reference_stamp_ns=1, positions=positions, dt_s=0.5, planner="test")
    published = [
        *plan_markers(plan, frame_id="base_link", lifetime_s=1.0).markers,
        *ego_markers("base_link").markers,
    ]
    assert entry["Namespaces"] == {marker.ns: True for marker in published}


@pytest.mark.node
def test_a_reset_clears_rviz_before_new_markers_come(
    make_bench: Callable, make_planner: Callable, start_ns: int
) -> None:
    (display,) = [display for display in DISPLAYS if display.topic == "/planner/markers"]
    bench = make_bench(planner=make_planner()).ready()
    received: list[MarkerArray] = []
    bench.feeder.create_subscription(display.message, display.topic, received.append, display.qos)
    bench.spin_until(lambda: bench.node._outputs._markers.get_subscription_count(), "match of the display")
    bench.plan(start_ns)
    bench.spin_until(lambda: received, "markers")
    bench.call("reset", Trigger.Request())
    bench.spin_until(lambda: len(received) == 2, "the clearing")
    bench.plan(start_ns + 500_000_000)
    bench.spin_until(lambda: len(received) == 3, "new markers")
    assert [[marker.action for marker in message.markers] == [Marker.DELETEALL] for message in received] == [
        False,
        True,
        False,
    ]
    first, _, second = received
    identities = [{(marker.ns, marker.id) for marker in message.markers} for message in (first, second)]
    assert identities[0] == identities[1]
    assert {marker.ns for marker in first.markers if marker.frame_locked} == {"ego"}
    lifetimes = {marker.ns: marker.lifetime.sec + marker.lifetime.nanosec for marker in first.markers}
    assert lifetimes["plan"] > 0 and lifetimes["candidates"] > 0 and lifetimes["ego"] == 0
