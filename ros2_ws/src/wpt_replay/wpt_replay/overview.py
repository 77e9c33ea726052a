"""One picture of a run: six camera images with the plan drawn in, and the same instant seen from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration
from wpt_policy.plan_drawing import draw_plan

# nuScenes' car (Renault Zoe), as its planning metrics draw it: 4.084 x 1.85 m, base_link on the rear axle (ST-P3).
EGO_LENGTH_M, EGO_WIDTH_M, EGO_REAR_OVERHANG_M = 4.084, 1.85, 1.05

# Colours are RGB, from a palette that colour-blind readers can tell apart (Okabe and Ito).
INK = (38, 42, 48)
PAPER = (250, 250, 248)
GRID = (226, 228, 230)
PLAN = (0, 158, 115)
TRUTH = (213, 94, 0)
CANDIDATE = (150, 190, 215)
EGO = (0, 114, 178)
OBJECT = (120, 124, 130)
DRIVABLE = (236, 238, 233)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LAYOUT = (("front_left", "front", "front_right"), ("back_left", "back", "back_right"))


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraPicture:
    """pixels: (H, W, 3) uint8 RGB at the calibration's size; None when there is no image.

    reference_from_camera_base: (4, 4), base_link at this image's exposure -> base_link at the reference stamp.
    """

    pixels: np.ndarray | None
    calibration: CameraCalibration
    reference_from_camera_base: np.ndarray = field(default_factory=lambda: np.eye(4))


@dataclass(frozen=True, kw_only=True, eq=False)
class OverviewBox:
    """reference_from_box: (4, 4) centre pose in base_link; size_lwh: (3,) metres; category: dataset name."""

    reference_from_box: np.ndarray
    size_lwh: np.ndarray
    category: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Overview:
    """What is drawn; all positions (N, 2) are metres in base_link at the reference stamp."""

    cameras: Mapping[str, CameraPicture]
    plan: np.ndarray
    truth: np.ndarray | None = None
    candidates: Sequence[np.ndarray] = ()
    boxes: Sequence[OverviewBox] = ()
    title: str = ""
    lines: Sequence[str] = ()


def draw_overview(overview: Overview, tile_width: int = 640) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB picture: title, six tiles in the rig's arrangement, view from above, figures."""
    tile_height = tile_width * 9 // 16
    rows = []
    for names in _arranged(tuple(overview.cameras)):
        tiles = [
            _camera_tile(name, overview.cameras[name], overview, tile_width, tile_height)
            if name is not None
            else np.full((tile_height, tile_width, 3), PAPER, np.uint8)
            for name in names
        ]
        rows.append(np.hstack(tiles))
    width = rows[0].shape[1]
    above_height = int(width * 0.36)
    panel_width = int(width * 0.30)
    above = draw_from_above(overview, width - panel_width, above_height)
    panel = np.full((above_height, panel_width, 3), PAPER, np.uint8)
    _write_panel(panel, overview)
    banner = np.full((max(44, width // 40), width, 3), INK, np.uint8)
    _text(banner, overview.title, (16, banner.shape[0] - 15), 0.75, PAPER, 1)
    return np.vstack([banner, *rows, np.hstack([above, panel])])


def draw_from_above(overview: Overview, width: int, height: int) -> np.ndarray:
    """Return the (height, width, 3) uint8 RGB view from above: x forward to the right, y left upwards."""
    forward, backward = _forward_extent(overview), 20.0
    scale = width / (forward + backward)
    canvas = np.full((height, width, 3), PAPER, np.uint8)

    def pixel(points: np.ndarray) -> np.ndarray:
        p = np.atleast_2d(points)
        return np.column_stack([(p[:, 0] + backward) * scale, height / 2 - p[:, 1] * scale])

    for metres in np.arange(-10 * (backward // 10), forward + 1, 10):
        column = int(pixel(np.array([metres, 0.0]))[0, 0])
        cv2.line(canvas, (column, 0), (column, height), GRID, 1)
        _text(canvas, f"{metres:.0f} m", (column + 4, height - 8), 0.45, OBJECT, 1)
    half = height / 2 / scale
    for metres in np.arange(-10 * (half // 10), half + 1, 10):
        row = int(pixel(np.array([0.0, metres]))[0, 1])
        cv2.line(canvas, (0, row), (width, row), GRID, 1)
    for box in overview.boxes:
        corners = _footprint(box.reference_from_box, box.size_lwh)
        if np.linalg.norm(corners, axis=1).min() < 1.5 * (forward + backward):
            _polygon(canvas, pixel(corners), OBJECT, filled="vehicle" in box.category)
            nose = 0.5 * (corners[0] + corners[1])
            _polyline(canvas, pixel(np.stack([corners.mean(0), nose])), OBJECT, 1)
    for candidate in overview.candidates:
        _polyline(canvas, pixel(candidate), CANDIDATE, 1)
    if overview.truth is not None and len(overview.truth):
        _polyline(canvas, pixel(overview.truth), TRUTH, 2)
        _dots(canvas, pixel(overview.truth), TRUTH, 5)
    _polyline(canvas, pixel(overview.plan), PLAN, 3)
    _dots(canvas, pixel(overview.plan), PLAN, 6)
    ego = np.array(
        [
            [EGO_LENGTH_M - EGO_REAR_OVERHANG_M, EGO_WIDTH_M / 2],
            [EGO_LENGTH_M - EGO_REAR_OVERHANG_M, -EGO_WIDTH_M / 2],
            [-EGO_REAR_OVERHANG_M, -EGO_WIDTH_M / 2],
            [-EGO_REAR_OVERHANG_M, EGO_WIDTH_M / 2],
        ]
    )
    _polygon(canvas, pixel(ego), EGO, filled=True)
    return canvas


def _arranged(names: tuple[str, ...]) -> list[list[str | None]]:
    """Place cameras as they look: ahead above, behind below; a rig with other names is laid out in its own order."""
    by_place = {
        place: name for row in _LAYOUT for place in row for name in names if name.lower().endswith(place)
    }
    placed = [[by_place.get(place) for place in row] for row in _LAYOUT]
    # "cam_front" also ends other names only by its own place; every camera must stand exactly once.
    flat = [name for row in placed for name in row if name is not None]
    if sorted(flat) == sorted(names):
        return placed
    padded = list(names) + [None] * (-len(names) % 3)
    return [padded[i : i + 3] for i in range(0, len(padded), 3)]


def _camera_tile(name: str, camera: CameraPicture, overview: Overview, width: int, height: int) -> np.ndarray:
    tile = np.full((height, width, 3), INK, np.uint8)
    if camera.pixels is None:
        _text(tile, f"{name}: no image", (16, height // 2), 0.7, PAPER, 1)
        return tile
    scale = min(width / camera.pixels.shape[1], height / camera.pixels.shape[0])
    size = (round(camera.pixels.shape[1] * scale), round(camera.pixels.shape[0] * scale))
    picture = cv2.resize(camera.pixels, size, interpolation=cv2.INTER_AREA)
    calibration = camera.calibration.resized(*size)
    moved = se3.inverse(camera.reference_from_camera_base)
    if overview.truth is not None and len(overview.truth) > 1:
        draw_plan(
            picture, calibration, overview.truth, colour=TRUTH, width_m=0.25, camera_base_from_plan_base=moved
        )
    draw_plan(picture, calibration, overview.plan, colour=PLAN, camera_base_from_plan_base=moved)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = picture
    cv2.rectangle(tile, (0, 0), (12 + 11 * len(name), 26), INK, -1)
    _text(tile, name, (8, 18), 0.5, PAPER, 1)
    return tile


def _write_panel(panel: np.ndarray, overview: Overview) -> None:
    row = 30
    for color, label, shown in (
        (PLAN, "plan", True),
        (TRUTH, "recorded truth", overview.truth is not None and len(overview.truth) > 0),
        (CANDIDATE, "candidates", len(overview.candidates) > 0),
        (OBJECT, "annotated objects", len(overview.boxes) > 0),
        (EGO, "ego", True),
    ):
        if shown:
            cv2.line(panel, (20, row - 5), (54, row - 5), color, 5, cv2.LINE_AA)
            _text(panel, label, (66, row), 0.55, INK, 1)
            row += 26
    row += 12
    for line in overview.lines:
        _text(panel, line, (20, row), 0.5, INK, 1)
        row += 23


def _forward_extent(overview: Overview) -> float:
    reach = float(np.abs(overview.plan).max()) if len(overview.plan) else 0.0
    if overview.truth is not None and len(overview.truth):
        reach = max(reach, float(np.abs(overview.truth).max()))
    return float(np.clip(1.25 * reach, 40.0, 120.0))


def _footprint(reference_from_box: np.ndarray, size_lwh: np.ndarray) -> np.ndarray:
    length, width = float(size_lwh[0]), float(size_lwh[1])
    corners = np.array(
        [[length, width, 0.0], [length, -width, 0.0], [-length, -width, 0.0], [-length, width, 0.0]]
    )
    return se3.apply(reference_from_box, corners / 2)[:, :2]


# cv2 drawing takes fixed-point coordinates: 1/16 pixel keeps lines smooth and slopes true.
_SHIFT = 4


def _fixed(pixels: np.ndarray) -> np.ndarray:
    return np.round(np.clip(pixels, -1e5, 1e5) * (1 << _SHIFT)).astype(np.int32)


def _polyline(canvas: np.ndarray, pixels: np.ndarray, color: tuple[int, int, int], thickness: int) -> None:
    cv2.polylines(canvas, [_fixed(pixels)], False, color, thickness, cv2.LINE_AA, _SHIFT)


def _polygon(canvas: np.ndarray, pixels: np.ndarray, color: tuple[int, int, int], filled: bool) -> None:
    if filled:
        pale = tuple(int(0.55 * c + 0.45 * p) for c, p in zip(color, PAPER, strict=True))
        cv2.fillPoly(canvas, [_fixed(pixels)], pale, cv2.LINE_AA, _SHIFT)
    cv2.polylines(canvas, [_fixed(pixels)], True, color, 1, cv2.LINE_AA, _SHIFT)


def _dots(canvas: np.ndarray, pixels: np.ndarray, color: tuple[int, int, int], radius: int) -> None:
    for x, y in _fixed(pixels):
        cv2.circle(canvas, (int(x), int(y)), radius << _SHIFT, PAPER, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, (int(x), int(y)), (radius - 2) << _SHIFT, color, -1, cv2.LINE_AA, _SHIFT)


def _text(
    canvas: np.ndarray,
    text: str,
    origin: tuple[int, int],
    scale: float,
    color: tuple[int, int, int],
    thickness: int,
) -> None:
    cv2.putText(canvas, text, origin, _FONT, scale, color, thickness, cv2.LINE_AA)
