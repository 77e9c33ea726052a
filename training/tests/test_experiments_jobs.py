from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wpt_training.configuration import RULES, TeacherConfig, compact
from wpt_training.errors import TrainingError
from wpt_training.experiments.jobs import (
    REPORTS,
    Job,
    facts_of,
    is_done,
    job_folder,
    jobs_of,
    mark_done,
    parse_job,
)
from wpt_training.experiments.rows import STUDENTS, TEACHERS, student_config, student_variant, teacher_variant
from wpt_training.experiments.scheduler import run_jobs

CONFIG = compact()


@pytest.mark.parametrize("tiers", ["A", "AB", "ABC", "C"])
def test_every_need_is_a_job_and_comes_first(tiers: str) -> None:
    jobs = jobs_of(tiers, CONFIG)
    before: set[str] = set()
    for job in jobs:
        assert set(job.needs) <= before | {j.name for j in jobs}, job
        before.add(job.name)
    # A graph without a ring: everything can be done by taking what is ready.
    done: set[str] = set()
    while True:
        ready = [job.name for job in jobs if job.name not in done and set(job.needs) <= done]
        if not ready:
            break
        done |= set(ready)
    assert done == {job.name for job in jobs}


def test_tier_a_has_the_rows_of_the_claims_with_three_seeds() -> None:
    names = {job.name for job in jobs_of("A", CONFIG)}
    for seed in (1, 2, 3):
        for row in ("baseline", "policy", "full", "teacher"):
            assert f"evaluate:{row}@{seed}" in names and f"drive:{row}@{seed}" in names
    assert "student:baseline-speed@1" not in names
    assert len({job.name for job in jobs_of("A", CONFIG) if job.kind == "world"}) == 1


def test_students_wait_for_the_views_of_a_frozen_encoder_alone() -> None:
    needs = {job.name: job.needs for job in jobs_of("A", CONFIG)}
    assert "views" in needs["student:baseline@1"] and "views" in needs["student:full@2"] and needs["views"] == ("cache:train", "perception")
    end_to_end = {job.name: job.needs for job in jobs_of("A", CONFIG.with_(student_joint=True))}
    assert "views" not in end_to_end and end_to_end["student:baseline@1"] == ("cache:train", "perception")


def test_a_single_seed_can_be_asked_for() -> None:
    assert {job.seed for job in jobs_of("A", CONFIG, seeds=[2])} == {0, 2}


@pytest.mark.parametrize("tiers", ["A", "AB", "ABC", "C"])
def test_no_training_waits_behind_a_report(tiers: str) -> None:
    kinds = [job.kind for job in jobs_of(tiers, CONFIG)]
    trainings = [i for i, kind in enumerate(kinds) if kind in ("teacher", "student", "truth-bev", "ego-mlp", "world")]
    reports = [i for i, kind in enumerate(kinds) if kind in REPORTS]
    assert max(trainings) < min(reports)


def test_reports_are_made_once_where_they_cost_much_and_can_be_left_out() -> None:
    assert [job.name for job in jobs_of("ABC", CONFIG) if job.kind == "branches"] == ["branches:teacher@1"]
    assert not [job for job in jobs_of("A", CONFIG, drive=False) if job.kind == "branches"]
    without = jobs_of("ABC", CONFIG.with_(teacher=TeacherConfig(kind="reference")))
    left_out = (*REPORTS, "queries")
    assert [job.name for job in without] == [job.name for job in jobs_of("ABC", CONFIG) if job.kind not in left_out]


def test_policy_distillation_waits_for_the_teachers_queries() -> None:
    needs = {job.name: job.needs for job in jobs_of("A", CONFIG)}
    assert "queries:teacher@2" in needs["student:policy@2"] and "teacher:teacher@2" in needs["queries:teacher@2"]
    assert not any(need.startswith("queries") for row in ("baseline",) for need in needs[f"student:{row}@2"])


