"""The packages as a stock ROS machine sees them: package.xml keys, declared imports, build files."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = REPOSITORY / "ros2_ws" / "src"
PACKAGES = ("wpt_msgs", "wpt_policy", "wpt_planner", "wpt_scenes", "wpt_replay", "wpt_models", "wpt_bringup")
PYTHON_PACKAGES = ("wpt_policy", "wpt_planner", "wpt_scenes", "wpt_replay")

# Keys that rosdep resolves for Jazzy on Ubuntu Noble, looked up in rosdistro (jazzy/distribution.yaml,
# rosdep/python.yaml) on 2026-08-22. torch, safetensors and rosbags are not among them: requirements/.
ROSDEP_KEYS = {
    "ament_cmake",
    "ament_index_python",
    "builtin_interfaces",
    "compressed_image_transport",
    "cv_bridge",
    "diagnostic_msgs",
    "geometry_msgs",
    "launch",
    "launch_ros",
    "launch_testing",
    "launch_testing_ros",
    "lifecycle_msgs",
    "message_filters",
    "nav_msgs",
    "rcl_interfaces",
    "rclpy",
    "ros2launch",
    "rosgraph_msgs",
    "rosidl_default_generators",
    "rosidl_default_runtime",
    "rviz2",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "visualization_msgs",
    "python3-hypothesis",
    "python3-numpy",
    "python3-opencv",
    "python3-pytest",
    "python3-yaml",
}
DEPEND_TAGS = (
    "depend",
    "build_depend",
    "exec_depend",
    "buildtool_depend",
    "build_export_depend",
    "test_depend",
)
# Import names whose package.xml key is another word.
KEY_OF_IMPORT = {"cv2": "python3-opencv", "numpy": "python3-numpy", "yaml": "python3-yaml"}
# Named by requirements, not by rosdep.
FROM_REQUIREMENTS = {"torch", "safetensors", "rosbags", "wpt_sim"}


def manifest(package: str) -> ElementTree.Element:
    return ElementTree.parse(SOURCES / package / "package.xml").getroot()


def declared(package: str, tags: tuple[str, ...] = DEPEND_TAGS) -> set[str]:
    return {element.text or "" for tag in tags for element in manifest(package).iter(tag)}


def imported_packages(folder: Path) -> set[str]:
    """Top-level names that the modules in `folder` import, at any depth of the code."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", PACKAGES)
def test_manifest_names_only_what_rosdep_resolves(package: str) -> None:
    assert manifest(package).findtext("name") == package
    assert manifest(package).findtext("license") == "Apache-2.0"
    unknown = declared(package) - ROSDEP_KEYS - set(PACKAGES)
    assert not unknown, f"{package}/package.xml names {unknown}, which rosdep does not resolve on Noble"


@pytest.mark.parametrize("package", PYTHON_PACKAGES)
def test_every_import_is_declared(package: str) -> None:
    code = SOURCES / package / package
    imports = {KEY_OF_IMPORT.get(name, name) for name in imported_packages(code)}
    runtime = declared(package, ("depend", "exec_depend"))
    missing = imports - runtime - FROM_REQUIREMENTS - {package}
    assert not missing, f"{package} imports {missing}: add them to package.xml"


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "wpt_msgs"])
def test_python_package_has_what_colcon_needs(package: str) -> None:
    folder = SOURCES / package
    assert manifest(package).findtext("export/build_type") == "ament_python"
    assert (folder / "resource" / package).is_file()
    assert f"install_scripts=$base/lib/{package}" in (folder / "setup.cfg").read_text()
    setup = (folder / "setup.py").read_text()
    assert f'PACKAGE = "{package}"' in setup
    assert f'version="{manifest(package).findtext("version")}"' in setup


def entry_points(package: str) -> list[tuple[str, str, str]]:
    """(name, module, attribute) of every entry point that setup.py declares, read without running it."""
    found = []
    for node in ast.walk(ast.parse((SOURCES / package / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "entry_points":
            for lines in ast.literal_eval(node.value).values():
                for line in lines:
                    name, target = (part.strip() for part in line.split("="))
                    found.append((name, *target.split(":")))
    return found


@pytest.mark.parametrize("package", PYTHON_PACKAGES)
def test_every_entry_point_leads_to_code(package: str) -> None:
    for name, module, attribute in entry_points(package):
        path = SOURCES / package / Path(*module.split(".")).with_suffix(".py")
        assert path.is_file(), f"{name} of {package}/setup.py leads to {path.name}, which is missing"
        names = {
            n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef | ast.ClassDef)
        }
        assert attribute in names, (
            f"{name} of {package}/setup.py leads to {module}:{attribute}, which is missing"
        )


@pytest.mark.parametrize(("link", "target"), [("wpt_models", "models"), ("wpt_bringup", "launch")])
def test_data_packages_are_linked_into_the_workspace(link: str, target: str) -> None:
    assert (SOURCES / link).is_symlink()
    assert (SOURCES / link).resolve() == REPOSITORY / target


def test_tf2_msgs_stays_out_of_every_workspace() -> None:
    assert (REPOSITORY / "tools" / "tf2_msgs" / "COLCON_IGNORE").is_file()
    assert not (SOURCES / "tf2_msgs").exists()


def test_every_requirement_is_pinned_once() -> None:
    lists = {path.name: requirement_names(path) for path in (REPOSITORY / "requirements").glob("*.txt")}
    pinned = lists.pop("constraints.txt")
    assert len(pinned) == len(set(pinned)), "a name stands twice in constraints.txt"
    assert "torch" not in pinned, "torch is pinned in torch.txt alone"
    lists.pop("stock_ros.txt")
    wanted = {name for names in lists.values() for name in names} - {"torch"}
    assert wanted <= set(pinned), f"not pinned in constraints.txt: {sorted(wanted - set(pinned))}"
    foreign = [name for name in pinned if name.endswith(("_msgs", "_interfaces")) or name == "rclpy"]
    assert not foreign, f"{foreign} are bare ROS names, other projects on an index: pin ros-* names only"


def requirement_names(path: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line.split("=")[0].split("<")[0].split(">")[0].lower() for line in lines if line]
