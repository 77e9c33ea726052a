"""Driving routes: who moves the ego, what a planner is shown, and drivers that go wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from wpt_policy import se3
from wpt_policy.baselines import ConstantVelocityPlanner, StopPlanner
from wpt_policy.frame import Command, CommandSource, Frame
from wpt_policy.image_input import ImageInput, ImageInputSpec
from wpt_policy.plan import Plan
from wpt_sim.closed_loop import drive_route
from wpt_sim.driver_names import make_driver
from wpt_sim.ego_vehicle import Control
from wpt_sim.episode import EpisodeSpec, make_episode
from wpt_sim.errors import SimulationError
from wpt_sim.planner_source import FIRST_STAMP_NS, PlannerSource, understood
from wpt_sim.planning_driver import PlanningDriver
from wpt_sim.route_result import InfractionKind, RouteStatus
from wpt_sim.time_limit import TookTooLong, time_limit
from wpt_sim.world_state import EgoPose, WorldState

pytest.importorskip("libsumo", reason="libsumo is not installed: no traffic can be run")


@pytest.fixture(scope="module")
def spec() -> EpisodeSpec:
    """A short natural route with few others, so that a step costs little."""
    drawn = make_episode("dev", "natural", None, 1)
    return replace(drawn, vehicles=4, pedestrians=1, parked=0)


class Recording(StopPlanner):
    """Stands still; keeps the frames it was given."""

    def __init__(
        self, image_input: ImageInput | None = None, answer: Callable[[Frame], object] | None = None
    ):
        self.frames: list[Frame] = []
        self.image_input = image_input
        self.answer = answer

    def plan(self, frame: Frame) -> Plan:
        self.frames.append(frame)
        return super().plan(frame) if self.answer is None else self.answer(frame)


def straight(frame: Frame, speed: float = 5.0) -> Plan:
    return Plan(
        reference_stamp_ns=frame.reference_stamp_ns,
        dt_s=0.5,
        planner="straight",
        positions=np.array([[0.5 * i * speed, 0.0] for i in range(7)]),
    )


def test_every_state_is_shown_and_the_same_drive_gives_the_same_result(spec: EpisodeSpec) -> None:
    runs = []
    for _ in range(2):
        states: list[WorldState] = []
        result = drive_route(
            spec,
            make_driver("blind_follower"),
            tick_limit=100,
            on_state=lambda state, new, states=states: states.append(state),
        )
        runs.append((result, [(s.ego, s.actors) for s in states]))
    assert runs[0] == runs[1]
    assert len(runs[0][1]) == 101
    assert runs[0][0].infractions[-1].kind is InfractionKind.TICK_LIMIT


@pytest.mark.parametrize(("rate", "plans"), [(2.0, 4), (10.0, 20)])
def test_plans_are_asked_for_at_the_plan_rate(spec: EpisodeSpec, rate: float, plans: int) -> None:
    planner = Recording()
    drive_route(spec, PlanningDriver(PlannerSource(planner), plan_rate=rate), tick_limit=40)
    stamps = [frame.reference_stamp_ns for frame in planner.frames]
    assert len(stamps) == plans
    assert set(np.diff(stamps)) == {round(1e9 / rate)}
    assert stamps[0] == FIRST_STAMP_NS


@pytest.mark.parametrize("rate", [0.0, 1.0, 3.0, 20.0, -2.0])
def test_other_plan_rates_are_refused(rate: float) -> None:
    with pytest.raises(SimulationError, match="choose 2, 4, 5 or 10"):
        PlanningDriver(PlannerSource(StopPlanner()), plan_rate=rate)


def test_the_frame_holds_exact_motion_and_the_routes_command(spec: EpisodeSpec) -> None:
    source = PlannerSource(ConstantVelocityPlanner())
    source.reset(spec)
    x, y, yaw = spec.route.at(0.0)
    state = WorldState(time_s=1.5, ego=EgoPose(x=x, y=y, yaw=yaw, speed=4.0, steer=0.2), actors=())
    source.watch(state)
    frame = source.frame(state)
    assert frame.reference_stamp_ns == FIRST_STAMP_NS + 1_500_000_000
    assert np.allclose(frame.ego.odom_from_base, se3.planar(x, y, yaw))
    assert frame.ego.linear_velocity.tolist() == [4.0, 0.0, 0.0]
    assert frame.ego.angular_velocity[2] == pytest.approx(4.0 * math.tan(0.2) / 2.588)
    assert frame.command_source is CommandSource.ROUTE
    assert len(frame.views) == 6
    assert all(view.pixels is None for view in frame.views.values())


def test_images_are_rendered_as_the_planners_input_prepares_them(spec: EpisodeSpec) -> None:
    image_input = ImageInput(ImageInputSpec(width=96, height=48, crop="top"))
    planner = Recording(image_input)
    planner.cameras = ("cam_front", "cam_back")
    drive_route(spec, PlanningDriver(PlannerSource(planner)), tick_limit=2)
    views = planner.frames[0].views
    assert tuple(views) == planner.cameras
    for view in views.values():
        assert view.pixels.shape == (48, 96, 3) and view.pixels.dtype == np.uint8
        assert (view.calibration.width, view.calibration.height) == (96, 48)
        assert view.pixels.std() > 5.0


def test_a_rig_without_the_planners_cameras_is_refused() -> None:
    planner = Recording()
    planner.cameras = ("cam_roof",)
    with pytest.raises(SimulationError, match="cam_roof"):
        PlannerSource(planner)


def test_a_stopping_planner_stands_and_a_driving_one_moves(spec: EpisodeSpec) -> None:
    final = {}
    for name, answer in (("stop", None), ("drive", straight)):
        states: list[WorldState] = []
        driver = PlanningDriver(PlannerSource(Recording(answer=answer)))
        drive_route(
            spec, driver, tick_limit=100, on_state=lambda state, new, states=states: states.append(state)
        )
        final[name] = states[-1].ego
    assert final["stop"].speed == pytest.approx(0.0, abs=0.05)
    assert final["drive"].speed == pytest.approx(5.0, abs=0.8)


def raising(frame: Frame) -> Plan:
    raise ZeroDivisionError("the model\nbroke")


def sleeping(frame: Frame) -> Plan:
    time.sleep(30.0)
    return straight(frame)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raising, "stop raised ZeroDivisionError: the model broke"),
        (lambda frame: replace(straight(frame), positions=np.full((7, 2), np.nan)), "not finite"),
        (lambda frame: replace(straight(frame), positions=np.zeros((0, 2))), "shape"),
        (lambda frame: None, "NoneType, expected a Plan"),
        (sleeping, "took longer than 0.2 s"),
    ],
)
def test_a_planner_that_goes_wrong_is_named_and_ends_its_route(
    spec: EpisodeSpec, answer: Callable[[Frame], object], words: str
) -> None:
    driver = PlanningDriver(PlannerSource(Recording(answer=answer)), plan_timeout=0.2)
    result = drive_route(spec, driver, tick_limit=100)
    assert result.status is RouteStatus.FAILED
    assert [entry.kind for entry in result.infractions] == [InfractionKind.PLANNER_FAILURE]
    assert words in result.failure and "\n" not in result.failure
    assert drive_route(spec, make_driver("stop"), tick_limit=3).failure is None  # the world goes on


def test_a_driver_that_raises_while_getting_ready_is_its_own_failure(spec: EpisodeSpec) -> None:
    class Unready:
        name = "unready"

        def reset(self, spec: EpisodeSpec) -> None:
            raise RuntimeError("no weights")

        def control(self, state: WorldState) -> Control:
            raise AssertionError

    assert drive_route(spec, Unready()).failure == "unready raised RuntimeError: no weights"


def test_commands_a_planner_was_not_made_for_become_the_nearest_it_knows() -> None:
    three = (Command.LEFT, Command.RIGHT, Command.STRAIGHT)
    assert understood(Command.LANE_FOLLOW, three) is Command.STRAIGHT
    assert understood(Command.CHANGE_LANE_LEFT, three) is Command.LEFT
    assert understood(Command.CHANGE_LANE_LEFT, ()) is Command.CHANGE_LANE_LEFT
    assert (
        understood(Command.LANE_FOLLOW, (Command.LEFT,)) is Command.LANE_FOLLOW
    )  # left to the planner to refuse


def test_a_time_limit_leaves_an_outer_one_running() -> None:
    with pytest.raises(TookTooLong, match="outer"), time_limit(0.3, "outer"):
        with time_limit(5.0, "inner"):
            pass
        time.sleep(5.0)


def test_unknown_drivers_are_named_with_those_that_exist() -> None:
    with pytest.raises(SimulationError, match="expert_plan.*constant_velocity"):
        make_driver("nobody")