def test_an_unknown_tier_or_row_is_named() -> None:
    with pytest.raises(TrainingError, match="'D'"):
        jobs_of("D", CONFIG)
    with pytest.raises(TrainingError, match="nobody"):
        student_variant("nobody")
    with pytest.raises(TrainingError, match="@x"):
        parse_job("student:full@x")


def test_variants_change_what_they_say() -> None:
    config = compact()
    assert teacher_variant("teacher-no-ttc").change(config).reward.rules == tuple(r for r in RULES if r != "TTC")
    plain = teacher_variant("teacher-plain").change(config)
    assert plain.teacher.select_by == "nearest" and plain.losses.simulation_reward == 0.0
    assert student_config(config, student_variant("full-speed")).student.ego_inputs == ("speed",)
    assert student_config(config, student_variant("full-plus")).reward.rules[-2:] == ("TLC", "DDC")
    assert len({v.name for v in STUDENTS + TEACHERS}) == len(STUDENTS) + len(TEACHERS)


MARK = (
    "import sys; from pathlib import Path; from wpt_training.experiments.jobs import mark_done; "
    "mark_done(Path(sys.argv[1]), sys.argv[2], {'order': sys.argv[2]})"
)


def test_jobs_run_when_their_needs_are_done_and_only_once(tmp_path: Path) -> None:
    jobs = [Job(kind="a"), Job(kind="b", needs=("a",)), Job(kind="c", row="x", seed=2, needs=("b",))]
    said: list[str] = []

    def command(job, minutes):
        return [sys.executable, "-c", MARK, str(tmp_path), job.name]

    outcome = run_jobs(jobs, tmp_path, command, workers=2, say=said.append)
    assert outcome.complete and outcome.done == ["a", "b", "c:x@2"]
    assert facts_of(tmp_path, "c:x@2") == {"order": "c:x@2"}
    assert job_folder(tmp_path, "c:x@2") == tmp_path / "c" / "x@2"
    said.clear()
    assert run_jobs(jobs, tmp_path, command, workers=2, say=said.append).complete
    assert not any(line.startswith("begin") for line in said)


def test_a_failure_is_named_and_blocks_only_what_needs_it(tmp_path: Path) -> None:
    jobs = [Job(kind="bad"), Job(kind="after", needs=("bad",)), Job(kind="good")]

    def command(job, minutes):
        if job.kind == "bad":
            return [sys.executable, "-c", "import sys; print('no data: give --data'); sys.exit(1)"]
        return [sys.executable, "-c", MARK, str(tmp_path), job.name]

    outcome = run_jobs(jobs, tmp_path, command, workers=1, say=lambda line: None)
    assert outcome.failed == {"bad": "no data: give --data"}
    assert outcome.blocked == ["after"] and outcome.done == ["good"]
    assert not is_done(tmp_path, "after") and not outcome.complete


def test_when_the_time_is_over_jobs_wait_for_the_next_run(tmp_path: Path) -> None:
    jobs = [Job(kind="long"), Job(kind="next", needs=("long",))]
    minutes_left = []

    def command(job, minutes):
        minutes_left.append(minutes)
        return [sys.executable, "-c", "pass"]  # stopped by its time: ends well without having finished

    outcome = run_jobs(jobs, tmp_path, command, workers=1, max_minutes=5.0, say=lambda line: None)
    assert outcome.stopped == ["long", "next"] and not outcome.failed
    assert 4.0 < minutes_left[0] <= 5.0
    assert run_jobs(jobs, tmp_path, command, workers=1, max_minutes=0.0, say=lambda line: None).stopped == [
        "long",
        "next",
    ]


def test_unfinished_facts_are_a_named_error(tmp_path: Path) -> None:
    mark_done(tmp_path, "a", {"x": 1})
    assert is_done(tmp_path, "a")
    with pytest.raises(TrainingError, match="job b is not finished"):
        facts_of(tmp_path, "b")
