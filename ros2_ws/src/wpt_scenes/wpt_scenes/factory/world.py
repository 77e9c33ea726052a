"""What stands and moves in the factory's street."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wpt_policy import se3

from wpt_scenes.factory import solids
from wpt_scenes.factory.ground import ROAD_LEFT, ROAD_RIGHT
from wpt_scenes.factory.route import LEAD_IN_M, LEAD_OUT_M, Route
from wpt_scenes.factory.solids import Face


@dataclass(frozen=True, eq=False)
class Thing:
    """One object. pose_at: time (s) -> (4, 4) global_from_box. faces: in its own (box) frame.

    size_lwh: of its annotation; None for what nuScenes does not annotate (houses, trees). radius: of a sphere
    around the origin that holds every corner.
    """

    name: str
    faces: tuple[Face, ...]
    pose_at: Callable[[float], np.ndarray]
    category: str = ""
    size_lwh: tuple[float, float, float] | None = None
    attribute: str = ""
    radius: float = 0.0


# s (m) of the zebra crossings; the pedestrian uses the first.
CROSSINGS_S = (44.0, 92.0)


def street(route: Route, seed: int) -> list[Thing]:
    """Return the things along a route; the seed varies colours and places a little."""
    rng = np.random.default_rng([seed, 3])
    return _traffic(route, rng) + _parked(route, rng) + _people(route, rng) + _scenery(route, rng)


def _traffic(route: Route, rng: np.random.Generator) -> list[Thing]:
    gap = 15.0 + rng.uniform(-1.0, 1.0)

    def leading(time_s: float) -> np.ndarray:
        # Repeats the ego's own speeds 0.6 s earlier, so the gap breathes: it brakes first and pulls away
        # first.
        return _standing(route.place(route.arc_at(time_s + 0.6) + gap, 0.0), 1.5)

    def oncoming(time_s: float) -> np.ndarray:
        return _standing(route.place(62.0 - 8.0 * time_s, 3.5, math.pi), 1.45)

    def second_oncoming(time_s: float) -> np.ndarray:
        return _standing(route.place(118.0 - 7.0 * time_s, 3.5, math.pi), 3.2)

    def following(time_s: float) -> np.ndarray:
        return _standing(route.place(route.arc_at(time_s - 0.5) - 11.0, 0.1), 1.55)

    return [
        _car("leading", leading, (4.5, 1.85, 1.5), (172, 38, 34), "vehicle.moving"),
        _car("oncoming", oncoming, (4.2, 1.80, 1.45), (40, 84, 160), "vehicle.moving"),
        _car("following", following, (4.6, 1.90, 1.55), (226, 226, 228), "vehicle.moving"),
        _boxed(
            "oncoming-truck", tuple(solids.truck(7.2, 2.4, 3.2, (48, 118, 84))), second_oncoming,
            "vehicle.truck", (7.2, 2.4, 3.2), "vehicle.moving",
        ),
    ]  # fmt: skip


def _parked(route: Route, rng: np.random.Generator) -> list[Thing]:
    colours = [
        (206, 178, 60),
        (60, 62, 66),
        (122, 138, 150),
        (92, 40, 70),
        (236, 236, 236),
        (30, 96, 110),
        (150, 90, 40),
    ]
    things = []
    for i, s in enumerate((-16.0, 9.0, 15.5, 32.0, 50.5, 57.0, 79.0)):
        size = (4.3 + rng.uniform(-0.3, 0.4), 1.8 + rng.uniform(-0.05, 0.1), 1.45 + rng.uniform(-0.05, 0.2))
        pose = _standing(route.place(s + rng.uniform(-0.6, 0.6), -3.1, rng.uniform(-0.03, 0.03)), size[2])
        things.append(_car(f"parked-{i}", _still(pose), size, colours[i], "vehicle.parked"))
    for i in range(3):
        pose = _standing(route.place(38.5 + 1.3 * i, -2.2 - 0.5 * i), 0.75)
        things.append(
            _boxed(
                f"cone-{i}",
                tuple(solids.cone(0.75)),
                _still(pose),
                "movable_object.trafficcone",
                (0.4, 0.4, 0.75),
                "",
            )
        )
    return things


def _people(route: Route, rng: np.random.Generator) -> list[Thing]:
    crossing_start = rng.uniform(-0.1, 0.1)

    def crossing(time_s: float) -> np.ndarray:
        # Half across at the start, behind the oncoming car, and out of the lane before the leading car comes.
        d = 2.2 - 1.6 * (time_s - crossing_start)
        return _standing(route.place(CROSSINGS_S[0] + 0.3, max(d, -6.2), -math.pi / 2), 1.75)

    def strolling(time_s: float) -> np.ndarray:
        return _standing(route.place(6.0 + 1.2 * time_s, -5.8), 1.68)

    def meeting(time_s: float) -> np.ndarray:
        return _standing(route.place(40.0 - 1.3 * time_s, 6.6, math.pi), 1.82)

    return [
        _person("crossing", crossing, 1.75, (224, 196, 60), (44, 52, 84)),
        _person("strolling", strolling, 1.68, (70, 120, 190), (60, 58, 60)),
        _person("meeting", meeting, 1.82, (186, 60, 60), (36, 36, 40)),
    ]


def _scenery(route: Route, rng: np.random.Generator) -> list[Thing]:
    walls = [
        (178, 122, 96),
        (204, 186, 152),
        (160, 152, 150),
        (190, 146, 120),
        (216, 206, 186),
        (148, 110, 98),
    ]
    greens = [(58, 96, 48), (70, 110, 52), (50, 86, 56)]
    things = []
    for side, edge in ((1.0, ROAD_LEFT + 2.8), (-1.0, ROAD_RIGHT - 3.0)):
        s, i = -LEAD_IN_M + 12.0, 0
        while s < route.end_s + LEAD_OUT_M - 12.0:
            length, depth = rng.uniform(9.0, 13.0), rng.uniform(8.0, 11.0)
            floors = int(rng.integers(2, 5))
            d = edge + side * (depth / 2 + rng.uniform(2.5, 6.0))
            pose = route.place(s + length / 2, d)
            if _clear_of_road(route, pose, length, depth):
                colour = walls[int(rng.integers(len(walls)))]
                faces = tuple(solids.house(length, depth, 3.1 * floors + 0.6, colour, floors))
                things.append(_scenery_thing(f"house-{side:+.0f}-{i}", faces, pose))
            if rng.uniform() < 0.75:
                tree_pose = route.place(s + length + 1.6, edge + side * 1.0)
                if _clear_of_road(route, tree_pose, 1.0, 1.0):
                    height = rng.uniform(4.5, 7.0)
                    faces = tuple(solids.tree(height, 0.32 * height, greens[int(rng.integers(len(greens)))]))
                    things.append(_scenery_thing(f"tree-{side:+.0f}-{i}", faces, tree_pose))
            s += length + rng.uniform(3.2, 9.0)
            i += 1
    return things


def _clear_of_road(route: Route, pose: np.ndarray, length: float, depth: float) -> bool:
    """Whether a footprint keeps 1.5 m from the road everywhere: inside a curve houses would meet it again."""
    corners = np.array(
        [(x, y) for x in np.linspace(-0.5, 0.5, 5) * length for y in np.linspace(-0.5, 0.5, 5) * depth]
    )
    points = corners @ pose[:2, :2].T + pose[:2, 3]
    line = route.line(0.5 * (ROAD_LEFT + ROAD_RIGHT), -LEAD_IN_M, route.end_s + LEAD_OUT_M, 1.0)
    distance = np.hypot(points[:, None, 0] - line[None, :, 0], points[:, None, 1] - line[None, :, 1]).min()
    return bool(distance > 0.5 * (ROAD_LEFT - ROAD_RIGHT) + 1.5)


def _standing(planar: np.ndarray, height: float) -> np.ndarray:
    """Lift a pose on the ground to the middle of a box of that height."""
    pose = planar.copy()
    pose[2, 3] = 0.5 * height
    return pose


def _still(pose: np.ndarray) -> Callable[[float], np.ndarray]:
    return lambda time_s: pose


def _car(
    name: str, pose_at, size: tuple[float, float, float], colour: solids.Colour, attribute: str
) -> Thing:
    return _boxed(name, tuple(solids.car(*size, colour)), pose_at, "vehicle.car", size, attribute)


def _person(name: str, pose_at, height: float, shirt: solids.Colour, trousers: solids.Colour) -> Thing:
    faces = tuple(solids.pedestrian(height, shirt, trousers, 0.4))
    size = (0.62, 0.60, height)
    return _boxed(name, faces, pose_at, "human.pedestrian.adult", size, "pedestrian.moving")


def _boxed(name, faces, pose_at, category, size, attribute) -> Thing:
    return Thing(
        name=name, faces=faces, pose_at=pose_at, category=category, size_lwh=size, attribute=attribute,
        radius=_radius(faces),
    )  # fmt: skip


def _scenery_thing(name: str, faces: tuple[Face, ...], pose: np.ndarray) -> Thing:
    return Thing(name=name, faces=faces, pose_at=_still(se3.require_rigid(pose, name)), radius=_radius(faces))


def _radius(faces: tuple[Face, ...]) -> float:
    return float(max(np.linalg.norm(face.corners, axis=1).max() for face in faces))
