"""One thread that works on the newest job only: what it cannot keep up with is skipped and counted, never queued."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class PlanWorker(Generic[Job]):
    """Runs ``work(job)`` in its own thread; at most one job runs and at most one waits.

    Every submitted job ends in exactly one of: ``work`` was called with it, ``on_skipped`` was called with it (by the
    thread that submitted the newer job), or ``stop`` or ``withdraw`` returned it. ``on_error(job, error)`` is called in
    the worker's thread when ``work`` raises; the worker goes on.
    """

    def __init__(
        self,
        work: Callable[[Job], None],
        *,
        on_skipped: Callable[[Job], None],
        on_error: Callable[[Job, BaseException], None],
        name: str = "plan_worker",
    ) -> None:
        self._work = work
        self._on_skipped = on_skipped
        self._on_error = on_error
        self._condition = threading.Condition()
        self._waiting: Job | None = None
        self._busy = False
        self._stopping = False
        # A daemon: a planner that hangs must not keep the process from ending (see stop).
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread still runs, after stop: a job that hangs keeps it."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand over a job; a job that still waits is skipped. After stop, raises RuntimeError."""
        with self._condition:
            if self._stopping:
                raise RuntimeError("the plan worker has been stopped, expected no more jobs")
            skipped, self._waiting = self._waiting, job
            self._condition.notify_all()
        if skipped is not None:
            self._on_skipped(skipped)

    def withdraw(self) -> Job | None:
        """Take back the job that waits, if any; one that runs is not touched."""
        with self._condition:
            job, self._waiting = self._waiting, None
            self._condition.notify_all()
            return job

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs and nothing waits; return whether that came within timeout_s."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._busy and self._waiting is None, timeout_s)

    def stop(self, timeout_s: float) -> tuple[bool, Job | None]:
        """End after the running job; return (ended within timeout_s, the job that still waited)."""
        with self._condition:
            self._stopping = True
            job, self._waiting = self._waiting, None
            self._condition.notify_all()
        if not self._thread.is_alive():
            return True, job
        self._thread.join(timeout_s)
        return not self._thread.is_alive(), job

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._waiting is not None)
                if self._stopping:
                    return
                job, self._waiting = self._waiting, None
                self._busy = True
            try:
                self._work(job)
            except BaseException as error:  # noqa: BLE001 - whatever a planner raises, SystemExit too, the next set gets its turn
                self._on_error(job, error)
            finally:
                with self._condition:
                    self._busy = False
                    self._condition.notify_all()
                job = None  # the images of a finished set are not kept while waiting
