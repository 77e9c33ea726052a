"""Planners by name: those that packages announce in the entry-point group wpt.planners, and policy bundles.

An announced planner is a callable. As NAME it is called without arguments; as NAME:CHECKPOINT it is called
with the checkpoint's path and the keywords ``device`` and ``precision``. Either returns a Planner.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from wpt_policy.bundle import find_bundle, list_bundles, load_bundle
from wpt_policy.planner import Planner
from wpt_policy.policy_config import BundleError
from wpt_policy.runner import PolicyRunner

ENTRY_POINT_GROUP = "wpt.planners"


class UnknownPlannerError(LookupError):
    """A planner specification that names no planner and no bundle."""


def announced_planners() -> dict[str, EntryPoint]:
    """Return the entry points of the group by name, sorted."""
    return {
        point.name: point
        for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    }


def make_planner(spec: str, *, device: str = "auto", precision: str = "float32") -> Planner:
    """Return the planner that ``spec`` names: an announced NAME, NAME:CHECKPOINT, or a bundle's name or path.

    An announced name goes before a bundle of the same name. Raises UnknownPlannerError listing what exists,
    BundleError for a bundle that exists and cannot be used, DeviceError as PolicyRunner does.
    """
    announced = announced_planners()
    if spec in announced:
        return announced[spec].load()()
    try:
        folder = find_bundle(spec)
    except BundleError as error:
        name, separator, checkpoint = spec.partition(":")
        if separator and checkpoint and name in announced:
            return announced[name].load()(Path(checkpoint), device=device, precision=precision)
        raise UnknownPlannerError(
            f"no planner {spec!r}; planners here: {', '.join(announced) or 'none'}; bundles here: "
            f"{', '.join(list_bundles()) or 'none'}; a path to a bundle or NAME:CHECKPOINT is possible too "
            f"({error})"
        ) from None
    return PolicyRunner(load_bundle(folder), device=device, precision=precision)
