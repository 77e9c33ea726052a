"""The planner's topics as the tables of docs/topics.md: python3 -m wpt_planner.topic_table prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wpt_planner import topics
from wpt_planner.parameters import load_declarations

CAMERA = "<camera>"


@dataclass(frozen=True)
class Row:
    """A topic and what to know about it."""

    topic: topics.Topic
    note: str


def input_rows(camera: str = CAMERA) -> list[Row]:
    """What the node subscribes to; /clock, with use_sim_time, comes beside."""
    latched, volatile = topics.TF_STATIC
    return [
        Row(topics.image_topic(camera, "compressed"), "with `transport: compressed`, the default"),
        Row(topics.image_topic(camera, "raw"), "with `transport: raw`"),
        Row(
            topics.camera_info_topic(camera),
            "kept, and rescaled with the image; need not come with each image",
        ),
        Row(latched, "base_link to the cameras, over any number of frames"),
        Row(volatile, "the same once more: recordings are often played volatile"),
        Row(topics.ODOMETRY, "the only source of ego motion: /tf is for RViz alone"),
        Row(topics.COMMAND, "while there is none: `default_command`, with a warning"),
    ]


def output_rows(camera: str = CAMERA) -> list[Row]:
    """What the node publishes."""
    deadline = load_declarations()["trajectory_deadline"].default
    return [
        Row(
            topics.trajectory_topic(deadline),
            "the plan, stamped with the newest image of its set, never repeated; the deadline is `trajectory_deadline`",
        ),
        Row(
            topics.CANDIDATES, "what the plan was chosen from, with scores; of planners that have candidates"
        ),
        Row(topics.SET_REPORT, "what became of each camera set, and every reset"),
        Row(topics.PATH, "the plan for RViz"),
        Row(topics.MARKERS, "plan, candidates and the car's outline for RViz; cleared on every reset"),
        Row(topics.overlay_topic(camera), "the plan drawn into the image; of planners that read images"),
        Row(topics.DIAGNOSTICS, "why there is no plan, in one line, in every state of the lifecycle"),
    ]


def type_name(topic: topics.Topic) -> str:
    """Return for example sensor_msgs/msg/Image."""
    return f"{topic.type.__module__.split('.')[0]}/msg/{topic.type.__name__}"


def qos_words(topic: topics.Topic) -> str:
    """Return for example ``reliable, depth 1, deadline 0.5 s``."""
    words = ["best effort" if topic.best_effort else "reliable"]
    if topic.transient_local:
        words.append("transient local")
    words.append(f"depth {topic.depth}")
    if topic.deadline_s > 0:
        words.append(f"deadline {topic.deadline_s:g} s")
    return ", ".join(words)


def markdown_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table that ends with a line feed."""
    lines = ["| topic | type | quality of service | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{row.topic.name}` | {type_name(row.topic)} | {qos_words(row.topic)} | {row.note} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the inputs' table, an empty line, the outputs' table."""
    print(markdown_table(input_rows()))
    print(markdown_table(output_rows()), end="")


if __name__ == "__main__":
    main()
