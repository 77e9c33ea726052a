"""The arrays of one row of the sample cache: names, types, shapes."""

from __future__ import annotations

import numpy as np

from wpt_policy.policy_config import PolicyConfig

from wpt_training.configuration import DataConfig
from wpt_training.data.occupancy_truth import occupancy_grid

# Row flags that are no part of Batch.
LABELLED, NATURAL, INTERACTIVE, CHOSEN = 1, 2, 4, 8


def row_fields(policy: PolicyConfig, data: DataConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return numpy type and shape by field.

    Most are those of Batch, for one sample, but: images, image_from_base and camera_mask are of the present
    set alone, and history holds instead the numbers of earlier sets (-1: none); lane_direction is kept in
    half precision. Beside them the reference stamp, the command's source (CommandSource) and flags (LABELLED,
    NATURAL, INTERACTIVE, CHOSEN).
    """
    cameras, image, entries = len(policy.cameras), policy.image_input, policy.history.entries
    steps, actors, grid = policy.plan.steps, data.largest_boxes, occupancy_grid(policy, data).shape
    return {
        "images": ("uint8", (cameras, image.height, image.width, 3)),
        "image_from_base": ("float32", (cameras, 3, 4)),
        "camera_mask": ("bool", (cameras,)),
        "history": ("int64", (entries,)),
        "earlier_from_present": ("float32", (entries, 2, 3)),
        "command": ("int64", ()),
        "motion": ("float32", (4,)),
        "future": ("float32", (steps, 3)),
        "future_valid": ("bool", (steps,)),
        "occupancy": ("uint8", (1 + steps, *grid)),
        "visible": ("bool", grid),
        "drivable": ("bool", grid),
        "lane_direction": ("float16", grid),
        "boxes": ("float32", (1 + steps, actors, 5)),
        "box_velocity": ("float32", (1 + steps, actors, 2)),
        "box_valid": ("bool", (1 + steps, actors)),
        "box_vulnerable": ("bool", (actors,)),
        "route": ("float32", (data.route_points, 2)),
        "signal": ("int64", ()),
        "stop_line": ("float32", (2, 2)),
        "reference_ns": ("int64", ()),
        "command_source": ("uint8", ()),
        "flags": ("uint8", ()),
    }


def empty_row(policy: PolicyConfig, data: DataConfig) -> dict[str, np.ndarray]:
    """Return a row of zeros."""
    return {name: np.zeros(shape, dtype=kind) for name, (kind, shape) in row_fields(policy, data).items()}
