"""What a bag holds: topics, rates, latched topics, and how its cameras fire."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wpt_replay.bag_reader import BagReader, BagTopic, header_stamp_ns

IMAGE_TYPES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
# A stamp gap of more than this many periods means that an image is missing.
GAP_PERIODS = 1.5


@dataclass(frozen=True, kw_only=True)
class TopicSummary:
    """One topic. stamps_ns: header stamps where its type has them, else record times, sorted."""

    topic: BagTopic
    stamps_ns: tuple[int, ...]
    stamps_from_header: bool

    @property
    def period_ns(self) -> int | None:
        if len(self.stamps_ns) < 2:
            return None
        return round(
            statistics.median(b - a for a, b in zip(self.stamps_ns, self.stamps_ns[1:], strict=False))
        )

    @property
    def rate_hz(self) -> float | None:
        """Mean rate over the topic's own span; None below two messages or where all have one stamp."""
        span = self.stamps_ns[-1] - self.stamps_ns[0] if self.stamps_ns else 0
        return (len(self.stamps_ns) - 1) * 1e9 / span if span > 0 else None

    @property
    def missing(self) -> int:
        """How many messages the gaps between stamps speak of (gaps of more than 1.5 median periods)."""
        period = self.period_ns
        if not period:
            return 0
        gaps = (b - a for a, b in zip(self.stamps_ns, self.stamps_ns[1:], strict=False))
        return sum(round(gap / period) - 1 for gap in gaps if gap > GAP_PERIODS * period)


@dataclass(frozen=True, kw_only=True)
class Stagger:
    """How the cameras of a rig fire one after the other.

    period_ns: of the rig, None when a camera has one image alone. offset_ns: by topic, after the first camera
    of the cycle. spread_ns: last minus first. largest_gap_ns: between neighbours within the cycle.
    """

    period_ns: int | None
    offset_ns: Mapping[str, int]

    @property
    def spread_ns(self) -> int:
        return max(self.offset_ns.values(), default=0)

    @property
    def largest_gap_ns(self) -> int:
        ordered = sorted(self.offset_ns.values())
        return max((b - a for a, b in zip(ordered, ordered[1:], strict=False)), default=0)

    @property
    def highest_skew_bound_ns(self) -> int | None:
        """What a set's skew bound must stay below (it must exceed spread_ns), or two cycles can mix."""
        return None if self.period_ns is None else self.period_ns - self.largest_gap_ns


@dataclass(frozen=True, kw_only=True)
class BagSummary:
    path: str
    storage: str
    start_ns: int
    duration_ns: int
    message_count: int
    custom_data: Mapping[str, str]
    topics: Mapping[str, TopicSummary]
    stagger: Stagger | None
    findings: tuple[str, ...] = field(default_factory=tuple)

    @property
    def cameras(self) -> list[str]:
        """Image topics that hold images."""
        return [name for name, entry in self.topics.items() if is_camera(entry.topic)]


def is_camera(topic: BagTopic) -> bool:
    """Whether a topic holds images."""
    return topic.type_name in IMAGE_TYPES and topic.count > 0


def summarize(bag: BagReader) -> BagSummary:
    """Read a bag through once and return what is in it; raises BagError where it is damaged."""
    with_header = {name: bag.has_header(name) for name in bag.topics}
    stamps: dict[str, list[int]] = {name: [] for name in bag.topics}
    for message in bag.messages():
        stamp = header_stamp_ns(message.data) if with_header[message.topic] else None
        stamps[message.topic].append(message.stamp_ns if stamp is None else stamp)
    topics = {
        name: TopicSummary(
            topic=topic, stamps_ns=tuple(sorted(stamps[name])), stamps_from_header=with_header[name]
        )
        for name, topic in sorted(bag.topics.items())
    }
    cameras = {
        name: entry.stamps_ns for name, entry in topics.items() if is_camera(entry.topic) and entry.stamps_ns
    }
    return BagSummary(
        path=str(bag.path),
        storage=bag.storage,
        start_ns=bag.start_ns,
        duration_ns=bag.duration_ns,
        message_count=sum(len(values) for values in stamps.values()),
        custom_data=bag.custom_data,
        topics=topics,
        stagger=measure_stagger(cameras) if cameras else None,
        findings=tuple(_findings(topics)),
    )


