"""Who blocks a junction together with a standing ego goes first after a while, if its way is free.

SUMO gives an ego inside a junction the same rights as its own drivers: a turning car that has begun its way
stops for it and waits until it has passed. An ego that waits for that car (it stands in its way) then waits
for ever; seen in 1 of 14 drives of one scenario, 60 s long, with three queues behind. SUMO's own remedy,
teleporting, is switched off.
"""

from __future__ import annotations

import math
from types import ModuleType

from wpt_sim.episode import DT
from wpt_sim.guard import JUNCTION_MARGIN, Obstacle, WayAhead, distance_to_obstacle
from wpt_sim.vehicles import box_corners, boxes_overlap

PATIENCE = 5.0  # seconds that a driver and the ego stand before the driver goes
NEAR = 25.0  # metres between the two
SIDE_GAP = 0.4  # metres to the ego's box at any part of the driver's own, also behind its front bumper
WALKING_PACE = 2.5  # m/s
FREE = 4.0  # metres that must be free ahead
ACCELERATION = 1.0  # m/s2
OWN_RULES = 31  # SUMO's default speed mode


class Courtesy:
    """Lets SUMO's drivers out of a junction in which they and the ego wait for each other."""

    def __init__(self, way: WayAhead, libsumo: ModuleType):
        self._way, self._vehicle = way, libsumo.vehicle
        self._stood: dict[str, float] = {}
        self._going: dict[str, float] = {}  # speed of those that go

    @property
    def active(self) -> bool:
        """Whether somebody is on its way out."""
        return bool(self._going)

    def before_step(
        self, names: list[str], half_widths: dict[str, float], ego: Obstacle, others: dict[str, Obstacle]
    ) -> None:
        """names: SUMO's own drivers near the ego; others: all vehicles' boxes. Call after the guard."""
        vehicle = self._vehicle
        for name in [n for n in self._going if n not in names or not vehicle.getLaneID(n).startswith(":")]:
            if name in names:
                vehicle.setSpeedMode(name, OWN_RULES)
                vehicle.setSpeed(name, -1)
            del self._going[name]
        for name in names:
            standing = vehicle.getSpeed(name) < 0.1 and abs(ego.speed) < 0.2
            lane = vehicle.getLaneID(name)
            if name not in self._going:
                if not (standing and lane.startswith(":") and self._close(others[name], ego)):
                    self._stood.pop(name, None)
                    continue
                self._stood[name] = self._stood.get(name, 0.0) + DT
                if self._stood[name] < PATIENCE:
                    continue
            points = self._way.points(lane, vehicle.getLanePosition(name), None, FREE + 2.0)
            near = [
                ego,
                *(
                    box
                    for other, box in others.items()
                    if other != name and self._close(box, others[name], 15.0)
                ),
            ]
            free = all(
                distance_to_obstacle(points, half_widths[name], box, JUNCTION_MARGIN) is None for box in near
            )
            speed = min(self._going.get(name, 0.0) + ACCELERATION * DT, WALKING_PACE) if free else 0.0
            free = free and not _boxes_near(others[name], ego)
            if free or name in self._going:
                self._stood.pop(name, None)
                self._going[name] = speed
                vehicle.setSpeedMode(name, 0)
                vehicle.setSpeed(name, speed)

    @staticmethod
    def _close(one: Obstacle, other: Obstacle, metres: float = NEAR) -> bool:
        return math.hypot(one.x - other.x, one.y - other.y) < metres


def _boxes_near(one: Obstacle, other: Obstacle) -> bool:
    """Whether two boxes come closer than SIDE_GAP."""
    first = box_corners(
        one.x, one.y, one.yaw, 2 * (one.half_length + SIDE_GAP), 2 * (one.half_width + SIDE_GAP)
    )
    return boxes_overlap(
        first, box_corners(other.x, other.y, other.yaw, 2 * other.half_length, 2 * other.half_width)
    )
