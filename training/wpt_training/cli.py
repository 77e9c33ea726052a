"""`wpt-train`: everything of training. A subcommand's module is imported when called."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NamedTuple

from wpt_training.errors import TrainingError

PROGRAM = "wpt-train"


class Subcommand(NamedTuple):
    """A module with ``add_arguments(parser)`` and ``run(arguments) -> int``."""

    module: str
    help: str


SUBCOMMANDS = {
    "paper": Subcommand(
        "wpt_training.experiments.paper", "run the rows of the paper's tables, resumable, and write the results"
    ),
    "job": Subcommand("wpt_training.experiments.job_run", "run one job of `paper` (a stage or an evaluation)"),
    "rules": Subcommand(
        "wpt_training.experiments.rules_check", "what the expert scores on the rules: it should pass nearly all"
    ),
    "inspect": Subcommand("wpt_training.data.inspect_sample", "draw one training sample to a PNG"),
    "evaluate": Subcommand("wpt_training.evaluation.evaluate", "open-loop table of trained and untrained rows"),
    "export": Subcommand("wpt_training.evaluation.export", "make a policy bundle of a trained student"),
    "explain": Subcommand(
        "wpt_training.evaluation.explain", "one sample: candidates, reward terms, predicted occupancy, what decided"
    ),
    "size-check": Subcommand(
        "wpt_training.evaluation.image_size_check", "do small training images stand for the node's large ones?"
    ),
    "latency": Subcommand("wpt_training.evaluation.latency", "encoder, planner and total times, teacher and student"),
}


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """Return the parser; only the chosen subcommand's module is imported."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, entry in SUBCOMMANDS.items():
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
    from wpt_policy.planner import PlannerError
    from wpt_policy.strict_json import BundleError
    from wpt_scenes.dataset_error import DatasetError

    return TrainingError, DatasetError, BundleError, PlannerError, OSError


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
