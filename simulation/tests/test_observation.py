"""The expert sees what a student could know, and nothing else changes what it does."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from wpt_sim.episode import DT, make_episode
from wpt_sim.expert import Expert
from wpt_sim.ego_vehicle import step_ego
from wpt_sim.observation import REMEMBERED, SIGHT_RANGE, ObservationMemory, ObservedActor, observe
from wpt_sim.traffic import Traffic
from wpt_sim.world_state import Actor, ActorKind, EgoPose, Lights, SignalColour, WorldState


@pytest.fixture(scope="module")
def episode():
    return make_episode("tuning", "emergency_brake", "crossing_pedestrian", 0)


def car_ahead(spec, s: float, **changes) -> Actor:
    x, y, yaw = spec.route.at(s)
    values = dict(id="a", kind=ActorKind.CAR, x=x, y=y, yaw=yaw, speed=5.0, length=4.5, width=1.8, height=1.5)
    return Actor(**{**values, **changes})


def world(spec, time_s: float, *actors: Actor, signals=None) -> WorldState:
    x, y, yaw = spec.route.at(0.0)
    return WorldState(
        time_s=time_s, ego=EgoPose(x=x, y=y, yaw=yaw, speed=5.0), actors=actors, signals=signals or {}
    )


def test_an_actor_carries_no_identity_or_intent():
    names = {field.name for field in fields(ObservedActor)}
    assert names == {
        "kind",
        "x",
        "y",
        "yaw",
        "speed",
        "acceleration",
        "length",
        "width",
        "lights",
        "unseen_s",
        "still_s",
    }


def test_range_and_memory(episode):
    memory = ObservationMemory()

    def look(time_s, *actors):
        return observe(episode.road_map, episode.route, world(episode, time_s, *actors), memory)

    (seen,) = look(0.0, car_ahead(episode, 20.0)).actors
    assert seen.unseen_s == 0.0
    far = episode.route.at(0.0)
    assert (
        len(
            look(
                0.1, car_ahead(episode, 20.0), car_ahead(episode, 0.0, id="far", x=far[0] + SIGHT_RANGE + 5.0)
            ).actors
        )
        == 1
    )
    # It goes out of sight at 15 m: continued at its speed for two seconds, then forgotten.
    gone = car_ahead(episode, 20.0, x=far[0] + 200.0, y=far[1] + 200.0)
    (remembered,) = look(1.1, gone).actors
    assert remembered.unseen_s == pytest.approx(1.0)
    assert math.hypot(remembered.x - seen.x, remembered.y - seen.y) == pytest.approx(5.0)
    assert look(0.1 + REMEMBERED + 0.2, gone).actors == ()


def test_standing_time_is_counted_while_it_is_seen(episode):
    memory = ObservationMemory()
    for tick in range(21):
        state = world(episode, tick * DT, car_ahead(episode, 20.0, speed=0.0))
        observation = observe(episode.road_map, episode.route, state, memory)
    assert observation.actors[0].still_s == pytest.approx(1.0)


def test_only_signals_of_the_route_ahead_are_seen():
    spec = make_episode("tuning", "traffic_signs", "red_light", 0)
    keys = [(c.signal, c.link) for c in spec.road_map.connections if c.signal is not None]
    signals = dict.fromkeys(keys, SignalColour.GREEN)
    seen = observe(spec.road_map, spec.route, world(spec, 0.0, signals=signals), ObservationMemory()).signals
    assert len(seen) <= 2 < len(signals)
    at_line = spec.parameters["stop_s"] - 20.0
    x, y, yaw = spec.route.at(at_line)
    state = WorldState(time_s=0.0, ego=EgoPose(x=x, y=y, yaw=yaw, speed=5.0), actors=(), signals=signals)
    seen = observe(spec.road_map, spec.route, state, ObservationMemory()).signals
    assert (spec.parameters["signal"], spec.parameters["link"]) in seen


@pytest.mark.parametrize(("family", "scenario"), [("give_way", "priority_road"), ("natural", "natural")])
def test_hidden_state_does_not_change_what_the_expert_does(family, scenario):
    """Other ids and order, other actors out of sight, other signals elsewhere, no parked flags: same
    controls.
    """
    spec = make_episode("tuning", family, scenario, 2)
    rng = np.random.default_rng(5)
    memory, other_memory = ObservationMemory(), ObservationMemory()
    expert, other_expert = Expert(spec.road_map, spec.route), Expert(spec.road_map, spec.route)
    own = {(c.signal, c.link) for c in spec.road_map.connections if c.from_lane in spec.lanes}
    compared = hidden = 0
    with Traffic(spec) as traffic:
        state = traffic.reset()
        for _ in range(140):
            control = expert.act(observe(spec.road_map, spec.route, state, memory))
            changed = [
                replace(
                    a, id=f"x{hash(a.id) % 9973}-{len(a.id)}{a.id[::-1]}", parked=not a.parked, colour_seed=1
                )
                for a in state.actors
                if a.id in memory.seen
            ]
            hidden += len(state.actors) - len(changed)
            away = rng.uniform(SIGHT_RANGE + 12.0, 140.0)
            turn = rng.uniform(-math.pi, math.pi)
            changed.append(
                Actor(
                    id="nobody",
                    kind=ActorKind.CAR,
                    x=state.ego.x + away * math.cos(turn),
                    y=state.ego.y + away * math.sin(turn),
                    yaw=turn,
                    speed=15.0,
                    length=4.5,
                    width=1.8,
                    height=1.5,
                    lights=Lights.LEFT,
                )
            )
            rng.shuffle(changed)
            signals = {
                key: colour if key in own else SignalColour.YELLOW for key, colour in state.signals.items()
            }
            twin = replace(state, actors=tuple(changed), signals=signals)
            assert other_expert.act(observe(spec.road_map, spec.route, twin, other_memory)) == control
            compared += len(memory.seen)
            state = traffic.step(step_ego(state.ego, control))
    assert compared > 100 and hidden > 100
