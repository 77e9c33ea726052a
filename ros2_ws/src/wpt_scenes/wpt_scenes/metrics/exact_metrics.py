"""Collision by exact rotated rectangles: this suite's own test and SparseDrive's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from wpt_scenes.metrics import obstacles
from wpt_scenes.metrics.obstacles import Obstacles
from wpt_scenes.metrics.paths import Paths
from wpt_scenes.metrics.rectangles import EgoFootprint, overlap
from wpt_scenes.metrics.scene_record import SceneRecord
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

# SparseDrive: the same ego as everyone's, 0.5 m ahead of the path point along the heading.
SPARSEDRIVE_HALF_SIZE = np.array([4.084, 1.85]) / 2.0
SPARSEDRIVE_AHEAD_M = 0.5
# Paths shorter than this from first to last point keep the car pointing along LiDAR y.
SPARSEDRIVE_STILL_M = 0.5


@dataclass(frozen=True, kw_only=True)
class ExactMetric:
    """One test of rectangles against rectangles.

    frame: whose path is read. obstacle_rule: the objects. ego: Paths (N, D, 6, ...) to the ego rectangles' centres
    (N, D, 6, 2) and headings (N, D, 6). half_size: (2,) of the ego.
    """

    frame: WaypointFrame
    obstacle_rule: obstacles.ObstacleRule
    ego: Callable[[Paths], tuple[np.ndarray, np.ndarray]]
    half_size: np.ndarray = field(default_factory=lambda: EgoFootprint().half_size)

    def hits(self, record: SceneRecord, keyframes: np.ndarray, paths: Paths) -> tuple[np.ndarray, None]:
        """Return (N, D, 6) hits of paths at (N,) keyframes; there is no test of the centre point."""
        centre, heading = self.ego(paths)
        return rectangle_hits(self.obstacle_rule(record, keyframes), centre, heading, self.half_size), None


def rectangle_hits(
    found: Obstacles, centre: np.ndarray, heading: np.ndarray, half_size: np.ndarray
) -> np.ndarray:
    """Return (N, D, 6) bool: whether the ego rectangle of a path at a step meets an obstacle of that sample and step.

    centre: (N, D, 6, 2). heading: (N, D, 6). half_size: (2,).
    """
    count, draws, steps = heading.shape
    hit = np.zeros((count * steps, draws), dtype=bool)
    centre = np.nan_to_num(centre)
    by_owner = centre.transpose(0, 2, 1, 3).reshape(count * steps, draws, 2)
    heading = np.nan_to_num(heading).transpose(0, 2, 1).reshape(count * steps, draws)
    near = near_obstacles(found, centre, half_size)
    owner = found.owner[near]
    meets = overlap(
        by_owner[owner],
        heading[owner],
        half_size,
        found.centre[near, None],
        found.heading[near, None],
        found.half_size[near, None],
    )
    np.logical_or.at(hit, owner, meets)
    return hit.reshape(count, steps, draws).transpose(0, 2, 1)


def near_obstacles(found: Obstacles, centre: np.ndarray, half_size: np.ndarray) -> np.ndarray:
    """Return the indices of obstacles that any draw's ego rectangle might meet; centre: (N, D, 6, 2) finite."""
    low, high = (edge(axis=1).reshape(-1, 2)[found.owner] for edge in (centre.min, centre.max))
    reach = np.hypot(*half_size) + np.hypot(found.half_size[:, 0], found.half_size[:, 1])
    inside = (found.centre >= low - reach[:, None]) & (found.centre <= high + reach[:, None])
    return np.flatnonzero(inside.all(axis=1))


def footprint_poses(paths: Paths, footprint: EgoFootprint) -> tuple[np.ndarray, np.ndarray]:
    """Return centres (..., 6, 2) and headings (..., 6) of the ego rectangle in base_link at the keyframe."""
    ahead = np.stack([np.cos(paths.headings), np.sin(paths.headings)], axis=-1) * footprint.centre_ahead_m
    return paths.ego + ahead, paths.headings


def sparsedrive_poses(paths: Paths) -> tuple[np.ndarray, np.ndarray]:
    """Return centres and headings in LIDAR_TOP by SparseDrive's rule.

    Heading: the chord between the neighbours (the last: the last chord), the origin before the first point; all along
    y where first and last point are less than 0.5 m apart (SparseDrive
    projects/mmdet3d_plugin/datasets/evaluation/planning/planning_eval.py, get_yaw and check_collision).
    """
    path = np.nan_to_num(paths.lidar)
    whole = np.concatenate([np.zeros_like(path[..., :1, :]), path], axis=-2)
    after = np.concatenate([whole[..., 2:, :], whole[..., -1:, :]], axis=-2)
    chord = after - whole[..., :NUM_STEPS, :]
    heading = np.arctan2(chord[..., 1], chord[..., 0])
    still = np.linalg.norm(path[..., -1, :] - path[..., 0, :], axis=-1) < SPARSEDRIVE_STILL_M
    heading = np.where(still[..., None], np.pi / 2.0, heading)
    return path + SPARSEDRIVE_AHEAD_M * np.stack([np.cos(heading), np.sin(heading)], axis=-1), heading


def road_user_metric(footprint: EgoFootprint) -> ExactMetric:
    """This suite's exact test for one ego footprint."""
    return ExactMetric(
        frame=WaypointFrame.EGO,
        obstacle_rule=obstacles.road_users,
        ego=lambda paths: footprint_poses(paths, footprint),
        half_size=footprint.half_size,
    )


SPARSEDRIVE = ExactMetric(
    frame=WaypointFrame.LIDAR,
    obstacle_rule=obstacles.sparsedrive_everything,
    ego=sparsedrive_poses,
    half_size=SPARSEDRIVE_HALF_SIZE,
)
