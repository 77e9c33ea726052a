"""Each detection rule on a road drawn by hand: a street along x, a junction at 100..120 m, the opposing lane
at y = 3.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from wpt_sim.episode import DT, EpisodeSpec
from wpt_sim.infractions import BLOCKED_S, SCENARIO_TIMEOUT_S, InfractionMonitor, route_timeout
from wpt_sim.road_map import (
    Building,
    Connection,
    Lane,
    LaneKind,
    Priority,
    RoadMap,
    SignalHead,
    StopLine,
    Tree,
    Turn,
)
from wpt_sim.route import Route, build_route
from wpt_sim.route_progress import TrafficSpeedRatios
from wpt_sim.route_result import InfractionKind, RouteStatus
from wpt_sim.vehicles import EGO_CENTRE_AHEAD, EGO_LENGTH
from wpt_sim.world_state import Actor, ActorKind, EgoPose, SignalColour, WorldState

Kind = InfractionKind
LINE_X = 98.0


def lane(
    name: str, start: tuple[float, float], end: tuple[float, float], kind: LaneKind = LaneKind.DRIVING
) -> Lane:
    junction = "crossroads" if kind is LaneKind.JUNCTION else None
    return Lane(
        id=name,
        kind=kind,
        centre_line=np.array([start, end], dtype=float),
        width=3.5,
        speed_limit=10.0,
        edge=name,
        junction=junction,
    )


def road_map(priority: Priority = Priority.MAJOR) -> RoadMap:
    lanes = [
        lane("in", (0, 0), (100, 0)),
        lane("through", (100, 0), (120, 0), LaneKind.JUNCTION),
        lane("out", (120, 0), (220, 0)),
        lane("back_in", (220, 3.5), (120, 3.5)),
        lane("back_through", (120, 3.5), (100, 3.5), LaneKind.JUNCTION),
        lane("back_out", (100, 3.5), (0, 3.5)),
    ]
    signal = "lights" if priority is Priority.SIGNAL else None
    connection = Connection(
        from_lane="in",
        to_lane="out",
        via=("through",),
        turn=Turn.STRAIGHT,
        priority=priority,
        signal=signal,
        link=2 if signal else -1,
    )
    back = Connection(
        from_lane="back_in",
        to_lane="back_out",
        via=("back_through",),
        turn=Turn.STRAIGHT,
        priority=Priority.MAJOR,
    )
    line = np.array([[LINE_X, 1.75], [LINE_X, -1.75]])
    head = SignalHead(
        signal="lights",
        links=(1, 2),
        lane="in",
        stop_line=line,
        facing=math.pi,
        lamp_position=np.array([121.0, -3.0, 5.0]),
    )
    return RoadMap(
        name=f"hand_{priority.value}",
        lanes={entry.id: entry for entry in lanes},
        connections=(connection, back),
        junction_areas={"crossroads": np.array([[100.0, -3.0], [120.0, -3.0], [120.0, 6.0], [100.0, 6.0]])},
        signal_heads=(head,) if signal else (),
        stop_lines=(StopLine(lane="in", ends=line, priority=priority),)
        if priority is not Priority.MAJOR
        else (),
        buildings=(
            Building(
                footprint=np.array([[30.0, -12], [40, -12], [40, -8], [30, -8]]), height=5, colour_seed=0
            ),
        ),
        trees=(Tree(position=np.array([60.0, -9.0]), height=6.0, crown_radius=2.0),),
    )


class Bench:
    """Moves an ego by hand and shows every state to the monitor. centre positions are of the ego's box."""

    def __init__(self, priority: Priority = Priority.MAJOR, *, tick_limit: int = 4000, **spec: object):
        self.road_map = road_map(priority)
        self.route: Route = build_route(self.road_map, ("in", "through", "out"))
        values = {
            "split": "test",
            "network": "hand",
            "seed": 0,
            "family": "merging",
            "scenario": "none",
            "lanes": self.route.lanes,
            "start": 0.0,
            "length": 220.0,
            "start_speed": 10.0,
        }
        self.monitor = InfractionMonitor(
            self.road_map, self.route, EpisodeSpec(**{**values, **spec}), tick_limit=tick_limit
        )
        self.time_s = 0.0

    def tick(
        self,
        x: float,
        y: float = 0.0,
        *,
        yaw: float = 0.0,
        speed: float = 10.0,
        actors: Iterable[Actor] = (),
        colour: SignalColour | None = None,
    ) -> tuple:
        ego = EgoPose(
            x=x - EGO_CENTRE_AHEAD * math.cos(yaw),
            y=y - EGO_CENTRE_AHEAD * math.sin(yaw),
            yaw=yaw,
            speed=speed,
        )
        signals = {("lights", 2): colour, ("lights", 1): SignalColour.GREEN} if colour else {}
        new = self.monitor.update(
            WorldState(time_s=self.time_s, ego=ego, actors=tuple(actors), signals=signals)
        )
        self.time_s = round(self.time_s + DT, 6)
        return new

    def drive(
        self,
        start: float,
        end: float,
        *,
        y: float = 0.0,
        speed: float = 10.0,
        actors: Callable[[float], Iterable[Actor]] = lambda time_s: (),
        colour: Callable[[float], SignalColour | None] = lambda x: None,
    ) -> None:
        step = math.copysign(speed * DT, end - start)
        for x in np.arange(start, end, step):
            self.tick(float(x), y, speed=speed, actors=actors(self.time_s), colour=colour(float(x)))

    @property
    def kinds(self) -> list[InfractionKind]:
        return [entry.kind for entry in self.monitor.infractions]


