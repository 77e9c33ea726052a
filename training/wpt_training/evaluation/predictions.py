"""Plans of whole data sets: from rows of a sample cache, through a network in batches, to plans by sample token.

A predictor is a function of a Batch that returns positions [B, T, 2], metres in base_link at the reference stamp, what a
Plan's waypoints are. Shape letters as in data.batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wpt_policy.network.student import Student
from wpt_policy.policy_config import PolicyConfig

from wpt_training.data.batch import Batch
from wpt_training.errors import TrainingError
from wpt_training.teacher.candidates import scaled_ego_inputs
from wpt_training.world.world_model import encode_history

Predictor = Callable[[Batch], Tensor]


class Samples(Protocol):
    """What plans are made from; data.sample_cache.SampleCache is one. tokens: sample token of each row."""

    tokens: Sequence[str]

    def batch(self, rows: Tensor) -> Batch:
        """Return the samples of some rows."""
        ...


def predict(
    source: Samples,
    rows: Iterable[int],
    predictor: Predictor,
    *,
    batch: int = 32,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Return plans (T, 2) float64 by sample token, for some rows of a cache.

    progress: called with rows done and rows in all. Raises TrainingError for a plan that is not finite.
    """
    plans: dict[str, np.ndarray] = {}
    chosen = torch.as_tensor(list(rows), dtype=torch.int64)
    with torch.inference_mode():
        for part in chosen.split(batch):
            found = predictor(source.batch(part).to(device)).double().cpu().numpy()
            for row, plan in zip(part.tolist(), found, strict=True):
                if not np.all(np.isfinite(plan)):
                    raise TrainingError(
                        f"the plan for sample {source.tokens[row]} has a number that is not finite, expected metres; "
                        "the weights are unusable: train again."
                    )
                plans[source.tokens[row]] = plan
            if progress is not None:
                progress(len(plans), len(chosen))
    return plans


def student_predictor(network: Student, config: PolicyConfig) -> Predictor:
    """Return the predictor of a student's network, which is put into evaluation mode.

    History entries are encoded each from its own set, as the runner remembers them.
    """
    network.eval()

    def plan(batch: Batch) -> Tensor:
        history = encode_history(
            network.encoder,
            batch.images[:, 1:],
            batch.image_from_base[:, 1:],
            batch.camera_mask[:, 1:],
            batch.history_valid,
        )
        ego = scaled_ego_inputs(batch.motion, config.ego_inputs)
        return network(
            batch.images[:, 0],
            batch.image_from_base[:, 0],
            batch.camera_mask[:, 0],
            history,
            batch.earlier_from_present,
            batch.history_valid,
            batch.command,
            ego,
        ).positions

    return plan


def stop(batch: Batch) -> Tensor:
    """The ego stays where it is."""
    return torch.zeros_like(batch.future[..., :2])


def constant_velocity(batch: Batch, dt_s: float = 0.5) -> Tensor:
    """The ego goes on with its twist: speed, lateral speed and yaw rate, on a circle (wpt_policy.baselines)."""
    steps = batch.future.shape[1]
    times = dt_s * torch.arange(1, steps + 1, dtype=torch.float64, device=batch.motion.device)
    vx, vy, turn = batch.motion[:, :3, None].double().unbind(dim=1)
    angle = turn * times
    small = angle.abs() < 1e-6
    safe = torch.where(small, torch.ones_like(angle), angle)
    along = torch.where(small, torch.ones_like(angle), torch.sin(safe) / safe) * times
    aside = torch.where(small, angle / 2, (1 - torch.cos(safe)) / safe) * times
    return torch.stack([vx * along - vy * aside, vx * aside + vy * along], dim=-1).float()


def expert(batch: Batch) -> Tensor:
    """The true future; steps that are not known repeat the last known place (nothing judges them)."""
    known = batch.future_valid
    order = torch.arange(known.shape[1], device=known.device).expand_as(known)
    last = torch.where(known, order, torch.full_like(order, -1)).cummax(dim=1).values
    places = batch.future[..., :2].gather(1, last.clamp(min=0).unsqueeze(-1).expand(-1, -1, 2))
    return torch.where((last >= 0).unsqueeze(-1), places, torch.zeros_like(places))


UNTRAINED: dict[str, Predictor] = {"stop": stop, "constant_velocity": constant_velocity, "expert": expert}


def save_plans(path: Path, plans: dict[str, np.ndarray]) -> None:
    """Write plans by token; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_name(f".{path.name}.new.npz")
    tokens = np.array(list(plans), dtype=np.str_)
    np.savez_compressed(waiting, tokens=tokens, positions=np.array(list(plans.values()), dtype=np.float64))
    waiting.replace(path)


def load_plans(path: Path) -> dict[str, np.ndarray]:
    """Read what save_plans wrote; raises TrainingError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            tokens, positions = file["tokens"], file["positions"]
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{path} holds no plans ({error}): run the evaluation of its row again."
        ) from None
    return dict(zip(tokens.tolist(), positions, strict=True))
