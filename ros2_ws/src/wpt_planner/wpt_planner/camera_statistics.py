"""Rate, jitter, loss and firing order of the cameras, from stamps alone; judges the skew bound."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from wpt_planner.camera_stagger import FEWEST_CYCLES, Stagger, estimate_stagger, multiples

# A stamp that goes back this far, or forward that far, starts a new time line; its gap is no loss.
_BACKWARD_JUMP_NS = 1_000_000_000
_FORWARD_JUMP_NS = 60_000_000_000

# A longer silence is an interruption (a paused bag, a camera switched off), named as such and not as lost
# images.
_LONGEST_LOSS_INTERVALS = 30

# Above this share of the rig's rate a camera is said to run at another rate.
_RATE_TOLERANCE = 0.2

# Stamps jitter by tenths of a millisecond: between limits this close no bound can be kept.
_NARROWEST_NS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class CameraTiming:
    """What one camera's stamps say.

    received: images since reset. lost, lost_percent: missing whole intervals since reset, and their share of
    all that were sent. recent_lost_percent: the same over the window. interval_ns: median interval without
    the lost images. rate_hz: images per second that arrived, over the window. jitter_ns: half the range that
    holds the middle 68 % of the intervals' deviations. longest_gap_ns: since reset.
    """

    camera: str
    received: int
    lost: int
    lost_percent: float
    recent_lost_percent: float
    interval_ns: int
    rate_hz: float
    jitter_ns: int
    longest_gap_ns: int


@dataclass
class _Series:
    """One camera's recent stamps and counts; ``unjudged`` are gaps that wait for the interval to be known."""

    stamps: deque[int]
    unjudged: list[int] = field(default_factory=list)
    received: int = 0
    lost: int = 0
    longest_gap: int = 0


