"""Redrawing a recorded scene: its geometry stays to the last bit, its pixels are synthetic and say so."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from wpt_policy import se3
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene
from wpt_scenes.frames import camera_cycles
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Keyframe, Scene
from wpt_scenes.tables import NuScenesTables
from wpt_sim.box_tracks import BoxTracks, kind_of
from wpt_sim.cli import main
from wpt_sim.errors import SimulationError
from wpt_sim.redraw import LABEL, VERSION, labelled, redraw_scene
from wpt_sim.world_state import ActorKind


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[NuScenesTables, Scene]:
    """A recording whose image files are missing, as those of scene-0103 may be."""
    root = write_factory_scene(tmp_path_factory.mktemp("source"), keyframes=6, image_size=(320, 180), images=False, sweeps=False)
    tables = NuScenesTables.load(root, FACTORY_VERSION)
    return tables, load_scene(tables, FACTORY_SCENE)


@pytest.fixture(scope="module")
def redrawn(source, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("redrawn")
    made = redraw_scene(source[0], FACTORY_SCENE, root)
    assert (made.version, made.scene) == (VERSION, FACTORY_SCENE)
    return load_scene(NuScenesTables.load(root, VERSION), FACTORY_SCENE)


def test_calibration_stamps_poses_and_boxes_are_the_recorded_ones(source, redrawn: Scene) -> None:
    recorded = source[1]
    assert redrawn.camera_names == recorded.camera_names
    for camera in recorded.camera_names:
        mine, theirs = redrawn.rig[camera], recorded.rig[camera]
        assert np.allclose(mine.intrinsics, theirs.intrinsics) and np.allclose(mine.base_from_camera, theirs.base_from_camera)
    assert len(redrawn.keyframes) == len(recorded.keyframes)
    for mine, theirs in zip(redrawn.keyframes, recorded.keyframes, strict=True):
        assert mine.stamp_ns == theirs.stamp_ns and np.allclose(mine.global_from_base, theirs.global_from_base)
        for camera, image in theirs.images.items():
            assert mine.images[camera].stamp_ns == image.stamp_ns
            assert np.allclose(mine.images[camera].global_from_base, image.global_from_base)
        assert len(mine.boxes) == len(theirs.boxes)
        # Tables list boxes by instance: the order within a keyframe may differ.
        places = sorted((box.category, *np.round(box.global_from_box[:3, 3], 6)) for box in mine.boxes)
        assert places == sorted((box.category, *np.round(box.global_from_box[:3, 3], 6)) for box in theirs.boxes)
        assert sorted(box.num_lidar_pts for box in mine.boxes) == sorted(box.num_lidar_pts for box in theirs.boxes)


def test_sweeps_are_made_between_keyframes(redrawn: Scene) -> None:
    for frames in redrawn.images.values():
        gaps = np.diff([frame.stamp_ns for frame in frames]) / 1e6
        assert 70 < gaps.min() and gaps.max() < 100 and sum(frame.is_key_frame for frame in frames) == 6
        for frame in frames:
            assert np.allclose(frame.global_from_base, redrawn.poses.at(frame.stamp_ns), atol=1e-6)
    assert len(camera_cycles(redrawn)) == len(redrawn.images["cam_front"])
    assert not redrawn.missing_images()


def test_the_drivable_area_is_the_recorded_one_around_the_way(source, redrawn: Scene, tmp_path: Path) -> None:
    recorded = DrivableArea.load(*source)
    mine = DrivableArea.load(NuScenesTables.load(redrawn.dataroot, VERSION), redrawn)
    rng = np.random.default_rng(0)
    centre = redrawn.keyframes[3].global_from_base[:2, 3]
    points = centre + rng.uniform(-80.0, 80.0, (20_000, 2))
    found, expected = mine.contains(points), recorded.contains(points)
    assert 0.02 < expected.mean() < 0.6 and np.array_equal(found, expected)


def test_it_says_everywhere_that_its_pixels_are_synthetic(source, redrawn: Scene) -> None:
    tables = NuScenesTables.load(redrawn.dataroot, VERSION)
    assert LABEL in redrawn.description and "synthetic pixels" in redrawn.vehicle and "redraw" in redrawn.dataset_version
    assert tables.rows("log")[0]["logfile"].startswith("redrawn-")
    assert json.loads((redrawn.dataroot / VERSION / "redraw.json").read_text())["synthetic_pixels"] is True
    image = cv2.imread(str(redrawn.keyframes[2].images["cam_front"].path))
    assert image.shape == (180, 320, 3) and image.std() > 20
    corner = image[:14, :160]
    assert (corner.max(axis=2) > 200).mean() > 0.03 and (corner.max(axis=2) < 100).mean() > 0.03
    blank = np.full((900, 1600, 3), 128, dtype=np.uint8)
    assert (labelled(blank) != 128).any(axis=2).sum() > 3000


def test_a_car_ahead_is_drawn_where_its_box_is(source, redrawn: Scene) -> None:
    """The redrawn front image differs from an empty road inside the box of a near car, and hardly around it."""
    keyframe = redrawn.keyframes[2]
    image = keyframe.images["cam_front"]
    pixels = cv2.cvtColor(cv2.imread(str(image.path)), cv2.COLOR_BGR2RGB).astype(float)
    seen = 0
    for box in keyframe.boxes:
        if not box.category.startswith("vehicle.car"):
            continue
        corners, depth = image.calibration.project(
            se3.apply(se3.inverse(image.global_from_base), box.corners())
        )
        if depth.min() < 4.0 or depth.min() > 25.0 or not image.calibration.visible(corners, depth).all():
            continue
        left, top = np.ceil(corners.min(axis=0)).astype(int)
        right, bottom = np.floor(corners.max(axis=0)).astype(int)
        inside = pixels[top : bottom + 1, left : right + 1]
        assert inside.std() > 20  # paint, glass and wheels; asphalt alone has a third of that
        seen += 1
    assert seen >= 1


def test_boxes_move_on_a_straight_line_between_annotations(source) -> None:
    keyframes: tuple[Keyframe, ...] = source[1].keyframes
    tracks = BoxTracks(keyframes)
    first, second = keyframes[1], keyframes[2]
    middle = (first.stamp_ns + second.stamp_ns) // 2
    actors = {actor.id: actor for actor in tracks.actors_at(middle)}
    later = {box.instance_token: box for box in second.boxes}
    compared = 0
    for box in first.boxes:
        if box.instance_token in later and box.instance_token in actors:
            expected = (box.global_from_box[:2, 3] + later[box.instance_token].global_from_box[:2, 3]) / 2
            actor = actors[box.instance_token]
            assert math.hypot(actor.x - expected[0], actor.y - expected[1]) < 1e-3
            compared += 1
    assert compared >= 3
    # A camera fires 43 ms before the first keyframe: everybody is there; 0.2 s before it nobody is.
    assert len(tracks.actors_at(keyframes[0].stamp_ns - 43_000_000)) == len(keyframes[0].boxes) - sum(
        kind_of(box.category) is None for box in keyframes[0].boxes
    )
    assert tracks.actors_at(keyframes[0].stamp_ns - 200_000_000) == ()


def test_what_has_no_body_is_counted(source) -> None:
    keyframe = source[1].keyframes[0]
    cone = dataclasses.replace(keyframe.boxes[0], category="movable_object.trafficcone", instance_token="c")
    before = BoxTracks([keyframe]).not_drawn.get("movable_object.trafficcone", 0)
    tracks = BoxTracks([dataclasses.replace(keyframe, boxes=(*keyframe.boxes, cone))])
    assert tracks.not_drawn["movable_object.trafficcone"] == before + 1
    assert "c" not in {actor.id for actor in tracks.actors_at(keyframe.stamp_ns)}
    assert kind_of("vehicle.bus.bendy") is ActorKind.BUS and kind_of("human.pedestrian.child") is ActorKind.PEDESTRIAN
    assert kind_of("static_object.bicycle_rack") is None


def test_a_version_is_never_overwritten_and_an_unknown_scene_named(source, redrawn: Scene, tmp_path, capsys) -> None:
    with pytest.raises(SimulationError, match="exists already"):
        redraw_scene(source[0], FACTORY_SCENE, redrawn.dataroot)
    arguments = ["--nuscenes", str(source[0].dataroot), "--version", FACTORY_VERSION, "--out", str(tmp_path)]
    assert main(["redraw", *arguments, "--scene", "scene-9999"]) == 1
    assert "no scene 'scene-9999'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_scene_is_redrawn(nuscenes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["redraw", "--nuscenes", str(nuscenes_root), "--version", "v1.0-subset", "--scene", "scene-0103"]
    assert main([*arguments, "--out", str(tmp_path), "--no-sweeps", "--image-size", "160x90"]) == 0
    assert "240 synthetic images" in capsys.readouterr().out
    scene = load_scene(NuScenesTables.load(tmp_path, VERSION), "scene-0103")
    assert len(scene.keyframes) == 40 and not scene.missing_images() and scene.rig["cam_front"].width == 160
    assert sum(len(keyframe.boxes) for keyframe in scene.keyframes) == 2090
