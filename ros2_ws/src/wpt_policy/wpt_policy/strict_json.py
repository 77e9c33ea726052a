"""JSON files that are one dataclass: every field required, none unknown, each of its declared type.

Types that a field may have: bool, int, float (finite), str, a dataclass, tuple[X, ...] or tuple[X, X] (a
list), Mapping[str, X] (an object), and an Enum whose members have a ``label`` (text).
"""

from __future__ import annotations

import json
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any


class BundleError(ValueError):
    """A policy bundle that cannot be used.

    field: path of the offending field in policy.json, or the name of the offending tensor or file; "" for
    none. problem: the sentence without it.
    """

    def __init__(self, problem: str, *, field: str = ""):
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}" if field else problem)


def written(value: Any) -> str:
    """Return the JSON text of a dataclass; lists of plain values stand on one line."""
    text = json.dumps(_plain(value), indent=2)
    return re.sub(r"\[[^][{}]*\]", _on_one_line, text) + "\n"


def _on_one_line(match: re.Match[str]) -> str:
    return "[" + re.sub(r"\s*\n\s*", " ", match[0][1:-1]).strip() + "]"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.label
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def read_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Parse the text of a file called ``name`` that must hold one JSON object without repeated keys."""
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(f"is not valid JSON ({error}), expected a whole {name}", field=name) from None
    if not isinstance(document, dict):
        raise BundleError(f"holds {_kind(document)}, expected one JSON object", field=name)
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        raise BundleError("stands more than once in one object, expected once", field=", ".join(repeated))
    return result


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )


def read_dataclass(target: type, value: Any, path: str) -> Any:
    """Return a ``target`` made from a JSON object whose path in the file is ``path``; raises BundleError."""
    if not isinstance(value, dict):
        raise BundleError(f"is {_kind(value)}, expected an object", field=path)
    prefix = f"{path}." if path else ""
    names = [field.name for field in fields(target)]
    for name in names:
        if name not in value:
            raise BundleError(
                "is missing, expected it in policy.json; export the bundle again", field=prefix + name
            )
    for name in value:
        if name not in names:
            raise BundleError(f"is unknown, expected only {', '.join(names)}", field=prefix + name)
    hints = typing.get_type_hints(target)
    arguments = {name: _read(hints[name], value[name], prefix + name) for name in names}
    try:
        return target(**arguments)
    except BundleError as error:
        raise BundleError(error.problem, field=prefix + error.field) from None
    except ValueError as error:  # ImageInputSpec knows no bundles and names its field in words
        raise BundleError(str(error), field=path) from None


def _read(hint: Any, value: Any, path: str) -> Any:
    """Convert one JSON value to the type of a dataclass field."""
    if is_dataclass(hint):
        return read_dataclass(typing.cast(type, hint), value, path)
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _read_tuple(typing.get_args(hint), value, path)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise BundleError(f"is {_kind(value)}, expected an object of names and numbers", field=path)
        return {name: _read(typing.get_args(hint)[1], item, f"{path}.{name}") for name, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, Enum):
        labels = {member.label: member for member in hint}
        if not isinstance(value, str) or value not in labels:
            raise BundleError(f"is {value!r}, expected one of {', '.join(labels)}", field=path)
        return labels[value]
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise BundleError(f"is {value}, expected a finite number", field=path)
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (str, bool) and isinstance(value, hint):
        return value
    wanted = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint]
    raise BundleError(f"is {json.dumps(value)}, expected {wanted}", field=path)


def _read_tuple(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise BundleError(f"is {_kind(value)}, expected a list", field=path)
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise BundleError(f"has {len(value)} values, expected {len(arguments)}", field=path)
    return tuple(_read(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))
