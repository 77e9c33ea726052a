"""`wpt-sim dataset`: tables with everything beside them, dropped drives counted, splits apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wpt_policy.frame import Command
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables
from wpt_sim import dataset
from wpt_sim.cli import main
from wpt_sim.dataset import DatasetOrder, MadeScene, episode_seed, write_dataset
from wpt_sim.demo_scene import demo_log
from wpt_sim.drive_recording import RecordedDrive
from wpt_sim.errors import SimulationError
from wpt_sim.interaction import is_interactive
from wpt_sim.network import SPLITS
from wpt_sim.scene_log import Disturbance, SceneLogRecorder
from wpt_sim.scene_log_file import read_log
from wpt_sim.world_state import Actor, ActorKind, EgoPose, WorldState

LOG = demo_log()


def order(out: Path, **changes) -> DatasetOrder:
    values = {"split": "train", "scenes": 3, "seed": 1, "image_size": (128, 72), "sweeps": False}
    return DatasetOrder(out=out, **{**values, **changes})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[MadeScene]]:
    """Three scenes of which the drives are known: the second one's first two attempts go wrong, the third is disturbed."""
    asked: list[str] = []

    def known_drive(spec, *, driver, disturbances):
        asked.append(spec.name)
        if len(asked) == 2:
            return RecordedDrive(log=replace(LOG, infractions=("3.00 s: red_light ran the red light a",)), finished=False)
        if len(asked) == 3:
            return RecordedDrive(log=LOG.cut(0.0, 2.0), finished=True)
        log = replace(LOG, spec=replace(LOG.spec, seed=len(asked)))
        if len(asked) == 5:
            log = replace(log, disturbances=(Disturbance(kind="pose", begin_s=5.0, end_s=6.0),))
        return RecordedDrive(log=log, finished=True)

    patch = pytest.MonkeyPatch()
    patch.setattr(dataset, "record_drive", known_drive)
    out, made = tmp_path_factory.mktemp("dataset"), []
    try:
        folder = write_dataset(order(out), on_scene=made.append)
    finally:
        patch.undo()
    return folder, made


