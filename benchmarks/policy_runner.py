"""Milliseconds of PolicyRunner.plan by stage, and how near they are to what the hardware allows. Prints JSON.

    python benchmarks/policy_runner.py                          # the compact student on one CPU thread
    python benchmarks/policy_runner.py --threads 2 --plans 500
    python benchmarks/policy_runner.py --preset reference --device cuda --precision float16
    python benchmarks/policy_runner.py --bundle wpt-compact

Weights are seeded random numbers unless a bundle is given; time does not depend on them. Every set has other
images and another ego motion between its cameras, so nothing is served from a cache that a driving car would
not have.

The floor is max(operations / measured matrix-product rate, bytes / measured copy rate): the bytes are
weights, images and each convolution's and linear layer's input and output moved once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from wpt_policy import policy_presets, se3
from wpt_policy.bundle import PolicyBundle, find_bundle, load_bundle
from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import CameraView, EgoState, Frame
from wpt_policy.network.student import Student, example_inputs
from wpt_policy.runner import PolicyRunner, inference
from wpt_policy.seeded_weights import seeded_tensors

# Viewing directions (degrees to the left) and focal lengths (at 1600 pixels) of nuScenes' cameras, in preset
# order.
YAWS = (0.0, -56.0, -111.0, 180.0, 109.0, 55.0)
FOCALS = (1266.0, 1260.0, 1259.0, 809.0, 1257.0, 1272.0)
PERIOD_NS = 100_000_000  # 10 Hz: every set finds a memory 0.5 s ago


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=("compact", "reference"), default="compact")
    parser.add_argument("--bundle", help="name or path of a bundle instead of a preset")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or auto")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--plans", type=int, default=300, help="plans measured after warm-up (default 300)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    bundle = _bundle(options)
    start = time.perf_counter()
    runner = PolicyRunner(bundle, device=options.device, precision=options.precision)
    loaded = time.perf_counter()
    runner.warm_up()
    warm = time.perf_counter()

    frames = [_frame(runner, index) for index in range(8)]
    stages: dict[str, list[float]] = {}
    for index in range(options.plans + 10):
        frame = _at(frames[index % len(frames)], index)
        before = time.perf_counter()
        runner.plan(frame)
        total = (time.perf_counter() - before) * 1e3
        if index >= 10:  # the first find an empty memory
            for stage, milliseconds in {**runner.last_stage_ms, "total": total}.items():
                stages.setdefault(stage, []).append(milliseconds)

    report = {
        "policy": bundle.config.name,
        "parameters": sum(tensor.numel() for tensor in bundle.tensors.values()),
        "hardware": {
            "device": runner.device_description,
            "cores": os.cpu_count(),
            "load_average_1min": os.getloadavg()[0],
            "system": platform.platform(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "start_ms": {"load": (loaded - start) * 1e3, "warm_up": (warm - loaded) * 1e3},
        "plans": options.plans,
        "plan_ms": {stage: _percentiles(values) for stage, values in stages.items()},
        "encoder_parts_ms": _encoder_parts(runner, frames[0]),
        "floor": _floor(runner, options.precision),
    }
    report["floor"]["share_of_p50"] = report["floor"]["ms"] / report["plan_ms"]["total"]["p50"]
    print(json.dumps(_rounded(report), indent=2))


def _bundle(options: argparse.Namespace) -> PolicyBundle:
    if options.bundle:
        return load_bundle(find_bundle(options.bundle))
    config = getattr(policy_presets, options.preset)(options.preset)
    return PolicyBundle(config=config, tensors=seeded_tensors(config, 0), sha256="")


def _frame(runner: PolicyRunner, index: int) -> Frame:
    """Random pixels from six staggered cameras on an ego at 8 m/s."""
    spec = runner.config.image_input
    random = np.random.default_rng(index)
    views = {}
    for number, name in enumerate(runner.cameras):
        mount = se3.planar(1.0, 0.0, math.radians(YAWS[number % len(YAWS)]))
        mount[2, 3] = 1.5
        mount[:3, :3] = mount[:3, :3] @ [[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]
        focal = FOCALS[number % len(FOCALS)] * spec.width / 1600
        views[name] = CameraView(
            calibration=CameraCalibration(
                name=name,
                width=spec.width,
                height=spec.height,
                intrinsics=np.array([[focal, 0, 0.5 * spec.width], [0, focal, 0.5 * spec.height], [0, 0, 1]]),
                base_from_camera=mount,
            ),
            stamp_ns=0,
            pixels=random.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8),
            odom_from_base=np.eye(4),
        )
    ego = EgoState(
        stamp_ns=0,
        odom_from_base=np.eye(4),
        linear_velocity=np.array([8.0, 0, 0]),
        angular_velocity=np.zeros(3),
    )
    return Frame(reference_stamp_ns=0, views=views, ego=ego, command=runner.commands[0])


def _at(frame: Frame, index: int) -> Frame:
    """The frame at its place on the drive; the cameras of one set are 8 ms apart, as nuScenes'."""

    def pose(stamp_ns: int) -> np.ndarray:
        return se3.extrapolate(np.eye(4), np.array([8.0, 0, 0]), np.array([0, 0, 0.05]), stamp_ns / 1e9)

    newest_ns = index * PERIOD_NS
    views = {}
    for number, (name, view) in enumerate(reversed(frame.views.items())):
        stamp_ns = newest_ns - 8_000_000 * number
        views[name] = replace(view, stamp_ns=stamp_ns, odom_from_base=pose(stamp_ns))
    ego = replace(frame.ego, stamp_ns=newest_ns, odom_from_base=pose(newest_ns))
    return replace(frame, reference_stamp_ns=newest_ns, views=views, ego=ego)


