"""`wpt-replay check`: can the planner run on this bag or vehicle? One line for each finding, exit code 0 when
it can.

Exit codes: 0 the planner can run (warnings allowed), 1 it cannot, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from wpt_replay.bag_reader import BagReader
from wpt_replay.check_calibration import judge_calibration
from wpt_replay.check_images import judge_images
from wpt_replay.check_names import InputNames, choose_names
from wpt_replay.check_names_judgement import settle_names
from wpt_replay.check_observer import OBSERVED_TYPES, TF_MESSAGE, TF_STATIC, Observer
from wpt_replay.check_odometry import judge_odometry
from wpt_replay.check_planner import (
    PlannerNeeds,
    PlannerUnknownError,
    judge_command,
    judge_planner,
    load_needs,
)
from wpt_replay.check_qos import Offer, judge_static_transforms, judge_subscriptions, offered_by_bag
from wpt_replay.check_report import CheckReport, Finding, Status, fail, warn
from wpt_replay.check_settings import PlannerSettings, SettingsError, load_presets, load_settings
from wpt_replay.check_timing import judge_arrival, judge_clock, judge_timing
from wpt_replay.errors import BagError, ReplayError
from wpt_replay.progress import Progress

DEFAULT_LIVE_S = 10.0
EXAMPLES = """examples:
  wpt-replay check --bag bags/scene-0061
  wpt-replay check --bag drive --planner my-policy --params-file vehicle.yaml
  wpt-replay check --live --seconds 20 --json check.json

docs/bringing-a-car.md explains every finding.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--bag", type=Path, metavar="BAG", help="folder with metadata.yaml, or one .mcap or .db3 file"
    )
    source.add_argument("--live", action="store_true", help="listen to the vehicle (ROS_DOMAIN_ID as set)")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help=(
            f"how long to listen (default {DEFAULT_LIVE_S:g}), or how much of the bag to read (default: all)"
        ),
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="topic names to check by (default: those that explain most)"
    )
    parser.add_argument(
        "--planner", metavar="NAME|BUNDLE", help="planner to check for (default: that of the parameter file)"
    )
    parser.add_argument(
        "--params-file",
        type=Path,
        metavar="FILE",
        help="the vehicle's parameters (default: wpt_planner's planner.yaml)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON, too")


def run(args: argparse.Namespace) -> int:
    """Check and print; returns the exit code."""
    try:
        settings = load_settings(args.params_file)
        presets = load_presets()
        needs = load_needs(args.planner or settings.planner, settings)
        if args.preset is not None and args.preset not in presets:
            raise SettingsError(f"preset is {args.preset!r}, expected one of {', '.join(presets)}")
        if args.seconds is not None and not args.seconds > 0:
            raise SettingsError(f"--seconds is {args.seconds:g}, expected more than 0")
    except (SettingsError, PlannerUnknownError) as error:
        print(f"wpt-replay check: {error}", file=sys.stderr)
        return 2
    values = {
        "params_file": "" if args.params_file is None else str(args.params_file),
        **({"planner": args.planner} if args.planner else {}),
    }
    if args.live:
        from wpt_replay.check_live import check_live

        report = check_live(
            args.seconds or DEFAULT_LIVE_S, settings, presets, needs, values, args.preset, args.ros_args
        )
    else:
        report = check_bag(args.bag, settings, presets, needs, values, args.preset, args.seconds)
    print(report.as_text())
    if args.json is not None:
        try:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ReplayError(
                f"{args.json} cannot be written ({error.strerror}): name another file"
            ) from error
    return report.exit_code


def check_bag(
    path: Path,
    settings: PlannerSettings,
    presets: Mapping[str, Mapping[str, str]],
    needs: PlannerNeeds,
    start_values: Mapping[str, str] | None = None,
    preset: str | None = None,
    seconds: float | None = None,
) -> CheckReport:
    """Read a bag once and judge it. preset: take this one, None: the best. seconds: of the bag, None: all
    of it.
    """
    report = CheckReport(source=f"bag {path}", planner=needs.name)
    try:
        with BagReader(path) as bag:
            if not bag.message_count:
                report.findings.append(
                    fail(
                        "bag",
                        "holds no message",
                        "record again, and look whether the topics were published meanwhile",
                    )
                )
                return report
            offers = {
                topic: Offer(
                    name=topic, type_name=entry.type_name, count=entry.count, qos=offered_by_bag(entry.qos)
                )
                for topic, entry in ((_absolute(name), entry) for name, entry in bag.topics.items())
            }
            names = choose_names(offers, needs.cameras, presets, settings, preset)
            seen, damage = _observe(bag, settings, seconds)
    except BagError as error:
        report.findings.append(_unusable(path, error))
        return report
    values = {**(start_values or {}), "use_sim_time": "true"}
    judge(report, names, offers, seen, settings, needs, values, wanted=preset is not None, live=False)
    report.findings += damage
    return report


