"""`wpt-sim expert-gate`: is the expert good enough to be learned from?

Drives it on routes of networks and seeds that were not used while tuning, once directly and once through its
own waypoints and the follower, as a policy is driven. Exit code 1 when a gate fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wpt_sim.episode import EpisodeSpec, families, make_episode, scenario_names
from wpt_sim.errors import SimulationError
from wpt_sim.progress import Progress
from wpt_sim.route_result import InfractionKind, RouteResult, RouteStatus
from wpt_sim.scoring import driving_score, is_success
from wpt_sim.world_state import EgoPose, WorldState

COMPLETION_GATE = 0.99  # share of routes driven to their end, in every family
CLEAN_GATE = 0.97  # share of routes without an infraction
SCORE_GATE = 95.0  # driving score of the expert through Plan and follower
EMERGENCY = -4.05  # m/s2: Bench2Drive's comfort bound; harder braking counts as an emergency
DRIVERS = ("expert_plan", "expert")
FIRST_SEED = 5000  # the runs while tuning used lower seeds, on the networks of tuning and dev


@dataclass(frozen=True, kw_only=True)
class GateDrive:
    """One drive: its result and how many separate emergency brakings it had."""

    result: RouteResult
    emergencies: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--routes", type=int, default=200, help="number of routes, dealt evenly over scenarios (default 200)"
    )
    parser.add_argument(
        "--split", default="test", help="networks to drive on: test (default), dev, train or tuning"
    )
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help=f"first seed (default {FIRST_SEED})")
    parser.add_argument(
        "--plan-rate", type=float, default=2.0, help="plans per second for the follower, 2 to 10 (default 2)"
    )
    parser.add_argument(
        "--driver", choices=(*DRIVERS, "both"), default="both", help="only one of the two (default both)"
    )
    parser.add_argument("--family", action="append", help="only this scenario family (may be repeated)")
    parser.add_argument(
        "--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes (default 2)"
    )


def run(arguments: argparse.Namespace) -> int:
    """0 when every gate is passed, 1 otherwise. Raises SimulationError for numbers that make no sense."""
    if arguments.routes < 1 or arguments.workers < 1:
        raise SimulationError("--routes and --workers must be at least 1.")
    specs = gate_episodes(arguments.split, arguments.routes, arguments.seed, arguments.family)
    drivers = DRIVERS if arguments.driver == "both" else (arguments.driver,)
    failed: list[str] = []
    for name in drivers:
        drives = drive_all(name, specs, arguments.plan_rate, arguments.workers)
        how = (
            f"waypoints at {arguments.plan_rate:g} Hz and follower"
            if name == "expert_plan"
            else "direct control"
        )
        print(f"\n{name} ({how}), {len(drives)} routes, split {arguments.split}, seeds from {arguments.seed}")
        print(table(drives))
        for sentence in failures(drives):
            print("  " + sentence)
        if name == DRIVERS[0] or len(drivers) == 1:
            failed += [f"{name}: {sentence}" for sentence in missed_gates(drives)]
        else:
            failed += [f"{name}: {s}" for s in missed_gates(drives, with_score=False)]
    print()
    for sentence in failed:
        print(f"GATE FAILED  {sentence}")
    if not failed:
        print(
            f"gate passed: completion >= {COMPLETION_GATE:.0%} and no infraction on >= {CLEAN_GATE:.0%} of "
            f"routes, driving score through waypoints >= {SCORE_GATE:g}"
        )
    return 1 if failed else 0


def gate_episodes(
    split: str, routes: int, first_seed: int, only: Sequence[str] | None = None
) -> list[EpisodeSpec]:
    """`routes` episodes, one scenario after the other and then the next seed."""
    chosen = tuple(only or families())
    names = [(family, scenario) for family in chosen for scenario in scenario_names(family)]
    # Natural traffic is one scenario, but a family of its own: it gets as many routes as a family has
    # scenarios.
    names += [("natural", "natural")] * 2 if "natural" in chosen and len(names) > 1 else []
    drawn: dict[tuple[str, str], int] = {}
    specs = []
    for i in range(routes):
        family, scenario = names[i % len(names)]
        seed = first_seed + drawn.get((family, scenario), 0)
        drawn[family, scenario] = seed - first_seed + 1
        specs.append(make_episode(split, family, scenario, seed))
    return specs


def drive_all(driver: str, specs: Sequence[EpisodeSpec], plan_rate: float, workers: int) -> list[GateDrive]:
    """Drive all of them, in their order, over processes."""
    jobs = [(driver, plan_rate, spec.to_json()) for spec in specs]
    done: list[GateDrive] = []
    with Progress(driver, len(jobs)) as progress:
        if workers == 1:
            for job in jobs:
                done.append(_drive(job))
                progress.show(len(done), f"{len(done)}/{len(jobs)} routes")
            return done
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for drive in pool.imap(_drive, jobs):
                done.append(drive)
                progress.show(len(done), f"{len(done)}/{len(jobs)} routes")
    return done


def _drive(job: tuple[str, float, str]) -> GateDrive:
    import torch

    from wpt_sim.closed_loop import drive_route
    from wpt_sim.driver_names import make_driver

    torch.set_num_threads(1)
    driver, plan_rate, text = job
    counter = EmergencyCounter()
    result = drive_route(
        EpisodeSpec.from_json(text),
        make_driver(driver, plan_rate=plan_rate),
        on_state=lambda state, _: counter.see(state),
    )
    return GateDrive(result=result, emergencies=counter.count)


class EmergencyCounter:
    """Counts stretches of braking beyond comfort, by the change of the ego's speed over 0.15 s."""

    def __init__(self) -> None:
        self.count = 0
        self._speeds: list[float] = []
        self._in_one = False

    def see(self, state: WorldState) -> None:
        ego: EgoPose = state.ego
        self._speeds = [*self._speeds[-3:], ego.speed]
        if len(self._speeds) < 4:
            return
        harder = (self._speeds[-1] - self._speeds[0]) / 0.15 < EMERGENCY
        self.count += harder and not self._in_one
        self._in_one = harder


