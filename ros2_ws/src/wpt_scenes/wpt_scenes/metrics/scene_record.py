"""Poses and annotated objects of one scene as flat arrays: what the metrics read of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from wpt_policy import se3
from wpt_scenes.scene_types import Box3D, Scene


class DrivableLookup(Protocol):
    """Whether places are drivable; wpt_scenes.drivable_area.DrivableArea is one."""

    def contains(self, points_global: np.ndarray) -> np.ndarray:
        """Return (N,) bool for (N, 2) global positions."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneRecord:
    """K keyframes of one scene and the R annotated boxes in them, ordered by keyframe.

    stamps_ns: (K,) int64. global_from_base: (K, 4, 4). base_from_lidar: (K, 4, 4) or None without LIDAR_TOP.
    first_row: (K + 1,) keyframe i owns rows first_row[i]:first_row[i + 1].
    Per row: centre (R, 3) and forward (R, 3) global position and x axis; half_size (R, 2) half length and half width;
    category (R,) names; instance (R,) integers; visibility (R,) 1 to 4, 0 unknown; lidar_points, radar_points (R,)
    with -1 unknown; next_row (R,) the row of the same instance's next annotation, -1 for none.
    drivable: None when the scene has no drivable-area mask.
    """

    name: str
    stamps_ns: np.ndarray
    global_from_base: np.ndarray
    base_from_lidar: np.ndarray | None
    first_row: np.ndarray
    centre: np.ndarray
    forward: np.ndarray
    half_size: np.ndarray
    category: np.ndarray
    instance: np.ndarray
    visibility: np.ndarray
    lidar_points: np.ndarray
    radar_points: np.ndarray
    next_row: np.ndarray
    drivable: DrivableLookup | None = None

    @property
    def keyframe_count(self) -> int:
        return len(self.stamps_ns)

    @cached_property
    def base_from_global(self) -> np.ndarray:
        """(K, 4, 4)"""
        return se3.inverse(self.global_from_base)

    @cached_property
    def lidar_from_global(self) -> np.ndarray | None:
        """(K, 4, 4), None without LIDAR_TOP."""
        if self.base_from_lidar is None:
            return None
        return se3.inverse(self.global_from_base @ self.base_from_lidar)

    @cached_property
    def flat_base_from_global(self) -> np.ndarray:
        """(K, 4, 4) base_link with roll and pitch taken out, as ST-P3's labels have it."""
        flat = [se3.planar(pose[0, 3], pose[1, 3], se3.yaw_of(pose)) for pose in self.global_from_base]
        flat = np.array(flat).reshape(-1, 4, 4)
        flat[:, 2, 3] = self.global_from_base[:, 2, 3]
        return se3.inverse(flat)

    @cached_property
    def keyframe_of_row(self) -> np.ndarray:
        """(R,)"""
        return np.repeat(np.arange(self.keyframe_count), np.diff(self.first_row))

    def rows_of(self, keyframes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all rows of each of (S,) keyframes: rows (Q,) and which of the S each belongs to (Q,)."""
        first, end = self.first_row[keyframes], self.first_row[keyframes + 1]
        counts = end - first
        owner = np.repeat(np.arange(len(keyframes)), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        return first[owner] + np.arange(len(owner)) - before, owner


def record_of_scene(scene: Scene, drivable: DrivableLookup | None = None) -> SceneRecord:
    """Return the arrays of a loaded scene; LiDAR mounts are taken only where every keyframe has one."""
    keyframes = scene.keyframes
    mounts = [keyframe.base_from_lidar for keyframe in keyframes]
    return make_record(
        name=scene.name,
        stamps_ns=[keyframe.stamp_ns for keyframe in keyframes],
        global_from_base=[keyframe.global_from_base for keyframe in keyframes],
        base_from_lidar=None if any(mount is None for mount in mounts) else mounts,
        boxes=[keyframe.boxes for keyframe in keyframes],
        drivable=drivable,
    )


def make_record(
    *,
    name: str,
    stamps_ns: Sequence[int],
    global_from_base: Sequence[np.ndarray],
    base_from_lidar: Sequence[np.ndarray] | None,
    boxes: Sequence[Sequence[Box3D]],
    drivable: DrivableLookup | None = None,
) -> SceneRecord:
    """Return the arrays of K keyframes: one stamp, one pose, one mount and one list of boxes for each."""
    rows = [box for keyframe in boxes for box in keyframe]
    tokens: dict[str, int] = {}
    instance = np.array([tokens.setdefault(box.instance_token, len(tokens)) for box in rows], dtype=np.int64)
    next_row = np.full(len(rows), -1, dtype=np.int64)
    last_seen: dict[int, int] = {}
    for row, number in enumerate(instance.tolist()):
        if number in last_seen:
            next_row[last_seen[number]] = row
        last_seen[number] = row
    return SceneRecord(
        name=name,
        stamps_ns=np.array(stamps_ns, dtype=np.int64),
        global_from_base=np.array(global_from_base, dtype=np.float64).reshape(-1, 4, 4),
        base_from_lidar=None if base_from_lidar is None else np.array(base_from_lidar, dtype=np.float64),
        first_row=np.concatenate([[0], np.cumsum([len(keyframe) for keyframe in boxes])]).astype(np.int64),
        centre=np.array([box.global_from_box[:3, 3] for box in rows]).reshape(-1, 3),
        forward=np.array([box.global_from_box[:3, 0] for box in rows]).reshape(-1, 3),
        half_size=np.array([box.size_lwh[:2] for box in rows], dtype=np.float64).reshape(-1, 2) / 2.0,
        category=np.array([box.category for box in rows], dtype=str),
        instance=instance,
        visibility=np.array([box.visibility or 0 for box in rows], dtype=np.int64),
        lidar_points=_counts([box.num_lidar_pts for box in rows]),
        radar_points=_counts([box.num_radar_pts for box in rows]),
        next_row=next_row,
        drivable=drivable,
    )


def _counts(values: Sequence[int | None]) -> np.ndarray:
    return np.array([-1 if value is None else value for value in values], dtype=np.int64)
