"""A row that sees nothing: speed, lateral speed, yaw rate, acceleration and the command to a plan.

What it reaches is what a low open-loop L2 owes to the ego's own motion ("AD-MLP" and "Is ego status all you need"
made the point). In closed loop it is a Planner like any other (entry point wpt_ego_mlp:FILE).
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wpt_policy.frame import Command, EgoState, Frame
from wpt_policy.image_input import ImageInput
from wpt_policy.plan import Plan
from wpt_policy.planner import PlannerError

from wpt_training.errors import TrainingError
from wpt_training.evaluation.predictions import Predictor, Samples
from wpt_training.trainer.checkpoint import load_tensors, save_tensors

KIND = "ego_mlp"
# Divisors of Batch.motion (m/s, m/s, rad/s, m/s2) and of the answer (m a step).
MOTION_SCALES = (10.0, 1.0, 0.5, 3.0)
STEP_SCALE_M = 5.0
# Acceleration in closed loop: the change of speed over the last half second, from at least a fifth of one.
ACCELERATION_NS = 500_000_000
LEAST_SPAN_NS = 200_000_000


class EgoMlp(nn.Module):
    """motion [B, 4] as in Batch, command [B] int64 -> positions [B, T, 2]."""

    def __init__(self, commands: tuple[Command, ...], steps: int, dt_s: float, width: int = 128):
        super().__init__()
        self.commands, self.steps, self.dt_s, self.width = commands, steps, dt_s, width
        self.layers = nn.Sequential(
            nn.Linear(len(MOTION_SCALES) + len(commands), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 2 * steps),
        )

    def forward(self, motion: Tensor, command: Tensor) -> Tensor:
        scaled = motion.float() / torch.tensor(MOTION_SCALES, device=motion.device)
        known = nn.functional.one_hot(command, len(self.commands)).float()
        moves = self.layers(torch.cat([scaled, known], dim=1)).view(-1, self.steps, 2)
        return (STEP_SCALE_M * moves).cumsum(dim=1)


def ego_mlp_predictor(network: EgoMlp) -> Predictor:
    """Return its predictor; the network is put into evaluation mode."""
    network.eval()
    return lambda batch: network(batch.motion, batch.command)


def fit_ego_mlp(
    motion: Tensor,
    command: Tensor,
    future: Tensor,
    future_valid: Tensor,
    commands: tuple[Command, ...],
    dt_s: float,
    *,
    seed: int,
    steps: int = 3000,
    batch: int = 256,
    rate: float = 1e-3,
) -> EgoMlp:
    """Train on N samples: the mean distance over known steps, AdamW with a cosine to zero; the same seed gives the same.

    Takes about a minute on two cores. Arguments as in Batch.
    """
    if not bool(future_valid.any()):
        raise TrainingError("no sample has a known future, expected some; give labelled rows.")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EgoMlp(commands, future.shape[1], dt_s)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    target = torch.nan_to_num(future[..., :2].float())
    for _ in range(steps):
        rows = torch.randint(len(motion), (min(batch, len(motion)),), generator=generator)
        distance = ((network(motion[rows], command[rows]) - target[rows]).square().sum(dim=-1) + 1e-6).sqrt()
        known = future_valid[rows]
        loss = (distance * known).sum() / known.sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def train_ego_mlp(
    source: Samples, rows: Tensor, commands: tuple[Command, ...], dt_s: float, *, seed: int, steps: int = 3000
) -> EgoMlp:
    """Train on rows of a sample cache."""
    names = ("motion", "command", "future", "future_valid")
    # A batch's images go as soon as its numbers are taken: all of 14,000 samples would be 16 GB.
    parts = [tuple(getattr(batch, name).clone() for name in names) for batch in map(source.batch, rows.split(64))]
    gathered = [torch.cat(values) for values in zip(*parts, strict=True)]
    return fit_ego_mlp(*gathered, commands, dt_s, seed=seed, steps=steps)


def save_ego_mlp(path: Path, network: EgoMlp, about: dict) -> None:
    """Write weights and description as one safetensors file."""
    facts = {
        "kind": KIND,
        "commands": [command.label for command in network.commands],
        "steps": network.steps,
        "dt_s": network.dt_s,
        "width": network.width,
        "about": about,
    }
    save_tensors(path, network.state_dict(), facts)


def load_ego_mlp(path: Path) -> EgoMlp:
    """Read what save_ego_mlp wrote; raises TrainingError."""
    tensors, facts = load_tensors(path)
    if facts.get("kind") != KIND:
        raise TrainingError(f"{path} is no ego MLP, expected a file of the ego-mlp row; give that file.")
    labels = {command.label: command for command in Command}
    commands = tuple(labels[label] for label in facts["commands"])
    network = EgoMlp(commands, facts["steps"], facts["dt_s"], facts["width"])
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


class EgoMlpPlanner:
    """The row as a Planner: acceleration is the change of speed over the last half second of frames."""

    name = KIND
    cameras: tuple[str, ...] = ()
    may_mask: frozenset[str] = frozenset()
    image_input: ImageInput | None = None
    needs_ego = True

    def __init__(self, checkpoint: Path, *, device: str = "cpu", precision: str = "float32"):
        """device, precision: as every announced planner takes; so small a network always runs on the CPU in float32."""
        self._network = load_ego_mlp(Path(checkpoint))
        self.commands = self._network.commands
        self._speeds: deque[tuple[int, float]] = deque()

    def reset(self) -> None:
        self._speeds.clear()

    def plan(self, frame: Frame) -> Plan:
        if frame.ego is None:
            raise PlannerError(
                "ego_mlp reads the ego's motion and no odometry covers this set; check the odometry topic"
            )
        if frame.command not in self.commands:
            known = ", ".join(command.label for command in self.commands)
            raise PlannerError(
                f"ego_mlp does not know the command {frame.command.label}, expected one of {known}"
            )
        ego = frame.ego
        motion = [
            [
                ego.speed,
                float(ego.linear_velocity[1]),
                float(ego.angular_velocity[2]),
                self._acceleration(ego),
            ]
        ]
        with torch.inference_mode():
            positions = self._network(
                torch.tensor(motion, dtype=torch.float32), torch.tensor([self.commands.index(frame.command)])
            )[0]
        return Plan(
            reference_stamp_ns=frame.reference_stamp_ns,
            positions=np.concatenate([np.zeros((1, 2)), positions.double().numpy()]),
            dt_s=self._network.dt_s,
            planner=self.name,
        )

    def _acceleration(self, ego: EgoState) -> float:
        speeds = self._speeds
        while speeds and (speeds[-1][0] >= ego.stamp_ns or speeds[0][0] < ego.stamp_ns - ACCELERATION_NS):
            speeds.pop() if speeds[-1][0] >= ego.stamp_ns else speeds.popleft()
        earlier = speeds[0] if speeds and ego.stamp_ns - speeds[0][0] >= LEAST_SPAN_NS else None
        speeds.append((ego.stamp_ns, ego.speed))
        if earlier is None:
            return 0.0
        return (ego.speed - earlier[1]) / ((ego.stamp_ns - earlier[0]) * 1e-9)
