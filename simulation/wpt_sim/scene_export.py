"""A scene log as a scene in the nuScenes format: six cameras, poses, boxes, LiDAR turns, by way of SceneWriter.

Every camera is rendered at its own exposure, with the ego pose of that moment; boxes are those of the keyframe's stamp.
The tables' global frame is the road map's, moved by ``map_shift`` so that the map mask begins at its corner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraRig
from wpt_policy.frame import Command
from wpt_scenes.factory.lidar import RANGE_M, scan
from wpt_scenes.factory.rig import BASE_FROM_LIDAR
from wpt_scenes.scene_writer import DriveLog, SceneWriter
from wpt_scenes.writer import token_of

from wpt_sim.actor_boxes import attribute_of, map_from_box
from wpt_sim.drivable_raster import DrivableRaster, drivable_raster
from wpt_sim.exposure_schedule import ExposureSchedule, exposure_schedule
from wpt_sim.renderer import RenderedImage, Renderer
from wpt_sim.road_map import RoadMap
from wpt_sim.scene_log import SceneLog
from wpt_sim.visibility import LEVEL_SHARES, share_reached
from wpt_sim.world_state import Actor, WorldState

ANNOTATION_RANGE_M = 60.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportedScene:
    """writer: ready for write_tables. times_s, tokens, commands: of each keyframe. shift: (2,) m, global - map."""

    writer: SceneWriter
    log: SceneLog
    schedule: ExposureSchedule
    tokens: tuple[str, ...]
    commands: tuple[Command, ...]
    shift: tuple[float, float]

    @property
    def times_s(self) -> tuple[float, ...]:
        return tuple(self.schedule.time_s(stamp) for stamp in self.schedule.keyframes_us)


def export_scene(
    log: SceneLog,
    dataroot: str | Path,
    name: str,
    rig: CameraRig,
    *,
    number: int = 0,
    sweeps: bool = True,
    jpeg_quality: int = 90,
    description: str = "",
) -> ExportedScene:
    """Render a log and collect its rows; images go to dataroot at once. number: the scene's in its data set."""
    road_map = log.road_map
    schedule = exposure_schedule(log.duration_s, number=number, sweeps=sweeps, seed=log.spec.seed)
    renderer = Renderer(road_map, rig, log.appearance)
    shift = map_shift(drivable_raster(road_map))
    writer = SceneWriter(
        dataroot,
        name,
        log=DriveLog(name=f"{name}-drive", vehicle="wpt-sim", location=road_map.name, date="2026-01-01"),
        description=description or f"Simulated: {log.spec.family}, {log.spec.scenario}, {log.appearance.light}",
        jpeg_quality=jpeg_quality,
    )
    for camera in rig.values():
        writer.add_camera(
            camera.name.upper(),
            base_from_camera=camera.base_from_camera,
            intrinsics=camera.intrinsics,
            width=camera.width,
            height=camera.height,
        )
    writer.add_sensor("LIDAR_TOP", modality="lidar", base_from_sensor=BASE_FROM_LIDAR)
    for stamp in schedule.keyframes_us:
        writer.add_keyframe(stamp * 1000)
    seen = [VisibleShares() for _ in schedule.keyframes_us]
    for exposure in schedule.exposures:
        state = log.state_at(schedule.time_s(exposure.stamp_us))
        image = renderer.render_camera(exposure.channel.lower(), state)
        if exposure.keyframe is not None:
            seen[exposure.keyframe].add(renderer, exposure.channel.lower(), state, image)
        pose = shifted(se3.planar(state.ego.x, state.ego.y, state.ego.yaw), shift)
        writer.add_image(exposure.channel, exposure.stamp_us * 1000, pose, image.rgb, keyframe=exposure.keyframe)
    for keyframe, stamp in enumerate(schedule.keyframes_us):
        state = log.state_at(schedule.time_s(stamp))
        _add_keyframe(writer, keyframe, stamp * 1000, state, road_map, shift, seen[keyframe].levels())
    return ExportedScene(
        writer=writer,
        log=log,
        schedule=schedule,
        tokens=tuple(token_of("sample", name, stamp) for stamp in schedule.keyframes_us),
        commands=tuple(log.command_at(schedule.time_s(stamp)) for stamp in schedule.keyframes_us),
        shift=shift,
    )


