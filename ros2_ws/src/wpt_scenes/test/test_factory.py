"""The factory scene: like nuScenes where it says so, and exact where everything else relies on it."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration, rig_problems
from wpt_policy.frame import Command
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, rig, write_factory_scene
from wpt_scenes.factory.ground import GroundTexture, ground_texture
from wpt_scenes.factory.lidar import scan
from wpt_scenes.factory.painter import Painter
from wpt_scenes.factory.route import Route
from wpt_scenes.factory.solids import cuboid
from wpt_scenes.factory.world import CROSSINGS_S, Thing, street
from wpt_scenes.frames import camera_cycles
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.schema import CAMERA_ORDER
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import derived_command

# Mean offsets to the LIDAR_TOP stamp that were measured on real nuScenes.
NUSCENES_STAGGER_MS = {
    "CAM_FRONT_LEFT": -43,
    "CAM_FRONT": -35,
    "CAM_FRONT_RIGHT": -27,
    "CAM_BACK_RIGHT": -20,
    "CAM_BACK": -10,
    "CAM_BACK_LEFT": 0,
}
EGO_SIZE = (4.1, 1.85)  # around a point 1 m ahead of the rear axle


@pytest.fixture(scope="module")
def long_scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Twenty keyframes without image files."""
    root = write_factory_scene(tmp_path_factory.mktemp("long"), keyframes=20, images=False)
    return load_scene(NuScenesTables.load(root, FACTORY_VERSION), FACTORY_SCENE)


@pytest.fixture(scope="module")
def route() -> Route:
    return Route(4.0, seed=0)


def test_a_scene_is_written_and_read_without_a_finding(
    factory_tables: NuScenesTables, factory_scene: Scene
) -> None:
    assert factory_tables.findings == () and factory_scene.findings == ()
    assert factory_scene.camera_names == CAMERA_ORDER and len(factory_scene.keyframes) == 9
    assert factory_scene.missing_images() == () and rig_problems(factory_scene.rig) == []
    for frames in factory_scene.images.values():
        for frame in frames:
            assert cv2.imread(str(frame.path)).shape == (180, 320, 3)


def test_stamps_are_like_those_of_nuscenes(long_scene: Scene) -> None:
    for keyframe in long_scene.keyframes:
        offsets = {
            c.upper(): (image.stamp_ns - keyframe.stamp_ns) / 1e6 for c, image in keyframe.images.items()
        }
        for channel, expected in NUSCENES_STAGGER_MS.items():
            assert offsets[channel] == pytest.approx(expected, abs=0.51)
        assert 40.2 < max(offsets.values()) - min(offsets.values()) < 45
    steps = np.diff([keyframe.stamp_ns for keyframe in long_scene.keyframes]) / 1e6
    assert 398 < steps.min() < 402 and 598 < steps.max() < 602 and len(set(steps)) == len(steps)
    assert steps.mean() == pytest.approx(497.5, abs=8)
    cycles = camera_cycles(long_scene)
    assert len(cycles) == len(long_scene.images["cam_front"]) > 5 * 19
    for camera in CAMERA_ORDER:
        periods = np.diff([frame.stamp_ns for frame in long_scene.images[camera]]) / 1e6
        assert 76 < periods.min() and periods.max() < 93


def test_the_ego_moves_as_a_car_does(long_scene: Scene) -> None:
    poses = long_scene.poses.poses
    assert np.array_equal(poses[:, 2, 3], np.zeros(len(poses)))
    tilt = np.degrees(np.arccos(np.clip(poses[:, 2, 2], -1, 1)))
    assert 0.3 < tilt.max() < 3.0
    yaws = np.array([se3.yaw_of(pose) for pose in poses])
    assert np.abs(np.diff(yaws)).max() > 6.0  # passes +-180 degrees
    unwrapped = np.unwrap(yaws)
    assert math.degrees(unwrapped.max() - unwrapped[0]) > 60 and unwrapped[-1] < unwrapped.max() - 0.5
    spread = [
        np.linalg.norm(image.global_from_base[:3, 3] - k.global_from_base[:3, 3])
        for k in long_scene.keyframes
        for image in k.images.values()
    ]
    assert 0.2 < max(spread) < 0.45


