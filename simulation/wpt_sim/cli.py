"""`wpt-sim`: everything of the driving world. A subcommand's module is imported when called."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from typing import NamedTuple

from wpt_sim.errors import SimulationError

PROGRAM = "wpt-sim"


class Subcommand(NamedTuple):
    """A module with ``add_arguments(parser)`` and ``run(arguments) -> int``."""

    module: str
    help: str


SUBCOMMANDS = {
    "drive": Subcommand(
        "wpt_sim.drive", "drive a planner in closed loop: scores, infractions, pictures of failures"
    ),
    "gate": Subcommand(
        "wpt_sim.gate", "learnability gate: what blind, simple and privileged drivers reach, by family"
    ),
    "expert-gate": Subcommand(
        "wpt_sim.expert_gate", "the expert on many unseen routes: completion and infractions"
    ),
    "branch": Subcommand(
        "wpt_sim.branch", "what would have become of each of several plans, from states of recorded drives"
    ),
    "dataset": Subcommand("wpt_sim.dataset", "write a data set in the nuScenes format"),
    "redraw": Subcommand(
        "wpt_sim.redraw", "render a real nuScenes scene's geometry with this world's renderer"
    ),
    "card": Subcommand("wpt_sim.dataset_card", "describe a data set: distributions beside real nuScenes'"),
    "sheet": Subcommand(
        "wpt_sim.contact_sheet", "contact sheet of a scene log or of an episode: six cameras over time"
    ),
    "networks": Subcommand(
        "wpt_sim.networks.network_generation", "make the road networks again (needs eclipse-sumo)"
    ),
}


def available() -> dict[str, Subcommand]:
    """Return the subcommands whose module is installed."""
    return {
        name: entry
        for name, entry in SUBCOMMANDS.items()
        if importlib.util.find_spec(entry.module) is not None
    }


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


def expected_errors() -> tuple[type[Exception], ...]:
    """Classes whose message is one sentence for the person at the console; imported when one was raised."""
    from wpt_scenes.dataset_error import DatasetError

    from wpt_sim.episode import EpisodeError
    from wpt_sim.network import NetworkError
    from wpt_sim.route import RouteError
    from wpt_sim.sumo_session import TrafficError

    return SimulationError, EpisodeError, NetworkError, RouteError, TrafficError, DatasetError, OSError


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; exit code 1 for what its user can mend, 130 when interrupted, else its own."""
    own = list(sys.argv[1:] if argv is None else argv)
    arguments = build_parser(own[0] if own else None).parse_args(own)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print(f"{PROGRAM} {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not isinstance(error, expected_errors()):
            raise
        print(f"{PROGRAM} {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
