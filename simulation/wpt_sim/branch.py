"""`wpt-sim branch`: what would have become of each of several plans, from states of recorded drives.

An episode is driven again by its driver up to a state; there the process is forked once for each plan, and every copy
drives its own plan for a few seconds in the same traffic, which reacts to it. A copy holds SUMO's whole state, so all
plans start from the very same world. One more copy lets the driver itself go on: the measure of the others' progress.

In: {"format": 1, "states": [{"id", "episode", "time_s", "ego": [x, y] or null, "plans": [[[x, y], ...], ...]}]}; a plan
holds base_link positions in metres, 0.5 s apart, beginning 0.5 s after the state. ego: where the ego was (map frame,
metres), as the recording says.
Out: {"format": 1, "states_sha256", "seconds", "driver", "states": {id: {"off_by_m", "expert": outcome, "plans": [outcome or
null, ...]}}}, an outcome as Outcome says; null where a copy died. states_sha256: of the file of states. A run that was
stopped left OUT.partial.jsonl: the same without "states", then {id: result} a line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wpt_sim.closed_loop import Driver
from wpt_sim.driver_names import WORLD_DRIVERS, ObservingDriver
from wpt_sim.ego_vehicle import Control, step_ego
from wpt_sim.episode import DT, EpisodeError, EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.infractions import InfractionMonitor
from wpt_sim.network import NetworkError
from wpt_sim.progress import Progress
from wpt_sim.route import RouteError
from wpt_sim.route_result import InfractionKind
from wpt_sim.sumo_session import TrafficError
from wpt_sim.traffic import Traffic
from wpt_sim.trajectory_follower import TrajectoryFollower
from wpt_sim.vehicles import ego_centre
from wpt_sim.world_state import WorldState

FORMAT = 1
PLAN_DT_S = 0.5
SECONDS = 3.0
LONGEST_S = 1e4
COLLISIONS = frozenset(
    {InfractionKind.COLLISION_PEDESTRIAN, InfractionKind.COLLISION_VEHICLE, InfractionKind.COLLISION_STATIC}
)
# What one episode may end with while the others go on.
EPISODE_FAILURES = (SimulationError, EpisodeError, NetworkError, RouteError, TrafficError)


class BranchError(SimulationError):
    """A file of states or of outcomes cannot be used, or a state lies outside its episode."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """collision: at fault, new since the state; hit_from_behind: not held against the ego. outside: of the road's or in an
    opposing lane, off the route by far included. rules: a red light or stop sign was run. progress_m: along the route.
    infractions: sentences. No comfort: it would be that of the follower which drives the plans.
    """

    collision: bool
    hit_from_behind: bool
    outside: bool
    rules: bool
    progress_m: float
    infractions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchState:
    """One state as in the file. plans: (K, T, 2)."""

    name: str
    spec: EpisodeSpec
    tick: int
    ego: tuple[float, float] | None
    plans: np.ndarray


class PlanDriver:
    """Drives one plan (T, 2) of base_link, from the first state that it is shown on."""

    name = "plan"

    def __init__(self, plan: np.ndarray):
        self._plan, self._follower, self._begun = plan, TrajectoryFollower(), False

    def reset(self, spec: EpisodeSpec) -> None:
        self._begun = False

    def control(self, state: WorldState) -> Control:
        if not self._begun:
            self._follower.set_plan(np.vstack([np.zeros((1, 2)), self._plan]), PLAN_DT_S, state.ego, state.time_s)
            self._begun = True
        return self._follower.control(state.ego, state.time_s)


def branch_episode(
    states: Sequence[BranchState], *, driver: str = "expert", seconds: float = SECONDS
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (id, result) of states of one episode, in the order of their times.

    Raises BranchError where the drive ends before a state, seconds are no time, or its driver is none of the world's;
    else what the episode and its traffic raise.
    """
    _check_seconds(seconds)
    if driver not in WORLD_DRIVERS:
        raise BranchError(f"driver {driver!r} is unknown: choose one of {', '.join(WORLD_DRIVERS)}.")
    spec = states[0].spec
    who = ObservingDriver(driver, WORLD_DRIVERS[driver])
    who.reset(spec)
    monitor = InfractionMonitor(spec.road_map, spec.route, spec)
    with Traffic(spec) as traffic:
        state, tick = traffic.reset(), 0
        monitor.update(state)
        for wanted in sorted(states, key=lambda entry: entry.tick):
            while tick < wanted.tick:
                if monitor.finished:
                    raise BranchError(
                        f"{spec.name} ended at {state.time_s:.2f} s, before the state at {wanted.tick * DT:.2f} s: give the "
                        "states of the drive that this version makes of the episode."
                    )
                state, tick = traffic.step(step_ego(state.ego, who.control(state))), tick + 1
                monitor.update(state)
            drivers: list[Driver] = [who, *(PlanDriver(plan) for plan in wanted.plans)]
            found = [_in_a_copy(partial(drive_on, traffic, monitor, chosen, state, seconds)) for chosen in drivers]
            here = (state.ego.x, state.ego.y)
            off = None if wanted.ego is None else math.dist(wanted.ego, here)
            yield wanted.name, {"off_by_m": off, "expert": found[0], "plans": found[1:]}