def car(
    x: float,
    y: float = 0.0,
    *,
    name: str = "car",
    speed: float = 0.0,
    yaw: float = 0.0,
    kind: ActorKind = ActorKind.CAR,
    length: float = 4.5,
    width: float = 1.8,
) -> Actor:
    return Actor(id=name, kind=kind, x=x, y=y, yaw=yaw, speed=speed, length=length, width=width, height=1.5)


def walker(x: float, y: float, name: str = "walker") -> Actor:
    return car(x, y, name=name, kind=ActorKind.PEDESTRIAN, length=0.5, width=0.6)


# Completion ---------------------------------------------------------------------------------------------


def test_a_clean_drive_is_perfect() -> None:
    bench = Bench()
    bench.drive(0.0, 230.0)
    assert bench.monitor.status is RouteStatus.PERFECT
    assert bench.monitor.completion == 1.0
    assert bench.monitor.infractions == []
    assert bench.monitor.outside_share == 0.0


def test_completion_is_the_share_of_points_passed() -> None:
    bench = Bench()
    bench.drive(0.0, 110.3)
    assert bench.monitor.completion == pytest.approx(0.5, abs=0.01)
    assert not bench.monitor.finished


def test_the_route_is_complete_beyond_99_percent_and_not_before() -> None:
    bench = Bench()
    bench.drive(0.0, 216.6)
    assert not bench.monitor.finished
    bench.drive(216.6, 219.5)
    assert bench.monitor.finished


def test_points_skipped_by_a_jump_are_not_passed() -> None:
    """Only two points beyond the last passed one are tried, so a short cut earns nothing."""
    bench = Bench()
    bench.tick(0.0)
    bench.tick(150.0)
    assert bench.monitor.completion < 0.02


# Collisions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (car(50.0), Kind.COLLISION_VEHICLE),
        (car(50.0, kind=ActorKind.BICYCLE, width=0.6), Kind.COLLISION_VEHICLE),
        (walker(50.0, 0.5), Kind.COLLISION_PEDESTRIAN),
    ],
)
def test_a_contact_is_one_event_with_time_and_place(other: Actor, kind: InfractionKind) -> None:
    bench = Bench()
    bench.drive(0.0, 60.0, actors=lambda t: [other])
    assert bench.kinds == [kind]
    entry = bench.monitor.infractions[0]
    front = other.x - other.length / 2 - EGO_LENGTH / 2
    assert entry.x == pytest.approx(front, abs=0.6) and entry.y == 0.0
    assert entry.time_s == pytest.approx(front / 10.0, abs=0.1)
    assert entry.actor == other.id


