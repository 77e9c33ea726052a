"""The jobs of a table as a graph: what must be finished before what, in the order in which they are worth doing.

A job is named KIND, or KIND:ROW@SEED, and lives in a folder of that name (``:`` becomes ``/``) with a ``done.json`` once
it is finished. World model, perception pre-training and caches are made once for all seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wpt_training.configuration import ExperimentConfig
from wpt_training.errors import TrainingError
from wpt_training.experiments.rows import (
    DEFAULT_TEACHER,
    SEEDS,
    STUDENTS,
    TEACHERS,
    StudentVariant,
    keeps_queries,
    student_variant,
)

SPLITS = ("train", "dev", "test")
UNTRAINED = ("stop", "constant_velocity", "expert")
DONE_FILE = "done.json"
TEST_LOG = "test_runs.jsonl"
ON_TEST = ("evaluate", "drive", "candidates-test")
# Reports about a teacher's candidates and reward, for compact teachers (whole trajectories); the first process of several does them.
REPORTS = (*(f"candidates-{split}" for split in SPLITS), "heads", "slopes", "outcomes", "branches")
# Branching drives every candidate of hundreds of states: once is enough.
BRANCHED_SEED = 1
# Rows that see the true bird's-eye view (truth_bev_rows).
TRUTH_BEV = ("truth-bev", "truth-bev-motion")
# Students whose plans the reward model's heads are judged on, beside its own candidates (head_report).
JUDGED_STUDENTS = ("baseline", "full")
# The student whose plans Eq 16 is followed from (slope_report): one that has not been moved by it.
PUSHED_STUDENT = "baseline"


@dataclass(frozen=True, kw_only=True)
class Job:
    """kind: what runs. row, seed: of a trained row ("" and 0 else). needs: names of jobs before it."""

    kind: str
    row: str = ""
    seed: int = 0
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return job_name(self.kind, self.row, self.seed)


def job_name(kind: str, row: str = "", seed: int = 0) -> str:
    """Return KIND, KIND:ROW or KIND:ROW@SEED."""
    if not row:
        return kind
    return f"{kind}:{row}@{seed}" if seed else f"{kind}:{row}"


def parse_job(name: str) -> tuple[str, str, int]:
    """Return (kind, row, seed) of a job's name; raises TrainingError."""
    kind, _, rest = name.partition(":")
    row, _, seed = rest.partition("@")
    if seed and not seed.isdigit():
        raise TrainingError(f"job {name!r} has seed {seed!r}, expected KIND, KIND:ROW or KIND:ROW@SEED.")
    return kind, row, int(seed) if seed else 0


def job_folder(runs: Path, name: str) -> Path:
    """Return the folder of a job."""
    return runs / name.replace(":", "/")


def is_done(runs: Path, name: str) -> bool:
    return (job_folder(runs, name) / DONE_FILE).exists()


def mark_done(runs: Path, name: str, facts: dict[str, Any]) -> None:
    """Write a job's facts; it counts as finished from now on."""
    folder = job_folder(runs, name)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / (DONE_FILE + ".new")
    unfinished.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / DONE_FILE)


