from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from wpt_policy import se3
from wpt_policy.frame import Command, CommandSource
from wpt_policy.image_input import ImageInput
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.frames import FrameSource
from wpt_scenes.scene import Scene, load_scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import timed_waypoints

from wpt_training.configuration import ExperimentConfig, compact
from wpt_training.data.batch import VEHICLE, VULNERABLE
from wpt_training.data.occupancy_truth import cell_centres
from wpt_training.data.sample_fields import LABELLED, row_fields
from wpt_training.data.sample_reader import SampleReader
from wpt_training.data.side_tables import SideTables
from wpt_training.errors import TrainingError


@pytest.fixture(scope="module")
def tables(factory_data: tuple[Path, str]) -> NuScenesTables:
    return NuScenesTables.load(*factory_data)


@pytest.fixture(scope="module")
def scene(tables: NuScenesTables) -> Scene:
    return load_scene(tables, "scene-0001")


def reader(
    tables: NuScenesTables, scene: Scene, config: ExperimentConfig, side: SideTables | None = None, **options
):
    return SampleReader(tables, scene, config.student, config.data, side or SideTables(), **options)


def test_every_field_has_its_type_and_shape(tables, scene, small):
    row = reader(tables, scene, small).read(3)
    for name, (kind, shape) in row_fields(small.student, small.data).items():
        assert (row[name].dtype, row[name].shape) == (np.dtype(kind), shape), name


def test_images_and_matrices_are_those_of_the_planner_s_frame(tables, scene, small):
    row = reader(tables, scene, small).read(2)
    frame = FrameSource(scene, ImageInput(small.student.image_input), small.student.cameras).keyframe_frame(2)
    assert row["reference_ns"] == frame.reference_stamp_ns and row["camera_mask"].all()
    point = np.array([8.0, 1.0, 0.5])
    for number, name in enumerate(small.student.cameras):
        view = frame.views[name]
        np.testing.assert_array_equal(row["images"][number], view.pixels)
        in_global = se3.apply(frame.ego.odom_from_base, point[None])
        pixels, depth = view.calibration.project(se3.apply(se3.inverse(view.odom_from_base), in_global))
        u, v, w = row["image_from_base"][number].astype(np.float64) @ np.append(point, 1.0)
        assert w == pytest.approx(depth[0], abs=1e-4)
        if depth[0] > 0.1:
            np.testing.assert_allclose((u / w, v / w), pixels[0], atol=1e-2)


def test_the_future_is_the_true_path_in_time(tables, scene, small):
    made = reader(tables, scene, small)
    row = made.read(1)
    expected, known = timed_waypoints(scene.poses, made.references_ns[1])
    np.testing.assert_array_equal(row["future_valid"], known)
    np.testing.assert_allclose(row["future"][known, :2], expected[known], atol=1e-5)


def test_boxes_now_are_the_annotations_seen_from_the_reference(tables, scene, small):
    """Keyframe and newest image are 10 ms apart at most here, so boxes of standing actors are those
    annotated.
    """
    made = reader(tables, scene, small)
    row, keyframe = made.read(4), scene.keyframes[4]
    base_from_global = se3.inverse(scene.poses.at(made.references_ns[4]))
    annotated = np.array(
        [
            (base_from_global @ box.global_from_box)[:2, 3]
            for box in keyframe.boxes
            if np.linalg.norm(box.velocity) < 0.01 and box.category.startswith(("vehicle", "human"))
        ]
    )
    found = row["boxes"][0, row["box_valid"][0], :2]
    apart = np.linalg.norm(annotated[:, None] - found, axis=-1).min(axis=1)
    assert len(annotated) > 0 and (apart < 1e-3).sum() >= min(len(annotated), small.data.largest_boxes) // 2


def test_a_column_is_one_actor_with_a_steady_motion(tables, scene, small):
    row = reader(tables, scene, small).read(0)
    both = row["box_valid"][:-1] & row["box_valid"][1:]
    step = np.linalg.norm(np.diff(row["boxes"][..., :2], axis=0), axis=-1)
    speed = np.linalg.norm(row["box_velocity"], axis=-1)
    assert both.any()
    # No jump: at most the faster of its two speeds (and a margin) times the 0.5 s.
    assert (step[both] <= 0.5 * np.maximum(speed[:-1], speed[1:])[both] + 0.5).all()
    assert (row["boxes"][..., 3][row["box_valid"]] > 0.2).all() and (
        row["boxes"][~row["box_valid"]] == 0
    ).all()


def test_occupancy_comes_from_the_boxes_and_none_beyond_the_recording(tables, scene, small):
    made = reader(tables, scene, small)
    for index in (0, 6):
        row = made.read(index)
        centres = cell_centres(made.grid)
        for step in range(7):
            known = step == 0 or row["future_valid"][step - 1]
            assert known or not row["occupancy"][step].any()
            for box in row["boxes"][step, row["box_valid"][step]]:
                nearest = np.unravel_index(
                    np.linalg.norm(centres - box[:2], axis=-1).argmin(), made.grid.shape
                )
                if np.linalg.norm(centres[nearest] - box[:2]) < 0.2:
                    assert row["occupancy"][step][nearest] & (VEHICLE | VULNERABLE)


