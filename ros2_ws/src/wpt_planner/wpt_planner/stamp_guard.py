"""Judges each image's stamp by its own camera's earlier ones: repeated, going back, or on a new time line.

One camera's faulty clock must not throw the rig's sets away, and a bag that starts again must not lose its
first set. So a stamp that jumps is set aside until a second camera shows the same time line (or no other
camera is alive); only then has the rig jumped, and the images set aside are the first of the new time line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

# A lone camera's jump is believed when it has continued for this many images while all others were silent.
_ALONE_IMAGES = 3

# Stamps remembered per camera to tell a repeated image from one that is merely out of order.
_REMEMBERED_STAMPS = 16


class StampVerdict(Enum):
    ACCEPTED = "accepted"
    INVALID = "invalid"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out of order"
    SET_ASIDE = "set aside"
    JUMPED = "jumped"


@dataclass(eq=False, slots=True)
class ArrivedImage:
    """An image on its way through the assembler. camera: index in the rig. deadline_ns: steady time."""

    camera: int
    stamp_ns: int
    item: object
    arrival_ns: int
    deadline_ns: int


@dataclass(slots=True)
class _CameraStamps:
    newest: int | None = None
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_STAMPS))
    aside: deque[ArrivedImage] = field(default_factory=deque)
    last_arrival: int | None = None


class StampGuard:
    """Per-camera stamp checks with bounded memory; not thread-safe, its owner holds the lock.

    After JUMPED the owner calls ``move_to`` and admits the images it returns again.
    """

    def __init__(self, cameras: int, *, capacity: int, backward_jump_ns: int, forward_jump_ns: int) -> None:
        self._states = [_CameraStamps() for _ in range(cameras)]
        self._capacity = capacity
        self._backward = backward_jump_ns
        self._forward = forward_jump_ns

    def newest(self, camera: int) -> int | None:
        """Newest accepted stamp of a camera on the present time line."""
        return self._states[camera].newest

    def last_arrival(self, camera: int) -> int | None:
        """Steady time at which the camera last delivered an accepted image."""
        return self._states[camera].last_arrival

    def same_time_line(self, first_ns: int, second_ns: int) -> bool:
        """Two stamps nearer to each other than the smallest jump."""
        return abs(first_ns - second_ns) < self._backward

    @property
    def set_aside(self) -> int:
        """How many images wait for another camera to confirm their time line."""
        return sum(len(state.aside) for state in self._states)

    def admit(self, image: ArrivedImage) -> tuple[StampVerdict, Sequence[ArrivedImage]]:
        """Judge an image; the second value holds earlier images, set aside and now given up."""
        stamp = image.stamp_ns
        state = self._states[image.camera]
        newest = state.newest
        given_up: Sequence[ArrivedImage] = ()
        if stamp <= 0:
            return StampVerdict.INVALID, ()
        if newest is not None:
            step = stamp - newest
            if step <= 0:
                if -step < self._backward:
                    repeated = stamp == newest or stamp in state.recent
                    return (StampVerdict.DUPLICATE if repeated else StampVerdict.OUT_OF_ORDER), ()
                return self._judge_jump(image, state)
            if step >= self._forward and not self._near_accepted(image.camera, stamp):
                return self._judge_jump(image, state)
            if state.aside:  # the camera is back on its own time line
                given_up = tuple(state.aside)
                state.aside.clear()
        state.newest = stamp
        state.recent.append(stamp)
        state.last_arrival = image.arrival_ns
        return StampVerdict.ACCEPTED, given_up

    def move_to(self, stamp_ns: int) -> list[ArrivedImage]:
        """Take the time line of ``stamp_ns``; return all images that were set aside, in order of arrival.

        Cameras that are not on it are forgotten, so that they may join with any stamp.
        """
        waiting = [image for state in self._states for image in state.aside]
        for state in self._states:
            state.aside.clear()
            if state.newest is None or not self.same_time_line(state.newest, stamp_ns):
                state.newest = None
                state.recent.clear()
        waiting.sort(key=lambda image: image.arrival_ns)
        return waiting

    def forget(self) -> list[ArrivedImage]:
        """Start anew; return the images that were set aside."""
        waiting = [image for state in self._states for image in state.aside]
        self._states = [_CameraStamps() for _ in self._states]
        return waiting

    def _judge_jump(
        self, image: ArrivedImage, state: _CameraStamps
    ) -> tuple[StampVerdict, Sequence[ArrivedImage]]:
        aside = state.aside
        stamp = image.stamp_ns
        given_up: list[ArrivedImage] = []
        if aside:
            last = aside[-1].stamp_ns
            if any(stamp == waiting.stamp_ns for waiting in aside):
                return StampVerdict.DUPLICATE, ()
            if stamp < last or stamp - last >= self._backward:  # not even its own earlier jump agrees
                given_up.extend(aside)
                aside.clear()
            elif len(aside) >= self._capacity:
                given_up.append(aside.popleft())
        aside.append(image)
        confirmed = self._near_accepted(image.camera, stamp) or self._near_set_aside(image.camera, stamp)
        if not confirmed:
            since = aside[0].arrival_ns
            confirmed = len(aside) >= min(_ALONE_IMAGES, self._capacity) and all(
                other.last_arrival is None or other.last_arrival < since
                for other in self._states
                if other is not state
            )
        return (StampVerdict.JUMPED if confirmed else StampVerdict.SET_ASIDE), given_up

    def _near_accepted(self, camera: int, stamp: int) -> bool:
        return any(
            state.newest is not None and self.same_time_line(state.newest, stamp)
            for index, state in enumerate(self._states)
            if index != camera
        )

    def _near_set_aside(self, camera: int, stamp: int) -> bool:
        reach = self._backward
        return any(
            state.aside and state.aside[0].stamp_ns - reach < stamp < state.aside[-1].stamp_ns + reach
            for index, state in enumerate(self._states)
            if index != camera
        )
