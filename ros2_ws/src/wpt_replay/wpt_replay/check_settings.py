"""What the planner node would do by its own files: parameters, topic presets. Read, never imported.

The files are those of wpt_planner's installed share folder, so that the check judges by the values that the
node has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wpt_replay.bag_types import share_folder
from wpt_replay.errors import ReplayError

PLANNER_PACKAGE = "wpt_planner"
OWN_NAMES = "ours"


class SettingsError(ReplayError):
    """Files of the planner that are not there or cannot be read."""


@dataclass(frozen=True, kw_only=True)
class PlannerSettings:
    """The parameters that decide whether recorded or live data can be used; names and units as the node's."""

    planner: str
    cameras: tuple[str, ...]
    base_frame: str
    transport: str
    images_rectified: bool
    max_skew: float
    set_timeout: float
    missing_camera: str
    max_age: float
    stamp_lead: float
    ego_wait: float
    max_extrapolation: float
    require_ego: bool
    default_command: str
    command_timeout: float
    qos_overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def max_skew_ns(self) -> int:
        return round(self.max_skew * 1e9)


def planner_file(*parts: str) -> Path:
    """Return a file of wpt_planner's share folder; raises SettingsError."""
    folder = share_folder(PLANNER_PACKAGE)
    path = folder.joinpath(*parts) if folder is not None else None
    if path is None or not path.is_file():
        raise SettingsError(
            f"share/{PLANNER_PACKAGE}/{'/'.join(parts)} is not installed, but the check judges by the"
            " planner's own files: run `make env`, or build wpt_planner with colcon and source its setup"
            " file"
        )
    return path


def load_settings(params_file: Path | None = None) -> PlannerSettings:
    """Return the node's values: declared defaults, then a parameter file (default: wpt_planner's
    planner.yaml).

    Raises SettingsError for a file that cannot be read.
    """
    declared = _read_yaml(planner_file("config", "planner_parameters.yaml"))
    values = {name: entry["default"] for group in declared.values() for name, entry in group.items()}
    given = _read_yaml(params_file or planner_file("config", "planner.yaml"))
    for node in ("/**", "planner", "/planner"):
        section = given.get(node) if isinstance(given, dict) else None
        if isinstance(section, dict):
            values |= _flat(section.get("ros__parameters") or {})
    overrides = {name: str(value) for name, value in values.items() if name.startswith("qos_overrides.")}
    known = {name: values[name] for name in PlannerSettings.__dataclass_fields__ if name in values}
    known["cameras"] = tuple(known["cameras"])
    return PlannerSettings(**known, qos_overrides=overrides)


def load_presets() -> dict[str, dict[str, str]]:
    """Return the topic presets by name: our relative name -> theirs. Ours, which renames nothing, comes
    first.
    """
    return {OWN_NAMES: {}, **_read_yaml(planner_file("config", "topic_presets.yaml"))}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}): name a parameter file that exists"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path} is no YAML file ({reason}): mend it") from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join the names of nested parameters by dots, as ROS does."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
