"""Set assembly behind the interface of a message_filters filter, by SetAssembler or message_filters itself.

Both classes take images one by one and call every registered callback with a CameraSet. A callback that
raises is counted and reported, and the next image is taken as ever (message_filters' Python synchroniser
keeps its lock when a callback raises, and every later image then blocks for ever).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from wpt_planner.camera_set import (
    CameraSet,
    CloseReason,
    Event,
    ImageOutcome,
    Outcome,
    SetReady,
    StampedItem,
)
from wpt_planner.set_assembler import SetAssembler, UnknownCameraError

_NANOSECONDS = 1_000_000_000

# builtin_interfaces/Time holds seconds in 32 bits.
_LATEST_STAMP_NS = 2**31 * _NANOSECONDS


class MessageFiltersMissingError(ImportError):
    """ApproximateTimeFilter was asked for where message_filters is not installed."""


class MessageFilter(Protocol):
    """What message_filters calls a filter: its Subscriber, or any object with this method."""

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> int: ...


class _Delivery:
    """Callbacks, and how events reach them: one at a time, in the order they were made, no lock held.

    Events that come while another thread (or the callback itself) is delivering are left to that one.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None] | None,
        on_error: Callable[[str, Exception], None] | None,
    ) -> None:
        self._on_event = on_event
        self._on_error = on_error
        self._callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._next_id = 0
        self._lock = threading.Lock()
        self._queue: deque[Event] = deque()
        self._delivering = False
        self._errors = 0

    @property
    def callback_errors(self) -> int:
        """Exceptions that callbacks and hooks have raised."""
        return self._errors

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> int:
        """Call ``callback(camera_set, *args)`` with every set; returns the number to unregister it by."""
        with self._lock:
            number = self._next_id
            self._next_id += 1
            self._callbacks = {**self._callbacks, number: (callback, args)}
        return number

    def unregisterCallback(self, number: int) -> None:
        """Call it no more; an unknown number is ignored."""
        with self._lock:
            self._callbacks = {key: value for key, value in self._callbacks.items() if key != number}

    def signalMessage(self, camera_set: CameraSet) -> None:
        """Call every callback; one that raises does not keep the set from the others."""
        for callback, args in tuple(self._callbacks.values()):
            self._guarded(callback, camera_set, *args)

    def _deliver(self, make_events: Callable[[], Sequence[Event]]) -> None:
        with self._lock:
            self._queue.extend(make_events())
            if self._delivering or not self._queue:
                return
            self._delivering = True
        try:
            while True:
                with self._lock:
                    if not self._queue:
                        self._delivering = False
                        return
                    event = self._queue.popleft()
                if isinstance(event, SetReady):
                    self.signalMessage(event.camera_set)
                elif self._on_event is not None:
                    self._guarded(self._on_event, event)
        except BaseException:  # a KeyboardInterrupt in a callback must not block the next image
            with self._lock:
                self._delivering = False
            raise

    def _guarded(self, callback: Callable[..., Any], *args: Any) -> None:
        try:
            callback(*args)
        except Exception as error:
            self._errors += 1
            if self._on_error is None:
                return
            name = getattr(callback, "__qualname__", repr(callback))
            sentence = (
                f"{name} raised {type(error).__name__}: {error}; the set is lost to it, assembly goes on"
            )
            try:
                self._on_error(sentence, error)
            except Exception:  # a hook that fails as well has nowhere left to report to but the count
                self._errors += 1


