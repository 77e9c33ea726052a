"""Agreement of successive plans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_policy import se3
from wpt_scenes.metrics import Jitter, Predictions, WaypointKind, evaluate_predictions
from wpt_scenes.metrics.consistency import overlap_distances, tpc_as_coded
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

NO_JITTER = Jitter(draws=0)


def test_a_plan_that_is_kept_is_consistent(scenes) -> None:
    """5 m a step along the drive that is driven: every successor says the same places."""
    samples = scenes.straight(keyframes=4, step_m=5.0)
    plan = np.stack([5.0 * np.arange(1, 7), np.zeros(6)], axis=-1)
    distances = overlap_distances(samples, np.repeat(plan[None], 4, axis=0), WaypointKind.INDEX)
    assert distances.shape == (3, 5)
    assert np.allclose(distances, 0.0, atol=1e-12)


def test_a_speed_that_is_not_driven_shows_the_same_gap_at_every_point(scenes) -> None:
    """Plans of 4 m a step while 5 m are driven: place k + 1 of the old plan is 4 (k + 1) - 5 in the new frame, not 4 k."""
    samples = scenes.straight(keyframes=4, step_m=5.0)
    plan = np.stack([4.0 * np.arange(1, 7), np.zeros(6)], axis=-1)
    report = evaluate_predictions(samples, [scenes.predictions(samples, plan)], jitter=NO_JITTER)
    entry = report["planners"]["planner"]["consistency"]["consistency_overlap"]
    assert entry["pairs"] == 3
    assert entry["per_step"] == pytest.approx([1.0] * 5)
    assert entry["mean"] == pytest.approx(1.0)


def test_a_turn_is_seen_in_the_common_frame(scenes) -> None:
    """The ego turns 90 degrees to the left on the spot; both plans go straight on from where they were made."""
    poses = [np.eye(4), se3.planar(0.0, 0.0, np.pi / 2)]
    samples = scenes.along(poses)
    plan = np.stack([np.arange(1.0, 7.0), np.zeros(6)], axis=-1)
    distances = overlap_distances(samples, np.repeat(plan[None], 2, axis=0), WaypointKind.INDEX)
    # (0, -(k + 1)) against (k, 0).
    steps = np.arange(1.0, 6.0)
    assert np.allclose(distances[0], np.hypot(steps, steps + 1))


def test_time_based_plans_are_interpolated(scenes) -> None:
    samples = scenes.straight(keyframes=2, step_m=5.0)
    plan = np.stack([5.0 * np.arange(1, 7), np.zeros(6)], axis=-1)
    batch = np.repeat(plan[None], 2, axis=0)
    assert np.allclose(overlap_distances(samples, batch, WaypointKind.TIME), 0.0, atol=1e-12)


def test_scenes_and_gaps_are_not_bridged(scenes) -> None:
    first = scenes.straight(keyframes=3, step_m=5.0, name="scene-0001")
    second = scenes.straight(keyframes=2, step_m=5.0, name="scene-0002")
    plan = np.zeros((5, NUM_STEPS, 2))
    assert len(overlap_distances([*first, *second], plan, WaypointKind.INDEX)) == 3
    assert len(overlap_distances([first[0], first[2]], plan[:2], WaypointKind.INDEX)) == 0


def test_tpc_as_coded_moves_nothing_and_starts_from_zeros() -> None:
    plans = np.zeros((2, NUM_STEPS, 2))
    plans[0, :, 1] = np.arange(1.0, 7.0)
    plans[1, :, 1] = 2 * np.arange(1.0, 7.0)
    assert np.allclose(tpc_as_coded(plans), [np.arange(1.0, 7.0)] * 2)


@settings(max_examples=25, deadline=None)
@given(x=st.floats(-50, 50), y=st.floats(-50, 50), turn=st.floats(-3, 3), seed=st.integers(0, 50))
def test_consistency_does_not_depend_on_where_the_world_is(scenes, x, y, turn, seed) -> None:
    rng = np.random.default_rng(seed)
    poses = [se3.planar(3.0 * k, rng.normal(), rng.normal() / 5) for k in range(5)]
    plans = {f"scene-0001-{k}": rng.normal(size=(NUM_STEPS, 2)) for k in range(5)}
    means = []
    for start in (np.eye(4), se3.planar(x, y, turn)):
        samples = scenes.along(poses, start=start)
        planner = Predictions(
            planner="p", kind=WaypointKind.INDEX, frame=WaypointFrame.EGO, positions=plans, refused={}
        )
        entry = evaluate_predictions(samples, [planner], jitter=NO_JITTER)["planners"]["p"]["consistency"]
        means.append(entry["consistency_overlap"]["mean"])
    assert means[0] == pytest.approx(means[1], abs=1e-9)
