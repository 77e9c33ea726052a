"""What every scenario offers to the traffic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from wpt_sim.road_map import RoadMap

if TYPE_CHECKING:
    from wpt_sim.episode import EpisodeSpec
    from wpt_sim.traffic import Traffic
    from wpt_sim.world_state import EgoPose


class Scenario(ABC):
    """A place drawn at random (`draw`) and a script that plays there (an instance)."""

    def __init__(self, spec: EpisodeSpec):
        self.spec = spec
        self.route = spec.route

    @staticmethod
    @abstractmethod
    def draw(road_map: RoadMap, rng: np.random.Generator) -> dict[str, Any] | None:
        """Fields of an EpisodeSpec (lanes, start, length, start_speed, parameters, ...), or None: no place
        here.
        """

    def prepare(self, traffic: Traffic) -> None:
        """Place the script's actors, before the first step and before the surrounding traffic is drawn."""

    def before_step(self, traffic: Traffic, ego: EgoPose, time_s: float) -> None:
        """Command the script's actors for the step that begins now."""
