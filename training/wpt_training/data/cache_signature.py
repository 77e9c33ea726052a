"""What a sample cache was made of, so that a stale one is noticed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from wpt_policy.policy_config import PolicyConfig
from wpt_scenes.schema import TABLE_NAMES
from wpt_scenes.tables import NuScenesTables

from wpt_training.configuration import DataConfig
from wpt_training.data.side_tables import SideTables

FORMAT = 1


def data_identity(tables: NuScenesTables, side: SideTables) -> dict[str, Any]:
    """Return what tells a data set's version from another or a later state of it: sizes of its tables,
    contents of two.
    """
    folder = tables.dataroot / tables.version
    contents = hashlib.sha256((folder / "scene.json").read_bytes() + (folder / "sample.json").read_bytes())
    return {
        "version": tables.version,
        "bytes": {name: (folder / f"{name}.json").stat().st_size for name in TABLE_NAMES},
        "scenes_and_samples": contents.hexdigest(),
        "side_files": side.digest,
    }


def reading_identity(policy: PolicyConfig, data: DataConfig) -> dict[str, Any]:
    """Return the parts of a configuration that a row depends on (not the network's sizes)."""
    return {
        "cameras": list(policy.cameras),
        "image_input": dataclasses.asdict(policy.image_input),
        "range": [list(policy.bev.x_range_m), list(policy.bev.y_range_m)],
        "plan": [policy.plan.steps, policy.plan.dt_s, [command.label for command in policy.plan.commands]],
        "history": dataclasses.asdict(policy.history),
        "occupancy_cell_m": data.occupancy_cell_m,
        "largest_boxes": data.largest_boxes,
        "route_points": data.route_points,
    }


def tokens_identity(tokens: Iterable[str] | None) -> str:
    """Return a digest of the chosen sample tokens, whatever their order; "all" for None."""
    if tokens is None:
        return "all"
    return hashlib.sha256("\n".join(sorted(tokens)).encode()).hexdigest()


def signature_of(made_of: dict[str, Any]) -> str:
    """Return the digest of everything that a cache was made of."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
