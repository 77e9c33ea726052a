"""The faces that one camera sees, far to near, as polygons with colours; everything but the fill itself is
vectorised."""

from __future__ import annotations

import math

import cv2
import numpy as np

from wpt_policy.calibration import CameraCalibration

from wpt_sim.appearance import Appearance
from wpt_sim.renderer.body import (
    COLOUR,
    COUNT,
    GLOW,
    HEAD_LAMP,
    LAMP,
    LIT,
    NORMAL,
    PLANE,
    TAIL_LAMP,
    Body,
    FaceSet,
)
from wpt_sim.renderer.camera_view import NEAR_M, SHIFT, CameraView, clip_at_depth, fixed_point
from wpt_sim.renderer.draw_order import draw_order
from wpt_sim.renderer.scenery import Scenery
from wpt_sim.renderer.vehicle_bodies import body_of
from wpt_sim.world_state import WorldState

FARTHEST_M = 260.0  # nothing beyond is drawn
_DETAIL_PIXELS = 7.0  # image pixels that a thing's detail size must cover before its detailed faces are drawn
_ACTOR_DETAIL_M = 0.55
_SMALLEST_PIXELS = 0.6  # image pixels; faces smaller in both directions are left out
_SHADOW_SCALE = 1.03
_MASK_STRIPS = 60
_GLOW_HAZE = 0.35  # share of the haze that dims shining lamps


class ActorArrays:
    """One state as arrays: the actors' places (N, 2), cosines and sines (N, 2), footprints (N, 4, 2), heights
    (N,).

    shown: what each signal head shows.
    """

    def __init__(self, state: WorldState, scenery: Scenery, lamps_on: bool):
        self.state = state
        self.shown = scenery.shown(state.signals)
        actors = state.actors
        values = np.array(
            [(a.x, a.y, a.yaw, a.length, a.width, a.height) for a in actors], dtype=np.float64
        ).reshape(-1, 6)
        self.places = values[:, :2]
        self.turns = np.column_stack([np.cos(values[:, 2]), np.sin(values[:, 2])])
        half = 0.5 * values[:, 3:5]
        local = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])[None] * half[:, None]
        c, s = self.turns[:, 0, None], self.turns[:, 1, None]
        offsets = np.stack(
            [c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]], axis=-1
        )
        self.footprints = self.places[:, None] + offsets
        self.heights = values[:, 5]
        self.radii = 0.5 * np.linalg.norm(values[:, 3:6], axis=1)
        self.bodies: list[Body] = [body_of(actor) for actor in actors]
        always = (HEAD_LAMP | TAIL_LAMP) if lamps_on else 0
        self.lamps = np.array(
            [int(a.lights) | (0 if a.parked else always) for a in actors], dtype=np.uint8
        ).reshape(-1)


