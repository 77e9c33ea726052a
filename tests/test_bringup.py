"""launch/system.launch.py: what it starts for which arguments, and that these programs then work together.

launch's modules are stood in for, so that this runs without a ROS distribution; launch/test/ runs the file on the real ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from ament_index_python.packages import PackageNotFoundError

from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene

REPOSITORY = Path(__file__).resolve().parent.parent
LAUNCH_FILE = REPOSITORY / "launch" / "system.launch.py"
PLANNER = REPOSITORY / "ros2_ws" / "src" / "wpt_planner"
LIMIT_S = 90.0


class Recorded:
    """Stands for a launch class: keeps what it was built with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class LaunchConfiguration(Recorded):
    def perform(self, context: Any) -> str:
        return context.launch_configurations[self.args[0]]


STAND_INS = {
    "launch": ("LaunchContext", "LaunchDescription"),
    "launch.action": ("Action",),
    "launch.actions": (
        "DeclareLaunchArgument",
        "IncludeLaunchDescription",
        "LogInfo",
        "OpaqueFunction",
        "RegisterEventHandler",
        "Shutdown",
    ),
    "launch.event_handlers": ("OnProcessExit",),
    "launch.launch_description_sources": ("PythonLaunchDescriptionSource",),
    "launch.substitutions": (),
    "launch_ros": (),
    "launch_ros.actions": ("Node",),
}


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The launch file as a module, with stand-ins; RViz counts as installed."""
    for name, classes in STAND_INS.items():
        module = ModuleType(name)
        for class_name in classes:
            setattr(module, class_name, type(class_name, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["launch.substitutions"].LaunchConfiguration = LaunchConfiguration
    spec = importlib.util.spec_from_file_location("system_launch", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "get_package_prefix", lambda name: "/prefix")
    yield module


@dataclass
class Started:
    """What the launch file starts: launch arguments of the planner, nodes by executable, sentences, the exit handler."""

    planner: dict[str, str]
    nodes: dict[str, Any]
    sentences: list[str]
    on_exit: Any

    def remappings(self, executable: str) -> dict[str, str]:
        return dict(self.nodes[executable].kwargs["remappings"])

    def arguments(self, executable: str = "replay_node") -> list[str]:
        return self.nodes[executable].kwargs["arguments"]


def start(module: ModuleType, **arguments: str) -> Started:
    unknown = arguments.keys() - module.ARGUMENTS.keys()
    assert not unknown, unknown
    configurations = {name: entry["default"] for name, entry in module.ARGUMENTS.items()} | arguments
    actions = module.start(SimpleNamespace(launch_configurations=configurations))
    by_kind: dict[str, list[Any]] = {}
    for action in actions:
        by_kind.setdefault(type(action).__name__, []).append(action)
    (include,) = by_kind["IncludeLaunchDescription"]
    assert include.args[0].args[0] == str(module.PLANNER_SHARE / "launch" / "planner.launch.py")
    (handler,) = by_kind["RegisterEventHandler"]
    return Started(
        planner=dict(include.kwargs["launch_arguments"]),
        nodes={node.kwargs["executable"]: node for node in by_kind.get("Node", [])},
        sentences=[action.kwargs["msg"] for action in by_kind.get("LogInfo", [])],
        on_exit=handler.args[0].kwargs["on_exit"],
    )


def write_metadata(folder: Path, *topics: str) -> str:
    """A bag folder as far as the launch file reads it."""
    folder.mkdir()
    entries = [{"topic_metadata": {"name": topic, "type": "any"}, "message_count": 1} for topic in topics]
    content = {"rosbag2_bagfile_information": {"topics_with_message_count": entries}}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(folder)


@pytest.fixture
def bag(tmp_path: Path) -> str:
    """With names that the converter writes."""
    return write_metadata(
        tmp_path / "bag",
        "/sensing/cam_front/image_rect/compressed",
        "/sensing/cam_front/camera_info",
        "/localization/kinematic_state",
        "/planning/command",
        "/tf",
        "/tf_static",
        "/nuscenes/keyframe",
        "/ground_truth/boxes",
    )


# ---- arguments


def test_every_argument_has_a_default_and_a_description(system: ModuleType) -> None:
    (entities,) = system.generate_launch_description().args
    declared = {
        action.args[0]: action.kwargs for action in entities if type(action).__name__ != "OpaqueFunction"
    }
    graph = yaml.safe_load((PLANNER / "config" / "planner_graph.yaml").read_text(encoding="utf-8"))
    assert declared.keys() > graph["arguments"].keys()
    assert {"bag", "rviz", "evaluate", "lockstep", "rate", "loop"} <= declared.keys()
    for name, keywords in declared.items():
        assert keywords["description"] and isinstance(keywords["default_value"], str), name
        assert keywords["choices"] is None or keywords["default_value"] in keywords["choices"]


def test_the_readme_lists_the_arguments(system: ModuleType) -> None:
    text = (REPOSITORY / "launch" / "README.md").read_text(encoding="utf-8")
    own = [
        name for name in system.ARGUMENTS if name not in system.GRAPH["arguments"] or name == "use_sim_time"
    ]
    rows = [
        f"| `{name}` | {'`' + system.ARGUMENTS[name]['default'] + '`' if system.ARGUMENTS[name]['default'] else ''} | "
        f"{system.ARGUMENTS[name]['description']} |"
        for name in own
    ]
    assert "\n".join(rows) in text, "launch/README.md: replace the table's rows by\n" + "\n".join(rows)


def test_the_planner_gets_all_its_arguments(system: ModuleType) -> None:
    given = {
        "planner": "stop",
        "device": "cpu",
        "params_file": "car.yaml",
        "log_level": "debug",
        "transport": "raw",
    }
    planner = start(system, **given).planner
    assert planner.keys() == system.GRAPH["arguments"].keys()
    assert planner | given == planner
    assert planner["use_sim_time"] == "false"


def test_without_arguments_the_planner_starts_alone(system: ModuleType) -> None:
    started = start(system)
    assert started.nodes == {} and started.sentences == []


# ---- the replay


def test_a_bag_is_played_on_simulated_time(system: ModuleType, bag: str) -> None:
    started = start(system, bag=bag)
    assert started.arguments() == [
        *[bag, "--planner", "/planner", "--loop", "1", "--wait-timeout", "120"],
        *["--wait-also", "/planning/command"],
    ]
    assert started.remappings("replay_node") == {}
    assert started.planner["use_sim_time"] == "true"
    assert start(system, bag=bag, use_sim_time="false").planner["use_sim_time"] == "false"


def test_the_replay_takes_its_arguments(system: ModuleType, bag: str) -> None:
    started = start(system, bag=bag, lockstep="true", rate="0.5", loop="0", evaluate="true")
    words = started.arguments()
    assert words == [
        *[bag, "--planner", "/planner", "--loop", "0", "--wait-timeout", "120"],
        *["--rate", "0.5", "--lockstep"],
        *["--wait-also", "/planning/command", "/nuscenes/keyframe"],
    ]
    # The player itself must know them; a started process, for the tests here import no program.
    check = "import sys; from wpt_replay.replay_cli import build_parser; build_parser('play').parse_args(sys.argv[1:])"
    subprocess.run([sys.executable, "-c", check, "play", *words], check=True, timeout=LIMIT_S)


def test_arguments_of_a_replay_need_a_bag(system: ModuleType) -> None:
    for arguments in ({"lockstep": "true"}, {"rate": "2"}, {"loop": "0"}):
        with pytest.raises(RuntimeError, match=f"{next(iter(arguments))} is for a replayed bag"):
            start(system, **arguments)


def test_bags_that_cannot_be_are_named(system: ModuleType, bag: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nowhere.*No such file"):
        start(system, bag=str(tmp_path / "nowhere"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "metadata.yaml").write_text("- 1", encoding="utf-8")
    with pytest.raises(RuntimeError, match="no bag's metadata.yaml"):
        start(system, bag=str(broken))
    without = write_metadata(tmp_path / "without", "/tf")
    with pytest.raises(RuntimeError, match="evaluate:=true needs /nuscenes/keyframe"):
        start(system, bag=without, evaluate="true")


# ---- the evaluation


def test_the_judge_gets_its_parameters_and_time_for_its_report(system: ModuleType, bag: str) -> None:
    started = start(
        system, bag=bag, evaluate="true", report="here.json", data="/data", version="v1.0-trainval"
    )
    (parameters,) = started.nodes["evaluation_node"].kwargs["parameters"]
    assert parameters == {
        "planner_node": "/planner",
        "report": "here.json",
        "data": "/data",
        "version": "v1.0-trainval",
    }
    source = (REPOSITORY / "ros2_ws/src/wpt_replay/wpt_replay/evaluation_node.py").read_text(encoding="utf-8")
    assert set(re.findall(r'declare_parameter\("(\w+)"', source)) == parameters.keys()
    assert float(started.nodes["evaluation_node"].kwargs["sigterm_timeout"]) >= 60
    assert list(started.nodes) == ["evaluation_node", "replay_node"]  # the judge first


def test_the_judge_works_without_a_bag_of_ours(system: ModuleType) -> None:
    assert list(start(system, evaluate="true", report="").nodes) == ["evaluation_node"]


# ---- names


def test_a_namespace_moves_what_the_planner_has_by_relative_names(system: ModuleType, bag: str) -> None:
    started = start(system, bag=bag, evaluate="true", rviz="true", namespace="/car/")
    assert started.planner["namespace"] == "car"
    assert started.remappings("replay_node") == {
        f"/{name}": f"/car/{name}"
        for name in (
            "sensing/cam_front/image_rect/compressed",
            "sensing/cam_front/camera_info",
            "localization/kinematic_state",
            "planning/command",
        )
    }
    assert started.arguments()[:3] == [bag, "--planner", "/car/planner"]
    (parameters,) = started.nodes["evaluation_node"].kwargs["parameters"]
    assert parameters["planner_node"] == "/car/planner"
    assert started.remappings("evaluation_node") == {
        "/localization/kinematic_state": "/car/localization/kinematic_state"
    }
    rviz = started.remappings("rviz2")
    assert rviz["/planner/markers"] == "/car/planner/markers"
    assert rviz["/sensing/cam_back/image_rect/compressed"] == "/car/sensing/cam_back/image_rect/compressed"
    assert not [topic for topic in rviz if topic.startswith("/ground_truth")]


def test_a_preset_renames_for_rviz_and_leaves_the_bag_as_it_is(system: ModuleType, tmp_path: Path) -> None:
    presets = yaml.safe_load((PLANNER / "config" / "topic_presets.yaml").read_text(encoding="utf-8"))
    for preset, names in presets.items():
        recorded = write_metadata(tmp_path / preset, *names.values(), "/tf_static")
        started = start(system, bag=recorded, rviz="true", topics=preset, namespace="car")
        # The planner listens to a preset's names wherever it is: nothing may be moved into the namespace.
        assert started.remappings("replay_node") == {}, preset
        assert "--wait-also" not in started.arguments(), preset
        image = "sensing/cam_front/image_rect/compressed"
        assert started.remappings("rviz2")[f"/{image}"] == names[image], preset
        assert started.planner["topics"] == preset


def test_relative_names_of_the_planner_begin_as_the_launch_file_says(system: ModuleType) -> None:
    """Read from the document that is held against the running node."""
    text = (REPOSITORY / "docs" / "topics.md").read_text(encoding="utf-8")
    planner_part = text.split("## What a converted scene holds")[0]
    names = re.findall(r"^\| `([^`]+)` \|", planner_part, flags=re.MULTILINE)
    assert len(names) > 10
    roots = {name.split("/")[0].replace("~", "planner") for name in names if not name.startswith("/")}
    assert roots == set(system.IN_NAMESPACE)


# ---- RViz


def test_rviz_opens_the_planners_configuration(system: ModuleType, bag: str, tmp_path: Path) -> None:
    started = start(system, bag=bag, rviz="true", fixed_frame="odom")
    node = started.nodes["rviz2"].kwargs
    assert node["package"] == "rviz2" and node["parameters"] == [{"use_sim_time": True}]
    assert node["arguments"] == [
        *["-d", str(system.PLANNER_SHARE / "rviz" / "planner.rviz")],
        *["--fixed-frame", "odom"],
    ]
    assert node["remappings"] == []
    other = tmp_path / "mine.rviz"
    other.write_text(
        "Visualization Manager: {Displays: [{Class: rviz_default_plugins/Path, Topic: {Value: /planner/path}}]}"
    )
    started = start(system, rviz="true", rviz_config=str(other), namespace="car", transport="raw")
    assert started.remappings("rviz2") == {"/planner/path": "/car/planner/path"}
    assert "take /compressed off" in started.sentences[0]
    with pytest.raises(RuntimeError, match="cannot be read as an RViz configuration"):
        start(system, rviz="true", rviz_config=bag + "/metadata.yaml")


@pytest.mark.parametrize("absent", [{"rviz2"}, {"compressed_image_transport"}])
def test_where_rviz_is_not_installed_one_sentence_says_so_and_the_rest_runs(
    system: ModuleType, bag: str, monkeypatch: pytest.MonkeyPatch, absent: set[str]
) -> None:
    def prefix(name: str) -> str:
        if name in absent:
            raise PackageNotFoundError(name)
        return "/prefix"

    monkeypatch.setattr(system, "get_package_prefix", prefix)
    started = start(system, bag=bag, rviz="true")
    assert list(started.nodes) == ["replay_node"]
    (sentence,) = started.sentences
    assert absent.pop() in sentence and "ros-$ROS_DISTRO-" in sentence


def test_the_package_asks_for_what_rviz_needs() -> None:
    manifest = (REPOSITORY / "launch" / "package.xml").read_text(encoding="utf-8")
    for package in ("rviz2", "compressed_image_transport"):
        assert f"<exec_depend>{package}</exec_depend>" in manifest


# ---- the end


def test_the_end_of_the_replay_ends_all_and_a_failure_is_an_error(system: ModuleType, bag: str) -> None:
    started = start(system, bag=bag, evaluate="true", rviz="true")
    running, ending = SimpleNamespace(is_shutdown=False), SimpleNamespace(is_shutdown=True)
    replay, judge, rviz = (
        started.nodes[executable] for executable in ("replay_node", "evaluation_node", "rviz2")
    )

    def exits(action: Any, code: int, context: Any = running) -> list[str]:
        event = SimpleNamespace(action=action, returncode=code, process_name="program-1")
        return [type(one).__name__ for one in started.on_exit(event, context)]

    assert exits(replay, 0) == ["Shutdown"]
    assert exits(replay, 0, ending) == []
    assert exits(judge, 0, ending) == []
    assert exits(rviz, 1) == []  # a closed or broken window stops no planner
    for action, context in ((replay, running), (judge, ending), (object(), running)):
        with pytest.raises(RuntimeError, match="program-1 ended with exit code 1"):
            exits(action, 1, context)


# ---- all together, without launch


@pytest.fixture(scope="module")
def real_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = shutil.which("wpt-bag")
    if program is None:
        pytest.skip("wpt_replay is not installed here")
    folder = tmp_path_factory.mktemp("scene")
    write_factory_scene(folder / "data", keyframes=3, image_size=(64, 36))
    data = ["--data", str(folder / "data"), "--version", FACTORY_VERSION, "--scene", FACTORY_SCENE]
    subprocess.run([program, "convert", *data, "--out", str(folder)], check=True, capture_output=True)
    return folder / FACTORY_SCENE


def test_the_document_lists_what_a_bag_holds(real_bag: Path) -> None:
    text = (REPOSITORY / "docs" / "topics.md").read_text(encoding="utf-8")
    part = text.split("## What a converted scene holds")[1].split("## What RViz shows")[0]
    documented = set(re.findall(r"^\| `([^`]+)` \| (\S+) \| ([^|]+) \|", part, flags=re.MULTILINE))
    content = yaml.safe_load((real_bag / "metadata.yaml").read_text(encoding="utf-8"))
    held = set()
    for entry in content["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        (offer,) = topic["offered_qos_profiles"]
        latched = "transient local, " if offer["durability"] == "transient_local" else ""
        words = f"{offer['reliability']}, {latched}depth {offer['depth']}"
        held.add((re.sub(r"/cam_\w+/", "/<camera>/", topic["name"]), topic["type"], words))
    assert documented == held


@pytest.mark.node
def test_the_programs_work_together_in_a_namespace(
    system: ModuleType, real_bag: Path, tmp_path: Path
) -> None:
    """The nodes of the launch file as started by hand: same arguments, parameters and names."""
    report = tmp_path / "report.json"
    started = start(
        system, bag=str(real_bag), lockstep="true", evaluate="true", namespace="car", report=str(report)
    )
    values = [f"{name}:={value}" for name, value in started.planner.items() if value]
    commands = {
        "planner": [sys.executable, "-m", "wpt_planner.run_planner", *values],
        **{name: [shutil.which(name) or name, *node_words(node)] for name, node in started.nodes.items()},
    }
    running: dict[str, subprocess.Popen[str]] = {}
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        try:
            for name, command in commands.items():
                running[name] = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            assert running["replay_node"].wait(LIMIT_S) == 0, log.read_text()
            for name in ("evaluation_node", "planner"):
                running[name].send_signal(signal.SIGINT)
                assert running[name].wait(LIMIT_S) == 0, log.read_text()
        finally:
            for process in running.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    judged = json.loads(report.read_text(encoding="utf-8"))
    assert judged["samples"] == 3
    row = judged["planners"]["constant_velocity"]  # made of the node's plans: none may be missing
    assert not row["refused"] and not row["missing"], log.read_text()


def node_words(node: Any) -> list[str]:
    """The command line that launch makes of a node."""
    words = [*node.kwargs.get("arguments", ()), "--ros-args"]
    for ours, theirs in node.kwargs["remappings"]:
        words += ["-r", f"{ours}:={theirs}"]
    for parameters in node.kwargs.get("parameters", ()):
        for name, value in parameters.items():
            words += ["-p", f"{name}:={value}"] if value else []
    return words
