"""Writing scenes in the nuScenes format: image files, map masks and the 13 tables.

One ``SceneWriter`` holds one scene. It writes files at once and keeps rows in memory, and it can be pickled,
so that several processes may each write a scene; ``write_tables`` joins the scenes of a data set in one
process. The result is deterministic: tokens are hashes of names, and rows follow the order of adding.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from wpt_policy import se3

from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.scene_writer import VISIBILITY_LEVELS, DriveLog, MapMask, SceneWriter, WrittenBox, numbers
from wpt_scenes.schema import TABLE_NAMES

__all__ = ["DriveLog", "MapMask", "SceneWriter", "token_of", "write_tables"]


def write_tables(
    dataroot: str | Path, version: str, scenes: Sequence[SceneWriter], maps: Sequence[MapMask]
) -> None:
    """Write the map masks and, last of all, the 13 tables of a data set into ``dataroot / version``.

    Every log needs a map (nuscenes-devkit insists on one; an empty mask will do). Raises DatasetError when
    scenes or logs contradict each other, when a scene has no keyframe, or when the version exists already.
    """
    folder = Path(dataroot) / version
    if folder.exists():
        raise DatasetError(
            f"{folder} exists already, expected a new version; remove it or choose another folder"
        )
    tables: dict[str, list[dict]] = {name: [] for name in TABLE_NAMES}
    tables["visibility"] = [
        {"token": token, "level": level, "description": f"visibility of whole object is between {level[1:]}%"}
        for token, level in VISIBILITY_LEVELS.items()
    ]
    logs = _log_rows(tables, scenes)
    _map_rows(tables, maps, logs, Path(dataroot))
    names = [scene.name for scene in scenes]
    if len(set(names)) != len(names):
        raise DatasetError(
            f"scene names are not unique: {', '.join(sorted(names))}; rename the repeated ones"
        )
    shared = _SharedRows(tables)
    for scene in scenes:
        _scene_rows(tables, scene, shared)
    # Complete or not there at all: a reader never meets half of the tables.
    partial = Path(dataroot) / f"{version}.partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        for name, rows in tables.items():
            _write_rows(partial / f"{name}.json", rows)
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_rows(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n")
        file.write(",\n".join(json.dumps(row) for row in rows))
        file.write("\n]\n")


def token_of(*names: object) -> str:
    """Return the token (32 hexadecimal digits) of a row, a hash of the names that make it unique."""
    return hashlib.md5("/".join(str(name) for name in names).encode(), usedforsecurity=False).hexdigest()


class _SharedRows:
    """Rows that scenes share: sensor, category, attribute."""

    def __init__(self, tables: dict[str, list[dict]]):
        self._tables = tables
        self._tokens: dict[tuple[str, ...], str] = {}

    def token(self, table: str, *names: str, **fields: str) -> str:
        key = (table, *names)
        if key not in self._tokens:
            self._tokens[key] = token_of(*key)
            self._tables[table].append({"token": self._tokens[key], **fields})
        return self._tokens[key]


def _log_rows(tables: dict[str, list[dict]], scenes: Sequence[SceneWriter]) -> dict[str, DriveLog]:
    logs: dict[str, DriveLog] = {}
    for scene in scenes:
        if logs.setdefault(scene.log.name, scene.log) != scene.log:
            raise DatasetError(f"log {scene.log.name} has two descriptions; give each drive its own name")
    tables["log"] = [
        {
            "token": token_of("log", log.name),
            "logfile": log.name,
            "vehicle": log.vehicle,
            "date_captured": log.date,
            "location": log.location,
        }
        for log in logs.values()
    ]
    return logs


def _map_rows(tables, maps: Sequence[MapMask], logs: dict[str, DriveLog], dataroot: Path) -> None:
    mapped: set[str] = set()
    for entry in maps:
        unknown = [name for name in entry.logs if name not in logs]
        if unknown:
            raise DatasetError(
                f"map {entry.name} names logs without a scene: {', '.join(unknown)}; drop them"
            )
        mapped.update(entry.logs)
        filename = f"maps/{entry.name}.png"
        pixels = np.where(np.asarray(entry.mask) != 0, 255, 0).astype(np.uint8)
        (dataroot / "maps").mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(dataroot / filename), pixels):
            raise DatasetError(
                f"map mask {dataroot / filename} could not be written; check the folder's permissions"
            )
        tables["map"].append(
            {
                "category": "semantic_prior",
                "token": token_of("map", entry.name),
                "filename": filename,
                "log_tokens": [token_of("log", name) for name in entry.logs],
            }
        )
    without = [name for name in logs if name not in mapped]
    if without:
        raise DatasetError(
            f"log {', '.join(without)} has no map mask, which readers need; give one (an empty one will do)"
        )


def _scene_rows(tables: dict[str, list[dict]], scene: SceneWriter, shared: _SharedRows) -> None:
    stamps = scene.keyframe_stamps_us
    if not stamps:
        raise DatasetError(f"{scene.name} has no keyframe, expected at least one; call add_keyframe")
    scene_token = token_of("scene", scene.name)
    samples = [token_of("sample", scene.name, stamp) for stamp in stamps]
    tables["scene"].append(
        {
            "token": scene_token,
            "log_token": token_of("log", scene.log.name),
            "nbr_samples": len(samples),
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": scene.name,
            "description": scene.description,
        }
    )
    for i, token in enumerate(samples):
        tables["sample"].append(
            {"token": token, "timestamp": stamps[i], **_links(samples, i), "scene_token": scene_token}
        )
    for channel, sensor in scene.sensors.items():
        tables["calibrated_sensor"].append(
            {
                "token": token_of("calibrated_sensor", scene.name, channel),
                "sensor_token": shared.token(
                    "sensor", channel, sensor.modality, channel=channel, modality=sensor.modality
                ),
                "translation": numbers(sensor.base_from_sensor[:3, 3]),
                "rotation": numbers(se3.quaternion_from_rotation(sensor.base_from_sensor[:3, :3])),
                "camera_intrinsic": [] if sensor.intrinsics is None else sensor.intrinsics.tolist(),
            }
        )
    for channel in scene.sensors:
        _recording_rows(tables, scene, channel, samples)
    _annotation_rows(tables, scene, samples, shared)


def _recording_rows(
    tables: dict[str, list[dict]], scene: SceneWriter, channel: str, samples: list[str]
) -> None:
    """Rows of one sensor, linked in time order. A sweep belongs to the next keyframe, else to the last."""
    recordings = sorted((r for r in scene.recordings if r.channel == channel), key=lambda r: r.stamp_us)
    tokens = [token_of("sample_data", scene.name, channel, recording.stamp_us) for recording in recordings]
    sensor = scene.sensors[channel]
    owner = samples[-1]
    owners: list[str] = []
    for recording in reversed(recordings):
        if recording.keyframe is not None:
            owner = samples[recording.keyframe]
        owners.append(owner)
    for i, (recording, owner) in enumerate(zip(recordings, reversed(owners), strict=True)):
        tables["ego_pose"].append(
            {
                "token": tokens[i],
                "timestamp": recording.stamp_us,
                "rotation": recording.rotation,
                "translation": recording.translation,
            }
        )
        tables["sample_data"].append(
            {
                "token": tokens[i],
                "sample_token": owner,
                "ego_pose_token": tokens[i],
                "calibrated_sensor_token": token_of("calibrated_sensor", scene.name, channel),
                "timestamp": recording.stamp_us,
                "fileformat": "jpg" if sensor.modality == "camera" else "pcd",
                "is_key_frame": recording.keyframe is not None,
                "height": sensor.height,
                "width": sensor.width,
                "filename": recording.filename,
                **_links(tokens, i),
            }
        )


def _annotation_rows(tables, scene: SceneWriter, samples: list[str], shared: _SharedRows) -> None:
    by_instance: dict[str, list[WrittenBox]] = {}
    for box in scene.boxes:
        by_instance.setdefault(box.instance, []).append(box)
    for instance, boxes in by_instance.items():
        boxes.sort(key=lambda box: box.keyframe)
        tokens = [token_of("sample_annotation", scene.name, instance, box.keyframe) for box in boxes]
        instance_token = token_of("instance", scene.name, instance)
        category = boxes[0].category
        tables["instance"].append(
            {
                "token": instance_token,
                "category_token": shared.token("category", category, name=category, description=""),
                "nbr_annotations": len(boxes),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for i, box in enumerate(boxes):
            tables["sample_annotation"].append(
                {
                    "token": tokens[i],
                    "sample_token": samples[box.keyframe],
                    "instance_token": instance_token,
                    "visibility_token": str(box.visibility),
                    "attribute_tokens": [
                        shared.token("attribute", name, name=name, description="") for name in box.attributes
                    ],
                    "translation": box.translation,
                    "size": box.size_wlh,
                    "rotation": box.rotation,
                    **_links(tokens, i),
                    "num_lidar_pts": box.num_lidar_pts,
                    "num_radar_pts": box.num_radar_pts,
                }
            )


def _links(tokens: list[str], i: int) -> dict[str, str]:
    """The neighbours in a chain; its ends are the empty string, never null."""
    return {
        "prev": tokens[i - 1] if i > 0 else "",
        "next": tokens[i + 1] if i + 1 < len(tokens) else "",
    }
