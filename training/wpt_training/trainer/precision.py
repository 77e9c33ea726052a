"""Which precision a stage runs in, chosen by a short probe."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

PRECISIONS = ("float32", "bfloat16")
LEAST_GAIN = 1.1  # bfloat16 has to be that much faster to be worth its rounding
TIMED_STEPS = 3


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context in which a step's losses are computed."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def faster_precision(
    step: Callable[[str], None], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> tuple[str, dict[str, float]]:
    """Time step(precision) in each precision, after one untimed call; returns the choice and the best seconds of each."""
    seconds = {}
    for precision in PRECISIONS:
        times = []
        for _ in range(1 + TIMED_STEPS):
            _synchronise(device)
            start = clock()
            step(precision)
            _synchronise(device)
            times.append(clock() - start)
        seconds[precision] = min(times[1:])
    faster = seconds["float32"] > LEAST_GAIN * seconds["bfloat16"]
    return ("bfloat16" if faster else "float32"), seconds


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
