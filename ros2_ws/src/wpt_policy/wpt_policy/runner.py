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
from torch import Tensor

from wpt_policy.bundle import PolicyBundle, network_of
from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import CameraView, EgoState, Frame, ViewStatus
from wpt_policy.image_input import ImageInput
from wpt_policy.network.backbone import fold_norms
from wpt_policy.network.bev_encoder import Sampling
from wpt_policy.network.projection import ground_motion, image_from_base
from wpt_policy.plan import Plan, PlanFlag
from wpt_policy.planner import PlannerError
from wpt_policy.policy_config import EGO_INPUT_SCALES
from wpt_policy.temporal_memory import TemporalMemory

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
        self._dtype = _check_precision(self.device, precision)
        self._network = network_of(bundle)
        fold_norms(self._network)
        self._network.to(device=self.device, memory_format=torch.channels_last)
        self._memory = TemporalMemory(config.history)
        # One buffer for all sets; page-locked where a GPU copies from it without a detour.
        size = (1, len(config.cameras), config.image_input.height, config.image_input.width, 3)
        self._pixels = torch.zeros(size, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        channels = config.architecture.bev_encoder.channels + 1
        self._nothing_remembered = torch.zeros(1, channels, *config.bev.shape, device=self.device)
        self._sampling: Sampling | None = None
        self._sampling_key = b""

    @property
    def device_description(self) -> str:
        """The device, threads and precision in words, for logs and results."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)}), {self.precision}"
        return f"cpu ({_processor_name()}, {torch.get_num_threads()} torch threads), {self.precision}"

    def check_rig(self, names: Iterable[str]) -> None:
        """Raise PlannerError when a rig's camera names are not the bundle's (the order does not matter)."""
        given = list(names)
        if set(given) != set(self.cameras) or len(given) != len(self.cameras):
            raise PlannerError(
                f"policy {self.name} was made for the cameras {', '.join(self.cameras)}, but this rig has "
                f"{', '.join(given) or 'none'}; rename or remap the cameras, or use a bundle for this rig"
            )

    def warm_up(self) -> None:
        """Plan twice on grey images of the real shapes, with and without memory, and forget them."""
        self.reset()
        stamps = (0, round(self.config.history.interval_s * 1e9))
        for stamp_ns in stamps:
            self.plan(_grey_frame(self, stamp_ns))
        self.reset()
        self.last_stage_ms = {}

    def reset(self) -> None:
        """Forget everything seen so far."""
        self._memory.reset()

    def plan(self, frame: Frame) -> Plan:
        """Plan on a frame; raises PlannerError, after which the memory is as before.

        Stamps must not go back between resets. The same stamp again replaces that set, so the same frame
        twice gives the same plan twice.
        """
        timer = _StageTimer(self.device)
        self._check(frame)
        views = [frame.views.get(name) for name in self.cameras]
        flags = self._view_flags(views, frame.ego) | (PlanFlag.UNTRAINED if self.untrained else PlanFlag.NONE)
        with self._inference():
            images, matrices, camera_mask = self._upload(views, frame.ego)
            command = torch.tensor([self.commands.index(frame.command)], device=self.device)
            ego = torch.tensor([self._ego_inputs(frame.ego)], dtype=torch.float32, device=self.device)
            timer.stage("upload")
            features = self._network.encoder.image_features(images)
            bev = self._network.encoder.bev_encoder(features, self._sample(matrices, camera_mask))
            timer.stage("encode")
            history, motion, valid = self._recall(frame)
            if not all(valid):
                flags |= PlanFlag.WARMING_UP
            fused = self._network.fusion(
                bev,
                history,
                torch.from_numpy(motion).unsqueeze(0).to(self.device),
                torch.tensor([valid], dtype=torch.bool, device=self.device),
            )
            timer.stage("memory")
            _, displacements = self._network.plan_decoder(fused, command, ego)
            waypoints = displacements.cumsum(dim=1)[0].double().cpu().numpy()
            timer.stage("decode")
        self._memory.observe(
            frame.reference_stamp_ns, None if frame.ego is None else frame.ego.odom_from_base, bev
        )
        self.last_stage_ms = timer.milliseconds
        return Plan(
            reference_stamp_ns=frame.reference_stamp_ns,
            positions=np.concatenate([np.zeros((1, 2)), waypoints]),
            dt_s=self.config.plan.dt_s,
            planner=self.name,
            flags=flags,
            weights_sha256=self.weights_sha256,
        )

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        """Inference mode, autocast, and on CUDA the deterministic algorithms of cuDNN without TF32."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.device.type == "cuda":
                stack.enter_context(
                    torch.backends.cudnn.flags(
                        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                    )
                )
            if self._dtype != torch.float32:
                stack.enter_context(torch.autocast(self.device.type, dtype=self._dtype))
            yield

    def _check(self, frame: Frame) -> None:
        newest_ns = self._memory.newest_ns
        if newest_ns is not None and frame.reference_stamp_ns < newest_ns:
            behind_s = (newest_ns - frame.reference_stamp_ns) / 1e9
            raise PlannerError(
                f"set at {frame.reference_stamp_ns} ns is {behind_s:.3f} s older than the one before it, "
                "expected rising stamps; call reset() when time goes back"
            )
        if frame.command not in self.commands:
            raise PlannerError(
                f"policy {self.name} does not know the command {frame.command.label}, expected one of "
                f"{', '.join(command.label for command in self.commands)}"
            )
        if self.needs_ego and frame.ego is None:
            raise PlannerError(
                f"policy {self.name} reads {', '.join(self.config.ego_inputs)} and no odometry covers this "
                "set; check the odometry topic"
            )
        strangers = [name for name in frame.views if name not in self.cameras]
        if strangers:
            self.check_rig(frame.views)
        seeing = [name for name in self.cameras if self._check_view(name, frame.views.get(name))]
        if not seeing:
            raise PlannerError(f"all cameras of policy {self.name} are masked, expected at least one image")

    def _check_view(self, name: str, view: CameraView | None) -> bool:
        """Return whether the camera contributes an image; raises PlannerError where it must and does not."""
        if view is None or view.status is ViewStatus.MASKED:
            if name in self.may_mask:
                return False
            raise PlannerError(
                f"camera {name} is {'missing' if view is None else 'masked'} and policy {self.name} was not "
                f"trained to lose it (it may lose: {', '.join(sorted(self.may_mask)) or 'none'}); "
                "send an image of each camera"
            )
        spec = self.config.image_input
        expected = (spec.height, spec.width, 3)
        if view.pixels is None:
            raise PlannerError(
                f"camera {name} has no pixels, expected {expected} uint8 RGB; prepare its image first"
            )
        if view.pixels.shape != expected or view.pixels.dtype != np.uint8:
            raise PlannerError(
                f"image of {name} has shape {view.pixels.shape} and type {view.pixels.dtype}, expected "
                f"{expected} uint8 for policy {self.name}; prepare it with the policy's image_input"
            )
        if (view.calibration.width, view.calibration.height) != (spec.width, spec.height):
            raise PlannerError(
                f"calibration of {name} is for {view.calibration.width}x{view.calibration.height} pixels, "
                f"expected {spec.width}x{spec.height} for policy {self.name}; "
                "rescale it with the policy's image_input"
            )
        return True

    @staticmethod
    def _view_flags(views: list[CameraView | None], ego: EgoState | None) -> PlanFlag:
        used = [view for view in views if view is not None and view.status is not ViewStatus.MASKED]
        flags = PlanFlag.NONE
        if len(used) < len(views):
            flags |= PlanFlag.CAMERA_MASKED
        if any(view.status is ViewStatus.HELD for view in used):
            flags |= PlanFlag.CAMERA_HELD
        if ego is None or any(view.odom_from_base is None for view in used):
            flags |= PlanFlag.UNCOMPENSATED
        if ego is not None and ego.extrapolated:
            flags |= PlanFlag.EGO_EXTRAPOLATED
        return flags

    def _upload(
        self, views: list[CameraView | None], ego: EgoState | None
    ) -> tuple[Tensor, np.ndarray, list[bool]]:
        """Return images on the device, (N, 3, 4) float32 image_from_base, and which cameras are used."""
        pixels = self._pixels.numpy()
        matrices = np.zeros((len(views), 3, 4))
        used = []
        for index, view in enumerate(views):
            if view is None or view.status is ViewStatus.MASKED or view.pixels is None:
                pixels[0, index] = 0
                used.append(False)
                continue
            pixels[0, index] = view.pixels
            matrices[index] = image_from_base(
                view.calibration, view.odom_from_base, None if ego is None else ego.odom_from_base
            )
            used.append(True)
        if not np.all(np.isfinite(matrices)):
            raise PlannerError("an ego pose of this set is not finite; check the odometry")
        return self._pixels.to(self.device, non_blocking=True), matrices.astype(np.float32), used

    def _sample(self, matrices: np.ndarray, used: list[bool]) -> Sampling:
        """Return where to sample; kept while matrices and mask are those of the set before.

        That is so for simultaneous cameras, and for an ego that stands.
        """
        key = matrices.tobytes() + bytes(used)
        if self._sampling is None or key != self._sampling_key:
            self._sampling = self._network.encoder.sampler(
                torch.from_numpy(matrices).unsqueeze(0).to(self.device),
                torch.tensor([used], device=self.device),
            )
            self._sampling_key = key
        return self._sampling

    def _recall(self, frame: Frame) -> tuple[Tensor, np.ndarray, list[bool]]:
        """Return history [1, S, C + 1, X, Y], earlier_from_present (S, 2, 3) float32, and which entries are
        there.
        """
        memories = self._memory.recall(frame.reference_stamp_ns)
        motion = np.tile(np.eye(2, 3, dtype=np.float32), (len(memories), 1, 1))
        bevs, valid = [], []
        for entry, memory in enumerate(memories):
            known = memory is not None and frame.ego is not None
            if known:
                motion[entry] = ground_motion(memory.odom_from_base, frame.ego.odom_from_base)
            bevs.append(memory.bev if known else self._nothing_remembered)
            valid.append(known)
        if not bevs:
            return self._nothing_remembered.unsqueeze(1)[:, :0], motion, valid
        return torch.stack(bevs, dim=1), motion, valid

    def _ego_inputs(self, ego: EgoState | None) -> list[float]:
        if ego is None:
            return []
        values = {
            "speed": ego.speed,
            "lateral_speed": float(ego.linear_velocity[1]),
            "yaw_rate": float(ego.angular_velocity[2]),
        }
        return [values[name] / EGO_INPUT_SCALES[name] for name in self.config.ego_inputs]


class _StageTimer:
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


def _check_precision(device: torch.device, precision: str) -> torch.dtype:
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


def _grey_frame(runner: PolicyRunner, stamp_ns: int) -> Frame:
    """A frame with every input the policy reads: grey images of cameras that look ahead, a standing ego."""
    spec = runner.config.image_input
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
        for name in runner.cameras
    }
    ego = EgoState(
        stamp_ns=stamp_ns, odom_from_base=np.eye(4), linear_velocity=np.zeros(3), angular_velocity=np.zeros(3)
    )
    return Frame(reference_stamp_ns=stamp_ns, views=views, ego=ego, command=runner.commands[0])