def test_of_too_many_actors_those_nearest_to_the_true_path_are_kept(tables, scene, small):
    every = reader(tables, scene, small).read(0)
    few = small.with_(data=dataclasses.replace(small.data, largest_boxes=2))
    row = reader(tables, scene, few).read(0)
    np.testing.assert_array_equal(row["boxes"], every["boxes"][:, :2])
    np.testing.assert_array_equal(row["occupancy"], every["occupancy"])  # drawn from all
    path = np.concatenate([np.zeros((1, 2)), every["future"][every["future_valid"], :2]])
    apart = np.linalg.norm(every["boxes"][:, :, None, :2] - path, axis=-1).min(axis=-1)
    nearest = np.where(every["box_valid"], apart, np.inf).min(axis=0)
    assert (np.diff(nearest[np.isfinite(nearest)]) >= 0).all()


def test_the_drivable_area_is_the_map_s(tables, scene, small):
    made = reader(tables, scene, small)
    grid = made.grid
    expected = DrivableArea.load(tables, scene).crop(
        scene.poses.at(made.references_ns[5]), grid.x_range_m, grid.y_range_m, grid.cell_m
    )
    np.testing.assert_array_equal(made.read(5)["drivable"], expected)
    assert 0.1 < expected.mean() < 0.9


def test_history_motion_takes_present_points_to_the_earlier_frame(tables, scene, small):
    made = reader(tables, scene, small)
    row = made.read(5)
    assert row["history"].tolist() == [4]
    here = np.array([[3.0, -1.0, 0.0]])
    there = se3.apply(
        se3.inverse(scene.poses.at(made.references_ns[4])) @ scene.poses.at(made.references_ns[5]), here
    )
    matrix = row["earlier_from_present"][0].astype(np.float64)
    np.testing.assert_allclose(matrix[:, :2] @ here[0, :2] + matrix[:, 2], there[0, :2], atol=0.02)
    first = made.read(0)
    assert first["history"].tolist() == [-1] and (first["earlier_from_present"] == np.eye(2, 3)).all()


def test_without_side_files_the_command_is_derived_and_says_so(tables, scene, small):
    row = reader(tables, scene, small).read(0)
    assert row["command_source"] == CommandSource.DERIVED_FROM_FUTURE
    assert small.student.plan.commands[int(row["command"])] in (Command.LEFT, Command.RIGHT, Command.STRAIGHT)
    assert np.isnan(row["route"]).all() and np.isnan(row["lane_direction"]).all()
    assert row["signal"] == 0 and np.isnan(row["stop_line"]).all() and row["flags"] == LABELLED


def test_side_tables_are_moved_into_base_link(tables, scene, small):
    made = reader(tables, scene, small)
    token, pose = scene.keyframes[2].sample_token, scene.poses.at(made.references_ns[2])
    in_base = np.array([[12.0, 2.0], [12.0, -2.0]])
    line = se3.apply(pose, np.column_stack([in_base, np.zeros(2)]))[:, :2]
    from wpt_training.data.side_tables import Signal

    side = SideTables(
        commands={keyframe.sample_token: Command.CHANGE_LANE_LEFT for keyframe in scene.keyframes},
        command_source=CommandSource.ROUTE,
        unlabelled=frozenset({token}),
        routes={scene.name: np.array([scene.poses.at(stamp)[:2, 3] for stamp in made.references_ns])},
        signals={token: Signal(state=2, stop_line=line)},
    )
    row = reader(tables, scene, small, side).read(2)
    np.testing.assert_allclose(row["stop_line"], in_base, atol=0.02)
    assert row["signal"] == 2 and row["flags"] == 0
    assert row["command"] == small.student.plan.commands.index(Command.CHANGE_LANE_LEFT)
    assert row["command_source"] == CommandSource.ROUTE
    np.testing.assert_allclose(row["route"][0], 0.0, atol=0.05)
    apart = np.linalg.norm(np.diff(row["route"], axis=0), axis=1)
    assert np.nanmin(apart) > 0.9 and np.nanmax(apart) <= 1.0 + 1e-5


def test_a_sample_without_a_command_or_a_scene_without_a_route_is_named(tables, scene, small):
    made = reader(tables, scene, small, SideTables(commands={}, command_source=CommandSource.ROUTE))
    with pytest.raises(TrainingError, match=scene.keyframes[0].sample_token):
        made.read(0)
    with pytest.raises(TrainingError, match="route of scene-0001"):
        reader(tables, scene, small, SideTables(routes={"other": np.zeros((2, 2))}))


def test_a_command_that_the_policy_does_not_know_is_named(tables, scene, small):
    plan = dataclasses.replace(small.student.plan, commands=(Command.LANE_FOLLOW,))
    policy = dataclasses.replace(small.student, plan=plan)
    with pytest.raises(TrainingError, match="does not know"):
        SampleReader(tables, scene, policy, small.data, SideTables()).read(0)


