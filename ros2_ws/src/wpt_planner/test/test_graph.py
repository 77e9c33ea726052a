"""planner.launch.py and run_planner start the same node from the same file; here with stand-ins for launch's modules.

(launch_planner_test.py runs the launch file on the real thing where that is installed.)
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from wpt_planner import run_planner
from wpt_planner.parameters import load_declarations
from wpt_planner.shared_files import shared_file
from wpt_planner.topic_names import TopicNamesError, topic_names

LAUNCH_FILE = Path(__file__).resolve().parent.parent / "launch" / "planner.launch.py"


class Recorded:
    """Stands for a launch action: keeps what it was built with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class LaunchConfiguration(Recorded):
    def perform(self, context: Any) -> str:
        return context.launch_configurations[self.args[0]]


def stand_in_modules() -> dict[str, ModuleType]:
    names = {
        "launch": ("LaunchContext", "LaunchDescription"),
        "launch.action": ("Action",),
        "launch.actions": ("DeclareLaunchArgument", "OpaqueFunction", "SetEnvironmentVariable"),
        "launch.substitutions": (),
        "launch_ros": (),
        "launch_ros.actions": ("Node",),
    }
    modules = {}
    for name, classes in names.items():
        modules[name] = ModuleType(name)
        for class_name in classes:
            setattr(modules[name], class_name, type(class_name, (Recorded,), {}))
    modules["launch.substitutions"].LaunchConfiguration = LaunchConfiguration
    return modules


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name, module in stand_in_modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("planner_launch", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module


def launched(module: ModuleType, **arguments: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return (environment that is set, keyword arguments of the one node) for launch arguments."""
    configurations = {name: entry["default"] for name, entry in module.GRAPH["arguments"].items()} | arguments
    actions = module.start_nodes(SimpleNamespace(launch_configurations=configurations))
    environment = {
        action.args[0]: action.args[1]
        for action in actions
        if type(action).__name__ == "SetEnvironmentVariable"
    }
    (node,) = [action for action in actions if type(action).__name__ == "Node"]
    return environment, node.kwargs


def flattened(node: dict[str, Any]) -> list[str]:
    """The command line that launch makes of a node, in run_planner's order."""
    words = ["--ros-args", "-r", f"__node:={node['name']}"]
    if node["namespace"]:
        words += ["-r", f"__ns:=/{node['namespace']}"]
    file, values = node["parameters"]
    words += ["--params-file", file]
    for name, value in values.items():
        words += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
    for ours, theirs in node["remappings"]:
        words += ["-r", f"{ours}:={theirs}"]
    return words + node["arguments"][1:]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"planner": "stop", "use_sim_time": "true", "namespace": "car", "log_level": "debug"},
        {"params_file": "my.yaml", "transport": "raw", "device": "cpu"},
        {"topics": "autoware"},
        {"topics": "nuscenes2mcap"},
    ],
)
def test_both_ways_start_the_same_node(launch_file: ModuleType, arguments: dict[str, str]) -> None:
    _, node = launched(launch_file, **arguments)
    graph = run_planner.load_graph()
    values = run_planner.parse_arguments(graph, [f"{name}:={value}" for name, value in arguments.items()])
    assert flattened(node) == run_planner.node_arguments(graph, values)
    assert (node["package"], node["executable"]) == ("wpt_planner", "planner_node")


def test_every_argument_is_declared_with_its_default_and_description(launch_file: ModuleType) -> None:
    (entities,) = launch_file.generate_launch_description().args
    declared = {
        action.args[0]: action.kwargs
        for action in entities
        if type(action).__name__ == "DeclareLaunchArgument"
    }
    assert declared.keys() == run_planner.load_graph()["arguments"].keys()
    assert all(kwargs["description"] for kwargs in declared.values())
    assert declared["use_sim_time"]["default_value"] == "false"


def test_the_graph_names_declared_parameters_and_its_own_arguments() -> None:
    graph = run_planner.load_graph()
    declared = set(load_declarations()) | {"use_sim_time"}
    assert set(graph["node"]["parameters"]) <= declared
    assert set(graph["node"]["parameters"].values()) <= set(graph["arguments"])


def test_use_sim_time_is_a_truth_value(launch_file: ModuleType) -> None:
    assert launched(launch_file, use_sim_time="true")[1]["parameters"][1]["use_sim_time"] is True
    assert launched(launch_file)[1]["parameters"][1] == {"use_sim_time": False}


@pytest.mark.parametrize("users", [None, "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"])
def test_the_transport_profile_is_set_only_where_the_user_has_none(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch, users: str | None
) -> None:
    variables = run_planner.load_graph()["dds_profile_variables"]
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    if users:
        monkeypatch.setenv(users, "users.xml")
    environment, _ = launched(launch_file)
    assert environment == run_planner.profile_environment(run_planner.load_graph(), os.environ)
    assert set(environment) == (set() if users else set(variables))
    assert all(Path(value).is_file() for value in environment.values())


def test_unknown_presets_and_arguments_are_named(
    launch_file: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="autoware"):
        launched(launch_file, topics="apollo")
    assert run_planner.main(["topics:=apollo"]) == 2
    assert run_planner.main(["colour:=red"]) == 2
    written = capsys.readouterr().err
    assert "apollo" in written and "colour:=red" in written


def test_names_may_come_from_a_file(launch_file: ModuleType, tmp_path: Path) -> None:
    names = {"sensing/cam_front/camera_info": "/front/info", "localization/kinematic_state": "/odom"}
    own = tmp_path / "names.yaml"
    own.write_text(yaml.safe_dump(names), encoding="utf-8")
    assert topic_names(str(own)) == names
    _, node = launched(launch_file, topics=str(own))
    assert dict(node["remappings"]) == names
    words = run_planner.node_arguments(
        run_planner.load_graph(), run_planner.parse_arguments(run_planner.load_graph(), [f"topics:={own}"])
    )
    assert "localization/kinematic_state:=/odom" in words


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("- a list", "no YAML mapping"),
        ("sensing/cam_front/camera_info: [1]", "one name for each"),
        ("{: bad", "cannot be read"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    own = tmp_path / "names.yaml"
    own.write_text(content, encoding="utf-8")
    with pytest.raises(TopicNamesError, match=sentence):
        topic_names(str(own))
    with pytest.raises(TopicNamesError, match="cannot be read"):
        topic_names(str(tmp_path / "absent.yaml"))


def test_arguments_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_planner.main(["--show-args"]) == 0
    written = capsys.readouterr().out
    assert all(f"'{name}'" in written for name in run_planner.load_graph()["arguments"])


def test_presets_remap_names_that_the_node_has() -> None:
    from wpt_planner import topics

    cameras = load_declarations()["cameras"].default
    ours = {topics.ODOMETRY.name, topics.COMMAND.name}
    for camera in cameras:
        ours |= {topics.image_topic(camera, transport).name for transport in ("compressed", "raw")}
        ours.add(topics.camera_info_topic(camera).name)
    presets = yaml.safe_load(shared_file("config", "topic_presets.yaml").read_text())
    for preset, names in presets.items():
        assert set(names) <= ours, preset
        assert {topics.image_topic(camera, "compressed").name for camera in cameras} <= set(names), preset