def tokens_of(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def test_the_tables_are_valid_and_everything_lies_beside_them(written) -> None:
    folder, _ = written
    assert folder.name == "v1.0-wpt-sim-train"
    tables = NuScenesTables.load(folder.parent, folder.name)
    assert tables.scene_names() == tuple(f"wpt-sim-train-001-{number:04d}" for number in range(3))
    assert tables.count("map") == 1 and tables.count("log") == 3 and not tables.findings
    names = {path.name for path in folder.iterdir() if not path.name.endswith(".json") or path.stem in
             ("command", "scenes", "dataset_card", "routes", "signals")}  # fmt: skip
    assert names == {"command.json", "scenes.json", "dataset_card.json", "dataset_card.md", "unlabelled_samples.txt",
                     "samples_natural.txt", "samples_interactive.txt", "routes.json", "signals.json",
                     "lane_directions"}  # fmt: skip
    routes = json.loads((folder / "routes.json").read_text())["scenes"]
    assert set(routes) == set(tables.scene_names())
    signals = json.loads((folder / "signals.json").read_text())["samples"]
    assert set(signals) <= {row["token"] for row in tables.rows("sample")}
    for scene_name in tables.scene_names():
        scene = load_scene(tables, scene_name)
        assert not scene.missing_images() and len(scene.images) == 6
        log = read_log(folder.parent / "scene_logs" / f"{scene_name}.scenelog")
        assert log.steps == LOG.steps
        assert (folder / "lane_directions" / f"{scene.location}.png").exists()
        route = np.array(routes[scene_name])
        for keyframe in scene.keyframes:
            place = keyframe.global_from_base[:2, 3]
            assert np.hypot(*(route - place).T).min() < 4.0


def test_scenes_of_one_data_set_share_no_stamp(written) -> None:
    folder, _ = written
    tables = NuScenesTables.load(folder.parent, folder.name)
    stamps = [row["timestamp"] for row in tables.rows("sample")]
    assert len(set(stamps)) == len(stamps)


def test_drives_with_an_infraction_or_too_short_are_dropped_and_counted(written) -> None:
    folder, made = written
    card = json.loads((folder / "dataset_card.json").read_text())
    assert card["drives"] == 5 and len(card["dropped"]) == 2 and card["scenes_given_up"] == 0
    assert "red_light" in card["dropped"][0] and "only 2.0 s" in card["dropped"][1]
    assert [len(scene.dropped) for scene in made] == [0, 2, 0]
    assert "5 drives, 2 dropped" in (folder / "dataset_card.md").read_text()


def test_samples_before_the_end_of_a_disturbance_are_listed(written) -> None:
    folder, made = written
    unlabelled = tokens_of(folder / "unlabelled_samples.txt")
    last = made[2].exported
    expected = [token for token, time_s in zip(last.tokens, last.times_s, strict=True) if 2.0 < time_s < 6.0]
    assert unlabelled == expected and 6 <= len(expected) <= 9


def test_token_lists_name_samples_of_their_kind(written) -> None:
    folder, made = written
    interactive = set(tokens_of(folder / "samples_interactive.txt"))
    for scene in made:
        for token, time_s in zip(scene.exported.tokens, scene.exported.times_s, strict=True):
            assert (token in interactive) == is_interactive(scene.exported.log, time_s)
    assert 0 < len(interactive) <= sum(len(scene.exported.tokens) for scene in made)
    assert len(tokens_of(folder / "samples_natural.txt")) == sum(len(scene.exported.tokens) for scene in made)
    commands = json.loads((folder / "command.json").read_text())
    assert commands["source"] == "ROUTE" and len(commands["commands"]) == len(tokens_of(folder / "samples_natural.txt"))


def test_the_episode_of_a_scene_can_be_driven_again_from_what_is_kept(written) -> None:
    folder, _ = written
    scenes = json.loads((folder / "scenes.json").read_text())["scenes"]
    assert set(scenes) == {f"wpt-sim-train-001-{number:04d}" for number in range(3)}
    entry = scenes["wpt-sim-train-001-0002"]
    assert entry["disturbances"] == [["pose", 5.0, 6.0]] and entry["episode"]["network"] == LOG.spec.network


def test_a_version_is_never_overwritten(written) -> None:
    folder, _ = written
    with pytest.raises((SimulationError, DatasetError), match="exists already"):
        write_dataset(order(folder.parent))


def test_every_drive_dropped_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = RecordedDrive(log=replace(LOG, infractions=("0.10 s: collision_vehicle",)), finished=False)
    monkeypatch.setattr(dataset, "record_drive", lambda spec, **_: broken)
    with pytest.raises(SimulationError, match="every drive was dropped"):
        write_dataset(order(tmp_path, scenes=1))


def test_seeds_of_splits_scenes_and_attempts_are_apart() -> None:
    seeds = [
        episode_seed(split, seed, number, attempt)
        for split in SPLITS for seed in (0, 1, 999) for number in (0, 1, 9998) for attempt in range(10)
    ]  # fmt: skip
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "all"}, "split 'all' is unknown"),
        ({"scenes": 0}, "0 scenes"),
        ({"seed": -1}, "seed -1"),
        ({"image_size": (100, 100)}, "not 16:9"),
        ({"driver": "nobody"}, "driver 'nobody'"),
    ],
)
def test_a_wrong_order_is_one_sentence(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        order(tmp_path, **changes)


def test_the_command_line_drives_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("libsumo", reason="libsumo is not installed: pip install libsumo==1.28.0")
    arguments = ["dataset", "--scenes", "1", "--seed", "3", "--split", "tuning", "--out", str(tmp_path), "--no-sweeps"]
    assert main([*arguments, "--image-size", "128x72", "--workers", "1"]) == 0
    assert "real scene-0103" in capsys.readouterr().out
    tables = NuScenesTables.load(tmp_path, "v1.0-wpt-sim-tuning")
    assert tables.count("scene") == 1 and tables.count("sample") >= 8
    assert main([*arguments, "--image-size", "128x72"]) == 1
    assert "exists already" in capsys.readouterr().err


# What counts as interactive ------------------------------------------------------------------------------------


def drive_beside(lateral: float, *, parked: bool = False, ahead: float = 10.0, comes_at_s: float = 0.0):
    """The ego glides along its route at 5 m/s; one car stands ``lateral`` metres left of the route, ``ahead`` of the start."""
    spec = LOG.spec
    route = spec.route
    x, y, heading = route.at(2.0 + ahead)
    car = Actor(
        id="a", kind=ActorKind.CAR, x=x - lateral * np.sin(heading), y=y + lateral * np.cos(heading), yaw=heading, speed=0.0,
        length=4.0, width=1.8, height=1.5, parked=parked,
    )  # fmt: skip
    recorder = SceneLogRecorder(spec, driver="test", appearance_seed=0)
    for step in range(61):
        s = 2.0 + 0.5 * step
        ex, ey, yaw = route.at(s)
        ego = EgoPose(x=ex, y=ey, yaw=yaw, speed=5.0)
        actors = (car,) if step * 0.1 >= comes_at_s - 1e-6 else ()
        recorder.add(WorldState(time_s=step * 0.1, ego=ego, actors=actors), Command.LANE_FOLLOW)
    return recorder.finish()


def test_interactive_is_within_two_metres_of_the_lane_within_four_seconds() -> None:
    route = LOG.spec.route
    half = 0.5 * LOG.road_map.lanes[route.lane_at(2.0)].width
    near, far = half + 0.9 + 1.7, half + 0.9 + 2.4  # of the car's middle: its side is 1.7 or 2.4 m from the lane
    assert is_interactive(drive_beside(near), 0.0)
    assert not is_interactive(drive_beside(far), 0.0)
    assert not is_interactive(drive_beside(0.0, ahead=40.0), 0.0)
    # It is there from 5 s on: too late for one moment, not for a later one.
    later = drive_beside(near, ahead=16.0, comes_at_s=5.0)
    assert not is_interactive(later, 0.7) and is_interactive(later, 1.3)


def test_a_parked_car_counts_only_in_the_lane() -> None:
    half = 0.5 * LOG.road_map.lanes[LOG.spec.route.lane_at(2.0)].width
    assert not is_interactive(drive_beside(half + 0.9 + 0.3, parked=True), 0.0)
    assert is_interactive(drive_beside(half + 0.9 - 0.3, parked=True), 0.0)
