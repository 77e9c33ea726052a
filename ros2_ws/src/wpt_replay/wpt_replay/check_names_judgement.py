"""Says which topics are taken for which inputs, and corrects the choice by what the recording itself tells."""

from __future__ import annotations

from collections.abc import Mapping

from wpt_replay.check_names import (
    DERIVED,
    InputNames,
    by_mount,
    derive_names,
    expected_yaw,
    image_topics,
    missing_cameras,
    reassigned,
    yaw_of,
)
from wpt_replay.check_observer import CAMERA_INFO, ODOMETRY, Observer
from wpt_replay.check_qos import Offer
from wpt_replay.check_report import Finding, fail, ok, warn
from wpt_replay.check_settings import OWN_NAMES

# A numbered camera that looks this far from where its place in the preset says is another one.
_ANOTHER_PLACE_DEG = 30.0


def settle_names(
    names: InputNames,
    offers: Mapping[str, Offer],
    cameras: tuple[str, ...],
    seen: Observer,
    start_values: Mapping[str, str],
    *,
    wanted: bool,
) -> tuple[InputNames, list[Finding]]:
    """Return the names to go on with, and the first lines of the report.

    start_values: launch arguments of the start command. wanted: the user has asked for this preset, so no other is tried.
    """
    missing = missing_cameras(names, offers)
    if missing and not wanted:
        derived = derive_names(names, offers, cameras, seen)
        if derived is not None:
            return derived, [_derived(derived, offers, seen, start_values)]
    what = "our own names" if names.preset == OWN_NAMES else f"preset {names.preset}"
    if names.namespace:
        what += f" in namespace {names.namespace}"
    counted = f"{what}: {len(cameras) - len(missing)} of {len(cameras)} cameras ({names.transport} images)"
    infos = sum(_is_there(topic, CAMERA_INFO, offers) for topic in names.camera_infos.values())
    counted += f", {infos} camera_info, {'odometry' if _is_there(names.odometry, ODOMETRY, offers) else 'no odometry'}"
    if len(missing) == len(cameras):
        there = image_topics(offers)
        return names, [
            fail(
                "topics",
                f"no preset explains a camera; there are {len(there)} image topics"
                + (f" ({', '.join(there[:8])})" if there else ""),
                "name the preset by --preset, or remap your topics to the names of docs/bringing-a-car.md"
                if there
                else "record or publish the cameras' images",
            )
        ]
    start = f"start: {names.start_command(start_values)}"
    if not names.is_numbered:
        return names, [ok("topics", f"{counted}; {start}")]
    return _settle_numbers(names, cameras, seen, counted, start, start_values)


def _settle_numbers(
    names: InputNames,
    cameras: tuple[str, ...],
    seen: Observer,
    counted: str,
    start: str,
    start_values: Mapping[str, str],
) -> tuple[InputNames, list[Finding]]:
    """Find out which numbered camera looks where, by its mount."""
    yaws = {topic: yaw_of(topic, seen) for topic in names.images.values()}
    if any(yaw is None for yaw in yaws.values()):
        return names, [
            ok("topics", f"{counted}; {start}"),
            warn(
                "camera order",
                "cameras are numbered, and without all mounts in /tf_static nothing says which looks where; taken for "
                + ", ".join(f"{camera} = {_short(topic)}" for camera, topic in names.images.items()),
                "compare with your sensor kit's calibration",
            ),
        ]
    if not any(_is_elsewhere(camera, yaws[topic]) for camera, topic in names.images.items()):
        return names, [ok("topics", f"{counted}; {start}"), ok("camera order", f"by their mounts: {_order(names, yaws)}")]
    images = by_mount(yaws, cameras)
    if images is None:
        return names, [
            ok("topics", f"{counted}; {start}"),
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
            f"{counted}, but its camera order is another vehicle's; by their mounts: {_order(corrected, yaws)}",
            f"start: {corrected.start_command(start_values)}",
        )
    ]


def _derived(
    names: InputNames, offers: Mapping[str, Offer], seen: Observer, start_values: Mapping[str, str]
) -> Finding:
    yaws = {topic: yaw_of(topic, seen) for topic in names.images.values()}
    odometry = "" if names.odometry in offers else "; odometry is none of them"
    return warn(
        "topics",
        f"no preset has these names; cameras told apart by name or mount: {_order(names, yaws)}{odometry}",
        f"start: {names.start_command(start_values)}",
    )


def _order(names: InputNames, yaws: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{camera} = {_short(topic)}" + (f" ({yaws[topic]:.0f} degrees)" if yaws[topic] is not None else "")
        for camera, topic in names.images.items()
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


__all__ = ["DERIVED", "settle_names"]