def test_passing_close_by_is_no_contact() -> None:
    bench = Bench()
    bench.drive(0.0, 90.0, actors=lambda t: [car(50.0, 1.8), walker(60.0, -1.3)])
    assert bench.kinds == []


def test_building_and_tree_are_static() -> None:
    bench = Bench()
    bench.tick(35.0, -7.5, speed=5.0)
    assert bench.kinds[:1] == [Kind.COLLISION_STATIC]
    bench.tick(60.0, -8.5, speed=5.0)
    assert bench.kinds.count(Kind.COLLISION_STATIC) == 2


def test_a_contact_while_standing_is_ignored_until_the_ego_moves() -> None:
    bench = Bench()
    for _ in range(40):
        bench.tick(50.0, speed=0.05, actors=[car(54.0, yaw=math.pi, speed=3.0)])
    assert bench.kinds == []
    bench.tick(50.1, speed=1.0, actors=[car(54.0, yaw=math.pi)])
    assert bench.kinds == [Kind.COLLISION_VEHICLE]


def test_a_second_contact_within_five_metres_is_ignored() -> None:
    bench = Bench()
    bench.drive(
        0.0,
        75.0,
        actors=lambda t: (
            [car(50.0, length=1.0), car(53.0, name="second", length=1.0)]
            if t < 5.02
            else [car(70.0, name="third")]
        ),
    )
    assert [entry.actor for entry in bench.monitor.infractions] == ["car", "third"]


def test_the_same_object_within_five_seconds_is_ignored() -> None:
    def circling(time_s: float) -> list[Actor]:  # touches at 2, 4.9 and 8 s, always farther than 5 m on
        touching = any(abs(time_s - at) < 0.03 for at in (2.0, 4.9, 8.0))
        return [car(10.0 * time_s + (3.0 if touching else 30.0))]

    bench = Bench()
    bench.drive(0.0, 95.0, actors=circling)
    assert [round(entry.time_s, 1) for entry in bench.monitor.infractions] == [2.0, 8.0]


def test_a_follower_that_runs_into_the_ego_is_listed_apart() -> None:
    bench = Bench()
    for i in range(100):  # 5 s behind, closing, then into the rear
        bench.tick(50.0 + 0.1 * i, speed=2.0, actors=[car(30.0 + 0.27 * i, speed=5.4)])
    assert bench.kinds == []
    assert [hit.actor for hit in bench.monitor.rear_end_hits] == ["car"]


def test_cutting_in_before_a_follower_is_the_egos_fault() -> None:
    bench = Bench()
    for i in range(30):  # beside it for a second, then into its lane close before it
        y = 3.5 if i < 20 else 3.5 - 0.35 * (i - 20)
        bench.tick(50.0 + 0.1 * i, y, speed=2.0, actors=[car(46.6 + 0.12 * i, speed=2.4)])
    assert Kind.COLLISION_VEHICLE in bench.kinds
    assert bench.monitor.rear_end_hits == []


# Red light and stop sign --------------------------------------------------------------------------------


def test_passing_on_red_counts_once() -> None:
    bench = Bench(Priority.SIGNAL)
    bench.drive(60.0, 140.0, colour=lambda x: SignalColour.RED)
    assert bench.kinds == [Kind.RED_LIGHT]
    assert bench.monitor.infractions[0].x == pytest.approx(LINE_X + 0.8 * EGO_LENGTH / 2, abs=0.6)


@pytest.mark.parametrize("colour", [SignalColour.GREEN, SignalColour.YELLOW, SignalColour.OFF])
def test_other_colours_are_free(colour: SignalColour) -> None:
    bench = Bench(Priority.SIGNAL)
    bench.drive(60.0, 140.0, colour=lambda x: colour)
    assert bench.kinds == []


