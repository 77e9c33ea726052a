"""SIGINT and SIGTERM end the node's process with code 0 within two seconds, in every state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor

pytestmark = pytest.mark.node
LIMIT_S = 30.0

# A planner that hangs in its first plan or while it is loaded, as a process of its own.
HANGING = """
import sys, time
from wpt_planner import planner_node
from wpt_policy.baselines import StopPlanner
class Hanging(StopPlanner):
    def __init__(self, *args, **kwargs):
        if "{where}" == "loading":
            print("loading", flush=True)
            time.sleep(60)
    def plan(self, frame):
        print("planning", flush=True)
        time.sleep(60)
planner_node.main(planner_factory=lambda spec, **options: Hanging())
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts Python programs and leaves none behind."""
    processes: list[subprocess.Popen] = []

    def run(*words: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def observer() -> Iterator[Observer]:
    one = Observer()
    yield one
    one.close()


class Observer:
    """Sees the state that a planner node of this domain tells in /diagnostics, and asks for transitions."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("observer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.states: list[str] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)
        self.client = self.node.create_client(ChangeState, "/planner/change_state")

    def _take(self, message: DiagnosticArray) -> None:
        self.states.extend(pair.value for pair in message.status[0].values if pair.key == "state")

    def wait_for(self, state: str) -> None:
        """Wait until the node is in a state."""
        deadline = time.monotonic() + LIMIT_S
        while state not in self.states[-1:]:
            assert time.monotonic() < deadline, f"the node did not become {state}: {self.states[-3:]}"
            self.executor.spin_once(timeout_sec=0.1)

    def ask_for(self, transition: int) -> None:
        """Ask for a transition until there is an answer (the first may get lost while the service is matched)."""
        deadline = time.monotonic() + LIMIT_S
        request = ChangeState.Request(transition=Transition(id=transition))
        assert self.client.wait_for_service(LIMIT_S)
        future = self.client.call_async(request)
        while not future.done():
            assert time.monotonic() < deadline, "the transition was not answered"
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


def end(process: subprocess.Popen, number: int = signal.SIGINT) -> None:
    """Signal the process; it must end with code 0 within two seconds."""
    sent = time.monotonic()
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output
    assert time.monotonic() - sent < 2.0, output
    assert "Traceback" not in output, output


NODE = ("-m", "wpt_planner.planner_node", "--ros-args")


@pytest.mark.parametrize(
    ("state", "words", "number"),
    [
        ("unconfigured", (*NODE, "-p", "planner:=no_such_planner"), signal.SIGINT),
        ("active", NODE, signal.SIGINT),
        ("active", NODE, signal.SIGTERM),
        ("active", ("-m", "wpt_planner.run_planner", "planner:=stop"), signal.SIGINT),
    ],
    ids=["cannot configure", "active", "SIGTERM", "run_planner"],
)
def test_a_signal_ends_it(
    start: Callable, observer: Observer, state: str, words: tuple[str, ...], number: int
) -> None:
    process = start(*words)
    observer.wait_for(state)
    end(process, number)


@pytest.mark.parametrize(
    ("state", "transitions"),
    [
        ("unconfigured", ()),
        ("inactive", (Transition.TRANSITION_CONFIGURE,)),
        ("finalized", (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,)),
    ],
)
def test_a_signal_ends_it_in_states_that_a_user_chose(
    start: Callable, observer: Observer, state: str, transitions: tuple[int, ...]
) -> None:
    process = start(*NODE, "-p", "autostart:=false")
    observer.wait_for("unconfigured")
    for transition in transitions:
        observer.ask_for(transition)
    observer.wait_for(state)
    end(process)


def test_a_signal_interrupts_loading(start: Callable, tmp_path: Path) -> None:
    program = tmp_path / "hanging.py"
    program.write_text(HANGING.format(where="loading"))
    process = start(str(program))
    while "loading" not in process.stdout.readline():
        assert process.poll() is None
    end(process)


def test_a_signal_twice_is_no_failure(start: Callable, observer: Observer) -> None:
    process = start(*NODE)
    observer.wait_for("active")
    os.kill(process.pid, signal.SIGINT)
    end(process)


def test_a_planner_that_hangs_is_left_behind(
    start: Callable, observer: Observer, tmp_path: Path, make_bench: Callable, start_ns: int
) -> None:
    program = tmp_path / "hanging.py"
    program.write_text(HANGING.format(where="planning"))
    process = start(str(program), "--ros-args", "-p", "use_sim_time:=true", "-p", "autostart:=true")
    observer.wait_for("active")
    bench = make_bench(autostart=False)  # only its feeder is used; its own node stays unconfigured
    bench.spin_until(
        lambda: all(
            one.get_subscription_count() for one in [*bench.images.values(), bench.odometry, bench.transforms]
        ),
        "match of the inputs",
    )
    sent = iter(range(10_000))

    def feed() -> bool:
        """Again and again: the process takes time and calibration when it gets to them."""
        index = next(sent)
        at_ns = start_ns + index * 10**8
        bench.set_time(at_ns)
        bench.transforms.publish(bench.vehicle.transforms())
        bench.odometry.publish(bench.vehicle.odometry(at_ns))
        for name, publisher in bench.camera_infos.items():
            publisher.publish(bench.vehicle.camera_info(name))
        for name, stamp_ns in bench.vehicle.camera_stamps(at_ns).items():
            bench.images[name].publish(bench.vehicle.compressed(name, stamp_ns))
        return os.path.exists(f"/proc/{process.pid}") and planning(process)

    os.set_blocking(process.stdout.fileno(), False)
    bench.spin_until(feed, "a plan in work", limit_s=LIMIT_S)
    end(process)


def planning(process: subprocess.Popen) -> bool:
    while line := process.stdout.readline():
        if "planning\n" == line:
            return True
    return False


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("-p", "max_age:=1"), "write a decimal point"),
        (("-p", "max_age:=0.0"), "0.01 to 60"),
        (("-p", "cameras:=7"), "string array"),
        (("--params-file", "no_such_file.yaml"), "no_such_file.yaml"),
    ],
)
def test_what_it_cannot_start_with_is_one_line_and_code_1(
    start: Callable, words: tuple[str, ...], part: str
) -> None:
    output, _ = (process := start(*NODE, *words)).communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "planner_node cannot start" in output and part in output and "Traceback" not in output


# The executable while its imports take their time.
STARTING = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "wpt_planner.planner_node":
            print("importing", flush=True)
            time.sleep(60)
from wpt_planner import planner_process
sys.meta_path.insert(0, Slow())
planner_process.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_quietly(start: Callable[..., subprocess.Popen], number: int) -> None:
    process = start("-c", STARTING)
    assert process.stdout.readline().strip() == "importing"
    process.send_signal(number)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0 and "Traceback" not in output
