"""`wpt-replay`: everything at the desk but making bags. A subcommand's module is imported when called."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from typing import NamedTuple

from wpt_scenes.dataset_error import DatasetError

from wpt_replay.errors import ReplayError
from wpt_replay.unread_output import quiet_when_unread

PROGRAM = "wpt-replay"


class Subcommand(NamedTuple):
    """A module with ``add_arguments(parser)`` and ``run(args) -> int``. args.ros_args: from --ros-args on."""

    module: str
    help: str


SUBCOMMANDS = {
    "check": Subcommand(
        "wpt_replay.check", "can the planner run on this bag or vehicle? One line for each finding"
    ),
    "play": Subcommand("wpt_replay.play", "play a bag to the planner, in real time or in lockstep"),
    "demo": Subcommand("wpt_replay.demo", "drive a scene through the planner node: report and picture"),
    "compare": Subcommand(
        "wpt_replay.compare", "compare the node's plans with offline plans of the same sets"
    ),
    "evaluate": Subcommand("wpt_replay.evaluate", "open-loop metrics of planners on scenes"),
    "drive": Subcommand("wpt_replay.drive", "drive the simulated world through the planner node"),
}


def available() -> dict[str, Subcommand]:
    """Return the subcommands whose module is installed."""
    return {
        name: entry
        for name, entry in SUBCOMMANDS.items()
        if importlib.util.find_spec(entry.module) is not None
    }


def split_ros_args(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the program's own arguments and those of ROS: from --ros-args up to a `--`, or to the end."""
    if "--ros-args" not in argv:
        return argv, []
    begin = argv.index("--ros-args")
    end = argv.index("--", begin) if "--" in argv[begin:] else len(argv)
    return argv[:begin] + argv[end + 1 :], argv[begin:end]


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """Return the parser; only the chosen subcommand's module is imported."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, entry in available().items():
        command = commands.add_parser(
            name,
            help=entry.help,
            description=entry.help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:
            module = importlib.import_module(entry.module)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; exit code 1 for what its user can mend, 130 when interrupted, else its own."""
    own, ros_args = split_ros_args(list(sys.argv[1:] if argv is None else argv))
    args = build_parser(own[0] if own else None).parse_args(own)
    args.ros_args = ros_args
    try:
        return quiet_when_unread(lambda: args.run(args))
    except (ReplayError, DatasetError) as error:
        print(f"{PROGRAM} {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
