"""When the cameras of a rig fire within one cycle, measured from their stamps alone.

A rig fires its cameras once per cycle, each at its own offset (nuScenes: over 42.6 ms of 83 ms). Two figures
decide which skew bound a camera set may have:

* the spread, from the first to the last camera of a cycle: a smaller bound can complete no set;
* the period minus the largest gap between neighbouring cameras inside the cycle: a set that takes a camera
  from another cycle spans at least that much, so a smaller bound can mix no cycles. (Let m be the lowest
  cycle in a set and A the cameras taken from it. The others span at least period + max(offset of the others)
  - min(offset of A). That is least when A is exactly the tail of the cycle, behind some gap, and then it is
  the period minus this gap.)

The cycle is cut open at its largest cyclic gap. That is no convention: a legal bound exists only where that
gap is the largest, because spread < period - largest inner gap says just this.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# With fewer common cycles a median is one image's word against another's.
FEWEST_CYCLES = 3

# Intervals this near to the median belong to the regular pattern. nuScenes keyframes come 399 to 600 ms
# apart, cameras locked to its 20 Hz lidar 50 or 100 ms apart; doubled frames fall below, gaps by loss above.
_REGULAR = (0.4, 1.6)

# A gap is a whole multiple of the period when it misses it by less than this share of one period.
MULTIPLE_TOLERANCE = 0.25

# Offsets that come back within this share of the period are steady; +-10 ms of jitter at 12 Hz still is.
_STEADY = 0.15


@dataclass(frozen=True, kw_only=True)
class Stagger:
    """The measured cycle of a rig.

    period_ns: mean time between cycles. interval_ns: the most usual interval between images of one camera,
    the unit in which loss is counted. shortest_ns: the shortest regular interval (a lidar-locked rig at 12 Hz
    has 50 and 100 ms). offsets_ns: of each camera to the first one of the cycle, 0 to spread_ns.
    largest_gap_ns: between neighbouring cameras inside the cycle. first: the camera that opens the cycle.
    """

    period_ns: int
    interval_ns: int
    shortest_ns: int
    offsets_ns: Mapping[str, int]
    spread_ns: int
    largest_gap_ns: int
    first: str

    @property
    def bound_limits_ns(self) -> tuple[int, int]:
        """The interval (spread, period - largest gap) of legal skew bounds, ends excluded; may be empty."""
        return self.spread_ns, self.period_ns - self.largest_gap_ns


def estimate_stagger(stamps: Mapping[str, Sequence[int]], previous: Stagger | None = None) -> Stagger | None:
    """Measure a rig from recent stamps of its cameras (each sequence increasing); None when they are too few.

    Cameras whose images keep no steady offset to those of the best-covered camera are left out, or take their
    offset from ``previous``, which also keeps the cut between cycles where two gaps are about equal. Robust
    against lost images, jitter and irregular intervals.
    """
    usable = {camera: list(series) for camera, series in stamps.items() if len(series) > FEWEST_CYCLES}
    if not usable:
        return None
    intervals = _intervals(usable)
    if intervals is None:
        return None
    period, interval, shortest = intervals
    # A camera at a multiple of the rig's rate has no offset of its own.
    usable = {camera: series for camera, series in usable.items() if _median_gap(series) >= 0.6 * interval}
    if not usable:
        return None
    newest = max(series[-1] for series in usable.values())
    # A camera that has fallen silent shares no cycle with the others any more.
    reference = max(
        usable, key=lambda camera: (newest - usable[camera][-1] <= 4 * period, len(usable[camera]))
    )
    positions = {reference: 0.0}
    for camera, series in usable.items():
        if camera != reference:
            offset = _usual_offset(usable[reference], series, period)
            if offset is not None:
                positions[camera] = offset % period
    if previous is not None and reference in previous.offsets_ns:
        # A camera that is silent, or loses too much at present, keeps its place in the cycle.
        for camera, offset in previous.offsets_ns.items():
            if camera not in positions and camera in stamps:
                positions[camera] = (offset - previous.offsets_ns[reference]) % period
    return _cut(positions, period, interval, shortest, previous)


def multiples(gap_ns: float, interval_ns: float) -> int:
    """How many whole intervals a gap is; 1 where it is no whole multiple, so that nothing odd counts as loss.

    Above four intervals the gap's own drift exceeds the tolerance, so it is rounded down.
    """
    ratio = gap_ns / interval_ns
    whole = round(ratio)
    if whole < 2:
        return 1
    if whole > 4:
        return int(ratio)
    return whole if abs(ratio - whole) <= MULTIPLE_TOLERANCE else 1


def _intervals(usable: Mapping[str, list[int]]) -> tuple[float, float, float] | None:
    """Period, usual interval and shortest regular interval (ns) of the rig; None when unclear as yet."""
    by_camera = [
        sorted(after - before for before, after in zip(series, series[1:], strict=False))
        for series in usable.values()
    ]
    medians = sorted(
        gaps[len(gaps) // 2]
        for gaps in by_camera
        if sum(abs(gap / gaps[len(gaps) // 2] - 1.0) <= MULTIPLE_TOLERANCE for gap in gaps) >= 0.8 * len(gaps)
    )
    pooled = sorted(gap for gaps in by_camera for gap in gaps)
    if 2 * len(medians) > len(by_camera):  # most cameras are steady: theirs is the rig's rate
        median = medians[len(medians) // 2]
    else:
        median = pooled[len(pooled) // 2]
        low = pooled[len(pooled) * 15 // 100]
        if median >= 1.5 * low:
            loses = _loses_images(usable, low)
            if loses is None:
                return None
            if loses:
                # An unconfigured DDS transport loses up to 80 % of the images: the median is a multiple.
                units = sorted(gap / multiples(gap, low) for gap in pooled if gap < 4.25 * low)
                return units[len(units) // 2], units[len(units) // 2], units[0]
    regular = [gap for gap in pooled if _REGULAR[0] * median <= gap <= _REGULAR[1] * median]
    return sum(regular) / len(regular), median, regular[0]


def _median_gap(series: list[int]) -> int:
    return sorted(after - before for before, after in zip(series, series[1:], strict=False))[
        (len(series) - 1) // 2
    ]


def _loses_images(usable: Mapping[str, list[int]], unit: float) -> bool | None:
    """Tell lost images from a rig that skips cycles by design; both have intervals of one and two units.

    A rig that skips (12 images over 20 lidar turns: 1, 2, 2, 1, 2, 2 turns) has no two short intervals in a
    row, a camera that sends every unit has them even at 80 % loss. None: too few intervals to tell.
    """
    pairs = twice = 0
    for series in usable.values():
        short = [b - a < 1.5 * unit for a, b in zip(series, series[1:], strict=False)]
        pairs += len(short) - 1
        twice += sum(a and b for a, b in zip(short, short[1:], strict=False))
    if pairs >= 8 and twice >= max(2.0, 0.02 * pairs):
        return True
    # At 50 % loss 24 pairs without two short ones are one chance in a thousand.
    return False if pairs >= 24 else None


def _usual_offset(reference: list[int], series: list[int], period: float) -> float | None:
    """The time (ns, modulo the period) from a reference image to another camera's, in most cycles.

    Both neighbours of every reference image are candidates. The true offset comes back in every cycle,
    whereas the one to the neighbouring cycle wanders where intervals are irregular, so the densest quarter of
    the circle holds it. None where less than 70 % of the images agree, as with a wrong period or a camera
    that runs freely.
    """
    if len(series) == len(reference):
        # Nothing lost on either side: image by image is enough, and ten times as fast.
        paired = sorted(other - stamp for stamp, other in zip(reference, series, strict=True))
        if paired[-1] - paired[0] <= _STEADY * period and max(paired[-1], -paired[0]) <= period:
            return paired[len(paired) // 2] % period
    by_image = []
    for stamp in reference:
        index = bisect_right(series, stamp)
        neighbours = series[max(index - 1, 0) : index + 1]
        differences = [(other - stamp) % period for other in neighbours if abs(other - stamp) <= period]
        if differences:
            by_image.append(differences)
    if len(by_image) < FEWEST_CYCLES:
        return None
    found = sorted(difference for differences in by_image for difference in differences)
    count = len(found)
    circle = found + [value + period for value in found]  # so that no cluster is cut at zero
    best_start, best_count, end = 0, 0, 0
    for start in range(count):
        while end < start + count and circle[end] - circle[start] <= period / 4:
            end += 1
        if end - start > best_count:
            best_start, best_count = start, end - start
    offset = circle[best_start + best_count // 2]
    steady = sum(
        any(abs((d - offset + period / 2) % period - period / 2) <= _STEADY * period for d in differences)
        for differences in by_image
    )
    return offset if steady >= max(FEWEST_CYCLES, 0.7 * len(by_image)) else None


def _cut(
    positions: Mapping[str, float], period: float, interval: float, shortest: float, previous: Stagger | None
) -> Stagger:
    order = sorted(positions, key=lambda camera: positions[camera])
    # gap[i] lies before order[i]; the first one closes the circle.
    gaps = [
        positions[camera] - positions[order[i - 1]] + (period if i == 0 else 0.0)
        for i, camera in enumerate(order)
    ]
    start = max(range(len(order)), key=lambda i: gaps[i])
    if previous is not None and previous.first in positions:
        kept = order.index(previous.first)
        if gaps[kept] >= gaps[start] - 0.02 * period:
            start = kept
    first = order[start]
    offsets = {camera: round((positions[camera] - positions[first]) % period) for camera in positions}
    inner = [gap for i, gap in enumerate(gaps) if i != start]
    return Stagger(
        period_ns=round(period),
        interval_ns=round(interval),
        shortest_ns=round(shortest),
        offsets_ns=offsets,
        spread_ns=max(offsets.values()),
        largest_gap_ns=round(max(inner, default=0.0)),
        first=first,
    )
