"""`wpt-sim drive`: closed-loop evaluation of one planner."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wpt_sim import scoring
from wpt_sim.episode import EpisodeError, EpisodeSpec, families, make_episode
from wpt_sim.errors import SimulationError
from wpt_sim.network import SPLITS
from wpt_sim.planning_driver import PLAN_TIMEOUT_S
from wpt_sim.results import results_document, summary_table, write_results
from wpt_sim.route_drives import DriveJob, drive_routes
from wpt_sim.route_result import RouteResult

SEEDS_PER_RUN = 10_000  # run seed S takes the episode seeds from S * 10000 on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--planner",
        default="wpt-compact",
        metavar="NAME|BUNDLE|NAME:CHECKPOINT",
        help="a planner, a policy bundle, or a driver of this world (expert, expert_plan, blind_follower); "
        "default wpt-compact",
    )
    parser.add_argument(
        "--routes",
        required=True,
        metavar="FILE|N",
        help="a file of episodes (JSON lines), or how many routes to draw from --split with --seed",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the drawn routes (default 0)")
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--families", nargs="+", metavar="NAME", help="draw routes of these families only")
    parser.add_argument("--out", type=Path, required=True, help="results file (JSON)")
    parser.add_argument("--scores", default="b2d", choices=scoring.RULES, help="rules of the driving score")
    parser.add_argument(
        "--plan-rate", type=float, default=2.0, metavar="HZ", help="2, 4, 5 or 10 plans a second"
    )
    parser.add_argument(
        "--plan-timeout", type=float, default=PLAN_TIMEOUT_S, metavar="S", help="for one plan"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--device", default="cpu", help="of a policy: cpu, cuda or cuda:N")
    parser.add_argument(
        "--video", type=Path, metavar="DIR", help="pictures of every route with an infraction go here"
    )
    parser.add_argument("--video-format", default="sheet", choices=("sheet", "mp4"))
    parser.add_argument("--save-routes", type=Path, metavar="FILE", help="write the routes as JSON lines")
    parser.add_argument(
        "--restart", action="store_true", help="drive again what an interrupted run has finished"
    )


def run(arguments: argparse.Namespace) -> int:
    specs = read_routes(arguments.routes, arguments.split, arguments.seed, arguments.families)
    if arguments.workers < 1:
        raise SimulationError(f"--workers is {arguments.workers}, expected at least 1: leave it out for 2.")
    if arguments.save_routes:
        arguments.save_routes.parent.mkdir(parents=True, exist_ok=True)
        arguments.save_routes.write_text("".join(spec.to_json() + "\n" for spec in specs), encoding="utf-8")
    partial = arguments.out.with_name(arguments.out.name + ".partial.jsonl")
    if arguments.restart:
        partial.unlink(missing_ok=True)
    job = DriveJob(
        driver=arguments.planner,
        plan_rate=arguments.plan_rate,
        plan_timeout=arguments.plan_timeout,
        device=arguments.device,
        pictures=str(arguments.video) if arguments.video else None,
        picture_format=arguments.video_format,
    )
    outcome = drive_routes(
        job,
        specs,
        workers=arguments.workers,
        partial=partial,
        label=f"drive {arguments.planner}",
        on_result=lambda result: print(route_line(result, arguments.scores), file=sys.stderr),
    )
    if outcome.resumed:
        print(
            f"{outcome.resumed} routes were finished by an earlier run and are not driven again "
            "(--restart drives them)",
            file=sys.stderr,
        )
    expected: dict[str, int] = {}
    for spec in specs:
        expected[spec.family] = expected.get(spec.family, 0) + 1
    summary = scoring.summarise(outcome.results, expected, arguments.scores)
    settings = {
        "routes": arguments.routes if arguments.routes.isdigit() else Path(arguments.routes).name,
        "seed": arguments.seed,
        "split": arguments.split,
        "plan_rate": arguments.plan_rate,
        "scores": arguments.scores,
        "families": arguments.families,
    }
    document = results_document(
        outcome.results, summary, planner=arguments.planner, settings=settings, broken=outcome.broken
    )
    write_results(arguments.out, document)
    print(summary_table(summary))
    for sentence in outcome.broken:
        print(f"not driven: {sentence}", file=sys.stderr)
    if outcome.broken:
        return 1
    partial.unlink(missing_ok=True)
    return 0


def read_routes(routes: str, split: str, seed: int, names: Sequence[str] | None = None) -> list[EpisodeSpec]:
    """Episodes of a file, or so many drawn by seed, one family after the other.

    Raises SimulationError and EpisodeError with the file's line.
    """
    if routes.isdigit():
        return draw_routes(int(routes), split, seed, names)
    path = Path(routes)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SimulationError(
            f"--routes {routes} is neither a number nor a file that can be read ({error}): give the number "
            "of routes or a file that --save-routes wrote."
        ) from error
    specs = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                specs.append(EpisodeSpec.from_json(line))
            except EpisodeError as error:
                raise SimulationError(f"{path.name} line {number}: {error}") from error
    if not specs:
        raise SimulationError(f"{path.name} holds no route: write one with --save-routes.")
    return specs


def draw_routes(count: int, split: str, seed: int, names: Sequence[str] | None = None) -> list[EpisodeSpec]:
    """`count` episodes, families taking turns. Raises SimulationError."""
    known = families()
    chosen = list(names) if names else list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise SimulationError(f"family {unknown[0]!r} is unknown: choose among {', '.join(known)}.")
    if count < 1 or seed < 0:
        raise SimulationError(
            f"{count} routes with seed {seed} were asked for, expected at least 1 route and a seed from 0."
        )
    first = seed * SEEDS_PER_RUN
    return [make_episode(split, chosen[i % len(chosen)], seed=first + i // len(chosen)) for i in range(count)]


def route_line(result: RouteResult, rules: str) -> str:
    """One line about one route."""
    what = "; ".join(entry.sentence for entry in result.infractions[:2]) or "no infraction"
    return f"{result.name}: {scoring.driving_score(result, rules):.1f}, {result.status.value}, {what}"
