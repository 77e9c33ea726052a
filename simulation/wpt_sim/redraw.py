"""``wpt-sim redraw``: a recorded scene's tables drawn again, so that real motion and geometry can be run without its images.

The result is a data set of its own: the scene's calibrations, stamps, ego poses and boxes as recorded, its drivable area cut
out, and pixels that are synthetic through and through. Every image says so in its corner, and so do version, log and
description. Simplifications: the ground is flat (boxes stand on it), it shows drivable area alone (the masks have no
markings), only vehicles and people are drawn (barriers, cones and the like stay boxes), their looks are invented.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wpt_policy.calibration import CameraRig
from wpt_scenes.drivable_area import CELL_M, DrivableArea
from wpt_scenes.factory.lidar import scan
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.schema import LIDAR_CHANNEL
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.writer import DriveLog, MapMask, SceneWriter, write_tables

from wpt_sim.appearance import LIGHTS, Appearance
from wpt_sim.box_tracks import BoxTracks
from wpt_sim.errors import SimulationError
from wpt_sim.image_size import image_size
from wpt_sim.renderer import Renderer
from wpt_sim.renderer.ground import mask_ground
from wpt_sim.road_map import RoadMap
from wpt_sim.world_state import EgoPose, WorldState

VERSION = "v1.0-wpt-redraw"
LABEL = "SYNTHETIC - redrawn by wpt-sim"
# The map is kept so far around the ego's way; beyond it nothing is drivable.
_MAP_RANGE_M = 120.0
_CAMERA_PERIOD_NS = 1_000_000_000 / 12
_LIDAR_RANGE_M = 80.0


@dataclass(frozen=True, kw_only=True)
class RedrawnScene:
    """images: how many were drawn. not_drawn: categories whose boxes have no body, with the number of boxes."""

    root: Path
    version: str
    scene: str
    images: int
    not_drawn: Mapping[str, int]


@dataclass(frozen=True)
class _Shot:
    camera: str
    stamp_ns: int
    pose: np.ndarray
    keyframe: int | None


def redraw_scene(
    tables: NuScenesTables,
    scene_name: str,
    out: Path,
    *,
    sweeps: bool = True,
    size: tuple[int, int] | None = None,
    light: str = "day",
    seed: int = 0,
    jpeg_quality: int = 90,
) -> RedrawnScene:
    """Write the redrawn copy of one scene into ``out`` (version VERSION) and return what was made.

    sweeps: images at 12 Hz (recorded sweeps where the tables have them, else poses and boxes between the keyframes). size:
    of the images, None as recorded. Raises SimulationError or DatasetError where the scene cannot be used.
    """
    out = Path(out)
    if (out / VERSION).exists():
        raise SimulationError(f"{out / VERSION} exists already: remove it or choose another --out.")
    scene = load_scene(tables, scene_name)
    if not scene.camera_names:
        raise SimulationError(f"{scene_name} has no cameras: choose a scene with camera calibrations.")
    area = DrivableArea.load(tables, scene)
    rig = scene.rig if size is None else CameraRig([camera.resized(*size) for camera in scene.rig.values()])
    bounds = _bounds(scene)
    # Nothing of a road map is known; the ground comes from the mask.
    renderer = Renderer(
        RoadMap(name=scene.location, lanes={}, connections=(), junction_areas={}),
        rig,
        Appearance(seed, light=light, noise=0.0),
        ground=mask_ground(area.contains, bounds),
    )
    boxes = BoxTracks(scene.keyframes)
    writer = _writer(scene, rig, out, jpeg_quality)
    shots = 0
    for shot in _shots(scene, sweeps):
        image = renderer.render_camera(shot.camera, _state(scene, boxes, shot.stamp_ns), shot.pose)
        pixels = labelled(image.rgb)
        writer.add_image(shot.camera.upper(), shot.stamp_ns, shot.pose, pixels, keyframe=shot.keyframe)
        shots += 1
    mask = MapMask(name=f"{scene.location}-part", mask=_cut_mask(area, bounds), logs=(writer.log.name,))
    write_tables(out, VERSION, [writer], [mask])
    made = RedrawnScene(root=out, version=VERSION, scene=scene_name, images=shots, not_drawn=boxes.not_drawn)
    text = {
        "synthetic_pixels": True, "source_version": tables.version, "scene": scene_name, "light": light,
        "images": shots, "boxes_without_body": dict(made.not_drawn),
    }  # fmt: skip
    (out / VERSION / "redraw.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    return made


def labelled(rgb: np.ndarray) -> np.ndarray:
    """Write LABEL into the image's top left corner, in place, and return it."""
    scale = max(0.3, rgb.shape[1] / 1600)
    place = (round(12 * scale), round(30 * scale))
    for colour, thickness in (((20, 20, 20), 3), ((245, 245, 245), 1)):
        cv2.putText(rgb, LABEL, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return rgb


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nuscenes", type=Path, required=True, help="root of the recorded data set")
    parser.add_argument("--version", default="v1.0-mini")
    parser.add_argument("--scene", required=True, help="e.g. scene-0103")
    parser.add_argument("--out", type=Path, required=True, help="root of the redrawn data set")
    parser.add_argument("--no-sweeps", action="store_true", help="keyframe images only")
    parser.add_argument("--image-size", type=image_size, metavar="WxH", help="default: as recorded")
    parser.add_argument("--light", choices=LIGHTS, default="day")
    parser.add_argument("--jpeg-quality", type=int, default=90)


def run(arguments: argparse.Namespace) -> int:
    tables = NuScenesTables.load(arguments.nuscenes, arguments.version)
    made = redraw_scene(
        tables,
        arguments.scene,
        arguments.out,
        sweeps=not arguments.no_sweeps,
        size=arguments.image_size,
        light=arguments.light,
        jpeg_quality=arguments.jpeg_quality,
    )
    print(f"{made.images} synthetic images of {made.scene}")
    if made.not_drawn:
        print("boxes without a body: " + ", ".join(f"{number} {name}" for name, number in made.not_drawn.items()))
    print(f"wpt-replay demo --data {made.root} --version {made.version} --scene {made.scene}")
    return 0


def _writer(scene: Scene, rig: CameraRig, out: Path, jpeg_quality: int) -> SceneWriter:
    """A writer with the scene's sensors, keyframes, LiDAR turns and boxes."""
    writer = SceneWriter(
        out,
        scene.name,
        log=DriveLog(
            name=f"redrawn-{scene.name}", vehicle=f"{scene.vehicle}, synthetic pixels", location=scene.location,
            date="2026-01-01",
        ),
        description=f"{LABEL} from the tables of {scene.dataset_version} {scene.name}: {scene.description}",
        jpeg_quality=jpeg_quality,
    )  # fmt: skip
    for camera in rig.values():
        writer.add_camera(
            camera.name.upper(),
            base_from_camera=camera.base_from_camera,
            intrinsics=camera.intrinsics,
            width=camera.width,
            height=camera.height,
        )
    mount = scene.keyframes[0].base_from_lidar
    if mount is not None:
        writer.add_sensor(LIDAR_CHANNEL, modality="lidar", base_from_sensor=mount)
    for keyframe in scene.keyframes:
        index = writer.add_keyframe(keyframe.stamp_ns)
        pose = keyframe.global_from_base
        if keyframe.base_from_lidar is not None:
            near = [
                (box.global_from_box, tuple(box.size_lwh)) for box in keyframe.boxes
                if np.linalg.norm(box.global_from_box[:2, 3] - pose[:2, 3]) < _LIDAR_RANGE_M
            ]  # fmt: skip
            turn = scan(pose @ keyframe.base_from_lidar, near)
            writer.add_file(LIDAR_CHANNEL, keyframe.stamp_ns, pose, turn.to_bytes(), keyframe=index)
        for box in keyframe.boxes:
            writer.add_box(
                index,
                box.instance_token,
                box.category,
                box.global_from_box,
                box.size_lwh,
                visibility=box.visibility or 4,
                num_lidar_pts=box.num_lidar_pts or 0,
                num_radar_pts=box.num_radar_pts or 0,
                attributes=box.attributes,
            )
    return writer


def _shots(scene: Scene, sweeps: bool) -> Iterator[_Shot]:
    """Yield every image to draw, camera by camera."""
    index_of = {keyframe.sample_token: keyframe.index for keyframe in scene.keyframes}
    for camera, frames in scene.images.items():
        recorded_sweeps = any(not frame.is_key_frame for frame in frames)
        for position, frame in enumerate(frames):
            if frame.is_key_frame:
                yield _Shot(camera, frame.stamp_ns, frame.global_from_base, index_of[frame.sample_token])
            elif sweeps:
                yield _Shot(camera, frame.stamp_ns, frame.global_from_base, None)
            if not sweeps or recorded_sweeps or position + 1 == len(frames):
                continue
            gap = frames[position + 1].stamp_ns - frame.stamp_ns
            # By the keyframes, not by the camera: all cameras get the same number, and so whole sets.
            count = _cycles(scene, index_of[frame.sample_token], index_of[frames[position + 1].sample_token])
            for step in range(1, count):
                # The tables hold whole microseconds.
                stamp = (frame.stamp_ns + gap * step // count) // 1000 * 1000
                yield _Shot(camera, stamp, scene.poses.at(stamp), None)


def _cycles(scene: Scene, first: int, second: int) -> int:
    """How many camera cycles of about 83 ms lie between two keyframes."""
    return round((scene.keyframes[second].stamp_ns - scene.keyframes[first].stamp_ns) / _CAMERA_PERIOD_NS)


def _state(scene: Scene, boxes: BoxTracks, stamp_ns: int) -> WorldState:
    seconds = (stamp_ns - scene.keyframes[0].stamp_ns) / 1e9
    # The cameras' poses are given to the renderer; the state's ego is not looked at.
    return WorldState(time_s=seconds, ego=EgoPose(x=0.0, y=0.0, yaw=0.0, speed=0.0), actors=boxes.actors_at(stamp_ns))


def _bounds(scene: Scene) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of the map that is kept: whole tens of metres, not below 0 where masks end."""
    places = np.array([pose[:2, 3] for _, pose in scene.ego_poses])
    low = np.maximum(np.floor((places.min(axis=0) - _MAP_RANGE_M) / 10.0) * 10.0, 0.0)
    high = np.maximum(np.ceil((places.max(axis=0) + _MAP_RANGE_M) / 10.0) * 10.0, low + 10.0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _cut_mask(area: DrivableArea, bounds: Sequence[float]) -> np.ndarray:
    """Return the mask from the map's origin to the far corner of bounds, empty outside them: places stay what they are."""
    left, bottom, right, top = bounds
    rows, columns = round(top / CELL_M), round(right / CELL_M)
    mask = np.zeros((rows, columns), dtype=np.uint8)
    first, last = max(area.height - rows, 0), area.height - round(bottom / CELL_M)
    begin, end = round(left / CELL_M) // 8, min(math.ceil(columns / 8), area.bits.shape[1])
    part = np.unpackbits(area.bits[first:last, begin:end], axis=1)[:, : min(columns, area.width) - 8 * begin]
    row = rows - (area.height - first)
    mask[row : row + part.shape[0], 8 * begin : 8 * begin + part.shape[1]] = part * 255
    return mask
