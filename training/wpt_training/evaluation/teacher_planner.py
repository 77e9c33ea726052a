"""A trained teacher as a Planner, for closed loop: wpt_teacher:FOLDER.

Sees what a policy bundle's runner sees (wpt_policy.frame_observer): the same checks, the same memory of bird's-eye views
made each from its own set. Its plan carries all candidates with their scores and reward terms.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from wpt_policy.frame import EgoState, Frame
from wpt_policy.frame_observer import FrameObserver
from wpt_policy.image_input import ImageInput
from wpt_policy.network.backbone import fold_norms
from wpt_policy.plan import Candidate, Plan
from wpt_policy.planner import PlannerError
from wpt_policy.runner import StageTimer, check_precision, choose_device, inference

from wpt_training.evaluation.teacher_folder import Decision, load_teacher


class TeacherPlanner:
    """A Planner that runs a teacher's folder. Arguments as announced planners take them (wpt_policy.registry).

    choice: "reward", "imitation" or "confidence" instead of the folder's own. Raises TrainingError for an unusable folder,
    DeviceError as PolicyRunner does.

    last_stage_ms: milliseconds of the latest plan(): upload, encode, memory as PolicyRunner's, decode (candidates, roll-out,
    reward, choice).
    """

    def __init__(
        self, checkpoint: Path, *, device: str = "auto", precision: str = "float32", choice: str | None = None
    ):
        folder = Path(checkpoint)
        parts, description = load_teacher(folder, choice=choice)
        config = description.configuration.world.network
        self.description = description
        self.name = f"teacher:{folder.name}"
        self.config = config
        self.cameras = config.cameras
        self.may_mask = frozenset(config.may_mask)
        self.image_input: ImageInput | None = ImageInput(config.image_input)
        self.commands = config.plan.commands
        self.needs_ego = bool(description.ego_inputs)
        self.weights_sha256 = description.weights_sha256
        self.last_stage_ms: dict[str, float] = {}
        self.device = choose_device(device)
        self._dtype = check_precision(self.device, precision)
        fold_norms(parts.world)
        self._parts = parts.to(device=self.device, memory_format=torch.channels_last)
        self._observer = FrameObserver(self._parts.world, config, self.device)

    def check_rig(self, names: Iterable[str]) -> None:
        """Raise PlannerError when a rig's camera names are not the teacher's."""
        self._observer.check_rig(names)

    def reset(self) -> None:
        """Forget everything seen so far."""
        self._observer.reset()

    def plan(self, frame: Frame) -> Plan:
        """Plan on a frame; raises PlannerError, after which the memory is as before."""
        if self.needs_ego and frame.ego is None:
            names = ", ".join(self.description.ego_inputs)
            raise PlannerError(
                f"{self.name} reads {names} and no odometry covers this set; check the odometry topic"
            )
        timer = StageTimer(self.device)
        with inference(self.device, self._dtype):
            seen = self._observer.observe(frame, timer.stage)
            motion = torch.tensor([_motion(frame.ego)], dtype=torch.float32, device=self.device)
            decision = self._parts.decide(seen.fused, seen.command, motion)
            plan = decision.plan[0].double().cpu().numpy()
            candidates = _candidates(decision)
            timer.stage("decode")
        self._observer.remember(frame, seen.bev)
        self.last_stage_ms = timer.milliseconds
        return Plan(
            reference_stamp_ns=frame.reference_stamp_ns,
            positions=np.concatenate([np.zeros((1, 2)), plan]),
            dt_s=self.config.plan.dt_s,
            planner=self.name,
            flags=seen.flags,
            candidates=candidates,
            selected=int(decision.chosen[0]),
            weights_sha256=self.weights_sha256,
        )


def _motion(ego: EgoState | None) -> list[float]:
    """Columns of Batch.motion that a teacher may read; the acceleration is none of them."""
    if ego is None:
        return [0.0] * 4
    return [ego.speed, float(ego.linear_velocity[1]), float(ego.angular_velocity[2]), 0.0]


def _candidates(decision: Decision) -> tuple[Candidate, ...]:
    positions = decision.candidates.positions[0].double().cpu().numpy()
    scores = decision.scores[0].double().cpu().tolist()
    terms = {name: values[0].double().cpu().tolist() for name, values in decision.terms.items()}
    return tuple(
        Candidate(
            positions=np.concatenate([np.zeros((1, 2)), positions[k]]),
            score=scores[k],
            reward_terms={name: values[k] for name, values in terms.items()},
        )
        for k in range(len(positions))
    )
