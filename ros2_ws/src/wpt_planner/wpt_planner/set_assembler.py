"""Makes camera sets, one image of each camera from one cycle of the rig, of images in any order.

Why a set mixes no cycles. Within one cycle the cameras fire at fixed offsets; a set that takes images of two
cycles spans at least the period minus the largest gap between neighbouring cameras (proof in camera_stagger).
With max_skew below that, and above the rig's spread, any one image per camera within max_skew is a complete
set of one cycle, each image is in at most one such set, and nothing has to be guessed: whatever else was
lost, a cycle whose images all arrive in time gives its set. What is left over, cycles with images missing, is
ambiguous from single stamps (the tail of one cycle and the head of the next may lie within max_skew), as is
everything where intervals vary (nuScenes cameras are locked to a 20 Hz lidar: 50 or 100 ms). So the assembler
measures each camera's offset as it goes; once known, after some cycles, two images go together only when
stamp minus offset agrees to half the shortest interval.

When a set is closed: as soon as it is complete; when every missing camera has been seen past it (OVERTAKEN);
when timeout has gone by since its first image arrived; always before a set with newer stamps. Exception: a
set that is ahead of most living cameras, as of one camera whose clock runs ahead, waits for the rig and is
superseded where the rig never comes, for closing it would make every other camera's images late.

Stamps are integer nanoseconds, now_ns is steady time. Events are returned, so no lock is held while anyone is
called.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from wpt_planner.camera_set import (
    CameraSet,
    ClockJump,
    CloseReason,
    Event,
    ImageOutcome,
    Outcome,
    SetReady,
    StampedItem,
)
from wpt_planner.camera_stagger import Stagger
from wpt_planner.image_group import ImageGroup, gather
from wpt_planner.rig_cycle import RigCycle
from wpt_planner.stamp_guard import ArrivedImage, StampGuard, StampVerdict

__all__ = [
    "CameraSet",
    "ClockJump",
    "CloseReason",
    "Event",
    "ImageOutcome",
    "Outcome",
    "SetAssembler",
    "SetReady",
    "StampedItem",
    "UnknownCameraError",
]


class UnknownCameraError(KeyError):
    """An image of a camera that the rig does not have."""


@dataclass(slots=True, eq=False)
class _ClosedSet:
    set_id: int
    oldest: int
    newest: int
    closed_ns: int
    stamps: dict[int, int]


class SetAssembler:
    """Assembles sets by stamp; thread-safe. Every image added gets one ImageOutcome, at the latest by reset.

    Memory: at most ``capacity`` images per camera wait for their set, and as many for the confirmation of a
    clock jump; each waiting set has at least one image. Events come in order: sets by stamp, each followed by
    its images' outcomes. With several calling threads, hand events over under a lock or queue of your own
    (SetFilter does).
    """

    def __init__(
        self,
        cameras: Sequence[str],
        *,
        max_skew_ns: int,
        timeout_ns: int,
        capacity: int = 8,
        backward_jump_ns: int = 1_000_000_000,
        forward_jump_ns: int = 60_000_000_000,
    ) -> None:
        """cameras: in rig order. max_skew_ns: largest newest minus oldest stamp of a set, included.

        timeout_ns: after the first image of a set arrived; one period of the slowest rig is a good value.
        backward_jump_ns, forward_jump_ns: steps of one camera's stamps that may be a clock jump. Raises
        ValueError.
        """
        self.cameras = tuple(cameras)
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f"cameras {list(cameras)} are empty or name one twice; give each camera once")
        if max_skew_ns < 0 or timeout_ns <= 0 or capacity < 2 or not 0 < backward_jump_ns <= forward_jump_ns:
            raise ValueError(
                f"max_skew {max_skew_ns} ns, timeout {timeout_ns} ns, capacity {capacity}, jumps"
                f" {backward_jump_ns} and"
                f" {forward_jump_ns} ns: expected max_skew >= 0, timeout > 0, capacity >= 2, 0 <"
                " backward <= forward"
            )
        self.max_skew_ns = max_skew_ns
        self.timeout_ns = timeout_ns
        self.capacity = capacity
        self._lock = threading.Lock()
        self._index = {camera: index for index, camera in enumerate(self.cameras)}
        self._guard = StampGuard(
            len(self.cameras),
            capacity=capacity,
            backward_jump_ns=backward_jump_ns,
            forward_jump_ns=forward_jump_ns,
        )
        self._pending: list[ArrivedImage] = []  # by stamp
        self._waiting = [0] * len(self.cameras)  # pending images per camera
        self._closed: deque[_ClosedSet] = deque(maxlen=8)  # newest last; tells late images what they missed
        self._next_set_id = 1
        self._now = 0
        self._cycle = RigCycle(self.cameras, max_skew_ns)
        self._counts = dict.fromkeys(Outcome, 0)
        self._complete_sets = 0

    # ---- what callers do ----

    def add(self, camera: str, stamp_ns: int, item: object, now_ns: int) -> list[Event]:
        """Take one image; return what follows from it. Raises UnknownCameraError."""
        try:
            index = self._index[camera]
        except KeyError:
            raise UnknownCameraError(
                f"camera {camera!r} is not one of the rig's {list(self.cameras)}"
            ) from None
        events: list[Event] = []
        with self._lock:
            now = self._advance(now_ns)
            self._admit(ArrivedImage(index, stamp_ns, item, now, now + self.timeout_ns), events)
            self._close_timed_out(now, events)
        return events

    def poll(self, now_ns: int) -> list[Event]:
        """Close what has timed out; call at ``next_deadline_ns`` or regularly. Ends a stream as well."""
        events: list[Event] = []
        with self._lock:
            self._close_timed_out(self._advance(now_ns), events)
        return events

    def next_deadline_ns(self) -> int | None:
        """Steady time at which poll will next have something to look at; None while no image waits."""
        with self._lock:
            return min((image.deadline_ns for image in self._pending), default=None)

    def reset(self, now_ns: int, keep_stamp_ns: int | None = None) -> list[Event]:
        """Forget all images, as after a clock jump; what was measured of the rig's cycle stays.

        keep_stamp_ns: a stamp on the new time line; images that have already arrived from it are kept.
        """
        events: list[Event] = []
        with self._lock:
            self._advance(now_ns)
            waiting = self._pending + self._guard.forget()
            self._pending = []
            self._waiting = [0] * len(self.cameras)
            self._closed.clear()
            self._cycle.forget_stamps()
            kept = []
            for image in sorted(waiting, key=lambda image: image.arrival_ns):
                if keep_stamp_ns is not None and self._guard.same_time_line(image.stamp_ns, keep_stamp_ns):
                    kept.append(image)
                else:
                    self._finish(image, Outcome.RESET, events)
            for image in kept:
                self._admit(image, events)
        return events

    @property
    def counts(self) -> dict[Outcome, int]:
        """Images by outcome since construction."""
        with self._lock:
            return dict(self._counts)

    @property
    def set_counts(self) -> tuple[int, int]:
        """Complete and incomplete sets since construction."""
        with self._lock:
            return self._complete_sets, self._next_set_id - 1 - self._complete_sets

    @property
    def pending_images(self) -> int:
        """Images without an outcome: waiting for their set or for the confirmation of a clock jump."""
        with self._lock:
            return len(self._pending) + self._guard.set_aside

    @property
    def stagger(self) -> Stagger | None:
        """The rig's cycle as measured from the last images; None before some cycles were seen."""
        with self._lock:
            return self._cycle.stagger

    # ---- the way of an image; the lock is held from here on ----

    def _advance(self, now_ns: int) -> int:
        self._now = max(self._now, now_ns)
        return self._now

    def _admit(self, image: ArrivedImage, events: list[Event]) -> None:
        verdict, given_up = self._guard.admit(image)
        for earlier in given_up:
            self._finish(earlier, Outcome.OUT_OF_ORDER, events)
        if verdict is StampVerdict.ACCEPTED:
            self._place(image, events)
        elif verdict is StampVerdict.JUMPED:
            self._jump(image.stamp_ns, events)
        elif verdict is not StampVerdict.SET_ASIDE:
            self._finish(image, _REFUSALS[verdict], events)

    def _place(self, image: ArrivedImage, events: list[Event]) -> None:
        camera = image.camera
        self._cycle.note(camera, image.stamp_ns)
        missed = self._missed_set(image)
        if missed is not None:
            self._finish_late(image, missed, events)
            return
        pending = self._pending
        position = len(pending)
        while position and pending[position - 1].stamp_ns > image.stamp_ns:
            position -= 1
        pending.insert(position, image)
        self._waiting[camera] += 1
        if self._waiting[camera] > self.capacity:
            oldest = next(waiting for waiting in pending if waiting.camera == camera)
            self._remove(oldest)
            self._finish(oldest, Outcome.SUPERSEDED, events)
        if all(self._waiting):
            complete = self._find_complete(image)
            if complete is not None:
                self._close_complete(complete, events)
        self._close_overtaken(events)

    def _jump(self, stamp: int, events: list[Event]) -> None:
        """A second camera has shown another time line: move to it with all images that lie on it."""
        same = self._guard.same_time_line
        last = self._closed[-1].newest if self._closed else None
        if last is not None and not same(last, stamp):
            self._closed.clear()
            events.append(ClockJump(last, stamp))
            self._cycle.forget_stamps()
        for image in [waiting for waiting in self._pending if not same(waiting.stamp_ns, stamp)]:
            self._remove(image)
            self._finish(image, Outcome.RESET, events)
        for image in self._guard.move_to(stamp):
            if same(image.stamp_ns, stamp):
                self._admit(image, events)
            else:
                self._finish(image, Outcome.RESET, events)

    def _missed_set(self, image: ArrivedImage) -> _ClosedSet | None:
        """The closed set of the image, or the first one closed after its cycle; None when it is new."""
        if not self._closed:
            return None
        last = self._closed[-1]
        stamp = image.stamp_ns
        if stamp > last.newest:
            if stamp > last.oldest + self.max_skew_ns or image.camera in last.stamps:
                return None
            return last if self._cycle.agrees_with_all(image.camera, stamp, last.stamps) else None
        missed = last
        for closed in reversed(self._closed):
            if closed.newest < stamp:
                break
            missed = closed
        return missed

    # ---- what goes together ----

    def _find_complete(self, image: ArrivedImage) -> ImageGroup | None:
        """A set of all cameras within max_skew that holds this image, the newest of its camera."""
        skew, stamp, cameras = self.max_skew_ns, image.stamp_ns, len(self.cameras)
        near = [other for other in self._pending if -skew <= other.stamp_ns - stamp <= skew]
        if self._cycle.needed_for_complete_sets():
            agree = self._cycle.agree
            near = [other for other in near if agree(image.camera, stamp, other.camera, other.stamp_ns)]
        for start, first in enumerate(near):
            if first.stamp_ns > stamp or len(near) - start < cameras:
                return None
            group = gather(near[start:], first.stamp_ns + skew)
            if len(group.members) == cameras:
                return group
            if near[-1].stamp_ns <= first.stamp_ns + skew:
                return None
        return None

    def _group(self, images: list[ArrivedImage]) -> ImageGroup:
        """The images that go with the oldest of a list sorted by stamp."""
        head = images[0]
        limit = head.stamp_ns + self.max_skew_ns
        return gather(
            [
                image
                for image in images
                if image.stamp_ns <= limit
                and self._cycle.agree(head.camera, head.stamp_ns, image.camera, image.stamp_ns)
            ],
            limit,
        )

    def _overtaken(self, group: ImageGroup) -> bool:
        """Whether every missing camera was seen past the group; only told where offsets are known."""
        if self._cycle.stagger is None:
            return False
        stamps = {index: image.stamp_ns for index, image in group.members.items()}
        oldest = group.oldest
        limit = oldest + self.max_skew_ns
        for camera in range(len(self.cameras)):
            if camera in group.members:
                continue
            newest = self._guard.newest(camera)
            if newest is None or (newest < limit and self._cycle.may_still_join(camera, newest, stamps)):
                return False
            # A straggler from before a clock jump proves nothing.
            if not self._guard.same_time_line(newest, oldest):
                return False
        return True

    def _ahead_of_rig(self, group: ImageGroup, now: int) -> int | None:
        """Steady time to look again, when more living cameras are behind the group than have reached it."""
        oldest, opened = group.oldest, group.opened
        reached = 0
        behind = []
        for camera in range(len(self.cameras)):
            newest = self._guard.newest(camera)
            if newest is None:
                continue
            if newest >= oldest:
                reached += 1
                continue
            arrival = self._guard.last_arrival(camera)
            if arrival is not None and arrival > opened and arrival > now - self.timeout_ns:
                behind.append(arrival)
        return min(behind) + self.timeout_ns if len(behind) > reached else None

    # ---- closing ----

    def _close_overtaken(self, events: list[Event]) -> None:
        while self._pending:
            head, last = self._pending[0], self._pending[-1]
            if last.stamp_ns <= head.stamp_ns + self.max_skew_ns and self._cycle.agree(
                head.camera, head.stamp_ns, last.camera, last.stamp_ns
            ):
                return  # the usual case: one cycle is coming in
            group = self._group(self._pending)
            if not self._overtaken(group):
                return
            self._close(group, CloseReason.OVERTAKEN, events)
            self._drop_late(events)

    def _close_complete(self, complete: ImageGroup, events: list[Event]) -> None:
        """Close a complete set, and before it all older images, in sets of their own."""
        taken = set(map(id, complete.members.values())) | set(map(id, complete.replaced))
        oldest = complete.oldest
        older = [image for image in self._pending if image.stamp_ns < oldest and id(image) not in taken]
        while older:
            group = self._group(older)
            self._close(group, CloseReason.OVERTAKEN, events)
            gone = set(map(id, group.members.values())) | set(map(id, group.replaced))
            older = [image for image in older if id(image) not in gone]
        self._close(complete, CloseReason.COMPLETE, events)
        self._drop_late(events)

    def _close_timed_out(self, now: int, events: list[Event]) -> None:
        if not any(image.deadline_ns <= now for image in self._pending):
            return
        groups = []
        images = self._pending
        while images:
            group = self._group(images)
            groups.append(group)
            gone = set(map(id, group.members.values())) | set(map(id, group.replaced))
            images = [image for image in images if id(image) not in gone]
        closing = 0
        for number, group in enumerate(groups, start=1):
            if any(image.deadline_ns <= now for image in group.members.values()):
                again = self._ahead_of_rig(group, now)
                if again is None:
                    closing = number
                else:
                    for image in (*group.members.values(), *group.replaced):
                        image.deadline_ns = again
        for group in groups[:closing]:  # an older set is closed before a newer one, timed out or not
            self._close(group, CloseReason.TIMEOUT, events)
        self._drop_late(events)

    def _close(self, group: ImageGroup, reason: CloseReason, events: list[Event]) -> None:
        """Emit a group as a set; one that is no newer than the last set has come too late."""
        for image in group.replaced:
            self._remove(image)
            self._finish(image, Outcome.SUPERSEDED, events)
        for image in group.members.values():
            self._remove(image)
        newest, oldest = group.newest, group.oldest
        if self._closed and newest <= self._closed[-1].newest:
            for image in group.members.values():
                self._finish_late(image, self._closed[-1], events)
            return
        set_id = self._next_set_id
        self._next_set_id += 1
        members = {
            index: group.members[index] for index in range(len(self.cameras)) if index in group.members
        }
        complete = len(members) == len(self.cameras)
        self._complete_sets += complete
        self._closed.append(
            _ClosedSet(
                set_id, oldest, newest, self._now, {index: image.stamp_ns for index, image in members.items()}
            )
        )
        camera_set = CameraSet(
            set_id=set_id,
            images={
                self.cameras[index]: StampedItem(image.stamp_ns, image.item, image.arrival_ns)
                for index, image in members.items()
            },
            missing=tuple(camera for index, camera in enumerate(self.cameras) if index not in members),
            reference_stamp_ns=newest,
            skew_ns=newest - oldest,
            complete=complete,
            reason=reason,
            opened_ns=group.opened,
            closed_ns=self._now,
        )
        events.append(SetReady(camera_set))
        for image in members.values():
            self._finish(image, Outcome.USED, events, set_id)

    def _drop_late(self, events: list[Event]) -> None:
        """Give up what is older than the last set, so that sets stay in stamp order."""
        if not self._closed:
            return
        last = self._closed[-1]
        while self._pending and self._pending[0].stamp_ns <= last.newest:
            image = self._pending[0]
            self._remove(image)
            own = last.stamps.get(image.camera)
            if own is not None and image.stamp_ns < own:
                self._finish(image, Outcome.SUPERSEDED, events)
            else:
                self._finish_late(image, last, events)

    def _remove(self, image: ArrivedImage) -> None:
        # By identity: `in` would compare, and two images may be equal.
        for position, waiting in enumerate(self._pending):
            if waiting is image:
                del self._pending[position]
                self._waiting[image.camera] -= 1
                return

    def _finish_late(self, image: ArrivedImage, missed: _ClosedSet, events: list[Event]) -> None:
        self._finish(image, Outcome.LATE, events, missed.set_id, max(0, image.arrival_ns - missed.closed_ns))

    def _finish(
        self,
        image: ArrivedImage,
        outcome: Outcome,
        events: list[Event],
        set_id: int | None = None,
        late_ns: int | None = None,
    ) -> None:
        self._counts[outcome] += 1
        events.append(
            ImageOutcome(self.cameras[image.camera], image.stamp_ns, outcome, image.item, set_id, late_ns)
        )


_REFUSALS = {
    StampVerdict.INVALID: Outcome.INVALID,
    StampVerdict.DUPLICATE: Outcome.DUPLICATE,
    StampVerdict.OUT_OF_ORDER: Outcome.OUT_OF_ORDER,
}
