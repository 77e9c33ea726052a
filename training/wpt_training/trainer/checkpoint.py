"""A run's state on disk: one safetensors file with weights and optimiser state, everything else as JSON in its header.

One file, so that one rename replaces it whole. No pickle.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wpt_training.errors import TrainingError
from wpt_training.trainer.stage import named_parameters, named_state

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
RESULT = "result.json"
FORMAT = 1
_KEY = "wpt_training"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts under a temporary name, then rename. Tensors are copied to the CPU, contiguous."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(_unshared(plain), waiting, metadata={_KEY: json.dumps({"format": FORMAT, **facts})})
        os.replace(waiting, path)
    finally:
        waiting.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and facts; raises TrainingError naming a file that is missing, damaged or not ours."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read as weights ({error}): give a file that a training stage wrote, or remove it."
        ) from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise TrainingError(f"{path} has no header of format {FORMAT}: give a file that a training stage wrote.")
    return tensors, facts


def save_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON under a temporary name, then rename."""
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    waiting.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(waiting, path)


def save_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, facts: Mapping[str, Any]
) -> None:
    """Write weights (weights/module.entry) and AdamW's state (optimizer/module.parameter/entry) with the facts."""
    tensors = {f"weights/{name}": tensor for name, tensor in named_state(modules).items()}
    for name, parameter in named_parameters(modules):
        for entry, tensor in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{entry}"] = tensor
    save_tensors(path, tensors, facts)


def restore_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Fill modules and optimiser from a checkpoint; returns its facts.

    Raises TrainingError where the checkpoint is of another identity (stage, configuration, seed, schedule, data).
    """
    tensors, facts = load_tensors(path)
    require_identity(path, facts.get("identity", {}), identity)
    fill_modules(modules, {name.removeprefix("weights/"): t for name, t in tensors.items() if name[0] == "w"}, path)
    state: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, parameter, entry = name.split("/")
            state.setdefault(parameter, {})[entry] = tensor
    for name, parameter in named_parameters(modules):
        # AdamW's moments take the layout of their parameter (channels last or not), its step counter is a scalar.
        for entry, tensor in state.get(name, {}).items():
            like = parameter if tensor.shape == parameter.shape else tensor.to(parameter.device)
            optimizer.state[parameter][entry] = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
    return facts


def require_identity(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise TrainingError naming the first thing in which a stored run differs from the one asked for."""
    expected = json.loads(json.dumps(expected))
    difference = _difference(dict(found), expected, "")
    if difference:
        raise TrainingError(
            f"{path} belongs to another run ({difference}): give another folder, or remove it to start over."
        )


def fill_modules(modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy tensors named module.entry into modules; raises TrainingError where names or shapes do not fit exactly."""
    for name, module in modules.items():
        mine = {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(mine)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise TrainingError(
                f"{source} does not fit {name}, expected weights of the same configuration ({reason}): "
                "train it again or give the right folder."
            ) from None


def load_weights(folder: Path, modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Fill modules from the weights that a finished run left in its folder; returns the run's result.

    Only the named modules are filled; the run may hold more. Raises TrainingError where the run is not finished.
    """
    result = read_result(folder)
    if result is None:
        raise TrainingError(f"{folder} holds no finished training run ({RESULT} is missing): run that stage first.")
    tensors, _ = load_tensors(folder / WEIGHTS)
    fill_modules(modules, tensors, folder / WEIGHTS)
    return result


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return result.json of a finished run, or None where there is none."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise TrainingError(f"{path} is no JSON ({error}): remove it to run the stage again.") from None


def git_commit() -> str | None:
    """Return the commit of the checkout this file lies in, with "+" where it has changes, or None."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory, which safetensors refuses."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return tensors


def _difference(found: Any, expected: Any, where: str) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            difference = _difference(found.get(key), expected.get(key), f"{where}.{key}" if where else key)
            if difference:
                return difference
        return ""
    return "" if found == expected else f"its {where} is {found!r}, asked for is {expected!r}"
