"""What a planner sees at one instant: six camera views with their own stamps and poses, the ego's motion, a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np

from wpt_policy.calibration import CameraCalibration, CameraRig


class Command(IntEnum):
    """What the ego is to do at the next decision point. Values are those of wpt_msgs/DrivingCommand and Bench2Drive."""

    UNKNOWN = 0
    LEFT = 1
    RIGHT = 2
    STRAIGHT = 3
    LANE_FOLLOW = 4
    CHANGE_LANE_LEFT = 5
    CHANGE_LANE_RIGHT = 6

    @property
    def label(self) -> str:
        return self.name.lower()


class CommandSource(IntEnum):
    """Who decided a command. Values are those of wpt_msgs/DrivingCommand."""

    UNKNOWN = 0
    FIXED = 1
    ROUTE = 2
    OPERATOR = 3
    DERIVED_FROM_FUTURE = 4


class ViewStatus(Enum):
    USED = "used"
    HELD = "held"  # an older image within its age limit stands in
    MASKED = "masked"  # excluded from attention; pixels is None


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraView:
    """One camera's contribution to a Frame.

    calibration: of ``pixels`` (already rescaled to them). stamp_ns: exposure of this image.
    pixels: (H, W, 3) uint8 RGB as the planner's ImageInput made it; None when masked or when the planner reads none.
    odom_from_base: (4, 4) ego pose at stamp_ns, None when unknown (uncompensated).
    """

    calibration: CameraCalibration
    stamp_ns: int
    pixels: np.ndarray | None
    odom_from_base: np.ndarray | None
    status: ViewStatus = ViewStatus.USED


@dataclass(frozen=True, kw_only=True, eq=False)
class EgoState:
    """The ego at one stamp.

    odom_from_base: (4, 4), in any fixed frame. linear_velocity, angular_velocity: (3,) in base_link, m/s and rad/s.
    extrapolated: the pose lies beyond the last odometry and was continued by its twist.
    """

    stamp_ns: int
    odom_from_base: np.ndarray
    linear_velocity: np.ndarray
    angular_velocity: np.ndarray
    extrapolated: bool = False

    @property
    def speed(self) -> float:
        """Forward speed, m/s; negative when rolling backwards."""
        return float(self.linear_velocity[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """Input of Planner.plan.

    views: by camera name in rig order (cameras of the rig that are neither seen nor masked are absent).
    reference_stamp_ns: the newest image stamp of the set; plan points and base_link refer to it.
    ego: at the reference stamp, None when no ego motion is known.
    """

    reference_stamp_ns: int
    views: Mapping[str, CameraView]
    ego: EgoState | None
    command: Command
    command_source: CommandSource = CommandSource.UNKNOWN

    @property
    def rig(self) -> CameraRig:
        return CameraRig([view.calibration for view in self.views.values()])
