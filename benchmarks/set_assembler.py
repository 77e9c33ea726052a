"""Time that set assembly takes per image: SetAssembler.add in the cases that a vehicle and a bad day bring.

    python benchmarks/set_assembler.py [--cycles 5000] [--output FILE]

Prints one JSON document: for each case the median, 99th percentile and largest microseconds of one add by the
clock, its mean processor time (what other programs take from the clock does not count there), adds per second
of it, and the sets that came out; six cameras staggered like nuScenes'. The target is a mean below 20
microseconds.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from wpt_planner.set_assembler import SetAssembler
from wpt_planner.set_filter import SetFilter

MS = 1_000_000
START = 1_600_000_000_000_000_000
# Mean offsets of nuScenes cameras within a cycle, ms.
OFFSETS = {
    "cam_front": 8,
    "cam_front_right": 16,
    "cam_back_right": 23,
    "cam_back": 33,
    "cam_back_left": 43,
    "cam_front_left": 0,
}
TARGET_US = 20.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """rate: Hz. stagger: share of nuScenes' offsets. lost: share of images. jitter: ms.

    behind_filter: through SetFilter with one callback.
    """

    rate: float = 12.0
    stagger: float = 1.0
    lost: float = 0.0
    jitter: float = 0.5
    behind_filter: bool = False


CASES = {
    "2 Hz": Case(rate=2.0),
    "12 Hz": Case(),
    "30 Hz, a third of the stagger": Case(rate=30.0, stagger=1 / 3),
    "12 Hz, 5 % lost": Case(lost=0.05),
    "12 Hz, 50 % lost": Case(lost=0.5),
    "12 Hz through SetFilter": Case(behind_filter=True),
}


def images(case: Case, cycles: int) -> Iterator[tuple[str, int]]:
    """Yield (camera, stamp) in order of firing."""
    chance = random.Random(0)
    period = 1e9 / case.rate
    order = sorted(OFFSETS, key=lambda camera: OFFSETS[camera])
    for cycle in range(cycles):
        for camera in order:
            wobble = chance.uniform(-case.jitter, case.jitter)
            if chance.random() >= case.lost:
                yield camera, START + round(cycle * period + (case.stagger * OFFSETS[camera] + wobble) * MS)


def measure(case: Case, cycles: int) -> dict[str, float]:
    """Feed one case and time every add."""
    settings = {"max_skew_ns": round(60 * case.stagger) * MS, "timeout_ns": 100 * MS}
    received: list[int] = []
    if case.behind_filter:
        sets = SetFilter(tuple(OFFSETS), **settings)
        sets.registerCallback(lambda one: received.append(one.set_id))
        add, assembler = sets.add, sets.assembler
    else:
        assembler = SetAssembler(tuple(OFFSETS), **settings)
        add = assembler.add
    taken = list(images(case, cycles))
    times, processor_us = timed(add, [(camera, stamp, None, stamp - START) for camera, stamp in taken])
    complete, incomplete = assembler.set_counts
    return {**figures(times, processor_us), "complete_sets": complete, "incomplete_sets": incomplete}


def measure_full_queues() -> dict[str, float]:
    """The image that finds five full queues and no valid set: message_filters' class needs 219 ms for it."""
    times, total = [], 0.0
    for _ in range(200):
        assembler = SetAssembler(tuple(OFFSETS), max_skew_ns=500 * MS, timeout_ns=10**15, capacity=10)
        *others, last = OFFSETS
        for i in range(10):
            for camera in others:
                assembler.add(camera, START + i * 40 * MS, None, 0)
        one, processor_us = timed(assembler.add, [(last, START + 900 * MS, None, 0)])
        times.extend(one)
        total += processor_us
    return figures(times, total)


def timed(add: Callable[..., object], arguments: list[tuple]) -> tuple[list[float], float]:
    """Microseconds of each call by the clock, and of all calls together by the processor."""
    clock = time.perf_counter_ns
    times = []
    gc.disable()  # its pauses belong to whoever allocates most, which is not this code
    processor = time.thread_time_ns()
    try:
        for entry in arguments:
            begin = clock()
            add(*entry)
            times.append((clock() - begin) / 1000.0)
    finally:
        gc.enable()
    return times, (time.thread_time_ns() - processor) / 1000.0


def figures(times: list[float], processor_us: float) -> dict[str, float]:
    values = np.array(times)
    return {
        "adds": len(times),
        "p50_us": round(float(np.percentile(values, 50)), 2),
        "p99_us": round(float(np.percentile(values, 99)), 2),
        "max_us": round(float(values.max()), 1),
        "mean_processor_us": round(processor_us / len(times), 2),
        "adds_per_second": round(len(times) * 1e6 / processor_us),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=5000, help="cycles of six cameras per case")
    parser.add_argument("--output", type=Path, help="write the JSON there as well")
    options = parser.parse_args()
    results = {name: measure(case, options.cycles) for name, case in CASES.items()}
    results["one add into five full queues"] = measure_full_queues()
    document = {
        "benchmark": "set_assembler",
        "target_mean_us": TARGET_US,
        "met": all(
            result["mean_processor_us"] < TARGET_US for name, result in results.items() if name in CASES
        ),
        "cases": results,
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "processor": _processor()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    text = json.dumps(document, indent=2)
    print(text)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    sys.exit(main())
