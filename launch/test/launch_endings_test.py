"""How system.launch.py ends on the real launch: with the replay, with Ctrl-C, with a program that died, with a bad argument."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("launch")
pytest.importorskip("launch_ros")

pytestmark = pytest.mark.launch

LAUNCH_FILE = Path(__file__).resolve().parent.parent / "system.launch.py"
LIMIT_S = 60.0
KEYFRAMES = 3

# What `ros2 launch` does with a file and its arguments.
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

file, *words = sys.argv[1:]
arguments = [tuple(word.split(":=", 1)) for word in words]
service = LaunchService(noninteractive=True)
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(PythonLaunchDescriptionSource(file), launch_arguments=arguments)])
)
sys.exit(service.run())
"""


@dataclass
class Run:
    """A launch in a session of its own, so that what it leaves behind can be found."""

    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while words not in self.text():
            assert time.monotonic() < deadline and self.process.poll() is None, self.text()
            time.sleep(0.05)  # polls another process's output

    def wait(self) -> int:
        """Exit code; nothing that was started may be left."""
        code = self.process.wait(LIMIT_S)
        assert self.members() == {}, self.text()
        return code

    def members(self) -> dict[int, str]:
        """Command lines of the session's processes by id, without those that are over."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                command = (folder / "cmdline").read_bytes().decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(session) == self.process.pid and state != "Z":
                found[int(folder.name)] = command
        return found


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    factory = pytest.importorskip("wpt_scenes.factory")
    folder = tmp_path_factory.mktemp("scene")
    factory.write_factory_scene(folder / "data", keyframes=KEYFRAMES, image_size=(64, 36))
    data = ["--data", str(folder / "data"), "--version", factory.FACTORY_VERSION]
    scene = ["--scene", factory.FACTORY_SCENE, "--out", str(folder)]
    subprocess.run(["wpt-bag", "convert", *data, *scene], check=True)
    return folder / factory.FACTORY_SCENE


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(**arguments: str) -> Run:
        log = tmp_path / f"log{len(runs)}.txt"
        # Images of 64x36 pixels are too small for the default policy.
        arguments = {"planner": "constant_velocity", **arguments}
        words = [f"{name}:={value}" for name, value in arguments.items()]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(LAUNCH_FILE), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        runs.append(Run(process, log))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None or run.members():
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()


def judged_keyframes(report: Path) -> int:
    """For how many keyframes the judge had a plan of the node."""
    row = json.loads(report.read_text(encoding="utf-8"))["planners"]["constant_velocity"]
    return KEYFRAMES - len(row["refused"]) - len(row["missing"])


def test_all_ends_with_the_replay_and_the_report_is_complete(
    launch: Callable[..., Run], bag: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    run = launch(bag=str(bag), evaluate="true", lockstep="true", report=str(report))
    assert run.wait() == 0, run.text()
    assert judged_keyframes(report) == KEYFRAMES
    assert "released by report" in run.text()


@pytest.mark.parametrize("whole_group", [False, True], ids=["launch alone", "as a terminal"])
def test_ctrl_c_ends_all_and_the_judge_still_writes(
    launch: Callable[..., Run], bag: Path, tmp_path: Path, whole_group: bool
) -> None:
    """As a terminal, every program gets the signal twice here: from the group and from launch."""
    report = tmp_path / "report.json"
    run = launch(bag=str(bag), evaluate="true", loop="0", report=str(report))
    # The clock jumps back at the second loop: all keyframes have been played.
    run.wait_for("clock jumped")
    if whole_group:
        os.killpg(run.process.pid, signal.SIGINT)
    else:
        run.process.send_signal(signal.SIGINT)
    assert run.wait() == 0, run.text()
    assert judged_keyframes(report) > 0  # in real time a busy machine may skip a keyframe's set


def test_a_planner_that_died_ends_all_with_code_1(launch: Callable[..., Run], bag: Path) -> None:
    run = launch(bag=str(bag), loop="0")
    run.wait_for("is calibrated")
    (planner,) = [pid for pid, command in run.members().items() if "planner_node" in command]
    os.kill(planner, signal.SIGKILL)
    assert run.wait() == 1
    assert "planner_node-1 ended with exit code -9" in run.text()


def test_arguments_that_cannot_be_end_it_with_a_sentence(launch: Callable[..., Run], tmp_path: Path) -> None:
    runs = {
        "is for a replayed bag": launch(lockstep="true"),
        "No such file or directory": launch(bag=str(tmp_path / "nowhere")),
        "expected one of": launch(topics="unheard_of"),
    }
    for words, run in runs.items():
        assert run.wait() == 1
        assert words in run.text()
