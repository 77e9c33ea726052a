"""What lies behind everything else in one camera's image: sky, hills at the horizon, and the ground with its
haze."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from wpt_policy.calibration import CameraCalibration
from wpt_scenes.factory.ground import GroundTexture

from wpt_sim.appearance import Appearance
from wpt_sim.renderer.camera_view import CameraView, clip_at_depth, fixed_point
from wpt_sim.renderer.ground import WINDOW_REACH_M

# elevation (rad), waves around the horizon, RGB in neutral light
_HILLS = ((0.035, 3.0, (150, 172, 186)), (0.018, 7.0, (122, 148, 132)))
_HILL_HAZE = 0.55
_EYE_HEIGHT_M = 1.5  # for the haze alone
_HORIZON_STEP = 2.0 * math.pi / 210  # rad between points of a ridge

# A level gives way to the next coarser one where a pixel covers this many of that one's cells along the view.
_CELLS_PER_PIXEL = 3.0
# Ground nearer than this share of the haze distance is left clear.
_CLEAR_SHARE = 0.1


class Backdrop:
    """Paints the background of one camera; what depends on the mount alone is made once."""

    def __init__(self, camera: CameraCalibration, appearance: Appearance, outside_colour: np.ndarray):
        self._camera = camera
        self._appearance = appearance
        self._outside = (*outside_colour.tolist(), 0.0)
        brightness = appearance.ambient + 0.5 * appearance.sun
        hills = (
            appearance.graded(np.array([colour for _, _, colour in _HILLS], dtype=np.float64)) * brightness
        )
        hazy = (1.0 - _HILL_HAZE) * hills + _HILL_HAZE * appearance.horizon
        self._hill_colours = [(*colour, 0.0) for colour in hazy.clip(0.0, 255.0).tolist()]
        self._half_width = _widest_angle(camera)
        self._up: np.ndarray | None = None

    def paint(self, canvas: np.ndarray, view: CameraView, levels: Sequence[GroundTexture]) -> None:
        """Fill the whole canvas (height, width, 4)."""
        self._prepare(view)
        canvas[: self._last_sky_row] = self._sky
        if self._first_ground_row < self._camera.height:
            self._paint_ground(canvas, view, levels)
            self._restore_sky_over_sloped_horizon(canvas)
            self._add_haze(canvas)
        self._paint_hills(canvas, view)

    def _prepare(self, view: CameraView) -> None:
        """Sky, horizon and haze depend on the way up in the camera, which stays while the ego stays level."""
        up = view.camera_from_map[:3, 2]
        if self._up is not None and np.array_equal(up, self._up):
            return
        camera = self._camera
        self._up = up.copy()
        k = camera.intrinsics
        columns = np.arange(camera.width)
        slopes = (columns - k[0, 2]) / k[0, 0]
        horizon = k[1, 2] - k[1, 1] * (up[0] * slopes + up[2]) / up[1]
        self._first_ground_row = int(np.clip(math.floor(horizon.min()), 0, camera.height))
        self._last_sky_row = int(np.clip(math.ceil(horizon.max()) + 1, 0, camera.height))
        rows = np.arange(self._last_sky_row)[:, None]
        above = np.clip((horizon[None, :] - rows) / (0.45 * k[1, 1]), 0.0, 1.0)[..., None] ** 0.7
        sky = (1.0 - above) * self._appearance.horizon + above * self._appearance.zenith
        self._sky = np.zeros((self._last_sky_row, camera.width, 4), dtype=np.uint8)
        self._sky[..., :3] = np.round(sky)
        band = np.arange(self._first_ground_row, self._last_sky_row)[:, None]
        self._sky_mask = np.repeat((band < horizon[None, :])[..., None], 4, axis=2) if band.size else None
        # Haze: share by the distance at which each row meets the ground.
        haze_rows = _EYE_HEIGHT_M * k[1, 1] / (_CLEAR_SHARE * self._appearance.haze_m)
        self._haze_end = int(np.clip(math.ceil(horizon.max() + haze_rows), 0, camera.height))
        below = np.arange(self._first_ground_row, self._haze_end)[:, None] - horizon[None, :]
        distance = _EYE_HEIGHT_M * k[1, 1] / np.maximum(below, 1e-3)
        share = 1.0 - np.exp(-distance / self._appearance.haze_m)
        edge = 1.0 - math.exp(-_CLEAR_SHARE)  # nothing jumps at the band's end
        share = np.clip((share - edge) / (1.0 - edge), 0.0, 1.0).astype(np.float32)
        self._clear = 1.0 - share
        self._haze = share
        self._haze_colour = np.zeros((*share.shape, 4), dtype=np.uint8)
        self._haze_colour[..., :3] = np.round(self._appearance.horizon)
        self._mean_horizon = float(np.mean(horizon))

    def _paint_ground(self, canvas: np.ndarray, view: CameraView, levels: Sequence[GroundTexture]) -> None:
        camera = self._camera
        image_from_ground = camera.intrinsics @ view.camera_from_map[:3, [0, 1, 3]]
        ground_from_image = np.linalg.inv(image_from_ground)
        top, middle = self._first_ground_row, self._mean_horizon
        reach = view.eye[2] * camera.intrinsics[1, 1]
        # Fine levels end where their window might: seen at the image's edge the same row is farther away.
        window_depth = (WINDOW_REACH_M - view.offset_from_ego) * math.cos(self._half_width)
        borders = [camera.height]
        for index, level in enumerate(levels[1:], start=1):
            depth = math.sqrt(_CELLS_PER_PIXEL * level.cell * reach)
            if index <= 2:
                depth = min(depth, window_depth)
            borders.append(int(np.clip(math.ceil(middle + reach / depth), top, borders[-1])))
        borders.append(top)
        for level, bottom, first in zip(levels, borders, borders[1:], strict=False):
            if first >= bottom:
                continue
            offset = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, first], [0.0, 0.0, 1.0]])
            cv2.warpPerspective(
                level.rgb,
                level.pixel_from_global() @ ground_from_image @ offset,
                (camera.width, bottom - first),
                dst=canvas[first:bottom],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=self._outside,
            )

    def _restore_sky_over_sloped_horizon(self, canvas: np.ndarray) -> None:
        """Above the horizon the ground's homography shows mirrored ground from behind."""
        if self._sky_mask is not None:
            band = slice(self._first_ground_row, self._last_sky_row)
            np.copyto(canvas[band], self._sky[band], where=self._sky_mask)

    def _add_haze(self, canvas: np.ndarray) -> None:
        if self._haze_end > self._first_ground_row:
            band = canvas[self._first_ground_row : self._haze_end]
            cv2.blendLinear(band, self._haze_colour, self._clear, self._haze, dst=band)

    def _paint_hills(self, canvas: np.ndarray, view: CameraView) -> None:
        azimuth = math.atan2(view.map_from_camera[1, 2], view.map_from_camera[0, 2])
        half = self._half_width + 0.1
        first, last = (
            math.floor((azimuth - half) / _HORIZON_STEP),
            math.ceil((azimuth + half) / _HORIZON_STEP),
        )
        wanted = np.arange(first, last + 1) % len(_FLAT)
        rotation = view.camera_from_map[:3, :3]
        for ridge, colour in zip(_RIDGES, self._hill_colours, strict=True):
            directions = np.concatenate([ridge[wanted], _FLAT[wanted[::-1]]])
            seen = directions @ rotation.T
            if seen[:, 2].min() <= 0.05:
                seen = clip_at_depth(seen, 0.05)
                if len(seen) < 3:
                    continue
            pixels = (seen / seen[:, 2:]) @ self._camera.intrinsics.T
            cv2.fillPoly(canvas, [fixed_point(pixels)], colour, cv2.LINE_8, 4)


def _directions(height: float, waves: float) -> np.ndarray:
    """Return (N, 3) directions to a ridge of hills, infinitely far away, all around by azimuth."""
    count = round(2.0 * math.pi / _HORIZON_STEP)
    angles = 2.0 * math.pi * np.arange(count) / count
    # Whole waves around the circle, so that the ridge closes.
    ridge = height * (0.55 + 0.3 * np.sin(waves * angles) + 0.15 * np.sin(round(2.7 * waves) * angles + 1.0))
    return np.column_stack([np.cos(angles), np.sin(angles), np.tan(ridge)])


_FLAT = _directions(0.0, 1.0)
_RIDGES = tuple(_directions(height, waves) for height, waves, _ in _HILLS)


def _widest_angle(camera: CameraCalibration) -> float:
    """The largest horizontal angle (rad) between a pixel's ray and the optical axis."""
    columns = np.array([0.0, camera.width - 1.0])
    return float(np.abs(np.arctan((columns - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0])).max())
