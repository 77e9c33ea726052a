"""Off-road steps against a road with a straight edge."""

from __future__ import annotations

import numpy as np
import pytest
from wpt_policy import se3
from wpt_scenes.metrics import Jitter, evaluate_predictions


class LeftOf:
    """Everything up to a global y is road."""

    def __init__(self, edge_y: float):
        self.edge_y = edge_y

    def contains(self, points_global: np.ndarray) -> np.ndarray:
        return points_global[:, 1] <= self.edge_y


def off_road(scenes, edge_y: float, plan: np.ndarray, start: np.ndarray | None = None) -> dict:
    samples = scenes.straight(keyframes=9, step_m=5.0, drivable=LeftOf(edge_y), start=start)
    report = evaluate_predictions(samples, [scenes.predictions(samples, plan)], jitter=Jitter(draws=0))
    return report["planners"]["planner"]["off_road"]


def test_the_footprint_not_the_point_is_judged(scenes) -> None:
    # Half width 0.925 m: straight ahead stays on a road that ends 0.93 m to the left and leaves one that ends at 0.92.
    straight = np.stack([np.arange(1.0, 7.0), np.zeros(6)], axis=-1)
    assert off_road(scenes, 0.93, straight)["steps"]["hits_per_step"] == [0] * 6
    entry = off_road(scenes, 0.92, straight)
    assert entry["counted_per_step"] == [8, 7, 6, 5, 4, 3]
    assert entry["steps"]["hits_per_step"] == [8, 7, 6, 5, 4, 3]
    assert entry["steps"]["at_step"] == {"1s": 1.0, "2s": 1.0, "3s": 1.0, "avg": 1.0}
    assert entry["truth"]["hits_per_step"] == [8, 7, 6, 5, 4, 3]


def test_heading_and_global_pose_are_used(scenes) -> None:
    # Pointing left (along y): the front reaches 1.486 + 2.042 = 3.528 m further than base_link.
    left = np.stack([np.zeros(6), np.arange(1.0, 7.0)], axis=-1)
    steps = off_road(scenes, 6.6, left)["steps"]["per_step"]
    assert steps == pytest.approx([0, 0, 0, 1, 1, 1])  # fronts at 4.53, 5.53, 6.53, 7.53 ...
    # The same road turned with the world by -90 degrees: the car's left is global x, the road's edge is met by none.
    turned = off_road(scenes, 6.6, left, start=se3.planar(0.0, 0.0, -np.pi / 2))
    assert turned["steps"]["hits_per_step"] == [0] * 6


def test_without_a_mask_the_reason_is_given(scenes) -> None:
    samples = scenes.straight(keyframes=9, step_m=5.0)
    report = evaluate_predictions(samples, [], jitter=Jitter(draws=0))
    assert report["planners"]["stop"]["off_road"] is None
    assert "drivable area" in report["planners"]["stop"]["unavailable"]["off_road"]
