"""Collecting one scene for the nuScenes format: its files at once, its rows for the tables later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wpt_policy import se3

from wpt_scenes.dataset_error import DatasetError

# The four levels of the nuScenes visibility table: token -> level.
VISIBILITY_LEVELS = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}


@dataclass(frozen=True, kw_only=True)
class DriveLog:
    """The drive that scenes were cut from. name: unique, the start of its file names. date: YYYY-MM-DD."""

    name: str
    vehicle: str
    location: str
    date: str


@dataclass(frozen=True, kw_only=True, eq=False)
class MapMask:
    """Where one may drive. mask: (H, W), not 0: drivable; row r, column c: x = 0.1 c, y = 0.1 (H - r) m.

    name: file name without ending. logs: names of the drives it holds for.
    """

    name: str
    mask: np.ndarray
    logs: tuple[str, ...]


@dataclass(frozen=True)
class WrittenSensor:
    """A sensor of a scene. intrinsics: None and width, height: 0 for one that is no camera."""

    channel: str
    modality: str
    base_from_sensor: np.ndarray
    intrinsics: np.ndarray | None
    width: int
    height: int


@dataclass(frozen=True)
class WrittenRecording:
    """One sample_data row with its pose. keyframe: its index, None for a sweep. filename: below dataroot."""

    channel: str
    stamp_us: int
    keyframe: int | None
    translation: list[float]
    rotation: list[float]
    filename: str


@dataclass(frozen=True)
class WrittenBox:
    """One annotation. size_wlh: width, length, height, as the tables have them."""

    keyframe: int
    instance: str
    category: str
    translation: list[float]
    size_wlh: list[float]
    rotation: list[float]
    visibility: int
    attributes: tuple[str, ...]
    num_lidar_pts: int
    num_radar_pts: int


class SceneWriter:
    """Collects one scene: sensors, keyframes, recordings of each sensor (keyframes and sweeps), boxes.

    Every method raises DatasetError for input that the format cannot hold. Stamps are integer nanoseconds and
    must be whole microseconds, which is what the tables hold.
    """

    def __init__(
        self,
        dataroot: str | Path,
        name: str,
        *,
        log: DriveLog,
        description: str = "",
        jpeg_quality: int = 90,
    ):
        self.dataroot = Path(dataroot)
        self.name = name
        self.log = log
        self.description = description
        self.jpeg_quality = jpeg_quality
        self.sensors: dict[str, WrittenSensor] = {}
        self.keyframe_stamps_us: list[int] = []
        self.recordings: list[WrittenRecording] = []
        self.boxes: list[WrittenBox] = []
        self._taken: set[tuple[str, int]] = set()
        self._annotated: dict[str, tuple[str, set[int]]] = {}

    def add_camera(
        self, channel: str, *, base_from_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int
    ) -> None:
        """Add a camera: channel as nuScenes writes it (CAM_FRONT), (4, 4) mount, (3, 3) intrinsics, size."""
        matrix = np.asarray(intrinsics, dtype=np.float64)
        if matrix.shape != (3, 3) or not np.all(np.isfinite(matrix)):
            raise DatasetError(
                f"intrinsics of {channel} are not a finite 3x3 matrix; give the pinhole matrix"
            )
        self._add_sensor(channel, "camera", base_from_camera, matrix, width, height)

    def add_sensor(self, channel: str, *, modality: str, base_from_sensor: np.ndarray) -> None:
        """Add a sensor that is no camera: channel (LIDAR_TOP), modality (lidar, radar), mount (4, 4)."""
        self._add_sensor(channel, modality, base_from_sensor, None, 0, 0)

    def add_keyframe(self, stamp_ns: int) -> int:
        """Add the next keyframe, return its index; stamps must increase. Its stamp is that of LIDAR_TOP."""
        stamp = self._microseconds(stamp_ns, "keyframe")
        if self.keyframe_stamps_us and stamp <= self.keyframe_stamps_us[-1]:
            raise DatasetError(
                f"keyframe of {self.name} at {stamp_ns} ns does not follow the last one at "
                f"{self.keyframe_stamps_us[-1] * 1000} ns; add keyframes in time order"
            )
        self.keyframe_stamps_us.append(stamp)
        return len(self.keyframe_stamps_us) - 1

    def filename(self, channel: str, stamp_ns: int, *, is_key_frame: bool) -> str:
        """Return the path below dataroot that a recording has."""
        sensor = self._sensor(channel)
        folder = "samples" if is_key_frame else "sweeps"
        ending = {"camera": "jpg", "lidar": "pcd.bin"}.get(sensor.modality, "pcd")
        stamp = self._microseconds(stamp_ns, channel)
        return f"{folder}/{channel}/{self.log.name}__{channel}__{stamp}.{ending}"

    def add_image(
        self,
        channel: str,
        stamp_ns: int,
        global_from_base: np.ndarray,
        image: np.ndarray,
        *,
        keyframe: int | None,
    ) -> None:
        """Encode an (H, W, 3) uint8 RGB image as JPEG and add it; keyframe: its index, None for a sweep."""
        sensor = self._sensor(channel)
        if image.shape != (sensor.height, sensor.width, 3) or image.dtype != np.uint8:
            raise DatasetError(
                f"image of {channel} has shape {image.shape} and type {image.dtype}, expected "
                f"({sensor.height}, {sensor.width}, 3) uint8 RGB; render at the camera's size"
            )
        bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
        done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])
        if not done:
            raise DatasetError(f"image of {channel} at {stamp_ns} ns could not be encoded as JPEG")
        self.add_file(channel, stamp_ns, global_from_base, encoded.tobytes(), keyframe=keyframe)

    def add_file(
        self,
        channel: str,
        stamp_ns: int,
        global_from_base: np.ndarray,
        data: bytes | None,
        *,
        keyframe: int | None,
    ) -> None:
        """Add a recording with its file's bytes; None: someone else writes the file, or it stays missing."""
        sensor = self._sensor(channel)
        stamp = self._microseconds(stamp_ns, channel)
        if keyframe is not None and not 0 <= keyframe < len(self.keyframe_stamps_us):
            raise DatasetError(
                f"{channel} at {stamp_ns} ns names keyframe {keyframe} of {self.name}, expected 0 to "
                f"{len(self.keyframe_stamps_us) - 1}; call add_keyframe first"
            )
        if (channel, stamp) in self._taken:
            raise DatasetError(
                f"{channel} of {self.name} has two recordings at {stamp_ns} ns, expected one; drop one"
            )
        filename = self.filename(channel, stamp_ns, is_key_frame=keyframe is not None)
        pose = _rigid(global_from_base, f"ego pose of {channel} at {stamp_ns} ns")
        if data is not None:
            path = self.dataroot / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._taken.add((channel, stamp))
        self.recordings.append(
            WrittenRecording(
                channel=sensor.channel,
                stamp_us=stamp,
                keyframe=keyframe,
                translation=numbers(pose[:3, 3]),
                rotation=numbers(se3.quaternion_from_rotation(pose[:3, :3])),
                filename=filename,
            )
        )

    def add_box(
        self,
        keyframe: int,
        instance: str,
        category: str,
        global_from_box: np.ndarray,
        size_lwh: Sequence[float] | np.ndarray,
        *,
        visibility: int,
        num_lidar_pts: int,
        num_radar_pts: int = 0,
        attributes: Iterable[str] = (),
    ) -> None:
        """Annotate an object in a keyframe.

        instance: the object's name, the same in every keyframe (prev, next and counts are made from it);
        category: of the nuScenes list, the same for one instance. global_from_box: (4, 4), origin in the box
        centre, x forward. size_lwh: length, width, height in metres. visibility: 1 (0-40 %) to 4 (80-100 %).
        Public loaders leave out boxes with num_lidar_pts and num_radar_pts 0.
        """
        if not 0 <= keyframe < len(self.keyframe_stamps_us):
            raise DatasetError(
                f"box {instance} names keyframe {keyframe} of {self.name}, expected 0 to "
                f"{len(self.keyframe_stamps_us) - 1}; call add_keyframe first"
            )
        known, keyframes = self._annotated.setdefault(instance, (category, set()))
        if known != category:
            raise DatasetError(
                f"instance {instance} is a {known} and a {category}, expected one category; rename one"
            )
        if keyframe in keyframes:
            raise DatasetError(f"instance {instance} is annotated twice in keyframe {keyframe}; drop one")
        if str(visibility) not in VISIBILITY_LEVELS:
            raise DatasetError(
                f"visibility of {instance} is {visibility}, expected 1, 2, 3 or 4; give a level"
            )
        length, width, height = (float(value) for value in size_lwh)
        if not all(0 < value < math.inf for value in (length, width, height)):
            raise DatasetError(
                f"size of {instance} is {(length, width, height)} m, expected positive; correct it"
            )
        pose = _rigid(global_from_box, f"box of {instance}")
        keyframes.add(keyframe)
        self.boxes.append(
            WrittenBox(
                keyframe=keyframe,
                instance=instance,
                category=category,
                translation=numbers(pose[:3, 3]),
                size_wlh=[width, length, height],
                rotation=numbers(se3.quaternion_from_rotation(pose[:3, :3])),
                visibility=visibility,
                attributes=tuple(attributes),
                num_lidar_pts=int(num_lidar_pts),
                num_radar_pts=int(num_radar_pts),
            )
        )

    def _add_sensor(self, channel, modality, base_from_sensor, intrinsics, width, height) -> None:
        if channel in self.sensors:
            raise DatasetError(
                f"sensor {channel} of {self.name} was added before, expected each once; drop one"
            )
        mount = _rigid(base_from_sensor, f"mount of {channel}")
        self.sensors[channel] = WrittenSensor(channel, modality, mount, intrinsics, int(width), int(height))

    def _sensor(self, channel: str) -> WrittenSensor:
        try:
            return self.sensors[channel]
        except KeyError:
            raise DatasetError(
                f"{self.name} has no sensor {channel}, expected one of {', '.join(self.sensors)}; "
                "call add_camera or add_sensor first"
            ) from None

    def _microseconds(self, stamp_ns: int, what: str) -> int:
        stamp_us, rest = divmod(int(stamp_ns), 1000)
        if rest or stamp_us <= 0:
            raise DatasetError(
                f"stamp {stamp_ns} ns of {what} in {self.name} is no positive whole number of "
                "microseconds, which "
                "the tables need; round it before the pose is taken"
            )
        return stamp_us


def numbers(vector: np.ndarray) -> list[float]:
    return [float(value) for value in vector]


def _rigid(matrix: np.ndarray, what: str) -> np.ndarray:
    try:
        return se3.require_rigid(matrix, what)
    except se3.TransformError as error:
        raise DatasetError(f"{error}; give a 4x4 transform") from None