def map_shift(raster: DrivableRaster) -> tuple[float, float]:
    """Return (x, y) to be added to map positions so that nuScenes' rule of map masks holds for the raster.

    Readers round a place to the nearest mask pixel, so the middle of the pixel in column c is x = 0.1 c, not 0.1 c + 0.05.
    """
    bottom = raster.top - raster.mask.shape[0] * raster.cell
    return -raster.left - 0.5 * raster.cell, -bottom + 0.5 * raster.cell


def shifted(map_from_body: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Return a (4, 4) pose moved by shift."""
    pose = map_from_body.copy()
    pose[:2, 3] += shift
    return pose


class VisibleShares:
    """Counts, over the cameras of one keyframe, the pixels that each actor shows and those it would show alone.

    The rule of ``visibility.visibility_levels``, on images that were rendered anyway.
    """

    def __init__(self) -> None:
        self._shown: dict[str, int] = {}
        self._whole: dict[str, int] = {}

    def add(
        self,
        renderer: Renderer,
        camera: str,
        state: WorldState,
        image: RenderedImage,
        pose: np.ndarray | None = None,
    ) -> None:
        whole = renderer.whole_pixels(camera, state, pose)
        shown = np.bincount(image.instance.ravel(), minlength=len(state.actors) + 1)[1:]
        for index, actor in enumerate(state.actors):
            if whole[index] > 0:
                self._whole[actor.id] = self._whole.get(actor.id, 0) + int(whole[index])
                self._shown[actor.id] = self._shown.get(actor.id, 0) + int(shown[index])

    def levels(self) -> Mapping[str, int]:
        """Return by actor id the nuScenes level, 1 (0 to 40 %) to 4 (80 to 100 %), of those with a pixel to show."""
        return {
            name: 1 + sum(share_reached(self._shown[name], whole, bound) for bound in LEVEL_SHARES)
            for name, whole in self._whole.items()
            if self._shown[name] > 0
        }


def _add_keyframe(writer, keyframe, stamp_ns, state, road_map, shift, levels) -> None:
    """Write the LiDAR turn and the boxes that a LiDAR ray or a camera pixel meets within range."""
    pose = se3.planar(state.ego.x, state.ego.y, state.ego.yaw)
    near = [actor for actor in state.actors if _distance(actor, state) < RANGE_M]
    boxes = [(map_from_box(actor), (actor.length, actor.width, actor.height)) for actor in near]
    walls = [
        (box, size)
        for box, size in _building_boxes(road_map)
        if math.dist(box[:2, 3], pose[:2, 3]) < RANGE_M + 0.5 * math.hypot(*size[:2])
    ]
    turn = scan(pose @ BASE_FROM_LIDAR, boxes + walls)
    writer.add_file("LIDAR_TOP", stamp_ns, shifted(pose, shift), turn.to_bytes(), keyframe=keyframe)
    for index, actor in enumerate(near):
        points = int(turn.hits[index])
        if _distance(actor, state) > ANNOTATION_RANGE_M or (points == 0 and actor.id not in levels):
            continue
        writer.add_box(
            keyframe,
            actor.id,
            actor.kind.value,
            shifted(boxes[index][0], shift),
            boxes[index][1],
            visibility=levels.get(actor.id, 1),
            attributes=(attribute_of(actor),),
            num_lidar_pts=points,
        )


def _distance(actor: Actor, state: WorldState) -> float:
    return math.hypot(actor.x - state.ego.x, actor.y - state.ego.y)


@lru_cache(maxsize=4)
def _building_boxes(road_map: RoadMap) -> tuple[tuple[np.ndarray, tuple[float, float, float]], ...]:
    """Buildings as boxes, to stop LiDAR rays."""
    boxes = []
    for building in road_map.buildings:
        (x, y), (length, width), degrees = cv2.minAreaRect(np.asarray(building.footprint, dtype=np.float32))
        pose = se3.planar(x, y, math.radians(degrees))
        pose[2, 3] = 0.5 * building.height
        boxes.append((pose, (float(length), float(width), float(building.height))))
    return tuple(boxes)
