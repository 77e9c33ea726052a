"""Settings for every test run: a ROS domain of its own, and what each ROS process needs to find things.

Set here, before any test module imports rclpy, and in os.environ, so that started nodes inherit them.
"""

from __future__ import annotations

import ast
import faulthandler
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent
# Domains whose UDP ports (7400 + 250 * id) stay clear of Linux' ephemeral range 32768-60999.
SAFE_DOMAINS = [*range(1, 102), *range(215, 233)]
# So long after the `timeout` setting, which cannot interrupt a call into C, the run ends with all stacks.
DEFAULT_TIMEOUT_S = 180  # as in pyproject.toml
EXTRA_S = 60
LAUNCH_MODULES = ("launch", "launch_ros", "launch_testing", "launch_testing_ros", "launch_pytest")


def claim_domain() -> tuple[int, IO[str]]:
    """A ROS domain id that no other test run of this machine holds; the lock lives as long as the file.

    WPT_TEST_DOMAIN_ID asks for one id. ROS_DOMAIN_ID is not read: it may name the domain of a robot.
    """
    asked = os.environ.get("WPT_TEST_DOMAIN_ID")
    candidates = [int(asked)] if asked else SAFE_DOMAINS[os.getpid() % len(SAFE_DOMAINS) :] + SAFE_DOMAINS
    folder = Path(tempfile.gettempdir()) / f"wpt_test_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for domain in candidates:
        lock = (folder / str(domain)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            if asked is None:
                continue
            raise pytest.UsageError(
                f"WPT_TEST_DOMAIN_ID={domain} is in use by another test run: choose another, or leave it unset."
            ) from None
        return domain, lock
    raise pytest.UsageError(f"all {len(SAFE_DOMAINS)} ROS domains for tests are in use: end other test runs.")


def prepare_environment() -> IO[str]:
    """Fill os.environ for this process and the nodes it starts; returns the lock of the domain."""
    domain, lock = claim_domain()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    profile = str(REPOSITORY / "ros2_ws/src/wpt_planner/dds/fastdds_profile.xml")
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = profile
    os.environ.setdefault("HOME", tempfile.gettempdir())  # rclpy.init needs a place for its logs
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests' networks are tiny; more threads only disturb
    prefix = Path(sys.prefix)
    if (prefix / "share" / "ament_index").is_dir():  # the environment of `make env`
        os.environ.pop("RMW_IMPLEMENTATION", None)
        for variable, entry in (("AMENT_PREFIX_PATH", prefix), ("PATH", prefix / "bin")):
            known = os.environ.get(variable, "").split(os.pathsep)
            if str(entry) not in known:
                os.environ[variable] = os.pathsep.join([str(entry), *filter(None, known)])
    return lock


REAL_STDERR = pytest.StashKey[int]()
DOMAIN_LOCK = prepare_environment()
# Deadlines would be timing assertions; a failing example is printed so that it can be run again.
settings.register_profile("wpt", deadline=None, print_blob=True)
settings.load_profile("wpt")


@pytest.fixture(scope="session")
def ros_domain_id() -> int:
    """The domain of this run; ROS_DOMAIN_ID holds it for rclpy and for started processes."""
    return int(os.environ["ROS_DOMAIN_ID"])


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REAL_STDERR] = os.dup(2)  # output is not captured yet


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    marker = item.get_closest_marker("timeout")
    limit = (marker.args[0] if marker and marker.args else DEFAULT_TIMEOUT_S) + EXTRA_S
    faulthandler.dump_traceback_later(limit, exit=True, file=item.config.stash[REAL_STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests (colcon) run last, so that a mistake elsewhere shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def count_tests(path: Path) -> int:
    """How many test functions a module defines, read without importing it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return sum(node.name.startswith("test") for node in functions)


def not_run_for_launch(report: pytest.TestReport | pytest.CollectReport, root: Path) -> int:
    """How many launch_testing tests a skip stands for: a whole module, or one test marked `launch`."""
    reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    if isinstance(report, pytest.CollectReport):
        missing = any(f"'{module}" in reason or f"{module}" == reason for module in LAUNCH_MODULES)
        path = root / report.nodeid
        return count_tests(path) if missing and path.is_file() else 0
    return int("launch" in report.keywords)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    root = terminalreporter.config.rootpath
    count = sum(not_run_for_launch(report, root) for report in skipped)
    terminalreporter.write_sep("=", "ROS")
    terminalreporter.write_line(f"ROS domain of this run: {os.environ['ROS_DOMAIN_ID']}")
    if count:
        terminalreporter.write_line(
            f"{count} launch_testing tests did not run: launch_testing is not installed here (a ROS distribution has it)."
        )
    else:
        terminalreporter.write_line("0 launch_testing tests were left out.")
