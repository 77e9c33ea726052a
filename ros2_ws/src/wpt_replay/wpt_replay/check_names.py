"""Which topic is which input: the preset that explains a recording best, or cameras told apart by name or
mount.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from wpt_replay.check_observer import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, IMAGE_TYPES, ODOMETRY, Observer
from wpt_replay.check_qos import Offer
from wpt_replay.check_settings import OWN_NAMES, PlannerSettings

COMPRESSED, RAW = "compressed", "raw"
IMAGE_TYPE = {COMPRESSED: COMPRESSED_IMAGE, RAW: IMAGE}
ODOMETRY_NAME = "localization/kinematic_state"
COMMAND_NAME = "planning/command"
DERIVED = "derived"

# Where a camera looks by its name, degrees to the left of straight ahead: nuScenes' mounts.
_YAW_BY_WORDS = {
    frozenset({"front"}): 0.0,
    frozenset({"front", "left"}): 55.0,
    frozenset({"front", "right"}): -55.0,
    frozenset({"left"}): 90.0,
    frozenset({"right"}): -90.0,
    frozenset({"back", "left"}): 110.0,
    frozenset({"back", "right"}): -110.0,
    frozenset({"back"}): 180.0,
}
# A camera farther from its expected direction is not taken for it.
_FARTHEST_DEG = 50.0


@dataclass(frozen=True, kw_only=True)
class InputNames:
    """The topic of every input. preset: its name, OWN_NAMES, or DERIVED. images, camera_infos: by camera."""

    preset: str
    transport: str
    images: Mapping[str, str]
    camera_infos: Mapping[str, str]
    odometry: str
    command: str
    namespace: str = ""

    @property
    def is_numbered(self) -> bool:
        """Whether the names do not say where a camera looks."""
        return not any(direction_words(topic) for topic in self.images.values())

    def topics(self) -> list[str]:
        """Return every input topic, without /tf_static."""
        return [*self.images.values(), *self.camera_infos.values(), self.odometry, self.command]

    def remaps(self) -> dict[str, str]:
        """Return our relative name -> theirs, where they differ."""
        pairs = {image_name(camera, self.transport): topic for camera, topic in self.images.items()}
        pairs |= {info_name(camera): topic for camera, topic in self.camera_infos.items()}
        pairs |= {ODOMETRY_NAME: self.odometry, COMMAND_NAME: self.command}
        return {ours: theirs for ours, theirs in pairs.items() if theirs != _absolute(ours, self.namespace)}

    def start_command(self, values: Mapping[str, str], default_transport: str) -> str:
        """Return the command that starts the planner on these names.

        values: launch arguments beside the names. default_transport: what the planner's parameters say.
        """
        arguments = {"params_file": "", **values}
        if self.transport != default_transport:
            arguments["transport"] = self.transport
        params_file = arguments.pop("params_file")
        if self.preset == DERIVED:
            words = ["ros2 run wpt_planner planner_node --ros-args"]
            words += [f"--params-file {params_file}"] if params_file else []
            words += [f"-p {name}:={value}" for name, value in arguments.items()]
            words += [f"-r {ours}:={theirs}" for ours, theirs in self.remaps().items()]
            return " ".join(words)
        preset = "" if self.preset == OWN_NAMES else self.preset
        arguments = {
            "topics": preset,
            **arguments,
            "params_file": params_file,
            "namespace": self.namespace,
        }
        words = [f"{name}:={value}" for name, value in arguments.items() if value]
        return " ".join(["ros2 launch wpt_planner planner.launch.py", *words])


def image_name(camera: str, transport: str) -> str:
    """Return our relative name of a camera's images."""
    return f"sensing/{camera}/image_rect" + ("/compressed" if transport == COMPRESSED else "")


def info_name(camera: str) -> str:
    return f"sensing/{camera}/camera_info"


def direction_words(name: str) -> frozenset[str]:
    """Return which of front, back, left, right a name holds; rear is back."""
    words = name.lower().replace("rear", "back")
    return frozenset(word for word in ("front", "back", "left", "right") if word in words)


def expected_yaw(camera: str) -> float | None:
    """Return where a camera of this name looks, degrees to the left, None where the name does not say."""
    return _YAW_BY_WORDS.get(direction_words(camera))


def choose_names(
    offers: Mapping[str, Offer],
    cameras: tuple[str, ...],
    presets: Mapping[str, Mapping[str, str]],
    settings: PlannerSettings,
    wanted: str | None = None,
) -> InputNames:
    """Return the names of the preset that explains most: cameras first, then camera_info and odometry.

    Of equals ours wins, then the transport that the planner is set to. wanted: this preset and no other.
    """
    best, best_score = None, (-1,)
    for preset, mapping in presets.items():
        if wanted is not None and preset != wanted:
            continue
        namespaces = _namespaces(offers, cameras) if preset == OWN_NAMES else [""]
        for namespace, transport in itertools.product(
            namespaces, (settings.transport, _other(settings.transport))
        ):
            names = _names(preset, mapping, namespace, transport, cameras)
            filled = [topic for topic in names.images.values() if _is_filled(offers.get(topic))]
            others = [topic for topic in names.topics() if _is_filled(offers.get(topic))]
            score = (len(filled), len(others))
            if score > best_score:
                best, best_score = names, score
    assert best is not None
    return best


def missing_cameras(names: InputNames, offers: Mapping[str, Offer]) -> list[str]:
    """Return the cameras without images."""
    return [camera for camera, topic in names.images.items() if not _is_filled(offers.get(topic))]


