"""Every script really makes its conflict, against who ignores it, and spares who stops for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from wpt_sim.episode import DT, EpisodeSpec, families, make_episode, scenario_names
from wpt_sim.road_map import Priority
from wpt_sim.scenarios import CrossingPedestrian
from wpt_sim.scenarios.arrival import EGO_FRONT, Approach, Meeting, first_meeting, needed_braking
from wpt_sim.traffic import Traffic
from wpt_sim.vehicles import actor_corners, boxes_overlap, ego_centre, ego_corners
from wpt_sim.world_state import Actor, EgoPose, SignalColour, WorldState

pytest.importorskip("libsumo", reason="libsumo is not installed: pip install libsumo==1.28.0")

SCRIPTED = [family for family in families() if family != "natural"]
SMALLEST_FAILURE_SHARE = 0.6
SEEDS = 9


@dataclass
class Outcome:
    contact: str = ""  # id of the first other touched, or touching from any side but behind
    rear: str = ""  # id of a follower that hit the ego
    ran_red: bool = False
    ran_stop: bool = False
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return bool(self.contact) or self.ran_red or self.ran_stop


def duties(spec: EpisodeSpec) -> list[tuple[float, object]]:
    """(route metres of the stop line, connection) where the route enters junctions with a stop sign or
    signal.
    """
    route, found = spec.route, []
    for lane, after in zip(route.lanes, route.lanes[1:], strict=False):
        for connection in spec.road_map.connections:
            if connection.from_lane == lane and after in connection.via:
                x, y = spec.road_map.lanes[lane].centre_line[-1]
                found.append((route.project(float(x), float(y))[0], connection))
    return found


def drive(spec: EpisodeSpec, stop_at: float | None = None, seconds: float = 60.0) -> Outcome:
    """The ego glides along its route at the limits, blind; with stop_at it halts there for good."""
    route, outcome = spec.route, Outcome()
    speeds = route.reference_speeds(1e3)
    s, speed = 0.0, spec.start_speed
    lines = duties(spec)
    slowest = {id(connection): math.inf for _, connection in lines}
    with Traffic(spec) as traffic:
        traffic.reset()
        for _ in range(int(seconds / 0.05)):
            wanted = float(speeds[min(int(s) + 1, len(speeds) - 1)])
            if stop_at is not None:
                wanted = min(wanted, math.sqrt(max(0.0, 2 * 3.5 * (stop_at - s))))
            before, speed = s, min(speed + 0.1, wanted)
            s += speed * 0.05
            if s > route.length - 1.0:
                break
            x, y, yaw = route.at(s)
            ego = EgoPose(x=x, y=y, yaw=yaw, speed=speed)
            state = traffic.step(ego)
            outcome.seconds = state.time_s
            judge(outcome, state)
            for line, connection in lines:
                if line - 5.0 < s + EGO_FRONT < line:
                    slowest[id(connection)] = min(slowest[id(connection)], speed)
                if before + EGO_FRONT <= line < s + EGO_FRONT:
                    if (
                        connection.signal
                        and state.signals[connection.signal, connection.link] is SignalColour.RED
                    ):
                        outcome.ran_red = True
                    outcome.ran_stop |= connection.priority is Priority.STOP and slowest[id(connection)] > 0.1
            if outcome.failed and stop_at is None:
                break
    return outcome


def judge(outcome: Outcome, state: WorldState) -> None:
    ego = state.ego
    x, y = ego_centre(ego)
    for actor in state.actors:
        if math.dist((x, y), (actor.x, actor.y)) < 12.0 and boxes_overlap(
            ego_corners(ego), actor_corners(actor)
        ):
            behind = (actor.x - x) * math.cos(ego.yaw) + (actor.y - y) * math.sin(ego.yaw) < -3.0
            if behind and math.cos(actor.yaw - ego.yaw) > 0.7:
                outcome.rear = actor.id
            else:
                outcome.contact = outcome.contact or actor.id


@pytest.mark.parametrize("family", SCRIPTED)
def test_who_ignores_everybody_fails(family: str) -> None:
    outcomes = {seed: drive(make_episode("dev", family, None, seed)) for seed in range(SEEDS)}
    failed = sum(outcome.failed for outcome in outcomes.values()) / SEEDS
    assert failed >= SMALLEST_FAILURE_SHARE, outcomes


@pytest.mark.parametrize(("family", "scenario"), [
    ("merging", "on_ramp"), ("merging", "lane_change"), ("merging", "side_road_right"),
    ("emergency_brake", "crossing_pedestrian"), ("emergency_brake", "red_light_runner"),
    ("give_way", "unprotected_left"), ("give_way", "priority_road"), ("give_way", "roundabout"),
])  # fmt: skip
def test_who_stops_before_the_conflict_is_left_alone(family: str, scenario: str) -> None:
    """Nobody of the script touches an ego that halts in time, and its part is over within 25 s."""
    for seed in range(4):
        spec = make_episode("train", family, scenario, seed)
        stop = min(spec.conflict_s - 2.5, spec.parameters["stop_s"]) - EGO_FRONT
        outcome = drive(spec, stop_at=stop, seconds=25.0)
        assert not outcome.contact.startswith(("script", "walker")), (spec.name, outcome)
        assert not outcome.rear.startswith("script")
        assert not outcome.ran_red


@pytest.mark.parametrize("scenario", ["red_light", "signal_change"])
def test_signals_turn_green_again_in_time(scenario: str) -> None:
    for seed in range(4):
        spec = make_episode("train", "traffic_signs", scenario, seed)
        stop = spec.parameters["stop_s"] - EGO_FRONT - 1.5
        x, y, yaw = spec.route.at(stop)
        key = (spec.parameters["signal"], spec.parameters["link"])
        colours: list[SignalColour] = []
        with Traffic(spec) as traffic:
            traffic.reset()
            s, speed = 0.0, spec.start_speed
            for _ in range(int(60 / 0.05)):
                speed = min(speed, math.sqrt(max(0.0, 2 * 3.0 * (stop - s))))
                s += speed * 0.05
                x, y, yaw = spec.route.at(s)
                colour = traffic.step(EgoPose(x=x, y=y, yaw=yaw, speed=speed)).signals[key]
                if not colours or colours[-1] is not colour:
                    colours.append(colour)
        order = {
            SignalColour.GREEN: SignalColour.YELLOW,
            SignalColour.YELLOW: SignalColour.RED,
            SignalColour.RED: SignalColour.GREEN,
        }
        assert all(order[a] is b for a, b in zip(colours, colours[1:], strict=False)), colours
        first = SignalColour.RED if scenario == "red_light" else SignalColour.GREEN
        assert colours[0] is first
        assert SignalColour.GREEN in colours[1:], colours


def test_approach_estimates_what_the_reference_drives() -> None:
    route = make_episode("train", "give_way", "unprotected_left", 0).route
    approach = Approach(route)
    times = route.arrival_times(6.0)
    for goal in (20.0, 50.0, 70.0):
        assert approach.time_to(0.0, 6.0, goal) == pytest.approx(times[int(goal)], abs=0.6)
    x, y, yaw = route.at(30.0)
    assert approach.locate(EgoPose(x=x, y=y, yaw=yaw, speed=1.0)) == pytest.approx(30.0, abs=0.1)


def test_meeting_and_needed_braking() -> None:
    """A stream that is seen later asks for harder braking."""
    spec = make_episode("train", "give_way", "priority_road", 0)
    p = spec.parameters
    from wpt_sim.route import build_route

    way = build_route(spec.road_map, p["stream_lanes"], p["stream_start"])
    meeting = first_meeting(spec.route, way, ego_from=p["stop_s"])
    assert meeting == Meeting(spec.conflict_s, p["meeting_other_s"])
    assert np.hypot(*(spec.route.points[int(meeting.ego_s)] - way.points[int(meeting.other_s)])) < 1.7
    slow = needed_braking(spec.road_map, spec.route, spec.start_speed, way, 4.0, meeting)
    fast = needed_braking(spec.road_map, spec.route, spec.start_speed, way, 25.0, meeting)
    assert 0.0 < slow < fast


@pytest.mark.slow
def test_blind_failure_shares_on_unseen_networks() -> None:
    for family in SCRIPTED:
        for scenario in scenario_names(family):
            failed = [drive(make_episode("test", family, scenario, seed)).failed for seed in range(10)]
            assert sum(failed) >= SMALLEST_FAILURE_SHARE * len(failed), (family, scenario, failed)


class Stage:
    """What a walker's script needs of the traffic."""

    def __init__(self, spec: EpisodeSpec):
        self.road_map, self.quiet_lanes = spec.road_map, set()

    def place(self, actor: Actor) -> None:
        self.walker = actor