@pytest.fixture
def damaged(factory_data: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    shutil.copytree(factory_data[0], tmp_path / "data")
    return tmp_path / "data", factory_data[1]


def test_a_missing_image_names_file_and_sample(damaged, small):
    tables = NuScenesTables.load(*damaged)
    victim = load_scene(tables, "scene-0001").keyframes[3]
    path = victim.images["cam_back"].path
    path.unlink()
    scene = load_scene(tables, "scene-0001")
    with pytest.raises(TrainingError, match=victim.sample_token) as caught:
        reader(tables, scene, small).read(3)
    assert path.name in str(caught.value)
    allowing = reader(tables, scene, small, allow_missing=True)
    row = allowing.read(3)
    assert allowing.missing_images == 1
    gone = small.student.cameras.index("cam_back")
    assert row["camera_mask"].sum() == 5 and not row["camera_mask"][gone] and not row["images"][gone].any()
    whole = reader(tables, scene, small).read(2)
    assert whole["camera_mask"].all()


def test_a_broken_image_is_an_error_even_where_missing_ones_are_allowed(damaged, small):
    tables = NuScenesTables.load(*damaged)
    scene = load_scene(tables, "scene-0001")
    scene.keyframes[0].images["cam_front"].path.write_bytes(b"\xff\xd8 no more")
    with pytest.raises(TrainingError, match="cut short"):
        reader(tables, scene, small, allow_missing=True).read(0)


def test_a_scene_without_images_still_has_its_truth(tmp_path: Path, small):
    from wpt_scenes.factory import FACTORY_VERSION, write_factory_scene

    write_factory_scene(tmp_path, keyframes=3, sweeps=False, image_size=(128, 72), images=False)
    tables = NuScenesTables.load(tmp_path, FACTORY_VERSION)
    row = reader(tables, load_scene(tables, "scene-0001"), small, allow_missing=True).read(0)
    assert not row["camera_mask"].any() and not row["visible"].any()
    assert row["future_valid"].any() and row["occupancy"].any()


def test_a_data_set_without_the_policy_s_cameras_is_refused(damaged, small):
    folder = damaged[0] / damaged[1]
    sensors = json.loads((folder / "sensor.json").read_text())
    for sensor in sensors:
        sensor["channel"] = sensor["channel"].replace("CAM_BACK_LEFT", "CAM_OTHER")
    (folder / "sensor.json").write_text(json.dumps(sensors))
    tables = NuScenesTables.load(*damaged)
    with pytest.raises(TrainingError, match="cam_back_left"):
        reader(tables, load_scene(tables, "scene-0001"), small)


@pytest.fixture(scope="module")
def nuscenes() -> NuScenesTables:
    """A piece of real nuScenes, named by WPT_NUSCENES or beside the repository; not part of it."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "nuscenes"
    root = Path(os.environ.get("WPT_NUSCENES", beside))
    if not (root / "v1.0-subset").is_dir():
        pytest.skip(f"no real nuScenes piece at {root}; name one with WPT_NUSCENES")
    return NuScenesTables.load(root, "v1.0-subset")


def test_a_real_keyframe_with_its_images(nuscenes):
    config = compact()
    made = reader(nuscenes, load_scene(nuscenes, "scene-0061"), config)
    row = made.read(0)
    assert row["camera_mask"].all() and row["images"].std() > 20
    assert row["motion"][0] == pytest.approx(9.2, abs=0.3)
    # 31 people around a crossing, a truck ahead on the left; most of the ground is in sight.
    assert row["box_vulnerable"].sum() == 31 and row["box_valid"][0].sum() == 43
    assert 0.8 < row["visible"].mean() < 0.95 and 0.3 < row["drivable"].mean() < 0.5


def test_a_real_scene_without_image_files(nuscenes):
    config = compact()
    scene = load_scene(nuscenes, "scene-0103")
    with pytest.raises(TrainingError, match="cannot be read"):
        reader(nuscenes, scene, config).read(5)
    made = reader(nuscenes, scene, config, allow_missing=True)
    row = made.read(5)
    expected, _ = timed_waypoints(scene.poses, made.references_ns[5])
    np.testing.assert_allclose(row["future"][:, :2], expected, atol=1e-4)
    assert row["history"].tolist() == [4] and row["box_valid"].all(axis=0).sum() > 10
    # Annotated places and velocities tell the same motion: a column is one actor, in one frame at all times.
    both = row["box_valid"][:-1] & row["box_valid"][1:]
    step = np.diff(row["boxes"][..., :2], axis=0)[both]
    meant = 0.25 * (row["box_velocity"][:-1] + row["box_velocity"][1:])[both]
    assert np.median(np.linalg.norm(step - meant, axis=-1)) < 0.1
    assert np.quantile(np.linalg.norm(step - meant, axis=-1), 0.95) < 0.4
