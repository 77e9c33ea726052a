"""Training of the learnability gate's policies: plain regression of the expert's answers, minutes on two
cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wpt_sim.gate_data import Samples
from wpt_sim.gate_policies import NETWORKS, SCALE, STEPS
from wpt_sim.progress import Progress

BATCH = 256
# Early waypoints are what is driven before the next plan comes.
STEP_WEIGHTS = torch.tensor([1.0, 1.0, 0.8, 0.6, 0.5, 0.4])
SIDEWAYS_WEIGHT = 3.0  # a decimetre sideways matters more than one ahead
VALIDATION_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """samples used, epochs, mean errors (m) at 1 s and 3 s on held-out samples: progress and sideways."""

    samples: int
    epochs: int
    progress_1s: float
    progress_3s: float
    sideways_3s: float


def train(
    name: str, samples: Samples, *, epochs: int, seed: int, threads: int = 2, width: int = 128
) -> tuple[torch.nn.Module, TrainingReport]:
    """Train NETWORKS[name] and return it with what it reached. Deterministic by seed on one machine."""
    torch.manual_seed(seed)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _train(name, samples, epochs, seed, width)
    finally:
        torch.set_num_threads(before)


def _train(
    name: str, samples: Samples, epochs: int, seed: int, width: int
) -> tuple[torch.nn.Module, TrainingReport]:
    if name == "bev_policy":
        inputs = (torch.from_numpy(samples.context), torch.from_numpy(samples.actors))
        target = torch.from_numpy(samples.on_path) / SCALE
    else:
        inputs = (torch.from_numpy(samples.ego),)
        target = torch.from_numpy(samples.in_base) / SCALE
    network = NETWORKS[name](width)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(samples))
    held = max(1, int(VALIDATION_SHARE * len(order)))
    validation, training = torch.from_numpy(order[:held]), order[held:]
    steps = max(1, epochs * (len(training) // BATCH))
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps + 1)
    weights = STEP_WEIGHTS[:, None] * torch.tensor([1.0, SIDEWAYS_WEIGHT / 10.0])
    with Progress(f"train {name}", steps) as progress:
        for step in range(steps):
            batch = torch.from_numpy(rng.choice(training, BATCH))
            loss = ((network(*(x[batch] for x in inputs)) - target[batch]).abs() * weights).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            progress.show(step + 1, f"loss {loss.item():.4f}")
    network.eval()
    error = _errors(network, [x[validation] for x in inputs], target[validation])
    return network, TrainingReport(
        samples=len(samples),
        epochs=epochs,
        progress_1s=float(error[1, 0]),
        progress_3s=float(error[STEPS - 1, 0]),
        sideways_3s=float(error[STEPS - 1, 1]),
    )


def _errors(network: Callable[..., Tensor], inputs: list[Tensor], target: Tensor) -> Tensor:
    with torch.inference_mode():
        return ((network(*inputs) - target).abs() * SCALE).mean(0)