class CameraStatistics:
    """Collects every image stamp of every camera; thread-safe.

    ``add`` costs O(1), the figures are worked out when asked for. Loss is counted in whole multiples of the
    usual interval, with a tolerance of a quarter: nuScenes keyframes, 399 to 600 ms apart, count as none.
    Images that all cameras lose together, or that a rig skips by design, are seen as far as the gaps are
    whole multiples.
    """

    def __init__(self, cameras: Sequence[str], *, window: int = 64) -> None:
        """window: stamps kept per camera, at least 8. Raises ValueError."""
        if len(set(cameras)) != len(cameras) or not cameras:
            raise ValueError(f"cameras {list(cameras)} are empty or name one twice; give each camera once")
        if window < 8:
            raise ValueError(
                f"window is {window} stamps, expected at least 8 so that a median means something"
            )
        self._window = window
        self._lock = threading.Lock()
        self._series = {camera: _Series(deque(maxlen=window)) for camera in cameras}
        self._stagger: Stagger | None = None
        self._stale = False

    def add(self, camera: str, stamp_ns: int) -> None:
        """Take one image stamp; a jump starts a new window. Ignored: repeats, small steps back, stamp zero.

        Raises KeyError for a camera that was not named at construction.
        """
        with self._lock:
            series = self._series[camera]
            stamps = series.stamps
            if stamp_ns <= 0:
                return
            if stamps:
                gap = stamp_ns - stamps[-1]
                if -_BACKWARD_JUMP_NS < gap <= 0:
                    return
                if gap <= 0 or gap > _FORWARD_JUMP_NS:
                    self._judge()
                    stamps.clear()
                else:
                    series.unjudged.append(gap)
                    if gap > series.longest_gap:
                        series.longest_gap = gap
            series.received += 1
            stamps.append(stamp_ns)
            self._stale = True
            if len(series.unjudged) >= self._window:
                self._judge()

    def reset(self) -> None:
        """Forget all stamps and counts."""
        with self._lock:
            for series in self._series.values():
                series.stamps.clear()
                series.unjudged.clear()
                series.received = series.lost = series.longest_gap = 0
            self._stagger = None
            self._stale = False

    def stagger(self) -> Stagger | None:
        """The rig's cycle; None while fewer than three cycles were seen."""
        with self._lock:
            self._judge()
            return self._stagger

    def timing(self, camera: str) -> CameraTiming | None:
        """One camera's figures; None while it has fewer than four images or no period is known."""
        with self._lock:
            self._judge()
            series = self._series[camera]
            stagger = self._stagger
            if stagger is None or len(series.stamps) <= FEWEST_CYCLES:
                return None
            stamps = list(series.stamps)
            gaps = [after - before for before, after in zip(stamps, stamps[1:], strict=False)]
            received, lost, longest = series.received, series.lost, series.longest_gap
        interval = _own_interval(gaps, stagger)
        recent = sum(_lost_in(gap, interval) for gap in gaps)
        wholes = [multiples(gap, interval) for gap in gaps]
        deviations = sorted(gap - whole * interval for gap, whole in zip(gaps, wholes, strict=True))
        low, high = deviations[len(gaps) * 16 // 100], deviations[min(len(gaps) * 84 // 100, len(gaps) - 1)]
        return CameraTiming(
            camera=camera,
            received=received,
            lost=lost,
            lost_percent=100.0 * lost / (received + lost),
            recent_lost_percent=100.0 * recent / (len(gaps) + recent),
            interval_ns=interval,
            rate_hz=len(gaps) * 1e9 / (stamps[-1] - stamps[0]),
            jitter_ns=(high - low) // 2,
            longest_gap_ns=longest,
        )

    def skew_bound_problem(self, max_skew_ns: int) -> str | None:
        """One sentence when the bound allows no set, or a mixed one; None when it is legal or unknown.

        The bound must exceed the rig's spread and stay below the period minus the largest gap between
        neighbouring cameras (the proof is in camera_stagger).
        """
        stagger = self.stagger()
        if stagger is None:
            return None
        low, high = stagger.bound_limits_ns
        figures = (
            f"the cameras fire over {_ms(low)} (spread) and a set spanning {_ms(high)} can mix two cycles"
            f" (period {_ms(stagger.period_ns)} minus largest gap {_ms(stagger.largest_gap_ns)})"
        )
        if high - low < _NARROWEST_NS:
            return (
                f"no skew bound tells one cycle from the next: {figures}; the images are staggered over"
                " so much of the period that the cameras need another trigger order or hardware triggering"
            )
        advice = f"set max_skew between the two, for example {_ms(_middle(low, high))}"
        if max_skew_ns <= low:
            return f"max_skew {_ms(max_skew_ns)} is too small, no set can be complete: {figures}; {advice}"
        if max_skew_ns >= high:
            return f"max_skew {_ms(max_skew_ns)} is too large, two cycles can be mixed: {figures}; {advice}"
        return None

    def suggested_skew_ns(self) -> int | None:
        """The middle of the legal interval, in whole milliseconds where possible; None when there is none."""
        stagger = self.stagger()
        if stagger is None:
            return None
        low, high = stagger.bound_limits_ns
        return _middle(low, high) if high - low >= _NARROWEST_NS else None

    def rate_problem(self) -> str | None:
        """One sentence naming the cameras whose rate is not the rig's; None when all agree."""
        stagger = self.stagger()
        if stagger is None:
            return None
        odd = []
        for camera in self._series:
            timing = self.timing(camera)
            if timing is not None and abs(timing.interval_ns / stagger.interval_ns - 1.0) > _RATE_TOLERANCE:
                odd.append(f"{camera} ({1e9 / timing.interval_ns:.1f} Hz)")
        if not odd:
            return None
        return (
            f"{', '.join(odd)} run at another rate than the rig ({1e9 / stagger.interval_ns:.1f} Hz), so"
            " most of their images find no set; run all cameras at one rate"
        )

    def loss_sentences(self, minimum_percent: float = 1.0) -> list[str]:
        """One sentence for each camera that lost at least this share of its images before this node."""
        sentences = []
        for camera in self._series:
            timing = self.timing(camera)
            if timing is not None and timing.lost and timing.lost_percent >= minimum_percent:
                sentences.append(
                    f"{camera}: {timing.lost_percent:.1f} % lost before this node"
                    f" ({timing.lost} of {timing.received + timing.lost})"
                )
        return sentences

    def describe(self) -> str:
        """The rig's cycle in one line, for logs; "not known yet" before three cycles."""
        stagger = self.stagger()
        if stagger is None:
            return f"camera timing is not known yet ({FEWEST_CYCLES} cycles are needed)"
        order = sorted(stagger.offsets_ns, key=lambda camera: stagger.offsets_ns[camera])
        offsets = ", ".join(f"{camera} {stagger.offsets_ns[camera] / 1e6:.1f}" for camera in order)
        text = f"period {_ms(stagger.period_ns)}, spread {_ms(stagger.spread_ns)}, offsets in ms: {offsets}"
        if stagger.shortest_ns < 0.75 * stagger.period_ns:
            text += f"; intervals are irregular, the shortest is {_ms(stagger.shortest_ns)}"
        return text

    def _judge(self) -> None:
        """Work out the stagger and count the losses in gaps that waited for it; the lock is held."""
        if not self._stale:
            return
        self._stale = False
        measured = estimate_stagger(
            {camera: series.stamps for camera, series in self._series.items()}, self._stagger
        )
        if measured is not None:
            self._stagger = measured
        for series in self._series.values():
            if self._stagger is not None and len(series.stamps) > FEWEST_CYCLES:
                stamps = list(series.stamps)
                gaps = [after - before for before, after in zip(stamps, stamps[1:], strict=False)]
                interval = _own_interval(gaps, self._stagger)
                series.lost += sum(_lost_in(gap, interval) for gap in series.unjudged)
                series.unjudged.clear()
            elif len(series.unjudged) >= self._window:
                series.unjudged.clear()


def _own_interval(gaps: Sequence[int], stagger: Stagger) -> int:
    """A camera's own interval: the rig's, unless its images come at a rate that no loss explains."""
    median = sorted(gaps)[len(gaps) // 2]
    ratio = median / stagger.interval_ns
    whole = max(1, round(ratio))
    return stagger.interval_ns if abs(ratio - whole) <= _RATE_TOLERANCE else median


def _lost_in(gap_ns: int, interval_ns: int) -> int:
    whole = multiples(gap_ns, interval_ns)
    return whole - 1 if whole <= _LONGEST_LOSS_INTERVALS else 0


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.1f} ms"


def _middle(low_ns: int, high_ns: int) -> int:
    middle = (low_ns + high_ns) // 2
    rounded = round(middle / 1e6) * 1_000_000
    return rounded if low_ns < rounded < high_ns else middle
