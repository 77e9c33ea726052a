"""A scene's annotated boxes from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wpt_policy import se3

from wpt_scenes.scene_types import Box3D
from wpt_scenes.tables import NuScenesTables

# nuscenes-devkit, NuScenes.box_velocity: max_time_diff, doubled for a central difference.
MAX_VELOCITY_GAP_S = 1.5


def boxes_of(tables: NuScenesTables, samples: Sequence[dict]) -> dict[str, tuple[Box3D, ...]]:
    """Return the boxes of some sample rows by sample token, in the order of the annotation table."""
    stamps_us = {sample["token"]: sample["timestamp"] for sample in samples}
    rows = tables.rows_where("sample_annotation", "sample_token", stamps_us)
    by_token = {row["token"]: row for row in rows}
    categories = _categories(tables, rows)
    attributes = tables.rows_by_token(
        "attribute", {t for row in rows for t in row.get("attribute_tokens", ())}
    )
    levels = _visibility_levels(tables)
    boxes: dict[str, list[Box3D]] = {token: [] for token in stamps_us}
    for row in rows:
        width, length, height = row["size"]
        boxes[row["sample_token"]].append(
            Box3D(
                token=row["token"],
                instance_token=row["instance_token"],
                category=categories[row["instance_token"]],
                global_from_box=se3.transform(row["translation"], row["rotation"]),
                size_lwh=np.array([length, width, height], dtype=np.float64),
                velocity=box_velocity(row, by_token, stamps_us),
                visibility=levels.get(row.get("visibility_token", "")),
                num_lidar_pts=row.get("num_lidar_pts"),
                num_radar_pts=row.get("num_radar_pts"),
                attributes=tuple(attributes[token]["name"] for token in row.get("attribute_tokens", ())),
            )
        )
    return {token: tuple(found) for token, found in boxes.items()}


def box_velocity(row: Mapping, by_token: Mapping[str, dict], stamps_us: Mapping[str, int]) -> np.ndarray:
    """Return the (3,) global velocity (m/s) of an annotation by the rule of nuscenes-devkit's box_velocity.

    The difference between the instance's previous and next annotation, one-sided at an end. NaN for a lone
    one, and when the difference spans more than 1.5 s (3 s for a central one). by_token: annotations of the
    same scene; stamps_us: sample token -> timestamp.
    """
    previous, following = by_token.get(row["prev"]), by_token.get(row["next"])
    if previous is None and following is None:
        return np.full(3, np.nan)
    first, last = previous or row, following or row
    seconds = (stamps_us[last["sample_token"]] - stamps_us[first["sample_token"]]) / 1e6
    if seconds > MAX_VELOCITY_GAP_S * (2 if previous is not None and following is not None else 1):
        return np.full(3, np.nan)
    return (np.array(last["translation"]) - np.array(first["translation"])) / seconds


def _categories(tables: NuScenesTables, rows: Sequence[dict]) -> dict[str, str]:
    """Category names by instance token."""
    instances = tables.rows_by_token("instance", {row["instance_token"] for row in rows})
    names = {row["token"]: row["name"] for row in tables.rows("category")}
    return {token: names[instance["category_token"]] for token, instance in instances.items()}


def _visibility_levels(tables: NuScenesTables) -> dict[str, int]:
    """Levels 1 to 4 by token. nuScenes uses the level as token; others are read by their level's text."""
    by_text = {"v0-40": 1, "v40-60": 2, "v60-80": 3, "v80-100": 4}
    levels = {}
    for row in tables.rows("visibility"):
        level = by_text.get(row.get("level", ""))
        if level is None and row["token"] in {"1", "2", "3", "4"}:
            level = int(row["token"])
        if level is not None:
            levels[row["token"]] = level
    return levels