class FaceDrawing:
    """What one camera sees of scenery and actors.

    camera: of the canvas, ``factor`` times as large as the image. scenery: None leaves everything but the
    actors out.

    mask_values: (256,) uint16, from this image's own small numbers to 1 + the actor's index. actor_count:
    actors drawn."""

    def __init__(
        self,
        camera: CameraCalibration,
        view: CameraView,
        appearance: Appearance,
        actors: ActorArrays,
        scenery: Scenery | None,
        factor: int,
    ):
        self._factor = factor
        self._camera, self._view, self._appearance = camera, view, appearance
        self._actors, self._scenery = actors, scenery
        self._k = camera.intrinsics
        self._shadows: list[np.ndarray] = []
        standing = (
            self._candidates(scenery.centres, scenery.radii)
            if scenery is not None
            else np.zeros(0, dtype=np.int64)
        )
        centres = np.column_stack([actors.places, 0.5 * actors.heights])
        moving = self._candidates(centres, actors.radii)
        if len(standing):
            footprints = np.concatenate([scenery.footprints[standing], actors.footprints[moving]])
            low = np.concatenate([scenery.low[standing], np.zeros(len(moving))])
            high = np.concatenate([scenery.high[standing], actors.heights[moving]])
            detail = np.concatenate([scenery.detail_m[standing], np.full(len(moving), _ACTOR_DETAIL_M)])
        else:
            footprints, low, high = actors.footprints[moving], np.zeros(len(moving)), actors.heights[moving]
            detail = np.full(len(moving), _ACTOR_DETAIL_M)
        # Members: scenery by its index, actors by -1 - index.
        members = np.concatenate([standing, -1 - moving])
        self._collect(members, footprints, low, high, detail)

    def _candidates(self, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Indices of spheres that may be in the image."""
        if len(centres) == 0:
            return np.zeros(0, dtype=np.int64)
        m = self._view.camera_from_map
        seen = centres @ m[:3, :3].T + m[:3, 3]
        k, width = self._k, self._camera.width
        left, right = k[0, 2] / k[0, 0], (width - k[0, 2]) / k[0, 0]
        depth = np.maximum(seen[:, 2], 0.0)
        room = radii * 1.7
        return np.flatnonzero(
            (seen[:, 2] > -radii) & (seen[:, 2] < FARTHEST_M)
            & (seen[:, 0] < depth * right + room) & (seen[:, 0] > -depth * left - room)
        )  # fmt: skip

    def _collect(
        self,
        members: np.ndarray,
        footprints: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        detail: np.ndarray,
    ) -> None:
        """Find what is in the image and in which order it is drawn, then its faces."""
        self._polygons: list[np.ndarray] = []
        self._colours: list[list[float]] = []  # RGB and the actor's number in this image, 0 for scenery
        self.actor_count = 0
        self.mask_values = np.zeros(256, dtype=np.uint16)
        self._owners: list[int] = []
        count = len(members)
        if count == 0:
            return
        m, k = self._view.camera_from_map, self._k
        corners = np.empty((count, 8, 3))
        corners[:, :4, :2] = corners[:, 4:, :2] = footprints
        corners[:, :4, 2], corners[:, 4:, 2] = low[:, None], high[:, None]
        seen = corners @ m[:3, :3].T + m[:3, 3]
        depths = np.stack([seen[..., 2].min(axis=1), seen[..., 2].max(axis=1)], axis=1)
        safe = np.maximum(seen[..., 2], 1e-3)
        u = k[0, 0] * seen[..., 0] / safe + k[0, 1] * seen[..., 1] / safe + k[0, 2]
        v = k[1, 1] * seen[..., 1] / safe + k[1, 2]
        columns = np.stack([u.min(axis=1), u.max(axis=1)], axis=1)
        rows = np.stack([v.min(axis=1), v.max(axis=1)], axis=1)
        near = depths[:, 0] < NEAR_M
        columns[near], rows[near] = (-1e9, 1e9), (-1e9, 1e9)
        kept = (
            (depths[:, 1] > NEAR_M)
            & (columns[:, 1] > -1.0) & (columns[:, 0] < self._camera.width)
            & (rows[:, 1] > -1.0) & (rows[:, 0] < self._camera.height)
        )  # fmt: skip
        eye = self._view.eye
        kept_index = np.flatnonzero(kept)
        order = kept_index[
            draw_order(footprints[kept], low[kept], high[kept], columns[kept], depths[kept], eye)
        ]
        if len(order) == 0:
            return
        middle = np.maximum(0.5 * (depths[:, 0] + depths[:, 1]), 0.5)
        detailed = k[1, 1] * detail / middle > _DETAIL_PIXELS * self._factor
        self._add_shadows(seen[order[members[order] < 0], :4])
        self._add_faces(members[order], detailed[order], middle[order])

    def _add_shadows(self, ground: np.ndarray) -> None:
        """The dark ground under actors; ground: (N, 4, 3) corners of their boxes, camera frame, far first."""
        if len(ground) == 0:
            return
        middle = ground.mean(axis=1, keepdims=True)
        corners = middle + _SHADOW_SCALE * (ground - middle)
        nearest = corners[..., 2].min(axis=1)
        flat = corners.reshape(-1, 3)
        fixed = fixed_point((flat / np.maximum(flat[:, 2:], 1e-3)) @ self._k.T).reshape(-1, 4, 2)
        for index, near in enumerate((nearest < NEAR_M).tolist()):
            if not near:
                self._shadows.append(fixed[index])
                continue
            cut = clip_at_depth(corners[index], NEAR_M)
            if len(cut) >= 3:
                self._shadows.append(fixed_point((cut / cut[:, 2:]) @ self._k.T))

    def _add_faces(self, members: np.ndarray, detailed: np.ndarray, depth: np.ndarray) -> None:
        """Collect the faces of bodies in drawing order that look towards the lens."""
        view, actors, eye = self._view, self._actors, self._view.eye
        m = view.camera_from_map
        count = len(members)
        cosines, sines = np.ones(count), np.zeros(count)
        shift = np.zeros((count, 2))
        lamps = np.zeros(count, dtype=np.uint8)
        numbers = np.zeros(count, dtype=np.int64)
        moving = members < 0
        indices = -1 - members[moving]
        cosines[moving], sines[moving] = actors.turns[indices, 0], actors.turns[indices, 1]
        shift[moving] = actors.places[indices]
        lamps[moving] = actors.lamps[indices]
        self.actor_count = len(indices)
        self._owners = indices.tolist()
        numbers[moving] = np.arange(1, len(indices) + 1)
        if len(indices) <= 255:
            self.mask_values[1 : len(indices) + 1] = indices + 1
        # The eye in each body's frame.
        away = eye[:2] - shift
        eyes = np.column_stack(
            [
                cosines * away[:, 0] + sines * away[:, 1],
                -sines * away[:, 0] + cosines * away[:, 1],
                np.full(count, eye[2]),
            ]
        )
        shown = actors.shown
        sets: list[FaceSet] = []
        for member, fine, (x, y, _) in zip(members.tolist(), detailed.tolist(), eyes.tolist(), strict=True):
            if member < 0:
                sets.append(actors.bodies[-1 - member].faces(x, y, fine))
            else:
                sets.append(self._scenery.faces(member, fine, shown))
        owner = np.repeat(np.arange(count), [len(faces.table) for faces in sets])
        table = np.concatenate([faces.table for faces in sets])
        eye_of_face = eyes[owner]
        facing = np.einsum("fi,fi->f", table[:, NORMAL], eye_of_face) > table[:, PLANE] + 1e-6
        corner_mask = np.repeat(facing, table[:, COUNT].astype(np.int64))
        points = np.concatenate([faces.corners for faces in sets])[corner_mask]
        owner, table = owner[facing], table[facing]
        if len(owner) == 0:
            return
        counts = table[:, COUNT].astype(np.int64)
        # What stands has map coordinates; actors are turned and moved first. A body's points lie together.
        ends = np.cumsum(np.bincount(owner, weights=counts, minlength=count).astype(np.int64)).tolist()
        for i in np.flatnonzero(moving).tolist():
            own = slice(ends[i - 1] if i else 0, ends[i])
            c, s = cosines[i], sines[i]
            points[own, :2] = points[own, :2] @ np.array([[c, s], [-s, c]]) + shift[i]
        seen = points @ m[:3, :3].T + m[:3, 3]
        colours = np.empty((len(owner), 4))
        colours[:, :3] = self._coloured(table, lamps[owner], cosines[owner], sines[owner], depth[owner])
        colours[:, 3] = numbers[owner]
        self._project(seen, counts, colours)

    def _coloured(
        self,
        table: np.ndarray,
        lamps: np.ndarray,
        cosines: np.ndarray,
        sines: np.ndarray,
        depth: np.ndarray,
    ) -> np.ndarray:
        """Return (F, 3) RGB after light, tint and haze."""
        look = self._appearance
        sun = look.sun_direction
        sun_in_body = np.empty((len(table), 3))
        sun_in_body[:, 0] = cosines * sun[0] + sines * sun[1]
        sun_in_body[:, 1] = cosines * sun[1] - sines * sun[0]
        sun_in_body[:, 2] = sun[2]
        base = table[:, COLOUR]
        result = look.graded(base) * look.light_on(table[:, NORMAL], sun_in_body)[:, None]
        shining = (table[:, LAMP].astype(np.uint8) & lamps) != 0
        glow = table[:, GLOW] > 0.0
        result[shining] = table[shining, LIT]
        result[glow] = base[glow]
        haze = 1.0 - np.exp(depth * (-1.0 / look.haze_m))
        haze[shining | glow] *= _GLOW_HAZE
        result *= (1.0 - haze)[:, None]
        result += haze[:, None] * look.horizon
        return np.minimum(result, 255.0, out=result)

    def _project(self, seen: np.ndarray, counts: np.ndarray, colours: np.ndarray) -> None:
        """Keep the faces that cover something of the image, as polygons in pixels."""
        k, camera = self._k, self._camera
        ends = np.cumsum(counts)
        starts = ends - counts
        z = seen[:, 2]
        nearest = np.minimum.reduceat(z, starts)
        scale = 1.0 / np.maximum(z, 1e-3)
        pixels = np.empty((len(seen), 2))
        pixels[:, 0] = (k[0, 0] * seen[:, 0] + k[0, 1] * seen[:, 1]) * scale + k[0, 2]
        pixels[:, 1] = k[1, 1] * seen[:, 1] * scale + k[1, 2]
        low = np.minimum.reduceat(pixels, starts, axis=0)
        high = np.maximum.reduceat(pixels, starts, axis=0)
        size = high - low
        kept = (
            (low[:, 0] < camera.width)
            & (low[:, 1] < camera.height)
            & (high[:, 0] > -1.0)
            & (high[:, 1] > -1.0)
            & (np.maximum(size[:, 0], size[:, 1]) > _SMALLEST_PIXELS * self._factor)
        )
        cut = nearest < NEAR_M
        if cut.any():
            cut &= np.maximum.reduceat(z, starts) > NEAR_M  # else wholly behind the lens
            kept &= nearest >= NEAR_M
            kept |= cut
        fixed = fixed_point(pixels)
        chosen = np.flatnonzero(kept)
        self._colours = colours[chosen].tolist()
        bounds = zip(starts[chosen].tolist(), ends[chosen].tolist(), cut[chosen].tolist(), strict=True)
        for start, end, is_cut in bounds:
            if is_cut:
                polygon = clip_at_depth(seen[start:end], NEAR_M)
                self._polygons.append(fixed_point((polygon / polygon[:, 2:]) @ k.T))
            else:
                self._polygons.append(fixed[start:end])

    def _shadow_colour(self) -> tuple[float, float, float, float]:
        colour = np.clip(np.array([46.0, 46.0, 50.0]) @ self._appearance.ground_matrix().T * 0.8, 0.0, 255.0)
        return (*colour.tolist(), 0.0)

    def draw_with_identity(self, canvas: np.ndarray) -> None:
        """Draw on a (H, W, 4) canvas with hard edges; the fourth channel gets the mask's small numbers."""
        colour = self._shadow_colour()
        for polygon in self._shadows:
            cv2.fillConvexPoly(canvas, polygon, colour, cv2.LINE_8, SHIFT)
        fill, line = cv2.fillConvexPoly, cv2.LINE_8
        for polygon, colour in zip(self._polygons, self._colours, strict=True):
            fill(canvas, polygon, colour, line, SHIFT)

    def draw(self, canvas: np.ndarray, instance: np.ndarray, smooth: bool) -> None:
        """Draw on a (H, W, 4) canvas, whose fourth channel gets no meaning, and on a (H, W) uint16 instance
        mask."""
        line = cv2.LINE_AA if smooth else cv2.LINE_8
        colour = self._shadow_colour()
        for polygon in self._shadows:
            cv2.fillConvexPoly(canvas, polygon, colour, line, SHIFT)
        fill, hard = cv2.fillConvexPoly, cv2.LINE_8
        # Columns, in strips, that hold some of an actor: scenery elsewhere hides nothing.
        strip = (self._camera.width // _MASK_STRIPS + 1) * 2**SHIFT
        touched = 0
        for polygon, colour in zip(self._polygons, self._colours, strict=True):
            fill(canvas, polygon, colour, line, SHIFT)
            number = int(colour[3])
            if not number and not touched:
                continue
            columns = polygon[:, 0]
            first = min(max(int(columns.min()) // strip - 1, 0), _MASK_STRIPS)
            last = min(max(int(columns.max()) // strip + 1, 0), _MASK_STRIPS)
            bits = (2 << last) - (1 << first)
            if number:
                touched |= bits
                fill(instance, polygon, self._owners[number - 1] + 1, hard, SHIFT)
            elif bits & touched:
                fill(instance, polygon, 0, hard, SHIFT)

    def whole_pixels(self) -> np.ndarray:
        """Return (N,) canvas pixels that each actor's faces cover, whatever else is drawn over them."""
        height, width = self._camera.height, self._camera.width
        result = np.zeros(len(self._actors.bodies), dtype=np.int64)
        by_actor: dict[int, list[np.ndarray]] = {}
        for polygon, colour in zip(self._polygons, self._colours, strict=True):
            if colour[3] > 0:
                by_actor.setdefault(self._owners[int(colour[3]) - 1], []).append(polygon)
        for actor, polygons in by_actor.items():
            corners = np.concatenate(polygons) / 2**SHIFT
            left, top = (max(0, math.floor(value) - 1) for value in corners.min(axis=0))
            right = min(width, math.ceil(corners[:, 0].max()) + 2)
            bottom = min(height, math.ceil(corners[:, 1].max()) + 2)
            if left >= right or top >= bottom:
                continue
            scratch = np.zeros((bottom - top, right - left), dtype=np.uint8)
            origin = np.array([left, top], dtype=np.int32) * 2**SHIFT
            for polygon in polygons:
                cv2.fillConvexPoly(scratch, polygon - origin, 1, cv2.LINE_8, SHIFT)
            result[actor] = int(np.count_nonzero(scratch))
        return result