def test_the_rear_decides_when_the_light_turns_red() -> None:
    """Red from the moment at which the rear bumper is 1.5 m past the line: free; while it is on the line:
    run.
    """
    beyond = LINE_X + EGO_LENGTH / 2 + 1.5
    late, early = Bench(Priority.SIGNAL), Bench(Priority.SIGNAL)
    late.drive(60.0, 140.0, colour=lambda x: SignalColour.RED if x > beyond else SignalColour.YELLOW)
    early.drive(60.0, 140.0, colour=lambda x: SignalColour.RED if x > beyond - 1.6 else SignalColour.YELLOW)
    assert late.kinds == []
    assert early.kinds == [Kind.RED_LIGHT]


def test_waiting_at_the_line_is_no_infraction() -> None:
    bench = Bench(Priority.SIGNAL)
    bench.drive(60.0, LINE_X - 1.0, colour=lambda x: SignalColour.RED)  # the front bumper stands on the line
    for _ in range(100):
        bench.tick(LINE_X - 1.0, speed=0.0, colour=SignalColour.RED)
    bench.drive(LINE_X - 1.0, 140.0, colour=lambda x: SignalColour.GREEN)
    assert bench.kinds == []


def test_the_light_of_the_other_direction_does_not_count() -> None:
    bench = Bench(Priority.SIGNAL)
    for x in np.arange(130.0, 80.0, -0.5):
        bench.tick(float(x), 0.4, yaw=math.pi, colour=SignalColour.RED)
    assert Kind.RED_LIGHT not in bench.kinds


def test_a_stop_sign_needs_a_stop_before_the_line() -> None:
    rolling, early, proper = Bench(Priority.STOP), Bench(Priority.STOP), Bench(Priority.STOP)
    rolling.drive(60.0, 140.0, speed=1.5)
    assert rolling.kinds == [Kind.STOP_SIGN]
    for bench, stop_x in ((early, LINE_X - 10.0), (proper, LINE_X - EGO_LENGTH / 2 - 1.0)):
        bench.drive(60.0, stop_x, speed=2.0)
        bench.tick(stop_x, speed=0.05)
        bench.drive(stop_x, 140.0, speed=2.0)
    assert early.kinds == [Kind.STOP_SIGN]
    assert proper.kinds == []


def test_a_yield_line_needs_no_stop() -> None:
    bench = Bench(Priority.YIELD)
    bench.drive(60.0, 140.0)
    assert bench.kinds == []


# Lanes --------------------------------------------------------------------------------------------------


def test_share_driven_off_the_road() -> None:
    bench = Bench()
    bench.drive(0.0, 45.0)
    bench.drive(45.0, 55.0, y=-2.4)  # half a lane is 1.75 m, another 0.5 m is allowed
    bench.drive(55.0, 100.0)
    assert bench.kinds == [Kind.OUTSIDE_LANES]
    assert bench.monitor.outside_share == pytest.approx(0.1, abs=0.03)


def test_half_a_metre_beside_the_lane_is_allowed() -> None:
    bench = Bench()
    bench.drive(0.0, 95.0, y=-2.2)
    assert bench.kinds == []


def test_driving_against_the_traffic_counts_outside_zones_and_junctions_only() -> None:
    wrong, in_zone = Bench(), Bench(zones=((0.0, 90.0),))
    for bench in (wrong, in_zone):
        bench.drive(0.0, 90.0, y=3.5)
    assert wrong.kinds == [Kind.OUTSIDE_LANES]
    assert "opposing lane back_out" in wrong.monitor.infractions[0].detail
    assert wrong.monitor.outside_share == pytest.approx(1.0, abs=0.02)
    assert in_zone.kinds == []
    junction = Bench()
    junction.drive(101.0, 119.0, y=3.5)
    assert junction.kinds == []


def test_in_a_zone_leaving_the_road_still_counts() -> None:
    bench = Bench(zones=((0.0, 90.0),))
    bench.drive(0.0, 40.0, y=6.5)
    assert bench.kinds == [Kind.OUTSIDE_LANES]


# Ends ---------------------------------------------------------------------------------------------------


