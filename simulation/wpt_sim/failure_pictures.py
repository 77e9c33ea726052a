"""A look at what went wrong: a contact sheet (JPEG) or a film (MP4) of the seconds around a route's first
infraction.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wpt_policy.calibration import CameraRig

from wpt_sim.appearance import Appearance
from wpt_sim.bev_sketch import View, draw_from_above
from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.renderer import Renderer
from wpt_sim.renderer.rigs import nuscenes_rig
from wpt_sim.route_result import ENDS_THE_ROUTE, RouteResult
from wpt_sim.world_state import WorldState

KEPT_S = 0.1  # seconds between kept states
FRAMES, COLUMNS = 12, 4  # of a contact sheet
BEFORE_S, AFTER_S = 5.0, 0.6  # around an event
STANDSTILL_S = 30.0  # shown before the end of a route that was given up
CAMERA, WIDTH, HEIGHT = "cam_front", 480, 270
FORMATS = ("sheet", "mp4")
FILM_RATE = 10.0


class DriveRecorder:
    """Keeps a state every 0.1 s of one drive."""

    def __init__(self) -> None:
        self.states: list[WorldState] = []

    def see(self, state: WorldState) -> None:
        if not self.states or state.time_s - self.states[-1].time_s > KEPT_S - 1e-6:
            self.states.append(state)


def write_pictures(
    spec: EpisodeSpec,
    result: RouteResult,
    recorder: DriveRecorder,
    folder: Path,
    picture_format: str = "sheet",
) -> Path:
    """Write <folder>/<episode>.jpg or .mp4 and return its path. Raises SimulationError where it cannot be
    written.
    """
    if picture_format not in FORMATS:
        raise SimulationError(
            f"picture format {picture_format!r} is unknown: choose one of {', '.join(FORMATS)}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    states = _interesting(result, recorder.states)
    painter = _Painter(spec)
    if picture_format == "mp4":
        path = folder / f"{spec.name}.mp4"
        _write_film(path, [painter.paint(state) for state in states])
        return path
    chosen = [states[i] for i in np.unique(np.linspace(0, len(states) - 1, FRAMES).round().astype(int))]
    cells = [painter.paint(state) for state in chosen]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % COLUMNS)
    rows = [np.hstack(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
    sheet = np.vstack([_title(spec, result, rows[0].shape[1]), *rows])
    path = folder / f"{spec.name}.jpg"
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85]):
        raise SimulationError(f"{path} could not be written: check the folder and the disk.")
    return path


def _interesting(result: RouteResult, states: list[WorldState]) -> list[WorldState]:
    """The states around the first infraction; the last half minute where a route was only given up."""
    end = states[-1].time_s
    first = result.infractions[0] if result.infractions else None
    if first is None or first.kind in ENDS_THE_ROUTE:
        window = (end - STANDSTILL_S, end)
    else:
        window = (first.time_s - BEFORE_S, first.time_s + AFTER_S)
    return [state for state in states if window[0] <= state.time_s <= window[1]] or states[-1:]


class _Painter:
    """Front camera beside a view from above, with time and speed."""

    def __init__(self, spec: EpisodeSpec):
        self._spec = spec
        self._road_map, self._route = spec.road_map, spec.route
        rig = CameraRig([nuscenes_rig(WIDTH, HEIGHT)[CAMERA]])
        self._renderer = Renderer(self._road_map, rig, Appearance(spec.seed))

    def paint(self, state: WorldState) -> np.ndarray:
        front = self._renderer.render(state).images[CAMERA].copy()
        above = draw_from_above(
            self._road_map, self._route, state, View(ahead=30, behind=15, side=22.5, scale=6)
        )
        cell = np.hstack([front, above])
        cell[:, -1] = 255
        cell[-1] = 255
        text = f"{state.time_s:.1f} s  {3.6 * state.ego.speed:.0f} km/h"
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(cell, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, colour, thickness, cv2.LINE_AA)
        return cell


def _title(spec: EpisodeSpec, result: RouteResult, width: int) -> np.ndarray:
    lines = [
        f"{spec.name} on {spec.network}, {result.planner}: {result.status.value}, "
        f"{100 * result.completion:.0f} %"
    ]
    lines += [entry.sentence for entry in result.infractions[:3]]
    band = np.full((12 + 26 * len(lines), width, 3), 255, np.uint8)
    for i, line in enumerate(lines):
        cv2.putText(
            band, line, (10, 24 + 26 * i), cv2.FONT_HERSHEY_SIMPLEX, 0.62, (20, 20, 20), 1, cv2.LINE_AA
        )
    return band


def _write_film(path: Path, frames: list[np.ndarray]) -> None:
    height, width = (size - size % 2 for size in frames[0].shape[:2])  # codecs want even sizes
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FILM_RATE, (width, height))
    if not writer.isOpened():
        raise SimulationError(f"{path} cannot be written as MP4 by this OpenCV: take --video-format sheet.")
    for frame in frames:
        writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))
    writer.release()
