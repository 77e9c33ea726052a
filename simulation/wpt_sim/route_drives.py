"""Many routes by one driver: over processes, resumable, and unharmed by a driver that raises, hangs or dies.

Each worker process drives one route at a time and reports while it does. A worker that falls silent is ended,
a worker that dies is replaced; either way the route counts as the driver's failure and the run goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from wpt_sim.closed_loop import drive_route
from wpt_sim.driver_names import make_driver
from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.infractions import TICK_LIMIT
from wpt_sim.planning_driver import PLAN_TIMEOUT_S
from wpt_sim.progress import Progress
from wpt_sim.route_result import Infraction, InfractionKind, ResultError, RouteResult, RouteStatus

REPORT_TICKS = 50
# Beyond the plan's own limit: making a driver, building a map's textures, drawing a failure's pictures.
SILENCE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class DriveJob:
    """What a worker needs to know. driver: a name as make_driver takes it. pictures: folder for failed
    routes.
    """

    driver: str
    plan_rate: float = 2.0
    plan_timeout: float = PLAN_TIMEOUT_S
    device: str = "cpu"
    tick_limit: int = TICK_LIMIT
    silence_s: float = SILENCE_S
    pictures: str | None = None
    picture_format: str = "sheet"
    threads: int = 1

    def key(self, spec: EpisodeSpec) -> str:
        """Names one drive: the same key, the same result (a driver's files are part of it)."""
        parts = (
            self.driver,
            f"{self.plan_rate:g}",
            str(self.tick_limit),
            _fingerprint(self.driver),
            spec.to_json(),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _fingerprint(driver: str) -> str:
    """Contents of what the name points to, where that is a file or a folder of this machine."""
    from wpt_policy.bundle import find_bundle
    from wpt_policy.policy_config import BundleError

    candidate = Path(driver.partition(":")[2] or driver)
    if not candidate.exists():
        try:
            candidate = find_bundle(driver)
        except BundleError:
            return ""
    files = [candidate] if candidate.is_file() else sorted(p for p in candidate.glob("*") if p.is_file())
    state = hashlib.sha256()
    for file in files:
        state.update(file.read_bytes())
    return state.hexdigest()


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    spec: EpisodeSpec | None = None
    heard: float = field(default_factory=time.monotonic)
    time_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DriveOutcome:
    """results in the order of the specs that have one. broken: sentences about routes that the world could
    not run.

    resumed: how many results were read from the partial file.
    """

    results: tuple[RouteResult, ...]
    broken: tuple[str, ...]
    resumed: int


def drive_routes(
    job: DriveJob,
    specs: Sequence[EpisodeSpec],
    *,
    workers: int = 1,
    partial: Path | None = None,
    label: str = "drive",
    on_result: Callable[[RouteResult], None] | None = None,
) -> DriveOutcome:
    """Drive all routes and return their results, in the order of `specs` whatever the number of workers.

    partial: JSON lines, one per finished route; what it holds of this job is not driven again, and it is
    written as results come. Raises SimulationError for a driver that cannot be made or two routes of one
    name.
    """
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise SimulationError(
            f"route {next(n for n in names if names.count(n) > 1)} is asked for twice: name it once."
        )
    name = make_driver(
        job.driver, plan_rate=job.plan_rate, plan_timeout=job.plan_timeout, device=job.device
    ).name
    keys = {spec.name: job.key(spec) for spec in specs}
    known = _read_partial(partial)
    results = {spec.name: known[keys[spec.name]] for spec in specs if keys[spec.name] in known}
    resumed = len(results)
    broken: list[str] = []
    died: set[str] = set()
    waiting = [spec for spec in specs if spec.name not in results]
    pool: list[_Worker] = []
    context = multiprocessing.get_context("spawn")
    silence = job.plan_timeout + job.silence_s

    def finish(worker: _Worker, result: RouteResult) -> None:
        worker.spec = None
        results[result.name] = result
        if partial is not None:
            _append(partial, keys[result.name], result)
        if on_result is not None:
            on_result(result)

    try:
        with Progress(label, len(specs)) as progress:
            while waiting or any(worker.spec for worker in pool):
                while waiting and len(pool) < max(1, workers):
                    pool.append(_start(context, job))
                for worker in pool:
                    if worker.spec is None and waiting:
                        worker.spec, worker.heard, worker.time_s = waiting.pop(0), time.monotonic(), 0.0
                        try:
                            worker.pipe.send(worker.spec.to_json())
                        except OSError:  # it died while idle: found below
                            pass
                for pipe in wait([worker.pipe for worker in pool], timeout=0.5):
                    worker = next(w for w in pool if w.pipe is pipe)
                    worker.heard = time.monotonic()
                    try:
                        kind, value = worker.pipe.recv()
                    except (EOFError, OSError):
                        worker.process.join(10.0)
                        pool.remove(worker)
                        if worker.spec is not None and worker.spec.name not in died:
                            # SUMO itself dies now and then, about once in thousands of drives: not the driver's fault.
                            died.add(worker.spec.name)
                            waiting.insert(0, worker.spec)
                        elif worker.spec is not None:
                            code = worker.process.exitcode
                            reason = f"{name}: its process ended with exit code {code}, twice on this route"
                            finish(worker, failed_result(worker.spec, name, reason, worker.time_s))
                        continue
                    if kind == "tick":
                        worker.time_s = value
                    elif kind == "broken":
                        broken.append(f"{worker.spec.name}: {value}")
                        worker.spec = None
                    elif kind == "unusable":
                        raise SimulationError(value)
                    else:
                        finish(worker, RouteResult.from_dict(value))
                for worker in [w for w in pool if w.spec is not None]:
                    if time.monotonic() - worker.heard > silence:
                        _end(worker)
                        pool.remove(worker)
                        reason = f"{name}: nothing was heard of its process for {silence:.0f} s"
                        finish(worker, failed_result(worker.spec, name, reason, worker.time_s))
                under_way = sum(0.5 for worker in pool if worker.spec)
                progress.show(len(results) + len(broken) + under_way, f"{len(results)}/{len(specs)} routes")
    finally:
        for worker in pool:
            _end(worker)
    ordered = tuple(results[spec.name] for spec in specs if spec.name in results)
    return DriveOutcome(results=ordered, broken=tuple(broken), resumed=resumed)


def failed_result(spec: EpisodeSpec, planner: str, reason: str, time_s: float) -> RouteResult:
    """The result of a route whose driver left nothing behind but this reason."""
    x, y, _ = spec.route.at(0.0)
    entry = Infraction(kind=InfractionKind.PLANNER_FAILURE, time_s=time_s, x=x, y=y, s=0.0, detail=reason)
    return RouteResult(
        name=spec.name,
        family=spec.family,
        scenario=spec.scenario,
        network=spec.network,
        seed=spec.seed,
        split=spec.split,
        planner=planner,
        status=RouteStatus.FAILED,
        completion=0.0,
        outside_share=0.0,
        infractions=(entry,),
        rear_end_hits=(),
        speed_ratios=(),
        comfort_b2d=None,
        comfort_si=None,
        past_first_junction=False,
        route_length=spec.route.length,
        duration_s=time_s,
        distance=0.0,
        failure=reason,
    )


def _start(context: Any, job: DriveJob) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, job), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process=process, pipe=ours)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    if worker.process.is_alive() and worker.spec is None:
        worker.process.join(2.0)  # an idle worker ends by itself once its pipe is closed
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join(10.0)


