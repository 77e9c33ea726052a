"""Start the whole system: planner, and with it a replayed bag, a judge, RViz.

ros2 launch wpt_bringup system.launch.py bag:=BAG planner:=wpt-compact evaluate:=true lockstep:=true
ros2 launch wpt_bringup system.launch.py rviz:=true                # in a car: no bag, no simulated time

Everything ends with the replay, and the exit code is 1 where one of the programs failed.
`--show-args` lists the arguments; those of wpt_planner's planner.launch.py are among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

PLANNER_SHARE = Path(get_package_share_directory("wpt_planner"))
GRAPH = yaml.safe_load((PLANNER_SHARE / "config" / "planner_graph.yaml").read_text(encoding="utf-8"))
TRUTH = ["true", "false"]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "bag": {
        "default": "",
        "description": "bag to play, with /clock; empty: a car or another player gives the topics",
    },
    "rate": {"default": "", "description": "bag seconds a second; empty: 1, in lockstep at most 4"},
    "loop": {"default": "1", "description": "how often to play the bag; 0: until Ctrl-C"},
    "lockstep": {
        "default": "false",
        "choices": TRUTH,
        "description": "true to hold time after each camera set until the planner has reported on it",
    },
    "evaluate": {
        "default": "false",
        "choices": TRUTH,
        "description": "true to judge the plans by the recorded future; the report comes at the end",
    },
    "report": {
        "default": "evaluation.json",
        "description": "file of the evaluation's report",
    },
    "data": {
        "default": "",
        "description": "nuScenes folder for the evaluation's off-road rate; empty: without it",
    },
    "version": {"default": "v1.0-mini", "description": "version folder in data"},
    "rviz": {
        "default": "false",
        "choices": TRUTH,
        "description": "true to open RViz with wpt_planner's planner.rviz",
    },
    "rviz_config": {
        "default": "",
        "description": "another RViz configuration; its topics are renamed as ours are",
    },
    "fixed_frame": {
        "default": "",
        "description": "RViz' fixed frame, for example odom; empty: as in the configuration",
    },
    **GRAPH["arguments"],
    "use_sim_time": {
        "default": "",
        "choices": ["", *TRUTH],
        "description": "true to follow /clock, false for real time; empty: true where a bag is given",
    },
}
# Relative names of the planner begin so; what a bag or a display calls /sensing/... is /<namespace>/sensing/... then.
IN_NAMESPACE = ("sensing", "localization", "planning", GRAPH["node"]["name"])
ODOMETRY, COMMAND, KEYFRAME = "/localization/kinematic_state", "/planning/command", "/nuscenes/keyframe"
# How long the replay waits for planner and judge: a large network comes from a cold disk in tens of seconds.
START_LIMIT_S = "120"
# The judge computes its metrics after SIGINT; launch's 5 s end it in the middle.
EVALUATION_LIMIT_S = "120"


def bag_topics(bag: str) -> list[str]:
    """Names of the topics in a bag folder; raises RuntimeError in one sentence."""
    metadata = Path(bag).expanduser() / "metadata.yaml"
    try:
        content = yaml.safe_load(metadata.read_text(encoding="utf-8"))
        entries = content["rosbag2_bagfile_information"]["topics_with_message_count"]
        return [entry["topic_metadata"]["name"] for entry in entries]
    except OSError as error:
        raise RuntimeError(
            f"bag is {bag!r}, expected a bag folder with a metadata.yaml ({error.strerror}): check the path, or write "
            "the file with `ros2 bag reindex`"
        ) from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise RuntimeError(
            f"{metadata} is no bag's metadata.yaml: write it anew with `ros2 bag reindex`"
        ) from error


def renamed(topics: Iterable[str], values: dict[str, str], preset: dict[str, str]) -> list[tuple[str, str]]:
    """Rules that lead the suite's absolute names to where the planner has them: a preset's name or the namespace."""
    rules = []
    for topic in topics:
        relative = topic.lstrip("/")
        if relative in preset:
            rules.append((topic, preset[relative]))
        elif values["namespace"] and topic not in preset.values() and relative.split("/")[0] in IN_NAMESPACE:
            rules.append((topic, f"/{values['namespace']}/{relative}"))
    return rules


def rviz_topics(displays: Iterable[dict[str, Any]]) -> list[str]:
    """Topics of an RViz configuration's displays, groups included."""
    topics = []
    for display in displays:
        topics += rviz_topics(display.get("Displays") or ())
        if isinstance(display.get("Topic"), dict) and display["Topic"].get("Value"):
            topics.append(display["Topic"]["Value"])
    return topics


def rviz_node(values: dict[str, str], preset: dict[str, str]) -> list[Action]:
    """RViz with the planner's configuration, or a sentence where it is not installed: the rest runs without it."""
    missing = []
    # Without the transport RViz throws at its first compressed image display, and ends.
    for package in ("rviz2", "compressed_image_transport"):
        try:
            get_package_prefix(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return [
            LogInfo(
                msg=f"rviz:=true needs {' and '.join(missing)}, not installed here: install "
                f"{' '.join('ros-$ROS_DISTRO-' + name.replace('_', '-') for name in missing)}; the rest runs without RViz."
            )
        ]
    path = Path(values["rviz_config"] or PLANNER_SHARE / "rviz" / "planner.rviz").expanduser()
    try:
        configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
        topics = rviz_topics(configuration["Visualization Manager"]["Displays"])
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise RuntimeError(
            f"rviz_config {path} cannot be read as an RViz configuration: name another"
        ) from error
    fixed_frame = ["--fixed-frame", values["fixed_frame"]] if values["fixed_frame"] else []
    actions: list[Action] = [
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", str(path), *fixed_frame],
            remappings=renamed(topics, values, preset),
            parameters=[{"use_sim_time": values["use_sim_time"] == "true"}],
        )
    ]
    if values["transport"] == "raw":
        actions.append(
            LogInfo(
                msg="RViz shows compressed images: for raw ones, take /compressed off the displays' topics."
            )
        )
    return actions


