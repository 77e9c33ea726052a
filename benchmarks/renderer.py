"""Times six-camera sets and prints JSON: `python benchmarks/renderer.py [--batches 9] [--network NAME]`.

One thread. A set is six images with instance masks of a town with 30 road users; the ego moves 0.5 m between
sets, so that ground tiles are painted as on a drive. Minimum and median are over batches."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from wpt_policy.calibration import CameraRig
from wpt_sim.appearance import Appearance
from wpt_sim.lane_strip import length_of_line
from wpt_sim.network import load_road_map, network_names
from wpt_sim.renderer import Renderer
from wpt_sim.renderer.rigs import nuscenes_rig
from wpt_sim.road_map import LaneKind
from wpt_sim.still_traffic import ego_on_lane, still_state
from wpt_sim.visibility import visible_actors

SIZES = ((256, 128), (352, 128), (352, 198), (704, 256), (704, 396), (1600, 900))


def rig_of(width: int, height: int) -> CameraRig:
    """The rig at full width, its rows cut from the top where the height is less than 9/16 of the width."""
    full = round(width * 9 / 16)
    rig = nuscenes_rig(width, full)
    if height == full:
        return rig
    return CameraRig([camera.cropped(0, 0, width, height) for camera in rig.values()])


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure(function, batches: int, calls: int) -> dict[str, float]:
    """Milliseconds per call: minimum and median over batches, by the clock and by processor time.

    On a machine that others use too, only processor time says what the program itself needs.
    """
    wall, processor_time = [], []
    for batch in range(batches):
        start, start_processor = time.perf_counter(), time.process_time()
        for call in range(calls):
            function(batch * calls + call)
        wall.append((time.perf_counter() - start) * 1000.0 / calls)
        processor_time.append((time.process_time() - start_processor) * 1000.0 / calls)
    return {
        "minimum_ms": round(min(wall), 3),
        "median_ms": round(statistics.median(wall), 3),
        "processor_minimum_ms": round(min(processor_time), 3),
        "processor_median_ms": round(statistics.median(processor_time), 3),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=9)
    parser.add_argument("--sets", type=int, default=10, help="sets per batch")
    parser.add_argument("--network", default=network_names("train")[0])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    road_map = load_road_map(options.network)
    lane = max(
        (lane for lane in road_map.lanes.values() if lane.kind is LaneKind.DRIVING and lane.opposite),
        key=lambda lane: length_of_line(lane.centre_line),
    )
    start_state = still_state(road_map, ego_on_lane(lane, 30.0), count=30, seed=options.seed)
    length = length_of_line(lane.centre_line)

    def state_at(index: int):
        return replace(
            start_state,
            ego=ego_on_lane(lane, 30.0 + (0.5 * index) % max(length - 40.0, 1.0)),
            time_s=0.1 * index,
        )

    rows = []
    for width, height in SIZES:
        for light, noise in (("day", 0.0), ("rain", 3.0)):
            begin = time.perf_counter()
            renderer = Renderer(
                road_map, rig_of(width, height), Appearance(options.seed, light=light, noise=noise)
            )
            renderer.render(state_at(0))
            first = (time.perf_counter() - begin) * 1000.0
            calls = max(2, options.sets // (4 if width > 704 else 1))
            timing = measure(lambda i, r=renderer: r.render(state_at(i)), options.batches, calls)
            rows.append(
                {"size": f"{width}x{height}", "light": light, "noise": noise, **timing,
                 "sets_per_s": round(1000.0 / timing["minimum_ms"], 1),
                 "sets_per_processor_s": round(1000.0 / timing["processor_minimum_ms"], 1),
                 "first_set_ms": round(first, 1)}
            )  # fmt: skip
    rig = nuscenes_rig()
    visible = measure(lambda i: visible_actors(road_map, rig, state_at(i)), options.batches, options.sets)
    result = {
        "network": options.network,
        "actors": len(start_state.actors),
        "seed": options.seed,
        "rows": rows,
        "visible_actors": visible,
        "hardware": {"processor": processor(), "threads": 1, "system": platform.platform()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__},
    }
    json.dump(result, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