def _percentiles(values: list[float]) -> dict[str, float]:
    return {
        "p50": float(np.percentile(values, 50)),
        "p99": float(np.percentile(values, 99)),
        "min": min(values),
        "max": max(values),
    }


def _encoder_parts(runner: PolicyRunner, frame: Frame) -> dict[str, float]:
    """Medians of the three parts of the encode stage."""
    encoder = runner._network.encoder
    with inference(runner.device, runner._dtype):
        images, matrices, used = runner._observer._upload([frame.views[name] for name in runner.cameras], frame.ego)
        matrix = torch.from_numpy(matrices)[None].to(runner.device)
        mask = torch.tensor([used], device=runner.device)
        features = encoder.image_features(images)
        sampling = encoder.sampler(matrix, mask)
        return {
            "backbone_and_neck": float(
                np.median(_times_ms(runner, lambda: encoder.image_features(images), 50))
            ),
            "sampling_geometry": float(
                np.median(_times_ms(runner, lambda: encoder.sampler(matrix, mask), 50))
            ),
            "bev_encoder": float(
                np.median(_times_ms(runner, lambda: encoder.bev_encoder(features, sampling), 50))
            ),
        }


def _times_ms(runner: PolicyRunner, work: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        before = time.perf_counter()
        work()
        if runner.device.type == "cuda":
            torch.cuda.synchronize(runner.device)
        times.append((time.perf_counter() - before) * 1e3)
    return times


def _floor(runner: PolicyRunner, precision: str) -> dict[str, float]:
    size = {"float32": 4, "bfloat16": 2, "float16": 2}[precision]
    with torch.device("meta"):
        student = Student(runner.config).eval()
        inputs = [tensor.to("meta") for tensor in example_inputs(runner.config)]
    moved = [inputs[0].numel(), sum(parameter.numel() for parameter in student.parameters()) * size]

    def count(module: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
        moved.append((arguments[0].numel() + result.numel()) * size)

    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter:
        student(*inputs)
    operations, total_bytes = counter.get_total_flops(), sum(moved)

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    side = 1024 if runner.device.type == "cpu" else 8192
    matrix = torch.randn(side, side, device=runner.device, dtype=dtype)
    source = torch.empty(64 << 20, dtype=torch.uint8, device=runner.device)
    target = torch.empty_like(source)
    # The fastest of several tries: a floor is what the hardware can do, not what other programs leave of it.
    rate = 2 * side**3 / (min(_times_ms(runner, lambda: matrix @ matrix, 15)) * 1e-3)
    bandwidth = 2 * source.numel() / (min(_times_ms(runner, lambda: target.copy_(source), 15)) * 1e-3)
    return {
        "operations": operations,
        "bytes": total_bytes,
        "measured_operations_per_s": rate,
        "measured_bytes_per_s": bandwidth,
        "ms": 1e3 * max(operations / rate, total_bytes / bandwidth),
    }


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
