"""Start the planner: ros2 launch wpt_planner planner.launch.py planner:=<name or bundle> use_sim_time:=true

The graph and its arguments are in config/planner_graph.yaml; `--show-args` lists them.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from wpt_planner.topic_names import topic_names

# share/wpt_planner, or the package's source folder: this file's place is the same in both.
SHARE = Path(__file__).resolve().parent.parent
GRAPH = yaml.safe_load((SHARE / "config" / "planner_graph.yaml").read_text(encoding="utf-8"))


def start_nodes(context: LaunchContext) -> list[Action]:
    """Build the actions once the arguments have values."""
    values = {name: LaunchConfiguration(name).perform(context).strip() for name in GRAPH["arguments"]}
    actions: list[Action] = []
    if not any(os.environ.get(variable) for variable in GRAPH["dds_profile_variables"]):
        profile = str(SHARE / "dds" / GRAPH["dds_profile"])
        actions += [SetEnvironmentVariable(variable, profile) for variable in GRAPH["dds_profile_variables"]]

    names = topic_names(values["topics"])
    node = GRAPH["node"]
    given = {name: values[argument] for name, argument in node["parameters"].items() if values[argument]}
    if "use_sim_time" in given:
        given["use_sim_time"] = given["use_sim_time"].lower() in ("true", "1", "yes")
    actions.append(
        Node(
            package=node["package"],
            executable=node["executable"],
            name=node["name"],
            namespace=values["namespace"],
            parameters=[values["params_file"] or str(SHARE / "config" / "planner.yaml"), given],
            remappings=list(names.items()),
            arguments=["--ros-args", "--log-level", values["log_level"]],
            output="screen",
            emulate_tty=True,
        )
    )
    return actions


def generate_launch_description() -> LaunchDescription:
    """Declare every argument of the graph, then start it."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=entry["default"], description=entry["description"])
                for name, entry in GRAPH["arguments"].items()
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )
