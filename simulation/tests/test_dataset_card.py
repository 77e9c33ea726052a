"""The dataset card measures real and simulated scenes by one rule."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from wpt_policy import se3
from wpt_policy.frame import EgoState
from wpt_scenes.scene_types import Box3D, Keyframe, Scene
from wpt_scenes.tables import NuScenesTables
from wpt_sim.cli import main
from wpt_sim.dataset_card import SCENE_0103, card_markdown, make_card, time_to_collision, write_card
from wpt_sim.demo_scene import DEMO_VERSION, demo_log


def test_the_demo_is_measured_as_it_was_driven(demo_tables: NuScenesTables, demo_written: Scene) -> None:
    card = make_card(demo_tables)
    log = demo_log()
    times = [(k.stamp_ns - demo_written.keyframes[0].stamp_ns) / 1e9 + 0.05 for k in demo_written.keyframes]
    speeds = [log.state_at(time_s).ego.speed for time_s in times]
    assert card.scenes == 1 and card.keyframes == len(times)
    assert card.speed["mean"] == pytest.approx(np.mean(speeds), abs=0.05)
    assert card.speed["p95"] == pytest.approx(np.percentile(speeds, 95), abs=0.1)
    assert card.standstill == pytest.approx(np.mean(np.array(speeds) < 0.2), abs=0.06)
    assert sum(card.commands_by_route.values()) == pytest.approx(1.0, abs=1e-3) and card.commands_by_route["left"] > 0.5
    assert card.commands_by_future["left"] > 0.3
    assert 1 <= card.visible_actors["p50"] <= 30
    # It turns left on some ten metres' radius.
    assert 0.04 < card.curvature["p95"] < 0.25


def keyframe_with(boxes: list[Box3D]) -> Keyframe:
    return Keyframe(index=0, sample_token="s", stamp_ns=0, global_from_base=se3.planar(100.0, 50.0, math.pi / 2),
                    base_from_lidar=None, boxes=tuple(boxes), images={})  # fmt: skip


def box(ahead: float, left: float, velocity: tuple[float, float], category: str = "vehicle.car") -> Box3D:
    """A car of 4 x 2 m seen from an ego at (100, 50) that looks along y; velocity ahead and to the left."""
    return Box3D(token="b", instance_token="i", category=category,
                 global_from_box=se3.planar(100.0 - left, 50.0 + ahead, math.pi / 2), size_lwh=np.array([4.0, 2.0, 1.5]),
                 velocity=np.array([-velocity[1], velocity[0], 0.0]))  # fmt: skip


def ego(speed: float) -> EgoState:
    return EgoState(stamp_ns=0, odom_from_base=np.eye(4), linear_velocity=np.array([speed, 0.0, 0.0]), angular_velocity=np.zeros(3))


# The ego's front bumper is 3.528 m ahead of base_link, the standing car's rear 2 m before its middle.
@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([box(25.528, 0.0, (0.0, 0.0))], 2.0),  # 20 m at 10 m/s
        ([box(25.528, 0.0, (5.0, 0.0))], 4.0),
        ([box(25.528, 0.0, (10.0, 0.0))], math.inf),
        ([box(25.528, 3.5, (0.0, 0.0))], math.inf),
        ([box(25.528, 0.0, (0.0, 0.0), "movable_object.barrier")], math.inf),
        ([box(25.528, 0.0, (math.nan, math.nan))], math.inf),
        ([box(25.528, 0.0, (0.0, 0.0)), box(15.528, 0.0, (0.0, 0.0))], 1.0),
        ([], math.inf),
    ],
)  # fmt: skip
def test_time_to_collision(boxes: list[Box3D], expected: float) -> None:
    assert time_to_collision(keyframe_with(boxes), ego(10.0)) == pytest.approx(expected, abs=0.1001)


def test_the_table_has_a_column_a_card_and_the_published_share() -> None:
    other = dataclasses.replace(SCENE_0103, name="other", curvature={}, commands_by_route={"left": 0.25, "straight": 0.75})
    text = card_markdown([SCENE_0103, other])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.count("|") == 4 for row in rows) and "73.9%" in text
    assert "straight 75%, left 25%" in text


def test_a_card_is_written_as_json_too(tmp_path: Path) -> None:
    write_card(tmp_path, [SCENE_0103], ["a note"], {"drives": 7})
    values = json.loads((tmp_path / "dataset_card.json").read_text())
    assert values["drives"] == 7 and values["cards"][0]["speed"]["mean"] == SCENE_0103.speed["mean"]
    assert "- a note" in (tmp_path / "dataset_card.md").read_text()


def test_the_command_line(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", "--data", str(demo_root), "--version", DEMO_VERSION, "--real"]) == 0
    assert f"| | {DEMO_VERSION} | real scene-0103 |" in capsys.readouterr().out
    assert main(["card", "--data", str(demo_root), "--version", "v0"]) == 1
    assert "has no folder v0" in capsys.readouterr().err


def test_the_real_scenes_column_is_what_is_measured(nuscenes_root: Path) -> None:
    measured = make_card(NuScenesTables.load(nuscenes_root, "v1.0-subset"), ["scene-0103"], SCENE_0103.name)
    assert dataclasses.asdict(measured) == dataclasses.asdict(SCENE_0103)
