"""Training data of the learnability gate: states, what a policy would see there, and what the expert plans
there.

Collected in the closed loop: the expert's plans are driven, with pushes in between, or a policy drives and
the expert says four times a second what it would do (so a policy also learns from where it strays). Drives
with an infraction by the expert are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from wpt_policy.plan import Plan

from wpt_sim.closed_loop import drive_route
from wpt_sim.ego_vehicle import Control
from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.expert import Expert
from wpt_sim.gate_features import ACTOR_FEATURES, ACTORS, CONTEXT_SIZE, EGO_SIZE, BirdsEyeView, EgoHistory
from wpt_sim.gate_policies import BirdsEyeSource, answer_on_path, load_policy
from wpt_sim.planning_driver import PlanningDriver
from wpt_sim.progress import Progress
from wpt_sim.route_result import InfractionKind
from wpt_sim.trajectory_follower import TrajectoryFollower
from wpt_sim.world_state import EgoPose, WorldState

SAMPLE_TICKS = 5  # 4 samples a second
STANDING_KEPT = 0.3  # share of samples kept from the middle of a standstill
PUSH_EVERY_S, PUSH_S = 8.0, (0.5, 1.5)
PUSH_STEER, PUSH_ACCELERATION = 0.25, 1.0  # rad m/s (divided by the speed) and m/s2, standard deviations
PUSHED_FARTHEST = 0.7  # metres sideways at which a push ends
FARTHEST_SIDEWAYS = 6.0  # metres; an answer farther from the commanded path leaves it
TICKS = 1600  # 80 s: longer waits teach nothing new


@dataclass(frozen=True, eq=False)
class Samples:
    """context (N, C), actors (N, A, F), ego (N, E), on_path (N, 6, 2) and in_base (N, 6, 2) answers; drives:
    how many.
    """

    context: np.ndarray
    actors: np.ndarray
    ego: np.ndarray
    on_path: np.ndarray
    in_base: np.ndarray
    drives: int = 0
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.context)


FIELDS = ("context", "actors", "ego", "on_path", "in_base")


def join(parts: Sequence[Samples]) -> Samples:
    """All samples in one."""
    return Samples(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS},
        drives=sum(part.drives for part in parts),
        dropped=sum(part.dropped for part in parts),
    )


class _Teaching:
    """A driver whose every state is also shown to the expert. policy None: the expert itself drives, pushed
    about.
    """

    name = "teaching"

    def __init__(self, policy: BirdsEyeSource | None, seed: int):
        self._policy = policy
        self._rng = np.random.default_rng(seed)

    def reset(self, spec: EpisodeSpec) -> None:
        self.expert = Expert(spec.road_map, spec.route)
        self.view, self.history = BirdsEyeView(spec), EgoHistory(spec)
        self._follower = TrajectoryFollower()
        self._driver = None
        if self._policy is not None:
            self._driver = PlanningDriver(self._policy)
            self._driver.reset(spec)
        self._length = spec.route.length
        self._tick = 0
        self._push_until, self._push = -1.0, Control(steer=0.0, acceleration=0.0)
        self._next_push = float(self._rng.uniform(1.0, PUSH_EVERY_S))
        self.rows: list[tuple] = []
        self._times: list[float] = []

    def control(self, state: WorldState) -> Control:
        self.view.see(state)
        self.history.see(state)
        if self._tick % SAMPLE_TICKS == 0:
            # Always asked, also where nothing is kept: its memory (stops, overtaking) needs to see
            # everything.
            plan = self.expert.plan(self.view.observation)
            self._follower.set_plan(plan.positions, plan.dt_s, state.ego, state.time_s)
            if state.time_s >= self._push_until and self._worth_keeping(state.ego):
                self._keep(state, plan)
        self._tick += 1
        if self._driver is not None:
            return self._driver.control(state)
        return self._pushed(self._follower.control(state.ego, state.time_s), state)

    def _worth_keeping(self, ego: EgoPose) -> bool:
        return ego.speed > 0.1 or self._rng.uniform() < STANDING_KEPT

    def _keep(self, state: WorldState, plan: Plan) -> None:
        seen = self.view.look()
        answer = answer_on_path(plan.positions, seen, state.ego)
        # Beyond its route the expert goes straight on, which is no answer to what is there.
        left = self._length - self.view.observation.s
        if answer[-1, 0] < left - 1.0 and abs(answer[:, 1]).max() < FARTHEST_SIDEWAYS:
            self.rows.append((seen.context, seen.actors, self.history.look(), answer, plan.positions[1:]))
            self._times.append(state.time_s)

    def kept_before(self, time_s: float) -> int:
        """How many rows were kept before this time."""
        return sum(at < time_s for at in self._times)

    def _pushed(self, control: Control, state: WorldState) -> Control:
        if state.time_s >= self._next_push and state.ego.speed > 2.0:
            length = float(self._rng.uniform(*PUSH_S))
            steer = float(self._rng.normal(0.0, PUSH_STEER)) / max(state.ego.speed, 3.0)
            # The wheel is held aside of where it was: the expert steers from where the wheel is, so adding
            # would run away.
            self._push = Control(
                steer=state.ego.steer + steer, acceleration=float(self._rng.normal(0.0, PUSH_ACCELERATION))
            )
            self._push_until = state.time_s + length
            self._next_push = self._push_until + float(self._rng.exponential(PUSH_EVERY_S))
        if abs(self.view.observation.lateral) > PUSHED_FARTHEST:
            self._push_until = min(self._push_until, state.time_s)
        if state.time_s >= self._push_until:
            return control
        return Control(steer=self._push.steer, acceleration=control.acceleration + self._push.acceleration)


def collect_one(spec: EpisodeSpec, policy: Path | None) -> Samples:
    """Drive one episode and return its samples, none where the expert itself failed."""
    source = None if policy is None else BirdsEyeSource(load_policy(policy)[1])
    driver = _Teaching(source, spec.seed)
    result = drive_route(spec, driver, tick_limit=TICKS)
    if result.failure is not None:
        raise RuntimeError(f"{spec.name}: {result.failure}")
    ended = [entry for entry in result.infractions if entry.kind is not InfractionKind.TICK_LIMIT]
    bad = policy is None and bool(ended)
    rows = driver.rows
    if policy is not None and ended:  # after its first infraction a policy shows nothing worth answering
        rows = rows[: driver.kept_before(ended[0].time_s)]
    if bad or not rows:
        return _empty(1)
    columns = [np.array(column, np.float32) for column in zip(*rows, strict=True)]
    return Samples(**dict(zip(FIELDS, columns, strict=True)), drives=1)


def _empty(dropped: int) -> Samples:
    shapes = ((0, CONTEXT_SIZE), (0, ACTORS, ACTOR_FEATURES), (0, EGO_SIZE), (0, 6, 2), (0, 6, 2))
    return Samples(
        **{name: np.zeros(shape, np.float32) for name, shape in zip(FIELDS, shapes, strict=True)},
        drives=1,
        dropped=dropped,
    )


def collect(
    specs: Sequence[EpisodeSpec], *, policy: Path | None, workers: int, cache: Path | None, label: str
) -> Samples:
    """Samples of all episodes, over processes; kept in `cache` (.npz) and read from there the next time."""
    if cache is not None and cache.is_file():
        return _read_cache(cache)
    jobs = [(spec.to_json(), None if policy is None else str(policy)) for spec in specs]
    parts: list[Samples] = []
    with Progress(label, len(jobs)) as progress, get_context("spawn").Pool(workers) as pool:
        for part in pool.imap(_collect_job, jobs, chunksize=1):
            parts.append(part)
            progress.show(len(parts), f"{sum(len(p) for p in parts)} samples")
    samples = join(parts)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        aside = cache.with_name(f"{cache.stem}.part.npz")
        np.savez(
            aside,
            drives=samples.drives,
            dropped=samples.dropped,
            **{name: getattr(samples, name) for name in FIELDS},
        )
        aside.replace(cache)
    return samples


def _read_cache(cache: Path) -> Samples:
    with np.load(cache, allow_pickle=False) as stored:
        samples = Samples(
            **{name: stored[name] for name in FIELDS},
            drives=int(stored["drives"]),
            dropped=int(stored["dropped"]),
        )
    expected = _empty(0)
    if any(getattr(samples, name).shape[1:] != getattr(expected, name).shape[1:] for name in FIELDS):
        raise SimulationError(
            f"{cache.name} was collected by another version of the gate: remove it or name another --work."
        )
    return samples


def _collect_job(job: tuple[str, str | None]) -> Samples:
    import torch

    torch.set_num_threads(1)
    text, policy = job
    return collect_one(EpisodeSpec.from_json(text), None if policy is None else Path(policy))
