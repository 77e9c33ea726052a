"""What became of one camera set, in plain types: wpt_msgs/SetReport without ROS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from wpt_policy.frame import Command, CommandSource
from wpt_policy.plan import PlanFlag


class Outcome(IntEnum):
    """Values of wpt_msgs/SetReport."""

    PLANNED = 0
    SKIPPED_BUSY = 1
    SKIPPED_RATE = 2
    INCOMPLETE = 3
    REFUSED = 4
    RESET = 5
    DISABLED = 6


class CameraStatus(IntEnum):
    """Values of wpt_msgs/SetReport."""

    USED = 0
    MISSING = 1
    HELD = 2
    MASKED = 3
    FAILED = 4


class EgoSource(IntEnum):
    """Values of wpt_msgs/SetReport."""

    NONE = 0
    INTERPOLATED = 1
    EXTRAPOLATED = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraOutcome:
    """One camera of a set. stamp_ns: of its image, 0 where missing. odom_from_base: (4, 4) ego pose at that
    stamp as used, None where there is none."""

    status: CameraStatus
    stamp_ns: int = 0
    odom_from_base: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SetOutcome:
    """One set, or one reset (set_id 0, outcome RESET).

    reference_stamp_ns: newest image of the set. reason: one sentence, empty when PLANNED. cameras: in rig
    order. odom_from_base: (4, 4) ego pose at the reference stamp, None unless ego_source says there is one;
    linear, angular: (3,) twist in base_link, m/s and rad/s. skew_ns: newest minus oldest image stamp. age_ns:
    ROS time at the report minus the reference stamp. latency_ms: monotonic, last image's arrival to return of
    publish(); NaN if not planned. stages_ms: name -> milliseconds, in order. skipped_before: sets skipped
    since the previous plan.
    """

    outcome: Outcome
    reference_stamp_ns: int
    set_id: int = 0
    reason: str = ""
    cameras: Mapping[str, CameraOutcome] = field(default_factory=dict)
    ego_source: EgoSource = EgoSource.NONE
    odom_from_base: np.ndarray | None = None
    linear_velocity: np.ndarray | None = None
    angular_velocity: np.ndarray | None = None
    command: Command = Command.UNKNOWN
    command_source: CommandSource = CommandSource.UNKNOWN
    command_stamp_ns: int = 0
    flags: PlanFlag = PlanFlag.NONE
    memory_reset: bool = False
    skew_ns: int = 0
    age_ns: int = 0
    latency_ms: float = math.nan
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    skipped_before: int = 0
    published_steady_ns: int = 0
