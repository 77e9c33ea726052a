"""Contacts of the ego with others and with the scenery, and which of them count as a collision.

The leaderboard's rules: a contact counts once; it is ignored while the ego is slower than 0.1 m/s, within 5 m
of the last counted one, and with the same object within 5 s. One rule is ours: a follower that runs into the
rear of an ego which it has been following for two seconds is at fault itself; such hits are listed apart and
not held against the ego.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wpt_sim.lane_position import box_meets_polygon, polygon_contains
from wpt_sim.road_map import RoadMap
from wpt_sim.route_result import InfractionKind
from wpt_sim.vehicles import EGO_LENGTH, EGO_WIDTH, actor_corners, boxes_overlap, ego_centre, ego_corners
from wpt_sim.world_state import Actor, ActorKind, EgoPose, WorldState

STANDING_SPEED = 0.1  # m/s
SAME_PLACE = 5.0  # metres
SAME_OBJECT_S = 5.0
TRUNK_RADIUS = 0.25  # metres, of a tree
FOLLOWING_S = 2.0  # so long must a follower have been behind to be at fault
FOLLOWING_RANGE = 40.0  # metres behind the ego
FOLLOWING_ANGLE = math.radians(45.0)
NEAR = 60.0  # metres; farther actors are not looked at


@dataclass(frozen=True, kw_only=True)
class Contact:
    """kind of collision, other's id or name, what it is in words, whether a follower caused it."""

    kind: InfractionKind
    actor: str
    description: str
    by_follower: bool = False


class ContactMonitor:
    """Watches one drive; call update once per tick."""

    def __init__(self, road_map: RoadMap):
        self._buildings = [
            (np.asarray(b.footprint, dtype=float), number) for number, b in enumerate(road_map.buildings)
        ]
        self._building_centres = np.array([polygon.mean(0) for polygon, _ in self._buildings]).reshape(-1, 2)
        self._building_radii = np.array([np.hypot(*(p - p.mean(0)).T).max() for p, _ in self._buildings])
        self._trees = np.array([tree.position for tree in road_map.trees], dtype=float).reshape(-1, 2)
        self._judged: set[str] = set()  # objects in contact now whose contact has been counted
        self._last_place: tuple[float, float] | None = None
        self._last_time: dict[str, float] = {}
        self._following_since: dict[str, float] = {}

    def update(self, state: WorldState) -> list[Contact]:
        """Return the contacts that count from this tick on."""
        ego, box = state.ego, ego_corners(state.ego)
        x, y = ego_centre(ego)
        near = [a for a in state.actors if abs(a.x - x) < NEAR and abs(a.y - y) < NEAR]
        touching: dict[str, Contact] = {}
        for actor in near:
            reach = 0.5 * (math.hypot(EGO_LENGTH, EGO_WIDTH) + math.hypot(actor.length, actor.width))
            if math.hypot(actor.x - x, actor.y - y) < reach and boxes_overlap(box, actor_corners(actor)):
                touching[actor.id] = self._contact_with(actor, ego, state.time_s)
        touching.update(self._scenery_contacts(box, x, y))
        self._watch_followers(near, ego, state.time_s)
        self._judged &= touching.keys()
        counted = []
        for name, contact in touching.items():
            if name in self._judged or not self._counts(name, ego, x, y, state.time_s):
                continue
            self._judged.add(name)
            self._last_time[name] = state.time_s
            if not contact.by_follower:  # being hit from behind must not hide what the ego hits next
                self._last_place = (x, y)
            counted.append(contact)
        return counted

    def _counts(self, name: str, ego: EgoPose, x: float, y: float, time_s: float) -> bool:
        if abs(ego.speed) < STANDING_SPEED:
            return False
        if self._last_place is not None and math.dist(self._last_place, (x, y)) < SAME_PLACE:
            return False
        return time_s - self._last_time.get(name, -math.inf) >= SAME_OBJECT_S

    def _contact_with(self, actor: Actor, ego: EgoPose, time_s: float) -> Contact:
        if actor.kind is ActorKind.PEDESTRIAN:
            kind = InfractionKind.COLLISION_PEDESTRIAN
        else:
            kind = InfractionKind.COLLISION_VEHICLE
        followed = time_s - self._following_since.get(actor.id, math.inf)
        at_fault = followed >= FOLLOWING_S and ego.speed >= 0.0 and actor.speed > ego.speed
        parked = "parked " if actor.parked else ""
        return Contact(
            kind=kind,
            actor=actor.id,
            by_follower=at_fault,
            description=f"{parked}{actor.kind.value} {actor.id}",
        )

    def _watch_followers(self, near: list[Actor], ego: EgoPose, time_s: float) -> None:
        """A follower drives behind the ego, in its direction, their widths overlapping."""
        x, y = ego_centre(ego)
        c, s = math.cos(ego.yaw), math.sin(ego.yaw)
        followers = {}
        for actor in near:
            if actor.kind is ActorKind.PEDESTRIAN or actor.parked:
                continue
            dx, dy = actor.x - x, actor.y - y
            ahead, left = c * dx + s * dy, -s * dx + c * dy
            aligned = abs(math.remainder(actor.yaw - ego.yaw, math.tau)) < FOLLOWING_ANGLE
            behind = -FOLLOWING_RANGE < ahead + 0.5 * (EGO_LENGTH + actor.length) < 0.5
            if aligned and behind and abs(left) < 0.5 * (EGO_WIDTH + actor.width):
                followers[actor.id] = self._following_since.get(actor.id, time_s)
        self._following_since = followers

    def _scenery_contacts(self, box: np.ndarray, x: float, y: float) -> dict[str, Contact]:
        reach = 0.5 * math.hypot(EGO_LENGTH, EGO_WIDTH)
        found = {}
        if len(self._buildings):
            distances = np.hypot(*(self._building_centres - (x, y)).T)
            for i in np.flatnonzero(distances < self._building_radii + reach):
                polygon, number = self._buildings[i]
                if box_meets_polygon(box, polygon):
                    name = f"building {number}"
                    found[name] = Contact(kind=InfractionKind.COLLISION_STATIC, actor=name, description=name)
        if len(self._trees):
            for i in np.flatnonzero(np.hypot(*(self._trees - (x, y)).T) < reach + TRUNK_RADIUS):
                if _circle_meets_box(box, self._trees[i], TRUNK_RADIUS):
                    name = f"tree {i}"
                    found[name] = Contact(kind=InfractionKind.COLLISION_STATIC, actor=name, description=name)
        return found


def _circle_meets_box(box: np.ndarray, centre: np.ndarray, radius: float) -> bool:
    if polygon_contains(box, *centre):
        return True
    for i in range(len(box)):
        start, along = box[i - 1], box[i] - box[i - 1]
        share = np.clip((centre - start) @ along / max(along @ along, 1e-12), 0.0, 1.0)
        if np.hypot(*(centre - start - share * along)) < radius:
            return True
    return False
