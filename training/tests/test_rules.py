"""Each rule against geometry drawn by hand. The ego: x from -0.556 to 3.528 m around base_link, y to 0.925 m
each side."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wpt_policy.plan import headings_and_speeds
from wpt_policy.policy_config import BevGrid

from wpt_training.configuration import EXTRA_RULES, RULES
from wpt_training.data.occupancy_truth import cell_centres, draw_occupancy
from wpt_training.errors import TrainingError
from wpt_training.reward.footprint import poses_along
from wpt_training.reward.rule_checks import RuleAgreement, expert_report, informative_share
from wpt_training.reward.rules import EGO, RuleInputs, score_rules, with_predicted

GRID = BevGrid(x_range_m=(-32.0, 48.0), y_range_m=(-24.0, 24.0), cell_m=0.5, heights_m=(0.0,))
STEPS = 6
CAR = (4.5, 1.8)
CENTRES = cell_centres(GRID)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def straight(speed: float, start: float = 0.0, y: float = 0.0) -> np.ndarray:
    """(6, 2) along x at a constant speed."""
    return np.stack([start + speed * 0.5 * np.arange(1, STEPS + 1), np.full(STEPS, y)], axis=1)


def scene(
    *actors: tuple,
    future: np.ndarray | None = None,
    valid: list[bool] | None = None,
    drivable: np.ndarray | None = None,
    motion: tuple[float, float, float, float] = (10.0, 0.0, 0.0, 0.0),
    route: np.ndarray | None = None,
    signal: int = 0,
    stop_line: list | None = None,
    lane_direction: np.ndarray | None = None,
) -> RuleInputs:
    """One sample. actors: (x, y, yaw, vx, vy[, length, width]) of boxes now, that keep their velocity."""
    count = max(len(actors), 1)
    boxes, there = np.zeros((1 + STEPS, count, 5)), np.zeros((1 + STEPS, count), dtype=bool)
    for k, (x, y, yaw, vx, vy, *size) in enumerate(actors):
        for frame in range(1 + STEPS):
            boxes[frame, k] = (x + 0.5 * frame * vx, y + 0.5 * frame * vy, yaw, *(size or CAR))
        there[:, k] = True
    occupied = draw_occupancy(
        boxes, np.zeros((1 + STEPS, count, 2)), there, np.zeros(count, dtype=bool), GRID
    )
    pose = np.zeros((STEPS, 3))
    pose[:, :2] = straight(10.0) if future is None else future
    points = np.full((81, 2), np.nan)
    if route is not None:
        points[: len(route)] = route
    float32 = torch.float32
    return RuleInputs(
        occupied=torch.from_numpy(occupied != 0).unsqueeze(0),
        drivable=torch.from_numpy(np.ones(GRID.shape, bool) if drivable is None else drivable).unsqueeze(0),
        motion=torch.tensor([motion], dtype=float32),
        route=torch.from_numpy(points).to(float32).unsqueeze(0),
        future=torch.from_numpy(pose).to(float32).unsqueeze(0),
        future_valid=torch.tensor([valid or [True] * STEPS]),
        signal=torch.tensor([signal]),
        stop_line=torch.tensor([stop_line or [[math.nan] * 2] * 2], dtype=float32),
        lane_direction=torch.from_numpy(
            np.full(GRID.shape, np.nan) if lane_direction is None else lane_direction
        ).to(float32).unsqueeze(0),
        grid=GRID,
    )  # fmt: skip


def judge(rule: str, inputs: RuleInputs, *paths: np.ndarray, **options) -> list[float]:
    candidates = torch.tensor(np.stack(paths), dtype=torch.float32).unsqueeze(0)
    return score_rules(inputs, candidates, (rule,), **options)[rule][0].tolist()


# --- headings ---


@given(
    st.lists(
        st.tuples(
            st.floats(-8.0, 8.0).filter(lambda v: v == 0 or abs(v) > 0.3),
            st.floats(-8.0, 8.0).filter(lambda v: abs(v) > 0.3),
        ),
        min_size=6,
        max_size=6,
    )
)
def test_headings_follow_the_rule_of_the_plan(moves):
    positions = np.cumsum(np.array(moves), axis=0)
    spans = np.diff(np.vstack([[0, 0], positions]), axis=0)
    spans = np.vstack([spans[:-1] + spans[1:], spans[-1:]])
    headings, speeds = headings_and_speeds(np.vstack([[0.0, 0.0], positions]), 0.5)
    # Where a chord is at right angles to the heading before it, rounding decides which way it is driven.
    turn = np.cos(np.arctan2(spans[:, 1], spans[:, 0]) - headings[:-1])
    if np.any(np.abs(turn) < 1e-3) or np.any(np.abs(np.linalg.norm(spans, axis=1) - 0.1) < 1e-3):
        return
    poses = poses_along(torch.tensor(positions, dtype=torch.float64))
    np.testing.assert_allclose(poses.direction[:, 0], np.cos(headings[1:]), atol=1e-9)
    np.testing.assert_allclose(poses.direction[:, 1], np.sin(headings[1:]), atol=1e-9)
    np.testing.assert_allclose(poses.speed.abs(), np.abs(speeds[1:]), atol=1e-9)


def test_standstill_keeps_the_heading_and_has_finite_gradients():
    path = torch.tensor(
        [[2.0, 2.0], [4.0, 4.0], [4.0, 4.0], [4.0, 4.0], [4.0, 4.0], [4.0, 4.0]], requires_grad=True
    )
    poses = poses_along(path)
    assert torch.allclose(poses.direction, torch.full((6, 2), math.sqrt(0.5)), atol=1e-6)
    assert poses.speed[2:].tolist() == [0.0] * 4
    (poses.direction.sum() + poses.speed.sum()).backward()
    assert torch.isfinite(path.grad).all()


def test_reversing_keeps_the_heading_and_has_a_negative_speed():
    poses = poses_along(torch.tensor(straight(-2.0)))
    assert torch.allclose(poses.direction[:, 0], torch.ones(6, dtype=torch.float64))
    assert torch.allclose(poses.speed, torch.full((6,), -2.0, dtype=torch.float64))


# --- NC ---


def test_a_car_run_into_from_behind_is_the_egos_fault():
    leader = scene((20.0, 0.0, 0.0, 2.0, 0.0))
    assert judge("NC", leader, straight(10.0), straight(2.0), straight(10.0, y=3.5)) == [0.0, 1.0, 1.0]


def test_contact_counts_at_the_time_of_arrival_only():
    # It stands where the ego will be, but drives away sideways before; and the other way round.
    leaving = scene((15.0, 0.0, math.pi / 2, 0.0, 8.0))
    arriving = scene((15.0, -12.0, math.pi / 2, 0.0, 8.0))
    assert judge("NC", leaving, straight(10.0)) == [1.0]
    assert judge("NC", arriving, straight(10.0)) == [0.0]  # both at x = 15 after 1.5 s


def test_a_follower_that_runs_into_a_slower_ego_is_at_fault_itself():
    follower = scene((-10.0, 0.3, 0.0, 8.0, 0.0))
    assert judge("NC", follower, straight(3.0)) == [1.0]
    # It is in contact, of course: without the rule the same cells would fail.
    assert follower.occupied[0, 4][
        (np.abs(CENTRES[..., 0] - 6.0) < 1) & (np.abs(CENTRES[..., 1]) < 0.5)
    ].any()


def test_a_follower_that_drives_through_a_stopped_ego_is_excused_until_it_has_passed():
    passing = scene((-8.0, 0.0, 0.0, 5.0, 0.0))
    assert judge("NC", passing, straight(0.0)) == [1.0]


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_car_hit_at_the_side_is_the_egos_fault(side):
    # A car abreast; the ego changes into it within 1.5 s.
    abreast = scene((1.5, 3.5 * side, 0.0, 10.0, 0.0))
    path = straight(10.0)
    path[:, 1] = side * np.minimum(0.8 * np.arange(1, 7), 2.6)
    assert judge("NC", abreast, path, straight(10.0)) == [0.0, 1.0]


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_cutting_in_front_of_a_car_half_behind_is_the_egos_fault(side):
    half_behind = scene((-2.6, 3.0 * side, 0.0, 10.0, 0.0))
    path = straight(10.0)
    path[:, 1] = side * np.minimum(0.5 * np.arange(1, 7), 1.6)
    assert judge("NC", half_behind, path, straight(10.0)) == [0.0, 1.0]


def test_a_crossing_car_that_meets_the_rear_is_no_follower():
    # Comes from the right, its flank over the rear axle of the standing ego.
    crossing = scene((-0.2, -10.0, math.pi / 2, 0.0, 5.0))
    assert judge("NC", crossing, straight(0.0)) == [0.0]


def test_a_bus_that_moves_in_from_the_side_is_no_follower_though_it_reaches_out_behind():
    bus = scene((0.0, -5.0, 0.0, 0.0, 4.0, 12.0, 2.5))
    assert judge("NC", bus, straight(0.0)) == [0.0]


def test_reversing_into_a_standing_car_is_the_egos_fault():
    behind = scene((-6.0, 0.0, 0.0, 0.0, 0.0))
    assert judge("NC", behind, straight(-2.0), straight(0.0)) == [0.0, 1.0]


def test_driving_through_a_car_within_one_step_is_not_excused():
    # 30 m/s: 15 m a step. After one the ego's rear lies on the front of a car that stood ahead, and the rear
    # is all
    # that is touched.
    ahead = scene((12.6, 0.0, 0.0, 0.0, 0.0))
    assert judge("NC", ahead, straight(30.0)) == [0.0]


def test_a_pedestrian_of_few_cells_is_seen():
    pedestrian = scene((20.0, 0.7, 0.0, 0.0, 0.0, 0.6, 0.6))
    assert judge("NC", pedestrian, straight(10.0), straight(10.0, y=-1.0), straight(2.0)) == [0.0, 1.0, 1.0]


def test_off_the_grid_is_free_of_actors_and_drivable():
    inputs = scene(drivable=np.ones(GRID.shape, dtype=bool))
    far = straight(40.0)  # 120 m, the grid ends at 48
    for rule in ("NC", "TTC", "DAC"):
        assert judge(rule, inputs, far) == [1.0]


def test_a_turned_footprint_reaches_where_its_corner_is():
    # Driving along 45 degrees: a box at the end's front, and one where the front of a box along x would be.
    path = np.stack([straight(4.0)[:, 0], straight(4.0)[:, 0]], axis=1)
    place = path[-1] + 3.3 * math.sqrt(0.5)
    here = scene((*place, 0.0, 0.0, 0.0, 0.8, 0.8))
    beside = scene((path[-1][0] + 3.3, path[-1][1] - 0.6, 0.0, 0.0, 0.0, 0.8, 0.8))
    assert judge("NC", here, path) == [0.0]
    assert judge("NC", beside, path) == [1.0]


# --- TTC ---


def test_closing_in_on_a_leader_fails_ttc_before_it_fails_nc():
    # Rear bumper 26.5 - 2.25 = 24.25 m, drawn from 24.0 m on; the front is at 3.53 + 15 m after 3 s at 5 m/s:
    # 1.09 s.
    standing = scene((26.5, 0.0, 0.0, 0.0, 0.0))
    near = scene((25.0, 0.0, 0.0, 0.0, 0.0))
    assert judge("NC", near, straight(5.0)) == [1.0]
    assert judge("TTC", near, straight(5.0)) == [0.0]
    assert judge("TTC", standing, straight(5.0)) == [1.0]


def test_ttc_sees_an_actor_that_crosses_in_time():
    # Walks onto the path at x = 20, on its axis after 3 s. First an ego that brakes in time, then one that
    # stops too late.
    walker = scene((20.0, -6.0, math.pi / 2, 0.0, 2.0, 0.8, 0.8))
    braking = straight(10.0)
    braking[:, 0] = (5, 8.2, 10.5, 11.8, 12.5, 12.5)
    assert judge("NC", walker, braking) == [1.0]
    assert judge("TTC", walker, braking, np.zeros((6, 2))) == [1.0, 1.0]
    late = braking.copy()
    late[:, 0] = (3, 6, 9, 12, 15, 15)  # still at 6 m/s after 2 s: its front would be at 21.5 m after 3 s
    assert judge("NC", walker, late) == [1.0]
    assert judge("TTC", walker, late) == [0.0]


def test_a_stopped_ego_passes_ttc_whatever_is_around():
    around = scene((6.0, 0.0, 0.0, 0.0, 0.0), (1.5, 2.2, 0.0, 0.0, 0.0))
    assert judge("TTC", around, straight(0.0), straight(0.1), straight(1.5)) == [1.0, 1.0, 0.0]


def test_a_follower_close_behind_passes_ttc():
    follower = scene((-4.0, 0.0, 0.0, 10.0, 0.0))
    assert judge("TTC", follower, straight(10.0)) == [1.0]
    # It closes in: contact by the follower within the second to come.
    closing = scene((-12.0, 0.0, 0.0, 10.0, 0.0))
    assert judge("TTC", closing, straight(7.0)) == [1.0]


def test_a_follower_in_contact_already_passes_ttc():
    passing = scene((-8.0, 0.0, 0.0, 5.0, 0.0))
    assert judge("NC", passing, straight(1.0)) == [1.0]
    assert judge("TTC", passing, straight(1.0)) == [1.0]


def test_ttc_looks_between_half_seconds():
    # At 12 m/s the footprint moves 6 m in 0.5 s and is 4 m long: somebody stands in what would be left out.
    person = scene((16.5, 0.0, 0.0, 0.0, 0.0, 0.6, 0.6), valid=[True] * 2 + [False] * 4)
    assert judge("NC", person, straight(12.0)) == [1.0]
    assert judge("TTC", person, straight(12.0)) == [0.0]


def test_beyond_the_last_known_step_its_occupancy_stays():
    # Only two steps are known; at the second a car is 8 m ahead of the front, the ego at 10 m/s.
    valid = [True, True, False, False, False, False]
    assert judge("TTC", scene((23.0, 0.0, 0.0, 0.0, 0.0), valid=valid), straight(10.0)) == [0.0]
    assert judge("TTC", scene((27.0, 0.0, 0.0, 0.0, 0.0), valid=valid), straight(10.0)) == [1.0]


# --- DAC ---


def road(half_width: float) -> np.ndarray:
    return np.abs(CENTRES[..., 1]) < half_width


def test_all_of_the_footprint_must_be_on_the_road():
    # 0.925 m to each side, 0.25 m of tolerance: up to y = 1.32 it fits. The first step, which leads there, is
    # not judged.
    inputs = scene(drivable=road(2.0), valid=[False] + [True] * 5)
    assert judge("DAC", inputs, straight(10.0), straight(10.0, y=1.2), straight(10.0, y=1.5)) == [
        1.0,
        1.0,
        0.0,
    ]


def test_a_hole_smaller_than_the_footprint_is_seen():
    drivable = np.ones(GRID.shape, dtype=bool)
    drivable[(np.abs(CENTRES[..., 0] - 21.75) < 0.3) & (np.abs(CENTRES[..., 1] - 0.25) < 0.1)] = False
    inputs = scene(drivable=drivable)
    assert judge("DAC", inputs, straight(10.0), straight(10.0, y=2.0)) == [0.0, 1.0]


def test_heading_decides_whether_the_corners_leave_the_road():
    path = straight(4.0)
    path[-1] += (0.0, 1.0)  # the last chord points left: its front left corner is then beyond 2 m
    assert judge("DAC", scene(drivable=road(2.0)), path, straight(4.0)) == [0.0, 1.0]


# --- validity ---


def test_steps_that_are_not_valid_are_not_judged():
    actors = (34.0, 0.0, 0.0, 0.0, 0.0)  # met in the last step only: front 3.5 + 30
    drivable = CENTRES[..., 0] < 30.0
    known, cut = [True] * 6, [True] * 4 + [False] * 2
    for valid, expected in ((known, 0.0), (cut, 1.0)):
        inputs = scene(actors, drivable=drivable, valid=valid)
        assert judge("NC", inputs, straight(10.0)) == [expected]
        assert judge("DAC", inputs, straight(10.0)) == [expected]


def test_without_a_valid_step_everything_passes():
    inputs = scene(
        (8.0, 0.0, 0.0, 0.0, 0.0), drivable=np.zeros(GRID.shape, dtype=bool), valid=[False] * 6, signal=3,
        stop_line=[[6.0, 2.0], [6.0, -2.0]], lane_direction=np.full(GRID.shape, math.pi),
    )  # fmt: skip
    candidates = torch.tensor(straight(10.0), dtype=torch.float32)[None, None]
    for progress in ("route", "paper"):
        scores = score_rules(inputs, candidates, RULES + EXTRA_RULES, progress=progress)
        assert {rule: value.item() for rule, value in scores.items()} == dict.fromkeys(
            RULES + EXTRA_RULES, 1.0
        )


# --- EP ---


def test_progress_is_measured_along_a_bent_route_against_the_expert():
    # 10 m straight on, then left. The expert drives 10 + 10 m; one goes straight on, one stops at 5 m.
    corner = np.vstack([[[x, 0.0] for x in range(11)], [[10.0, y] for y in range(1, 40)]])
    expert = np.array([[4, 0], [8, 0], [10, 2], [10, 5], [10, 8], [10, 10.0]])
    inputs = scene(future=expert, route=corner)
    half = expert.copy()
    half[:, :] = [[1, 0], [2, 0], [3, 0], [4, 0], [4.5, 0], [5, 0]]
    farther = expert.copy()
    farther[-1] = (10, 14)
    assert judge("EP", inputs, expert, half, straight(10.0), farther) == pytest.approx([1.0, 0.25, 0.5, 1.0])


def test_driving_backwards_is_no_progress():
    inputs = scene(route=np.array([[x, 0.0] for x in range(60)]))
    assert judge("EP", inputs, straight(-3.0), straight(5.0)) == pytest.approx([0.0, 0.5])


def test_without_a_route_progress_follows_the_true_path_and_goes_on_straight():
    inputs = scene(future=straight(4.0))  # 12 m
    assert judge("EP", inputs, straight(3.0), straight(8.0)) == pytest.approx([0.75, 1.0])


def test_a_short_reference_lets_everything_pass():
    for future in (straight(1.5), straight(0.0)):  # 4.5 m and nothing
        inputs = scene(future=future, route=np.array([[x, 0.0] for x in range(60)]))
        assert judge("EP", inputs, straight(0.0), straight(10.0)) == [1.0, 1.0]
        assert judge("EP", scene(future=future), straight(0.0), straight(10.0)) == [1.0, 1.0]


def test_progress_counts_up_to_the_last_valid_step():
    inputs = scene(valid=[True] * 3 + [False] * 3, route=np.array([[x, 0.0] for x in range(60)]))
    assert judge("EP", inputs, straight(5.0)) == pytest.approx([0.5])  # 7.5 of 15 m


def test_the_papers_progress_is_the_share_of_the_farthest_safe_candidate():
    wall = scene((27.0, 0.0, 0.0, 0.0, 0.0))
    # 30 m runs into the car, so 15 m is the farthest safe one.
    assert judge(
        "EP", wall, straight(10.0), straight(5.0), straight(2.0), straight(-2.0), progress="paper"
    ) == pytest.approx([0.0, 1.0, 0.4, 0.0])
    assert judge("EP", wall, straight(1.0), straight(0.0), straight(-1.0), progress="paper") == [
        1.0,
        1.0,
        0.0,
    ]


# --- TLC ---

LINE = [[15.0, 1.75], [15.0, -1.75]]


@pytest.mark.parametrize(("signal", "expected"), [(0, 1.0), (1, 1.0), (2, 0.0), (3, 0.0)])
def test_the_line_counts_while_the_signal_forbids(signal, expected):
    # Front now at 3.5, line at 15: 11.5 m, 8 m/s stops in 10.7 m.
    inputs = scene(signal=signal, stop_line=LINE, motion=(8.0, 0, 0, 0))
    assert judge("TLC", inputs, straight(8.0), straight(3.0), straight(8.0, y=6.0)) == [expected, 1.0, 1.0]


def test_yellow_passes_when_too_late_to_stop_and_red_does_not():
    for signal, expected in ((2, 1.0), (3, 0.0)):
        inputs = scene(signal=signal, stop_line=LINE, motion=(9.0, 0, 0, 0))  # 13.5 m to stop
        assert judge("TLC", inputs, straight(9.0)) == [expected]


def test_it_is_the_front_bumper_that_crosses():
    inputs = scene(signal=3, stop_line=LINE, motion=(4.0, 0, 0, 0))
    assert judge("TLC", inputs, straight(11.9 / 3.0), straight(12.1 / 3.0)) == [1.0, 0.0]


@pytest.mark.parametrize(
    "line", [[[3.0, 2.0], [3.0, -2.0]], [[-5.0, 2.0], [-5.0, -2.0]], [[15.0, -1.75], [15.0, 1.75]]]
)
def test_a_line_behind_the_front_is_passed_already_and_its_ends_have_no_order(line):
    inputs = scene(signal=3, stop_line=line)
    assert judge("TLC", inputs, straight(10.0), straight(-6.0)) == [float(line[0][0] < 10), 1.0]


# --- DDC ---


def test_two_metres_against_the_direction_are_allowed():
    # Oncoming lane to the left of y = 1.75.
    lanes = np.where(CENTRES[..., 1] > 1.75, math.pi, 0.0)
    lanes[CENTRES[..., 0] > 25.0] = np.nan
    inputs = scene(lane_direction=lanes)
    crossing = straight(8.0)
    crossing[1:5, 1] = 3.5
    beyond = straight(10.0)
    beyond[5:, 1] = 3.5  # where no direction is known
    assert judge("DDC", inputs, straight(8.0), crossing, beyond) == [1.0, 0.0, 1.0]
    assert judge("DDC", scene(lane_direction=np.full(GRID.shape, math.pi)), straight(0.6), straight(0.7)) == [
        1.0,
        0.0,
    ]


def test_a_lane_at_less_than_a_right_angle_passes():
    for angle, expected in ((1.5, 1.0), (1.65, 0.0), (-1.5, 1.0)):
        inputs = scene(lane_direction=np.full(GRID.shape, angle))
        assert judge("DDC", inputs, straight(5.0)) == [expected]


# --- inputs and reports ---


def test_predicted_occupancy_replaces_the_true_one():
    inputs = scene((20.0, 0.0, 0.0, 0.0, 0.0), drivable=road(2.0))
    logits = torch.full((1, 7, 3, *GRID.shape), -3.0)
    predicted = with_predicted(inputs, logits)
    assert judge("NC", predicted, straight(10.0)) == [1.0]
    assert judge("DAC", predicted, straight(10.0)) == [0.0]
    truth = inputs.occupied.float() * 6 - 3
    for channel in (0, 1):
        logits = torch.full((1, 7, 3, *GRID.shape), -3.0)
        logits[:, :, channel] = truth
        logits[:, :, 2] = inputs.drivable.float() * 6 - 3
        same = with_predicted(inputs, logits)
        assert torch.equal(same.occupied, inputs.occupied) and torch.equal(same.drivable, inputs.drivable)


def test_samples_do_not_mix():
    rng = np.random.default_rng(0)
    single = [
        scene(
            (rng.uniform(5, 25), rng.uniform(-3, 3), 0.0, 2.0, 0.0),
            drivable=road(rng.uniform(1, 4)),
            motion=(8, 0, 0, 0),
        )
        for _ in range(5)
    ]
    candidates = torch.tensor(rng.uniform(-1, 1, (5, 7, 6, 2)).cumsum(2) + straight(7.0), dtype=torch.float32)
    joined = RuleInputs(
        grid=GRID,
        **{
            f.name: torch.cat([getattr(inputs, f.name) for inputs in single])
            for f in dataclasses.fields(RuleInputs)
            if f.name != "grid"
        },
    )
    together = score_rules(joined, candidates, RULES + EXTRA_RULES)
    for i, inputs in enumerate(single):
        alone = score_rules(inputs, candidates[i : i + 1], RULES + EXTRA_RULES)
        for rule, values in alone.items():
            assert torch.equal(values[0], together[rule][i])
    assert all(value.shape == (5, 7) and value.dtype == torch.float32 for value in together.values())


def test_the_expert_passes_and_three_metres_aside_it_does_not():
    inputs = scene((10.0, 3.5, 0.0, 9.0, 0.0), (10.0, -3.5, 0.0, 0.0, 0.0), drivable=road(3.0))
    unjudged = scene(valid=[False] * 6)
    report = expert_report([inputs, unjudged])
    assert report["samples"] == 1
    assert report["true"] == {"NC": 1.0, "DAC": 1.0, "TTC": 1.0, "Comf": 1.0, "TLC": 1.0, "DDC": 1.0}
    assert report["shifted"]["DAC"] == 0.0
    assert report["shifted"]["NC"] <= 0.5


def test_agreement_is_the_mean_of_both_recalls():
    inputs = scene((20.0, 0.0, 0.0, 0.0, 0.0))
    candidates = torch.tensor(
        np.stack([straight(10.0), straight(9.0), straight(2.0), straight(1.0)]), dtype=torch.float32
    )[None]
    empty = with_predicted(inputs, torch.full((1, 7, 3, *GRID.shape), -1.0))
    agreement = RuleAgreement()
    agreement.add(inputs, empty, candidates, ("NC",))
    assert agreement.balanced_accuracy() == {"NC": 0.5}
    perfect = RuleAgreement()
    perfect.add(inputs, inputs, candidates, ("NC",))
    assert perfect.balanced_accuracy() == {"NC": 1.0}
    scores = score_rules(inputs, candidates, ("NC", "DAC"))
    assert informative_share(scores) == {"NC": 1.0, "DAC": 0.0}


def test_wrong_arguments_are_named():
    inputs = scene()
    good = torch.zeros(1, 2, 6, 2)
    with pytest.raises(TrainingError, match="XY"):
        score_rules(inputs, good, ("NC", "XY"))
    with pytest.raises(TrainingError, match="candidates"):
        score_rules(inputs, good[:, :, :5], ("NC",))
    with pytest.raises(TrainingError, match="progress"):
        score_rules(inputs, good, ("EP",), progress="far")
    with pytest.raises(TrainingError, match="logits"):
        with_predicted(inputs, torch.zeros(1, 6, 3, *GRID.shape))
    with pytest.raises(TrainingError, match="occupied"):
        dataclasses.replace(inputs, occupied=inputs.occupied[:, 1:])
    assert EGO.length_m == 4.084