class SetFilter(_Delivery):
    """SetAssembler as a filter; arguments as there. Thread-safe."""

    def __init__(
        self,
        cameras: Sequence[str],
        *,
        max_skew_ns: int,
        timeout_ns: int,
        capacity: int = 8,
        on_event: Callable[[Event], None] | None = None,
        on_error: Callable[[str, Exception], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """on_event: gets all events but SetReady. on_error: a sentence and the exception. clock: steady, ns."""
        super().__init__(on_event, on_error)
        self._clock = clock
        self.assembler = SetAssembler(
            cameras, max_skew_ns=max_skew_ns, timeout_ns=timeout_ns, capacity=capacity
        )

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.assembler.cameras

    def connectInput(self, inputs: Mapping[str, MessageFilter]) -> None:
        """Take messages with header.stamp from one filter per camera. Raises UnknownCameraError."""
        _connect(self, inputs)

    def add(self, camera: str, stamp_ns: int, item: object, now_ns: int | None = None) -> None:
        """Take one image. Raises UnknownCameraError."""
        now = self._clock() if now_ns is None else now_ns
        self._deliver(lambda: self.assembler.add(camera, stamp_ns, item, now))

    def poll(self, now_ns: int | None = None) -> None:
        """Close sets that have timed out."""
        now = self._clock() if now_ns is None else now_ns
        self._deliver(lambda: self.assembler.poll(now))

    def next_deadline_ns(self) -> int | None:
        """Steady time at which poll will next have something to look at."""
        return self.assembler.next_deadline_ns()

    def reset(self, now_ns: int | None = None, keep_stamp_ns: int | None = None) -> None:
        """Forget all images but those on the time line of ``keep_stamp_ns``."""
        now = self._clock() if now_ns is None else now_ns
        self._deliver(lambda: self.assembler.reset(now, keep_stamp_ns))


@dataclass(slots=True)
class _Header:
    stamp: object  # builtin_interfaces/Time, which rclpy.time.Time.from_msg insists on


@dataclass(slots=True, eq=False)
class _StampedMessage:
    """What the synchroniser queues in place of an image."""

    header: _Header
    camera: str
    stamped: StampedItem


class _Input:
    """A filter that passes on what it is given; all the synchroniser asks of an input."""

    def __init__(self) -> None:
        self._connections: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> int:
        self._connections.append((callback, args))
        return len(self._connections) - 1

    def signal(self, message: _StampedMessage) -> None:
        for callback, args in self._connections:
            callback(message, *args)


class ApproximateTimeFilter(_Delivery):
    """message_filters.ApproximateTimeSynchronizer behind the interface of SetFilter, for comparison.
    Thread-safe.

    Its callback here only stores the set, so it cannot raise inside the synchroniser's lock; reset builds it
    anew. It has no time-out: only complete sets come out, a camera that fails silences it, and an image's
    outcome is used, superseded (pushed out of its queue), duplicate or reset. Cycles are mixed where slop
    allows it.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        *,
        slop_ns: int,
        queue_size: int = 10,
        on_event: Callable[[Event], None] | None = None,
        on_error: Callable[[str, Exception], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """slop_ns: sets span less. queue_size: images kept per camera. Raises MessageFiltersMissingError."""
        try:
            from builtin_interfaces.msg import Time
            from message_filters import ApproximateTimeSynchronizer
        except ImportError as error:
            raise MessageFiltersMissingError(
                "message_filters is not installed, so its ApproximateTimeSynchronizer cannot be used; install"
                " ros-<distribution>-message-filters or choose the built-in set assembler"
            ) from error
        super().__init__(on_event, on_error)
        if not cameras or len(set(cameras)) != len(cameras) or slop_ns <= 0 or queue_size < 1:
            raise ValueError(
                f"cameras {list(cameras)}, slop {slop_ns} ns, queue_size {queue_size}: expected each"
                " camera once, a positive slop and at least one image per queue"
            )
        self.cameras = tuple(cameras)
        self._synchronizer_class = ApproximateTimeSynchronizer
        self._time_class = Time
        self._slop_ns = slop_ns
        self._queue_size = queue_size
        self._clock = clock
        self._next_set_id = 1
        self._build()

    def connectInput(self, inputs: Mapping[str, MessageFilter]) -> None:
        """Take messages with header.stamp from one filter per camera. Raises UnknownCameraError."""
        _connect(self, inputs)

    def add(self, camera: str, stamp_ns: int, item: object, now_ns: int | None = None) -> None:
        """Take one image. Raises UnknownCameraError."""
        if camera not in self._inputs:
            raise UnknownCameraError(f"camera {camera!r} is not one of the rig's {list(self.cameras)}")
        now = self._clock() if now_ns is None else now_ns
        self._deliver(lambda: self._add(camera, stamp_ns, item, now))

    def poll(self, now_ns: int | None = None) -> None:
        """Nothing times out here."""

    def next_deadline_ns(self) -> int | None:
        """None: nothing times out here."""
        return None

    def reset(self, now_ns: int | None = None, keep_stamp_ns: int | None = None) -> None:
        """Build the synchroniser anew and feed it with what lies within a second of ``keep_stamp_ns``."""
        now = self._clock() if now_ns is None else now_ns
        self._deliver(lambda: self._reset(now, keep_stamp_ns))

    def _build(self) -> None:
        self._inputs = {camera: _Input() for camera in self.cameras}
        # The synchroniser's queues, followed so that every image gets its outcome.
        self._queued: dict[str, dict[int, StampedItem]] = {camera: {} for camera in self.cameras}
        self._matched: list[tuple[_StampedMessage, ...]] = []
        self._synchronizer = self._synchronizer_class(
            list(self._inputs.values()), self._queue_size, self._slop_ns / _NANOSECONDS
        )
        self._synchronizer.registerCallback(self._store)

    def _store(self, *messages: _StampedMessage) -> None:
        self._matched.append(messages)

    def _add(self, camera: str, stamp_ns: int, item: object, now: int) -> list[Event]:
        if not 0 < stamp_ns < _LATEST_STAMP_NS:
            return [ImageOutcome(camera, stamp_ns, Outcome.INVALID, item)]
        queue = self._queued[camera]
        if stamp_ns in queue:
            return [ImageOutcome(camera, stamp_ns, Outcome.DUPLICATE, item)]
        events: list[Event] = []
        stamped = StampedItem(stamp_ns, item, now)
        queue[stamp_ns] = stamped
        while len(queue) > self._queue_size:
            oldest = queue.pop(min(queue))
            events.append(ImageOutcome(camera, oldest.stamp_ns, Outcome.SUPERSEDED, oldest.item))
        seconds, nanoseconds = divmod(stamp_ns, _NANOSECONDS)
        stamp = self._time_class(sec=seconds, nanosec=nanoseconds)
        self._inputs[camera].signal(_StampedMessage(_Header(stamp), camera, stamped))
        matched, self._matched = self._matched, []
        for messages in matched:
            events.extend(self._close(messages, now))
        return events

    def _close(self, messages: Sequence[_StampedMessage], now: int) -> list[Event]:
        images = {message.camera: message.stamped for message in messages}
        stamps = [stamped.stamp_ns for stamped in images.values()]
        set_id = self._next_set_id
        self._next_set_id += 1
        events: list[Event] = [
            SetReady(
                CameraSet(
                    set_id=set_id,
                    images={camera: images[camera] for camera in self.cameras},
                    missing=(),
                    reference_stamp_ns=max(stamps),
                    skew_ns=max(stamps) - min(stamps),
                    complete=True,
                    reason=CloseReason.COMPLETE,
                    opened_ns=min(stamped.arrival_ns for stamped in images.values()),
                    closed_ns=now,
                )
            )
        ]
        for camera, stamped in images.items():
            self._queued[camera].pop(stamped.stamp_ns, None)
            events.append(ImageOutcome(camera, stamped.stamp_ns, Outcome.USED, stamped.item, set_id))
        return events

    def _reset(self, now: int, keep_stamp_ns: int | None) -> list[Event]:
        waiting = [(camera, stamped) for camera, queue in self._queued.items() for stamped in queue.values()]
        waiting.sort(key=lambda pair: pair[1].arrival_ns)
        self._build()
        events: list[Event] = []
        for camera, stamped in waiting:
            if keep_stamp_ns is not None and abs(stamped.stamp_ns - keep_stamp_ns) < _NANOSECONDS:
                events.extend(self._add(camera, stamped.stamp_ns, stamped.item, stamped.arrival_ns))
            else:
                events.append(ImageOutcome(camera, stamped.stamp_ns, Outcome.RESET, stamped.item))
        return events


def _connect(sets: SetFilter | ApproximateTimeFilter, inputs: Mapping[str, MessageFilter]) -> None:
    unknown = [camera for camera in inputs if camera not in sets.cameras]
    if unknown:
        raise UnknownCameraError(f"cameras {unknown} are not of the rig's {list(sets.cameras)}")

    def take(message: Any, camera: str) -> None:
        stamp = message.header.stamp
        sets.add(camera, stamp.sec * _NANOSECONDS + stamp.nanosec, message)

    for camera, source in inputs.items():
        source.registerCallback(take, camera)