def test_thirty_metres_off_the_route_end_it() -> None:
    bench = Bench()
    bench.tick(20.0)
    bench.tick(20.0, 29.0)
    assert not bench.monitor.finished
    bench.tick(20.0, 31.0)
    assert bench.monitor.status is RouteStatus.FAILED
    assert bench.kinds[-1] is Kind.OFF_ROUTE


def test_a_third_of_the_route_far_beside_it_ends_it() -> None:
    bench = Bench()
    bench.drive(0.0, 62.0, y=20.0)
    assert not bench.monitor.finished
    bench.drive(62.0, 70.0, y=20.0)
    assert bench.kinds[-1] is Kind.OFF_ROUTE


def test_standing_for_a_minute_ends_it_and_moving_starts_the_minute_anew() -> None:
    bench = Bench()
    almost = round(BLOCKED_S / DT) - 5
    for _ in range(almost):
        bench.tick(20.0, speed=0.0)
    bench.tick(20.2, speed=1.0)
    for _ in range(almost):
        bench.tick(20.2, speed=0.0)
    assert not bench.monitor.finished
    for _ in range(10):
        bench.tick(20.2, speed=0.0)
    assert bench.kinds == [Kind.BLOCKED]
    assert bench.monitor.status is RouteStatus.FAILED


def test_the_tick_limit_ends_it() -> None:
    bench = Bench(tick_limit=100)
    for i in range(100):
        bench.tick(10.0 + 0.01 * i, speed=0.2)
    assert not bench.monitor.finished
    bench.tick(12.0, speed=0.2)
    assert bench.kinds == [Kind.TICK_LIMIT]


def test_the_route_timeout_is_300_s_and_each_metre_at_a_tenth_of_the_limit() -> None:
    bench = Bench(tick_limit=10**6)
    assert route_timeout(bench.route) == pytest.approx(300.0 + 221.0, abs=2.0)
    bench.time_s = 530.0
    bench.tick(10.0)
    assert bench.kinds == [Kind.ROUTE_TIMEOUT]


def test_creeping_before_the_scenario_times_it_out_once() -> None:
    bench = Bench(conflict_s=100.0, tick_limit=10**6)
    for i in range(round((SCENARIO_TIMEOUT_S + 20.0) / DT)):
        bench.tick(55.0 + 0.005 * i, speed=0.15)
    assert bench.kinds == [Kind.SCENARIO_TIMEOUT]
    assert not bench.monitor.finished


def test_a_scenario_that_is_passed_in_time_is_no_infraction() -> None:
    bench = Bench(conflict_s=100.0)
    bench.drive(0.0, 230.0)
    assert bench.monitor.status is RouteStatus.PERFECT


def test_nothing_is_judged_after_the_end() -> None:
    bench = Bench()
    bench.drive(0.0, 230.0)
    assert bench.tick(50.0, actors=[car(50.0)]) == ()
    assert bench.monitor.infractions == []


# Result -------------------------------------------------------------------------------------------------


def test_the_result_knows_whether_the_first_junction_was_passed() -> None:
    bench = Bench()
    bench.drive(0.0, 110.0)
    assert not bench.monitor.result("p").past_first_junction
    bench.drive(110.0, 125.0)
    result = bench.monitor.result("p")
    assert result.past_first_junction
    assert result.status is RouteStatus.FAILED  # it has not ended
    assert result.comfort_si == 1.0
    assert result.distance == pytest.approx(125.0, abs=1.5)


def test_speed_ratios_are_means_per_twentieth_of_the_route() -> None:
    ratios = TrafficSpeedRatios(200.0)
    for metre in range(201):
        ratios.update(metre, 5.0 if metre <= 100 else 10.0, [4.0, 16.0] if metre < 150 else [])
    assert len(ratios.ratios) == 15
    assert ratios.ratios[:10] == pytest.approx([0.5] * 10)
    assert ratios.ratios[11:] == pytest.approx([1.0] * 4)


def test_standing_traffic_gives_no_ratio() -> None:
    ratios = TrafficSpeedRatios(20.0)
    ratios.update(10.0, 5.0, [0.0])
    assert ratios.ratios == []
