"""A drive as a compact record: everything that moved, 10 times a second, in whole small units.

A log holds what was decided (the episode with its route) and what happened (ego, others, signals, lamps, commands). It
gives the world back at any time in between, and with the shipped road maps and the renderer also its pictures,
anywhere, without SUMO. Values are integers (see UNITS), so that what is decoded is the same on every machine.
"""

from __future__ import annotations

import gzip
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np

from wpt_policy.frame import Command

from wpt_sim.appearance import Appearance
from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.network import load_road_map, network_path
from wpt_sim.road_map import RoadMap
from wpt_sim.world_state import Actor, ActorKind, EgoPose, Lights, SignalColour, WorldState

STEP_S = 0.1

# Metres, radians or m/s of one unit. The ego's are finer: its speed is taken from differences over 0.1 s.
EGO_UNITS = {"x": 1e-4, "y": 1e-4, "yaw": 1e-5, "speed": 1e-3, "steer": 1e-4, "acceleration": 1e-2}
ACTOR_UNITS = {"x": 1e-3, "y": 1e-3, "yaw": 1e-3, "speed": 1e-2}
SIZE_UNIT = 1e-3
# States that are this far (seconds) from a tenth are not the log's.
_TIME_TOLERANCE = 1e-4


class SceneLogError(SimulationError):
    """A scene log that cannot be read, written or asked: damaged, newer, of another road map, or out of its time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Disturbance:
    """A push that the driver did not ask for. kind: steer, throttle or pose; begin_s, end_s: seconds of the log."""

    kind: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ActorTrack:
    """One road user's whole way. rows: (N,) step of each row, increasing (it may be away in between).

    x, y, yaw, speed: (N,) int64 in ACTOR_UNITS, yaw without jumps. lights: (N,) Lights bits. Sizes in SIZE_UNIT.
    """

    id: str
    kind: ActorKind
    length: int
    width: int
    height: int
    colour_seed: int
    parked: bool
    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    speed: np.ndarray
    lights: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneLog:
    """One drive of ``steps`` rows, STEP_S apart, the first at time 0.

    road_map_hash: of the network file that was driven on. appearance_seed, light, noise: the look (None: by the seed).
    begin_s: the episode's time at the log's time 0. driver: who drove. ego: columns of EGO_UNITS, (steps,) int64 each. signals: by signal id (steps,) text, one letter
    a link. commands: (steps,) values of Command. disturbances: in time order. infractions: sentences.
    """

    spec: EpisodeSpec
    road_map_hash: str
    appearance_seed: int
    light: str | None = None
    noise: float | None = None
    begin_s: float = 0.0
    driver: str
    steps: int
    ego: Mapping[str, np.ndarray]
    actors: tuple[ActorTrack, ...]
    signals: Mapping[str, tuple[str, ...]]
    commands: np.ndarray
    disturbances: tuple[Disturbance, ...] = ()
    infractions: tuple[str, ...] = field(default=())

    @property
    def duration_s(self) -> float:
        return (self.steps - 1) * STEP_S

    @property
    def appearance(self) -> Appearance:
        return Appearance(self.appearance_seed, light=self.light, noise=self.noise)

    @property
    def road_map(self) -> RoadMap:
        """The shipped road map; raises SceneLogError where its content is not the one that was driven on."""
        known = road_map_hash(self.spec.network)
        if known != self.road_map_hash:
            raise SceneLogError(
                f"the scene log of {self.spec.name} was driven on {self.spec.network} with content {self.road_map_hash}, "
                f"but the shipped one has {known}: read it with the version of wpt_sim that wrote it."
            )
        return load_road_map(self.spec.network)

    def state_at(self, time_s: float) -> WorldState:
        """Return the world at a time from 0 to duration_s: straight lines between rows, signals and lamps held.

        An actor is there while it is in both neighbouring rows. Raises SceneLogError outside the log.
        """
        step, share = self._place(time_s)
        after = min(step + 1, self.steps - 1)
        ego = {
            name: float((1.0 - share) * self.ego[name][step] + share * self.ego[name][after]) * unit
            for name, unit in EGO_UNITS.items()
        }
        ego["yaw"] = math.remainder(ego["yaw"], math.tau)
        rows = self._rows[:, step]
        if share > 0.0:
            rows = np.where(self._rows[:, after] >= 0, rows, -1)
        actors = [
            _actor_at(self.actors[index], int(rows[index]), share) for index in np.flatnonzero(rows >= 0)
        ]
        signals = {
            (signal, link): SignalColour(letter)
            for signal, letters in self.signals.items()
            for link, letter in enumerate(letters[step])
        }
        return WorldState(time_s=time_s, ego=EgoPose(**ego), actors=tuple(actors), signals=signals)

    def states(self) -> Iterable[WorldState]:
        """Return the world at every row."""
        return (self.state_at(step * STEP_S) for step in range(self.steps))

    def command_at(self, time_s: float) -> Command:
        """Return the command at a time: that of the row before it."""
        return Command(int(self.commands[self._place(time_s)[0]]))

    def cut(self, begin_s: float, end_s: float) -> SceneLog:
        """Return the part between two times, moved to the nearest rows; its own time begins at 0.

        Raises SceneLogError when less than two rows are left, or outside the log.
        """
        first, last = round(begin_s / STEP_S), round(end_s / STEP_S)
        if not 0 <= first < last < self.steps:
            raise SceneLogError(
                f"the scene log of {self.spec.name} cannot be cut from {begin_s:.1f} to {end_s:.1f} s: choose two times from "
                f"0 to {self.duration_s:.1f} s, the first smaller."
            )
        shift = first * STEP_S
        return replace(
            self,
            begin_s=round(self.begin_s + shift, 6),
            steps=last - first + 1,
            ego={name: column[first : last + 1] for name, column in self.ego.items()},
            actors=tuple(track for actor in self.actors if (track := _cut_track(actor, first, last)) is not None),
            signals={signal: letters[first : last + 1] for signal, letters in self.signals.items()},
            commands=self.commands[first : last + 1],
            disturbances=tuple(
                replace(d, begin_s=round(d.begin_s - shift, 6), end_s=round(d.end_s - shift, 6))
                for d in self.disturbances
                if d.begin_s < end_s and d.end_s > begin_s
            ),
        )

    @cached_property
    def _rows(self) -> np.ndarray:
        """(actors, steps) row of each actor at each step, -1 where it is away."""
        rows = np.full((len(self.actors), self.steps), -1, dtype=np.int64)
        for index, actor in enumerate(self.actors):
            rows[index, actor.rows] = np.arange(len(actor.rows))
        return rows

    def _place(self, time_s: float) -> tuple[int, float]:
        place = time_s / STEP_S
        if not -1e-6 <= place <= self.steps - 1 + 1e-6:
            raise SceneLogError(
                f"the scene log of {self.spec.name} was asked for {time_s:.3f} s, expected 0 to {self.duration_s:.1f} s: "
                "ask for a time within it."
            )
        # A time that is a row's but for rounding is that row: nobody is lost at a border.
        nearest = round(place)
        if abs(place - nearest) < 1e-6:
            return nearest, 0.0
        return math.floor(place), place - math.floor(place)


class SceneLogRecorder:
    """Collects a drive. Give it every state (20 Hz): it keeps those at whole tenths of a second."""

    def __init__(
        self,
        spec: EpisodeSpec,
        *,
        driver: str,
        appearance_seed: int,
        light: str | None = None,
        noise: float | None = None,
    ):
        self._fixed = {
            "spec": spec, "driver": driver, "appearance_seed": appearance_seed, "light": light, "noise": noise,
        }  # fmt: skip
        self._states: list[WorldState] = []
        self._commands: list[int] = []

    def add(self, state: WorldState, command: Command) -> None:
        """Add a state; one that is between two tenths is left out. Raises SceneLogError when a tenth was missed."""
        place = state.time_s / STEP_S
        if abs(place - round(place)) * STEP_S > _TIME_TOLERANCE:
            return
        if round(place) != len(self._states):
            raise SceneLogError(
                f"the state at {state.time_s:.3f} s follows {len(self._states)} logged tenths of a second, expected "
                f"{len(self._states) * STEP_S:.1f} s: log every step of a drive from 0 s on."
            )
        self._states.append(state)
        self._commands.append(int(command))

    def __len__(self) -> int:
        return len(self._states)

    def finish(
        self, *, disturbances: Sequence[Disturbance] = (), infractions: Sequence[str] = ()
    ) -> SceneLog:
        """Return the log of what was added. Raises SceneLogError without two states, or for a value not finite."""
        if len(self._states) < 2:
            raise SceneLogError(
                f"a scene log needs two states, {len(self._states)} were added: drive for at least 0.1 s."
            )
        states = self._states
        ego = {
            name: _whole([getattr(state.ego, name) for state in states], unit, f"ego {name}", name == "yaw")
            for name, unit in EGO_UNITS.items()
        }
        return SceneLog(
            **self._fixed,
            road_map_hash=road_map_hash(self._fixed["spec"].network),
            steps=len(states),
            ego=ego,
            actors=_tracks(states),
            signals=_signal_letters(states),
            commands=np.array(self._commands, dtype=np.int64),
            disturbances=tuple(disturbances),
            infractions=tuple(infractions),
        )


@lru_cache(maxsize=64)
def road_map_hash(network: str) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a shipped network's content; raises NetworkError."""
    with gzip.open(network_path(network), "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()[:16]


def _tracks(states: Sequence[WorldState]) -> tuple[ActorTrack, ...]:
    seen: dict[str, list[tuple[int, Actor]]] = {}
    for step, state in enumerate(states):
        for actor in state.actors:
            seen.setdefault(actor.id, []).append((step, actor))
    tracks = []
    for name, found in seen.items():
        first = found[0][1]
        columns = {
            key: _whole([getattr(actor, key) for _, actor in found], unit, f"{key} of {name}", key == "yaw")
            for key, unit in ACTOR_UNITS.items()
        }
        tracks.append(
            ActorTrack(
                id=name,
                kind=first.kind,
                length=round(first.length / SIZE_UNIT),
                width=round(first.width / SIZE_UNIT),
                height=round(first.height / SIZE_UNIT),
                colour_seed=first.colour_seed,
                parked=first.parked,
                rows=np.array([step for step, _ in found], dtype=np.int64),
                lights=np.array([int(actor.lights) for _, actor in found], dtype=np.int64),
                **columns,
            )
        )
    return tuple(tracks)


def _cut_track(track: ActorTrack, first: int, last: int) -> ActorTrack | None:
    kept = (track.rows >= first) & (track.rows <= last)
    if not kept.any():
        return None
    columns = {name: getattr(track, name)[kept] for name in ("x", "y", "yaw", "speed", "lights")}
    return replace(track, rows=track.rows[kept] - first, **columns)


def _whole(values: Sequence[float], unit: float, what: str, angle: bool) -> np.ndarray:
    column = np.array(values, dtype=np.float64)
    if not np.all(np.isfinite(column)):
        raise SceneLogError(f"{what} is not finite at row {int(np.argmin(np.isfinite(column)))}: nothing can be logged.")
    if angle:
        column = np.unwrap(column)
    return np.rint(column / unit).astype(np.int64)


def _signal_letters(states: Sequence[WorldState]) -> dict[str, tuple[str, ...]]:
    """Return by signal one text per state; links that a signal lacks at a state are off."""
    links: dict[str, int] = {}
    for state in states:
        for signal, link in state.signals:
            links[signal] = max(links.get(signal, 0), link + 1)
    return {
        signal: tuple(
            "".join(state.signals.get((signal, link), SignalColour.OFF).value for link in range(count))
            for state in states
        )
        for signal, count in links.items()
    }


def _actor_at(track: ActorTrack, row: int, share: float) -> Actor:
    after = min(row + 1, len(track.rows) - 1)
    x, y, yaw, speed = (
        float((1.0 - share) * column[row] + share * column[after]) * ACTOR_UNITS[name]
        for name, column in (("x", track.x), ("y", track.y), ("yaw", track.yaw), ("speed", track.speed))
    )
    return Actor(
        id=track.id,
        kind=track.kind,
        x=x,
        y=y,
        yaw=math.remainder(yaw, math.tau),
        speed=speed,
        length=track.length * SIZE_UNIT,
        width=track.width * SIZE_UNIT,
        height=track.height * SIZE_UNIT,
        acceleration=_acceleration(track, row),
        lights=Lights(int(track.lights[row])),
        colour_seed=track.colour_seed,
        parked=track.parked,
    )


def _acceleration(track: ActorTrack, row: int) -> float:
    before, after = max(row - 1, 0), min(row + 1, len(track.rows) - 1)
    seconds = float(track.rows[after] - track.rows[before]) * STEP_S
    if seconds == 0.0:
        return 0.0
    return float(track.speed[after] - track.speed[before]) * ACTOR_UNITS["speed"] / seconds
