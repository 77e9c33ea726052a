"""Driving the factory's street and writing down what the sensors saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.factory import rig
from wpt_scenes.factory.ground import drivable_mask, ground_texture
from wpt_scenes.factory.lidar import RANGE_M, scan
from wpt_scenes.factory.painter import Painter
from wpt_scenes.factory.route import Route
from wpt_scenes.factory.world import CROSSINGS_S, Thing, street
from wpt_scenes.writer import DriveLog, MapMask, SceneWriter, write_tables

FACTORY_VERSION = "v1.0-factory"
FACTORY_SCENE = "scene-0001"

# 2026-01-01 12:00:00 UTC, in microseconds.
_EPOCH_US = 1_767_268_800_000_000
# nuScenes keyframes are the LiDAR sweeps (20 Hz) nearest to every half second of data: 0.4 to 0.6 s apart.
_KEYFRAME_STEPS_MS = (500, 450, 500, 550, 500, 400, 500, 600, 450, 500)
_CAMERA_PERIOD_US = 1_000_000 / 12
_LIDAR_JITTER_US, _CAMERA_JITTER_US = 400, 500
_ANNOTATION_RANGE_M = 60.0


def write_factory_scene(
    folder: str | Path,
    *,
    keyframes: int = 8,
    sweeps: bool = True,
    image_size: tuple[int, int] = (320, 180),
    seed: int = 0,
    images: bool = True,
    lidar: bool = True,
    jpeg_quality: int = 90,
) -> Path:
    """Write a scene of a synthetic street into ``folder`` and return the folder (the data set's root).

    Version FACTORY_VERSION, scene FACTORY_SCENE. The same arguments give the same files, byte for byte, on
    the same OpenCV build. What is like nuScenes: rig, camera stagger, uneven keyframes (0.4 to 0.6 s), 12 Hz
    camera sweeps, an ego pose per recording (z 0, some roll and pitch, yaw passing 180 degrees in the first
    turn), linked tables, drivable map mask, and boxes annotated within 60 m where a LiDAR point hits them.
    What is not: pixels (a painted street), a thinner LiDAR (keyframes only, 32 x 360 rays against ground and
    boxes), no radar.

    keyframes: how many. sweeps: images between keyframes too. image_size: (width, height), 16:9. seed: varies
    speeds, colours and places. images: False leaves the image files out (the tables still list them). lidar:
    False leaves LIDAR_TOP out, a scene of cameras alone; the boxes stay. Raises DatasetError when arguments
    make no scene or the version exists in the folder.
    """
    width, height = image_size
    if keyframes < 1:
        raise DatasetError(
            f"a scene of {keyframes} keyframes was asked for, expected at least 1; ask for more"
        )
    if width < 64 or abs(width * 9 - height * 16) > 16 * 9:
        raise DatasetError(
            f"image size is {width}x{height}, expected 16:9 and at least 64 wide; e.g. 320x180"
        )
    dataroot = Path(folder)
    if (dataroot / FACTORY_VERSION).exists():
        raise DatasetError(f"{dataroot / FACTORY_VERSION} exists already; remove it or choose another folder")
    schedule = _schedule(keyframes, sweeps, seed)
    route = Route((schedule.lidar_us[-1] - _EPOCH_US) / 1e6, seed)
    things = street(route, seed)
    texture = ground_texture(route, CROSSINGS_S, _cell(width), seed)
    painter = Painter(texture, things) if images else None
    log = DriveLog(
        name="factory-2026-01-01-12-00-00+0000",
        vehicle="factory",
        location="factory-street",
        date="2026-01-01",
    )
    writer = SceneWriter(
        dataroot, FACTORY_SCENE, log=log, jpeg_quality=jpeg_quality,
        description="Synthetic street: two turns, lead car, oncoming traffic, parked cars, pedestrians",
    )  # fmt: skip
    cameras = rig.cameras(width, height)
    for channel, camera in cameras.items():
        writer.add_camera(
            channel,
            base_from_camera=camera.base_from_camera,
            intrinsics=camera.intrinsics,
            width=width,
            height=height,
        )
    if lidar:
        writer.add_sensor("LIDAR_TOP", modality="lidar", base_from_sensor=rig.BASE_FROM_LIDAR)
    for stamp_us in schedule.lidar_us:
        _write_keyframe(writer, route, things, stamp_us, lidar)
    for channel, stamp_us, keyframe in schedule.exposures:
        time_s = (stamp_us - _EPOCH_US) / 1e6
        pose = route.global_from_base(time_s)
        if painter is None:
            writer.add_file(channel, stamp_us * 1000, pose, None, keyframe=keyframe)
        else:
            image = painter.paint(cameras[channel], pose, time_s)
            writer.add_image(channel, stamp_us * 1000, pose, image, keyframe=keyframe)
    mask = MapMask(name="factory-street", mask=drivable_mask(route, texture), logs=(log.name,))
    write_tables(dataroot, FACTORY_VERSION, [writer], [mask])
    return dataroot


@dataclass(frozen=True)
class _Schedule:
    """lidar_us: stamp of each keyframe. exposures in time order: channel, stamp, keyframe (None: sweep)."""

    lidar_us: list[int]
    exposures: list[tuple[str, int, int | None]]


def _schedule(keyframes: int, sweeps: bool, seed: int) -> _Schedule:
    rng = np.random.default_rng([seed, 0])
    lidar_us = [_EPOCH_US]
    for i in range(keyframes - 1):
        step = _KEYFRAME_STEPS_MS[i % len(_KEYFRAME_STEPS_MS)] * 1000
        lidar_us.append(lidar_us[-1] + step + int(rng.integers(-_LIDAR_JITTER_US, _LIDAR_JITTER_US + 1)))
    cycles: list[tuple[int, int | None]] = []
    for i, stamp in enumerate(lidar_us):
        cycles.append((stamp, i))
        if sweeps and i + 1 < keyframes:
            gap = lidar_us[i + 1] - stamp
            count = round(gap / _CAMERA_PERIOD_US)
            cycles += [(stamp + gap * k // count, None) for k in range(1, count)]
    exposures = []
    for stamp, keyframe in cycles:
        for channel, offset_ms in rig.STAGGER_MS.items():
            jitter = int(rng.integers(-_CAMERA_JITTER_US, _CAMERA_JITTER_US + 1))
            exposures.append((channel, stamp + int(offset_ms * 1000) + jitter, keyframe))
    return _Schedule(lidar_us, sorted(exposures, key=lambda exposure: exposure[1]))


def _write_keyframe(
    writer: SceneWriter, route: Route, things: list[Thing], stamp_us: int, lidar: bool
) -> None:
    time_s = (stamp_us - _EPOCH_US) / 1e6
    pose = route.global_from_base(time_s)
    keyframe = writer.add_keyframe(stamp_us * 1000)
    boxes = [(thing, thing.pose_at(time_s)) for thing in things if thing.size_lwh is not None]
    boxes = [(thing, box) for thing, box in boxes if np.linalg.norm(box[:2, 3] - pose[:2, 3]) < RANGE_M]
    seen = scan(pose @ rig.BASE_FROM_LIDAR, [(box, thing.size_lwh) for thing, box in boxes])
    if lidar:
        writer.add_file("LIDAR_TOP", stamp_us * 1000, pose, seen.to_bytes(), keyframe=keyframe)
    for i, (thing, box) in enumerate(boxes):
        if seen.hits[i] == 0 or np.linalg.norm(box[:2, 3] - pose[:2, 3]) > _ANNOTATION_RANGE_M:
            continue
        share = seen.hits[i] / max(seen.alone[i], 1)
        writer.add_box(
            keyframe,
            thing.name,
            thing.category,
            box,
            thing.size_lwh,
            visibility=1 + min(3, sum(share >= limit for limit in (0.4, 0.6, 0.8))),
            attributes=(thing.attribute,) if thing.attribute else (),
            num_lidar_pts=int(seen.hits[i]),
        )


def _cell(image_width: int) -> float:
    """Ground texture cell (m): fine enough for the image, coarse enough to be quick for small ones."""
    return 0.05 if image_width >= 1200 else 0.1 if image_width >= 640 else 0.2
