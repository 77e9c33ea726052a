"""What set assembly hands on: camera sets, the outcome of every image, and clock jumps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one image."""

    USED = "used"  # in a set, complete or not
    LATE = "late"  # its set had been closed
    SUPERSEDED = "superseded"  # a newer image of the camera took its place before its set was closed
    DUPLICATE = "duplicate"  # same camera and stamp as one before
    OUT_OF_ORDER = "out_of_order"  # older than the camera's newest, or alone on another time line
    RESET = "reset"  # given up by a reset or clock jump
    INVALID = "invalid"  # stamp zero or negative


class CloseReason(StrEnum):
    COMPLETE = "complete"
    OVERTAKEN = "overtaken"  # every missing camera has delivered a later image, or a newer set is complete
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, eq=False)
class StampedItem:
    """One image of a set; arrival_ns is steady time."""

    stamp_ns: int
    item: object
    arrival_ns: int


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraSet:
    """Images of one cycle of the rig.

    set_id counts from 1 and goes on over resets. images: by camera in rig order. missing: in rig order.
    reference_stamp_ns: the newest stamp. skew_ns: newest minus oldest. opened_ns, closed_ns: steady time at
    which the first image arrived and the set was closed.
    """

    set_id: int
    images: dict[str, StampedItem]
    missing: tuple[str, ...]
    reference_stamp_ns: int
    skew_ns: int
    complete: bool
    reason: CloseReason
    opened_ns: int
    closed_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class SetReady:
    """A set was closed."""

    camera_set: CameraSet


@dataclass(frozen=True, slots=True, eq=False)
class ImageOutcome:
    """The one outcome of an image.

    set_id: the set it is in, or came too late for. late_ns: by how much, in steady time.
    """

    camera: str
    stamp_ns: int
    outcome: Outcome
    item: object
    set_id: int | None = None
    late_ns: int | None = None

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        subject = f"{self.camera} image of {self.stamp_ns / 1e9:.6f} s"
        if self.outcome is Outcome.USED:
            return f"{subject} is in set {self.set_id}"
        if self.outcome is Outcome.LATE:
            behind = "" if self.late_ns is None else f" {self.late_ns / 1e6:.1f} ms"
            return f"{subject} came{behind} after set {self.set_id} was closed"
        return f"{subject} {_SENTENCES[self.outcome]}"


_SENTENCES = {
    Outcome.SUPERSEDED: "was replaced by a newer one before its set was complete",
    Outcome.DUPLICATE: "was received before; is the topic published twice?",
    Outcome.OUT_OF_ORDER: "has a stamp that goes back, or that no other camera's clock agrees with",
    Outcome.RESET: "was dropped by a reset or clock jump",
    Outcome.INVALID: "has no valid stamp; the camera driver must fill header.stamp",
}


@dataclass(frozen=True, slots=True, eq=False)
class ClockJump:
    """The rig's stamps left their time line (a bag restarted, a clock was set).

    The assembler has reset itself and kept the images of the new time line: do not reset it again.
    """

    from_ns: int
    to_ns: int

    @property
    def backward(self) -> bool:
        return self.to_ns < self.from_ns

    @property
    def sentence(self) -> str:
        """The jump in words."""
        step = (self.to_ns - self.from_ns) / 1e9
        return f"image stamps jumped by {step:+.3f} s to {self.to_ns / 1e9:.3f} s, as when a bag restarts"


Event = SetReady | ImageOutcome | ClockJump
