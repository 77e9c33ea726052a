"""`wpt-train paper`: all rows of the tables, as a graph of jobs that can be stopped and goes on; then the results.

    wpt-train paper --config compact --data data/sim

Data: `wpt-sim dataset` for the splits train, dev and test. Tier A is done before B and C, seed after seed; what was not
run is marked so in the table. The same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wpt_training.errors import TrainingError
from wpt_training.experiments.job_run import Place, add_place_arguments, place_of
from wpt_training.experiments.jobs import Job, jobs_of
from wpt_training.experiments.results import write_results
from wpt_training.experiments.scheduler import run_jobs

RESULTS = Path("training/results")

# The table of whichever configuration was run last, under a name that does not depend on it.
NEWEST = "table.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_place_arguments(parser)
    parser.add_argument("--tiers", default="ABC", help="A: claims, B: hypotheses, C: single looks (default ABC)")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these seeds instead of every tier's own")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="jobs at once")
    parser.add_argument("--no-drive", action="store_true", help="without the closed loop")
    parser.add_argument("--no-variants", action="store_true", help="without every variant of the metrics in the JSON")
    parser.add_argument("--results-only", action="store_true", help="run nothing, write the tables of what is there")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")


def run(arguments: argparse.Namespace) -> int:
    place = place_of(arguments)
    if arguments.workers < 1:
        raise TrainingError(f"--workers is {arguments.workers}, expected at least 1; leave it out for one a core.")
    jobs = jobs_of(
        arguments.tiers, place.config, seeds=arguments.seeds, drive=not arguments.no_drive
    )
    complete = True
    if not arguments.results_only:
        outcome = run_jobs(
            jobs,
            place.runs,
            lambda job, minutes: job_command(place, job, minutes),
            workers=arguments.workers,
            max_minutes=arguments.max_minutes,
            say=lambda line: print(line, flush=True),
        )
        complete = outcome.complete
        for name, reason in outcome.failed.items():
            print(f"failed: {name}: {reason}", file=sys.stderr)
        waiting = len(outcome.stopped) + len(outcome.blocked)
        if waiting:
            print(f"{waiting} jobs are left: run the same command again", file=sys.stderr)
    table = write_results(
        place, arguments.tiers, arguments.out, _command(arguments, place), variants=not arguments.no_variants
    )
    text = table.read_text(encoding="utf-8")
    (arguments.out / NEWEST).write_text(text, encoding="utf-8")
    print(text)
    return 0 if complete else 1


def job_command(place: Place, job: Job, minutes: float) -> Sequence[str]:
    """Return the process of a job."""
    version = place.versions["train"].replace("train", "{split}")
    command = [
        sys.executable, "-m", "wpt_training.cli", "job", job.name, "--config", place.config.name,
        "--data", str(place.data), "--version", version, "--runs", str(place.runs),
        "--threads", str(place.threads), "--routes", str(place.routes), "--judged", str(place.judged),
        "--device", place.device,
    ]  # fmt: skip
    if minutes != float("inf"):
        command += ["--max-minutes", f"{minutes:.2f}"]
    return command


def _command(arguments: argparse.Namespace, place: Place) -> str:
    """The command as a reader of the results can repeat it, without paths of this machine."""
    words = ["wpt-train paper --config", place.config.name, "--data DATA", "--tiers", arguments.tiers]
    words += ["--routes", str(place.routes), "--judged", str(place.judged)]
    if arguments.seeds:
        words += ["--seeds", *(str(seed) for seed in arguments.seeds)]
    return " ".join(words)