def derive_names(
    names: InputNames, offers: Mapping[str, Offer], cameras: tuple[str, ...], seen: Observer
) -> InputNames | None:
    """Return names found without a preset: by the words in topic names, else by mounts; None where neither
    will do.
    """
    for transport in (names.transport, _other(names.transport)):
        topics = [
            offer.name
            for offer in offers.values()
            if offer.type_name == IMAGE_TYPE[transport] and _is_filled(offer)
        ]
        images = _by_words(topics, cameras) or by_mount(
            {topic: yaw_of(topic, seen) for topic in topics}, cameras
        )
        if images is not None:
            infos = {camera: camera_info_beside(topic, offers) for camera, topic in images.items()}
            return replace(
                names,
                preset=DERIVED,
                namespace="",
                transport=transport,
                images=images,
                camera_infos={c: info or names.camera_infos[c] for c, info in infos.items()},
                odometry=_odometry(names, offers),
            )
    return None


def reassigned(names: InputNames, images: Mapping[str, str]) -> InputNames:
    """Return names with other cameras on the same topics; each camera_info goes with its images."""
    info_of = {topic: names.camera_infos[camera] for camera, topic in names.images.items()}
    return replace(
        names,
        preset=DERIVED,
        images=dict(images),
        camera_infos={camera: info_of[topic] for camera, topic in images.items()},
    )


def yaw_of(topic: str, seen: Observer) -> float | None:
    """Return where the camera of an image topic looks, degrees to the left, None where its mount is not
    known.
    """
    track = seen.images.get(topic)
    if track is None or not track.frame_ids:
        return None
    mount = seen.frames.base_from(track.frame_ids.most_common(1)[0][0])
    if mount is None or float(np.hypot(mount[0, 2], mount[1, 2])) < 0.5:
        return None  # an optical axis that points up or down tells no direction
    return math.degrees(math.atan2(mount[1, 2], mount[0, 2]))


def by_mount(yaws: Mapping[str, float | None], cameras: tuple[str, ...]) -> dict[str, str] | None:
    """Return each camera's topic by its direction, nearest pairs first; None where one finds none."""
    pairs = []
    for camera in cameras:
        expected = expected_yaw(camera)
        for topic, yaw in yaws.items():
            if expected is not None and yaw is not None:
                pairs.append((abs((yaw - expected + 180.0) % 360.0 - 180.0), camera, topic))
    chosen: dict[str, str] = {}
    for difference, camera, topic in sorted(pairs):
        if difference <= _FARTHEST_DEG and camera not in chosen and topic not in chosen.values():
            chosen[camera] = topic
    return {camera: chosen[camera] for camera in cameras} if len(chosen) == len(cameras) else None


def camera_info_beside(image_topic: str, offers: Mapping[str, Offer]) -> str | None:
    """Return the camera_info topic beside an image topic, or one level up (.../image_rect/compressed)."""
    parts = image_topic.split("/")
    for depth in (1, 2):
        candidate = "/".join([*parts[:-depth], "camera_info"])
        if candidate in offers and offers[candidate].type_name == CAMERA_INFO:
            return candidate
    return None


def image_topics(offers: Mapping[str, Offer]) -> list[str]:
    """Return all topics that hold images."""
    return [offer.name for offer in offers.values() if offer.type_name in IMAGE_TYPES and not offer.is_empty]


def _by_words(topics: Iterable[str], cameras: tuple[str, ...]) -> dict[str, str] | None:
    found: dict[frozenset[str], list[str]] = {}
    for topic in topics:
        found.setdefault(direction_words(topic), []).append(topic)
    images = {}
    for camera in cameras:
        candidates = found.get(direction_words(camera), [])
        if not direction_words(camera) or len(candidates) != 1:
            return None
        images[camera] = candidates[0]
    return images


def _odometry(names: InputNames, offers: Mapping[str, Offer]) -> str:
    """Return the odometry topic: the preset's, or the only one there is."""
    topics = [offer.name for offer in offers.values() if offer.type_name == ODOMETRY and not offer.is_empty]
    return topics[0] if len(topics) == 1 and names.odometry not in topics else names.odometry


def _names(
    preset: str, mapping: Mapping[str, str], namespace: str, transport: str, cameras: tuple[str, ...]
) -> InputNames:
    def topic(ours: str) -> str:
        return mapping.get(ours, _absolute(ours, namespace))

    return InputNames(
        preset=preset,
        namespace=namespace,
        transport=transport,
        images={camera: topic(image_name(camera, transport)) for camera in cameras},
        camera_infos={camera: topic(info_name(camera)) for camera in cameras},
        odometry=topic(ODOMETRY_NAME),
        command=topic(COMMAND_NAME),
    )


def _namespaces(offers: Mapping[str, Offer], cameras: tuple[str, ...]) -> list[str]:
    """Return the namespaces under which our own image names occur, the empty one first."""
    found = {""}
    for topic in offers:
        for camera, transport in itertools.product(cameras, (COMPRESSED, RAW)):
            ending = f"/{image_name(camera, transport)}"
            if topic.endswith(ending):
                found.add(topic[: -len(ending)].strip("/"))
    return sorted(found)


def _absolute(ours: str, namespace: str) -> str:
    return f"/{namespace}/{ours}" if namespace else f"/{ours}"


def _other(transport: str) -> str:
    return RAW if transport == COMPRESSED else COMPRESSED


def _is_filled(offer: Offer | None) -> bool:
    return offer is not None and not offer.is_empty
