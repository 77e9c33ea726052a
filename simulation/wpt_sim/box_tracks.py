"""Annotated boxes of a recorded scene as actors at any time between its keyframes."""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wpt_policy import se3
from wpt_scenes.annotations import MAX_VELOCITY_GAP_S
from wpt_scenes.scene_types import Box3D, Keyframe

from wpt_sim.world_state import Actor, ActorKind, Lights

# nuScenes categories by their beginning, the first that fits; others have no body in this world.
KINDS: tuple[tuple[str, ActorKind], ...] = (
    ("vehicle.car", ActorKind.CAR),
    ("vehicle.emergency", ActorKind.CAR),
    ("vehicle.truck", ActorKind.TRUCK),
    ("vehicle.trailer", ActorKind.TRUCK),
    ("vehicle.construction", ActorKind.TRUCK),
    ("vehicle.bus", ActorKind.BUS),
    ("vehicle.motorcycle", ActorKind.MOTORCYCLE),
    ("vehicle.bicycle", ActorKind.BICYCLE),
    ("human.pedestrian", ActorKind.PEDESTRIAN),
)
# Cameras fire up to 43 ms before their keyframe: boxes go on that long before their first and after their last one.
_BEYOND_NS = 100_000_000
_BRAKING = -0.6  # m/s2 that light the brake lamps
_STANDING = 0.2  # m/s


def kind_of(category: str) -> ActorKind | None:
    """Return what a nuScenes category is drawn as, None for one without a body here."""
    return next((kind for prefix, kind in KINDS if category.startswith(prefix)), None)


@dataclass(frozen=True)
class _Annotated:
    """One annotation, reduced to the ground. speed: along yaw, 0 where the tables tell none."""

    stamp_ns: int
    x: float
    y: float
    yaw: float
    vx: float
    vy: float
    parked: bool

    @property
    def speed(self) -> float:
        return self.vx * math.cos(self.yaw) + self.vy * math.sin(self.yaw)


class BoxTracks:
    """not_drawn: number of boxes by category that have no body."""

    def __init__(self, keyframes: Sequence[Keyframe]):
        self._tracks: dict[str, list[_Annotated]] = {}
        self._first: dict[str, Box3D] = {}
        missing: Counter[str] = Counter()
        for keyframe in keyframes:
            for box in keyframe.boxes:
                if kind_of(box.category) is None:
                    missing[box.category] += 1
                    continue
                self._first.setdefault(box.instance_token, box)
                x, y = box.global_from_box[:2, 3]
                vx, vy = np.nan_to_num(box.velocity[:2])
                self._tracks.setdefault(box.instance_token, []).append(
                    _Annotated(
                        keyframe.stamp_ns, float(x), float(y), se3.yaw_of(box.global_from_box), float(vx), float(vy),
                        "vehicle.parked" in box.attributes,
                    )
                )  # fmt: skip
        self.not_drawn: Mapping[str, int] = dict(missing.most_common())

    def actors_at(self, stamp_ns: int) -> tuple[Actor, ...]:
        """Return the actors at a stamp: boxes on a straight line between two annotations at most 1.5 s apart."""
        actors = (self._actor(name, track, stamp_ns) for name, track in self._tracks.items())
        return tuple(actor for actor in actors if actor is not None)

    def _actor(self, name: str, track: list[_Annotated], stamp_ns: int) -> Actor | None:
        after = bisect_right(track, stamp_ns, key=lambda entry: entry.stamp_ns)
        first, last = track[max(after - 1, 0)], track[min(after, len(track) - 1)]
        acceleration = 0.0
        if first is not last and last.stamp_ns - first.stamp_ns <= MAX_VELOCITY_GAP_S * 1e9:
            share = (stamp_ns - first.stamp_ns) / (last.stamp_ns - first.stamp_ns)
            x, y = first.x + share * (last.x - first.x), first.y + share * (last.y - first.y)
            yaw = first.yaw + share * math.remainder(last.yaw - first.yaw, math.tau)
            speed = first.speed + share * (last.speed - first.speed)
            acceleration = (last.speed - first.speed) / ((last.stamp_ns - first.stamp_ns) / 1e9)
        else:
            # Beyond an end (or in a gap): the nearer annotation, carried on by its own velocity for a moment.
            near = min((first, last), key=lambda entry: abs(entry.stamp_ns - stamp_ns))
            if abs(stamp_ns - near.stamp_ns) > _BEYOND_NS:
                return None
            seconds = (stamp_ns - near.stamp_ns) / 1e9
            x, y, yaw, speed = near.x + near.vx * seconds, near.y + near.vy * seconds, near.yaw, near.speed
        box = self._first[name]
        braking = (
            box.category.startswith("vehicle.") and not first.parked and (acceleration < _BRAKING or abs(speed) < _STANDING)
        )
        length, width, height = (float(value) for value in box.size_lwh)
        return Actor(
            id=name,
            kind=kind_of(box.category),
            x=x,
            y=y,
            yaw=math.remainder(yaw, math.tau),
            speed=speed,
            length=length,
            width=width,
            height=height,
            acceleration=acceleration,
            lights=Lights.BRAKE if braking else Lights.NONE,
            colour_seed=zlib.crc32(name.encode()),
            parked=first.parked,
        )