def _work(pipe: Connection, job: DriveJob) -> None:
    """A worker: reads episodes until the pipe is closed, answers with results."""
    import torch

    torch.set_num_threads(job.threads)
    try:
        driver = make_driver(
            job.driver, plan_rate=job.plan_rate, plan_timeout=job.plan_timeout, device=job.device
        )
    except SimulationError as error:
        pipe.send(("unusable", str(error)))
        return
    while True:
        try:
            spec = EpisodeSpec.from_json(pipe.recv())
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            pipe.send(("done", _drive_one(spec, driver, job, pipe).to_dict()))
        except (BrokenPipeError, KeyboardInterrupt):
            return
        except Exception as error:  # noqa: BLE001 - the world's own errors; drive_route catches the driver's
            pipe.send(("broken", f"{type(error).__name__}: {' '.join(str(error).split())}"))


def _drive_one(spec: EpisodeSpec, driver: Any, job: DriveJob, pipe: Connection) -> RouteResult:
    from wpt_sim.failure_pictures import DriveRecorder, write_pictures

    recorder = DriveRecorder() if job.pictures else None
    ticks = 0

    def on_state(state: Any, new: tuple[Infraction, ...]) -> None:
        nonlocal ticks
        if ticks % REPORT_TICKS == 0:
            pipe.send(("tick", state.time_s))
        ticks += 1
        if recorder is not None:
            recorder.see(state)

    result = drive_route(spec, driver, on_state=on_state, tick_limit=job.tick_limit)
    if recorder is not None and (result.infractions or result.status is RouteStatus.FAILED):
        write_pictures(spec, result, recorder, Path(job.pictures), job.picture_format)
    return _rounded(result)


def _rounded(result: RouteResult) -> RouteResult:
    """Numbers short enough to read and the same after JSON."""

    def short(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else round(value, 6)

    return replace(
        result,
        completion=short(result.completion),
        outside_share=short(result.outside_share),
        speed_ratios=tuple(round(ratio, 4) for ratio in result.speed_ratios),
        comfort_b2d=short(result.comfort_b2d),
        comfort_si=short(result.comfort_si),
        distance=short(result.distance),
    )


def _append(partial: Path, key: str, result: RouteResult) -> None:
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"key": key, "result": result.to_dict()}, sort_keys=True) + "\n")


def _read_partial(partial: Path | None) -> dict[str, RouteResult]:
    """Results by key. A line that a killed run left cut short, or one of another version, is driven again."""
    if partial is None or not partial.is_file():
        return {}
    text = partial.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):  # so that the next line does not grow onto a cut one
        with partial.open("a", encoding="utf-8") as file:
            file.write("\n")
    known = {}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            known[entry["key"]] = RouteResult.from_dict(entry["result"])
        except (json.JSONDecodeError, KeyError, TypeError, ResultError):
            continue
    return known
