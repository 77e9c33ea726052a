from __future__ import annotations

import threading
import weakref

import pytest
from wpt_planner.camera_image import CameraImage, CameraProblem, ProblemKind
from wpt_planner.decode_pool import DecodePool

BOUND_S = 10.0  # nothing here takes that long; a wait that does has failed


def image(stamp_ns: int, waited_ms: float = 0.0) -> CameraImage:
    return CameraImage(
        stamp_ns=stamp_ns, pixels=None, source_width=4, source_height=3, frame_id="cam", waited_ms=waited_ms
    )


class Gate:
    """Work that says when it begins and waits until it may end."""

    def __init__(self):
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, waited_ms: float) -> CameraImage:
        self.begun.set()
        assert self.may_end.wait(BOUND_S)
        return image(0, waited_ms)


@pytest.fixture
def pool():
    made = DecodePool(1)
    yield made
    assert made.close(BOUND_S)


@pytest.fixture
def busy(pool):
    """The pool's one thread is held until the gate is opened."""
    gate = Gate()
    held = pool.submit("held", 0, 0, gate)
    assert gate.begun.wait(BOUND_S)
    yield gate
    gate.may_end.set()
    held.result(BOUND_S)


def kind_of(pending) -> ProblemKind:
    with pytest.raises(CameraProblem) as error:
        pending.result(BOUND_S)
    assert error.value.sentence == str(error.value) and pending.camera in error.value.sentence
    return error.value.kind


def test_a_result_comes_with_how_long_it_waited(pool) -> None:
    pending = pool.submit("cam", 7, 11, lambda waited_ms: image(7, waited_ms))
    result = pending.result(BOUND_S)
    assert (result.stamp_ns, pending.stamp_ns, pending.arrival_ns, pending.camera) == (7, 7, 11, "cam")
    assert result.waited_ms >= 0 and pending.done and pending.problem is None


def test_work_that_fails_is_a_problem_and_the_thread_goes_on(pool) -> None:
    def refuse(_):
        raise CameraProblem("cam", ProblemKind.UNREADABLE, "cam sent a cut image")

    def crash(_):
        raise ZeroDivisionError("division by zero")

    assert kind_of(pool.submit("cam", 1, 0, refuse)) is ProblemKind.UNREADABLE
    crashed = pool.submit("cam", 2, 0, crash)
    assert kind_of(crashed) is ProblemKind.UNREADABLE
    assert "ZeroDivisionError" in crashed.problem.sentence
    assert pool.submit("cam", 3, 0, lambda _: image(3)).result(BOUND_S).stamp_ns == 3


def test_waiting_is_bounded(pool, busy) -> None:
    pending = pool.submit("cam", 1, 0, lambda _: image(1))
    with pytest.raises(CameraProblem) as error:
        pending.result(0.01)
    assert error.value.kind is ProblemKind.TIMED_OUT
    busy.may_end.set()
    assert pending.result(BOUND_S).stamp_ns == 1


def test_at_most_two_images_of_a_camera_wait_and_the_oldest_goes(pool, busy) -> None:
    mine = [pool.submit("cam", i, 0, lambda _, i=i: image(i)) for i in range(5)]
    other = pool.submit("other", 0, 0, lambda _: image(0))
    assert [pending.done for pending in mine] == [True, True, True, False, False]
    assert pool.waiting == 3
    assert all(kind_of(pending) is ProblemKind.DROPPED for pending in mine[:3])
    busy.may_end.set()
    assert [pending.result(BOUND_S).stamp_ns for pending in (*mine[3:], other)] == [3, 4, 0]


def test_claimed_images_are_never_dropped_and_go_first(pool, busy) -> None:
    order: list[str] = []

    def work(name):
        def run(_):
            order.append(name)
            return image(0)

        return run

    first = pool.submit("cam", 1, 0, work("older, unclaimed"))
    wanted = pool.submit("cam", 2, 0, work("wanted"))
    wanted.claim()
    wanted.claim()
    newer = [pool.submit("cam", i, 0, work(f"newer {i}")) for i in (3, 4)]
    assert kind_of(first) is ProblemKind.DROPPED
    assert not wanted.done
    busy.may_end.set()
    for pending in (wanted, *newer):
        pending.result(BOUND_S)
    assert order == ["wanted", "newer 3", "newer 4"]


