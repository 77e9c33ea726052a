"""What the expert may know: exact values, but only of what a camera student could know.

Others: those that the six cameras saw within the last 2 s and 60 m, with their boxes, motion and lit lamps,
and no ids, routes or intents. Signals: the present colour of those that hang over the route within 60 m, no
phase clock. Route and map: within 60 m (the expert looks no further along them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from wpt_policy.calibration import CameraRig

from wpt_sim.expert_junctions import route_junctions
from wpt_sim.renderer.rigs import nuscenes_rig
from wpt_sim.road_map import RoadMap
from wpt_sim.route import Route
from wpt_sim.visibility import visible_actors
from wpt_sim.world_state import Actor, ActorKind, EgoPose, Lights, SignalColour, WorldState

SIGHT_RANGE = 60.0  # metres from the ego
REMEMBERED = 2.0  # seconds after which an unseen actor is forgotten
# seconds between two looks; who was seen in the last one is seen until the next (cameras run at 12 Hz)
LOOK_INTERVAL = 0.1
STANDING = 0.1  # m/s
ACCELERATION_SMOOTHING = 0.25  # seconds, time constant


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedActor:
    """One other road user as seen, or continued at constant speed since it was last seen.

    x, y: centre of the box (map, metres); acceleration: m/s2 along yaw, smoothed over 0.25 s; unseen_s: since
    last seen; still_s: for how long it has been seen standing (below 0.1 m/s).
    """

    kind: ActorKind
    x: float
    y: float
    yaw: float
    speed: float
    acceleration: float
    length: float
    width: float
    lights: Lights
    unseen_s: float = 0.0
    still_s: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """s, lateral: the ego's base_link on the route. actors: nearest first.

    signals: colour now by (signal, link), only of lamps over the route within 60 m ahead.
    """

    time_s: float
    ego: EgoPose
    s: float
    lateral: float
    actors: tuple[ObservedActor, ...]
    signals: dict[tuple[str, int], SignalColour]


@dataclass
class _Track:
    actor: Actor
    seen_at: float
    acceleration: float
    standing_since: float | None


@dataclass
class ObservationMemory:
    """What was seen so far in one drive. rig: the cameras (nuScenes-like by default)."""

    rig: CameraRig | None = None
    tracks: dict[str, _Track] = field(default_factory=dict)
    s: float | None = None
    time_s: float | None = None
    seen: frozenset[str] = frozenset()
    looked_at: float | None = None

    def __post_init__(self) -> None:
        if self.rig is None:
            self.rig = nuscenes_rig()


def observe(road_map: RoadMap, route: Route, state: WorldState, memory: ObservationMemory) -> Observation:
    """Look at the world once (every step of a drive, in order); `memory` is updated."""
    now = state.time_s
    passed = 0.0 if memory.time_s is None else max(now - memory.time_s, 0.0)
    memory.time_s = now
    share = 1.0 if passed == 0.0 else 1.0 - math.exp(-passed / ACCELERATION_SMOOTHING)
    if memory.looked_at is None or now - memory.looked_at > LOOK_INTERVAL - 1e-6:
        memory.seen, memory.looked_at = (
            visible_actors(road_map, memory.rig, state, max_range=SIGHT_RANGE),
            now,
        )
    seen = memory.seen
    for actor in state.actors:
        if actor.id not in seen:
            continue
        known = memory.tracks.get(actor.id)
        fresh = known is None or now - known.seen_at > 0.5
        before = actor.acceleration if fresh else known.acceleration
        since = None
        if actor.speed < STANDING:
            since = now if known is None or known.standing_since is None else known.standing_since
        memory.tracks[actor.id] = _Track(actor, now, before + share * (actor.acceleration - before), since)
    memory.tracks = {
        name: track for name, track in memory.tracks.items() if now - track.seen_at <= REMEMBERED
    }
    observed = sorted(
        (_observed(track, now) for track in memory.tracks.values()), key=lambda a: _order(a, state.ego)
    )
    s, lateral = route.project(state.ego.x, state.ego.y, memory.s)
    memory.s = s
    return Observation(
        time_s=now,
        ego=state.ego,
        s=s,
        lateral=lateral,
        actors=tuple(observed),
        signals=_signals_ahead(road_map, route, state, s),
    )


def _observed(track: _Track, now: float) -> ObservedActor:
    actor, age = track.actor, now - track.seen_at
    still = 0.0 if track.standing_since is None else now - track.standing_since
    seen = ObservedActor(
        kind=actor.kind,
        x=actor.x,
        y=actor.y,
        yaw=actor.yaw,
        speed=actor.speed,
        acceleration=track.acceleration,
        length=actor.length,
        width=actor.width,
        lights=actor.lights,
        unseen_s=age,
        still_s=still,
    )
    if age <= 0.0:
        return seen
    ahead = actor.speed * age
    return replace(
        seen,
        x=actor.x + ahead * math.cos(actor.yaw),
        y=actor.y + ahead * math.sin(actor.yaw),
        acceleration=min(track.acceleration, 0.0),
    )


def _order(actor: ObservedActor, ego: EgoPose) -> tuple[float, float, float]:
    # By place alone: an order by id would let hidden state in.
    return math.hypot(actor.x - ego.x, actor.y - ego.y), actor.x, actor.y


def _signals_ahead(
    road_map: RoadMap, route: Route, state: WorldState, s: float
) -> dict[tuple[str, int], SignalColour]:
    return {
        key: state.signals[key]
        for junction in route_junctions(road_map, route)
        if (key := (junction.connection.signal, junction.connection.link)) in state.signals
        and s - 8.0 <= junction.line_s <= s + SIGHT_RANGE
    }
