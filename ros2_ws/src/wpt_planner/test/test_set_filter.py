"""SetFilter and ApproximateTimeFilter: one interface, callbacks that may fail, order kept, nothing lost."""

from __future__ import annotations

import importlib.util
import sys
import threading
import types
from dataclasses import dataclass

import pytest
from wpt_planner.set_assembler import ClockJump, ImageOutcome, Outcome, UnknownCameraError
from wpt_planner.set_filter import ApproximateTimeFilter, MessageFiltersMissingError, SetFilter

MS = 1_000_000
START = 1_600_000_000_000_000_000
PERIOD = 83_333_333
CAMERAS = tuple(f"cam_{i}" for i in range(6))


class NearestSynchronizer:
    """As much of message_filters.ApproximateTimeSynchronizer as the adapter uses: the nearest of each queue,
    in slop.

    Like the original it calls back with its lock held and keeps the lock when the callback raises.
    """

    def __init__(self, inputs, queue_size, slop):
        self.lock = threading.Lock()
        self.queue_size = queue_size
        self.slop_ns = slop * 1e9
        self.queues = [{} for _ in inputs]
        self.callbacks = []
        for source, queue in zip(inputs, self.queues, strict=True):
            source.registerCallback(self.add, queue)

    def registerCallback(self, callback, *args):
        self.callbacks.append((callback, args))

    def add(self, message, queue):
        assert self.lock.acquire(timeout=5), "the lock was left held by a callback that raised"
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        queue[stamp] = message
        while len(queue) > self.queue_size:
            del queue[min(queue)]
        if all(self.queues):
            nearest = [min(other, key=lambda candidate: abs(candidate - stamp)) for other in self.queues]
            if max(nearest) - min(nearest) < self.slop_ns:
                messages = [other.pop(key) for other, key in zip(self.queues, nearest, strict=True)]
                for callback, args in self.callbacks:
                    callback(*messages, *args)
        self.lock.release()


@pytest.fixture
def message_filters(monkeypatch):
    """The module as far as the adapter needs it, whether or not the real one is installed."""
    module = types.ModuleType("message_filters")
    module.ApproximateTimeSynchronizer = NearestSynchronizer
    monkeypatch.setitem(sys.modules, "message_filters", module)


@pytest.fixture(params=["own", "approximate"])
def make(request, message_filters):
    """Either filter, with the same arguments."""
    if request.param == "own":
        return lambda **hooks: SetFilter(CAMERAS, max_skew_ns=50 * MS, timeout_ns=100 * MS, **hooks)
    return lambda **hooks: ApproximateTimeFilter(CAMERAS, slop_ns=50 * MS, **hooks)


def feed(sets, cycles, *, dead=None, dead_from=0, begin=0):
    for cycle in cycles:
        for index, camera in enumerate(CAMERAS):
            stamp = START + cycle * PERIOD + index * 5 * MS
            if camera != dead or cycle < dead_from:
                sets.add(camera, stamp, cycle, begin + stamp - START)


def test_callbacks_get_the_set_and_their_arguments(make) -> None:
    sets = make()
    seen = []
    first = sets.registerCallback(lambda one, *args: seen.append((one.set_id, args)), "a", 1)
    second = sets.registerCallback(lambda one: seen.append(one.set_id))
    assert first != second
    feed(sets, range(1))
    assert seen == [(1, ("a", 1)), 1]
    sets.unregisterCallback(first)
    sets.unregisterCallback(first)  # unknown by now, and no harm
    third = sets.registerCallback(lambda one: None)
    assert third not in (first, second)
    feed(sets, range(1, 2))
    assert seen == [(1, ("a", 1)), 1, 2]


def test_both_filters_give_the_same_sets(message_filters) -> None:
    results = []
    for sets in (
        SetFilter(CAMERAS, max_skew_ns=50 * MS, timeout_ns=100 * MS),
        ApproximateTimeFilter(CAMERAS, slop_ns=50 * MS),
    ):
        seen = []
        sets.registerCallback(seen.append)
        feed(sets, range(30))
        results.append(
            [
                (
                    one.set_id,
                    tuple(one.images),
                    [(image.stamp_ns, image.item, image.arrival_ns) for image in one.images.values()],
                    one.missing,
                    one.reference_stamp_ns,
                    one.skew_ns,
                    one.complete,
                    one.reason,
                    one.opened_ns,
                    one.closed_ns,
                )
                for one in seen
            ]
        )
    assert len(results[0]) == 30
    assert results[0] == results[1]


