"""The worker: newest job wins, every job ends once, exceptions do not end it, stop joins it."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_planner.plan_worker import PlanWorker

LIMIT_S = 10.0


class Gate:
    """Work that waits until it is let go, so that a test decides what is in work."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.done: list[int] = []
        self.skipped: list[int] = []
        self.failed: list[tuple[int, Exception]] = []

    def work(self, job: int) -> None:
        self.begun.set()
        assert self.go.wait(LIMIT_S)
        if job < 0:
            raise SystemExit("enough") if job == -2 else ValueError("bad job")
        self.done.append(job)

    def worker(self) -> PlanWorker[int]:
        worker = PlanWorker(
            self.work,
            on_skipped=self.skipped.append,
            on_error=lambda job, error: self.failed.append((job, error)),
        )
        worker.start()
        return worker


def test_the_newest_job_wins_and_the_others_are_skipped() -> None:
    gate = Gate()
    worker = gate.worker()
    worker.submit(1)
    assert gate.begun.wait(LIMIT_S)
    for job in (2, 3, 4):
        worker.submit(job)
    assert gate.skipped == [2, 3]
    gate.go.set()
    assert worker.wait_until_idle(LIMIT_S)
    assert gate.done == [1, 4]
    assert worker.stop(LIMIT_S) == (True, None)


@pytest.mark.parametrize(("bad", "kind"), [(-1, ValueError), (-2, SystemExit)])
def test_an_exception_is_handed_over_and_the_next_job_runs(bad: int, kind: type[BaseException]) -> None:
    gate = Gate()
    gate.go.set()
    worker = gate.worker()
    worker.submit(bad)
    assert worker.wait_until_idle(LIMIT_S)
    worker.submit(2)
    assert worker.wait_until_idle(LIMIT_S)
    assert [job for job, _ in gate.failed] == [bad] and isinstance(gate.failed[0][1], kind)
    assert gate.done == [2]
    worker.stop(LIMIT_S)


def test_stop_returns_the_waiting_job_and_takes_no_more() -> None:
    gate = Gate()
    worker = gate.worker()
    worker.submit(1)
    assert gate.begun.wait(LIMIT_S)
    worker.submit(2)
    assert worker.stop(0.0) == (False, 2)
    gate.go.set()
    assert worker.stop(LIMIT_S) == (True, None)
    assert gate.done == [1]
    with pytest.raises(RuntimeError):
        worker.submit(3)


def test_a_job_can_be_withdrawn() -> None:
    gate = Gate()
    worker = gate.worker()
    worker.submit(1)
    assert gate.begun.wait(LIMIT_S)
    worker.submit(2)
    assert worker.withdraw() == 2
    assert worker.withdraw() is None
    gate.go.set()
    worker.stop(LIMIT_S)
    assert gate.done == [1] and gate.skipped == []


@settings(max_examples=30)
@given(st.lists(st.integers(-5, 5), max_size=30))
def test_every_job_ends_exactly_once(jobs: list[int]) -> None:
    ended: Counter[int] = Counter()
    lock = threading.Lock()

    def end(index: int) -> None:
        with lock:
            ended[index] += 1

    def work(job: tuple[int, int]) -> None:
        if job[1] < 0:
            raise ValueError
        end(job[0])

    worker = PlanWorker(work, on_skipped=lambda job: end(job[0]), on_error=lambda job, error: end(job[0]))
    worker.start()
    for index, job in enumerate(jobs):
        worker.submit((index, job))
    ended_in_time, left = worker.stop(LIMIT_S)
    assert ended_in_time
    if left is not None:
        end(left[0])
    assert ended == Counter(range(len(jobs)))
