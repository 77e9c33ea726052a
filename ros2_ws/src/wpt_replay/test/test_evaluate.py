"""`wpt-replay evaluate`: planners and prediction files on scenes, offline."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from wpt_policy.frame import Command, CommandSource, Frame
from wpt_policy.image_input import ImageInput, ImageInputSpec
from wpt_policy.plan import Plan
from wpt_policy.planner import PlannerError
from wpt_replay import evaluate
from wpt_replay.evaluate import PlannerRefusedError, run_planner
from wpt_replay.replay_cli import main
from wpt_scenes.factory import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene
from wpt_scenes.metrics import VARIANTS, Predictions, WaypointKind, samples_of_scene, write_predictions
from wpt_scenes.scene import Scene, load_scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import WaypointFrame, plan_in_keyframe

KEYFRAMES = 9
L2 = [name for name in VARIANTS if name.startswith("l2_")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_factory_scene(
        tmp_path_factory.mktemp("evaluate"), keyframes=KEYFRAMES, sweeps=False, image_size=(160, 90)
    )


@pytest.fixture(scope="module")
def scene(root: Path) -> Scene:
    return load_scene(NuScenesTables.load(root, FACTORY_VERSION), FACTORY_SCENE)


@pytest.fixture
def command(root: Path, tmp_path: Path):
    """Run the command on the scene; return its exit code, its report and what it printed."""

    def call(*arguments: str, data: bool = True) -> tuple[int, dict | None]:
        where = ["--data", str(root), "--version", FACTORY_VERSION, "--scene", FACTORY_SCENE] if data else []
        out = tmp_path / "out" / "report.json"
        code = main(["evaluate", *where, "--jitter-draws", "2", "--json", str(out), *arguments])
        return code, json.loads(out.read_text()) if out.exists() else None

    return call


@dataclass
class TestPlanner:
    """Says what it is told, and remembers what it was asked."""

    __test__ = False

    positions: np.ndarray = field(default_factory=lambda: np.stack([np.arange(7.0), np.zeros(7)], axis=-1))
    image_input: ImageInput | None = None
    cameras: tuple[str, ...] = ()
    dt_s: float = 0.5
    fail_at: int | None = None
    name: str = "test"
    may_mask: frozenset = frozenset()
    commands: tuple = ()
    needs_ego: bool = False
    frames: list[Frame] = field(default_factory=list)
    resets: int = 0

    def plan(self, frame: Frame) -> Plan:
        self.frames.append(frame)
        if self.fail_at == len(self.frames) - 1:
            raise PlannerError("no plan here")
        return Plan(
            reference_stamp_ns=frame.reference_stamp_ns,
            positions=self.positions.copy(),
            dt_s=self.dt_s,
            planner=self.name,
        )

    def reset(self) -> None:
        self.resets += 1


def test_several_planners_and_the_baselines_in_one_report(command, capsys, tmp_path: Path) -> None:
    code, report = command("--planner", "constant_velocity", "--markdown", str(tmp_path / "table.md"))
    assert code == 0
    assert list(report["planners"]) == ["constant_velocity", "stop", "truth"]
    assert report["samples"] == KEYFRAMES
    assert report["hardware"]["cores"] > 0
    for name in L2:
        assert report["planners"]["truth"]["l2"][name]["per_step"] == [0.0] * 6
        counted = report["planners"]["constant_velocity"]["l2"][name]
        assert len(counted["per_step"]) == 6
    assert report["planners"]["stop"]["l2"]["l2_ego"]["counted_per_step"] == [8, 7, 6, 5, 4, 3]
    printed = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text().strip() in printed
    assert "9 samples, 3 with six future steps" in printed


def test_plans_are_moved_into_their_keyframes(scene: Scene) -> None:
    planner = TestPlanner()
    found = run_planner(planner, "test", [scene, scene], WaypointKind.INDEX)
    assert planner.resets == 2
    stamps = [frame.reference_stamp_ns for frame in planner.frames]
    assert stamps == [max(i.stamp_ns for i in k.images.values()) for k in scene.keyframes] * 2
    for keyframe, stamp in zip(scene.keyframes, stamps, strict=False):
        expected = plan_in_keyframe(planner.positions[1:], stamp, scene.poses, keyframe.global_from_base)
        assert np.array_equal(found.predictions.positions[keyframe.sample_token], expected)
    assert planner.frames[0].views["cam_front"].pixels is None
    # The last keyframe has no future that a command could be derived from: the one before stands.
    last, before = planner.frames[KEYFRAMES - 1], planner.frames[KEYFRAMES - 2]
    assert (last.command, last.command_source) == (before.command, CommandSource.DERIVED_FROM_FUTURE)
    assert last.command is not Command.UNKNOWN
    alone = TestPlanner()
    run_planner(alone, "test", [replace(scene, keyframes=scene.keyframes[:1])], WaypointKind.INDEX)
    assert (alone.frames[0].command, alone.frames[0].command_source) == (
        Command.STRAIGHT,
        CommandSource.FIXED,
    )


def test_images_are_read_for_a_planner_that_wants_them(scene: Scene) -> None:
    planner = TestPlanner(
        image_input=ImageInput(ImageInputSpec(width=80, height=45)), cameras=scene.camera_names
    )
    run_planner(planner, "test", [scene], WaypointKind.INDEX)
    assert {view.pixels.shape for view in planner.frames[3].views.values()} == {(45, 80, 3)}


def test_a_planner_without_its_images_is_refused_and_the_others_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    bare = write_factory_scene(tmp_path / "bare", keyframes=3, sweeps=False, image_size=(160, 90))
    for image in (bare / "samples").rglob("*.jpg"):
        image.unlink()
    make_planner = evaluate.make_planner

    def with_test_planner(name: str, **options):
        wants = TestPlanner(
            image_input=ImageInput(ImageInputSpec(width=80, height=45)), cameras=("cam_front",)
        )
        return wants if name == "seeing" else make_planner(name, **options)

    monkeypatch.setattr(evaluate, "make_planner", with_test_planner)
    out = tmp_path / "report.json"
    where = ["--data", str(bare), "--version", FACTORY_VERSION]
    assert main(["evaluate", *where, "--planner", "seeing", "--json", str(out)]) == 1
    report = json.loads(out.read_text())
    assert list(report["planners"]) == ["constant_velocity", "stop", "truth"]
    sentence = report["refused_planners"]["seeing"]
    assert "seeing reads images and 3 keyframe images of scene-0001 are not on disk" in sentence
    assert sentence in capsys.readouterr().out


def test_keyframes_without_a_plan_are_counted(scene: Scene) -> None:
    found = run_planner(TestPlanner(fail_at=2), "test", [scene], WaypointKind.INDEX)
    token = scene.keyframes[2].sample_token
    assert found.predictions.refused == {token: "no plan here"}
    assert len(found.predictions.positions) == KEYFRAMES - 1
    infinite = TestPlanner(positions=np.full((7, 2), np.inf))
    found = run_planner(infinite, "test", [scene], WaypointKind.INDEX)
    assert not found.predictions.positions
    assert "not finite" in found.predictions.refused[token]


@pytest.mark.parametrize("planner", [TestPlanner(positions=np.zeros((8, 2))), TestPlanner(dt_s=0.25)])
def test_other_horizons_are_refused(scene: Scene, planner: TestPlanner) -> None:
    with pytest.raises(PlannerRefusedError, match="expected 6 of 0.5 s"):
        run_planner(planner, "test", [scene], WaypointKind.INDEX)


def test_implausible_plans_count_unless_left_out(command, monkeypatch: pytest.MonkeyPatch) -> None:
    make_planner = evaluate.make_planner
    jump = np.vstack([[0.0, 0.0], np.full((6, 2), 300.0)])
    monkeypatch.setattr(
        evaluate,
        "make_planner",
        lambda n, **o: TestPlanner(positions=jump) if n == "jump" else make_planner(n, **o),
    )
    _, report = command("--planner", "jump")
    assert report["planners"]["jump"]["samples"] == KEYFRAMES
    assert len(report["planners"]["jump"]["implausible"]) == KEYFRAMES
    _, report = command("--planner", "jump", "--refuse-implausible")
    assert report["planners"]["jump"]["samples"] == 0
    assert len(report["planners"]["jump"]["refused"]) == KEYFRAMES


def predictions_of(scene: Scene, frame: WaypointFrame, scale: float = 1.0) -> Predictions:
    """The true waypoints (times ``scale``) of every keyframe, unknown ones at the origin."""
    truth = {sample.token: sample.truth[WaypointKind.INDEX, frame] for sample in samples_of_scene(scene)}
    positions = {
        token: np.where(known[:, None], scale * where, 0.0) for token, (where, known) in truth.items()
    }
    return Predictions(
        planner="theirs", kind=WaypointKind.INDEX, frame=frame, positions=positions, refused={}
    )


@pytest.mark.parametrize("frame", list(WaypointFrame))
def test_truth_given_as_a_file_has_distance_zero_in_every_variant(
    command, scene: Scene, tmp_path: Path, frame: WaypointFrame
) -> None:
    path = tmp_path / "theirs.json"
    write_predictions(path, predictions_of(scene, frame))
    code, report = command("--predictions", str(path))
    assert code == 0
    assert list(report["planners"]) == ["theirs", "constant_velocity", "stop", "truth"]
    entry = report["planners"]["theirs"]
    assert entry["tokens"]["judged"] == KEYFRAMES
    for name in L2:
        assert entry["l2"][name]["per_step"] == [0.0] * 6
    for variant in entry["collision"].values():
        assert variant["box"]["hits_per_step"] == [0] * 6


def test_published_predictions_against_published_truth_need_no_dataset(
    command, scene: Scene, tmp_path: Path, capsys
) -> None:
    path, truth = tmp_path / "theirs.json", tmp_path / "truth.json"
    write_predictions(path, predictions_of(scene, WaypointFrame.LIDAR, scale=0.5))
    entries = {}
    for sample in samples_of_scene(scene):
        where, known = sample.truth[WaypointKind.INDEX, WaypointFrame.LIDAR]
        entries[sample.token] = {
            "positions": np.nan_to_num(where).tolist(),
            "mask": known.astype(int).tolist(),
        }
    content = {"frame": "lidar", "waypoints": "index", "truth": entries}
    truth.write_text(json.dumps(content))
    code, alone = command("--predictions", str(path), "--truth", str(truth), data=False)
    assert code == 0
    _, together = command("--predictions", str(path))
    for name in ("l2_lidar", "l2_uniad", "l2_vad"):
        first, second = (report["planners"]["theirs"]["l2"][name] for report in (alone, together))
        assert first["per_step"] == pytest.approx(second["per_step"], abs=1e-12)
        assert first["counted_per_step"] == second["counted_per_step"]
    assert list(alone["planners"]) == ["theirs", "stop", "truth"]
    assert "constant_velocity needs the frames of a scene" in capsys.readouterr().out
    assert "no boxes" in alone["planners"]["theirs"]["unavailable"]["collision_vad"]
    # The same truth inside the prediction file.
    whole = json.loads(path.read_text()) | {"truth": content}
    path.write_text(json.dumps(whole))
    _, inside = command("--predictions", str(path), data=False)
    assert inside["planners"]["theirs"]["l2"] == alone["planners"]["theirs"]["l2"]
    assert command("--predictions", str(path), "--truth", str(truth), data=False)[0] == 1
    # With boxes from the data set.
    _, both = command("--predictions", str(path))
    assert (
        both["planners"]["theirs"]["collision"].keys() == together["planners"]["theirs"]["collision"].keys()
    )


def test_token_sets(command, scene: Scene, tmp_path: Path) -> None:
    _, report = command("--tokens", "complete_future")
    assert (report["samples"], report["token_set"]) == (3, "complete_future")
    chosen = tmp_path / "tokens.txt"
    chosen.write_text("\n".join(keyframe.sample_token for keyframe in scene.keyframes[1:3]))
    _, report = command("--tokens", str(chosen))
    assert report["samples"] == 2
    path = tmp_path / "theirs.json"
    write_predictions(path, predictions_of(scene, WaypointFrame.EGO))
    _, report = command("--tokens", str(chosen), "--predictions", str(path))
    assert report["planners"]["theirs"]["tokens"]["outside_the_selection"] == KEYFRAMES - 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scene", "scene-9"], "has no scene scene-9"),
        (["--planner", "nobody"], "no planner 'nobody'"),
        (["--tokens", "nothing"], "token set nothing is no known set"),
        (["--jitter-draws", "-1"], "jitter of -1 draws"),
    ],
)
def test_mistakes_end_with_one_sentence(command, capsys, arguments: list[str], sentence: str) -> None:
    code, report = command(*arguments)
    assert (code, report) == (1, None)
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("wpt-replay evaluate: ")


def test_missing_and_unknown_tokens_stop_the_run_unless_partial(
    command, scene: Scene, tmp_path: Path, capsys
) -> None:
    some = predictions_of(scene, WaypointFrame.EGO)
    first, *_ = some.positions
    del some.positions[first]
    some.positions["stranger"] = np.zeros((6, 2))
    path = tmp_path / "theirs.json"
    write_predictions(path, some)
    assert command("--predictions", str(path))[0] == 1
    assert "theirs has 1 tokens that the truth does not have (stranger)" in capsys.readouterr().err
    code, report = command("--predictions", str(path), "--partial")
    assert code == 0
    assert report["planners"]["theirs"]["missing"] == [first]
    assert report["planners"]["theirs"]["tokens"]["unknown"] == ["stranger"]
    assert "theirs: 8 of 9 tokens of the file judged, 1 missing, 1 unknown" in capsys.readouterr().out


def test_index_and_time_are_never_in_one_report(command, scene: Scene, tmp_path: Path, capsys) -> None:
    path = tmp_path / "theirs.json"
    write_predictions(path, predictions_of(scene, WaypointFrame.EGO))
    assert command("--predictions", str(path), "--waypoints", "time")[0] == 1
    assert "expected one kind" in capsys.readouterr().err
    code, report = command("--planner", "constant_velocity", "--waypoints", "time")
    assert (code, report["waypoints"]) == (0, "time")
    assert report["planners"]["constant_velocity"]["l2"].keys() == {"l2_ego"}


def test_without_data_and_truth_there_is_nothing_to_judge_on(command, capsys) -> None:
    assert command(data=False)[0] == 1
    assert "nothing to judge on" in capsys.readouterr().err


def test_constant_velocity_on_a_real_scene(nuscenes_tables: NuScenesTables, tmp_path: Path, capsys) -> None:
    """scene-0103: 40 keyframes without image files, 34 of them with six successors."""
    where = [
        "--data",
        str(nuscenes_tables.dataroot),
        "--version",
        nuscenes_tables.version,
        "--scene",
        "scene-0103",
    ]
    out = tmp_path / "report.json"
    assert main(["evaluate", *where, "--planner", "constant_velocity", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    entry = report["planners"]["constant_velocity"]
    counts = {name: entry["l2"][name]["samples"] for name in L2}
    assert counts == {
        "l2_ego": 40,
        "l2_lidar": 40,
        "l2_uniad": 40,
        "l2_vad": 34,
        "l2_stp3": 32,
        "l2_bevplanner": 34,
        "l2_occwd": 33,
    }
    assert not entry["unavailable"]
    assert entry["l2"]["l2_ego"]["counted_per_step"] == [39, 38, 37, 36, 35, 34]
    # A car that slows down for a crossing, left 3.7 to 4.2 m behind at 3 s, whichever way its speed is measured.
    assert 0.7 < entry["l2"]["l2_vad"]["over_time"]["avg"] < 1.3
    assert 1.4 < entry["l2"]["l2_uniad"]["at_step"]["avg"] < 2.2
    for name in L2:
        assert report["planners"]["truth"]["l2"][name]["per_step"] == [0.0] * 6
    printed = capsys.readouterr().out
    for name in VARIANTS:
        if name.startswith(("l2_", "collision_", "off_road")):
            assert f"| {name}" in printed
