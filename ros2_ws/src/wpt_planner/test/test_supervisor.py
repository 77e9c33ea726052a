"""The rules by which a set may be planned on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_planner.findings import span
from wpt_planner.parameters import PlannerParameters
from wpt_planner.set_outcome import Outcome
from wpt_planner.supervisor import SetRefused, Supervisor, command_problem
from wpt_policy.frame import Command, CommandSource

S = 10**9
CAMERAS = ("cam_front", "cam_back", "cam_left")


def supervisor(
    *, use_sim_time: bool = False, may_mask: frozenset[str] = frozenset(), **values: object
) -> Supervisor:
    return Supervisor(
        PlannerParameters.from_values(values),
        cameras=CAMERAS,
        may_mask=may_mask,
        planner_name="policy",
        use_sim_time=use_sim_time,
    )


def test_a_fresh_set_has_no_problem_at_the_edges_of_its_bounds() -> None:
    rules = supervisor()
    for age_ns in (0, S // 2, -S // 20):
        assert rules.time_problem(1000 * S, 1000 * S + age_ns) is None


@pytest.mark.parametrize(
    ("age_ns", "parts"),
    [
        (S // 2 + 1, ("0.500 s old", "max_age 0.5 s")),
        (3 * S, ("3.0 s old", "max_age 0.5 s")),
        (-S // 10, ("lead the ROS clock by 0.100 s", "stamp_lead 0.05 s")),
        (5 * 3600 * S, ("5.0 hours behind", "use_sim_time:=true", "--clock")),
        (-7 * 365 * 86400 * S, ("7.0 years ahead of", "use_sim_time:=true")),
    ],
)
def test_a_set_of_another_time_is_refused_with_figures(age_ns: int, parts: tuple[str, ...]) -> None:
    sentence = supervisor().time_problem(10**18, 10**18 + age_ns)
    assert sentence is not None
    for part in parts:
        assert part in sentence


def test_simulated_time_zero_waits_for_the_clock() -> None:
    sentence = supervisor(use_sim_time=True).time_problem(1533151603 * S, 0)
    assert sentence is not None and "--clock" in sentence


def test_under_simulated_time_the_remedy_for_another_clock_is_another() -> None:
    sentence = supervisor(use_sim_time=True).time_problem(1533151603 * S, 5 * S)
    assert sentence is not None and "/clock" in sentence and "set use_sim_time" not in sentence


def test_a_plan_that_took_too_long_is_refused() -> None:
    rules = supervisor()
    assert rules.plan_age_problem(10 * S, 10 * S + S // 2, 480.0) is None
    sentence = rules.plan_age_problem(10 * S, 11 * S, 980.0)
    assert sentence is not None and "980 ms" in sentence


@given(st.lists(st.floats(0.04, 0.2), min_size=5, max_size=60), st.floats(0.5, 12.0))
def test_plans_keep_to_the_rate(gaps: list[float], rate: float) -> None:
    rules = supervisor(max_plan_rate=rate)
    planned, stamp = [], 0
    for gap in gaps:
        stamp += round(gap * S)
        if not rules.is_too_soon(stamp):
            planned.append(stamp)
    assert all(
        later - earlier >= 0.9 * S / rate - 1 for earlier, later in zip(planned, planned[1:], strict=False)
    )


def test_half_the_rate_takes_every_second_set_of_jittering_stamps() -> None:
    rules = supervisor(max_plan_rate=6.0)
    stamps = [round(S * (i / 12 + (0.004 if i % 3 else -0.004))) for i in range(1, 13)]
    assert [i for i, stamp in enumerate(stamps) if not rules.is_too_soon(stamp)] == [0, 2, 4, 6, 8, 10]


def test_rate_starts_anew_after_a_jump_back() -> None:
    rules = supervisor(max_plan_rate=1.0)
    assert not rules.is_too_soon(100 * S)
    assert not rules.is_too_soon(10 * S)


# Missing cameras


def refusal(rules: Supervisor, missing: tuple[str, ...], reference_ns: int = 10 * S) -> SetRefused:
    candidates = rules.candidates_to_hold(missing, reference_ns)
    with pytest.raises(SetRefused) as caught:
        rules.require_possible(missing, candidates, Outcome.INCOMPLETE)
    return caught.value


def test_skip_names_the_missing_camera() -> None:
    error = refusal(supervisor(), ("cam_back",))
    assert error.outcome is Outcome.INCOMPLETE and error.subject == "cam_back"
    assert "cam_back" in str(error) and "skip" in str(error)


def test_hold_takes_the_newest_image_that_is_young_enough() -> None:
    rules = supervisor(missing_camera="hold", hold_max_age=0.5)
    for stamp in (9 * S, 9 * S + S // 2, 9 * S + 6 * S // 10, 10 * S + 1):  # the last is newer than the set
        rules.remember("cam_back", stamp, f"image {stamp}")
    candidates = rules.candidates_to_hold(("cam_back",), 10 * S)
    rules.require_possible(("cam_back",), candidates, Outcome.INCOMPLETE)
    assert [stand_in.stamp_ns for stand_in in rules.stand_in("cam_back", candidates)] == [
        9 * S + 6 * S // 10,
        9 * S + S // 2,
    ]


def test_hold_refuses_an_image_that_is_too_old_and_one_of_before_a_reset() -> None:
    rules = supervisor(missing_camera="hold", hold_max_age=0.5)
    rules.remember("cam_back", 9 * S, "image")
    assert "hold_max_age 0.5 s" in str(refusal(rules, ("cam_back",)))
    rules.remember("cam_back", 10 * S, "image")
    rules.reset(keep_command=False)
    refusal(rules, ("cam_back",))


def test_mask_is_for_cameras_that_the_planner_may_lose() -> None:
    rules = supervisor(missing_camera="mask", may_mask=frozenset({"cam_back"}))
    rules.require_possible(("cam_back",), {}, Outcome.INCOMPLETE)
    (stand_in,) = rules.stand_in("cam_back", {})
    assert stand_in.is_mask
    error = refusal(rules, ("cam_back", "cam_front"))
    assert error.subject == "cam_front" and "policy was not trained to lose" in str(error)
    assert list(rules.stand_in("cam_front", {})) == []


def test_not_every_camera_can_be_masked() -> None:
    rules = supervisor(missing_camera="mask", may_mask=frozenset(CAMERAS))
    assert "no camera is left" in str(refusal(rules, CAMERAS))


# Command


def test_the_default_command_stands_in_and_says_so() -> None:
    command = supervisor(default_command="left").command_for(10 * S)
    assert command.is_default and command.command is Command.LEFT and command.source is CommandSource.FIXED
    assert "planning/command" in command.problem


def test_a_command_is_used_while_it_is_fresh() -> None:
    rules = supervisor(command_timeout=1.0)
    assert rules.set_command(Command.RIGHT, CommandSource.ROUTE, 10 * S, 99 * S) is None
    used = rules.command_for(11 * S)
    assert (used.command, used.source, used.is_default) == (Command.RIGHT, CommandSource.ROUTE, False)
    late = rules.command_for(11 * S + 1)
    assert late.is_default and "command_timeout 1 s" in late.problem


def test_a_command_of_another_clock_is_not_fresh_for_ever() -> None:
    rules = supervisor(command_timeout=1.0)
    rules.set_command(Command.LEFT, CommandSource.ROUTE, 11 * S, 10 * S)
    assert not rules.command_for(10 * S).is_default
    rules.set_command(Command.LEFT, CommandSource.ROUTE, 90_000_000 * S, 10 * S)
    used = rules.command_for(10 * S)
    assert used.is_default and "after the images" in used.problem


def test_a_command_without_stamp_counts_from_its_arrival_and_zero_timeout_never_ends() -> None:
    rules = supervisor(command_timeout=1.0)
    rules.set_command(Command.RIGHT, CommandSource.ROUTE, 0, 10 * S)
    assert not rules.command_for(10 * S + S // 2).is_default
    assert rules.command_for(12 * S).is_default
    forever = supervisor(command_timeout=0.0)
    forever.set_command(Command.RIGHT, CommandSource.ROUTE, 1, 1)
    assert not forever.command_for(10**18).is_default


@pytest.mark.parametrize("command", [0, 7, 255])
def test_an_unknown_command_is_no_command(command: int) -> None:
    rules = supervisor()
    sentence = rules.set_command(command, 2, S, S)
    assert sentence is not None and str(command) in sentence
    assert rules.command_for(S).is_default


def test_an_unknown_source_is_unknown() -> None:
    rules = supervisor()
    rules.set_command(Command.LEFT, 77, S, S)
    assert rules.command_for(S).source is CommandSource.UNKNOWN


def test_a_clock_jump_forgets_the_command_and_a_reset_by_hand_does_not() -> None:
    rules = supervisor()
    rules.set_command(Command.LEFT, 2, S, S)
    rules.reset(keep_command=True)
    assert not rules.command_for(S).is_default
    rules.reset(keep_command=False)
    assert rules.command_for(S).is_default


def test_a_command_that_the_planner_was_not_made_for_is_named() -> None:
    known = (Command.LEFT, Command.RIGHT, Command.STRAIGHT)
    assert command_problem(Command.LEFT, known, "policy") is None
    assert command_problem(Command.LANE_FOLLOW, (), "policy") is None
    sentence = command_problem(Command.LANE_FOLLOW, known, "policy")
    assert sentence is not None and "lane_follow" in sentence and "left, right, straight" in sentence


def test_spans_are_words() -> None:
    assert [span(int(seconds * S)) for seconds in (0.043, 3.2, 300, 5 * 3600, 3 * 86400, 1e8)] == [
        "0.043 s", "3.2 s", "5.0 minutes", "5.0 hours", "3.0 days", "3.2 years",
    ]  # fmt: skip
