"""Learning rate by step, and which parameters decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NotRequired, TypedDict

import torch
from torch import nn

from wpt_training.configuration import Schedule


class ParameterGroup(TypedDict):
    """A parameter group of AdamW. rate_share: of the schedule's learning rate; lr is set from it at every step."""

    params: list[nn.Parameter]
    weight_decay: float
    rate_share: float
    lr: NotRequired[float]


def learning_rate(schedule: Schedule, step: int) -> float:
    """Return the rate of a step: linear warm-up from one step's part, then half a cosine to min_rate_share at the end."""
    warmup = warmup_steps(schedule)
    if step < warmup:
        return schedule.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, schedule.steps - 1 - warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return schedule.learning_rate * (schedule.min_rate_share + (1.0 - schedule.min_rate_share) * cosine)


def warmup_steps(schedule: Schedule) -> int:
    """Return how many steps the rate rises."""
    return round(schedule.warmup_share * schedule.steps)


def parameter_groups(modules: Mapping[str, nn.Module], schedule: Schedule) -> list[ParameterGroup]:
    """Sort trained parameters into at most four groups: backbone or not, decayed or not.

    Norms and biases (fewer than two dimensions) do not decay. A parameter belongs to the backbone where a part of its name
    is "backbone".
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for module in modules.values():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                key = ("backbone" in name.split("."), parameter.ndim >= 2)
                groups.setdefault(key, []).append(parameter)
    return [
        ParameterGroup(
            params=parameters,
            weight_decay=schedule.weight_decay if decays else 0.0,
            rate_share=schedule.backbone_rate_share if backbone else 1.0,
        )
        for (backbone, decays), parameters in sorted(groups.items())
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int) -> float:
    """Set every group's rate for a step; returns the schedule's."""
    rate = learning_rate(schedule, step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_share"]
    return rate
