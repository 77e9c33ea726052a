"""How far along its route the ego has come, and how far it strayed, by the leaderboard's rules."""

from __future__ import annotations

import math

import numpy as np

from wpt_sim.route import SPACING, Route

LOOK_AHEAD = 2  # route points beyond the last passed one that are tried each tick
COMPLETE_SHARE = 0.99
GOAL_RANGE = 10.0  # metres
MAX_DISTANCE = 30.0  # metres off the route that end the drive at once
FAR_DISTANCE = 15.0  # metres off the route that may be driven for FAR_SHARE of its length
FAR_SHARE = 0.30
CHECKPOINTS = 20  # of the efficiency measure


class RouteProgress:
    """A route point counts as passed when the ego's centre is ahead of it along the route's direction there.

    passed: index of the last passed point. completion: 0..1 of the length. s: route metres of the ego's
    centre, for messages. off_route_distance: metres now; far_driven: metres driven farther than 15 m off.
    """

    def __init__(self, route: Route):
        self._route = route
        self._directions = np.stack([np.cos(route.headings), np.sin(route.headings)], axis=1)
        self.passed = 0
        self.s = 0.0
        self.off_route_distance = 0.0
        self.far_driven = 0.0
        self.complete = False

    def update(self, x: float, y: float, driven: float) -> None:
        """x, y: the ego's box centre (m); driven: metres since the last call."""
        points = self._route.points
        here = np.array([x, y])
        for i in range(self.passed + 1, min(self.passed + 1 + LOOK_AHEAD, len(points))):
            if float((here - points[i]) @ self._directions[i]) > 0.0:
                self.passed = i
        self.s, _ = self._route.project(x, y, near=self.passed * SPACING)
        self.off_route_distance = float(np.sqrt(((points - here) ** 2).sum(1).min()))
        if self.off_route_distance > FAR_DISTANCE:
            self.far_driven += driven
        near_goal = math.dist(points[-1], (x, y)) < GOAL_RANGE
        self.complete = self.complete or (self._share > COMPLETE_SHARE and near_goal)

    @property
    def _share(self) -> float:
        return self.passed / (len(self._route.points) - 1)

    @property
    def completion(self) -> float:
        return 1.0 if self.complete else self._share

    @property
    def off_route(self) -> bool:
        """Whether the ego has left its route for good."""
        return self.off_route_distance > MAX_DISTANCE or self.far_driven > FAR_SHARE * self._route.length


class TrafficSpeedRatios:
    """The ego's mean speed over that of the traffic around it, at up to 20 checkpoints along the route.

    ratios: one per checkpoint passed at which moving traffic was seen; not yet filtered (scoring drops values
    over 10).
    """

    def __init__(self, length: float):
        self._spacing = length / CHECKPOINTS
        self._reached = 0
        self._ego, self._traffic, self._samples = 0.0, 0.0, 0
        self.ratios: list[float] = []

    def update(self, s: float, ego_speed: float, traffic_speeds: list[float]) -> None:
        """s: route metres passed; speeds in m/s, of vehicles that are not parked."""
        if traffic_speeds:
            self._ego += ego_speed
            self._traffic += sum(traffic_speeds) / len(traffic_speeds)
            self._samples += 1
        while self._reached < CHECKPOINTS and s >= (self._reached + 1) * self._spacing - 1e-9:
            self._reached += 1
            if self._samples and self._traffic > 0.0:
                self.ratios.append(self._ego / self._traffic)
            self._ego, self._traffic, self._samples = 0.0, 0.0, 0
