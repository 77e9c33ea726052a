"""A few threads that decode images as they arrive, so that little is left to do when the last camera of a set
comes.

An image that the worker waits for (claimed) goes first and is never dropped. Of the others at most two wait
per camera; a third drops the oldest. Two, because the newest complete set holds each camera's newest image or
the one before it: with one, a pool that cannot keep up would drop part of every set before it is taken, and
plan nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from wpt_planner.camera_image import CameraImage, CameraProblem, ProblemKind

MAX_WAITING_PER_CAMERA = 2


class PendingImage:
    """An image on its way through the pool. Thread-safe.

    camera, stamp_ns: whose and when. arrival_ns: steady time of arrival, as given.
    """

    def __init__(self, camera: str, stamp_ns: int, arrival_ns: int, pool: DecodePool | None = None):
        self.camera = camera
        self.stamp_ns = stamp_ns
        self.arrival_ns = arrival_ns
        self._pool = pool
        self._work: Callable[[float], CameraImage] | None = None
        self._submitted_s = 0.0
        self._finished = threading.Event()
        self._image: CameraImage | None = None
        self._problem: CameraProblem | None = None

    @property
    def done(self) -> bool:
        """There is a result or a problem."""
        return self._finished.is_set()

    @property
    def problem(self) -> CameraProblem | None:
        """What is wrong with it, as far as known; at once for an image that cannot be used at all."""
        return self._problem

    def claim(self) -> None:
        """Say that this image is wanted: it is decoded before unclaimed ones and no newer image drops it."""
        if self._pool is not None and not self.done:
            self._pool._claim(self)

    def cancel(self) -> None:
        """Say that nobody wants this image any more; without effect once its decoding has begun."""
        if self._pool is not None and not self.done:
            self._pool._cancel(self)

    def result(self, timeout_s: float) -> CameraImage:
        """Claim the image and wait at most ``timeout_s`` for it; raises CameraProblem."""
        self.claim()
        if not self._finished.wait(timeout_s):
            raise CameraProblem(
                self.camera,
                ProblemKind.TIMED_OUT,
                f"image of {self.camera} was not decoded within {timeout_s:g} s; give the planner more "
                "decode threads or fewer images",
            )
        if self._problem is not None:
            raise CameraProblem(self._problem.camera, self._problem.kind, self._problem.sentence)
        assert self._image is not None
        return self._image

    def finish(self, result: CameraImage | CameraProblem) -> PendingImage:
        """Set the outcome, once; wakes whoever waits. The raw message is let go."""
        if not self._finished.is_set():
            if isinstance(result, CameraProblem):
                self._problem = result
            else:
                self._image = result
            self._work = None
            self._finished.set()
        return self


class DecodePool:
    """Decodes submitted images in ``threads`` threads of its own until it is closed."""

    def __init__(self, threads: int):
        if threads < 1:
            raise ValueError(f"decode pool has {threads} threads, expected at least 1")
        self._claimed: deque[PendingImage] = deque()
        self._unclaimed: deque[PendingImage] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"decode-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait for a thread."""
        with self._changed:
            return len(self._claimed) + len(self._unclaimed)

    def submit(
        self, camera: str, stamp_ns: int, arrival_ns: int, work: Callable[[float], CameraImage]
    ) -> PendingImage:
        """Queue ``work``; it is called in a pool thread with the milliseconds that it waited.

        It returns the image or raises CameraProblem; any other exception becomes a CameraProblem too.
        """
        pending = PendingImage(camera, stamp_ns, arrival_ns, self)
        pending._work = work
        pending._submitted_s = time.monotonic()
        dropped = None
        with self._changed:
            if self._closed:
                return pending.finish(_closed(camera))
            waiting = [other for other in self._unclaimed if other.camera == camera]
            if len(waiting) >= MAX_WAITING_PER_CAMERA:
                dropped = waiting[0]
                self._unclaimed.remove(dropped)
            self._unclaimed.append(pending)
            self._changed.notify()
        if dropped is not None:
            dropped.finish(
                CameraProblem(
                    camera,
                    ProblemKind.DROPPED,
                    f"image of {camera} was dropped undecoded because newer ones arrived faster than they "
                    "are decoded; give the planner more decode threads or fewer images",
                )
            )
        return pending

    def close(self, timeout_s: float = 2.0) -> bool:
        """Fail whatever waits, end the threads; return whether all ended within ``timeout_s``."""
        with self._changed:
            self._closed = True
            left = [*self._claimed, *self._unclaimed]
            self._claimed.clear()
            self._unclaimed.clear()
            self._changed.notify_all()
        for pending in left:
            pending.finish(_closed(pending.camera))
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _claim(self, pending: PendingImage) -> None:
        with self._changed:
            if pending in self._unclaimed:
                self._unclaimed.remove(pending)
                self._claimed.append(pending)

    def _cancel(self, pending: PendingImage) -> None:
        with self._changed:
            queue = next((q for q in (self._unclaimed, self._claimed) if pending in q), None)
            if queue is None:
                return
            queue.remove(pending)
        pending.finish(
            CameraProblem(
                pending.camera,
                ProblemKind.CANCELLED,
                f"image of {pending.camera} was not decoded because its set was given up",
            )
        )

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._claimed and not self._unclaimed:
                    self._changed.wait()
                if self._closed:
                    return
                pending = (self._claimed or self._unclaimed).popleft()
            work = pending._work
            assert work is not None
            try:
                pending.finish(work(1e3 * (time.monotonic() - pending._submitted_s)))
            except CameraProblem as problem:
                pending.finish(problem)
            except Exception as error:
                pending.finish(
                    CameraProblem(
                        pending.camera,
                        ProblemKind.UNREADABLE,
                        f"image of {pending.camera} cannot be decoded ({type(error).__name__}: {error}); "
                        "check its sender",
                    )
                )
            del work, pending  # an idle thread holds no raw image


def _closed(camera: str) -> CameraProblem:
    return CameraProblem(
        camera, ProblemKind.CLOSED, f"image of {camera} was not decoded because the planner is not active"
    )
