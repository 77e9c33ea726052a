"""The declaration, the dataclass and the README speak of the same parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.context import Context
from wpt_planner.parameters import (
    ParameterError,
    PlannerParameters,
    declare_parameters,
    load_declarations,
    markdown_table,
    read_parameters,
    thread_counts,
)
from wpt_planner.shared_files import shared_file
from wpt_policy.frame import Command
from wpt_policy.plausibility import PlausibilityLimits

README = Path(__file__).resolve().parent.parent / "README.md"


def test_every_field_is_declared_and_every_declaration_is_a_field() -> None:
    fields = {field.name for field in dataclasses.fields(PlannerParameters)} - {"limits"}
    fields |= {f"limits.{field.name}" for field in dataclasses.fields(PlausibilityLimits)}
    assert set(load_declarations()) == fields


def test_defaults_of_the_limits_are_those_of_the_policy_package() -> None:
    assert PlannerParameters.from_values({}).limits == PlausibilityLimits()


def test_the_readme_holds_the_present_table() -> None:
    assert markdown_table() in README.read_text(encoding="utf-8"), (
        "the README's parameter table is stale: replace it by the output of python3 -m wpt_planner.parameters --markdown"
    )


def test_the_users_file_names_declared_parameters_with_allowed_values() -> None:
    values = yaml.safe_load(shared_file("config", "planner.yaml").read_text())["/**"]["ros__parameters"]
    parameters = PlannerParameters.from_values(values)
    assert parameters.planner == "wpt-compact"


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"missing_camera": "black"}, "skip, hold, mask"),
        ({"max_age": 0.0}, "0.01 to 60.0 s"),
        ({"max_age": 1}, "expected a double"),
        ({"autostart": "yes"}, "expected a bool"),
        ({"cameras": []}, "at least one name"),
        ({"cameras": ["cam_front", "cam_front"]}, "each name once"),
        ({"set_timeout": 0.6}, "max_age"),
        ({"colour": "red"}, "not known"),
        ({"base_frame": ""}, "base_link"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_in_one_sentence(values: dict, part: str) -> None:
    with pytest.raises(ParameterError) as caught:
        PlannerParameters.from_values(values)
    assert part in str(caught.value)
    assert next(iter(values)) in str(caught.value)


def test_values_are_converted() -> None:
    parameters = PlannerParameters.from_values({"default_command": "left", "cameras": ["a", "b"]}, cores=8)
    assert parameters.default_command is Command.LEFT
    assert parameters.cameras == ("a", "b")
    assert (parameters.decode_threads, parameters.torch_threads) == (2, 6)


@pytest.mark.parametrize("cores", range(2, 130))
def test_default_threads_do_not_exceed_the_cores(cores: int) -> None:
    opencv_threads = PlannerParameters.from_values({}, cores=cores).opencv_threads
    decode, torch = thread_counts(cores, 0, 0)
    assert decode >= 1 and torch >= 1
    assert decode * opencv_threads + torch <= cores


def test_asked_threads_are_taken_as_they_are() -> None:
    assert thread_counts(4, 5, 7) == (5, 7)


@pytest.mark.node
def test_an_empty_list_is_named() -> None:
    context = Context()
    rclpy.init(context=context, args=["--ros-args", "-p", "cameras:=[]"])
    node = rclpy.create_node("empty", context=context)
    try:
        declare_parameters(node)
        with pytest.raises(ParameterError, match="cameras is empty, expected a value"):
            read_parameters(node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
