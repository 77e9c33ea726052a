"""When the cameras fire and what their stamps say: rates, loss, stagger against the skew bound, the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wpt_replay.bag_info import GAP_PERIODS, Stagger, measure_stagger
from wpt_replay.check_observer import StampTrack
from wpt_replay.check_report import Finding, fail, ok, per_camera, warn
from wpt_replay.check_settings import PlannerSettings

# As the node's watchdog: below, the odd dropped frame; above, a transport or a machine is overloaded.
LOSS_PERCENT = 1.0
# Stamps this far from the record times are of another clock, not late.
ANOTHER_CLOCK_S = 60.0
# Fewer complete cycles than this are worth a line of their own.
_COMPLETE_SHARE = 0.98
_RATE_TOLERANCE = 0.2
# Stamps of triggered cameras jitter by tenths of a millisecond, and six cameras spread evenly over a period of
# 83.333333 ms leave a few nanoseconds by rounding alone: between limits this close no bound can be kept.
_NARROWEST_NS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """Camera cycles of a recording. complete: within the skew bound; widest_ns: the widest of the others,
    0 if none.
    """

    complete: int
    total: int
    widest_ns: int


def judge_timing(
    tracks: Mapping[str, StampTrack], rig: tuple[str, ...], settings: PlannerSettings, *, missing: bool
) -> list[Finding]:
    """Judge rates, loss and the skew bound of the cameras that have stamps. missing: whether some of the
    rig have none.
    """
    stamps = {camera: track.sorted_ns for camera, track in tracks.items()}
    if not stamps:
        return []
    stagger = measure_stagger({camera: values.tolist() for camera, values in stamps.items()})
    if stagger.period_ns is None:
        few = [camera for camera, values in stamps.items() if len(values) < 2]
        return [
            warn(
                "rates",
                f"{', '.join(few)} sent one image alone, so that rates, loss and stagger cannot be told",
                "check a longer recording",
            )
        ]
    findings = per_camera(rig, _rates(stamps, stagger.period_ns))
    findings += _skew_bound(stagger, settings)
    cycles = count_cycles(stamps, stagger, settings.max_skew_ns)
    findings.append(_completeness(cycles, stagger, settings, missing))
    return findings


def _rates(stamps: Mapping[str, np.ndarray], period_ns: int) -> dict[str, Finding]:
    """Return what is to be said of single cameras against the rig's period."""
    findings = {}
    for camera, values in stamps.items():
        gaps = np.diff(values)
        if not len(gaps):
            continue
        own_ns = float(np.median(gaps))
        ratio = own_ns / period_ns
        # A camera that loses every second image has twice the period: the rig's own counts its losses.
        is_multiple = round(ratio) >= 1 and abs(ratio - round(ratio)) < _RATE_TOLERANCE
        unit_ns = period_ns if is_multiple else own_ns
        if not is_multiple:
            findings[camera] = warn(
                camera,
                f"runs at {1e9 / own_ns:.1f} Hz and the rig at {1e9 / period_ns:.1f} Hz, so that most sets"
                " lack an image or leave one out",
                "run all cameras at one rate",
            )
            continue
        lost = int(np.sum(np.round(gaps[gaps > GAP_PERIODS * unit_ns] / unit_ns) - 1))
        percent = 100.0 * lost / (lost + len(values))
        if percent >= LOSS_PERCENT:
            findings[camera] = warn(
                camera,
                f"{percent:.1f} % of its images are missing ({lost} of {lost + len(values)} by the gaps of"
                f" its stamps, the longest {gaps.max() / 1e6:.0f} ms)",
                "look for what loses them: the camera's link, the recorder's disk or cache, the DDS transport"
                " (this suite's profile: docs/bringing-a-car.md)",
                lost=lost,
                received=len(values),
            )
    return findings


