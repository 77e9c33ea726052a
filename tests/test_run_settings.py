"""The root conftest.py: the ROS domain of a run, the launch_testing count, the end of a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def run_pytest(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a folder outside the repository with the repository's conftest as a plugin."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    environment.pop("WPT_TEST_DOMAIN_ID", None) if "WPT_TEST_DOMAIN_ID" not in variables else None
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(folder), "--import-mode=importlib", *arguments, str(folder)]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_this_run_has_a_domain_of_its_own(ros_domain_id: int, tmp_path: Path) -> None:
    (tmp_path / "test_domain.py").write_text(
        "import os\n"
        "def test_domain():\n"
        f"    assert os.environ['ROS_DOMAIN_ID'] != '{ros_domain_id}'\n"
        "    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'\n"
    )
    assert 1 <= ros_domain_id <= 232
    result = run_pytest(tmp_path, ROS_DOMAIN_ID=str(ros_domain_id))
    assert result.returncode == 0, result.stdout
    taken = run_pytest(tmp_path, WPT_TEST_DOMAIN_ID=str(ros_domain_id))
    assert taken.returncode != 0
    assert "in use by another test run" in taken.stdout + taken.stderr


def test_launch_tests_that_did_not_run_are_counted(tmp_path: Path) -> None:
    (tmp_path / "test_whole_module.py").write_text(
        "import pytest\n"
        "pytest.importorskip('launch_testing_absent')\n"
        "import unittest\n"
        "class TestNode(unittest.TestCase):\n"
        "    def test_one(self): pass\n"
        "    def test_two(self): pass\n"
    )
    (tmp_path / "test_marked.py").write_text(
        "import pytest\n"
        "@pytest.mark.launch\n"
        "@pytest.mark.skipif(True, reason='no launch_testing')\n"
        "def test_three(): pass\n"
        "@pytest.mark.skip(reason='another reason')\n"
        "def test_unrelated(): pass\n"
    )
    result = run_pytest(tmp_path)
    assert "3 launch_testing tests did not run" in result.stdout, result.stdout


def test_a_run_without_such_tests_says_so(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("def test_plain(): pass\n")
    assert "0 launch_testing tests were left out" in run_pytest(tmp_path).stdout


@pytest.mark.parametrize(
    ("call", "ends_by"),
    [
        ("threading.Event().wait()", "Failed: Timeout"),
        # An endless loop in C, where no signal handler of Python runs.
        ("any(iter(int, 1))", "Timeout (0:00:0"),
    ],
    ids=["waiting", "in_c"],
)
def test_a_hanging_test_names_itself(tmp_path: Path, call: str, ends_by: str) -> None:
    (tmp_path / "test_hang.py").write_text(
        "import threading, conftest, pytest\n"
        "conftest.EXTRA_S = 1\n"
        "@pytest.mark.timeout(1)\n"
        f"def test_that_hangs(): {call}\n"
    )
    result = run_pytest(tmp_path)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert ends_by in output and "test_that_hangs" in output, output
