"""Draws what the cameras of a rig see of a road map and a world state, with an exact instance mask.

A painter's renderer: sky and ground first, then bodies from far to near (``draw_order`` states what can be
wrong), faces turned away are left out. Images of at most SUPERSAMPLED_WIDTH pixels width are drawn twice as
large and reduced by area means; larger ones are drawn with OpenCV's smooth polygon edges. Deterministic: the
same arguments give the same bytes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from wpt_policy.calibration import CameraCalibration, CameraRig

from wpt_sim.appearance import Appearance
from wpt_sim.drivable_raster import map_from_base
from wpt_sim.renderer.backdrop import Backdrop
from wpt_sim.renderer.camera_view import CameraView
from wpt_sim.renderer.face_drawing import ActorArrays, FaceDrawing
from wpt_sim.renderer.ground import GroundSource, GroundView, map_ground
from wpt_sim.renderer.scenery import scenery_of
from wpt_sim.road_map import RoadMap
from wpt_sim.world_state import WorldState

SUPERSAMPLED_WIDTH = 704
_FACTOR = 2
_NOISE_MARGIN = 64  # the pattern is laid anew within these pixels in every image


@dataclass(frozen=True, eq=False)
class RenderedImage:
    """rgb: (H, W, 3) uint8. instance: (H, W) uint16, 0 where no actor is seen, else 1 + its index in
    state.actors."""

    rgb: np.ndarray
    instance: np.ndarray


@dataclass(frozen=True, eq=False)
class RenderedSet:
    """By camera in the rig's order: images (H, W, 3) uint8 RGB, instance masks (see RenderedImage), and the
    ids of the actors that a mask's values minus one index."""

    images: dict[str, np.ndarray]
    instance: dict[str, np.ndarray]
    actor_ids: dict[str, tuple[str, ...]]


class Renderer:
    """Renders one road map in one appearance with one rig.

    ground: another ground than the road map's own (see ``ground.mask_ground``). Not for use by several
    threads at once."""

    def __init__(
        self, road_map: RoadMap, rig: CameraRig, appearance: Appearance, *, ground: GroundSource | None = None
    ):
        self.road_map, self.rig, self.appearance = road_map, rig, appearance
        self._ground = GroundView(map_ground(road_map) if ground is None else ground, appearance)
        self._scenery = scenery_of(road_map)
        self._arrays: ActorArrays | None = None
        sizes = {(camera.width, camera.height) for camera in rig.values()}
        noise = {
            size: appearance.sensor_noise(size[0] + _NOISE_MARGIN, size[1] + _NOISE_MARGIN)
            for size in sorted(sizes)
        }
        self._cameras = {
            name: _Camera(camera, appearance, self._ground.outside_colour, noise[camera.width, camera.height])
            for name, camera in rig.items()
        }

    def render(
        self,
        state: WorldState | Mapping[str, WorldState],
        poses: Mapping[str, np.ndarray] | None = None,
    ) -> RenderedSet:
        """Render every camera of the rig.

        state: one for all cameras, or each camera's own (its exposure). poses: (4, 4) map_from_base of
        cameras whose ego is not level on the ground as state.ego says. Raises KeyError for a camera that has
        no state."""
        images, masks, ids = {}, {}, {}
        for name in self.rig:
            own = state if isinstance(state, WorldState) else state[name]
            rendered = self.render_camera(name, own, None if poses is None else poses.get(name))
            images[name], masks[name] = rendered.rgb, rendered.instance
            ids[name] = tuple(actor.id for actor in own.actors)
        return RenderedSet(images=images, instance=masks, actor_ids=ids)

    def render_camera(self, name: str, state: WorldState, pose: np.ndarray | None = None) -> RenderedImage:
        """Render one camera at the state's instant. pose: (4, 4) map_from_base instead of state.ego."""
        camera = self._cameras[name]
        base = map_from_base(state.ego if pose is None else pose)
        view = CameraView.at(camera.calibration, base)
        canvas = camera.canvas
        camera.backdrop.paint(canvas, view, self._ground.levels(base[0, 3], base[1, 3]))
        drawing = FaceDrawing(
            camera.calibration, view, self.appearance, self._actor_arrays(state), self._scenery, camera.factor
        )
        if camera.supersampled and drawing.actor_count <= 255:
            drawing.draw_with_identity(canvas)
            small = cv2.resize(canvas, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
            rgb = cv2.cvtColor(small, cv2.COLOR_RGBA2RGB)
            instance = drawing.mask_values[canvas[::_FACTOR, ::_FACTOR, 3]]
        else:
            instance = np.zeros(canvas.shape[:2], dtype=np.uint16)
            drawing.draw(canvas, instance, smooth=not camera.supersampled)
            rgb = cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB)
            if camera.supersampled:
                rgb = cv2.resize(rgb, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
                instance = instance[::_FACTOR, ::_FACTOR].copy()
        camera.add_noise(rgb, state.time_s)
        return RenderedImage(rgb=rgb, instance=instance)

    def whole_pixels(self, name: str, state: WorldState, pose: np.ndarray | None = None) -> np.ndarray:
        """Return (N,) int: pixels each actor would cover in the image of a camera with nothing before it."""
        camera = self._cameras[name]
        base = map_from_base(state.ego if pose is None else pose)
        view = CameraView.at(camera.calibration, base)
        drawing = FaceDrawing(
            camera.calibration, view, self.appearance, self._actor_arrays(state), None, camera.factor
        )
        counts = drawing.whole_pixels()
        return np.round(counts / camera.factor**2).astype(np.int64)

    def _actor_arrays(self, state: WorldState) -> ActorArrays:
        """The cameras of one set mostly share their state."""
        if self._arrays is None or self._arrays.state is not state:
            self._arrays = ActorArrays(state, self._scenery, self.appearance.lamps_on)
        return self._arrays


class _Camera:
    """A camera with what is kept between its images: the canvas, the backdrop, the noise."""

    def __init__(
        self,
        camera: CameraCalibration,
        appearance: Appearance,
        outside_colour: np.ndarray,
        noise: np.ndarray | None,
    ):
        self.width, self.height = camera.width, camera.height
        self.supersampled = camera.width <= SUPERSAMPLED_WIDTH
        self.factor = _FACTOR if self.supersampled else 1
        self.calibration = (
            camera.resized(self.factor * camera.width, self.factor * camera.height)
            if self.supersampled
            else camera
        )
        self.canvas = np.zeros((self.calibration.height, self.calibration.width, 4), dtype=np.uint8)
        self.backdrop = Backdrop(self.calibration, appearance, outside_colour)
        self._noise = noise
        self._offset = round(appearance.noise_offset)
        self._key = zlib.crc32(camera.name.encode())

    def add_noise(self, rgb: np.ndarray, time_s: float) -> None:
        """Add sensor noise in place: the same at the same time, another a moment later."""
        if self._noise is None:
            return
        draw = zlib.crc32(f"{self._key} {round(time_s * 1000)}".encode())
        top, left = draw % _NOISE_MARGIN, (draw >> 8) % _NOISE_MARGIN
        pattern = self._noise[top : top + self.height, left : left + self.width]
        cv2.add(rgb, pattern, dst=rgb)
        cv2.subtract(rgb, (self._offset,) * 3 + (0,), dst=rgb)
