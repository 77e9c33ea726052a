"""The way of a ROS machine, as far as pip allows: colcon build, then the node from an empty environment.

The environment of `make env` stands in for the distribution: it is sourced as /opt/ros/jazzy would be.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = REPOSITORY / "ros2_ws" / "src"
PREFIX = Path(sys.prefix)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (PREFIX / "setup.bash").is_file(), reason="this Python is not the environment of `make env`"
    ),
]


@dataclass(frozen=True)
class Workspace:
    """A built workspace outside the repository."""

    install: Path
    log: str
    symlinks: bool

    def share(self, package: str) -> Path:
        return self.install / package / "share" / package


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a bash script in an empty environment; HOME is what rclpy needs for its logs."""
    return subprocess.run(
        ["/bin/bash", "-c", script],
        env=empty_environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def empty_environment(**variables: str) -> dict[str, str]:
    return {"HOME": os.environ["HOME"], "PATH": "/usr/local/bin:/usr/bin:/bin", **variables}


def build_products() -> set[str]:
    """What a build may leave in the source tree by mistake (an editable install has its own egg-info)."""
    patterns = ("build", "install", "log", "*.egg-info", "*.egg-link", "*.so")
    return {str(path) for pattern in patterns for path in SOURCES.glob(f"*/{pattern}")}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "symlink"])
def workspace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """`colcon build` of all packages in a folder of its own, with the sources where they are."""
    base = tmp_path_factory.mktemp("symlink" if request.param else "plain")
    before = build_products()
    result = shell(
        f". {shlex.quote(str(PREFIX / 'setup.bash'))} && cd {shlex.quote(str(base))} && "
        f"python3 -m colcon --log-base log build --base-paths {shlex.quote(str(SOURCES))} "
        f"{'--symlink-install ' if request.param else ''}--cmake-args -G Ninja -DBUILD_TESTING=OFF"
    )
    log = result.stdout + result.stderr
    assert result.returncode == 0, log
    assert build_products() == before, "colcon wrote into the source tree"
    return Workspace(install=base / "install", log=log, symlinks=request.param)


def test_build_ends_without_failures_or_warnings_of_colcon(workspace: Workspace) -> None:
    packages = sorted(path.parent.name for path in SOURCES.glob("*/package.xml"))
    assert f"Summary: {len(packages)} packages finished" in workspace.log
    assert "doesn't contain any 'local_setup" not in workspace.log


def test_installed_layout(workspace: Workspace) -> None:
    executable = workspace.install / "wpt_planner/lib/wpt_planner/planner_node"
    assert executable.is_file() and os.access(executable, os.X_OK)
    for package in ("wpt_planner", "wpt_replay", "wpt_policy"):
        programs = {path.name for path in (workspace.install / package / "lib" / package).iterdir()}
        assert programs == {path.name for path in (PREFIX / "lib" / package).iterdir()}, package
    for folder in ("launch", "config", "rviz", "dds"):
        sources = {path.name for path in (SOURCES / "wpt_planner" / folder).iterdir() if path.is_file()}
        installed = {path.name for path in (workspace.share("wpt_planner") / folder).iterdir()}
        assert sources and installed == sources, folder
    bundles = {path.parent.name for path in (REPOSITORY / "models").glob("*/policy.json")}
    installed_bundles = {path.parent.name for path in workspace.share("wpt_models").glob("*/policy.json")}
    assert installed_bundles == bundles
    launch_files = {path.name for path in (REPOSITORY / "launch").glob("*.launch.py")}
    installed_files = {path.name for path in workspace.share("wpt_bringup").glob("launch/*.launch.py")}
    assert installed_files == launch_files


def test_symlinks_follow_the_sources_where_asked_for(workspace: Workspace) -> None:
    for profile in (workspace.share("wpt_planner") / "dds").iterdir():
        same = profile.resolve() == (SOURCES / "wpt_planner/dds" / profile.name).resolve()
        assert same is workspace.symlinks, profile


def test_workspace_alone_brings_the_modules(workspace: Workspace) -> None:
    """From an empty environment: own packages from the workspace, entry points and bundles found."""
    script = (
        "import pathlib, sys, wpt_msgs, wpt_planner, wpt_policy\n"
        "from importlib.metadata import entry_points\n"
        "from ament_index_python import get_package_share_directory\n"
        "print(wpt_msgs.__file__, pathlib.Path(wpt_planner.__file__).resolve(), sep='\\n')\n"
        "print(get_package_share_directory('wpt_models'))\n"
        "print(sorted(entry.name for entry in entry_points(group='wpt.planners')))\n"
    )
    result = shell(f". {workspace.install}/setup.bash && python3 -c {shlex.quote(script)}")
    assert result.returncode == 0, result.stderr
    messages, planner, models, planners = result.stdout.splitlines()
    assert Path(messages).is_relative_to(workspace.install)
    assert Path(planner).is_relative_to(SOURCES if workspace.symlinks else workspace.install)
    assert Path(models) == workspace.share("wpt_models")
    assert "constant_velocity" in planners and "stop" in planners


@pytest.fixture
def node_process(workspace: Workspace, ros_domain_id: int) -> Iterator[subprocess.Popen[str]]:
    """planner_node of the workspace, started as `ros2 run` does, from an empty environment."""
    program = workspace.install / "wpt_planner/lib/wpt_planner/planner_node"
    process = subprocess.Popen(
        ["/bin/bash", "-c", f". {workspace.install}/setup.bash && exec {program}"],
        env=empty_environment(ROS_DOMAIN_ID=str(ros_domain_id), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.node
def test_node_starts_from_an_empty_environment_and_ends_on_interrupt(
    node_process: subprocess.Popen[str],
) -> None:
    heard = wait_for_diagnostics(node_process, limit_s=60)
    os.kill(node_process.pid, signal.SIGINT)
    output, _ = node_process.communicate(timeout=30)
    assert heard, f"no /diagnostics of the planner within 60 s:\n{output}"
    assert node_process.returncode == 0, output


def wait_for_diagnostics(process: subprocess.Popen[str], limit_s: float) -> bool:
    """True as soon as a status about the planner is heard, False at the limit or the process's end."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor

    heard: list[str] = []
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node("colcon_build_probe", context=context)
        node.create_subscription(
            DiagnosticArray,
            "/diagnostics",
            lambda message: heard.extend(s.name for s in message.status if "planner" in s.name),
            10,
        )
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        end = time.monotonic() + limit_s
        while not heard and process.poll() is None and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.2)
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    return bool(heard)
