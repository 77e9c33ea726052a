"""`wpt-replay` and `wpt-bag` as commands."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from wpt_replay import replay_cli
from wpt_replay.bag_cli import main as bag_main
from wpt_replay.errors import ReplayError
from wpt_replay.play import add_arguments, options_from

PATIENCE_S = 30.0


def test_only_installed_subcommands_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        replay_cli.SUBCOMMANDS, "levitate", replay_cli.Subcommand("wpt_replay.levitate", "not there")
    )
    for name, entry in replay_cli.available().items():
        assert importlib.util.find_spec(entry.module) is not None, name
    with pytest.raises(SystemExit) as ended:
        replay_cli.main(["--help"])
    words = capsys.readouterr().out
    assert ended.value.code == 0 and "play" in words and "levitate" not in words
    with pytest.raises(SystemExit) as ended:
        replay_cli.main(["levitate"])
    assert ended.value.code == 2


def test_help_imports_neither_ros_nor_torch() -> None:
    """Each subcommand is imported when it is called alone, so `wpt-replay --help` starts at once."""
    program = (
        "import sys; from wpt_replay import replay_cli\n"
        "try: replay_cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'rclpy', 'torch', 'cv2'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("argv", "own", "ros"),
    [
        (["play", "bag"], ["play", "bag"], []),
        (["play", "bag", "--ros-args", "-r", "a:=b"], ["play", "bag"], ["--ros-args", "-r", "a:=b"]),
        (["play", "--ros-args", "-p", "x:=1", "--", "bag"], ["play", "bag"], ["--ros-args", "-p", "x:=1"]),
    ],
)
def test_ros_arguments_are_kept_apart(argv: list[str], own: list[str], ros: list[str]) -> None:
    assert replay_cli.split_ros_args(argv) == (own, ros)


def test_play_arguments_become_options() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def options(*argv: str):
        return options_from(parser.parse_args(["bag", *argv]))

    assert options().playing_rate == 1.0 and options().loops == 1 and not options().lockstep
    assert (
        options("--lockstep").playing_rate == 4.0 and options("--lockstep", "--rate", "2").playing_rate == 2.0
    )
    assert options("--loop").loops == 0 and options("--loop", "3").loops == 3
    given = options(
        "--remap", "/a:=/b", "--topics", "/a", "/c", "--max-skew", "50", "--start", "1", "--stop", "2.5"
    )
    assert given.remap == {"/a": "/b"} and given.topics == ("/a", "/c") and given.max_skew_s == 0.05
    assert (given.start_s, given.stop_s) == (1.0, 2.5)
    for wrong in (["--remap", "/a=/b"], ["--rate", "-1"], ["--stop", "-2"]):
        with pytest.raises(ReplayError, match="expected"):
            options(*wrong)


def test_bad_bags_are_one_sentence_and_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for main, argv in (
        (replay_cli.main, ["play", str(tmp_path / "no")]),
        (bag_main, ["info", str(tmp_path / "no")]),
    ):
        assert main(argv) == 1
        words = capsys.readouterr().err.strip()
        assert "there is no bag at" in words and "\n" not in words


@pytest.mark.node
def test_play_writes_its_report(
    factory_bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "reports" / "replay.json"
    assert (
        replay_cli.main(
            ["play", str(factory_bag), "--rate", "50", "--wait-timeout", "0", "--report", str(file)]
        )
        == 0
    )
    report = json.loads(file.read_text())
    assert report["ended"] == "end" and report["mode"] == "real_time" and report["cycles"]["complete"] > 5
    assert report["achieved_rate"] > 1 and report["messages"] == sum(report["published"].values())
    assert "messages of" in capsys.readouterr().out


@pytest.mark.node
def test_lockstep_without_a_planner_is_code_1(factory_bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        replay_cli.main(
            ["play", str(factory_bag), "--lockstep", "--wait-timeout", "0.2", "--planner", "/other"]
        )
        == 1
    )
    assert "nobody publishes /other/set_report" in capsys.readouterr().err


@pytest.mark.node
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_endless_replay_with_code_0(
    factory_bag: Path, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "replay.json"
    command = [
        sys.executable,
        "-m",
        "wpt_replay.replay_cli",
        "play",
        str(factory_bag),
        "--loop",
        "--wait-timeout",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--report", str(file)], env=dict(os.environ), start_new_session=True
    )
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("watch", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    playing = threading.Event()
    node.create_subscription(Clock, "/clock", lambda message: playing.set(), 10)
    closing = threading.Event()

    def spin() -> None:
        # Bounded waits, not executor.spin(): shutdown() destroys what would wake a wait that has just begun.
        while not closing.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        assert playing.wait(PATIENCE_S), "it never played"
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        closing.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert json.loads(file.read_text())["ended"] == "interrupted"


@pytest.mark.parametrize("words", [("bag_cli", "info"), ("replay_cli", "check", "--bag")])
def test_an_output_that_nobody_reads_ends_quietly(factory_bag: Path, words: tuple[str, ...]) -> None:
    module, *arguments = words
    process = subprocess.Popen(
        [sys.executable, "-m", f"wpt_replay.{module}", *arguments, str(factory_bag)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()  # as `| head` does, before the first line is written
    errors = process.stderr.read()
    assert process.wait(60) == 0 and "BrokenPipe" not in errors, errors
