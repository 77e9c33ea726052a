"""The image size option of the writing commands."""

from __future__ import annotations

import argparse

from wpt_sim.errors import SimulationError


def image_size(text: str) -> tuple[int, int]:
    """Parse WxH for argparse."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"image size {text!r} is not of the form 1600x900") from None
    return width, height


def require_wide(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size; raises SimulationError unless it is 16:9 (to a pixel) and 64 wide at least."""
    width, height = size
    if width < 64 or abs(width * 9 - height * 16) > 16 * 9:
        raise SimulationError(f"image size {width}x{height} is not 16:9 and 64 wide at least: choose e.g. 704x396.")
    return size
