"""Where the other road users of a scene are at any instant, from the annotations of its keyframes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wpt_policy import se3
from wpt_scenes.annotations import MAX_VELOCITY_GAP_S
from wpt_scenes.scene_types import Scene

# Beyond its first and last annotation an actor keeps its velocity for half a keyframe interval, then it is
# unknown.
KEPT_NS = 250_000_000
# Between two annotations further apart (the rule of box_velocity) nothing is known but near each of them.
_LARGEST_GAP_NS = round(MAX_VELOCITY_GAP_S * 1e9)


def is_movable(category: str) -> bool:
    """Whether a category is a road user: vehicles, cycles, people. Not cones, barriers, debris, animals, nor
    the ego.
    """
    return category.startswith(("vehicle.", "human.")) and category != "vehicle.ego"


def is_vulnerable(category: str) -> bool:
    """Whether a road user is a person on foot or on two wheels."""
    return category.startswith(("human.", "vehicle.bicycle", "vehicle.motorcycle"))


@dataclass(frozen=True, kw_only=True, eq=False)
class ActorsAt:
    """Actors at one instant in a base_link. number: (Q,) of the actor in the scene. boxes: (Q, 5) x, y, yaw,
    length, width.

    velocity: (Q, 2) m/s along that base_link's axes, relative to the ground.
    """

    number: np.ndarray
    boxes: np.ndarray
    velocity: np.ndarray


class ActorTracks:
    """The movable actors of a scene. vulnerable: (actors,) bool; instance_tokens: of each."""

    def __init__(self, scene: Scene):
        found: dict[str, list[tuple[int, np.ndarray, np.ndarray, np.ndarray, str]]] = {}
        for keyframe in scene.keyframes:
            for box in keyframe.boxes:
                if is_movable(box.category):
                    entry = (keyframe.stamp_ns, box.global_from_box, box.size_lwh, box.velocity, box.category)
                    found.setdefault(box.instance_token, []).append(entry)
        self.instance_tokens = tuple(found)
        self.vulnerable = np.array([is_vulnerable(entries[0][4]) for entries in found.values()], dtype=bool)
        rows = [(number, *entry) for number, entries in enumerate(found.values()) for entry in entries]
        self._number = np.array([row[0] for row in rows], dtype=np.int64)
        self._stamp = np.array([row[1] for row in rows], dtype=np.int64)
        self._place = np.array([row[2][:3, 3] for row in rows]).reshape(-1, 3)
        self._yaw = np.array([math.atan2(row[2][1, 0], row[2][0, 0]) for row in rows])
        self._size = np.array([row[3][:2] for row in rows]).reshape(-1, 2)
        velocity = np.array([row[4] for row in rows]).reshape(-1, 3)
        # A lone annotation tells no velocity: it is taken to stand, as long as it counts at all.
        self._velocity = np.where(np.isnan(velocity), 0.0, velocity)
        linked = self._number[1:] == self._number[:-1]
        linked &= self._stamp[1:] - self._stamp[:-1] <= _LARGEST_GAP_NS
        self._has_next = np.append(linked, False)[: len(rows)]
        self._has_previous = np.append(False, linked)[: len(rows)]

    def __len__(self) -> int:
        return len(self.instance_tokens)

    def at(self, stamp_ns: int, base_from_global: np.ndarray) -> ActorsAt:
        """Return the actors known at an instant, seen from a base_link (4, 4).

        Between two annotations place, heading (the short way), size and velocity are interpolated.
        """
        stamp = self._stamp
        between = np.flatnonzero(self._has_next & (stamp <= stamp_ns))
        between = between[stamp[between + 1] > stamp_ns]
        after = np.flatnonzero(~self._has_next & (stamp <= stamp_ns) & (stamp_ns - stamp <= KEPT_NS))
        before = np.flatnonzero(~self._has_previous & (stamp > stamp_ns) & (stamp - stamp_ns <= KEPT_NS))
        # An actor that comes back after a gap may be both; the annotation before is taken.
        before = before[~np.isin(self._number[before], self._number[after])]
        second = between + 1
        share = ((stamp_ns - stamp[between]) / np.maximum(stamp[second] - stamp[between], 1))[:, None]
        turn = (self._yaw[second] - self._yaw[between] + math.pi) % (2 * math.pi) - math.pi
        alone = np.concatenate([after, before])
        seconds = ((stamp_ns - stamp[alone]) / 1e9)[:, None]

        def mixed(values: np.ndarray) -> np.ndarray:
            return (1.0 - share) * values[between] + share * values[second]

        number = np.concatenate([self._number[between], self._number[alone]])
        place = np.concatenate([mixed(self._place), self._place[alone] + seconds * self._velocity[alone]])
        yaw = np.concatenate([self._yaw[between] + share[:, 0] * turn, self._yaw[alone]])
        size = np.concatenate([mixed(self._size), self._size[alone]])
        velocity = np.concatenate([mixed(self._velocity), self._velocity[alone]]) @ base_from_global[:3, :3].T
        forward = np.column_stack([np.cos(yaw), np.sin(yaw), np.zeros(len(yaw))]) @ base_from_global[:3, :3].T
        place = se3.apply(base_from_global, place)
        order = np.argsort(number, kind="stable")
        boxes = np.column_stack([place[:, :2], np.arctan2(forward[:, 1], forward[:, 0]), size])
        return ActorsAt(number=number[order], boxes=boxes[order], velocity=velocity[order, :2])
