"""What the trainer asks of a stage: losses of a batch, and the modules it trains and reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wpt_training.configuration import Schedule
from wpt_training.data.batch import Batch
from wpt_training.errors import TrainingError
from wpt_training.trainer.schedule import ParameterGroup


class Stage(Protocol):
    """One optimisation of the chain. name: of its folder and of its lines in logs.

    Everything it does is a function of its weights, the batch and torch's random numbers, which the trainer seeds at every
    step: a stage keeps no state of its own between steps beside its modules, else a resumed run would differ.
    """

    name: str

    def modules(self) -> Mapping[str, nn.Module]:
        """Return what is trained and saved, by name."""
        ...

    def frozen_modules(self) -> Mapping[str, nn.Module]:
        """Return what is only read: in eval mode, without gradients, not saved."""
        ...

    def parameter_groups(self, schedule: Schedule) -> list[ParameterGroup]:
        """Return the trained parameters with their share of the rate and their decay (schedule.parameter_groups)."""
        ...

    def train_mode(self) -> None:
        """Put trained modules into train mode and frozen ones into eval mode."""
        ...

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        """Return scalar losses; "total" is what is minimised, the others are logged.

        share: done part of the stage, in [0, 1).
        """
        ...

    def settings(self) -> dict[str, Any]:
        """Return what decides the result beside seed, schedule and data, as JSON values: sizes, weights it starts from."""
        ...


def freeze(module: nn.Module) -> nn.Module:
    """Put a module into eval mode and turn its gradients off; returns it."""
    return module.eval().requires_grad_(False)


def set_modes(trained: Mapping[str, nn.Module], frozen: Mapping[str, nn.Module]) -> None:
    """The train_mode of most stages."""
    for module in trained.values():
        module.train()
    for module in frozen.values():
        module.eval()


def named_parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield trained parameters as module.parameter, each once."""
    seen: set[int] = set()
    for name, module in modules.items():
        for inner, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{name}.{inner}", parameter


def named_state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return all parameters and persistent buffers as module.entry."""
    return {f"{name}.{inner}": tensor for name, module in modules.items() for inner, tensor in module.state_dict().items()}


def signature_of(*modules: nn.Module) -> str:
    """Return 16 hexadecimal digits that change with any weight or buffer of the modules."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            values = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return digest.hexdigest()[:16]


def require_total(losses: Mapping[str, Tensor], stage: str) -> Tensor:
    """Return the loss to minimise; raises TrainingError where the stage names none."""
    if "total" not in losses:
        raise TrainingError(f"stage {stage} returned losses {', '.join(losses)}, expected one called 'total'; add it.")
    return losses["total"]
