"""Says which topics are taken for which inputs, and corrects the choice by what the recording itself
tells.
"""

from __future__ import annotations

from collections.abc import Mapping

from wpt_replay.check_names import (
    InputNames,
    by_mount,
    derive_names,
    expected_yaw,
    image_topics,
    missing_cameras,
    reassigned,
    yaw_of,
)
from wpt_replay.check_observer import CAMERA_INFO, IMAGE_TYPES, ODOMETRY, Observer
from wpt_replay.check_qos import Offer
from wpt_replay.check_report import Finding, fail, ok, warn
from wpt_replay.check_settings import OWN_NAMES

# Arguments of InputNames.start_command.
StartWords = tuple[Mapping[str, str], str]

# A numbered camera that looks this far from where its place in the preset says is another one.
_ANOTHER_PLACE_DEG = 30.0


def settle_names(
    names: InputNames,
    offers: Mapping[str, Offer],
    cameras: tuple[str, ...],
    seen: Observer,
    start: StartWords,
    *,
    wanted: bool,
) -> tuple[InputNames, list[Finding]]:
    """Return the names to go on with, and the first lines of the report.

    start: of InputNames.start_command. wanted: the user has asked for this preset, so no
    other is tried.
    """
    missing = missing_cameras(names, offers)
    if missing and not wanted:
        derived = derive_names(names, offers, cameras, seen)
        if derived is not None:
            return derived, [_derived(derived, offers, seen, start)]
    what = "our own names" if names.preset == OWN_NAMES else f"preset {names.preset}"
    if names.namespace:
        what += f" in namespace {names.namespace}"
    counted = f"{what}: {len(cameras) - len(missing)} of {len(cameras)} cameras ({names.transport} images)"
    infos = sum(_is_there(topic, CAMERA_INFO, offers) for topic in names.camera_infos.values())
    counted += (
        f", {infos} camera_info,"
        f" {'odometry' if _is_there(names.odometry, ODOMETRY, offers) else 'no odometry'}"
    )
    if len(missing) == len(cameras):
        there = image_topics(offers)
        empty = sum(offer.type_name in IMAGE_TYPES and offer.is_empty for offer in offers.values())
        listed = (
            f" ({', '.join(there[:8])})" if there else f", and {empty} that hold no message" if empty else ""
        )
        return names, [
            fail(
                "topics",
                f"no preset explains a camera; there are {len(there)} image topics with images{listed}",
                (
                    "name the preset by --preset, or remap your topics to the names of docs/bringing-a-car.md"
                    if there
                    else "record or publish the cameras' images"
                ),
            )
        ]
    command = f"start: {names.start_command(*start)}"
    if not names.is_numbered:
        return names, [ok("topics", f"{counted}; {command}")]
    there = {camera: topic for camera, topic in names.images.items() if camera not in missing}
    return _settle_numbers(names, there, cameras, seen, counted, command, start)


def _settle_numbers(
    names: InputNames,
    there: Mapping[str, str],
    cameras: tuple[str, ...],
    seen: Observer,
    counted: str,
    command: str,
    start: StartWords,
) -> tuple[InputNames, list[Finding]]:
    """Find out which numbered camera looks where, by its mount. there: image topic by camera, as far as they
    are there.
    """
    yaws = {topic: yaw_of(topic, seen) for topic in there.values()}
    if any(yaw is None for yaw in yaws.values()):
        return names, [
            ok("topics", f"{counted}; {command}"),
            warn(
                "camera order",
                "cameras are numbered, and without all mounts in /tf_static nothing says which looks where;"
                " taken for " + ", ".join(f"{camera} = {_short(topic)}" for camera, topic in there.items()),
                "compare with your sensor kit's calibration",
            ),
        ]
    if not any(_is_elsewhere(camera, yaws[topic]) for camera, topic in there.items()):
        return names, [
            ok("topics", f"{counted}; {command}"),
            ok("camera order", f"by their mounts: {_order(names, yaws)}"),
        ]
    images = by_mount(yaws, cameras)
    if images is None:
        return names, [
            ok("topics", f"{counted}; {command}"),
            warn(
                "camera order",
                f"the mounts fit no camera names of the planner: {_order(names, yaws)}",
                "remap by hand, or use a policy that was made for this rig",
            ),
        ]
    corrected = reassigned(names, images)
    return corrected, [
        warn(
            "topics",
            f"{counted}, but its camera order is another vehicle's; by their mounts:"
            f" {_order(corrected, yaws)}",
            f"start: {corrected.start_command(*start)}",
        )
    ]


def _derived(
    names: InputNames,
    offers: Mapping[str, Offer],
    seen: Observer,
    start: StartWords,
) -> Finding:
    yaws = {topic: yaw_of(topic, seen) for topic in names.images.values()}
    odometry = "" if names.odometry in offers else "; odometry is none of them"
    return warn(
        "topics",
        f"no preset has these names; cameras told apart by name or mount: {_order(names, yaws)}{odometry}",
        f"start: {names.start_command(*start)}",
    )


def _order(names: InputNames, yaws: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{camera} = {_short(topic)}" + (f" ({yaws[topic]:.0f} degrees)" if yaws[topic] is not None else "")
        for camera, topic in names.images.items()
        if topic in yaws
    )


def _is_elsewhere(camera: str, yaw: float | None) -> bool:
    expected = expected_yaw(camera)
    if expected is None or yaw is None:
        return False
    return abs((yaw - expected + 180.0) % 360.0 - 180.0) > _ANOTHER_PLACE_DEG


def _is_there(topic: str, type_name: str, offers: Mapping[str, Offer]) -> bool:
    offer = offers.get(topic)
    return offer is not None and offer.type_name == type_name and not offer.is_empty


def _short(topic: str) -> str:
    """Return the part of an image topic that tells the cameras apart."""
    parts = [part for part in topic.split("/") if part and part not in ("compressed", "sensing", "camera")]
    return parts[0] if parts else topic