def _skew_bound(stagger: Stagger, settings: PlannerSettings) -> list[Finding]:
    """Judge max_skew: it must exceed the spread and stay below the period minus the largest gap."""
    assert stagger.period_ns is not None and stagger.highest_skew_bound_ns is not None
    low, high, bound = stagger.spread_ns, stagger.highest_skew_bound_ns, settings.max_skew_ns
    figures = {
        "period_ms": stagger.period_ns / 1e6,
        "spread_ms": low / 1e6,
        "highest_max_skew_ms": high / 1e6,
        "offset_ms": {camera: offset / 1e6 for camera, offset in stagger.offset_ns.items()},
    }
    limits = (
        f"the cameras fire over {_ms(low)} (spread) of a period of {_ms(stagger.period_ns)}, and a set that"
        f" spans {_ms(high)} (period minus largest gap) can mix two cycles"
    )
    if high - low < _NARROWEST_NS:
        return [
            fail(
                "max_skew",
                f"no skew bound tells one cycle from the next: {limits}",
                "trigger the cameras closer together, all within less than half of the period, or thin the"
                " recording to every second cycle so that the period doubles and the spread stays",
                **figures,
            )
        ]
    middle = (low + high) // 2
    advice = (
        "set max_skew to"
        f" {round(middle / 1e9, 3) if low < round(middle / 1e9, 3) * 1e9 < high else middle / 1e9:g}"
    )
    if bound <= low:
        found = f"{_ms(bound)} is too small, no set can be complete: {limits}"
        return [fail("max_skew", found, advice, **figures)]
    if bound >= high:
        found = f"{_ms(bound)} is too large, images of two cycles can be mixed: {limits}"
        return [fail("max_skew", found, advice, **figures)]
    found = f"{_ms(bound)} lies between the spread {_ms(low)} and {_ms(high)} (period minus largest gap)"
    return [ok("max_skew", found, **figures)]


def _completeness(cycles: Cycles, stagger: Stagger, settings: PlannerSettings, missing: bool) -> Finding:
    assert stagger.period_ns is not None
    rate = 1e9 / stagger.period_ns
    among = " of the cameras that are there" if missing else ""
    found = (
        f"{cycles.complete} of {cycles.total} cycles{among} are complete within max_skew, at {rate:.1f} Hz"
    )
    figures = {"complete": cycles.complete, "cycles": cycles.total, "rate_hz": rate}
    if cycles.complete == 0:
        return fail(
            "camera sets",
            f"none of {cycles.total} cycles{among} is complete within max_skew {settings.max_skew * 1e3:g}"
            f" ms, so no set would be planned on (the narrowest miss spans {_ms(cycles.widest_ns)})",
            "see the lines about max_skew, loss and clocks; cameras of one rig need one clock",
            **figures,
        )
    if cycles.complete < _COMPLETE_SHARE * (
        cycles.total - 2
    ):  # the first and the last may be cut by the recording
        return warn(
            "camera sets",
            found,
            "the others are skipped: mend the loss, or set missing_camera to hold or mask",
            **figures,
        )
    return ok("camera sets", found, **figures)


def count_cycles(stamps: Mapping[str, np.ndarray], stagger: Stagger, max_skew_ns: int) -> Cycles:
    """Count the cycles in which every camera has an image at its place, all within the bound.

    stamps: by camera, rising. The camera with the most images marks the cycles.
    """
    assert stagger.period_ns is not None
    marker = max(stamps, key=lambda camera: len(stamps[camera]))
    chosen, at_place = [], np.ones(len(stamps[marker]), dtype=bool)
    for camera, values in stamps.items():
        expected = stamps[marker] + (stagger.offset_ns[camera] - stagger.offset_ns[marker])
        right = np.clip(np.searchsorted(values, expected), 1, max(1, len(values) - 1))
        left = right - 1
        right = np.minimum(right, len(values) - 1)
        nearest = np.where(expected - values[left] <= values[right] - expected, values[left], values[right])
        chosen.append(nearest)
        at_place &= np.abs(nearest - expected) < stagger.period_ns / 2
    spans = np.max(chosen, axis=0) - np.min(chosen, axis=0)
    complete = at_place & (spans <= max_skew_ns)
    missed = spans[~complete]
    return Cycles(
        complete=int(complete.sum()), total=len(spans), widest_ns=int(missed.min()) if len(missed) else 0
    )


def judge_clock(
    tracks: Mapping[str, StampTrack],
    clock: StampTrack,
    rig: tuple[str, ...],
    settings: PlannerSettings,
    *,
    live: bool,
    simulated: bool = False,
) -> list[Finding]:
    """Compare stamps with the time at which images were recorded, or arrived.

    In a bag that is what a player makes ROS time of; live it is ROS time itself (/clock where simulated is
    true).
    """
    delays = {
        camera: np.median(track.records_ns - track.stamps_ns) / 1e9
        for camera, track in tracks.items()
        if len(track.stamps_ns)
    }
    if simulated and not clock.count:
        return [
            fail(
                "/clock",
                "is advertised and sends nothing, so that ROS time stands still",
                "continue the playback or the simulation, or end its publisher",
            )
        ]
    if not delays:
        return []
    typical = float(np.median(list(delays.values())))
    findings = [_clock(typical, clock, settings, live, simulated)]
    allowed = max(settings.max_skew, 0.1)
    findings += per_camera(
        rig,
        {
            camera: warn(
                camera,
                f"its stamps lie {abs(delay - typical) * 1e3:.0f} ms"
                f" {'behind' if delay > typical else 'ahead of'} those of the other cameras, measured by the"
                f" time of {'arrival' if live else 'recording'}: sets would join pictures of different"
                " moments",
                "synchronise the cameras' clocks (PTP), or look for a delay in its driver",
            )
            for camera, delay in delays.items()
            if abs(delay - typical) > allowed
        },
    )
    if not live and clock.count and findings[0].status.value == "ok":
        findings.append(
            warn(
                "/clock",
                f"is recorded in the bag ({clock.count} messages): `ros2 bag play --clock` would publish a"
                " second one",
                "play with `wpt-replay play`, which leaves it out, or with `ros2 bag play` without --clock",
            )
        )
    return findings


