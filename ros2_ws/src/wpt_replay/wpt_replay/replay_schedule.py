"""When a replay publishes what: camera cycles for lockstep, an absolute schedule for real time. Knows nothing
of ROS.

Two times belong to a message: the header stamp says when the sensor measured, the record time when the bag
got it. In the bags of this suite they are equal; in a bag of `ros2 bag record` the record time is later.
Order and /clock follow record times, camera cycles follow stamps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

# Skew bound of the planner's sets (nuScenes: spread 43 ms, the next cycle begins 83 ms after the first
# image).
DEFAULT_MAX_SKEW_NS = 60_000_000
# How far past a complete cycle lockstep still publishes to reach odometry that covers its newest image. It is
# the planner's default bound for extrapolation: beyond that it would refuse the odometry anyway.
ODOMETRY_LOOKAHEAD_NS = 100_000_000
# Lateness samples kept for the quantiles; the maximum is over all.
LATENESS_SAMPLES = 200_000


class Role(Enum):
    """What a message means for the schedule."""

    IMAGE = "image"
    ODOMETRY = "odometry"
    OTHER = "other"


class TimedMessage(NamedTuple):
    """A message to publish. stamp_ns: header stamp, or the record time without a header. data: CDR bytes."""

    topic: str
    role: Role
    stamp_ns: int
    record_ns: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """Images that were published as one camera set. images: stamp by topic. complete: one of every camera."""

    images: Mapping[str, int]
    complete: bool

    @property
    def newest_ns(self) -> int:
        return max(self.images.values())

    def is_answered_by(self, stamp_ns: int) -> bool:
        """Whether a report with this reference stamp is about this cycle.

        The reference stamp of a set is its newest image's. Where images get lost, or a recording starts in mid-cycle,
        the other side's newest is another one, so a report on any of the cycle's images will do.
        """
        return stamp_ns in self.images.values()


class CycleSplitter:
    """Groups images, in the order of publishing, into camera cycles.

    A cycle is complete with one image of every camera. It ends incomplete before an image that cannot belong
    to it: of a camera that it has, or stamped more than max_skew_ns away from its oldest. So a recording that
    starts in the middle of a cycle falls into step within two cycles, as long as max_skew_ns keeps cycles
    apart.
    """

    def __init__(self, cameras: Collection[str], max_skew_ns: int = DEFAULT_MAX_SKEW_NS) -> None:
        self._cameras = frozenset(cameras)
        self._max_skew_ns = max_skew_ns
        self._images: dict[str, int] = {}

    @property
    def cycle(self) -> Cycle | None:
        """The images since the last end, or None."""
        if not self._images:
            return None
        return Cycle(images=dict(self._images), complete=self._images.keys() == self._cameras)

    def ends_before_image(self, camera: str, stamp_ns: int) -> bool:
        """Whether the current cycle cannot take this image."""
        if not self._images:
            return False
        oldest = min(self._images.values())
        newest = max(self._images.values())
        apart = max(newest, stamp_ns) - min(oldest, stamp_ns)
        return camera in self._images or self._images.keys() == self._cameras or apart > self._max_skew_ns

    def add(self, camera: str, stamp_ns: int) -> None:
        self._images[camera] = stamp_ns

    def end(self) -> Cycle:
        """Return the current cycle (there must be one) and begin anew."""
        cycle = self.cycle
        assert cycle is not None
        self._images = {}
        return cycle


def lockstep(
    messages: Iterable[TimedMessage],
    cameras: Collection[str],
    *,
    has_odometry: bool,
    max_skew_ns: int = DEFAULT_MAX_SKEW_NS,
    lookahead_ns: int = ODOMETRY_LOOKAHEAD_NS,
) -> Iterator[TimedMessage | Cycle]:
    """Yield messages to publish, in their order, and a Cycle wherever its answer has to be awaited before
    going on.

    After the last image of a complete cycle everything stamped up to its newest image still belongs to it,
    and then everything until an odometry message covers that image, but no further image and nothing recorded
    more than lookahead_ns after it. An incomplete cycle ends before the image that cannot join it, or before
    anything recorded more than twice max_skew_ns after its first image: no image of it can come any more, and
    time must not run on while the planner still works on it.
    """
    splitter = CycleSplitter(cameras, max_skew_ns)
    odometry_ns: int | None = None
    first_record_ns = last_record_ns = 0  # of the current cycle's images

    def must_wait_before(message: TimedMessage) -> bool:
        cycle = splitter.cycle
        if cycle is None:
            return False
        if message.role is Role.IMAGE and message.topic in cameras:
            return splitter.ends_before_image(message.topic, message.stamp_ns)
        if not cycle.complete:
            return message.record_ns - first_record_ns > 2 * max_skew_ns
        if message.stamp_ns <= cycle.newest_ns:
            return False
        covered = not has_odometry or (odometry_ns is not None and odometry_ns >= cycle.newest_ns)
        return covered or message.record_ns - last_record_ns > lookahead_ns

    for message in messages:
        if must_wait_before(message):
            yield splitter.end()
        yield message
        if message.role is Role.IMAGE and message.topic in cameras:
            if splitter.cycle is None:
                first_record_ns = message.record_ns
            last_record_ns = message.record_ns
            splitter.add(message.topic, message.stamp_ns)
        elif message.role is Role.ODOMETRY:
            odometry_ns = message.stamp_ns
    if splitter.cycle is not None:
        yield splitter.end()


class RealTimeSchedule:
    """Maps record times to the steady clock, absolutely: a late message delays no later one.

    start_ns: the record time played at start_steady_ns. rate: 2 plays twice as fast; positive.
    """

    def __init__(self, start_ns: int, start_steady_ns: int, rate: float) -> None:
        self._start_ns = start_ns
        self._start_steady_ns = start_steady_ns
        self._rate = rate

    def due_ns(self, record_ns: int) -> int:
        """Steady time at which a message is to be published."""
        return self._start_steady_ns + round((record_ns - self._start_ns) / self._rate)

    def simulated_ns(self, steady_ns: int) -> int:
        """What /clock says at a steady time."""
        return self._start_ns + round((steady_ns - self._start_steady_ns) * self._rate)


class Lateness:
    """How much later than due messages were published, in nanoseconds."""

    def __init__(self) -> None:
        self._samples: deque[int] = deque(maxlen=LATENESS_SAMPLES)
        self._highest = 0

    def add(self, late_ns: int) -> None:
        self._samples.append(late_ns)
        self._highest = max(self._highest, late_ns)

    def milliseconds(self) -> dict[str, float] | None:
        """Return p50, p99 (of the last 200000 messages) and max; None without a message."""
        if not self._samples:
            return None
        ordered = sorted(self._samples)
        last = len(ordered) - 1
        return {
            "p50": ordered[round(0.50 * last)] / 1e6,
            "p99": ordered[round(0.99 * last)] / 1e6,
            "max": self._highest / 1e6,
        }