def test_every_command_occurs(long_scene: Scene) -> None:
    commands = {derived_command(long_scene, keyframe.index)[0] for keyframe in long_scene.keyframes[:14]}
    assert commands == {Command.LEFT, Command.RIGHT, Command.STRAIGHT}


def test_boxes_of_several_kinds_move_and_stand(long_scene: Scene) -> None:
    boxes = [box for keyframe in long_scene.keyframes for box in keyframe.boxes]
    assert {"vehicle.car", "vehicle.truck", "human.pedestrian.adult", "movable_object.trafficcone"} == {
        b.category for b in boxes
    }
    assert all(box.num_lidar_pts > 0 for box in boxes) and len({box.visibility for box in boxes}) > 1
    for box in boxes:
        speed = np.linalg.norm(box.velocity)
        if "vehicle.parked" in box.attributes and not math.isnan(speed):
            assert speed == 0.0
        if "vehicle.moving" in box.attributes and not math.isnan(speed):
            assert 2.0 < speed < 13.0


@pytest.mark.parametrize("seed", range(4))
def test_nothing_drives_through_anything(seed: int) -> None:
    route = Route(9.5, seed)
    things = [thing for thing in street(route, seed) if thing.size_lwh is not None]
    for time_s in np.arange(0.0, 9.51, 0.25):
        ego = route.global_from_base(time_s) @ se3.planar(1.0, 0.0, 0.0)
        outlines = [("ego", rectangle(ego, EGO_SIZE))]
        outlines += [(thing.name, rectangle(thing.pose_at(time_s), thing.size_lwh)) for thing in things]
        for i, (first, corners) in enumerate(outlines):
            for second, others in outlines[i + 1 :]:
                assert not overlap(corners, others), f"{first} and {second} at {time_s} s"


def rectangle(pose: np.ndarray, size: tuple[float, ...]) -> np.ndarray:
    x, y = size[0] / 2, size[1] / 2
    return se3.apply(pose, np.array([[x, y, 0], [-x, y, 0], [-x, -y, 0], [x, -y, 0]]))[:, :2]


def overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Separating axes of two convex polygons."""
    for polygon in (first, second):
        for edge in np.roll(polygon, -1, axis=0) - polygon:
            normal = np.array([-edge[1], edge[0]])
            if (first @ normal).max() < (second @ normal).min() or (second @ normal).max() < (
                first @ normal
            ).min():
                return False
    return True


def test_the_same_arguments_write_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        root = write_factory_scene(
            tmp_path / name, keyframes=2, sweeps=False, image_size=(160, 90), seed=seed
        )
        files = sorted(path for path in root.rglob("*") if path.is_file())
        content = b"".join(str(path.relative_to(root)).encode() + path.read_bytes() for path in files)
        hashes.append(hashlib.sha256(content).hexdigest())
    assert hashes[0] == hashes[1] != hashes[2]


def test_wrong_arguments_are_refused(factory_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="0 keyframes was asked for"):
        write_factory_scene(tmp_path, keyframes=0)
    with pytest.raises(DatasetError, match="image size is 320x320, expected 16:9"):
        write_factory_scene(tmp_path, image_size=(320, 320))
    with pytest.raises(DatasetError, match="exists already"):
        write_factory_scene(factory_root)
    assert list(tmp_path.iterdir()) == []


def test_one_keyframe_is_a_scene(tmp_path: Path) -> None:
    root = write_factory_scene(tmp_path, keyframes=1, image_size=(160, 90))
    assert len(load_scene(NuScenesTables.load(root, FACTORY_VERSION), FACTORY_SCENE).keyframes) == 1


# Pixels


def test_the_ground_lies_where_its_pattern_says_in_every_camera(route: Route) -> None:
    """Each pixel's ray meets the ground at a place of its colour; from a mount turned by one degree not."""
    texture = ground_texture(route, CROSSINGS_S, 0.1, seed=0)
    painter = Painter(texture, [])
    pose = route.global_from_base(2.3)
    for camera in rig.cameras(800, 450).values():
        image = painter.paint(camera, pose, 2.3)
        exact = colour_error(texture, image, camera, pose)
        turned = colour_error(texture, image, camera, pose @ se3.planar(0.0, 0.0, math.radians(1.0)))
        assert exact < 0.5 and turned > 3.0 * exact, camera.name


