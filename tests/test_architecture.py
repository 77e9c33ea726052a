"""The rooms of the repository and who may import whom, read from the source by AST.

The rule in words: wpt_policy is the ROS-free runtime that all others use; wpt_planner runs on the
vehicle, wpt_replay at the desk, wpt_training and wpt_sim make and judge policies and meet at files only.
Nothing imports wpt_planner or wpt_replay.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = REPOSITORY / "ros2_ws" / "src"
ROOM_NAMES = {
    "wpt_msgs",
    "wpt_policy",
    "wpt_planner",
    "wpt_scenes",
    "wpt_replay",
    "wpt_training",
    "wpt_sim",
}
ROS = {
    "ament_index_python",
    "builtin_interfaces",
    "cv_bridge",
    "diagnostic_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "message_filters",
    "nav_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "rosidl_runtime_py",
    "rpyutils",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "unique_identifier_msgs",
    "visualization_msgs",
}
LAUNCH = {"ament_index_python", "launch", "launch_ros"}
ANY = {"*"}


@dataclass(frozen=True, kw_only=True)
class Room:
    """One room: where its code is, which rooms it knows, which packages beside the standard library.

    `optional` rooms may be imported inside a function or a try block only.
    """

    code: Path
    rooms: frozenset[str]
    packages: frozenset[str]
    optional: frozenset[str] = frozenset()


def room(code: Path, rooms: set[str], packages: set[str], optional: set[str] | None = None) -> Room:
    return Room(
        code=code,
        rooms=frozenset(rooms),
        packages=frozenset(packages),
        optional=frozenset(optional or ()),
    )


RUNTIME = {"numpy", "torch", "cv2", "safetensors"}
ROOMS = {
    "wpt_policy": room(SOURCES / "wpt_policy/wpt_policy", set(), RUNTIME),
    "wpt_scenes": room(SOURCES / "wpt_scenes/wpt_scenes", {"wpt_policy"}, RUNTIME),
    "wpt_planner": room(
        SOURCES / "wpt_planner/wpt_planner", {"wpt_policy", "wpt_msgs"}, RUNTIME | ROS | {"yaml"}
    ),
    "wpt_replay": room(
        SOURCES / "wpt_replay/wpt_replay",
        {"wpt_policy", "wpt_scenes", "wpt_msgs"},
        RUNTIME | ROS | {"yaml", "rosbags"},
        optional={"wpt_sim"},
    ),
    "wpt_training": room(REPOSITORY / "training/wpt_training", {"wpt_policy", "wpt_scenes"}, ANY),
    "wpt_sim": room(REPOSITORY / "simulation/wpt_sim", {"wpt_policy", "wpt_scenes"}, ANY),
    "launch files of wpt_planner": room(SOURCES / "wpt_planner/launch", {"wpt_planner"}, LAUNCH | {"yaml"}),
    "launch files of wpt_replay": room(SOURCES / "wpt_replay/launch", set(), LAUNCH | {"yaml"}),
    "launch files of wpt_bringup": room(REPOSITORY / "launch", set(), LAUNCH | {"yaml", "setuptools"}),
    "set-up tools": room(REPOSITORY / "tools", set(), {"numpy", "ament_prefix", "fix_ros_prefix"}),
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "misc", "manager", "common", "v2"}


@dataclass(frozen=True)
class Import:
    """One import statement: the top-level package, its line, and whether it may fail harmlessly."""

    package: str
    line: int
    guarded: bool


def imports_of(source: str) -> list[Import]:
    """All imports of a module, those inside functions included; relative ones stay in the package."""
    found: list[Import] = []

    def visit(node: ast.AST, guarded: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name.split(".")[0], node.lineno, guarded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append(Import(node.module.split(".")[0], node.lineno, guarded))
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name | ast.Attribute)
            and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
            in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            found.append(Import(node.args[0].value.split(".")[0], node.lineno, guarded))
        inner = guarded or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Try)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(source), False)
    return found


def violations(name: str, rule: Room, source: str) -> list[str]:
    """Sentences about imports that the room's rule does not allow."""
    own = {name} | ({rule.code.name} if rule.code.name in ROOM_NAMES else set())
    sentences = []
    for entry in imports_of(source):
        package = entry.package
        if package in sys.stdlib_module_names and package != "pickle" or package in own | rule.rooms:
            continue
        if package in rule.optional:
            if not entry.guarded:
                sentences.append(
                    f"line {entry.line}: {package} is optional, import it in a function or a try block"
                )
            continue
        ours_or_ros = package in ROOM_NAMES | ROS | LAUNCH
        if package not in rule.packages and (ours_or_ros or "*" not in rule.packages):
            sentences.append(f"line {entry.line}: {name} may not import {package}")
    return sentences


