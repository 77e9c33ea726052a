"""The node's parameters: declared in config/planner_parameters.yaml, read into one frozen dataclass.

``python3 -m wpt_planner.parameters --markdown`` prints the table of the package's README.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml
from wpt_policy.frame import Command
from wpt_policy.plausibility import PlausibilityLimits

from wpt_planner.shared_files import shared_file

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node

_PYTHON_TYPES = {"string": str, "bool": bool, "integer": int, "double": float, "string_array": list}
_DECLARATION_KEYS = {"type", "default", "minimum", "maximum", "choices", "unit", "description", "read_only"}


class ParameterError(ValueError):
    """A parameter value, or a combination of values, that the node cannot work with; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One declared parameter. minimum and maximum are inclusive; choices are the allowed strings."""

    group: str
    name: str
    type: str
    default: Any
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    def problem(self, value: Any) -> str | None:
        """Return one sentence about what is wrong with ``value``, or None."""
        expected = _PYTHON_TYPES[self.type]
        if self.type == "string_array" and isinstance(value, Sequence) and not isinstance(value, str):
            value = list(value)
        if type(value) is not expected:
            return f"parameter {self.name} is {value!r}, expected {_article(self.type)}"
        if self.choices and value not in self.choices:
            return f"parameter {self.name} is {value!r}, expected one of {', '.join(self.choices)}"
        if self.minimum is not None and not self.minimum <= value <= self.maximum:
            unit = f" {self.unit}" if self.unit else ""
            return f"parameter {self.name} is {value!r}, expected {self.minimum} to {self.maximum}{unit}"
        return None

    def allowed(self) -> str:
        """The allowed values in words, for the table."""
        if self.choices:
            return ", ".join(f"`{choice}`" for choice in self.choices)
        if self.minimum is not None:
            return f"{self.minimum:g} to {self.maximum:g}"
        return ""


@functools.cache  # reading the file takes 40 ms, and the node asks at every parameter that is set
def load_declarations() -> Mapping[str, Declaration]:
    """Return every declaration of planner_parameters.yaml by name, in its order; raises ParameterError."""
    groups = yaml.safe_load(shared_file("config", "planner_parameters.yaml").read_text(encoding="utf-8"))
    declarations: dict[str, Declaration] = {}
    for group, parameters in groups.items():
        for name, entry in parameters.items():
            unknown = set(entry) - _DECLARATION_KEYS
            if unknown or entry.get("type") not in _PYTHON_TYPES or not entry.get("description"):
                raise ParameterError(
                    f"declaration of parameter {name} is not valid, expected a known type, a description and only "
                    f"{', '.join(sorted(_DECLARATION_KEYS))}"
                )
            if name in declarations:
                raise ParameterError(f"parameter {name} is declared twice, expected once")
            values = {**entry, "choices": tuple(entry.get("choices", ()))}
            declaration = Declaration(group=group, name=name, **values)
            if (problem := declaration.problem(declaration.default)) is not None:
                raise ParameterError(f"default of the declaration is wrong: {problem}")
            declarations[name] = declaration
    return MappingProxyType(declarations)


@dataclass(frozen=True, kw_only=True)
class PlannerParameters:
    """All parameters of one configured node; names, units and meaning as in planner_parameters.yaml (seconds)."""

    planner: str
    device: str
    precision: str
    autostart: bool
    cameras: tuple[str, ...]
    base_frame: str
    transport: str
    images_rectified: bool
    synchronizer: str
    max_skew: float
    set_timeout: float
    missing_camera: str
    hold_max_age: float
    max_plan_rate: float
    max_age: float
    stamp_lead: float
    trajectory_deadline: float
    ego_wait: float
    max_extrapolation: float
    require_ego: bool
    default_command: Command
    command_timeout: float
    limits: PlausibilityLimits
    publish_overlay: bool
    silent_after: float
    decode_threads: int
    torch_threads: int
    opencv_threads: int
    switch_interval: float

    @classmethod
    def from_values(cls, values: Mapping[str, Any], cores: int | None = None) -> PlannerParameters:
        """Build from raw parameter values by name; absent ones take their defaults.

        cores: for the automatic thread counts, None asks the system. Raises ParameterError with the first problem.
        """
        declarations = load_declarations()
        unknown = sorted(set(values) - set(declarations))
        if unknown:
            raise ParameterError(
                f"parameter {unknown[0]} is not known, expected one of planner_parameters.yaml"
            )
        merged = {name: values.get(name, declaration.default) for name, declaration in declarations.items()}
        for name, declaration in declarations.items():
            if (problem := declaration.problem(merged[name])) is not None:
                raise ParameterError(problem)
        limits = {
            name.removeprefix("limits."): merged.pop(name)
            for name in list(merged)
            if name.startswith("limits.")
        }
        merged["limits"] = PlausibilityLimits(**limits)
        merged["cameras"] = tuple(merged["cameras"])
        merged["default_command"] = Command[merged["default_command"].upper()]
        cores = cores if cores is not None else available_cores()
        decode, torch = thread_counts(cores, merged["decode_threads"], merged["torch_threads"])
        merged |= {"decode_threads": decode, "torch_threads": torch}
        parameters = cls(**merged)
        parameters._check_combinations()
        return parameters

    def _check_combinations(self) -> None:
        if not self.cameras or len(set(self.cameras)) != len(self.cameras) or not all(self.cameras):
            raise ParameterError(
                f"parameter cameras is {list(self.cameras)}, expected at least one name and each name once"
            )
        if not self.base_frame:
            raise ParameterError("parameter base_frame is empty, expected a frame name such as base_link")
        if self.set_timeout >= self.max_age:
            raise ParameterError(
                f"set_timeout {self.set_timeout:g} s is not below max_age {self.max_age:g} s: a set that waits so "
                "long for its images is stale before it is planned on; lower set_timeout or raise max_age"
            )


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def thread_counts(cores: int, decode_threads: int, torch_threads: int) -> tuple[int, int]:
    """Return (decode, torch) threads with 0 replaced: together they do not exceed the cores (but are one at least)."""
    if decode_threads == 0:
        decode_threads = max(1, min(3, cores // 4))
    if torch_threads == 0:
        torch_threads = max(1, cores - decode_threads)
    return decode_threads, torch_threads


def declare_parameters(node: Node) -> None:
    """Declare every parameter on an rclpy node with its type, bounds and description.

    Raises ParameterError when a value given at start has another type or is out of bounds.
    """
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    for declaration in load_declarations().values():
        try:
            node.declare_parameter(declaration.name, declaration.default, _descriptor(declaration))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            bounds = f" of {declaration.allowed()}" if declaration.minimum is not None else ""
            is_type = isinstance(error, InvalidParameterTypeException)
            hint = " (write a decimal point: 1.0, not 1)" if is_type and declaration.type == "double" else ""
            raise ParameterError(
                f"parameter {declaration.name} has a value that cannot be used, expected "
                f"{_article(declaration.type)}{bounds}{hint}: {error}"
            ) from None


def read_parameters(node: Node) -> PlannerParameters:
    """Return the node's present values; raises ParameterError."""
    from rclpy.exceptions import ParameterUninitializedException

    values = {}
    for name in load_declarations():
        try:
            values[name] = node.get_parameter(name).value
        except ParameterUninitializedException:
            # rclpy cannot tell the type of an empty list.
            raise ParameterError(
                f"parameter {name} is empty, expected a value; leave it out for its default"
            ) from None
    return PlannerParameters.from_values(values)


