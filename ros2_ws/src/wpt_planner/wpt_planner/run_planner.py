"""Start the planner's graph where ros2 launch is not installed: the same file, arguments and defaults.

python3 -m wpt_planner.run_planner planner:=stop use_sim_time:=true
python3 -m wpt_planner.run_planner --show-args
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from wpt_planner.planner_process import end_quietly_while_starting
from wpt_planner.shared_files import shared_file
from wpt_planner.topic_names import TopicNamesError, topic_names


class GraphArgumentError(ValueError):
    """An argument that the graph does not have, or a value that it cannot use."""


def load_graph() -> dict[str, Any]:
    """Return config/planner_graph.yaml."""
    return yaml.safe_load(shared_file("config", "planner_graph.yaml").read_text(encoding="utf-8"))


def parse_arguments(graph: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, str]:
    """Return every argument's value from ``name:=value`` words; raises GraphArgumentError."""
    values = {name: str(entry["default"]) for name, entry in graph["arguments"].items()}
    for argument in arguments:
        name, separator, value = argument.partition(":=")
        if not separator or name not in values:
            raise GraphArgumentError(
                f"argument {argument!r} is not known, expected name:=value with one of {', '.join(values)}"
            )
        values[name] = value.strip()
    return values


def node_arguments(graph: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    """Return the --ros-args of the graph's node; raises GraphArgumentError for unusable topic names."""
    node = graph["node"]
    try:
        names = topic_names(values["topics"])
    except TopicNamesError as error:
        raise GraphArgumentError(str(error)) from None
    words = ["--ros-args", "-r", f"__node:={node['name']}"]
    if values["namespace"]:
        words += ["-r", f"__ns:=/{values['namespace'].strip('/')}"]
    words += ["--params-file", values["params_file"] or str(shared_file("config", "planner.yaml"))]
    for name, argument in node["parameters"].items():
        if values[argument]:
            words += ["-p", f"{name}:={values[argument]}"]
    for ours, theirs in names.items():
        words += ["-r", f"{ours}:={theirs}"]
    return [*words, "--log-level", values["log_level"]]


def profile_environment(graph: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set so that Fast DDS reads our profile: none where the user has set any of them."""
    variables = graph["dds_profile_variables"]
    if any(environment.get(variable) for variable in variables):
        return {}
    return dict.fromkeys(variables, str(shared_file("dds", graph["dds_profile"])))


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the node's process; returns a code only where the arguments are not for that."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    graph = load_graph()
    if {"--show-args", "-s", "--help", "-h"} & set(arguments):
        print("Arguments (pass them as 'name:=value'):")
        for name, entry in graph["arguments"].items():
            print(f"\n    {name!r}:\n        {entry['description']}\n        (default: {entry['default']!r})")
        return 0
    try:
        values = parse_arguments(graph, arguments)
        words = node_arguments(graph, values)
    except GraphArgumentError as error:
        print(error, file=sys.stderr)
        return 2
    os.environ.update(profile_environment(graph, os.environ))
    end_quietly_while_starting()
    from wpt_planner.planner_node import main as run_node

    run_node([graph["node"]["executable"], *words])


if __name__ == "__main__":
    sys.exit(main())