def test_the_texture_knows_where_its_pixels_are(route: Route) -> None:
    texture = ground_texture(route, (), 0.2, seed=0)
    height, width = texture.rgb.shape[:2]
    for level in (texture, texture.reduced(4)):
        corner = np.array([level.left + 0.5 * level.cell, level.top - 0.5 * level.cell, 1.0])
        assert np.allclose(level.pixel_from_global() @ corner, [0.0, 0.0, 1.0], atol=1e-9)
    # Squares of 4 m, aligned to the global axes: brightness changes between the pixels at their borders.
    row = texture.rgb[height - 3, :200, 1].astype(int)
    borders = (
        texture.left
        + (np.flatnonzero(np.abs(np.diff(cv2.blur(row[None].astype(float), (5, 1))[0])) > 1.5) + 1) * 0.2
    )
    assert len(borders) > 5 and np.abs(borders - 4.0 * np.round(borders / 4.0)).max() < 0.5


def colour_error(
    texture: GroundTexture, image: np.ndarray, camera: CameraCalibration, pose: np.ndarray
) -> float:
    """Mean difference between pixels and the ground their rays meet within 15 m (finest texture level)."""
    u, v = np.meshgrid(np.arange(0, camera.width, 3), np.arange(0, camera.height, 3))
    rays = np.column_stack([u.ravel(), v.ravel(), np.ones(u.size)]) @ np.linalg.inv(camera.intrinsics).T
    global_from_camera = pose @ camera.base_from_camera
    rays, origin = rays @ global_from_camera[:3, :3].T, global_from_camera[:3, 3]
    with np.errstate(divide="ignore"):
        places = origin[:2] + rays[:, :2] * (-origin[2] / rays[:, 2])[:, None]
    near = (rays[:, 2] < 0) & (np.linalg.norm(places - origin[:2], axis=1) < 15.0)
    assert near.sum() > 2000
    pixel_from_global = texture.pixel_from_global()
    at = (places[near] @ pixel_from_global[:2, :2].T + pixel_from_global[:2, 2]).astype(np.float32)
    expected = cv2.remap(texture.rgb, at[:, None, 0], at[:, None, 1], cv2.INTER_LINEAR)[:, 0].astype(float)
    return float(np.abs(image[v.ravel()[near], u.ravel()[near]] - expected).mean())


def test_things_are_painted_inside_their_projected_boxes(route: Route) -> None:
    painted = 0
    texture = ground_texture(route, CROSSINGS_S, 0.2, seed=0)
    for time_s in (0.5, 2.5):
        pose = route.global_from_base(time_s)
        for thing in street(route, seed=0):
            if thing.size_lwh is None:
                continue
            for camera in rig.cameras(800, 450).values():
                box = thing.pose_at(time_s)
                corners = box_corners(box, thing.size_lwh)
                pixels, depth = camera.project(se3.apply(se3.inverse(pose), corners))
                if depth.min() < 1.0 or not camera.visible(pixels, depth).all() or np.ptp(pixels[:, 1]) < 12:
                    continue
                without = Painter(texture, []).paint(camera, pose, time_s)
                with_it = Painter(texture, [thing]).paint(camera, pose, time_s)
                changed = (without != with_it).any(axis=2)
                hull = np.zeros(changed.shape, np.uint8)
                cv2.fillConvexPoly(hull, cv2.convexHull(np.round(pixels).astype(np.int32)), 1)
                inside = cv2.dilate(hull, np.ones((3, 3), np.uint8)).astype(bool)
                assert (changed & inside).sum() >= 0.98 * changed.sum(), thing.name
                rows, columns = np.nonzero(changed)
                width, height = np.ptp(pixels, axis=0)
                assert np.ptp(columns) + 1 > 0.7 * width and np.ptp(rows) + 1 > 0.8 * height, thing.name
                painted += 1
    assert painted >= 8


def box_corners(box: np.ndarray, size: tuple[float, float, float]) -> np.ndarray:
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return se3.apply(box, 0.5 * signs * np.array(size))


