"""A road map's standing things as arrays, ready to be drawn: buildings, trees, signals, signs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from wpt_sim.renderer.body import FaceSet
from wpt_sim.renderer.scenery_bodies import (
    Standing, building, shown_colour, signal_case, signal_mast, signs, tree_body,
)  # fmt: skip
from wpt_sim.road_map import RoadMap
from wpt_sim.world_state import SignalColour


class Scenery:
    """footprints: (S, 4, 2); low, high: (S,) metres; centres: (S, 3); radii: (S,) of a sphere that holds each
    thing.

    detail_m: (S,) size (m) that must cover some pixels for the detailed faces to be drawn.
    """

    def __init__(self, road_map: RoadMap):
        things: list[Standing] = []
        details: list[float] = []
        for spec in road_map.buildings:
            things.append(building(spec))
            details.append(1.2)  # windows
        for index, spec in enumerate(road_map.trees):
            parts = tree_body(spec, index)
            things += parts
            details += [1.5] * len(parts)
        for part in signs(road_map):
            things.append(part)
            details.append(1.0)
        for head in road_map.signal_heads:
            parts = signal_mast(head, road_map)
            things += parts
            details += [1.0] * len(parts)
        self._heads = road_map.signal_heads
        self._first_case = len(things)
        self._cases = [{colour: signal_case(head, colour) for colour in SignalColour} for head in self._heads]
        for cases in self._cases:
            things.append(cases[SignalColour.OFF])
            details.append(1.0)
        self._near = [thing.near for thing in things]
        self._far = [thing.far for thing in things]
        self.footprints = np.array([thing.footprint for thing in things]).reshape(-1, 4, 2)
        self.low = np.array([thing.low for thing in things])
        self.high = np.array([thing.high for thing in things])
        self.detail_m = np.array(details)
        middles = self.footprints.mean(axis=1) if things else np.zeros((0, 2))
        self.centres = np.column_stack([middles, 0.5 * (self.low + self.high)])
        reach = np.linalg.norm(self.footprints - middles[:, None], axis=2).max(axis=1, initial=0.0)
        self.radii = np.hypot(reach, 0.5 * (self.high - self.low)) + 0.3

    def __len__(self) -> int:
        return len(self._near)

    def shown(self, signals: Mapping[tuple[str, int], SignalColour]) -> list[SignalColour]:
        """Return what each signal head shows."""
        return [shown_colour(head, signals) for head in self._heads]

    def faces(self, index: int, detailed: bool, shown: list[SignalColour]) -> FaceSet:
        """Return a thing's faces; ``shown`` as the method of that name returns it."""
        if index >= self._first_case:
            head = index - self._first_case
            return self._cases[head][shown[head]].near
        return (self._near if detailed else self._far)[index]


@lru_cache(maxsize=4)
def scenery_of(road_map: RoadMap) -> Scenery:
    """Return the scenery of a road map; the same object on later calls."""
    return Scenery(road_map)