def measure_stagger(stamps_ns: Mapping[str, Sequence[int]]) -> Stagger:
    """Return the firing order of cameras from their sorted stamps (at least one each).

    The first camera of the cycle is the one after the longest pause of the whole rig, so that a recording may
    start in the middle of a cycle. Offsets are medians, so that lost images do not matter.
    """
    names = list(stamps_ns)
    periods = [
        statistics.median(b - a for a, b in zip(stamps, stamps[1:], strict=False))
        for stamps in stamps_ns.values()
        if len(stamps) > 1
    ]
    if len(periods) < len(names):
        first = min(stamps[0] for stamps in stamps_ns.values())
        return Stagger(period_ns=None, offset_ns={name: stamps_ns[name][0] - first for name in names})
    period = round(statistics.median(periods))
    reference = stamps_ns[names[0]]
    phases = {name: _phase(stamps_ns[name], reference, period) for name in names}
    order = sorted(names, key=lambda name: phases[name])
    pauses = []
    for i, name in enumerate(order):
        before = phases[order[i - 1]] - (period if i == 0 else 0)
        pauses.append(phases[name] - before)
    start = phases[order[max(range(len(order)), key=lambda i: pauses[i])]]
    return Stagger(period_ns=period, offset_ns={name: (phases[name] - start) % period for name in order})


def _phase(stamps: Sequence[int], reference: Sequence[int], period: int) -> int:
    """Median offset of a camera's stamps to the nearest reference stamp, modulo period."""
    offsets = []
    j = 0
    for stamp in stamps:
        while j + 1 < len(reference) and abs(reference[j + 1] - stamp) <= abs(reference[j] - stamp):
            j += 1
        offset = stamp - reference[j]
        if abs(offset) <= period:  # the reference camera lost images here
            offsets.append(offset)
    # A camera half a period away from the reference is met now before and now after it: unwrap around the
    # first one.
    first = offsets[0] if offsets else 0
    unwrapped = [offset - period * round((offset - first) / period) for offset in offsets] or [0]
    return round(statistics.median(unwrapped)) % period


def _findings(topics: Mapping[str, TopicSummary]) -> list[str]:
    """Sentences about what is missing: facts of the bag, no judgement (that is `wpt-replay check`)."""
    lines = []
    for name, entry in topics.items():
        if is_camera(entry.topic) and entry.missing:
            lines.append(
                f"{name}: {entry.missing} images are missing by its stamps, beside {len(entry.stamps_ns)} "
                "that are there"
            )
        if is_camera(entry.topic):
            info = _camera_info_topic(name, topics)
            if info is None:
                lines.append(f"{name}: there is no camera_info topic for it")
    if not any(is_camera(entry.topic) for entry in topics.values()):
        lines.append("the bag holds no images")
    if "/tf_static" not in topics:
        lines.append("there is no /tf_static, so nothing says where the cameras are mounted")
    elif not topics["/tf_static"].topic.latched:
        lines.append(
            "/tf_static was recorded volatile: a subscriber that comes late will not get it from `ros2 bag "
            "play`"
        )
    return lines


def _camera_info_topic(image_topic: str, topics: Mapping[str, TopicSummary]) -> str | None:
    """The camera_info beside an image topic, up to two levels up (.../image_rect/compressed)."""
    parts = image_topic.split("/")
    for depth in (1, 2):
        candidate = "/".join([*parts[:-depth], "camera_info"])
        if candidate in topics and topics[candidate].stamps_ns:
            return candidate
    return None


