"""What one drive is: network, route, scenario and all that was drawn for it, as a plain record with a JSON
form.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from wpt_sim.network import SPLITS, NetworkError, load_road_map, network_names
from wpt_sim.road_map import RoadMap
from wpt_sim.route import Route, RouteError, build_route

FORMAT_VERSION = 1
DT = 0.05  # seconds per step of the world
ATTEMPTS = 200  # places tried for one episode before its seed is given up
HARDEST_BRAKING = 6.0  # m/s2 that a script may ask of an attentive driver, from first visibility on
TIGHTEST_RADIUS = 5.0  # metres; a car's smallest is about 4. 1.2 % of the shipped networks' turns are tighter


class EpisodeError(ValueError):
    """An episode cannot be made or read: unknown name, damaged record, or a route off its network."""


@dataclass(frozen=True, kw_only=True)
class EpisodeSpec:
    """One drive. The same spec gives the same world, step by step, against the same ego.

    lanes, start, length: the route (`build_route`); start_speed: m/s of the ego at s = 0. parameters:
    numbers and names that the scenario's script reads. zones: intervals (from, to) of route metres in which
    driving in the opposing lane is part of the task (no wrong-direction check). vehicles, pedestrians,
    parked: how many others the script's surroundings hold. conflict_s: route metres of the scripted
    conflict, None without script.
    """

    split: str
    network: str
    seed: int
    family: str
    scenario: str
    lanes: tuple[str, ...]
    start: float
    length: float
    start_speed: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    zones: tuple[tuple[float, float], ...] = ()
    vehicles: int = 12
    pedestrians: int = 6
    parked: int = 6
    conflict_s: float | None = None

    @property
    def name(self) -> str:
        """Unique and readable, fit for a file name."""
        return f"{self.split}-{self.family}-{self.scenario}-{self.seed}"

    @property
    def road_map(self) -> RoadMap:
        """Raises EpisodeError for an unknown network."""
        try:
            return load_road_map(self.network)
        except NetworkError as error:
            raise EpisodeError(f"episode {self.name}: {error}") from error

    @property
    def route(self) -> Route:
        """Raises EpisodeError where the lanes are not a chain on the network."""
        try:
            return _route(self.network, self.lanes, self.start, self.length)
        except (RouteError, NetworkError) as error:
            raise EpisodeError(f"episode {self.name}: {error}") from error

    def to_json(self) -> str:
        """One line of JSON with a format version."""
        return json.dumps({"format": FORMAT_VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EpisodeSpec:
        """The inverse of to_json. Raises EpisodeError for anything that is no valid episode; the route is
        checked.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise EpisodeError(f"the episode is no JSON ({error}): write it with to_json().") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT_VERSION:
            raise EpisodeError(
                f"the episode's format is not {FORMAT_VERSION}: write it with this version's to_json()."
            )
        known = {f.name for f in fields(cls)}
        if set(values) != known:
            wrong = ", ".join(sorted(set(values) ^ known))
            raise EpisodeError(
                f"the episode has missing or unknown fields ({wrong}): write it with to_json()."
            )
        try:
            for key in ("split", "network", "family", "scenario"):
                if not isinstance(values[key], str):
                    raise TypeError(f"{key} is {type(values[key]).__name__}, expected a text")
            for key in ("seed", "vehicles", "pedestrians", "parked"):
                values[key] = int(values[key])
            for key in ("start", "length", "start_speed"):
                values[key] = float(values[key])
            values["parameters"] = dict(values["parameters"])
            values["lanes"] = tuple(str(lane) for lane in values["lanes"])
            values["zones"] = tuple((float(a), float(b)) for a, b in values["zones"])
            spec = cls(**values)
        except (TypeError, ValueError) as error:
            raise EpisodeError(
                f"the episode holds a value of a wrong type ({error}): write it with to_json()."
            ) from error
        _ = spec.route  # a route off the network is named here and not in the middle of a run
        if spec.scenario not in scenario_names(spec.family):
            raise EpisodeError(
                f"scenario {spec.scenario!r} is unknown in family {spec.family}: choose one of "
                f"{', '.join(scenario_names(spec.family))}."
            )
        return spec


@functools.lru_cache(maxsize=64)
def _route(network: str, lanes: tuple[str, ...], start: float, length: float) -> Route:
    return build_route(load_road_map(network), lanes, start, length)


def is_drivable(route: Route) -> bool:
    """Whether no turn is tighter than TIGHTEST_RADIUS and the route comes nowhere twice."""
    turns = np.abs(np.diff(route.headings))
    return len(set(route.lanes)) == len(route.lanes) and float(turns.max()) <= 1.0 / TIGHTEST_RADIUS


def families() -> tuple[str, ...]:
    """The five families named as Bench2Drive's abilities, and natural."""
    from wpt_sim.scenarios import SCENARIOS

    return tuple(SCENARIOS)


def scenario_names(family: str) -> tuple[str, ...]:
    """Scenarios of a family; raises EpisodeError for an unknown family."""
    from wpt_sim.scenarios import SCENARIOS

    if family not in SCENARIOS:
        raise EpisodeError(f"scenario family {family!r} is unknown: choose one of {', '.join(SCENARIOS)}.")
    return tuple(SCENARIOS[family])


def make_episode(split: str, family: str, scenario: str | None = None, seed: int = 0) -> EpisodeSpec:
    """The episode of this seed; the same arguments, the same episode, on every machine.

    scenario None picks one of the family by the seed. Networks come from the split alone and the split is
    part of the random stream, so no two splits share an episode. Raises EpisodeError for unknown names, or
    where no place on the split's networks fits (not seen for any shipped split).
    """
    from wpt_sim.scenarios import SCENARIOS

    if split not in SPLITS:
        raise EpisodeError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}.")
    names = scenario_names(family)
    if scenario is None:
        scenario = names[seed % len(names)]
    if scenario not in names:
        raise EpisodeError(
            f"scenario {scenario!r} is unknown in family {family}: choose one of {', '.join(names)}."
        )
    if seed < 0:
        raise EpisodeError(f"seed {seed} is negative: give a whole number from 0.")
    rng = np.random.default_rng([seed, zlib.crc32(f"{split}/{family}/{scenario}".encode())])
    networks = network_names(split)
    for _ in range(ATTEMPTS):
        network = networks[int(rng.integers(len(networks)))]
        draft = SCENARIOS[family][scenario].draw(load_road_map(network), rng)
        if draft is not None:
            # Through JSON once, so that a spec equals its own round trip (lists, plain floats).
            draft["parameters"] = json.loads(json.dumps(draft.get("parameters", {})))
            spec = EpisodeSpec(
                split=split, network=network, seed=seed, family=family, scenario=scenario, **draft
            )
            if is_drivable(spec.route) and spec.parameters.get("needed_braking", 0.0) <= HARDEST_BRAKING:
                return spec
    raise EpisodeError(
        f"no place for {family}/{scenario} with seed {seed} was found in {ATTEMPTS} attempts on split "
        f"{split}: take another seed."
    )
