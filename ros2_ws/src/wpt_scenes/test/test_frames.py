"""Frames from recorded scenes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from wpt_policy.frame import Command, CommandSource, ViewStatus
from wpt_policy.image_input import ImageInput, ImageInputSpec
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.ego import ego_state_at
from wpt_scenes.frames import FrameSource, camera_cycles, read_image
from wpt_scenes.scene_types import Scene
from wpt_scenes.schema import CAMERA_ORDER
from wpt_scenes.truth import derived_command

INPUT = ImageInput(ImageInputSpec(width=128, height=48))


def with_file(scene: Scene, camera: str, path: Path) -> Scene:
    """The scene with the first keyframe's image of a camera in another file."""
    first = scene.keyframes[0]
    frame = dataclasses.replace(first.images[camera], path=path)
    keyframe = dataclasses.replace(first, images={**first.images, camera: frame})
    return dataclasses.replace(scene, keyframes=(keyframe, *scene.keyframes[1:]))


def test_a_keyframe_gives_each_view_its_own_stamp_pose_and_pixels(factory_scene: Scene) -> None:
    frame = FrameSource(factory_scene, INPUT).keyframe_frame(2)
    keyframe = factory_scene.keyframes[2]
    assert tuple(frame.views) == CAMERA_ORDER == frame.rig.names
    for camera, view in frame.views.items():
        image = keyframe.images[camera]
        assert view.stamp_ns == image.stamp_ns
        assert np.array_equal(view.odom_from_base, image.global_from_base)
        assert view.status is ViewStatus.USED
        prepared = INPUT.decode(image.path.read_bytes())
        assert np.array_equal(view.pixels, prepared.pixels)
        assert np.allclose(view.calibration.intrinsics, INPUT.calibration(image.calibration).intrinsics)
    assert len({view.stamp_ns for view in frame.views.values()}) == 6


def test_the_reference_is_the_newest_image_and_the_ego_stands_there(factory_scene: Scene) -> None:
    frame = FrameSource(factory_scene, None).keyframe_frame(1)
    newest = max(image.stamp_ns for image in factory_scene.keyframes[1].images.values())
    assert frame.reference_stamp_ns == newest == frame.ego.stamp_ns
    state = ego_state_at(factory_scene.poses, newest)
    assert np.array_equal(frame.ego.odom_from_base, state.odom_from_base)
    assert np.array_equal(frame.ego.odom_from_base, frame.views["cam_back_left"].odom_from_base)
    assert np.array_equal(frame.ego.linear_velocity, state.linear_velocity)


def test_without_image_input_nothing_is_read_and_calibrations_are_native(scene_without_files: Scene) -> None:
    frame = FrameSource(scene_without_files, None).keyframe_frame(0)
    assert all(view.pixels is None and view.calibration.width == 160 for view in frame.views.values())


def test_the_command_is_derived_unless_given(factory_scene: Scene) -> None:
    source = FrameSource(factory_scene, None)
    derived = source.keyframe_frame(0)
    assert (derived.command, derived.command_source) == derived_command(factory_scene, 0)
    given = source.keyframe_frame(0, Command.RIGHT, CommandSource.ROUTE)
    assert (given.command, given.command_source) == (Command.RIGHT, CommandSource.ROUTE)


def test_cameras_are_taken_in_the_order_asked_for(factory_scene: Scene) -> None:
    frame = FrameSource(factory_scene, None, cameras=("cam_back", "cam_front")).keyframe_frame(0)
    assert tuple(frame.views) == ("cam_back", "cam_front")
    assert frame.reference_stamp_ns == factory_scene.keyframes[0].images["cam_back"].stamp_ns
    with pytest.raises(DatasetError, match="no camera cam_roof, expected some of cam_front"):
        FrameSource(factory_scene, None, cameras=("cam_roof",))