def evaluation_node(values: dict[str, str], preset: dict[str, str], planner: str) -> Node:
    """The judge: collects until it is interrupted, then writes its report."""
    return Node(
        package="wpt_replay",
        executable="evaluation_node",
        parameters=[
            {
                "planner_node": planner,
                "report": str(Path(values["report"]).expanduser()) if values["report"] else "",
                "data": values["data"],
                "version": values["version"],
            }
        ],
        remappings=renamed([ODOMETRY], values, preset),
        output="screen",
        sigterm_timeout=EVALUATION_LIMIT_S,
        sigkill_timeout=EVALUATION_LIMIT_S,
    )


def replay_node(values: dict[str, str], preset: dict[str, str], planner: str) -> Node:
    """The player. It begins when the planner is active, and with a judge when that listens as well."""
    topics = bag_topics(values["bag"])
    arguments = [str(Path(values["bag"]).expanduser()), "--planner", planner, "--loop", values["loop"]]
    arguments += ["--wait-timeout", START_LIMIT_S]
    if values["rate"]:
        arguments += ["--rate", values["rate"]]
    if values["lockstep"] == "true":
        arguments.append("--lockstep")
    # Whoever takes images need not be the planner: RViz does so too. Nobody else takes the command.
    waited_for = [COMMAND] if COMMAND in topics else []
    if values["evaluate"] == "true":
        if KEYFRAME not in topics:
            raise RuntimeError(
                f"evaluate:=true needs {KEYFRAME}, which {values['bag']} lacks: convert a scene with `wpt-bag convert`, "
                "or leave evaluate out"
            )
        waited_for.append(KEYFRAME)
    if waited_for:
        arguments += ["--wait-also", *waited_for]
    # A preset's names are the bag's own ones: only what is left is moved, into the namespace.
    unnamed = [topic for topic in topics if topic.lstrip("/") not in preset]
    return Node(
        package="wpt_replay",
        executable="replay_node",
        arguments=arguments,
        remappings=renamed(unnamed, values, preset),
        output="screen",
    )


def topic_names(choice: str) -> dict[str, str]:
    """Return theirs by our name, of a preset or of a YAML file; nothing for what is neither."""
    presets = yaml.safe_load((PLANNER_SHARE / "config" / "topic_presets.yaml").read_text(encoding="utf-8"))
    if choice in presets:
        return presets[choice]
    own = Path(choice)
    return yaml.safe_load(own.read_text(encoding="utf-8")) if choice and own.is_file() else {}


def start(context: LaunchContext) -> list[Action]:
    """Build the actions once the arguments have values."""
    values = {name: LaunchConfiguration(name).perform(context).strip() for name in ARGUMENTS}
    values["namespace"] = values["namespace"].strip("/")
    values["use_sim_time"] = values["use_sim_time"] or ("true" if values["bag"] else "false")
    if not values["bag"]:
        unused = [name for name in ("rate", "lockstep", "loop") if values[name] != ARGUMENTS[name]["default"]]
        if unused:
            raise RuntimeError(
                f"{unused[0]} is for a replayed bag, and bag is empty: give bag:=PATH, or leave it out"
            )
    preset = topic_names(values["topics"])  # planner.launch.py, which is included below, refuses what is none
    planner = "/".join(["", *filter(None, [values["namespace"]]), GRAPH["node"]["name"]])

    replay = replay_node(values, preset, planner) if values["bag"] else None
    rviz = rviz_node(values, preset) if values["rviz"] == "true" else []

    def on_exit(event: Any, context: LaunchContext) -> list[Action]:
        """End with the replay; a program that failed ends the rest and makes the exit code 1."""
        if event.action in rviz:
            return []
        if event.returncode:
            raise RuntimeError(
                f"{event.process_name} ended with exit code {event.returncode}: see its last lines above"
            )
        if event.action is replay and not context.is_shutdown:
            return [Shutdown(reason="the replay has ended")]
        return []

    actions: list[Action] = [
        RegisterEventHandler(OnProcessExit(on_exit=on_exit)),
        # First: it names the transport profile in the environment, for all that start after it.
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(PLANNER_SHARE / "launch" / "planner.launch.py")),
            launch_arguments=[(name, values[name]) for name in GRAPH["arguments"]],
        ),
    ]
    if values["evaluate"] == "true":
        actions.append(evaluation_node(values, preset, planner))
    if replay is not None:
        actions.append(replay)
    return actions + rviz


def generate_launch_description() -> LaunchDescription:
    """Declare every argument, then start what they ask for."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name,
                    default_value=entry["default"],
                    description=entry["description"],
                    choices=entry.get("choices"),
                )
                for name, entry in ARGUMENTS.items()
            ),
            OpaqueFunction(function=start),
        ]
    )