def test_callback_that_raises_is_counted_and_reported_and_assembly_goes_on(make) -> None:
    reports = []
    seen = []
    sets = make(on_error=lambda sentence, error: reports.append((sentence, error)))

    def broken(one):
        if one.set_id == 3:
            raise RuntimeError("no such tensor")

    sets.registerCallback(broken)
    sets.registerCallback(lambda one: seen.append(one.set_id))
    feed(sets, range(100))
    assert seen == list(range(1, 101))  # the set reached the other callback, and every later one came
    assert sets.callback_errors == 1
    ((sentence, error),) = reports
    assert "broken raised RuntimeError: no such tensor" in sentence and isinstance(error, RuntimeError)


def test_hooks_that_raise_do_no_harm(make) -> None:
    def fail(*_):
        raise ValueError("hook")

    sets = make(on_error=fail, on_event=fail)
    seen = []
    sets.registerCallback(seen.append)
    feed(sets, range(5))
    assert len(seen) == 5
    assert sets.callback_errors == 2 * 30  # thirty outcomes, each time the event hook and then the error hook


def test_keyboard_interrupt_passes_and_the_next_image_is_taken(make) -> None:
    sets = make()
    seen = []

    def interrupted(one):
        seen.append(one.set_id)
        if one.set_id == 1:
            raise KeyboardInterrupt

    sets.registerCallback(interrupted)
    with pytest.raises(KeyboardInterrupt):
        feed(sets, range(1))
    feed(sets, range(1, 3))
    assert seen == [1, 2, 3]


def test_callback_may_use_the_filter_itself(make) -> None:
    sets = make()
    seen = []

    def reenter(one):
        if one.set_id == 1:
            sets.poll(one.closed_ns)
            sets.add("cam_0", START + PERIOD, 1, one.closed_ns)
        seen.append(one.set_id)

    sets.registerCallback(reenter)
    feed(sets, range(1))
    for index, camera in enumerate(CAMERAS[1:], start=1):
        sets.add(camera, START + PERIOD + index * 5 * MS, 1, 200 * MS)
    assert seen == [1, 2]


def test_events_reach_the_hook_and_every_image_is_accounted_for(make) -> None:
    events = []
    sets = make(on_event=events.append)
    feed(sets, range(10), dead="cam_3", dead_from=6)
    sets.poll(10**12)
    sets.reset(10**12)
    outcomes = [event for event in events if isinstance(event, ImageOutcome)]
    assert len(outcomes) == 6 * 6 + 4 * 5
    assert sum(event.outcome is Outcome.USED for event in outcomes) >= 36


def test_sets_are_delivered_in_order_and_no_lock_is_held_meanwhile(make) -> None:
    sets = make()
    seen = []
    added = threading.Event()

    def add_the_next_cycle():
        feed(sets, range(1, 2))
        added.set()

    def slow(one):
        if one.set_id == 1:
            thread.start()
            assert added.wait(10.0), "the next images wait for a callback"
        seen.append((one.set_id, threading.current_thread().name))

    thread = threading.Thread(target=add_the_next_cycle)
    sets.registerCallback(slow)
    feed(sets, range(1))
    thread.join(10.0)
    here = threading.current_thread().name
    assert seen == [(1, here), (2, here)]  # the second one waited its turn, and its thread went on
    assert sets.callback_errors == 0


