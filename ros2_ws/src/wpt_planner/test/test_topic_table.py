"""docs/topics.md says what the running node does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from wpt_planner.parameters import load_declarations
from wpt_planner.topic_table import Row, input_rows, markdown_table, output_rows, type_name

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "topics.md"
# Of every ROS node, of every lifecycle node, and of every node on simulated time.
NOT_OURS = {"/parameter_events", "/rosout", "/planner/transition_event", "/clock"}


def test_the_document_has_the_tables_as_they_are_now() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for table in (markdown_table(input_rows()), markdown_table(output_rows())):
        assert table in text, (
            "docs/topics.md is stale: replace its tables by the output of python3 -m wpt_planner.topic_table"
        )


def test_a_table_shows_names_types_and_every_policy() -> None:
    table = markdown_table([*input_rows("cam_back"), *output_rows("cam_back")])
    for words in (
        "| `sensing/cam_back/image_rect` | sensor_msgs/msg/Image | best effort, depth 5 |",
        "| `/tf_static` | tf2_msgs/msg/TFMessage | reliable, transient local, depth 100 |",
        "| reliable, depth 1, deadline 0.5 s |",
    ):
        assert words in table


@pytest.mark.node
def test_the_tables_name_every_topic_of_a_running_node(make_bench: Callable, make_planner: Callable) -> None:
    bench = make_bench(planner=make_planner()).wait_active()
    cameras = load_declarations()["cameras"].default
    wanted_inputs = {
        (row.topic.name, type_name(row.topic), policies(row.topic.qos()))
        for camera in cameras
        for row in input_rows(camera)
        if not row.topic.name.endswith("/image_rect")  # transport is compressed
    }
    wanted_outputs = {
        (row.topic.name, type_name(row.topic), policies(row.topic.qos()))
        for camera in cameras
        for row in output_rows(camera)
    }
    node, here = bench.node, bench.node.get_name()

    def offered() -> tuple[set[Any], set[Any]]:
        names = [name for name, _ in node.get_topic_names_and_types() if name not in NOT_OURS]
        ends = [
            {
                (name, info.topic_type, policies(info.qos_profile))
                for name in names
                for info in look_up(name)
                if info.node_name == here
            }
            for look_up in (node.get_subscriptions_info_by_topic, node.get_publishers_info_by_topic)
        ]
        return ends[0], ends[1]

    def full(rows: set[Any]) -> set[Any]:
        return {(node.resolve_topic_name(name), *rest) for name, *rest in rows}

    # The graph learns of the node's own ends a moment after they are made.
    wanted = (full(wanted_inputs), full(wanted_outputs))
    bench.spin_until(lambda: all(map(set.issuperset, offered(), wanted)), f"the ends {wanted}")
    assert offered() == wanted


def policies(profile: QoSProfile) -> tuple[ReliabilityPolicy, DurabilityPolicy, int]:
    """What discovery tells of a profile (it does not tell the depth); no deadline is a very long one."""
    deadline_ns = profile.deadline.nanoseconds
    return (profile.reliability, profile.durability, deadline_ns if deadline_ns < 10**15 else 0)


def test_every_row_has_a_note() -> None:
    rows: list[Row] = [*input_rows(), *output_rows()]
    assert all(row.note for row in rows)
