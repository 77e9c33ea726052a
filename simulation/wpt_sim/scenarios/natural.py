"""Natural traffic: a random route through a junction, with others that follow SUMO's rules and no script."""

from __future__ import annotations

from typing import Any

import numpy as np

from wpt_sim.road_map import RoadMap
from wpt_sim.route import RouteError, build_route, lane_chain_around
from wpt_sim.scenarios.script import Scenario


class Natural(Scenario):
    @staticmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        connection = road_map.connections[int(rng.integers(len(road_map.connections)))]
        around = lane_chain_around(road_map, connection, rng.uniform(40, 110), rng.uniform(40, 100), rng)
        if around is None:
            return None
        lanes, start = around
        length = float(rng.uniform(110, 220))
        try:
            route = build_route(road_map, lanes, start, length)
        except RouteError:
            return None
        if route.length < 80.0:
            return None
        return dict(
            lanes=tuple(lanes),
            start=round(start, 2),
            length=round(route.length, 2),
            start_speed=round(float(rng.uniform(0.0, 1.0) * route.speed_limits[0]), 2),
            vehicles=int(rng.integers(12, 34)),
            pedestrians=int(rng.integers(4, 16)),
            parked=int(rng.integers(2, 12)),
        )
