"""Checks of one field over many rows at once: which rows are wrong, and what to say of a wrong value."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wpt_policy import se3

from wpt_scenes.schema import Kind

# Microseconds since 1970 lie between 1973 and 5138 here; seconds, milliseconds and nanoseconds do not.
_MIN_STAMP_US, _MAX_STAMP_US = 10**14, 10**17
_MAX_COUNT = 2**31

Wrong = tuple[np.ndarray, Callable[[Any], str]]


def wrong_values(kind: Kind, values: Sequence[Any]) -> Wrong:
    """Return (indices of wrong values, function from a wrong value to "is ..., expected ...; do ...")."""
    return _CHECKS[kind](values)


def _not_of(kind: type, values: Sequence[Any]) -> np.ndarray:
    # One pass in C over the types; only a block with a wrong one is looked at value by value.
    if set(map(type, values)) <= {kind}:
        return np.zeros(0, dtype=np.int64)
    return np.array([i for i, value in enumerate(values) if type(value) is not kind], dtype=np.int64)


def _token(values: Sequence[Any]) -> Wrong:
    wrong = _not_of(str, values)
    if wrong.size == 0 and "" in values:
        wrong = np.array([i for i, value in enumerate(values) if value == ""], dtype=np.int64)
    return (
        wrong,
        lambda value: f"is {_shown(value)}, expected a token (text that is not empty); correct the row",
    )


def _link(values: Sequence[Any]) -> Wrong:
    def sentence(value: Any) -> str:
        if value is None:
            return 'is null, expected a token or, at an end, the empty string ""; write "" instead of null'
        return f'is {_shown(value)}, expected a token or the empty string ""; correct the row'

    return _not_of(str, values), sentence


def _tokens(values: Sequence[Any]) -> Wrong:
    wrong = _not_of(list, values)
    if wrong.size == 0:
        wrong = np.array(
            [i for i, value in enumerate(values) if not set(map(type, value)) <= {str}], dtype=np.int64
        )
    return wrong, lambda value: f"is {_shown(value)}, expected a list of tokens; correct the row"


def _stamp(values: Sequence[Any]) -> Wrong:
    def sentence(value: Any) -> str:
        expected = "expected whole microseconds since 1970 (16 digits)"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            for scale, unit in ((1e6, "seconds"), (1e3, "milliseconds"), (1e-3, "nanoseconds")):
                if _MIN_STAMP_US <= value * scale <= _MAX_STAMP_US:
                    return f"is {value}, which seems to be {unit}, {expected}; multiply by {scale:g}"
        return f"is {_shown(value)}, {expected}; correct the row"

    wrong = _not_of(int, values)
    if wrong.size == 0:
        # Python integers first: one that does not fit 64 bits would end np.array.
        small, large = min(values), max(values)
        if small < _MIN_STAMP_US or large > _MAX_STAMP_US:
            wrong = np.array(
                [i for i, value in enumerate(values) if not _MIN_STAMP_US <= value <= _MAX_STAMP_US],
                dtype=np.int64,
            )
    return wrong, sentence


def _text(values: Sequence[Any]) -> Wrong:
    return _not_of(str, values), lambda value: f"is {_shown(value)}, expected text; correct the row"


def _flag(values: Sequence[Any]) -> Wrong:
    return _not_of(bool, values), lambda value: f"is {_shown(value)}, expected true or false; correct the row"


def _count(values: Sequence[Any]) -> Wrong:
    wrong = _not_of(int, values)
    if wrong.size == 0 and (min(values) < 0 or max(values) > _MAX_COUNT):
        wrong = np.array(
            [i for i, value in enumerate(values) if not 0 <= value <= _MAX_COUNT], dtype=np.int64
        )
    return wrong, lambda value: f"is {_shown(value)}, expected a whole number of at least 0; correct the row"


def _vectors(values: Sequence[Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the values as (N, size) floats and the indices of those that are no ``size`` finite numbers."""
    try:
        array = np.array(values, dtype=np.float64)
        if array.shape == (len(values), size):
            return array, np.flatnonzero(~np.isfinite(array).all(axis=1))
    except (ValueError, TypeError):
        pass
    array = np.full((len(values), size), np.nan)
    for i, value in enumerate(values):
        if isinstance(value, list) and len(value) == size and all(type(x) in (int, float) for x in value):
            array[i] = value
    return array, np.flatnonzero(~np.isfinite(array).all(axis=1))


def _position(values: Sequence[Any]) -> Wrong:
    _, wrong = _vectors(values, 3)
    return (
        wrong,
        lambda value: (
            f"is {_shown(value)}, expected three finite numbers (x, y, z in metres); correct the row"
        ),
    )


def _size(values: Sequence[Any]) -> Wrong:
    array, wrong = _vectors(values, 3)
    if wrong.size == 0:
        wrong = np.flatnonzero((array <= 0).any(axis=1))
    return (
        wrong,
        lambda value: (
            f"is {_shown(value)}, expected three positive numbers (width, length, height in metres); "
            "correct the row"
        ),
    )


def _rotation(values: Sequence[Any]) -> Wrong:
    array, wrong = _vectors(values, 4)
    if wrong.size == 0:
        norms = np.linalg.norm(array, axis=1)
        wrong = np.flatnonzero(np.abs(norms - 1.0) > se3.QUATERNION_NORM_TOLERANCE)

    def sentence(value: Any) -> str:
        expected = "expected a unit quaternion in the order w, x, y, z"
        if isinstance(value, list) and len(value) == 4 and all(type(x) in (int, float) for x in value):
            return f"is {value} of length {float(np.linalg.norm(value)):.6g}, {expected}; normalise it"
        return f"is {_shown(value)}, {expected}; correct the row"

    return wrong, sentence


def _intrinsics(values: Sequence[Any]) -> Wrong:
    wrong = []
    for i, value in enumerate(values):
        if value == []:
            continue
        try:
            array = np.array(value, dtype=np.float64)
        except (ValueError, TypeError):
            array = np.zeros(0)
        if array.shape != (3, 3) or not np.isfinite(array).all():
            wrong.append(i)
    return (
        np.array(wrong, dtype=np.int64),
        lambda value: (
            f"is {_shown(value)}, expected a 3x3 list of finite numbers ([] for a sensor that is no "
            "camera); correct the row"
        ),
    )


def _shown(value: Any) -> str:
    """The value as JSON writes it, cut to a readable length."""
    shown = json.dumps(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


_CHECKS: dict[Kind, Callable[[Sequence[Any]], Wrong]] = {
    Kind.KEY: _token,
    Kind.REFERENCE: _token,
    Kind.LINK: _link,
    Kind.OPTIONAL_REFERENCE: _link,
    Kind.REFERENCES: _tokens,
    Kind.STAMP: _stamp,
    Kind.TEXT: _text,
    Kind.FLAG: _flag,
    Kind.COUNT: _count,
    Kind.POSITION: _position,
    Kind.SIZE: _size,
    Kind.ROTATION: _rotation,
    Kind.INTRINSICS: _intrinsics,
}