def drive_on(
    traffic: Traffic, monitor: InfractionMonitor, driver: Driver, state: WorldState, seconds: float
) -> Outcome:
    """Drive from a state for some seconds, or until the drive is over, and return what happened since."""
    route, known, hits = traffic.route, len(monitor.infractions), len(monitor.rear_end_hits)
    begin, _ = route.project(*ego_centre(state.ego))
    for _ in range(round(seconds / DT)):
        if monitor.finished:
            break
        state = traffic.step(step_ego(state.ego, driver.control(state)))
        monitor.update(state)
    end, _ = route.project(*ego_centre(state.ego), near=begin, window=60.0)
    new = monitor.infractions[known:]
    kinds = {entry.kind for entry in new}
    return Outcome(
        collision=bool(kinds & COLLISIONS),
        hit_from_behind=len(monitor.rear_end_hits) > hits,
        outside=bool(kinds & {InfractionKind.OUTSIDE_LANES, InfractionKind.OFF_ROUTE}),
        rules=bool(kinds & {InfractionKind.RED_LIGHT, InfractionKind.STOP_SIGN}),
        progress_m=end - begin,
        infractions=tuple(entry.sentence for entry in new),
    )


def _in_a_copy(work: Callable[[], Outcome]) -> dict[str, Any] | None:
    """Run in a fork of this process, so that nothing that happens there happens here; None where the copy failed."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w", encoding="utf-8") as pipe:
                json.dump(asdict(work()), pipe)
            code = 0
        except BaseException as error:  # noqa: BLE001 - a copy must never go on as if it were its parent
            os.write(2, f"a branch failed: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if os.waitstatus_to_exitcode(status) == 0 else None


def read_states(path: Path) -> list[BranchState]:
    """Read a file of states. Raises BranchError naming what is wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"format is {document['format']!r}, expected {FORMAT}")
        states = [_state(entry) for entry in document["states"]]
        twice = len(states) - len({state.name for state in states})
        if twice:
            raise ValueError(f"{twice} ids stand there more than once")
        return states
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BranchError(f"{path.name} cannot be read as states to branch at ({error!r}): write it again.") from None


def _check_seconds(seconds: float) -> None:
    if not DT <= seconds <= LONGEST_S:
        raise BranchError(f"--seconds is {seconds}, expected {DT:g} to {LONGEST_S:g}: say how long each plan is driven.")


def _state(entry: Mapping[str, Any]) -> BranchState:
    plans = np.asarray(entry["plans"], dtype=np.float64)
    if plans.ndim != 3 or plans.shape[2] != 2 or not plans.size or not np.isfinite(plans).all():
        raise ValueError(f"plans of {entry['id']} have the shape {plans.shape}, expected finite (plans, steps, 2)")
    time_s = float(entry["time_s"])
    if not 0.0 <= time_s < LONGEST_S:
        raise ValueError(f"time_s of {entry['id']} is {time_s}, expected seconds from the episode's start")
    ego = None if entry["ego"] is None else tuple(float(value) for value in entry["ego"])
    if ego is not None and (len(ego) != 2 or not all(math.isfinite(value) for value in ego)):
        raise ValueError(f"ego of {entry['id']} is {entry['ego']}, expected null or finite [x, y]")
    return BranchState(
        name=str(entry["id"]),
        spec=EpisodeSpec.from_json(json.dumps(entry["episode"])),
        tick=round(time_s / DT),
        ego=ego,
        plans=plans,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--states", type=Path, required=True, help="file of states and plans (JSON)")
    kept = "file of outcomes (JSON); what it holds of the same states, seconds and driver is not done again"
    parser.add_argument("--out", type=Path, required=True, help=kept)
    parser.add_argument("--driver", default="expert", choices=sorted(WORLD_DRIVERS), help="who drove, up to the states")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"driven from each state (default {SECONDS:g})")


