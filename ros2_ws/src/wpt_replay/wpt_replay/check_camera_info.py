"""What a CameraInfo of a recording says, by the rules that the planner node itself goes by (wpt_policy.camera_model)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from wpt_policy.camera_model import CameraInfoError, camera_info_values, camera_model


class CameraInfoProblem(ValueError):
    """A CameraInfo that the planner refuses. str() is what was found; remedy: what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.remedy = remedy


@dataclass(frozen=True, kw_only=True, eq=False)
class StatedCamera:
    """The camera that a CameraInfo states. width, height: of the published image. intrinsics: (3, 3) at that
    size.

    distorted: D has coefficients other than zero. notes: sentences about what looks wrong and is used all the same.
    """

    frame_id: str
    width: int
    height: int
    intrinsics: np.ndarray
    distorted: bool
    notes: tuple[str, ...]


def stated_camera(message: Any, *, images_rectified: bool) -> StatedCamera:
    """Judge a sensor_msgs/CameraInfo; raises CameraInfoProblem."""
    values = camera_info_values(message)
    try:
        model = camera_model(values, images_rectified=images_rectified)
    except CameraInfoError as error:
        found, _, remedy = str(error).rpartition("; ")
        raise CameraInfoProblem(found, remedy) from None
    return StatedCamera(
        frame_id=values.frame_id,
        width=model.width,
        height=model.height,
        intrinsics=model.intrinsics,
        distorted=bool(np.any(values.d)),
        notes=model.notes,
    )
