"""Policy bundles on disk: a folder with policy.json, policy.safetensors and README.md (the model card). Never
pickle.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from wpt_policy.network.student import Student
from wpt_policy.policy_config import BundleError, PolicyConfig, from_json, to_json

CONFIG_FILE = "policy.json"
WEIGHTS_FILE = "policy.safetensors"
CARD_FILE = "README.md"
MODELS_PATH_VARIABLE = "WPT_MODELS_PATH"


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyBundle:
    """config: policy.json. tensors: every weight by name, float32 on the CPU. sha256: of the weights file."""

    config: PolicyConfig
    tensors: Mapping[str, Tensor]
    sha256: str


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return what a bundle stores of a network: its state without batch norm's counters, which inference
    never reads.
    """
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def network_of(bundle: PolicyBundle) -> Student:
    """Return the bundle's network with its weights, in evaluation mode on the CPU."""
    network = Student(bundle.config)
    network.load_state_dict(
        dict(bundle.tensors)
    )  # batch norm fills in the counters that weights_of leaves out
    return network.eval().requires_grad_(False)


def save_bundle(
    folder: Path, config: PolicyConfig, tensors: Mapping[str, Tensor], model_card: str
) -> PolicyBundle:
    """Write a bundle into ``folder`` (made where missing) and return it; raises BundleError for tensors that
    do not fit.

    Each file appears whole or not at all, the weights before the policy.json that names their hash: a crash
    in between leaves a bundle that load_bundle refuses, never one that mixes old and new.
    """
    problems = _tensor_problems(config, tensors)
    if problems:
        raise problems[0]
    data = safetensors.torch.save(dict(sorted(tensors.items())))
    sha256 = hashlib.sha256(data).hexdigest()
    config = replace(config, weights_sha256=sha256)
    folder.mkdir(parents=True, exist_ok=True)
    _write_whole(folder / CARD_FILE, model_card.encode())
    _write_whole(folder / WEIGHTS_FILE, data)
    _write_whole(folder / CONFIG_FILE, to_json(config).encode())
    return PolicyBundle(config=config, tensors=dict(tensors), sha256=sha256)


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_config(folder: Path) -> PolicyConfig:
    """Read policy.json of a bundle; raises BundleError."""
    return from_json(_read(folder / CONFIG_FILE))


def load_bundle(folder: Path) -> PolicyBundle:
    """Read and check a bundle; raises BundleError with the first thing that is wrong."""
    config = load_config(folder)
    data = _read(folder / WEIGHTS_FILE)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != config.weights_sha256:
        raise _hash_error(config, data, sha256)
    tensors = _parse(data)
    problems = _tensor_problems(config, tensors)
    if problems:
        raise problems[0]
    return PolicyBundle(config=config, tensors=tensors, sha256=sha256)


def verify_bundle(folder: Path) -> list[str]:
    """Return one sentence for everything wrong with a bundle; empty when it can be used."""
    problems: list[str] = []
    if not (folder / CARD_FILE).is_file():
        problems.append(f"{CARD_FILE}: is missing in {folder}, expected the model card")
    config: PolicyConfig | None = None
    try:
        config = load_config(folder)
    except BundleError as error:
        problems.append(str(error))
    try:
        data = _read(folder / WEIGHTS_FILE)
        if config is not None and (sha256 := hashlib.sha256(data).hexdigest()) != config.weights_sha256:
            problems.append(str(_hash_error(config, data, sha256)))
        tensors = _parse(data)
    except BundleError as error:
        return [*problems, str(error)]
    if config is not None:
        problems += [str(error) for error in _tensor_problems(config, tensors)]
    return problems


def search_folders() -> list[Path]:
    """Return the folders in which bundles are looked for by name, in order."""
    folders = [Path(entry) for entry in os.environ.get(MODELS_PATH_VARIABLE, "").split(os.pathsep) if entry]
    prefixes = [entry for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    folders += [Path(prefix) / "share" / "wpt_models" for prefix in [*prefixes, sys.prefix]]
    return list(dict.fromkeys(folders))


def list_bundles() -> dict[str, Path]:
    """Return every bundle that find_bundle finds by name, sorted by name."""
    found: dict[str, Path] = {}
    for folder in search_folders():
        for file in sorted(folder.glob(f"*/{CONFIG_FILE}")):
            found.setdefault(file.parent.name, file.parent)
    return dict(sorted(found.items()))


def find_bundle(name_or_path: str | Path) -> Path:
    """Return the folder of a bundle, given as a path or by name; raises BundleError naming every place looked
    at.
    """
    places = [Path(name_or_path).expanduser()]
    if len(places[0].parts) == 1:
        places += [folder / name_or_path for folder in search_folders()]
    for place in places:
        if (place / CONFIG_FILE).is_file():
            return place
    raise BundleError(
        f"no policy bundle {str(name_or_path)!r}: expected {CONFIG_FILE} in one of "
        f"{', '.join(str(place) for place in places)}; give a path or set {MODELS_PATH_VARIABLE}"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot be read in {path.parent} ({error.strerror})", field=path.name) from None


def _hash_error(config: PolicyConfig, data: bytes, sha256: str) -> BundleError:
    if data.startswith(b"version https://git-lfs"):
        return BundleError("is a Git LFS pointer, not the weights; fetch the LFS content", field=WEIGHTS_FILE)
    return BundleError(
        f"is {config.weights_sha256 or 'empty'}, but {WEIGHTS_FILE} ({len(data)} bytes) has {sha256}; "
        "the two files do not belong together or one is damaged: copy the bundle again",
        field="weights_sha256",
    )


def _parse(data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise BundleError(
            f"is no whole safetensors file of {len(data)} bytes ({error}); copy the bundle again",
            field=WEIGHTS_FILE,
        ) from None


def _tensor_problems(config: PolicyConfig, tensors: Mapping[str, Tensor]) -> list[BundleError]:
    with torch.device("meta"):  # names and shapes only: nothing is allocated
        expected = {
            name: tuple(tensor.shape)
            for name, tensor in Student(config).state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
    problems = [
        BundleError(f"is missing in {WEIGHTS_FILE}, expected shape {list(shape)}", field=name)
        for name, shape in expected.items()
        if name not in tensors
    ]
    for name, tensor in tensors.items():
        if name not in expected:
            problems.append(
                BundleError(f"is in {WEIGHTS_FILE} but the network has no such tensor", field=name)
            )
        elif tuple(tensor.shape) != expected[name]:
            problems.append(
                BundleError(
                    f"has shape {list(tensor.shape)}, expected {list(expected[name])} by policy.json",
                    field=name,
                )
            )
        elif tensor.dtype != torch.float32:
            problems.append(BundleError(f"has type {tensor.dtype}, expected torch.float32", field=name))
        elif not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor)).sum())
            problems.append(BundleError(f"has {count} values that are not finite, expected none", field=name))
    return problems
