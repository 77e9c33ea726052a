"""Turns one scene of a nuScenes-format data set into one bag.

header.stamp is the data set's stamp (microseconds times 1000, in integers) and the record time is the same,
so that a bag plays as the sensors fired. The one exception: keyframe and ground-truth messages are stamped
with the keyframe and recorded no earlier than its last image, because they are to follow the images that they
speak of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import Command
from wpt_scenes.ego import ego_state_at, ego_states
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import CameraFrame, Keyframe, Scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import STEP_NS, derived_command, timed_waypoints

from wpt_replay import bag_topics
from wpt_replay.bag_types import installed_types
from wpt_replay.bag_writer import BagWriter
from wpt_replay.image_header import read_image_header
from wpt_replay.progress import Progress
from wpt_replay.scene_messages import SceneMessages

# Order of messages recorded at the same time: what an image needs comes before it, what speaks of it after
# it.
RANK_MOUNTS, RANK_POSE, RANK_COMMAND, RANK_IMAGE, RANK_KEYFRAME = range(5)
# How many missing files of a camera are named.
NAMED_FILES = 3

FACTORY_VERSION = "v1.0-factory"
OWN_LICENCE = "synthetic data made by this project, Apache-2.0"
# Versions that the driving world (wpt_sim) writes; scenes re-drawn from real tables have other names.
WORLD_VERSIONS = "v1.0-wpt-sim"
NUSCENES_LICENCE = (
    "nuScenes data (nuScenes, Motional): CC BY-NC-SA 4.0 with Motional's terms of use, "
    "https://www.nuscenes.org/terms-of-use; for data of another maker in this format that maker's licence "
    "holds"
)


class Event(NamedTuple):
    """A message to come: when and in which order it is recorded, and what makes it."""

    record_ns: int
    rank: int
    write: Callable[[], None]


@dataclass(kw_only=True)
class ConversionReport:
    """What became of one scene. missing: image files by camera. unusable: those that are no JPEG or PNG."""

    scene: str
    path: Path
    counts: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[Path]] = field(default_factory=dict)
    unusable: dict[str, list[Path]] = field(default_factory=dict)
    images_listed: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def images_written(self) -> int:
        return sum(self.counts.get(bag_topics.image_topic(camera), 0) for camera in self.images_listed)

    def warnings(self) -> list[str]:
        """Return a sentence for each camera with files left out, one for no image at all, and the notes."""
        lines = []
        for reason, files in (("are missing", self.missing), ("are no JPEG or PNG", self.unusable)):
            for camera, paths in files.items():
                named = ", ".join(path.name for path in paths[:NAMED_FILES])
                more = ", ..." if len(paths) > NAMED_FILES else ""
                lines.append(
                    f"{self.scene}: {len(paths)} of {self.images_listed[camera]} images of {camera} {reason} "
                    f"and are left out ({named}{more})"
                )
        if not self.images_written:
            lines.append(
                f"{self.scene}: no image at all was found, so the bag holds no images and no camera_info; "
                "poses, odometry, tf, boxes, keyframes and the true future are in it"
            )
        return lines + [f"{self.scene}: {note}" for note in self.notes]


def convert_scene(
    tables: NuScenesTables,
    scene_name: str,
    out_folder: str | Path,
    *,
    sweeps: bool = True,
    storage: str = "mcap",
    overwrite: bool = False,
    licence: str | None = None,
) -> ConversionReport:
    """Write <out_folder>/<scene name>, a complete bag, and return what is in it.

    sweeps: all camera images (12 Hz in nuScenes), else those of keyframes (2 Hz); poses and odometry are the
    same in both. storage: ``mcap`` or ``sqlite3``. licence: a line for the metadata instead of the one chosen
    by version. Raises DatasetError for a scene that cannot be read and BagError for a bag that cannot be
    written.
    """
    scene = load_scene(tables, scene_name)
    report = ConversionReport(scene=scene.name, path=Path(out_folder) / scene.name)
    with BagWriter(report.path, storage=storage, overwrite=overwrite) as writer:
        for topic in bag_topics.written_topics(scene.camera_names):
            writer.add_topic(topic.name, topic.type_name, topic.qos)
        events = _SceneEvents(scene, writer, report, sweeps).all()
        with Progress(scene.name, len(events)) as progress:
            for done, event in enumerate(events):
                event.write()
                progress.show(done)
        report.counts = dict(writer.counts)
        writer.set_custom_data(_metadata(tables, scene, report, sweeps, licence))
    return report


class _SceneEvents:
    """Lists what a scene's bag holds; each message is made only when it is written."""

    def __init__(self, scene: Scene, writer: BagWriter, report: ConversionReport, sweeps: bool) -> None:
        self._scene = scene
        self._writer = writer
        self._report = report
        self._sweeps = sweeps
        self._messages = SceneMessages(installed_types(), scene)
        self._events: list[Event] = []

    def all(self) -> list[Event]:
        """Return the events by record time; those of one time by rank, else in the order of their making."""
        self._add_poses()
        for keyframe in self._scene.keyframes:
            self._add_keyframe(keyframe)
        for camera in self._scene.camera_names:
            self._add_images(camera)
        if len(self._scene.keyframes) == 1:
            self._report.notes.append(
                "it has one keyframe alone, so no driving command follows from its future"
            )
        first_ns = min(event.record_ns for event in self._events)
        self._add(first_ns, RANK_MOUNTS, bag_topics.TF_STATIC, lambda: self._messages.mounts(first_ns))
        return sorted(self._events, key=lambda event: event[:2])

    def _add(self, record_ns: int, rank: int, topic: str, make: Callable[[], Any]) -> None:
        self._events.append(Event(record_ns, rank, lambda: self._writer.write(topic, record_ns, make())))

    def _add_poses(self) -> None:
        messages = self._messages
        for stamp_ns, pose in self._scene.ego_poses:
            self._add(
                stamp_ns, RANK_POSE, bag_topics.TF, lambda s=stamp_ns, p=pose: messages.ego_transform(s, p)
            )
        states = ego_states(self._scene)
        if not states:
            self._report.notes.append(
                "it has one ego pose alone, from which no velocity follows, so the bag holds no odometry"
            )
        for state in states:
            self._add(state.stamp_ns, RANK_POSE, bag_topics.ODOMETRY, lambda s=state: messages.odometry(s))

    def _add_keyframe(self, keyframe: Keyframe) -> None:
        messages, scene = self._messages, self._scene
        stamps = [image.stamp_ns for image in keyframe.images.values()]
        command, source = derived_command(scene, keyframe.index)
        first_ns = min(stamps, default=keyframe.stamp_ns)
        if (
            command is not Command.UNKNOWN
        ):  # the last keyframe has no future; the command before it then stands
            self._add(
                first_ns,
                RANK_COMMAND,
                bag_topics.COMMAND,
                lambda: messages.command(first_ns, command, source),
            )

        last_ns = max(stamps + [keyframe.stamp_ns])
        state = ego_state_at(scene.poses, keyframe.stamp_ns)
        positions, valid = timed_waypoints(scene.poses, keyframe.stamp_ns)
        positions = positions[valid]  # a scene ends once: known ones never follow unknown ones
        path = [(later.stamp_ns, later.global_from_base) for later in scene.keyframes[keyframe.index :]]
        for topic, make in (
            (bag_topics.KEYFRAME, lambda: messages.keyframe(keyframe)),
            (bag_topics.BOXES, lambda: messages.boxes(keyframe)),
            (bag_topics.MARKERS, lambda: messages.markers(keyframe)),
            (bag_topics.TRUE_TRAJECTORY, lambda: messages.trajectory(keyframe, state, positions, STEP_NS)),
            (bag_topics.TRUE_PATH, lambda: messages.path(keyframe, path)),
        ):
            self._add(last_ns, RANK_KEYFRAME, topic, make)

    def _add_images(self, camera: str) -> None:
        frames = [frame for frame in self._scene.images[camera] if self._sweeps or frame.is_key_frame]
        self._report.images_listed[camera] = len(frames)
        for frame in frames:
            self._events.append(Event(frame.stamp_ns, RANK_IMAGE, lambda f=frame: self._write_image(f)))

    def _write_image(self, frame: CameraFrame) -> None:
        """Write camera_info and image, or note why the image is left out."""
        try:
            data = frame.path.read_bytes()
        except OSError:
            self._report.missing.setdefault(frame.camera, []).append(frame.path)
            return
        header = read_image_header(data)
        if header is None:
            self._report.unusable.setdefault(frame.camera, []).append(frame.path)
            return
        calibration = self._calibration_at(frame, header.width, header.height)
        info = self._messages.camera_info(calibration, frame.stamp_ns)
        image = self._messages.image(frame.camera, frame.stamp_ns, data, header.format)
        self._writer.write(bag_topics.camera_info_topic(frame.camera), frame.stamp_ns, info)
        self._writer.write(bag_topics.image_topic(frame.camera), frame.stamp_ns, image)

    def _calibration_at(self, frame: CameraFrame, width: int, height: int) -> CameraCalibration:
        """Return the calibration of the file really sent: K is scaled where an image was shrunk later."""
        listed = frame.calibration
        if (listed.width, listed.height) == (width, height):
            return listed
        note = (
            f"images of {frame.camera} are {width}x{height} and the tables say "
            f"{listed.width}x{listed.height}: camera_info has the intrinsics scaled to the files"
        )
        if note not in self._report.notes:
            self._report.notes.append(note)
        return listed.resized(width, height)


def _metadata(
    tables: NuScenesTables, scene: Scene, report: ConversionReport, sweeps: bool, licence: str | None
) -> dict[str, str]:
    """What the bag says about itself; the values of rosbag2's custom data are strings."""
    if licence is None:
        own = scene.dataset_version == FACTORY_VERSION or scene.dataset_version.startswith(WORLD_VERSIONS)
        licence = OWN_LICENCE if own else NUSCENES_LICENCE
    log = tables.row("log", scene.log_token).get("logfile", "") if scene.log_token else ""
    missing = {camera: len(files) for camera, files in report.missing.items()}
    for camera, files in report.unusable.items():
        missing[camera] = missing.get(camera, 0) + len(files)
    return {
        "scene": scene.name,
        "scene_token": scene.token,
        "description": scene.description,
        "log": log,
        "location": scene.location,
        "vehicle": scene.vehicle,
        "dataset_version": scene.dataset_version,
        "cameras": ",".join(scene.camera_names),
        "images": "sweeps" if sweeps else "keyframes",
        "images_missing": json.dumps(missing),
        "licence": licence,
    }