def facts_of(runs: Path, name: str) -> dict[str, Any]:
    """Return what a finished job wrote; raises TrainingError for one that is not finished."""
    try:
        return json.loads((job_folder(runs, name) / DONE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"job {name} is not finished in {runs} ({error}): run it first.") from None


def log_test_run(runs: Path, job: str, commit: str) -> None:
    """Every use of the test samples or routes leaves a line with its time (UTC)."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with (runs / TEST_LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps({"job": job, "commit": commit, "when": when}) + "\n")


def jobs_of(
    tiers: str, config: ExperimentConfig, *, seeds: Sequence[int] | None = None, drive: bool = True
) -> list[Job]:
    """Return the jobs of some tiers ("A", "AB", "ABC"), those worth most first; no training waits behind a report.

    config: decides what can be kept of frozen networks, and whether there are REPORTS, which a reference teacher cannot
    have. seeds: instead of every tier's own. drive: with the closed loop. Raises TrainingError for an unknown tier.
    """
    unknown = sorted(set(tiers) - set(SEEDS))
    if unknown or not tiers:
        raise TrainingError(f"tiers are {tiers!r}, expected letters out of {''.join(SEEDS)}.")
    jobs = [Job(kind="cache", row=split) for split in SPLITS]
    caches = tuple(job.name for job in jobs)
    train, dev = caches[0], caches[1]
    jobs += [
        Job(kind="perception", needs=(train,)),
        Job(kind="world-perception", needs=(train,)),
        *(() if config.student_joint else (Job(kind="views", needs=(train, "perception")),)),
        *_world_jobs(train, config.world.joint),
        Job(kind="anchors", needs=(train,)),
        Job(kind="world-report", needs=(dev, "world", "anchors")),
    ]
    started = (train, "perception") if config.student_joint else (train, "perception", "views")
    jobs += [Job(kind="evaluate", row=row, needs=(caches[2],)) for row in UNTRAINED]
    jobs.append(Job(kind="ego-mlp", needs=(train,)))
    jobs.append(Job(kind="evaluate", row="ego-mlp", needs=(caches[2], "ego-mlp")))
    rounds = [
        (tier, seed) for tier in sorted(tiers) for seed in (SEEDS[tier] if seeds is None else tuple(seeds))
    ]
    for tier, seed in rounds:
        jobs += _tier_jobs(tier, seed, config, caches[2], started, drive)
    for row in TRUTH_BEV:
        trained = Job(kind="truth-bev", row=row, needs=(train,))
        jobs += [trained, Job(kind="evaluate", row=row, needs=(caches[2], trained.name))]
    if drive:
        jobs += [Job(kind="drive", row=row) for row in UNTRAINED]
    if config.teacher.kind != "reference":
        for tier, seed in rounds:
            jobs += _report_jobs(tier, seed, drive)
    return _unique(jobs)


def _world_jobs(train: str, joint: bool) -> list[Job]:
    """The roll-out learns on features that are final before it (and cached), or changes them with itself."""
    started = (train, "world-perception")
    if joint:
        return [Job(kind="world", needs=started), Job(kind="frozen", needs=(train, "world"))]
    return [Job(kind="frozen", needs=started), Job(kind="world", needs=(*started, "frozen"))]


def _tier_jobs(
    tier: str, seed: int, config: ExperimentConfig, test: str, started: tuple[str, ...], drive: bool
) -> Iterable[Job]:
    """test: job of the test cache. started: jobs that every student begins from, the training cache first."""
    train = started[0]
    rows = [student for student in STUDENTS if student.tier == tier]
    for student in (s for s in rows if not s.needs_teacher and not s.longer):
        yield _student(student, seed, started)
    for teacher in (t for t in TEACHERS if t.tier == tier):
        yield _teacher(teacher.name, seed, train)
    for student in (s for s in rows if s.needs_teacher or s.longer):
        # A tier that is run alone needs a teacher, or a student to take the time from, of another tier.
        yield _teacher(student.teacher, seed, train)
        if student.longer:
            yield _student(student_variant("baseline"), seed, started)
            yield _student(student_variant("full"), seed, started)
        asked = started
        if keeps_queries(config, student):
            trained = job_name("teacher", student.teacher, seed)
            yield Job(kind="queries", row=student.teacher, seed=seed, needs=(train, "world", "frozen", trained))
            asked = (*started, job_name("queries", student.teacher, seed))
        yield _student(student, seed, asked)
    for kind in ("evaluate", "drive") if drive else ("evaluate",):
        needs = (test,) if kind == "evaluate" else ()
        for student in (s for s in STUDENTS if s.tier == tier):
            yield Job(
                kind=kind, row=student.name, seed=seed, needs=(*needs, job_name("student", student.name, seed))
            )
        for teacher in (t for t in TEACHERS if t.tier == tier):
            if kind == "evaluate" or tier == "A":
                yield Job(
                    kind=kind, row=teacher.name, seed=seed, needs=(*needs, job_name("teacher", teacher.name, seed))
                )


def _report_jobs(tier: str, seed: int, drive: bool) -> Iterable[Job]:
    """Every teacher's candidates on dev; of those that carry claims the other splits, the heads, where Eq 16 pushes, and how
    the ranks come true (which, like the closed loop, needs the driving world).
    """
    for teacher in (t for t in TEACHERS if t.tier == tier):
        name, trained = teacher.name, job_name("teacher", teacher.name, seed)
        for split in SPLITS if tier == "A" else ("dev",):
            needs = (job_name("cache", split), "world", trained)
            yield Job(kind=f"candidates-{split}", row=name, seed=seed, needs=needs)
        if tier == "A":
            needs = (job_name("cache", "dev"), "world", trained)
            students = tuple(job_name("student", student, seed) for student in JUDGED_STUDENTS)
            yield Job(kind="heads", row=name, seed=seed, needs=(*needs, *students))
            yield Job(kind="slopes", row=name, seed=seed, needs=(*needs, job_name("student", PUSHED_STUDENT, seed)))
            outcomes = Job(kind="outcomes", row=name, seed=seed, needs=needs)
            yield outcomes
            if drive and seed == BRANCHED_SEED:
                yield Job(kind="branches", row=name, seed=seed, needs=(*needs, outcomes.name))


def _teacher(name: str, seed: int, train: str) -> Job:
    needs = (train, "world", "anchors", "frozen", "world-report")
    return Job(kind="teacher", row=name, seed=seed, needs=needs)


def _student(student: StudentVariant, seed: int, started: tuple[str, ...]) -> Job:
    needs = list(started)
    if student.needs_teacher:
        needs += ["world", "frozen", job_name("teacher", student.teacher, seed)]
    if student.longer:
        needs += ["world", "frozen", job_name("teacher", DEFAULT_TEACHER, seed)]
        needs += [job_name("student", "baseline", seed), job_name("student", "full", seed)]
    return Job(kind="student", row=student.name, seed=seed, needs=tuple(needs))


def _unique(jobs: Iterable[Job]) -> list[Job]:
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.name, job)
    return list(found.values())