def test_sweeps_are_taken_by_their_stamps(factory_scene: Scene) -> None:
    sweep = next(frame for frame in factory_scene.images["cam_front"] if not frame.is_key_frame)
    frame = FrameSource(factory_scene, None).frame({"cam_front": sweep.stamp_ns}, Command.STRAIGHT)
    assert tuple(frame.views) == ("cam_front",) and frame.reference_stamp_ns == sweep.stamp_ns
    assert frame.command_source is CommandSource.UNKNOWN


def test_stamps_must_be_recorded_ones(factory_scene: Scene) -> None:
    source = FrameSource(factory_scene, None)
    with pytest.raises(DatasetError, match="no image of cam_front at 17 ns"):
        source.frame({"cam_front": 17}, Command.STRAIGHT)
    with pytest.raises(DatasetError, match="camera cam_roof is not used here"):
        source.frame({"cam_roof": 17}, Command.STRAIGHT)
    with pytest.raises(DatasetError, match="no image of scene-0001 was asked for"):
        source.frame({}, Command.STRAIGHT)
    with pytest.raises(DatasetError, match="no keyframe -1, expected 0 to 8"):
        source.keyframe_frame(-1)


def test_camera_cycles_are_complete_and_use_each_image_once(factory_scene: Scene) -> None:
    cycles = camera_cycles(factory_scene)
    assert len(cycles) == len(factory_scene.images["cam_front"])
    for camera in CAMERA_ORDER:
        assert [cycle[camera] for cycle in cycles] == [
            frame.stamp_ns for frame in factory_scene.images[camera]
        ]
    assert all(max(cycle.values()) - min(cycle.values()) < 60_000_000 for cycle in cycles)
    keyframes = [{c: image.stamp_ns for c, image in k.images.items()} for k in factory_scene.keyframes]
    assert all(keyframe in cycles for keyframe in keyframes)


def test_a_lost_image_loses_its_cycle_alone(factory_scene: Scene) -> None:
    frames = factory_scene.images["cam_back"]
    images = {**factory_scene.images, "cam_back": frames[:3] + frames[4:]}
    cycles = camera_cycles(dataclasses.replace(factory_scene, images=images))
    whole = camera_cycles(factory_scene)
    assert cycles == whole[:3] + whole[4:]


# Files that cannot be used, each named with its path


def test_a_missing_file_is_named(factory_scene: Scene, tmp_path: Path) -> None:
    source = FrameSource(with_file(factory_scene, "cam_back", tmp_path / "gone.jpg"), INPUT)
    with pytest.raises(
        DatasetError, match=r"image of cam_back at .*gone\.jpg \(No such file or directory\); fetch"
    ):
        source.keyframe_frame(0)
    assert source.keyframe_frame(1).views["cam_back"].pixels is not None


def test_a_git_lfs_pointer_is_named(factory_scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "pointer.jpg"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    scene = with_file(factory_scene, "cam_front", path)
    with pytest.raises(DatasetError, match="pointer.jpg is a Git LFS pointer, expected the JPEG itself"):
        FrameSource(scene, INPUT).keyframe_frame(0)
    with pytest.raises(DatasetError, match="Git LFS pointer"):
        read_image(scene.keyframes[0].images["cam_front"])


def test_a_cut_jpeg_is_named(factory_scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(factory_scene.keyframes[0].images["cam_front"].path.read_bytes()[:2000])
    with pytest.raises(DatasetError, match=r"cam_front image .*cut\.jpg: .*cut short"):
        FrameSource(with_file(factory_scene, "cam_front", path), INPUT).keyframe_frame(0)


def test_an_image_of_another_size_than_its_row_says_is_named(factory_scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "other.jpg"
    cv2.imwrite(str(path), np.zeros((90, 160, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"other\.jpg is 160x90 but its sample_data says 320x180"):
        FrameSource(with_file(factory_scene, "cam_front", path), INPUT).keyframe_frame(0)


@pytest.fixture(scope="module")
def scene_without_files(small_root: Path) -> Scene:
    from wpt_scenes.scene import load_scene
    from wpt_scenes.tables import NuScenesTables

    return load_scene(NuScenesTables.load(small_root, "v1.0-small"), "scene-0")