def _share(values: Iterable[bool]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def table(drives: Sequence[GateDrive]) -> str:
    """Rows by family and scenario, and all of them."""
    heads = (
        f"{'routes':>7}{'completed':>11}{'clean':>8}{'score':>8}{'comfort':>9}{'time s':>8}{'emergency':>11}"
    )
    lines = [" " * 34 + heads]

    def row(name: str, part: Sequence[GateDrive]) -> None:
        results = [drive.result for drive in part]
        comfort = [r.comfort_si for r in results if r.comfort_si is not None]
        lines.append(
            f"{name:34}{len(part):7d}{_share(r.status is not RouteStatus.FAILED for r in results):11.1%}"
            f"{_share(map(is_success, results)):8.1%}{sum(map(driving_score, results)) / len(results):8.1f}"
            f"{100 * sum(comfort) / max(len(comfort), 1):9.1f}"
            f"{sum(r.duration_s for r in results) / len(results):8.1f}"
            f"{_share(drive.emergencies > 0 for drive in part):11.1%}"
        )

    for family in dict.fromkeys(drive.result.family for drive in drives):
        mine = [drive for drive in drives if drive.result.family == family]
        row(family, mine)
        scenarios = list(dict.fromkeys(drive.result.scenario for drive in mine))
        for scenario in scenarios if len(scenarios) > 1 else ():
            row(f"  {scenario}", [drive for drive in mine if drive.result.scenario == scenario])
    row("all", drives)
    return "\n".join(lines)


def failures(drives: Sequence[GateDrive]) -> list[str]:
    """One sentence per route that was not clean, and per follower that ran into the ego."""
    found = []
    for drive in drives:
        result = drive.result
        for entry in result.infractions:
            found.append(f"{result.name}: {entry.sentence}")
        if result.status is RouteStatus.FAILED and not result.infractions:
            found.append(f"{result.name}: not completed, {result.completion:.0%}")
        found += [f"{result.name}: (not held against it) {entry.sentence}" for entry in result.rear_end_hits]
    return found


def missed_gates(drives: Sequence[GateDrive], with_score: bool = True) -> list[str]:
    """Sentences about gates that these drives miss; with few routes of a family, one of them may fail."""
    missed = []
    groups = {"all routes": list(drives)}
    for family in dict.fromkeys(drive.result.family for drive in drives):
        groups[family] = [drive for drive in drives if drive.result.family == family]
    for name, part in groups.items():
        results = [drive.result for drive in part]
        slack = 0 if name == "all routes" else 1
        incomplete = sum(r.status is RouteStatus.FAILED for r in results)
        unclean = sum(not is_success(r) for r in results)
        if incomplete > max((1 - COMPLETION_GATE) * len(results) + 1e-9, slack):
            missed.append(
                f"{name}: {incomplete} of {len(results)} routes not completed, "
                f"allowed {1 - COMPLETION_GATE:.0%}"
            )
        if unclean > max((1 - CLEAN_GATE) * len(results) + 1e-9, slack):
            missed.append(
                f"{name}: {unclean} of {len(results)} routes with an infraction, allowed {1 - CLEAN_GATE:.0%}"
            )
    score = sum(driving_score(drive.result) for drive in drives) / max(len(drives), 1)
    if with_score and score < SCORE_GATE:
        missed.append(f"driving score {score:.1f}, asked {SCORE_GATE:g}")
    crashed = sum(drive.result.count(InfractionKind.PLANNER_FAILURE) for drive in drives)
    if crashed:
        missed.append(f"{crashed} drives ended by an error of the expert")
    return missed
