"""Paints what a camera sees of the street: sky, ground by inverse perspective, bodies from far to near."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration

from wpt_scenes.factory.ground import GroundTexture
from wpt_scenes.factory.world import Thing

SKY_ZENITH, SKY_HORIZON = np.array([104.0, 154.0, 214.0]), np.array([208.0, 220.0, 230.0])
FAR_GROUND = (150, 164, 140)
HILLS = ((0.035, 3.0, (150, 172, 186)), (0.018, 7.0, (122, 148, 132)))
_SUN = np.array([0.35, 0.5, 0.79]) / np.linalg.norm([0.35, 0.5, 0.79])
_AMBIENT = 0.62
_HAZE_M = 420.0

# Bodies are cut at this distance in front of the lens: nearer polygons would get unbounded pixel coordinates.
_NEAR_M = 0.25
_SHIFT = 4  # fractional bits of polygon corners

# A ground level is left for the next coarser one where a pixel covers twice that one's cell along the view.
_LEVEL_FACTOR = 4
_LEVELS = 3


class Painter:
    """Paints images of one world; any rig, any pose above the ground. Deterministic."""

    def __init__(self, texture: GroundTexture, things: Sequence[Thing]):
        self._levels = [texture]
        for _ in range(_LEVELS - 1):
            self._levels.append(self._levels[-1].reduced(_LEVEL_FACTOR))
        self._bodies = [_Body(thing) for thing in things]

    def paint(self, camera: CameraCalibration, global_from_base: np.ndarray, time_s: float) -> np.ndarray:
        """Return the (height, width, 3) uint8 RGB image of a camera at an ego pose and a time."""
        global_from_camera = global_from_base @ camera.base_from_camera
        camera_from_global = se3.inverse(global_from_camera)
        image = np.empty((camera.height, camera.width, 3), dtype=np.uint8)
        self._paint_sky_and_ground(image, camera, global_from_camera, camera_from_global)
        self._paint_bodies(image, camera, global_from_camera, camera_from_global, time_s)
        return image

    def _paint_sky_and_ground(self, image, camera, global_from_camera, camera_from_global) -> None:
        focal = camera.intrinsics[1, 1]
        horizon = _horizon_rows(camera, camera_from_global)
        top = int(np.clip(math.floor(horizon.min()) - 1, 0, camera.height))
        image[top:] = FAR_GROUND
        if top < camera.height:
            self._paint_ground(
                image, camera, global_from_camera, camera_from_global, top, float(horizon.mean())
            )
        # After the ground: a tilted horizon leaves mirrored ground above it in the rows just warped.
        bottom = int(np.clip(math.ceil(horizon.max()) + 1, 0, camera.height))
        if bottom > 0:
            self._paint_sky(image[:bottom], horizon, focal)
        azimuth = math.atan2(global_from_camera[1, 2], global_from_camera[0, 2])
        half = math.atan(0.5 * camera.width / camera.intrinsics[0, 0]) + 0.15
        angles = np.arange(math.floor((azimuth - half) / 0.01), math.ceil((azimuth + half) / 0.01)) * 0.01
        for height, waves, colour in HILLS:
            ridge = height * (0.55 + 0.3 * np.sin(waves * angles) + 0.15 * np.sin(2.7 * waves * angles + 1.0))
            self._paint_skyline(image, camera, camera_from_global, angles, ridge, colour)

    def _paint_sky(self, image: np.ndarray, horizon: np.ndarray, focal: float) -> None:
        """Fill what lies above the horizon: a column of colours by height, sheared to the horizon's slope."""
        height, width = image.shape[:2]
        slope = (horizon[1] - horizon[0]) / (width - 1.0)
        tallest = int(math.ceil(horizon.max())) + 2
        up = np.clip((tallest - 1.0 - np.arange(tallest)) / (0.45 * focal), 0.0, 1.0)[:, None] ** 0.7
        column = ((1.0 - up) * SKY_HORIZON + up * SKY_ZENITH).round().astype(np.uint8)
        colours = np.repeat(column[:, None, :], 2, axis=1)
        source_from_image = np.array([[0.0, 0.0, 0.0], [-slope, 1.0, tallest - 1.0 - horizon[0]]])
        cv2.warpAffine(
            colours,
            source_from_image,
            (width, height),
            dst=image,
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_TRANSPARENT,
        )

    def _paint_ground(self, image, camera, global_from_camera, camera_from_global, top, middle) -> None:
        image_from_ground = camera.intrinsics @ camera_from_global[:3, [0, 1, 3]]
        ground_from_image = np.linalg.inv(image_from_ground)
        # Rows below the horizon at which each coarser level begins (seen from the bottom upwards).
        reach = global_from_camera[2, 3] * camera.intrinsics[1, 1]
        borders = [camera.height]
        for level in self._levels[1:]:
            borders.append(int(np.clip(middle + math.sqrt(reach / (2.0 * level.cell)), top, borders[-1])))
        borders.append(top)
        for level, bottom, first in zip(self._levels, borders, borders[1:], strict=False):
            if first >= bottom:
                continue
            offset = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, first], [0.0, 0.0, 1.0]])
            cv2.warpPerspective(
                level.rgb,
                level.pixel_from_global() @ ground_from_image @ offset,
                (camera.width, bottom - first),
                dst=image[first:bottom],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_TRANSPARENT,
            )

    def _paint_skyline(self, image, camera, camera_from_global, angles, elevation, colour) -> None:
        """Fill from the horizon up to an elevation (rad) over azimuths (rad), infinitely far away."""
        around = np.concatenate([angles, angles[::-1]])
        height = np.concatenate([elevation, np.zeros(len(angles))])
        rays = np.column_stack([np.cos(around), np.sin(around), np.tan(height)])
        seen = rays @ camera_from_global[:3, :3].T
        if seen[:, 2].min() <= 0.05:
            seen = _clipped(seen, 0.05)
            if len(seen) < 3:
                return
        pixels = (seen / seen[:, 2:]) @ camera.intrinsics.T
        cv2.fillPoly(image, [_fixed(pixels)], tuple(float(value) for value in colour), cv2.LINE_AA, _SHIFT)

    def _paint_bodies(self, image, camera, global_from_camera, camera_from_global, time_s) -> None:
        visible = []
        slope_x = 0.5 * camera.width / camera.intrinsics[0, 0] + 0.05
        for body in self._bodies:
            global_from_body = body.thing.pose_at(time_s)
            centre = camera_from_global[:3, :3] @ global_from_body[:3, 3] + camera_from_global[:3, 3]
            radius = body.thing.radius
            if centre[2] < -radius or abs(centre[0]) > max(centre[2], 0.0) * slope_x + 1.6 * radius:
                continue
            visible.append((float(np.linalg.norm(centre)), body, global_from_body))
        visible.sort(key=lambda item: -item[0])
        for distance, body, global_from_body in visible:
            camera_from_body = camera_from_global @ global_from_body
            body_from_camera_origin = se3.inverse(camera_from_body)[:3, 3]
            facing = body.facing(body_from_camera_origin)
            if not facing.any():
                continue
            light = body.light(global_from_body)
            haze = 1.0 - math.exp(-distance / _HAZE_M)
            colours = body.colours * light[:, None] * (1.0 - haze) + SKY_HORIZON * haze
            points = body.corners @ camera_from_body[:3, :3].T + camera_from_body[:3, 3]
            for face in np.flatnonzero(facing):
                polygon = points[body.starts[face] : body.starts[face + 1]]
                if polygon[:, 2].min() < _NEAR_M:
                    polygon = _clipped(polygon, _NEAR_M)
                    if len(polygon) < 3:
                        continue
                pixels = (polygon / polygon[:, 2:]) @ camera.intrinsics.T
                if pixels[:, 0].max() < 0 or pixels[:, 0].min() > camera.width:
                    continue
                colour = tuple(float(value) for value in np.clip(colours[face], 0, 255))
                cv2.fillConvexPoly(image, _fixed(pixels), colour, cv2.LINE_AA, _SHIFT)


