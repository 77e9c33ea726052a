"""The set-up of the pip environment: its steps on made-up folders, and the environment at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tools"))

import ament_prefix  # noqa: E402
import fix_ros_prefix  # noqa: E402
import setup_env  # noqa: E402

PREFIX = Path(sys.prefix)
in_environment = pytest.mark.skipif(
    not (PREFIX / ".setup").is_dir(), reason="this Python is not the environment of `make env`"
)

BAKED = (
    "set_target_properties(x PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "
    '"/opt/python/cp311-cp311/include/python3.11;'
    '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include")\n'
)


def environment(root: Path) -> setup_env.Environment:
    env = setup_env.Environment(root)
    env.state.mkdir(parents=True)
    env.site_packages.mkdir(parents=True)
    return env


def test_baked_paths_are_repaired_once(tmp_path: Path) -> None:
    export = tmp_path / "share/demo_msgs/cmake/export_demo_msgs__rosidl_generator_pyExport.cmake"
    export.parent.mkdir(parents=True)
    export.write_text(BAKED)
    other = export.with_name("demo_msgsConfig.cmake")
    other.write_text(BAKED)
    python, numpy = Path("/usr/include/python3.11"), Path("/somewhere/numpy/include")
    assert fix_ros_prefix.fix_prefix(tmp_path, python, numpy) == 1
    assert f'"{python};{numpy}"' in export.read_text()
    assert other.read_text() == BAKED
    assert fix_ros_prefix.fix_prefix(tmp_path, python, numpy) == 0


def test_share_links_follow_the_sources(tmp_path: Path) -> None:
    prefix, models = tmp_path / "prefix", tmp_path / "models"
    for name in ("first", "second"):
        (models / name).mkdir(parents=True)
        (models / name / "policy.json").write_text("{}")
    (models / "resource").mkdir()
    (models / "package.xml").write_text("<package/>")
    assert ament_prefix.link_share(prefix, ament_prefix.models_package(models)) == 4
    assert ament_prefix.link_share(prefix, ament_prefix.models_package(models)) == 0
    share = prefix / "share/wpt_models"
    assert (share / "first/policy.json").read_text() == "{}"
    assert not (share / "resource").exists()
    assert (prefix / "share/ament_index/resource_index/packages/wpt_models").is_file()

    shutil.rmtree(models / "first")
    assert ament_prefix.link_share(prefix, ament_prefix.models_package(models)) == 1
    assert not os.path.lexists(share / "first")


def test_data_files_are_linked_one_by_one(tmp_path: Path) -> None:
    """`ros2 launch` walks share/<package> and does not enter a folder that is a link."""
    planner = ament_prefix.python_package(REPOSITORY / "ros2_ws" / "src" / "wpt_planner")
    (tmp_path / "share" / "wpt_planner").mkdir(parents=True)
    (tmp_path / "share" / "wpt_planner" / "launch").symlink_to(planner.source / "launch")  # as it once was
    assert ament_prefix.link_share(tmp_path, planner) > 0
    found = [file for _, _, files in os.walk(tmp_path / "share" / "wpt_planner") for file in files]
    assert {"planner.launch.py", "planner.yaml", "planner.rviz", "fastdds_profile.xml"} <= set(found)


def test_executables_are_linked_where_ros_looks_for_them(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    record = site / "wpt_demo-0.1.0.dist-info"
    record.mkdir(parents=True)
    (record / "entry_points.txt").write_text(
        "[console_scripts]\nDemo-node = a:main\n\n[wpt.planners]\nx = b:C\n"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/Demo-node").write_text("#!/bin/sh\n")
    assert ament_prefix.link_executables(tmp_path, site, "wpt_demo") == 1
    assert (tmp_path / "lib/wpt_demo/Demo-node").resolve() == tmp_path / "bin/Demo-node"
    (record / "entry_points.txt").write_text("[console_scripts]\n")
    assert ament_prefix.link_executables(tmp_path, site, "wpt_demo") == 1
    assert not list((tmp_path / "lib/wpt_demo").iterdir())


def test_an_installed_torch_is_kept_when_new_enough(tmp_path: Path) -> None:
    env = environment(tmp_path / "env")
    assert setup_env.torch_arguments(env)[0] == "-r"
    (env.site_packages / "torch-2.12.1+cu130.dist-info").mkdir()
    assert setup_env.torch_arguments(env)[0] == "-r"
    (env.site_packages / "torch-2.12.1+cu130.dist-info").rmdir()
    (env.site_packages / "torch-2.14.0+cu130.dist-info").mkdir()
    assert setup_env.torch_arguments(env) == ["torch==2.14.0+cu130"]


def test_a_stamp_holds_for_one_key_only(tmp_path: Path) -> None:
    env = environment(tmp_path / "env")
    assert not env.is_done("wheels", "a")
    env.mark_done("wheels", "a")
    assert env.is_done("wheels", "a") and not env.is_done("wheels", "b")
    env.forget("wheels")
    assert not env.is_done("wheels", "a")


def test_the_digest_sees_a_changed_a_renamed_and_a_missing_file() -> None:
    files = [REPOSITORY / "requirements/ros.txt"]
    known = {
        setup_env.digest(files),
        setup_env.digest(files, "3.12"),
        setup_env.digest([REPOSITORY / "requirements/build.txt"]),
        setup_env.digest([REPOSITORY / "requirements/absent.txt"]),
    }
    assert len(known) == 4
    assert setup_env.digest(files) in known


def test_a_failing_command_says_what_and_where(tmp_path: Path) -> None:
    env = environment(tmp_path / "env")
    command = [sys.executable, "-c", "print('the cause'); raise SystemExit(3)"]
    with pytest.raises(setup_env.SetupError) as error:
        setup_env.run_logged(env, command)
    assert "the cause" in str(error.value) and str(env.log) in str(error.value)
    assert "the cause" in env.log.read_text()


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env.shutil, "which", lambda name: None if name == "g++" else f"/usr/bin/{name}")
    with pytest.raises(setup_env.SetupError, match=r"^g\+\+ was not found .* install"):
        setup_env.check_compilers()


@pytest.mark.parametrize(
    ("printed", "fits"), [("cmake version 3.18.4", False), ("cmake version 3.20.0", True)]
)
def test_an_old_cmake_is_refused(monkeypatch: pytest.MonkeyPatch, printed: str, fits: bool) -> None:
    monkeypatch.setattr(setup_env.shutil, "which", lambda name: f"/usr/bin/{name}")
    answer = subprocess.CompletedProcess([], 0, stdout=printed)
    monkeypatch.setattr(setup_env.subprocess, "run", lambda *arguments, **options: answer)
    monkeypatch.setattr(setup_env, "python_include", lambda: REPOSITORY / "absent")
    with pytest.raises(setup_env.SetupError, match="Python.h" if fits else "3.20"):
        setup_env.check_compilers()


@pytest.mark.parametrize("version", [(3, 10, 1), (3, 13, 0)])
def test_another_python_is_refused(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]) -> None:
    monkeypatch.setattr(setup_env.sys, "version_info", version)
    with pytest.raises(setup_env.SetupError, match=r"3\.11 or 3\.12"):
        setup_env.check_python()


def test_a_foreign_folder_is_neither_used_nor_removed(tmp_path: Path) -> None:
    env = setup_env.Environment(tmp_path / "env")
    env.root.mkdir()
    (env.root / "thesis.txt").write_text("mine")
    with pytest.raises(setup_env.SetupError, match="no virtual environment"):
        setup_env.make_venv(env)
    with pytest.raises(setup_env.SetupError, match="by hand"):
        setup_env.remove(env)
    assert (env.root / "thesis.txt").is_file()


def test_a_path_with_a_blank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(setup_env.SetupError, match="blank"):
        setup_env.check_paths(setup_env.Environment(tmp_path / "my env"))


@in_environment
def test_a_second_set_up_finds_nothing_to_do() -> None:
    command = [sys._base_executable, str(REPOSITORY / "tools/setup_env.py")]
    variables = {**os.environ, "WPT_VENV": str(PREFIX)}
    first = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert first.returncode == 0, first.stderr
    second = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


@in_environment
def test_the_environment_is_a_ros_prefix() -> None:
    """As after sourcing a distribution, from an empty environment."""
    script = (
        "import rclpy, tf2_msgs.msg, wpt_msgs.msg, wpt_policy\n"
        "from ament_index_python import get_package_prefix, get_package_share_directory\n"
        "print(get_package_share_directory('wpt_models'), get_package_prefix('wpt_policy'), sep='\\n')\n"
    )
    result = subprocess.run(
        ["/bin/bash", "-c", f'. "{PREFIX}/setup.bash" && python3 -c "$0"', script],
        env={"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(PREFIX / "share/wpt_models"), str(PREFIX)]


@in_environment
def test_every_executable_is_where_ros2_run_looks() -> None:
    assert os.access(PREFIX / "lib/wpt_planner/planner_node", os.X_OK)
    assert os.access(PREFIX / "lib/wpt_replay/replay_node", os.X_OK)