def judge(
    report: CheckReport,
    names: InputNames,
    offers: Mapping[str, Offer],
    seen: Observer,
    settings: PlannerSettings,
    needs: PlannerNeeds,
    start_values: Mapping[str, str],
    *,
    wanted: bool,
    live: bool,
) -> None:
    """Fill a report from what was seen."""
    start = (start_values, settings.transport)
    names, first = settle_names(names, offers, needs.cameras, seen, start, wanted=wanted)
    report.preset, report.remaps = names.preset, names.remaps()
    report.start = names.start_command(*start)
    report.findings += [*first, judge_planner(needs)]
    if first[0].status is Status.FAIL:
        return  # without a single camera every further line would only say so again
    images, cameras = judge_images(names, offers, seen, needs, settings, live=live)
    report.findings += images
    tracks = {camera: seen.images[names.images[camera]].times for camera in cameras}
    simulated = live and "/clock" in offers
    report.findings += judge_timing(
        tracks, needs.cameras, settings, missing=len(cameras) < len(needs.cameras)
    )
    report.findings += judge_clock(
        tracks, seen.clock, needs.cameras, settings, live=live, simulated=simulated
    )
    report.findings += judge_arrival(tracks, settings)
    report.findings += _static_transforms(offers.get(TF_STATIC), seen, tracks, live)
    pictured = tuple(camera for camera in needs.cameras if names.images[camera] in seen.images)
    report.findings += judge_calibration(names, offers, seen, needs, settings, pictured)
    report.findings += judge_odometry(
        names.odometry, offers.get(names.odometry), seen, tracks, needs, settings
    )
    for topic in {TF_STATIC, names.command} & seen.unreadable.keys():
        reason = seen.unreadable[topic]
        report.findings.append(
            fail(topic, f"cannot be read: {reason}", "fix its publisher, or record it again")
        )
    report.findings += judge_command(seen.commands.get(names.command), names.command, needs, settings)
    inputs = [offers[topic] for topic in names.topics() if topic in offers]
    report.findings += judge_subscriptions(inputs, settings.qos_overrides, live=live)


def _observe(
    bag: BagReader, settings: PlannerSettings, seconds: float | None
) -> tuple[Observer, list[Finding]]:
    """Read what matters of a bag, once; a damaged end is a finding, and what came before it is kept."""

    def decode(topic: str, type_name: str, data: bytes) -> object:
        store = bag.store(stored[topic])
        try:
            return store.deserialize_cdr(data, type_name)
        except Exception as error:  # corrupted lengths fail anywhere in the generated code
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BagError(f"a message is no valid {type_name} ({reason})") from error

    stored = {_absolute(name): name for name in bag.topics}
    wanted = [name for name, entry in bag.topics.items() if entry.type_name in OBSERVED_TYPES and entry.count]
    seen = Observer(decode, settings.base_frame)
    stop_ns = None if seconds is None else bag.start_ns + round(seconds * 1e9)
    total = sum(bag.topics[name].count for name in wanted)
    done = 0
    try:
        with Progress(bag.path.name, total) as progress:
            for message in bag.messages(wanted, stop_ns=stop_ns) if wanted else ():
                seen.take(_absolute(message.topic), message.type_name, message.stamp_ns, message.data)
                done += 1
                progress.show(done)
    except BagError as error:
        return seen, [_unusable(bag.path, error)]
    if seconds is not None and stop_ns < bag.end_ns:
        left = (bag.end_ns - stop_ns) / 1e9
        return seen, [
            warn(
                "bag", f"only its first {seconds:g} s were read, {left:.1f} s were not", "leave --seconds out"
            )
        ]
    return seen, []


def _unusable(path: Path, error: BagError) -> Finding:
    """Return what is to be said of a bag that cannot be read."""
    if path.suffix == ".bag" and path.is_file():
        return fail(
            "bag",
            f"{path} is a ROS 1 bag, expected one of ROS 2",
            f"convert it: rosbags-convert --src {path} --dst {path.stem} --dst-storage mcap",
        )
    if "Profile is not ros2" in str(error):
        return fail(
            "bag",
            f"{path} is an MCAP file without ROS 2 messages (foxglove/nuscenes2mcap writes such), which no"
            " player plays",
            "make a bag of the data set itself by `wpt-bag convert`, or convert its messages to ROS 2",
        )
    found, _, remedy = str(error).partition(": ")
    return fail("bag", found, remedy)


def _static_transforms(
    offer: Offer | None, seen: Observer, tracks: Mapping[str, object], live: bool
) -> list[Finding]:
    """Judge how /tf_static reaches the planner, by its times against the images'."""
    if offer is None or offer.type_name != TF_MESSAGE:
        return []
    static = seen.static
    starts = [int(track.records_ns[0]) for track in tracks.values() if len(track.records_ns)]
    first_s = None
    if static.first_record_ns is not None:
        first_s = (static.first_record_ns - min(starts)) / 1e9 if starts else 0.0
    interval_s = None
    if static.count > 1 and static.last_record_ns is not None and static.first_record_ns is not None:
        interval_s = (static.last_record_ns - static.first_record_ns) / 1e9 / (static.count - 1)
    repeated = interval_s if interval_s is not None and interval_s > 0.05 and static.count > 2 else None
    return judge_static_transforms(offer, first_s=first_s, interval_s=repeated, live=live)


def _absolute(topic: str) -> str:
    """Return a topic name with its leading slash, which some converters leave out."""
    return topic if topic.startswith("/") else f"/{topic}"
