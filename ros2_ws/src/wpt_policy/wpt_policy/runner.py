"""Runs a policy bundle on frames: checks, upload, encoder, memory, decoder. The planner of every trained
policy.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from wpt_policy.bundle import PolicyBundle, network_of
from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import CameraView, EgoState, Frame
from wpt_policy.frame_observer import FrameObserver
from wpt_policy.image_input import ImageInput
from wpt_policy.network.backbone import fold_norms
from wpt_policy.plan import Plan, PlanFlag
from wpt_policy.policy_config import PolicyConfig

PRECISIONS: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

_log = logging.getLogger(__name__)


class DeviceError(RuntimeError):
    """The asked device or precision does not exist here."""


class PolicyRunner:
    """A Planner that runs a bundle. Not thread-safe: one worker owns it.

    device: cpu, cuda, cuda:N or auto (cuda where there is one; the choice is logged). precision: float32,
    bfloat16 or float16 (convolutions and attention under autocast; geometry and plan stay float32). Raises
    DeviceError when the device or the precision cannot be had.

    last_stage_ms: milliseconds of the latest plan() by stage: upload (checks, matrices, copies), encode
    (images to bird's-eye view), memory (recall, warp, fuse), decode (queries to plan, copy back).
    """

    def __init__(self, bundle: PolicyBundle, *, device: str = "auto", precision: str = "float32"):
        config = bundle.config
        self.config = config
        self.name = config.name
        self.cameras = config.cameras
        self.may_mask = frozenset(config.may_mask)
        self.image_input: ImageInput | None = ImageInput(config.image_input)
        self.commands = config.plan.commands
        self.needs_ego = bool(config.ego_inputs)
        self.untrained = not config.provenance.trained
        self.weights_sha256 = bundle.sha256
        self.last_stage_ms: dict[str, float] = {}

        self.device = choose_device(device)
        self.precision = precision
        self._dtype = check_precision(self.device, precision)
        self._network = network_of(bundle)
        fold_norms(self._network)
        self._network.to(device=self.device, memory_format=torch.channels_last)
        self._observer = FrameObserver(self._network, config, self.device)

    @property
    def device_description(self) -> str:
        """The device, threads and precision in words, for logs and results."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)}), {self.precision}"
        return f"cpu ({_processor_name()}, {torch.get_num_threads()} torch threads), {self.precision}"

    def check_rig(self, names: Iterable[str]) -> None:
        """Raise PlannerError when a rig's camera names are not the bundle's (the order does not matter)."""
        self._observer.check_rig(names)

    def warm_up(self) -> None:
        """Plan twice on grey images of the real shapes, with and without memory, and forget them."""
        self.reset()
        stamps = (0, round(self.config.history.interval_s * 1e9))
        for stamp_ns in stamps:
            self.plan(grey_frame(self.config, stamp_ns))
        self.reset()
        self.last_stage_ms = {}

    def reset(self) -> None:
        """Forget everything seen so far."""
        self._observer.reset()

    def plan(self, frame: Frame) -> Plan:
        """Plan on a frame; raises PlannerError, after which the memory is as before.

        Stamps must not go back between resets. The same stamp again replaces that set, so the same frame
        twice gives the same plan twice.
        """
        timer = StageTimer(self.device)
        with inference(self.device, self._dtype):
            seen = self._observer.observe(frame, timer.stage)
            _, displacements = self._network.plan_decoder(seen.fused, seen.command, seen.ego)
            waypoints = displacements.cumsum(dim=1)[0].double().cpu().numpy()
            timer.stage("decode")
        self._observer.remember(frame, seen.bev)
        self.last_stage_ms = timer.milliseconds
        return Plan(
            reference_stamp_ns=frame.reference_stamp_ns,
            positions=np.concatenate([np.zeros((1, 2)), waypoints]),
            dt_s=self.config.plan.dt_s,
            planner=self.name,
            flags=seen.flags | (PlanFlag.UNTRAINED if self.untrained else PlanFlag.NONE),
            weights_sha256=self.weights_sha256,
        )


class StageTimer:
    """Wall milliseconds between calls of stage(), with the device's work included."""

    def __init__(self, device: torch.device):
        self._device = device
        self._last = time.perf_counter()
        self.milliseconds: dict[str, float] = {}

    def stage(self, name: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.milliseconds[name] = (now - self._last) * 1e3
        self._last = now


@contextlib.contextmanager
def inference(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Inference mode, autocast, and on CUDA the deterministic algorithms of cuDNN without TF32."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type == "cuda":
            stack.enter_context(
                torch.backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                )
            )
        if dtype != torch.float32:
            stack.enter_context(torch.autocast(device.type, dtype=dtype))
        yield


def choose_device(device: str) -> torch.device:
    """Return the torch device of cpu, cuda, cuda:N or auto; raises DeviceError when it is not here."""
    if device == "auto":
        chosen = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _log.info("device auto: using %s", chosen)
        return chosen
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise DeviceError(f"device is {device!r}, expected cpu, cuda, cuda:N or auto")
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise DeviceError(
                f"device {device} was asked for and torch {torch.__version__} sees {count} CUDA devices; "
                "install a CUDA build of torch and its driver, or ask for cpu or auto"
            )
    return chosen


def check_precision(device: torch.device, precision: str) -> torch.dtype:
    """Return the torch type of a precision; raises DeviceError when the device cannot have it."""
    if precision not in PRECISIONS:
        raise DeviceError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if precision == "float16" and device.type == "cpu":
        raise DeviceError("precision float16 cannot run on the CPU, expected float32 or bfloat16 there")
    if (
        precision == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise DeviceError(
            f"precision bfloat16 cannot run on {torch.cuda.get_device_name(device)}, "
            "expected float32 or float16 there"
        )
    return PRECISIONS[precision]


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def grey_frame(config: PolicyConfig, stamp_ns: int) -> Frame:
    """A frame with every input the policy reads: grey images of cameras that look ahead, a standing ego."""
    spec = config.image_input
    focal = 0.8 * spec.width  # as nuScenes: 1266 at 1600 pixels
    base_from_camera = np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    intrinsics = np.array([[focal, 0, 0.5 * spec.width], [0, focal, 0.5 * spec.height], [0, 0, 1]])
    views = {
        name: CameraView(
            calibration=CameraCalibration(
                name=name,
                width=spec.width,
                height=spec.height,
                intrinsics=intrinsics,
                base_from_camera=base_from_camera,
            ),
            stamp_ns=stamp_ns,
            pixels=np.full((spec.height, spec.width, 3), 128, dtype=np.uint8),
            odom_from_base=np.eye(4),
        )
        for name in config.cameras
    }
    ego = EgoState(
        stamp_ns=stamp_ns, odom_from_base=np.eye(4), linear_velocity=np.zeros(3), angular_velocity=np.zeros(3)
    )
    return Frame(reference_stamp_ns=stamp_ns, views=views, ego=ego, command=config.plan.commands[0])