def run(arguments: argparse.Namespace) -> int:
    _check_seconds(arguments.seconds)
    states, out = read_states(arguments.states), arguments.out
    source = {
        "format": FORMAT,
        "states_sha256": hashlib.sha256(arguments.states.read_bytes()).hexdigest(),
        "seconds": arguments.seconds,
        "driver": arguments.driver,
    }
    partial_file = out.with_name(out.name + ".partial.jsonl")
    wanted = {state.name: state for state in states}
    found = {**_finished(out, source, wanted), **_stopped(partial_file, source, wanted)}
    by_episode: dict[str, list[BranchState]] = {}
    for state in states:
        if state.name not in found:
            # Not by name: two episodes of one name may differ in what surrounds the ego.
            by_episode.setdefault(state.spec.to_json(), []).append(state)
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(source), *(json.dumps({name: result}) for name, result in found.items())]
    _write(partial_file, "".join(line + "\n" for line in lines))
    with Progress("branch", len(states)) as progress, partial_file.open("a", encoding="utf-8") as kept:
        for group in by_episode.values():
            try:
                for name, result in branch_episode(group, driver=arguments.driver, seconds=arguments.seconds):
                    found[name] = result
                    kept.write(json.dumps({name: result}) + "\n")
                    kept.flush()
                    progress.show(len(found), f"{len(found)}/{len(states)} states")
            except EPISODE_FAILURES as error:
                text, episode = " ".join(str(error).split()), group[0].spec.name
                print(text if episode in text else f"{episode} cannot be driven: {text}", file=sys.stderr)
    ordered = {name: found[name] for name in wanted if name in found}
    _write(out, json.dumps({**source, "states": ordered}) + "\n")
    partial_file.unlink(missing_ok=True)
    print(f"{len(ordered)} of {len(states)} states branched")
    return 0 if len(ordered) == len(states) else 1


def _finished(path: Path, source: Mapping[str, Any], wanted: Mapping[str, BranchState]) -> dict[str, Any]:
    """Return what a file of outcomes holds of these states; nothing where it is of others, which is said."""
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        results = document.pop("states")
        if document.get("format") != FORMAT or not isinstance(results, dict):
            raise ValueError(f"format is {document.get('format')!r} and states are a {type(results).__name__}")
        return _results(results, wanted) if _same(document, source, path) else {}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BranchError(
            f"{path.name} holds no outcomes of wpt-sim branch ({error!r}): give another --out, or remove it."
        ) from None


def _stopped(path: Path, source: Mapping[str, Any], wanted: Mapping[str, BranchState]) -> dict[str, Any]:
    """Return what a run that was stopped left; its last line may have been cut off."""
    if not path.exists():
        return {}
    found: dict[str, Any] = {}
    number = 0
    try:
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
            entry = json.loads(line)
            if number > 1:
                found.update(_results(entry, wanted))
            elif not _same(entry, source, path):
                break
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BranchError(f"{path.name} is damaged in line {number} ({error!r}): remove it and run again.") from None
    return found


def _same(header: Mapping[str, Any], source: Mapping[str, Any], path: Path) -> bool:
    same = dict(header) == dict(source)
    if not same:
        print(
            f"{path.name} is left aside, because its outcomes are of other states, seconds or another driver.",
            file=sys.stderr,
        )
    return same


def _results(entries: Mapping[str, Any], wanted: Mapping[str, BranchState]) -> dict[str, Any]:
    """Return results by id, checked to be of the wanted states."""
    for name, result in entries.items():
        if {"off_by_m", "expert", "plans"} != set(result) or len(result["plans"]) != len(wanted[name].plans):
            raise ValueError(f"{name} is no result for {len(wanted[name].plans)} plans")
    return dict(entries)


def _write(path: Path, text: str) -> None:
    waiting = path.with_name(f".{path.name}.new")
    waiting.write_text(text, encoding="utf-8")
    waiting.replace(path)