def test_the_nearer_thing_hides_the_farther_one(route: Route) -> None:
    """A red and a blue wall one behind the other, given in either order."""
    pose = route.global_from_base(0.0)
    camera = rig.cameras(320, 180)["CAM_FRONT"]
    texture = ground_texture(route, (), 0.2, seed=0)
    near = wall("near", pose @ se3.planar(10.0, 0.0, 0.0), (200, 20, 20))
    far = wall("far", pose @ se3.planar(20.0, 0.0, 0.0), (20, 20, 200))
    for things in ([near, far], [far, near]):
        image = Painter(texture, things).paint(camera, pose, 0.0)
        pixel, _ = camera.project(np.array([[10.0, 0.0, 1.0]]))
        red, _, blue = image[round(pixel[0, 1]), round(pixel[0, 0])].astype(int)
        assert red > 100 > blue


def wall(name: str, pose: np.ndarray, colour: tuple[int, int, int]) -> Thing:
    faces = tuple(cuboid((-0.2, 0.2), (-1.0, 1.0), (0.0, 2.0), colour))
    return Thing(name=name, faces=faces, pose_at=lambda time_s: pose, radius=2.5)


def test_a_body_that_reaches_behind_the_camera_is_cut_there(route: Route) -> None:
    """A wall along the left side, from 6 m behind to 6 m ahead: it fills the left of the image alone."""
    pose = route.global_from_base(0.0)
    camera = rig.cameras(320, 180)["CAM_FRONT"]
    texture = ground_texture(route, (), 0.2, seed=0)
    faces = tuple(cuboid((-6.0, 6.0), (0.5, 0.7), (0.0, 3.0), (200, 20, 20)))
    beside = Thing(name="beside", faces=faces, pose_at=lambda time_s: pose, radius=7.0)
    image = Painter(texture, [beside]).paint(camera, pose, 0.0)
    red = (image[..., 0] > 90) & (image[..., 1] < 60)
    assert red[:, 0].mean() > 0.95 and red[90].sum() > 60
    assert not red[:, round(camera.intrinsics[0, 2]) :].any()


def test_what_is_behind_the_camera_or_around_it_is_not_painted(route: Route) -> None:
    pose = route.global_from_base(0.0)
    camera = rig.cameras(320, 180)["CAM_FRONT"]
    texture = ground_texture(route, (), 0.2, seed=0)
    alone = Painter(texture, []).paint(camera, pose, 0.0)
    for distance in (-30.0, 0.0, 1.7):
        thing = wall("wall", pose @ se3.planar(distance, 0.0, 0.0), (200, 20, 20))
        assert np.array_equal(Painter(texture, [thing]).paint(camera, pose, 0.0), alone), distance


# LiDAR


def test_rays_end_on_the_nearest_surface() -> None:
    lidar = np.eye(4)
    lidar[2, 3] = 1.8
    front = se3.planar(10.0, 0.0, 0.0)
    front[2, 3] = 1.0
    behind = se3.planar(16.0, 0.0, 0.3)
    behind[2, 3] = 1.0
    result = scan(lidar, [(front, (2.0, 4.0, 2.0)), (behind, (2.0, 3.0, 2.0))])
    assert result.hits[0] == result.alone[0] > 20 and result.hits[1] == 0 < result.alone[1]
    ground = np.abs(result.points[:, 2] + 1.8) < 1e-9
    on_front = (np.abs(result.points[:, 0] - 9.0) < 1e-9) & (np.abs(result.points[:, 1]) <= 2.0)
    assert on_front.sum() + (~on_front & ~ground).sum() == result.hits.sum() and on_front.sum() > 20
    assert np.linalg.norm(result.points, axis=1).max() <= 70.0


def test_point_counts_are_those_of_the_written_file(
    factory_tables: NuScenesTables, factory_scene: Scene
) -> None:
    keyframe = factory_scene.keyframes[3]
    rows = factory_tables.rows_where("sample_data", "sample_token", [keyframe.sample_token])
    (row,) = (row for row in rows if "LIDAR_TOP" in row["filename"])
    points = np.fromfile(factory_scene.dataroot / row["filename"], "<f4").reshape(-1, 5)[:, :3]
    points = se3.apply(keyframe.global_from_base @ keyframe.base_from_lidar, points)
    for box in keyframe.boxes:
        local = se3.apply(se3.inverse(box.global_from_box), points)
        inside = (np.abs(local) <= 0.5 * box.size_lwh + 1e-3) & (local[:, 2:] > -0.5 * box.size_lwh[2] + 1e-3)
        assert inside.all(axis=1).sum() == pytest.approx(box.num_lidar_pts, abs=1)