def python_files(*, with_tests: bool = True) -> Iterator[Path]:
    """All Python files of the repository that are ours."""
    skipped = {".venv", ".git", "out", "build", "install", "log", "__pycache__"}
    for path in sorted(REPOSITORY.rglob("*.py")):
        parts = set(path.relative_to(REPOSITORY).parts)
        if not parts & skipped and (with_tests or not parts & {"test", "tests"}):
            yield path


@pytest.mark.parametrize("name", [name for name, rule in ROOMS.items() if rule.code.is_dir()])
def test_room_imports_only_what_it_may_know(name: str) -> None:
    rule = ROOMS[name]
    found = [
        f"{path.relative_to(REPOSITORY)} {sentence}"
        for path in sorted(rule.code.rglob("*.py"))
        if not {"test", "tests"} & set(path.relative_to(rule.code).parts)
        for sentence in violations(name, rule, path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "source", "allowed"),
    [
        ("wpt_policy", "import rclpy", False),
        ("wpt_policy", "def f():\n    from rclpy.node import Node", False),
        ("wpt_policy", "from wpt_scenes.tables import Tables", False),
        ("wpt_policy", "import importlib\nimportlib.import_module('wpt_planner.node')", False),
        ("wpt_policy", "import yaml", False),
        ("wpt_policy", "import torch.nn as nn\nfrom . import se3\nfrom wpt_policy import frame", True),
        ("wpt_policy", "import pickle", False),
        ("wpt_scenes", "import rclpy", False),
        ("wpt_planner", "from wpt_msgs.msg import Trajectory", True),
        ("wpt_planner", "import wpt_scenes", False),
        ("wpt_replay", "import wpt_planner", False),
        ("wpt_replay", "import wpt_sim", False),
        ("wpt_replay", "def f():\n    import wpt_sim", True),
        ("wpt_training", "import scipy", True),
        ("wpt_training", "import wpt_sim", False),
        ("wpt_training", "import rclpy", False),
        ("wpt_sim", "import wpt_training", False),
    ],
)
def test_the_rule_itself_finds_wrong_imports(name: str, source: str, allowed: bool) -> None:
    assert (not violations(name, ROOMS[name], source)) is allowed


def test_nobody_but_its_own_tests_imports_the_planner_or_the_replay() -> None:
    """Programs in benchmarks/ time single stages of any room and are imported by none."""
    found = []
    for path in python_files():
        parts = path.relative_to(REPOSITORY).parts
        if parts[0] == "benchmarks":
            continue
        for entry in imports_of(path.read_text(encoding="utf-8")):
            if entry.package in ("wpt_planner", "wpt_replay") and entry.package not in parts:
                found.append(f"{path.relative_to(REPOSITORY)} line {entry.line}: imports {entry.package}")
    assert not found, "\n".join(found)


def test_module_names_say_what_is_inside() -> None:
    found = [
        str(path.relative_to(REPOSITORY))
        for path in python_files()
        if set(re.split(r"[_\W]+", path.stem.lower())) & FORBIDDEN_NAMES
    ]
    assert not found, f"rename {found}: a module's name says what is inside it"


def test_nothing_is_unpickled() -> None:
    """Tests may pickle, to see that a value can travel to a worker process; no program reads such a file."""
    found = []
    for path in python_files(with_tests=False):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = path.relative_to(REPOSITORY)
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(
                name.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "shelve") for name in names
            ):
                found.append(f"{where} line {node.lineno}: imports {names}")
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if "allow_pickle" in keywords and not is_constant(keywords["allow_pickle"], False):
                found.append(f"{where} line {node.lineno}: allow_pickle")
            if ast.unparse(node.func) == "torch.load" and not is_constant(keywords.get("weights_only"), True):
                found.append(f"{where} line {node.lineno}: torch.load without weights_only=True")
    assert not found, "\n".join(found)


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_unfinished_marks_are_left() -> None:
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|NotImplemented" r"Error)\b")
    found = []
    for path in python_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if marks.search(line):
                found.append(f"{path.relative_to(REPOSITORY)} line {number}: {line.strip()}")
    assert not found, "\n".join(found)
