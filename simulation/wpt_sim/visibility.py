"""Which actors the cameras see: at once from boxes (for the expert), and by pixels in nuScenes' four
levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraRig

from wpt_sim.drivable_raster import map_from_base
from wpt_sim.road_map import RoadMap
from wpt_sim.world_state import Actor, ActorKind, WorldState

if TYPE_CHECKING:
    from wpt_sim.renderer import Renderer

# Share of an object's pixels that are seen over all cameras, at which nuScenes' levels 2, 3 and 4 begin.
LEVEL_SHARES = (0.4, 0.6, 0.8)

CROWN_LOW = 0.32  # of a tree's height: where its crown begins, as it is drawn
_CROWN_HALF = 0.92  # of its radius

# Sample points of a box, in halves of its length and width: the outline and the middle, a little inside the
# box.
_PLACES = 0.9 * np.array(
    [[1, 1], [1, 0], [1, -1], [0, 1], [0, 0], [0, -1], [-1, 1], [-1, 0], [-1, -1]], dtype=np.float64
)
_HEIGHTS = np.array([0.25, 0.55, 0.85])

# What of an actor's box hides others, as drawn: (back, front, half width, low, high) in shares of length,
# width, height.
_WHOLE = ((-0.5, 0.5, 0.5, 0.0, 1.0),)
_SOLID_PARTS = {
    ActorKind.CAR: ((-0.5, 0.5, 0.5, 0.0, 0.57), (-0.44, 0.18, 0.43, 0.57, 1.0)),
    ActorKind.MOTORCYCLE: ((-0.5, 0.5, 0.12, 0.0, 0.5), (-0.12, 0.2, 0.4, 0.5, 0.82)),
    ActorKind.BICYCLE: ((-0.5, 0.5, 0.08, 0.0, 0.4), (-0.15, 0.2, 0.4, 0.4, 0.82)),
    ActorKind.PEDESTRIAN: ((-0.25, 0.25, 0.4, 0.0, 0.9),),
}
_PARALLEL = 1e-9


@dataclass(frozen=True, eq=False)
class _Prisms:
    """Upright convex bodies. footprints: (O, 4, 2) anticlockwise; low, high: (O,) metres; owners: (O,) actor
    index or -1."""

    footprints: np.ndarray
    low: np.ndarray
    high: np.ndarray
    owners: np.ndarray


def visible_actors(
    road_map: RoadMap,
    rig: CameraRig,
    state: WorldState,
    max_range: float = 60.0,
    pose: np.ndarray | None = None,
) -> frozenset[str]:
    """Return the ids of actors that some camera of the rig sees now.

    Seen: the box centre lies within ``max_range`` metres of base_link, and of 27 points of the box at least
    one lies in a camera's image with nothing between it and the lens: no solid part of another actor, no
    building, no tree crown. So a few visible pixels between two sample points can be missed, and a box counts
    where only its empty corner is seen; agreement with the instance mask is tested. pose: (4, 4)
    map_from_base instead of state.ego."""
    actors = state.actors
    if not actors:
        return frozenset()
    base = map_from_base(state.ego if pose is None else pose)
    values = np.array([(a.x, a.y, a.yaw, a.length, a.width, a.height) for a in actors], dtype=np.float64)
    distance = np.hypot(values[:, 0] - base[0, 3], values[:, 1] - base[1, 3])
    wanted = np.flatnonzero(distance <= max_range)
    if len(wanted) == 0:
        return frozenset()
    eyes, points, owners = _rays(rig, base, values[wanted])
    if len(points) == 0:
        return frozenset()
    owners = wanted[owners]
    reach = max_range + 20.0
    clear = ~_blocked_by(_actor_prisms(actors, values, distance <= reach), eyes, points, owners)
    scenery = _scenery_prisms(road_map)
    gap = np.abs(scenery.footprints[:, 0] - base[:2, 3]).max(axis=1, initial=0.0)
    nearby = gap <= reach + 30.0
    scenery = _Prisms(
        *(values[nearby] for values in (scenery.footprints, scenery.low, scenery.high, scenery.owners))
    )
    if clear.any() and len(scenery.low):
        clear[clear] = ~_blocked_by(scenery, eyes[clear], points[clear], owners[clear])
    return frozenset(actors[index].id for index in np.unique(owners[clear]).tolist())


def visibility_levels(
    renderer: Renderer,
    state: WorldState | Mapping[str, WorldState],
    poses: Mapping[str, np.ndarray] | None = None,
) -> dict[str, int]:
    """Return nuScenes' visibility level of every actor by id: 1 (0 to 40 %), 2 (to 60 %), 3 (to 80 %), 4 (to
    100 %).

    The share is pixels seen over pixels that the actor would cover with nothing before it, summed over all
    cameras; what lies outside every image counts on neither side. An actor outside all images has level 1, as
    in nuScenes."""
    rendered = renderer.render(state, poses)
    seen: dict[str, int] = {}
    whole: dict[str, int] = {}
    for name in renderer.rig:
        own = state if isinstance(state, WorldState) else state[name]
        count = len(own.actors)
        pixels = np.bincount(rendered.instance[name].ravel(), minlength=count + 1)[1:]
        alone = renderer.whole_pixels(name, own, None if poses is None else poses.get(name))
        for actor, visible, total in zip(own.actors, pixels.tolist(), alone.tolist(), strict=True):
            seen[actor.id] = seen.get(actor.id, 0) + visible
            whole[actor.id] = whole.get(actor.id, 0) + total
    return {
        name: 1 + sum(share_reached(seen[name], total, bound) for bound in LEVEL_SHARES)
        for name, total in whole.items()
    }


def share_reached(seen: int, whole: int, bound: float) -> bool:
    """Whether a share of pixels reaches a bound; nothing of nothing does not."""
    return whole > 0 and seen >= bound * whole


def _actor_prisms(actors: Sequence[Actor], values: np.ndarray, wanted: np.ndarray) -> _Prisms:
    """Return the solid parts of the wanted actors."""
    owners, parts = [], []
    for index in np.flatnonzero(wanted).tolist():
        for part in _SOLID_PARTS.get(actors[index].kind, _WHOLE):
            owners.append(index)
            parts.append(part)
    owner = np.array(owners, dtype=np.int64)
    part = np.array(parts, dtype=np.float64).reshape(-1, 5)
    local = np.stack(
        [part[:, [1, 0, 0, 1]], np.stack([part[:, 2], part[:, 2], -part[:, 2], -part[:, 2]], axis=1)], axis=-1
    )
    own = values[owner]
    return _Prisms(_placed(own, local), part[:, 3] * own[:, 5], part[:, 4] * own[:, 5], owner)


def _placed(values: np.ndarray, local: np.ndarray) -> np.ndarray:
    """Return (N, K, 2) map places of (K, 2) or (N, K, 2) places in a box, in units of its length and
    width."""
    c, s = np.cos(values[:, 2, None]), np.sin(values[:, 2, None])
    x, y = local[..., 0] * values[:, 3, None], local[..., 1] * values[:, 4, None]
    return np.stack([c * x - s * y, s * x + c * y], axis=-1) + values[:, None, :2]


def _rays(rig: CameraRig, base: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return eyes (R, 3), points (R, 3) in the map, and the box index (R,) of each sample point that is in an
    image."""
    places = _placed(values, 0.5 * _PLACES)
    count, per_height = places.shape[:2]
    points = np.empty((count, len(_HEIGHTS), per_height, 3))
    points[..., :2] = places[:, None]
    points[..., 2] = values[:, 5, None, None] * _HEIGHTS[None, :, None]
    points = points.reshape(-1, 3)
    owners = np.repeat(np.arange(count), len(_HEIGHTS) * per_height)
    eyes = np.empty_like(points)
    found = np.zeros(len(points), dtype=bool)
    for camera in rig.values():
        map_from_camera = base @ camera.base_from_camera
        matrix = se3.inverse(map_from_camera)
        seen = points @ matrix[:3, :3].T + matrix[:3, 3]
        k = camera.intrinsics
        depth = np.maximum(seen[:, 2], 1e-6)
        u = (k[0, 0] * seen[:, 0] + k[0, 1] * seen[:, 1]) / depth + k[0, 2]
        v = k[1, 1] * seen[:, 1] / depth + k[1, 2]
        inside = (
            (seen[:, 2] > 0.1)
            & (u > -0.5)
            & (u < camera.width - 0.5)
            & (v > -0.5)
            & (v < camera.height - 0.5)
            & ~found
        )
        eyes[inside] = map_from_camera[:3, 3]
        found |= inside
    return eyes[found], points[found], owners[found]