def _article(type_name: str) -> str:
    """``an integer``, ``a string list``."""
    words = type_name.replace("_", " ")
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _descriptor(declaration: Declaration) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    unit = f" [{declaration.unit}]" if declaration.unit else ""
    descriptor = ParameterDescriptor(
        name=declaration.name,
        description=declaration.description.strip() + unit,
        read_only=declaration.read_only,
    )
    if declaration.choices:
        descriptor.additional_constraints = "one of: " + ", ".join(declaration.choices)
    if declaration.type == "integer" and declaration.minimum is not None:
        descriptor.integer_range = [
            IntegerRange(from_value=int(declaration.minimum), to_value=int(declaration.maximum), step=0)
        ]
    if declaration.type == "double" and declaration.minimum is not None:
        descriptor.floating_point_range = [
            FloatingPointRange(
                from_value=float(declaration.minimum), to_value=float(declaration.maximum), step=0.0
            )
        ]
    return descriptor


def markdown_table() -> str:
    """Return the parameter tables, one per group, as they stand in the README."""
    lines: list[str] = []
    group = None
    for declaration in load_declarations().values():
        if declaration.group != group:
            group = declaration.group
            lines += [
                "",
                f"**{group}**",
                "",
                "| parameter | type | default | allowed | meaning |",
                "| --- | --- | --- | --- | --- |",
            ]
        default = (
            ", ".join(declaration.default) if isinstance(declaration.default, list) else declaration.default
        )
        if isinstance(default, bool):
            default = str(default).lower()
        unit = f" {declaration.unit}" if declaration.unit else ""
        meaning = declaration.description.strip().replace("|", "\\|")
        if declaration.read_only:
            meaning += " At start only."
        lines.append(
            f"| `{declaration.name}` | {declaration.type.replace('_', ' ')} | `{default}`{unit} | "
            f"{declaration.allowed()} | {meaning} |"
        )
    return "\n".join(lines).strip() + "\n"


def main() -> None:
    """Print the parameter table."""
    parser = argparse.ArgumentParser(description="The parameters of planner_node.")
    parser.add_argument("--markdown", action="store_true", help="print the README's table (the default)")
    parser.parse_args()
    print(markdown_table(), end="")


if __name__ == "__main__":
    main()
