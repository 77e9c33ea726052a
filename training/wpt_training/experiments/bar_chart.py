"""Horizontal bars of a few figures, one panel each, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from wpt_training.errors import TrainingError

BAR, GAP, HEAD, LABEL, PANEL = 20, 8, 56, 190, 330
INK, PALE = (40, 40, 40), (225, 225, 225)
# BGR; students, teachers and the rest.
COLOURS = {"student": (180, 110, 40), "teacher": (60, 150, 60), "other": (150, 150, 150)}


def bar_chart(path: Path, panels: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Write the picture. panels: title -> value by row; a row that a panel lacks has no bar there."""
    names = list(dict.fromkeys(name for values in panels.values() for name in values))
    height = HEAD + max(1, len(names)) * (BAR + GAP) + GAP
    image = np.full((height, LABEL + PANEL * len(panels) + GAP, 3), 255, dtype=np.uint8)
    _text(image, title, 8, 20, 0.5)
    for line, name in enumerate(names):
        _text(image, name, 8, _top(line) + BAR - 5, 0.42)
    for column, (heading, values) in enumerate(panels.items()):
        left = LABEL + PANEL * column
        _text(image, heading, left, HEAD - 12, 0.45)
        longest = max([abs(value) for value in values.values()], default=0.0) or 1.0
        for line, name in enumerate(names):
            top = _top(line)
            cv2.rectangle(image, (left, top), (left + PANEL - 70, top + BAR), PALE, 1)
            if name in values:
                length = round((PANEL - 70) * abs(values[name]) / longest)
                cv2.rectangle(image, (left, top), (left + length, top + BAR), COLOURS[_kind(name)], cv2.FILLED)
                _text(image, f"{values[name]:.3g}", left + length + 5, top + BAR - 5, 0.42)
    if not cv2.imwrite(str(path), image):
        raise TrainingError(f"{path} cannot be written: is there space, and may the folder be written to?")


def _top(line: int) -> int:
    return HEAD + line * (BAR + GAP)


def _kind(name: str) -> str:
    if name.startswith("teacher"):
        return "teacher"
    return "other" if name in ("stop", "constant_velocity", "expert", "ego-mlp") else "student"


def _text(image: np.ndarray, text: str, x: int, y: int, size: float) -> None:
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)
