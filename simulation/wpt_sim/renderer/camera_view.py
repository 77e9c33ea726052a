"""A camera at one instant, and the geometry of drawing polygons as it sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration

# Bodies are cut at this distance in front of the lens: nearer polygons would get unbounded pixel coordinates.
NEAR_M = 0.25
SHIFT = 4  # fractional bits of polygon corners
_FARTHEST_PIXEL = 30000.0


@dataclass(frozen=True, eq=False)
class CameraView:
    """map_from_camera, camera_from_map: (4, 4). offset_from_ego: horizontal metres from base_link to the
    lens."""

    map_from_camera: np.ndarray
    camera_from_map: np.ndarray
    offset_from_ego: float

    @classmethod
    def at(cls, camera: CameraCalibration, map_from_base: np.ndarray) -> CameraView:
        """Return the view of a camera at an ego pose (4, 4)."""
        map_from_camera = map_from_base @ camera.base_from_camera
        mount = camera.base_from_camera
        return cls(map_from_camera, se3.inverse(map_from_camera), float(np.hypot(mount[0, 3], mount[1, 3])))

    @property
    def eye(self) -> np.ndarray:
        """(3,) the lens, map coordinates."""
        return self.map_from_camera[:3, 3]


def clip_at_depth(polygon: np.ndarray, near: float) -> np.ndarray:
    """Cut (N, 3) corners in camera coordinates at depth ``near``; the result may be empty."""
    kept = []
    for i in range(len(polygon)):
        current, following = polygon[i], polygon[(i + 1) % len(polygon)]
        if current[2] >= near:
            kept.append(current)
        if (current[2] >= near) != (following[2] >= near):
            fraction = (near - current[2]) / (following[2] - current[2])
            kept.append(current + fraction * (following - current))
    return np.array(kept).reshape(-1, 3)


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Return pixel coordinates (N, 2 or more) as OpenCV's drawing functions take them with SHIFT fractional
    bits."""
    scaled = pixels[:, :2] * float(2**SHIFT)
    np.minimum(scaled, _FARTHEST_PIXEL * 2**SHIFT, out=scaled)
    np.maximum(scaled, -_FARTHEST_PIXEL * 2**SHIFT, out=scaled)
    return np.rint(scaled, out=scaled).astype(np.int32)
