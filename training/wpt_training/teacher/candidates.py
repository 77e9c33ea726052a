"""What a teacher puts forward, and what it may read of the ego. Shape letters: B samples, K candidates, T
steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wpt_policy.policy_config import EGO_INPUT_SCALES

from wpt_training.errors import TrainingError

# Columns of Batch.motion by the name of a policy's ego input.
_MOTION_COLUMNS = {"speed": 0, "lateral_speed": 1, "yaw_rate": 2}


class Candidates(NamedTuple):
    """positions: [B, K, T, 2] refined, metres in the present base_link, at the end of each step.

    anchors: [B, K, T, 2] what they were refined from. queries: [B, K, T, D] refined. confidence: [B, K]
    logits of the teacher's own choice, without any reward.
    """

    positions: Tensor
    anchors: Tensor
    queries: Tensor
    confidence: Tensor

    def chosen(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions [B, T, 2] and queries [B, T, D] of candidate index [B] of each sample."""
        return picked(self.positions, index), picked(self.queries, index)


class PlannedCandidates(NamedTuple):
    """A teacher's whole pass: candidates decoded on frames [B, 1 + T, C, X, Y] (F_0, then predicted), and
    before that first_pass, decoded on F_0 alone, whose most confident candidate the roll-out was conditioned
    on.
    """

    candidates: Candidates
    frames: Tensor
    first_pass: Candidates


def picked(values: Tensor, index: Tensor) -> Tensor:
    """Return [B, ...] entry index [B] of values [B, K, ...]."""
    return values[torch.arange(len(index), device=values.device), index]


def check_ego_inputs(names: tuple[str, ...]) -> None:
    """Raise TrainingError for an ego input that samples do not hold."""
    unknown = [name for name in names if name not in _MOTION_COLUMNS]
    if unknown:
        raise TrainingError(
            f"ego inputs hold {', '.join(unknown)}, expected some of {', '.join(_MOTION_COLUMNS)}; "
            "change the policy's ego_inputs."
        )


def scaled_ego_inputs(motion: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return [B, E] float32, the named ego inputs of Batch.motion [B, 4] divided as the runner divides them."""
    check_ego_inputs(names)
    columns = [motion[:, _MOTION_COLUMNS[name]].float() / EGO_INPUT_SCALES[name] for name in names]
    return torch.stack(columns, dim=1) if columns else motion.new_zeros(len(motion), 0, dtype=torch.float32)