class _Body:
    """A thing's faces as arrays, ordered by layer."""

    def __init__(self, thing: Thing):
        self.thing = thing
        faces = sorted(thing.faces, key=lambda face: face.layer)
        self.corners = np.concatenate([face.corners for face in faces])
        self.starts = np.concatenate([[0], np.cumsum([len(face.corners) for face in faces])])
        self.colours = np.array([face.colour for face in faces], dtype=np.float64)
        self._points = np.array([face.corners[0] for face in faces])
        normals = np.array(
            [np.cross(f.corners[1] - f.corners[0], f.corners[2] - f.corners[1]) for f in faces]
        )
        self._normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)

    def facing(self, eye: np.ndarray) -> np.ndarray:
        """Which faces turn their outside to a point in the body's frame."""
        return np.einsum("ij,ij->i", self._normals, eye - self._points) > 1e-6

    def light(self, global_from_body: np.ndarray) -> np.ndarray:
        """Brightness of each face."""
        toward_sun = np.clip(self._normals @ (global_from_body[:3, :3].T @ _SUN), 0.0, 1.0)
        return _AMBIENT + (1.05 - _AMBIENT) * toward_sun


def _horizon_rows(camera: CameraCalibration, camera_from_global: np.ndarray) -> np.ndarray:
    """Return the horizon's rows at the left and the right image border."""
    # Rays of zero height: up . ray = 0, with up seen from the camera.
    up = camera_from_global[:3, 2]
    k = camera.intrinsics
    columns = np.array([0.0, camera.width - 1.0])
    slopes = (columns - k[0, 2]) / k[0, 0]
    return k[1, 2] - k[1, 1] * (up[0] * slopes + up[2]) / up[1]


def _clipped(polygon: np.ndarray, near: float) -> np.ndarray:
    """Cut (N, 3) corners in camera coordinates at depth ``near``."""
    kept = []
    for i in range(len(polygon)):
        current, following = polygon[i], polygon[(i + 1) % len(polygon)]
        if current[2] >= near:
            kept.append(current)
        if (current[2] >= near) != (following[2] >= near):
            fraction = (near - current[2]) / (following[2] - current[2])
            kept.append(current + fraction * (following - current))
    return np.array(kept).reshape(-1, 3)


def _fixed(pixels: np.ndarray) -> np.ndarray:
    return np.round(np.clip(pixels[:, :2], -30000, 30000) * 2**_SHIFT).astype(np.int32)