def test_whoever_waits_for_a_result_claims_it(pool, busy) -> None:
    order: list[int] = []

    def work(i):
        def run(_):
            order.append(i)
            return image(i)

        return run

    pendings = [pool.submit(f"cam{i}", i, 0, work(i)) for i in range(4)]
    with pytest.raises(CameraProblem):
        pendings[3].result(0.0)
    busy.may_end.set()
    for pending in pendings:
        pending.result(BOUND_S)
    assert order == [3, 0, 1, 2]


def test_a_pool_that_cannot_keep_up_still_decodes_whole_sets() -> None:
    """Three cameras deliver five sets while one is decoded. Sets complete when their last camera comes.

    The worker takes the newest complete set at a moment when the next set is half there; with one place per
    camera that half would have dropped its images.
    """
    pool = DecodePool(1)
    gate = Gate()
    blocker = pool.submit("blocker", 0, 0, gate)
    assert gate.begun.wait(BOUND_S)
    for cycle in range(1, 6):
        complete = [pool.submit(f"cam{i}", cycle, 0, lambda _, cycle=cycle: image(cycle)) for i in range(3)]
    half = [pool.submit(f"cam{i}", 6, 0, lambda _: image(6)) for i in range(2)]
    for pending in complete:
        pending.claim()
    for cycle in range(7, 10):
        half = [pool.submit(f"cam{i}", cycle, 0, lambda _, cycle=cycle: image(cycle)) for i in range(3)]
    gate.may_end.set()
    assert [pending.result(BOUND_S).stamp_ns for pending in complete] == [5, 5, 5]
    assert [pending.result(BOUND_S).stamp_ns for pending in half] == [9, 9, 9]
    blocker.result(BOUND_S)
    assert pool.close(BOUND_S)


def test_cancelled_images_are_not_decoded(pool, busy) -> None:
    called = []
    unclaimed = pool.submit("cam", 1, 0, called.append)
    claimed = pool.submit("cam", 2, 0, called.append)
    claimed.claim()
    unclaimed.cancel()
    claimed.cancel()
    assert kind_of(unclaimed) is kind_of(claimed) is ProblemKind.CANCELLED
    assert pool.waiting == 0
    busy.may_end.set()
    done = pool.submit("cam", 3, 0, lambda _: image(3))
    assert done.result(BOUND_S).stamp_ns == 3 and called == []
    done.cancel()  # too late: without effect
    assert done.result(0).stamp_ns == 3


def test_close_fails_what_waits_and_what_comes_later() -> None:
    pool = DecodePool(2)
    gates = [Gate(), Gate()]
    running = [pool.submit(f"cam{i}", i, 0, gate) for i, gate in enumerate(gates)]
    assert all(gate.begun.wait(BOUND_S) for gate in gates)
    waiting = pool.submit("cam", 1, 0, lambda _: image(1))
    assert not pool.close(0.0)  # two threads are at work
    assert kind_of(waiting) is ProblemKind.CLOSED
    assert kind_of(pool.submit("cam", 2, 0, lambda _: image(2))) is ProblemKind.CLOSED
    for gate in gates:
        gate.may_end.set()
    assert pool.close(BOUND_S)
    assert all(pending.result(0).waited_ms >= 0 for pending in running)


def test_the_raw_message_is_let_go_once_decoded(pool) -> None:
    class Message:
        pass

    message = Message()
    gone = threading.Event()
    watch = weakref.ref(message, lambda _: gone.set())
    pending = pool.submit("cam", 1, 0, lambda _, message=message: image(1))
    del message
    pending.result(BOUND_S)
    # Although the result is still held and the thread is idle.
    assert gone.wait(BOUND_S) and watch() is None


def test_a_pool_needs_threads() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DecodePool(0)
