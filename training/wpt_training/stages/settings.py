"""What decides a stage's result, as JSON values, and seeded first weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch


def plain_settings(**parts: Any) -> dict[str, Any]:
    """Return dataclasses, tuples and plain values as what json.loads(json.dumps(...)) would give.

    Names, provenance and weight sums of a PolicyConfig do not decide a result and are left out.
    """
    return {name: _plain(part) for name, part in parts.items()}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        left_out = {"name", "provenance", "weights_sha256"} if hasattr(value, "weights_sha256") else set()
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in left_out}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return json.loads(json.dumps(value))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw first weights from a seed and leave torch's own random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