def _blocked_by(prisms: _Prisms, eyes: np.ndarray, points: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return (R,) bool: a prism that is not the point's owner's stands between eye and point."""
    middles = prisms.footprints.mean(axis=1)
    radii = np.hypot(*(prisms.footprints - middles[:, None]).transpose(2, 0, 1)).max(axis=1)
    # Two coarse trials seen from above leave few pairs for the exact one: actors by prisms, then rays by
    # prisms.
    eye, eye_reach = _circle(eyes[:, :2])
    actors, first, counts = np.unique(
        owners, return_index=True, return_counts=True
    )  # a target's rays lie together
    circles = [_circle(points[start : start + count, :2]) for start, count in zip(first, counts, strict=True)]
    centres = np.array([centre for centre, _ in circles])
    slack = np.array([reach for _, reach in circles])[:, None] + radii[None] + eye_reach
    near = _distance_to_segment(middles[None], eye, centres[:, None]) < slack
    target, prism = np.nonzero(near & (actors[:, None] != prisms.owners[None]))
    ray = np.repeat(first[target], counts[target]) + _counted(counts[target])
    prism = np.repeat(prism, counts[target])
    near = _distance_to_segment(middles[prism], eyes[ray, :2], points[ray, :2]) < radii[prism]
    ray, prism = ray[near], prism[near]
    result = np.zeros(len(eyes), dtype=bool)
    result[ray[_segments_hit(prisms, prism, eyes[ray], points[ray])]] = True
    return result


def _circle(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a centre (2,) and radius that hold all points (N, 2)."""
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    return centre, float(np.hypot(*(points - centre).T).max())


def _counted(counts: np.ndarray) -> np.ndarray:
    """Return 0, 1, ... for each count, one after another."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def _distance_to_segment(places: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the distances (...,) of places (..., 2) to segments; arguments broadcast."""
    way, gap = end - start, places - start
    squared = np.maximum(way[..., 0] ** 2 + way[..., 1] ** 2, 1e-12)
    share = np.clip((gap[..., 0] * way[..., 0] + gap[..., 1] * way[..., 1]) / squared, 0.0, 1.0)
    return np.hypot(gap[..., 0] - share * way[..., 0], gap[..., 1] - share * way[..., 1])


def _segments_hit(prisms: _Prisms, index: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return (K,) bool: the segment from start (K, 3) to end (K, 3) passes through prism index (K,)
    (Cyrus-Beck)."""
    corners = prisms.footprints[index]
    edges = np.roll(corners, -1, axis=1) - corners
    normals = np.stack([edges[..., 1], -edges[..., 0]], axis=-1)
    way = end - start
    # Signed distances beyond the four sides and above and below, at the start and their growth along the
    # segment.
    beyond = np.concatenate(
        [
            np.einsum("kec,kec->ke", normals, start[:, None, :2] - corners),
            (start[:, 2] - prisms.high[index])[:, None],
            (prisms.low[index] - start[:, 2])[:, None],
        ],
        axis=1,
    )
    growth = np.concatenate([np.einsum("kec,kc->ke", normals, way[:, :2]), way[:, 2:3], -way[:, 2:3]], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -beyond / growth
    enter = np.where(
        growth < -_PARALLEL, crossing, np.where((growth > _PARALLEL) | (beyond <= 0), -np.inf, np.inf)
    ).max(axis=1)
    leave = np.where(growth > _PARALLEL, crossing, np.inf).min(axis=1)
    return (enter < leave) & (enter < 1.0 - 1e-6) & (leave > 1e-6)


@lru_cache(maxsize=8)
def _scenery_prisms(road_map: RoadMap) -> _Prisms:
    """Buildings and tree crowns; trunks, masts and signs hide too little."""
    footprints = [np.asarray(building.footprint, dtype=np.float64) for building in road_map.buildings]
    low = [0.0] * len(footprints)
    high = [building.height for building in road_map.buildings]
    for tree in road_map.trees:
        half = _CROWN_HALF * tree.crown_radius
        footprints.append(np.asarray(tree.position) + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]))
        low.append(CROWN_LOW * tree.height)
        high.append(tree.height)
    owners = np.full(len(footprints), -1, dtype=np.int64)
    return _Prisms(np.array(footprints).reshape(-1, 4, 2), np.array(low), np.array(high), owners)