def test_many_threads_lose_no_set(make) -> None:
    sets = make()
    seen = []
    sets.registerCallback(lambda one: seen.append(one.set_id))
    cycle_done = threading.Barrier(len(CAMERAS), timeout=20)

    def publish(index, camera):
        for cycle in range(40):
            sets.add(camera, START + cycle * PERIOD + index * 5 * MS, cycle, cycle * PERIOD)
            cycle_done.wait()

    threads = [threading.Thread(target=publish, args=entry) for entry in enumerate(CAMERAS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == list(range(1, 41))
    assert sets.callback_errors == 0


@dataclass
class Stamp:
    sec: int
    nanosec: int


@dataclass
class Message:
    """Any message with header.stamp; its header is itself here."""

    stamp: Stamp

    @property
    def header(self):
        return self


class Source:
    def __init__(self):
        self.connections = []

    def registerCallback(self, callback, *args):
        self.connections.append((callback, args))
        return len(self.connections)

    def publish(self, stamp_ns):
        message = Message(Stamp(*divmod(stamp_ns, 10**9)))
        for callback, args in self.connections:
            callback(message, *args)


def test_inputs_are_connected_as_to_a_message_filter(make) -> None:
    ticks = iter(range(10**9))
    sets = make(clock=lambda: next(ticks))
    sources = {camera: Source() for camera in CAMERAS}
    sets.connectInput(sources)
    seen = []
    sets.registerCallback(seen.append)
    for index, source in enumerate(sources.values()):
        source.publish(START + index * 5 * MS + 123)
    (one,) = seen
    assert one.reference_stamp_ns == START + 25 * MS + 123
    assert isinstance(one.images["cam_0"].item, Message)
    with pytest.raises(UnknownCameraError, match="cam_9"):
        sets.connectInput({"cam_9": Source()})
    with pytest.raises(UnknownCameraError, match="cam_9"):
        sets.add("cam_9", START, None)


def test_own_filter_passes_clock_jumps_on() -> None:
    events = []
    sets = SetFilter(CAMERAS, max_skew_ns=50 * MS, timeout_ns=100 * MS, on_event=events.append)
    seen = []
    sets.registerCallback(seen.append)
    feed(sets, range(30))
    feed(sets, range(30), begin=40 * PERIOD)
    assert sum(isinstance(event, ClockJump) for event in events) == 1
    assert len(seen) == 60
    assert sets.next_deadline_ns() is None


def test_approximate_filter_names_the_missing_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "message_filters", None)
    with pytest.raises(MessageFiltersMissingError, match="message_filters is not installed.*built-in"):
        ApproximateTimeFilter(CAMERAS, slop_ns=50 * MS)


def test_approximate_filter_outcomes_and_reset(message_filters) -> None:
    events = []
    sets = ApproximateTimeFilter(CAMERAS, slop_ns=50 * MS, queue_size=3, on_event=events.append)
    seen = []
    sets.registerCallback(seen.append)
    for cycle in range(5):
        sets.add("cam_0", START + cycle * PERIOD, cycle, 0)
    sets.add("cam_0", START + 4 * PERIOD, "again", 0)
    sets.add("cam_0", 0, "zero", 0)
    sets.add("cam_0", 2**31 * 10**9, "2038", 0)
    assert [(event.outcome, event.item) for event in events] == [
        (Outcome.SUPERSEDED, 0),
        (Outcome.SUPERSEDED, 1),
        (Outcome.DUPLICATE, "again"),
        (Outcome.INVALID, "zero"),
        (Outcome.INVALID, "2038"),
    ]
    sets.reset(0)
    assert [event.item for event in events[5:]] == [2, 3, 4]
    assert {event.outcome for event in events[5:]} == {Outcome.RESET}
    # The new time line's first images came before the reset and are kept.
    sets.add("cam_0", START - 100 * PERIOD, "old", 0)
    sets.add("cam_0", START, "new", 0)
    sets.reset(0, keep_stamp_ns=START)
    assert events[-1].item == "old"
    for index, camera in enumerate(CAMERAS[1:], start=1):
        sets.add(camera, START + index * 5 * MS, "new", 0)
    assert len(seen) == 1
    for arguments in ({"slop_ns": 0}, {"queue_size": 0}, {"cameras": ("a", "a")}):
        with pytest.raises(ValueError):
            ApproximateTimeFilter(**{"cameras": CAMERAS, "slop_ns": MS, **arguments})


@pytest.mark.skipif(
    importlib.util.find_spec("message_filters") is None, reason="message_filters is not installed here"
)
def test_restart_with_a_dead_camera_compared_with_message_filters() -> None:
    counts = []
    for sets in (
        SetFilter(CAMERAS, max_skew_ns=50 * MS, timeout_ns=100 * MS),
        ApproximateTimeFilter(CAMERAS, slop_ns=50 * MS, queue_size=10),
    ):
        complete = []
        sets.registerCallback(lambda one, found=complete: found.append(one) if one.complete else None)
        feed(sets, range(100), dead="cam_3", dead_from=90)
        first_pass = len(complete)
        feed(sets, range(100), begin=101 * PERIOD)
        counts.append(len(complete) - first_pass)
    assert counts[0] == 100
    assert counts[1] <= counts[0]  # 10 where the class was measured