def walk(offset: float, from_behind: float, sets_off: float = math.inf) -> tuple[EpisodeSpec, list[Actor]]:
    """The walker's states while an ego comes from `from_behind` metres at 5 m/s, halts with its front
    `offset` metres beyond the walker's line and drives on at 2.5 m/s `sets_off` seconds after its start; they
    must not touch.
    """
    spec = make_episode("tuning", "emergency_brake", "crossing_pedestrian", 0)
    script, stage = CrossingPedestrian(spec), Stage(spec)
    script.prepare(stage)
    halt = spec.conflict_s - EGO_FRONT + offset
    s, walker = halt - from_behind, []
    for step in range(600):
        speed = 5.0 if s < halt else 2.5 if step * DT >= sets_off else 0.0
        s = min(s + speed * DT, spec.route.length)
        x, y, yaw = spec.route.at(s)
        ego = EgoPose(x=x, y=y, yaw=yaw, speed=speed)
        script.before_step(stage, ego, step * DT)
        assert not boxes_overlap(ego_corners(ego), actor_corners(stage.walker))
        walker.append(stage.walker)
    return spec, walker


def walked(walker: list[Actor]) -> np.ndarray:
    """Metres from the kerb."""
    return np.array([math.dist((w.x, w.y), (walker[0].x, walker[0].y)) for w in walker])


@pytest.mark.parametrize(
    ("offset", "from_behind"), [(-0.5, 8.0), (1.0, 2.0)], ids=["at the bumper", "at the side"]
)
def test_a_walker_who_waits_for_a_standing_ego_turns_back_after_a_while(offset: float, from_behind: float):
    _, walker = walk(offset, from_behind)
    away = walked(walker)
    halted = int(np.argmax(away >= away.max() - 1e-6))
    assert away[halted] > (1.5 if from_behind > 5.0 else 0.1)
    assert all(w.speed == 0.0 for w in walker[halted + 1 : halted + int(3.9 / DT)])
    back = walker[halted + int(6.5 / DT)]
    assert math.cos(back.yaw - walker[0].yaw) == pytest.approx(-1.0, abs=1e-6)
    assert away[-1] == pytest.approx(0.0, abs=0.03) and walker[-1].speed == 0.0
    assert (np.diff(away[halted:]) <= 1e-9).all()  # back to the kerb for good


def test_a_waiting_walker_does_not_walk_into_an_ego_that_sets_off():
    spec, walker = walk(1.0, 2.0, sets_off=3.0)
    across = spec.parameters["from_lateral"] + spec.parameters["to_lateral"]
    assert walked(walker)[-1] == pytest.approx(across, abs=0.2)