def as_dict(summary: BagSummary) -> dict[str, Any]:
    """Return the summary for JSON: seconds, milliseconds and Hz."""
    stagger = summary.stagger
    return {
        "bag": summary.path,
        "storage": summary.storage,
        "start_ns": summary.start_ns,
        "duration_s": summary.duration_ns / 1e9,
        "messages": summary.message_count,
        "custom_data": dict(summary.custom_data),
        "topics": {
            name: {
                "type": entry.topic.type_name,
                "count": len(entry.stamps_ns),
                "rate_hz": entry.rate_hz,
                "latched": entry.topic.latched,
                "qos": [qos_text(profile) for profile in entry.topic.qos],
                "missing": entry.missing if is_camera(entry.topic) else None,
            }
            for name, entry in summary.topics.items()
        },
        "stagger": None
        if stagger is None
        else {
            "period_ms": None if stagger.period_ns is None else stagger.period_ns / 1e6,
            "spread_ms": stagger.spread_ns / 1e6,
            "largest_gap_ms": stagger.largest_gap_ns / 1e6,
            "offset_ms": {name: offset / 1e6 for name, offset in stagger.offset_ns.items()},
        },
        "findings": list(summary.findings),
    }


def as_text(summary: BagSummary) -> str:
    """Return the summary as a table for people."""
    lines = [
        f"bag       {summary.path} ({summary.storage})",
        f"duration  {summary.duration_ns / 1e9:.3f} s from {summary.start_ns / 1e9:.6f}",
        f"messages  {summary.message_count}",
    ]
    width = max(map(len, summary.custom_data), default=0)
    lines += [f"{key:<{width}}  {value}" for key, value in summary.custom_data.items()]
    width = max((len(name) for name in summary.topics), default=0)
    types = max((len(entry.topic.type_name) for entry in summary.topics.values()), default=0)
    lines.append("")
    for name, entry in summary.topics.items():
        rate = f"{entry.rate_hz:8.2f} Hz" if entry.rate_hz is not None else " " * 11
        latched = "  latched: " + "; ".join(map(qos_text, entry.topic.qos)) if entry.topic.latched else ""
        lines.append(
            f"{name:<{width}}  {entry.topic.type_name:<{types}}  {len(entry.stamps_ns):6d}  {rate}{latched}"
        )
    if summary.stagger is not None:
        lines += ["", *_stagger_lines(summary, summary.stagger)]
    if summary.findings:
        lines += ["", *summary.findings]
    return "\n".join(lines)


def _stagger_lines(summary: BagSummary, stagger: Stagger) -> list[str]:
    lines = ["cameras in firing order:"]
    for name, offset in sorted(stagger.offset_ns.items(), key=lambda entry: entry[1]):
        entry = summary.topics[name]
        rate = f"{entry.rate_hz:.2f} Hz" if entry.rate_hz is not None else "one image"
        lines.append(f"  {offset / 1e6:7.1f} ms  {name}  {rate}, {entry.missing} missing")
    text = f"spread {stagger.spread_ns / 1e6:.1f} ms"
    if stagger.highest_skew_bound_ns is not None:
        text += (
            f", period {stagger.period_ns / 1e6:.1f} ms: a skew bound between {stagger.spread_ns / 1e6:.1f} "
            f"and {stagger.highest_skew_bound_ns / 1e6:.1f} ms keeps cycles apart"
        )
        if stagger.highest_skew_bound_ns <= stagger.spread_ns:
            text = (
                f"spread {stagger.spread_ns / 1e6:.1f} ms, period {stagger.period_ns / 1e6:.1f} ms: no skew "
                "bound keeps cycles apart, the cameras fire over the whole period"
            )
    return [*lines, text]


def qos_text(profile: Any) -> str:
    """Return a QoS profile of a bag in four words, e.g. ``reliable transient_local keep_last 1``."""
    return " ".join(
        [
            profile.reliability.name.lower(),
            profile.durability.name.lower(),
            profile.history.name.lower(),
            str(profile.depth),
        ]
    )
