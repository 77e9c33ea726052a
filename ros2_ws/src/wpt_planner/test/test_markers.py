from __future__ import annotations

import numpy as np
import pytest
from visualization_msgs.msg import Marker, MarkerArray
from wpt_planner import conversions
from wpt_planner.markers import delete_all_markers, ego_markers, plan_markers, score_colours, speed_colour
from wpt_policy.plan import Candidate, Plan

STAMP = 1_533_000_000_123_456_789


def line(speed: float, turn: float = 0.0) -> np.ndarray:
    steps = np.arange(7) * 0.5 * speed
    return np.stack([steps, turn * steps**2], axis=1)


def plan(candidates: int = 0) -> Plan:
    return Plan(
        reference_stamp_ns=STAMP,
        positions=line(8.0, 0.01),
        dt_s=0.5,
        planner="test",
        candidates=tuple(Candidate(positions=line(4.0, 0.01 * i), score=float(i)) for i in range(candidates)),
    )


def by_name(message: MarkerArray) -> dict[tuple[str, int], Marker]:
    names = [(marker.ns, marker.id) for marker in message.markers]
    assert len(set(names)) == len(names)
    return dict(zip(names, message.markers, strict=True))


def xy(marker: Marker) -> np.ndarray:
    return np.array([[point.x, point.y] for point in marker.points])


@pytest.mark.parametrize("candidates", [0, 1, 5])
def test_names_and_ids_are_the_same_for_every_plan_so_that_each_replaces_the_one_before(candidates) -> None:
    markers = by_name(plan_markers(plan(candidates), frame_id="base_link", lifetime_s=0.5))
    assert set(markers) == {("plan", 0), ("plan", 1), ("candidates", 0)}


def test_plans_are_placed_by_their_reference_stamp_and_vanish_after_their_lifetime() -> None:
    for marker in plan_markers(plan(2), frame_id="base_link", lifetime_s=0.5).markers:
        assert conversions.stamp_to_ns(marker.header.stamp) == STAMP
        assert marker.header.frame_id == "base_link"
        assert not marker.frame_locked
        assert conversions.duration_to_ns(marker.lifetime) == 500_000_000
        assert marker.pose.orientation.w == 1.0


def test_the_plan_is_a_line_and_points_coloured_by_speed() -> None:
    markers = by_name(plan_markers(plan(), frame_id="base_link", lifetime_s=0.5))
    strip, dots = markers["plan", 0], markers["plan", 1]
    assert (strip.type, dots.type) == (Marker.LINE_STRIP, Marker.SPHERE_LIST)
    np.testing.assert_array_equal(xy(strip), plan().positions)
    np.testing.assert_array_equal(xy(dots), plan().positions)
    assert len(dots.colors) == len(dots.points)
    assert strip.scale.x > 0 and dots.scale.x > 0 and strip.color.a > 0


def test_candidates_are_one_thin_line_list_coloured_by_score() -> None:
    markers = by_name(plan_markers(plan(3), frame_id="base_link", lifetime_s=0.5))
    candidates = markers["candidates", 0]
    assert candidates.type == Marker.LINE_LIST and candidates.action == Marker.ADD
    assert candidates.scale.x < markers["plan", 0].scale.x
    assert len(candidates.points) == len(candidates.colors) == 3 * 6 * 2
    np.testing.assert_array_equal(xy(candidates)[12:24:2], plan(3).candidates[1].positions[:-1])
    np.testing.assert_array_equal(xy(candidates)[13:24:2], plan(3).candidates[1].positions[1:])
    assert candidates.colors[0] != candidates.colors[-1]


def test_a_plan_without_candidates_takes_the_last_ones_away() -> None:
    marker = by_name(plan_markers(plan(0), frame_id="base_link", lifetime_s=0.5))["candidates", 0]
    assert marker.action == Marker.DELETE and not marker.points


def test_only_the_outline_of_the_car_is_frame_locked_and_it_stays() -> None:
    (outline,) = ego_markers("base_link").markers
    assert outline.frame_locked and (outline.ns, outline.id) == ("ego", 0)
    assert conversions.stamp_to_ns(outline.header.stamp) == 0
    assert conversions.duration_to_ns(outline.lifetime) == 0
    corners = xy(outline)
    assert np.ptp(corners[:, 0]) == pytest.approx(4.084) and np.ptp(corners[:, 1]) == pytest.approx(1.85)
    # The rear axle is at 0: a Zoe has about 0.6 m behind it and 3.5 m before it.
    assert corners[:, 0].min() == pytest.approx(-0.556, abs=0.01)
    assert corners[:, 0].max() == pytest.approx(3.528, abs=0.01)


def test_a_reset_deletes_everything() -> None:
    (marker,) = delete_all_markers().markers
    assert marker.action == Marker.DELETEALL


def test_colours_tell_speeds_and_scores_apart_and_survive_odd_values() -> None:
    assert speed_colour(0.0).r > speed_colour(0.0).g
    assert speed_colour(20.0).g > speed_colour(20.0).r
    assert speed_colour(20.0) == speed_colour(15.0)
    assert speed_colour(-1.0).b > 0.9
    low, high = score_colours([-2.0, 3.0])
    assert high.r > low.r and high.a > low.a
    for colours in (
        score_colours([1.0, 1.0]),
        score_colours([float("nan"), 2.0]),
        [speed_colour(float("nan"))],
    ):
        for colour in colours:
            assert all(0.0 <= value <= 1.0 for value in (colour.r, colour.g, colour.b, colour.a))
    assert score_colours([]) == []
