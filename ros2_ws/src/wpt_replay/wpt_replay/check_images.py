"""The images themselves: there, of a type and encoding that the planner reads, stamped, of one size and
frame.
"""

from __future__ import annotations

from collections.abc import Mapping

from wpt_replay.check_names import IMAGE_TYPE, InputNames, image_topics
from wpt_replay.check_observer import ImageTrack, Observer
from wpt_replay.check_planner import PlannerNeeds
from wpt_replay.check_qos import Offer
from wpt_replay.check_report import Finding, fail, ok, per_camera, warn
from wpt_replay.check_settings import PlannerSettings

_MOST_LISTED = 6


def judge_images(
    names: InputNames,
    offers: Mapping[str, Offer],
    seen: Observer,
    needs: PlannerNeeds,
    settings: PlannerSettings,
    *,
    live: bool,
) -> tuple[list[Finding], tuple[str, ...]]:
    """Return findings, and the cameras that have images with stamps: the rest of the check is about those."""
    absent: dict[str, Finding] = {}
    broken: dict[str, Finding] = {}
    doubtful: dict[str, Finding] = {}
    good: dict[str, Finding] = {}
    usable = []
    for camera in needs.cameras:
        topic = names.images[camera]
        track = seen.images.get(topic)
        if track is None or not track.times.count:
            absent[camera] = _absent(camera, topic, names, offers, seen, needs, settings, live)
            continue
        if track.times.count > track.times.zero:
            usable.append(camera)
        problem = _broken(camera, track)
        if problem is not None:
            broken[camera] = problem
            continue
        doubt = _doubtful(camera, track)
        if doubt is not None:
            doubtful[camera] = doubt
        kinds = ", ".join(f"{width}x{height} {encoding}" for encoding, width, height in track.kinds)
        good[camera] = ok(camera, f"images are {kinds}, frame {_frame(track, camera)}")
    findings = [
        finding for part in (absent, broken, doubtful, good) for finding in per_camera(needs.cameras, part)
    ]
    return findings, tuple(usable)


def _absent(
    camera: str,
    topic: str,
    names: InputNames,
    offers: Mapping[str, Offer],
    seen: Observer,
    needs: PlannerNeeds,
    settings: PlannerSettings,
    live: bool,
) -> Finding:
    offer, expected = offers.get(topic), IMAGE_TYPE[names.transport]
    if offer is not None and offer.type_name != expected:
        return fail(
            camera, f"{topic} has type {offer.type_name}, expected {expected}", type_remedy(offer.type_name)
        )
    if topic in seen.unreadable:
        return fail(
            camera, f"images on {topic} cannot be read: {seen.unreadable[topic]}", "fix their publisher"
        )
    if offer is not None:
        state = (
            f"sends nothing on {topic} though it is advertised"
            if live
            else f"{topic} is there and holds no message"
        )
        found, remedy = (
            f"no images: {state}",
            ("check the camera's driver and its cable" if live else "record it again"),
        )
    else:
        others = [name for name in image_topics(offers) if name not in names.images.values()]
        found = f"no images: {topic} is not there"
        if others:
            more = f" and {len(others) - _MOST_LISTED} more" if len(others) > _MOST_LISTED else ""
            found += f"; other images are on {', '.join(others[:_MOST_LISTED])}{more}"
        remedy = "record or publish it" + (", or remap one of those" if others else "")
    if camera in needs.may_mask and settings.missing_camera == "mask":
        return warn(camera, f"{found}; {needs.name} was trained to lose it and masks it", remedy)
    if camera in needs.may_mask:
        remedy += f", or set missing_camera to mask ({needs.name} was trained to lose it)"
    return fail(camera, found, remedy)


def type_remedy(type_name: str) -> str:
    """Return what to do about a topic of another type."""
    if "/msg/" not in type_name:
        return (
            "this is no ROS 2 message (Foxglove's converter writes such), and no ROS 2 node reads it: convert"
            " the data set by `wpt-bag convert`, or the messages to ROS 2"
        )
    return "remap the topic of the expected type, or publish that type there"


def _broken(camera: str, track: ImageTrack) -> Finding | None:
    times = track.times
    if times.zero == times.count:
        return fail(
            camera,
            f"all {times.count} images have stamp 0, expected the time of exposure; they can belong to"
            " no set",
            "let the driver or converter fill header.stamp",
        )
    if track.refused == times.count:
        found, _, remedy = track.problem.rpartition("; ")
        return fail(
            camera,
            f"all {times.count} images are refused: {found or track.problem}",
            remedy or "fix the sender",
        )
    if track.frame_ids and track.frame_ids.most_common(1)[0][0] == "":
        return fail(
            camera,
            "images have an empty frame_id, expected the camera's optical frame; nothing says where they were"
            " taken from",
            "set frame_id in the driver or converter to the frame that /tf_static joins to base_link",
        )
    return None


def _doubtful(camera: str, track: ImageTrack) -> Finding | None:
    times = track.times
    if track.refused:
        found, _, remedy = track.problem.rpartition("; ")
        return warn(
            camera,
            f"{track.refused} of {times.count} images are refused, their sets are incomplete:"
            f" {found or track.problem}",
            remedy or "fix the sender",
        )
    if times.zero:
        return warn(
            camera,
            f"{times.zero} of {times.count} images have stamp 0 and belong to no set",
            "let the driver stamp every image",
        )
    if times.backward:
        return warn(
            camera,
            f"stamps step back {times.backward} times, by {times.largest_step_back_ns / 1e9:.3f} s at most:"
            " more than 1 s is taken for a restart and empties the memory, less for images out of order,"
            " which are dropped",
            "record one drive in one bag, and let one node publish the topic",
        )
    if times.repeated:
        return warn(
            camera,
            f"{times.repeated} of {times.count} images repeat the stamp before them and are dropped",
            "check whether two nodes publish the topic, and that the driver stamps each exposure",
        )
    if len({kind[1:] for kind in track.kinds}) > 1:
        sizes = ", ".join(f"{width}x{height}" for _, width, height in track.kinds)
        return warn(
            camera, f"images change their size in mid-stream ({sizes}), expected one", "publish one size"
        )
    return None


def _frame(track: ImageTrack, camera: str) -> str:
    frame = track.frame_ids.most_common(1)[0][0]
    return "<camera>" if frame == camera else frame
