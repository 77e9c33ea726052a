"""Runs a graph of jobs as processes, several at once, until all is done or the time is over.

A job that fails stops only those that need it. Every job can be stopped and goes on where it was when it runs again.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from wpt_training.experiments.jobs import Job, is_done, job_folder

# Less than this many minutes are not worth the start of a job.
LEAST_MINUTES = 0.5
# glibc gives every tensor of more than 32 MB at most, and often much smaller ones, back to the system and asks for it
# again: kept instead, and in huge pages, a step of the compact networks takes a tenth less time. Other systems ignore it.
KEEP_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=8589934592"
}


@dataclass(kw_only=True)
class Outcome:
    """Names of jobs. stopped: by the time; blocked: one that they need failed."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (self.failed or self.stopped or self.blocked)


def run_jobs(
    jobs: Sequence[Job],
    runs: Path,
    command: Callable[[Job, float], Sequence[str]],
    *,
    workers: int,
    max_minutes: float | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Run jobs in their order as soon as what they need is done.

    command: (job, minutes left) -> a process' arguments; it must leave the job's done.json. Output goes to output.log in
    the job's folder.
    """
    end = None if max_minutes is None else time.monotonic() + 60.0 * max_minutes
    outcome = Outcome()
    running: dict[Future, Job] = {}
    waiting = []
    for job in jobs:
        if is_done(runs, job.name):
            outcome.done.append(job.name)
        else:
            waiting.append(job)
    if outcome.done:
        say(f"{len(outcome.done)} of {len(jobs)} jobs were done before")
    with ThreadPoolExecutor(max_workers=workers) as pool:
        while waiting or running:
            minutes = float("inf") if end is None else (end - time.monotonic()) / 60.0
            done = set(outcome.done)
            ready = [job for job in waiting if set(job.needs) <= done]
            while ready and len(running) < workers and minutes > LEAST_MINUTES:
                job = ready.pop(0)
                waiting.remove(job)
                say(f"begin {job.name}")
                running[pool.submit(_run, job, runs, tuple(command(job, minutes)))] = job
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                job = running.pop(future)
                code, seconds = future.result()
                if is_done(runs, job.name):
                    outcome.done.append(job.name)
                    say(f"done  {job.name} in {seconds:.0f} s ({len(outcome.done)} of {len(jobs)})")
                elif code == 0:
                    outcome.stopped.append(job.name)
                    say(f"time  {job.name}: to be continued")
                else:
                    last = _last_line(job_folder(runs, job.name) / "output.log")
                    outcome.failed[job.name] = last
                    say(f"FAILED {job.name}: {last}")
    lost = set(outcome.failed)
    for job in waiting:
        if lost & set(job.needs):
            lost.add(job.name)
            outcome.blocked.append(job.name)
        else:
            outcome.stopped.append(job.name)
    return outcome


def _run(job: Job, runs: Path, arguments: tuple[str, ...]) -> tuple[int, float]:
    folder = job_folder(runs, job.name)
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with (folder / "output.log").open("a", encoding="utf-8") as log:
        code = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False,
            env={**KEEP_MEMORY, **os.environ},
        ).returncode
    return code, time.monotonic() - begin


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
