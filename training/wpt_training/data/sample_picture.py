"""A training sample as one picture: what the network sees, and all that is known about it, from above.
Colours are RGB.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.batch import MOVING, SIGNAL_STATES, VEHICLE, VULNERABLE, Batch
from wpt_training.data.occupancy_truth import occupancy_grid

_OFF_ROAD, _ROAD = (46, 50, 56), (112, 116, 122)
_LANE, _ROUTE, _FUTURE, _EGO_EDGE = (170, 176, 186), (250, 214, 60), (60, 235, 110), (90, 200, 255)
_VEHICLE_EDGE, _VULNERABLE_EDGE = (255, 255, 255), (255, 110, 230)
_SIGNAL = {"green": (40, 220, 80), "yellow": (250, 210, 40), "red": (250, 50, 50)}
_OUT_OF_SIGHT = 0.55  # brightness left
_BLACK, _TEXT = (18, 20, 24), (232, 236, 240)
_FONT, _TEXT_PX = cv2.FONT_HERSHEY_SIMPLEX, 22
# Cameras as one looks around, three a row, where a rig has these.
_SHEET_ORDER = (
    "cam_front_left",
    "cam_front",
    "cam_front_right",
    "cam_back_left",
    "cam_back",
    "cam_back_right",
)
_EGO = EgoFootprint()


def draw_sample(batch: Batch, config: ExperimentConfig, lines: list[str]) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB picture of a batch of one. lines: of text, in ASCII."""
    grid = occupancy_grid(config.student, config.data)
    sheet = _contact_sheet(batch, config)
    # Cells in whole pixels, the panel about 960 pixels high whatever the grid.
    above = _view_from_above(batch, grid, max(1, 960 // grid.shape[0]))
    strip = _time_strip(batch, grid, config.student.plan.dt_s, above.shape[0])
    below = np.concatenate([above, _blank(above.shape[0], 12), strip], axis=1)
    width = max(sheet.shape[1], below.shape[1])
    parts = [_padded(part, width) for part in (sheet, below, _legend(batch, width), _text(lines, width))]
    return np.concatenate(parts)


def time_colours(count: int) -> list[tuple[int, int, int]]:
    """Return RGB colours of the present and of later steps, blue to red."""
    ramp = cv2.applyColorMap(np.linspace(40, 230, count).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)
    return [tuple(int(value) for value in colour[0, ::-1]) for colour in ramp]


def _contact_sheet(batch: Batch, config: ExperimentConfig) -> np.ndarray:
    names = config.student.cameras
    order = _SHEET_ORDER if set(names) == set(_SHEET_ORDER) else names
    scale = max(1, round(480 / config.student.image_input.width))
    tiles = []
    for name in order:
        number = names.index(name)
        image = batch.images[0, 0, number].numpy()
        tile = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        there = bool(batch.camera_mask[0, 0, number])
        cv2.putText(
            tile,
            name if there else f"{name}: no image",
            (8, tile.shape[0] - 10),
            _FONT,
            0.5,
            _TEXT,
            1,
            cv2.LINE_AA,
        )
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 3)
    return np.concatenate([np.concatenate(tiles[i : i + 3], axis=1) for i in range(0, len(tiles), 3)])


class _Above:
    """Drawing in metres on a picture whose up is forward and whose left is left."""

    def __init__(self, grid: BevGrid, cell_px: int, colours: np.ndarray):
        """colours: (X, Y, 3) uint8 of the cells."""
        self._corner = np.array([grid.x_range_m[1], grid.y_range_m[1]])
        self._px_per_m = cell_px / grid.cell_m
        self.image = np.ascontiguousarray(colours[::-1, ::-1].repeat(cell_px, axis=0).repeat(cell_px, axis=1))

    def _pixels(self, places: np.ndarray) -> np.ndarray:
        away = (self._corner - np.asarray(places, dtype=np.float64)) * self._px_per_m - 0.5
        return np.round(away[..., ::-1] * 16).astype(np.int32)

    def line(
        self, places: np.ndarray, colour: tuple[int, int, int], thickness: int = 1, closed: bool = False
    ) -> None:
        places = np.asarray(places)
        places = places[np.isfinite(places).all(axis=1)]
        if len(places) > 1:
            cv2.polylines(self.image, [self._pixels(places)], closed, colour, thickness, cv2.LINE_AA, 4)

    def dot(self, place: np.ndarray, colour: tuple[int, int, int], radius: int = 4) -> None:
        centre = self._pixels(place)
        cv2.circle(self.image, (int(centre[0]), int(centre[1])), radius * 16, colour, -1, cv2.LINE_AA, 4)


def _base_colours(batch: Batch) -> np.ndarray:
    """The ground (X, Y, 3): road or not, darker out of sight."""
    colours = np.where(batch.drivable[0].numpy()[..., None], np.array(_ROAD), np.array(_OFF_ROAD))
    bright = np.where(batch.visible[0].numpy(), 1.0, _OUT_OF_SIGHT)[..., None]
    return (colours * bright).astype(np.uint8)


def _view_from_above(batch: Batch, grid: BevGrid, cell_px: int) -> np.ndarray:
    occupancy, frames = batch.occupancy[0].numpy(), batch.occupancy.shape[1]
    colours, ramp = _base_colours(batch), time_colours(batch.occupancy.shape[1])
    for step in range(frames - 1, -1, -1):  # the present on top
        occupied = (occupancy[step] & (VEHICLE | VULNERABLE)) != 0
        share = 0.85 if step == 0 else 0.6
        colours[occupied] = (share * np.array(ramp[step]) + (1 - share) * colours[occupied]).astype(np.uint8)
    view = _Above(grid, cell_px, colours)
    _draw_lanes(view, batch.lane_direction[0].numpy(), grid)
    view.line(batch.route[0].numpy(), _ROUTE, 2)
    signal = SIGNAL_STATES[int(batch.signal[0])]
    if signal in _SIGNAL:
        view.line(batch.stop_line[0].numpy(), _SIGNAL[signal], 5)
    for actor in np.flatnonzero(batch.box_valid[0, 0].numpy()):
        box, velocity = batch.boxes[0, 0, actor].numpy(), batch.box_velocity[0, 0, actor].numpy()
        colour = _VULNERABLE_EDGE if batch.box_vulnerable[0, actor] else _VEHICLE_EDGE
        view.line(box_corners(box), colour, 1, closed=True)
        view.line(np.stack([box[:2], box[:2] + velocity]), colour, 1)
    view.line(box_corners(_ego_box(np.zeros(3))), _EGO_EDGE, 2, closed=True)
    future = batch.future[0, batch.future_valid[0]].numpy()
    view.line(np.concatenate([np.zeros((1, 2)), future[:, :2]]), _FUTURE, 2)
    for pose in future:
        view.dot(pose[:2], _FUTURE)
        view.line(box_corners(_ego_box(pose)), _FUTURE, 1, closed=True)
    return view.image


def _ego_box(pose: np.ndarray) -> np.ndarray:
    """Return x, y, yaw, length, width of the ego with base_link at x, y, yaw."""
    ahead = _EGO.centre_ahead_m * np.array([math.cos(pose[2]), math.sin(pose[2])])
    return np.array([*(pose[:2] + ahead), pose[2], _EGO.length_m, _EGO.width_m])


def box_corners(box: np.ndarray) -> np.ndarray:
    """Return (4, 2) corners of x, y, yaw, length, width."""
    cosine, sine = math.cos(box[2]), math.sin(box[2])
    unit = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * 0.5 * box[3:5]
    return box[:2] + unit @ np.array([[cosine, sine], [-sine, cosine]])


def _draw_lanes(view: _Above, direction: np.ndarray, grid: BevGrid) -> None:
    """A stroke with a head every 4 m where a direction is known."""
    every = max(1, round(4.0 / grid.cell_m))
    for i in range(every // 2, grid.shape[0], every):
        for j in range(every // 2, grid.shape[1], every):
            if math.isfinite(direction[i, j]):
                place = np.array(
                    [
                        grid.x_range_m[0] + (i + 0.5) * grid.cell_m,
                        grid.y_range_m[0] + (j + 0.5) * grid.cell_m,
                    ]
                )
                ahead = np.array([math.cos(direction[i, j]), math.sin(direction[i, j])])
                left = np.array([-ahead[1], ahead[0]])
                tip = place + 0.9 * ahead
                view.line(np.stack([place - 0.9 * ahead, tip]), _LANE)
                view.line(
                    np.stack([tip - 0.5 * ahead + 0.35 * left, tip, tip - 0.5 * ahead - 0.35 * left]), _LANE
                )


def _time_strip(batch: Batch, grid: BevGrid, dt_s: float, height: int) -> np.ndarray:
    """Occupancy of each time beside each other, two rows: vehicles and vulnerable by their edge's colour,
    moving ones full.
    """
    frames, ramp = batch.occupancy.shape[1], time_colours(batch.occupancy.shape[1])
    cell_px = max(1, (height // 2 - 30) // grid.shape[0])
    tiles = []
    for step in range(frames):
        bits = batch.occupancy[0, step].numpy()
        colours = _base_colours(batch) // 2
        for bit, colour in ((VEHICLE, _VEHICLE_EDGE), (VULNERABLE, _VULNERABLE_EDGE)):
            occupied = (bits & bit) != 0
            moving = occupied & ((bits & MOVING) != 0)
            colours[occupied] = (0.6 * np.array(colour)).astype(np.uint8)
            colours[moving] = colour
        view = _Above(grid, cell_px, colours)
        if step > 0 and batch.future_valid[0, step - 1]:
            view.dot(batch.future[0, step - 1, :2].numpy(), _FUTURE, 3)
        view.dot(np.zeros(2), _EGO_EDGE, 2)
        known = step == 0 or bool(batch.future_valid[0, step - 1])
        title = np.full((26, view.image.shape[1], 3), _BLACK, dtype=np.uint8)
        text = f"+{step * dt_s:.1f} s" + ("" if known else " unknown")
        cv2.putText(title, text, (4, 19), _FONT, 0.5, ramp[step], 1, cv2.LINE_AA)
        tiles.append(_framed(np.concatenate([title, view.image])))
    tiles += [np.full_like(tiles[0], _BLACK)] * (len(tiles) % 2)
    half = len(tiles) // 2
    strip = np.concatenate([np.concatenate(tiles[:half], axis=1), np.concatenate(tiles[half:], axis=1)])
    return np.concatenate([strip, _blank(max(0, height - len(strip)), strip.shape[1])])[:height]


def _legend(batch: Batch, width: int) -> np.ndarray:
    entries = [
        ("ego and true future", _FUTURE), ("route", _ROUTE), ("vehicle", _VEHICLE_EDGE),
        ("vulnerable", _VULNERABLE_EDGE), ("lane direction", _LANE), ("dark: out of sight", (150, 150, 150)),
    ]  # fmt: skip
    image, x = _blank(28, width), 8
    for text, colour in entries:
        cv2.putText(image, text, (x, 20), _FONT, 0.5, colour, 1, cv2.LINE_AA)
        x += 24 + cv2.getTextSize(text, _FONT, 0.5, 1)[0][0]
    for step, colour in enumerate(time_colours(batch.occupancy.shape[1])):
        text = "now" if step == 0 else f"+{step}"
        cv2.putText(image, text, (x, 20), _FONT, 0.5, colour, 1, cv2.LINE_AA)
        x += 14 + cv2.getTextSize(text, _FONT, 0.5, 1)[0][0]
    return image


def _text(lines: list[str], width: int) -> np.ndarray:
    image = _blank(_TEXT_PX * len(lines) + 10, width)
    for number, line in enumerate(lines):
        cv2.putText(image, line, (8, _TEXT_PX * (number + 1) - 4), _FONT, 0.5, _TEXT, 1, cv2.LINE_AA)
    return image


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _BLACK, dtype=np.uint8)


def _framed(image: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(image, 0, 4, 0, 6, cv2.BORDER_CONSTANT, value=_BLACK)


def _padded(image: np.ndarray, width: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, 0, 0, 0, width - image.shape[1], cv2.BORDER_CONSTANT, value=_BLACK)
