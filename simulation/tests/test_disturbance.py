"""Disturbances: as many and as strong as they should be, and no label before their end."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_sim.demo_scene import demo_log
from wpt_sim.disturbance import (
    DURATION_S,
    KINDS,
    MAX_OFFSET_M,
    MAX_SPEED_CHANGE,
    MAX_TURN,
    SHARE,
    Disturber,
    PlannedDisturbance,
    draw_disturbances,
    excluded,
)
from wpt_sim.ego_vehicle import Control, step_ego
from wpt_sim.episode import DT
from wpt_sim.scene_log import Disturbance
from wpt_sim.world_state import EgoPose

SPEC = demo_log().spec


def specs(count: int):
    return [dataclasses.replace(SPEC, seed=seed) for seed in range(count)]


def test_three_of_ten_episodes_hold_one_or_two() -> None:
    drawn = [draw_disturbances(spec) for spec in specs(1000)]
    disturbed = [planned for planned in drawn if planned]
    assert abs(len(disturbed) / 1000 - SHARE) < 0.04
    assert {len(planned) for planned in disturbed} == {1, 2}
    assert {p.kind for planned in disturbed for p in planned} == set(KINDS)
    for planned in disturbed:
        assert list(planned) == sorted(planned, key=lambda p: p.s)
        for p in planned:
            assert DURATION_S[0] <= p.duration_s <= DURATION_S[1] and 0.0 < p.s < SPEC.length
    assert [draw_disturbances(spec) for spec in specs(50)] == drawn[:50]


def driven(planned: PlannedDisturbance, speed: float) -> tuple[list[EgoPose], Disturber]:
    """A car that asks for nothing, on a straight road along x, until well after the disturbance."""
    disturber = Disturber([planned])
    ego, poses = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=speed), []
    for tick in range(60):
        time_s = round(tick * DT, 6)
        control = disturber.control(Control(steer=0.0, acceleration=0.0), ego, time_s, ego.x, ego.y)
        ego = disturber.pose(step_ego(ego, control), time_s)
        poses.append(ego)
    return poses, disturber


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS), st.floats(*DURATION_S), st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(3.0, 15.0)
)  # fmt: skip
def test_nobody_is_pushed_further_than_stated(kind, duration, strength, turn, speed) -> None:
    planned = PlannedDisturbance(kind=kind, s=0.0, duration_s=duration, strength=strength, turn=turn)
    poses, disturber = driven(planned, speed)
    (happened,) = disturber.happened
    during = poses[: round(happened.end_s / DT)]
    assert 0.0 < happened.end_s - happened.begin_s <= duration + DT
    assert max(abs(pose.y) for pose in during) <= MAX_OFFSET_M + 0.05
    assert max(abs(pose.yaw) for pose in during) <= MAX_TURN + 0.02
    assert max(abs(pose.speed - speed) for pose in during) <= MAX_SPEED_CHANGE + 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_strong_one_is_felt(kind: str) -> None:
    planned = PlannedDisturbance(kind=kind, s=0.0, duration_s=1.0, strength=1.0, turn=1.0)
    poses, _ = driven(planned, 8.0)
    moved = max(max(abs(p.y) for p in poses), max(abs(p.speed - 8.0) for p in poses))
    assert moved > 0.5


def test_a_slow_ego_is_left_alone_until_it_drives() -> None:
    disturber = Disturber([PlannedDisturbance(kind="pose", s=0.0, duration_s=1.0, strength=1.0)])
    standing = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=0.5)
    assert disturber.control(Control(steer=0.1, acceleration=0.2), standing, 0.0, 5.0, 0.0) == Control(steer=0.1, acceleration=0.2)
    assert disturber.pose(standing, 0.0) == standing and not disturber.happened
    disturber.control(Control(steer=0.1, acceleration=0.2), dataclasses.replace(standing, speed=5.0), 1.0, 6.0, 0.0)
    disturber.finish(1.4)
    assert [(d.begin_s, d.end_s) for d in disturber.happened] == [(1.0, 1.4)]


def test_labels_begin_at_the_end_and_stop_a_horizon_before() -> None:
    disturbances = (Disturbance(kind="steer", begin_s=5.0, end_s=6.0),)
    wanted = {0.0: False, 2.0: False, 2.1: True, 4.9: True, 5.5: True, 5.99: True, 6.0: False, 9.0: False}
    assert {time_s: excluded(time_s, disturbances) for time_s in wanted} == wanted
    assert not excluded(5.5, ()) and math.isfinite(disturbances[0].end_s)