def _clock(
    typical_s: float, clock: StampTrack, settings: PlannerSettings, live: bool, simulated: bool
) -> Finding:
    when = "arrival" if live else "recording"
    side = "before" if typical_s >= 0 else "after"
    figures = {"delay_ms": typical_s * 1e3}
    if -settings.stamp_lead <= typical_s <= settings.max_age:
        text = f"images are stamped {abs(typical_s) * 1e3:.0f} ms {side} their {when} (median)"
        if live:
            text += "; ROS time is /clock: start the planner with use_sim_time:=true" if simulated else ""
        else:
            text += (
                "; players make ROS time of the record times: use_sim_time:=true, and --clock for `ros2 bag"
                " play`"
            )
        return ok("clock", text, **figures)
    gap = _span(abs(typical_s))
    if not live and clock.count:
        behind_clock_s = typical_s - float(np.median(clock.records_ns - clock.stamps_ns)) / 1e9
        if -settings.stamp_lead <= behind_clock_s <= settings.max_age:
            return warn(
                "clock",
                f"stamps are of the recorded /clock, {gap} {side} the record times",
                "play with `ros2 bag play` WITHOUT --clock, so that the recorded /clock is ROS time"
                " (`wpt-replay play` and --clock make it of the record times, and every set would be"
                " refused)",
                **figures,
            )
    if abs(typical_s) > ANOTHER_CLOCK_S:
        if live:
            return fail(
                "clock",
                f"image stamps are {gap} {'behind' if typical_s > 0 else 'ahead of'} ROS time, expected the"
                " same clock",
                "for a recording play with --clock and set use_sim_time:=true; else synchronise the clocks of"
                " cameras and computer",
                **figures,
            )
        return fail(
            "clock",
            f"image stamps are {gap} {side} their record times, expected the same clock: a player's ROS time"
            " is the record time, so every set would be refused as of another clock",
            "let the driver stamp images with ROS time (not with the camera's own counter) and record again,"
            " or write the stamps as record times",
            **figures,
        )
    limit = f"max_age {settings.max_age:g} s" if typical_s > 0 else f"stamp_lead {settings.stamp_lead:g} s"
    parameter = "max_age" if typical_s > 0 else "stamp_lead"
    return fail(
        "clock",
        f"images are stamped {gap} {side} their {when} (median), expected at most {limit}: every set would be"
        " refused",
        f"mend the delay or the clocks (a plan on old images is an old plan), or raise {parameter}",
        **figures,
    )


def judge_arrival(tracks: Mapping[str, StampTrack], settings: PlannerSettings) -> list[Finding]:
    """Compare how long one cycle takes to arrive with the time that a set waits for its images."""
    stamps = {camera: track.sorted_ns for camera, track in tracks.items()}
    if len(stamps) < 2 or any(len(values) < 2 for values in stamps.values()):
        return []
    stagger = measure_stagger({camera: values.tolist() for camera, values in stamps.items()})
    arrivals = [
        stagger.offset_ns[camera] + float(np.median(track.records_ns - track.stamps_ns))
        for camera, track in tracks.items()
    ]
    spread_s = (max(arrivals) - min(arrivals)) / 1e9
    if spread_s <= settings.set_timeout:
        return []
    return [
        fail(
            "set_timeout",
            f"the images of one cycle arrive over {spread_s * 1e3:.0f} ms and a set waits"
            f" {settings.set_timeout * 1e3:.0f} ms from its first image, so every set would be incomplete",
            f"set set_timeout to more than {spread_s:.3f}, or mend the delay of the last camera",
        )
    ]


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.1f} ms"


def _span(seconds: float) -> str:
    if seconds < 1.0:
        return f"{seconds * 1e3:.0f} ms"
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
