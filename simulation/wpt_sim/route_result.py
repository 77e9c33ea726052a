"""What became of one drive: infractions with time and place, and all that scores are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from wpt_sim.errors import SimulationError


class ResultError(SimulationError):
    """A stored result cannot be read."""


class InfractionKind(Enum):
    """Values are the names in CARLA's leaderboard results, so that its tools find what they know.

    EMERGENCY_VEHICLE has a factor in the rules but no vehicle of that kind drives in this world.
    """

    COLLISION_PEDESTRIAN = "collisions_pedestrian"
    COLLISION_VEHICLE = "collisions_vehicle"
    COLLISION_STATIC = "collisions_layout"
    RED_LIGHT = "red_light"
    STOP_SIGN = "stop_infraction"
    SCENARIO_TIMEOUT = "scenario_timeouts"
    EMERGENCY_VEHICLE = "yield_emergency_vehicle_infractions"
    OUTSIDE_LANES = "outside_route_lanes"
    OFF_ROUTE = "route_dev"
    BLOCKED = "vehicle_blocked"
    ROUTE_TIMEOUT = "route_timeout"
    TICK_LIMIT = "tick_limit"
    PLANNER_FAILURE = "planner_failure"


ENDS_THE_ROUTE = frozenset(
    {
        InfractionKind.OFF_ROUTE,
        InfractionKind.BLOCKED,
        InfractionKind.ROUTE_TIMEOUT,
        InfractionKind.TICK_LIMIT,
        InfractionKind.PLANNER_FAILURE,
    }
)


class RouteStatus(Enum):
    """Words of the leaderboard: PERFECT is completed without any infraction."""

    PERFECT = "Perfect"
    COMPLETED = "Completed"
    FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class Infraction:
    """One event. time_s since the route's start; x, y: the ego's box centre on the map (m); s: route metres.

    actor: id of the other one, where there is one. detail: what happened, in words.
    """

    kind: InfractionKind
    time_s: float
    x: float
    y: float
    s: float
    actor: str | None = None
    detail: str = ""

    @property
    def sentence(self) -> str:
        place = f"(x={self.x:.1f}, y={self.y:.1f})"
        return f"{self.detail} at {place}, {self.time_s:.2f} s, route metre {self.s:.0f}"


@dataclass(frozen=True, kw_only=True)
class RouteResult:
    """One drive's outcome.

    name, family, scenario, network, seed, split: of the episode. completion, outside_share: 0..1 of the route
    and of the distance driven. rear_end_hits: followers that ran into the ego, not held against it.
    speed_ratios: the ego's mean speed over that of the traffic around it, per checkpoint (efficiency).
    comfort_b2d, comfort_si: share of comfortable blocks, None for a drive shorter than one block.
    past_first_junction: the ego left the route's first junction behind it. failure: why the planner was
    stopped.
    """

    name: str
    family: str
    scenario: str
    network: str
    seed: int
    split: str
    planner: str
    status: RouteStatus
    completion: float
    outside_share: float
    infractions: tuple[Infraction, ...]
    rear_end_hits: tuple[Infraction, ...]
    speed_ratios: tuple[float, ...]
    comfort_b2d: float | None
    comfort_si: float | None
    past_first_junction: bool
    route_length: float
    duration_s: float
    distance: float
    failure: str | None = None

    def count(self, kind: InfractionKind) -> int:
        return sum(infraction.kind is kind for infraction in self.infractions)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values["status"] = self.status.value
        for name in ("infractions", "rear_end_hits"):
            values[name] = [{**asdict(entry), "kind": entry.kind.value} for entry in getattr(self, name)]
        values["speed_ratios"] = list(self.speed_ratios)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RouteResult:
        """The inverse of to_dict. Raises ResultError."""
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise ResultError(
                f"a route result has missing or unknown fields ({', '.join(sorted(set(values) ^ known))}): "
                "it was written by another version, drive the routes again."
            )
        try:
            read = dict(values)
            read["status"] = RouteStatus(values["status"])
            for name in ("infractions", "rear_end_hits"):
                read[name] = tuple(
                    Infraction(**{**entry, "kind": InfractionKind(entry["kind"])}) for entry in values[name]
                )
            read["speed_ratios"] = tuple(float(ratio) for ratio in values["speed_ratios"])
            return cls(**read)
        except (TypeError, ValueError, KeyError) as error:
            raise ResultError(f"a route result cannot be read ({error}): drive the routes again.") from error

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)
