"""What EgoMotion takes and gives: checked samples of pose and velocity, findings about odometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from wpt_policy import se3


class EgoSource(StrEnum):
    INTERPOLATED = "interpolated"
    EXTRAPOLATED = "extrapolated"


class EgoFindingKind(StrEnum):
    """What was odd about an odometry message; the first two call for a reset of the temporal memory."""

    JUMP = "jump"  # the pose contradicts twist and earlier motion; older poses were dropped
    RESTART = "restart"  # stamps moved to another time line; older poses were dropped
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE = "duplicate"
    INVALID = "invalid"
    STRAY = "stray"  # a stamp on another time line, set aside until a second one confirms it
    TWIST_MISMATCH = "twist_mismatch"  # poses move smoothly, the twist disagrees; reported once per time line


@dataclass(frozen=True, slots=True)
class EgoFinding:
    """One finding with its sentence; stamp_ns is the odometry message's."""

    kind: EgoFindingKind
    stamp_ns: int
    sentence: str

    @property
    def resets_memory(self) -> bool:
        """Poses before and after this message do not belong together."""
        return self.kind in (EgoFindingKind.JUMP, EgoFindingKind.RESTART)


@dataclass(frozen=True, slots=True, eq=False)
class EgoSample:
    """The ego at one stamp; arrays are read-only.

    odom_from_base: (4, 4) pose. linear, angular: (3,) velocities in base_link, m/s and rad/s.
    """

    stamp_ns: int
    odom_from_base: np.ndarray
    linear: np.ndarray
    angular: np.ndarray
    source: EgoSource


def checked_sample(
    stamp_ns: int,
    odom_from_base: np.ndarray,
    linear: Sequence[float] | np.ndarray,
    angular: Sequence[float] | np.ndarray,
) -> EgoSample:
    """Check and copy one message; raises se3.TransformError."""
    if stamp_ns <= 0:
        raise se3.TransformError("its stamp is zero; the publisher must fill header.stamp")
    pose = se3.require_rigid(odom_from_base, "its pose")
    velocities = []
    for name, values in (("linear", linear), ("angular", angular)):
        vector = np.array(values, dtype=np.float64)
        if vector.shape != (3,) or not np.all(np.isfinite(vector)):
            raise se3.TransformError(f"its {name} velocity {vector.tolist()} is not three finite numbers")
        velocities.append(frozen(vector))
    return EgoSample(stamp_ns, frozen(np.array(pose)), velocities[0], velocities[1], EgoSource.INTERPOLATED)


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
