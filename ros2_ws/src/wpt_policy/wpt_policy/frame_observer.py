"""From a Frame to a fused bird's-eye view: checks, copies, encoder, memory, fusion.

PolicyRunner decodes a student's plan from it, a teacher in closed loop its candidates: both see the same input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wpt_policy.frame import CameraView, EgoState, Frame, ViewStatus
from wpt_policy.network.bev_encoder import Sampling
from wpt_policy.network.projection import ground_motion, image_from_base
from wpt_policy.plan import PlanFlag
from wpt_policy.planner import PlannerError
from wpt_policy.policy_config import EGO_INPUT_SCALES, PolicyConfig
from wpt_policy.temporal_memory import TemporalMemory


class Observation(NamedTuple):
    """bev: [1, C + 1, X, Y] of this set alone, what the memory keeps. fused: [1, C, X, Y] with history.

    command: [1] int64 index into the policy's commands. ego: [1, E] float32 scaled ego inputs.
    """

    bev: Tensor
    fused: Tensor
    command: Tensor
    ego: Tensor
    flags: PlanFlag


class FrameObserver:
    """Observes frames for one PolicyConfig with a network that has its ``encoder`` and ``fusion``.

    Not thread-safe. Nothing is remembered before ``remember``, so that a frame that fails leaves no trace.
    """

    def __init__(self, network: nn.Module, config: PolicyConfig, device: torch.device):
        self.config, self.device = config, device
        self.cameras = config.cameras
        self.may_mask = frozenset(config.may_mask)
        self.needs_ego = bool(config.ego_inputs)
        self._network = network
        self._memory = TemporalMemory(config.history)
        # One buffer for all sets; page-locked where a GPU copies from it without a detour.
        size = (1, len(config.cameras), config.image_input.height, config.image_input.width, 3)
        self._pixels = torch.zeros(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        channels = config.architecture.bev_encoder.channels + 1
        self._nothing_remembered = torch.zeros(1, channels, *config.bev.shape, device=device)
        self._sampling: Sampling | None = None
        self._sampling_key = b""

    def reset(self) -> None:
        """Forget everything seen so far."""
        self._memory.reset()

    def observe(self, frame: Frame, stage: Callable[[str], None] = lambda name: None) -> Observation:
        """Return what the network sees; raises PlannerError. Call it in inference mode.

        stage: called after upload (checks, matrices, copies), encode (images to bird's-eye view) and memory
        (recall, warp, fuse).
        """
        self._check(frame)
        views = [frame.views.get(name) for name in self.cameras]
        flags = self._view_flags(views, frame.ego)
        images, matrices, camera_mask = self._upload(views, frame.ego)
        command = torch.tensor([self.config.plan.commands.index(frame.command)], device=self.device)
        ego = torch.tensor([self._ego_inputs(frame.ego)], dtype=torch.float32, device=self.device)
        stage("upload")
        features = self._network.encoder.image_features(images)
        bev = self._network.encoder.bev_encoder(features, self._sample(matrices, camera_mask))
        stage("encode")
        history, motion, valid = self._recall(frame)
        if not all(valid):
            flags |= PlanFlag.WARMING_UP
        fused = self._network.fusion(
            bev,
            history,
            torch.from_numpy(motion).unsqueeze(0).to(self.device),
            torch.tensor([valid], dtype=torch.bool, device=self.device),
        )
        stage("memory")
        return Observation(bev, fused, command, ego, flags)

    def remember(self, frame: Frame, bev: Tensor) -> None:
        """Keep a set's own bird's-eye view for the sets after it."""
        pose = None if frame.ego is None else frame.ego.odom_from_base
        self._memory.observe(frame.reference_stamp_ns, pose, bev)

    def check_rig(self, names: Iterable[str]) -> None:
        """Raise PlannerError when a rig's camera names are not the bundle's (the order does not matter)."""
        given = list(names)
        if set(given) != set(self.cameras) or len(given) != len(self.cameras):
            raise PlannerError(
                f"policy {self.config.name} was made for the cameras {', '.join(self.cameras)}, but this rig has "
                f"{', '.join(given) or 'none'}; rename or remap the cameras, or use a bundle for this rig"
            )

    def _check(self, frame: Frame) -> None:
        newest_ns = self._memory.newest_ns
        if newest_ns is not None and frame.reference_stamp_ns < newest_ns:
            behind_s = (newest_ns - frame.reference_stamp_ns) / 1e9
            raise PlannerError(
                f"set at {frame.reference_stamp_ns} ns is {behind_s:.3f} s older than the one before it, "
                "expected rising stamps; call reset() when time goes back"
            )
        if frame.command not in self.config.plan.commands:
            raise PlannerError(
                f"policy {self.config.name} does not know the command {frame.command.label}, expected one of "
                f"{', '.join(command.label for command in self.config.plan.commands)}"
            )
        if self.needs_ego and frame.ego is None:
            raise PlannerError(
                f"policy {self.config.name} reads {', '.join(self.config.ego_inputs)} and no odometry covers this "
                "set; check the odometry topic"
            )
        strangers = [name for name in frame.views if name not in self.cameras]
        if strangers:
            self.check_rig(frame.views)
        seeing = [name for name in self.cameras if self._check_view(name, frame.views.get(name))]
        if not seeing:
            raise PlannerError(
                f"all cameras of policy {self.config.name} are masked, expected at least one image"
            )

    def _check_view(self, name: str, view: CameraView | None) -> bool:
        """Return whether the camera contributes an image; raises PlannerError where it must and does not."""
        if view is None or view.status is ViewStatus.MASKED:
            if name in self.may_mask:
                return False
            raise PlannerError(
                f"camera {name} is {'missing' if view is None else 'masked'} and policy {self.config.name} was not "
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
                f"{expected} uint8 for policy {self.config.name}; prepare it with the policy's image_input"
            )
        if (view.calibration.width, view.calibration.height) != (spec.width, spec.height):
            raise PlannerError(
                f"calibration of {name} is for {view.calibration.width}x{view.calibration.height} pixels, "
                f"expected {spec.width}x{spec.height} for policy {self.config.name}; "
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
