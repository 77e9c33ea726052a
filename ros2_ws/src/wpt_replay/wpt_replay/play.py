"""`wpt-replay play`: the replay node as a command."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path
from typing import Any

from wpt_replay.bag_reader import BagReader
from wpt_replay.errors import ReplayError
from wpt_replay.progress import Progress
from wpt_replay.replay_report import ReplayOptions, ReplayReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = ReplayOptions()
    parser.add_argument(
        "bag", type=Path, metavar="BAG", help="folder with metadata.yaml, or one .mcap or .db3 file"
    )
    parser.add_argument(
        "--lockstep",
        action="store_true",
        help="hold time after each camera set until the planner's SetReport; exit code 1 when one is missing",
    )
    parser.add_argument(
        "--rate", type=float, metavar="R", help="bag seconds a second (default 1; in lockstep at most 4)"
    )
    parser.add_argument(
        "--loop",
        type=int,
        nargs="?",
        const=0,
        default=1,
        metavar="N",
        help="play N times, without N until Ctrl-C",
    )
    parser.add_argument(
        "--clock",
        type=float,
        default=defaults.clock_hz,
        metavar="HZ",
        help="rate of /clock (default %(default)g; 0: none, and nodes must not use simulated time)",
    )
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="begin S seconds into the bag")
    parser.add_argument("--stop", type=float, metavar="S", help="end S seconds into the bag")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="play these alone")
    parser.add_argument("--exclude", nargs="+", default=[], metavar="TOPIC", help="do not play these")
    parser.add_argument(
        "--remap", nargs="+", default=[], metavar="A:=B", help="publish recorded topic A as B"
    )
    parser.add_argument(
        "--wait-for",
        nargs="+",
        default=[],
        metavar="TOPIC",
        help="recorded topics that must have a subscriber first (default: lockstep: all images, else any)",
    )
    parser.add_argument(
        "--wait-also",
        nargs="+",
        default=[],
        metavar="TOPIC",
        help="recorded topics that must have a subscriber too, beside those that are waited for anyway",
    )
    parser.add_argument(
        "--wait-timeout",
        type=float,
        default=defaults.wait_timeout_s,
        metavar="S",
        help="how long to wait for subscribers (default %(default)g; 0: not at all)",
    )
    parser.add_argument(
        "--planner",
        default=defaults.planner,
        metavar="NODE",
        help="planner node of lockstep (default %(default)s)",
    )
    parser.add_argument(
        "--report-timeout",
        type=float,
        default=defaults.report_timeout_s,
        metavar="S",
        help="how long lockstep waits for a SetReport (default %(default)g)",
    )
    parser.add_argument(
        "--max-skew",
        type=float,
        default=defaults.max_skew_s * 1e3,
        metavar="MS",
        help="skew bound of the planner's camera sets (default %(default)g)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what became of the replay as JSON")


def options_from(args: argparse.Namespace) -> ReplayOptions:
    """Return the options of parsed arguments; raises ReplayError for values that cannot be."""
    remap = {}
    for entry in args.remap:
        source, separator, target = entry.partition(":=")
        if not (source and separator and target):
            raise ReplayError(
                f"remap is {entry}, expected RECORDED:=PUBLISHED, for example /odom:=/localization/odom"
            )
        remap[source] = target
    return ReplayOptions(
        rate=args.rate,
        loops=args.loop,
        clock_hz=args.clock,
        lockstep=args.lockstep,
        topics=tuple(args.topics) if args.topics is not None else None,
        exclude=tuple(args.exclude),
        remap=remap,
        start_s=args.start,
        stop_s=args.stop,
        wait_for=tuple(args.wait_for),
        wait_also=tuple(args.wait_also),
        wait_timeout_s=args.wait_timeout,
        planner=args.planner,
        report_timeout_s=args.report_timeout,
        max_skew_s=args.max_skew / 1e3,
    )


def run(args: argparse.Namespace) -> int:
    """Play and print what became of it; exit code 1 where lockstep had no answer, 0 after Ctrl-C."""
    options = options_from(args)
    with BagReader(args.bag) as bag:  # a bag that cannot be read is said before ROS starts
        seconds = bag.duration_ns / 1e9
    with Progress(args.bag.name, seconds) as progress:
        report = play(args.bag, options, args.ros_args, on_progress=progress.show)
    print(report.as_text())
    if args.report is not None:
        try:
            args.report.parent.mkdir(parents=True, exist_ok=True)
            args.report.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ReplayError(f"the report cannot be written to {args.report} ({error.strerror})") from error
    return 0 if report.ok or report.ended == "interrupted" else 1


def play(bag: Path, options: ReplayOptions, ros_args: list[str], **keywords: Any) -> ReplayReport:
    """Play a bag with a node of its own, in the main thread; SIGINT and SIGTERM end it and are no error."""
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from wpt_replay.replay_node import NODE_NAME, Replayer

    # Our own handlers: the replay is to end properly, with its context still there. They are set even where a
    # shell that started us in the background made SIGINT ignored.
    previous = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    rclpy.init(args=ros_args, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(NODE_NAME)
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass

    spinning = threading.Thread(target=spin, name="spin", daemon=True)
    replayer = None
    try:
        replayer = Replayer(node, bag, options, **keywords)
        spinning.start()
        report = replayer.run()
    except KeyboardInterrupt:
        if replayer is None:
            raise
        report = replayer.report
        report.ended = "interrupted"
    finally:
        for number in previous:  # a second signal, as launch and `timeout` send it, must not break the ending
            signal.signal(number, signal.SIG_IGN)
        executor.shutdown(timeout_sec=0.5)
        if spinning.is_alive():
            spinning.join(timeout=0.5)
        node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)
    return report
