"""Bundles on disk: what was saved comes back to the bit, and everything damaged is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from wpt_policy import bundle as bundle_module
from wpt_policy.bundle import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    PolicyBundle,
    find_bundle,
    list_bundles,
    load_bundle,
    network_of,
    save_bundle,
    verify_bundle,
    weights_of,
)
from wpt_policy.policy_config import BundleError
from wpt_policy.seeded_weights import seeded_tensors


@pytest.fixture
def folder(tmp_path: Path, seeded: PolicyBundle) -> Path:
    save_bundle(tmp_path / "tried", seeded.config, seeded.tensors, "# card\n")
    return tmp_path / "tried"


def test_round_trip(folder: Path, seeded: PolicyBundle) -> None:
    loaded = load_bundle(folder)
    assert loaded.sha256 == loaded.config.weights_sha256
    assert replace(loaded.config, weights_sha256="") == seeded.config
    assert set(loaded.tensors) == set(seeded.tensors)
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in seeded.tensors.items())
    assert verify_bundle(folder) == []
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD_FILE, CONFIG_FILE, WEIGHTS_FILE])


def test_a_network_saved_and_loaded_is_the_same_network(tmp_path: Path, seeded: PolicyBundle) -> None:
    network = network_of(seeded)
    again = network_of(save_bundle(tmp_path / "again", seeded.config, weights_of(network), "# card\n"))
    for (name, first), (_, second) in zip(
        network.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(first, second), name


def load_error(folder: Path) -> BundleError:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert str(caught.value) in verify_bundle(folder)
    return caught.value


def test_other_weights_than_policy_json_names(folder: Path, seeded: PolicyBundle) -> None:
    other = seeded_tensors(seeded.config, 1)
    (folder / WEIGHTS_FILE).write_bytes(safetensors.torch.save(other))
    error = load_error(folder)
    assert error.field == "weights_sha256" and "copy the bundle again" in error.problem


def test_a_truncated_file(folder: Path) -> None:
    weights = folder / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-100])
    assert load_error(folder).field == "weights_sha256"
    assert any(
        problem.startswith(f"{WEIGHTS_FILE}: is no whole safetensors file")
        for problem in verify_bundle(folder)
    )


def test_a_git_lfs_pointer(folder: Path) -> None:
    (folder / WEIGHTS_FILE).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS pointer" in load_error(folder).problem


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert load_error(folder).field == name


def test_a_missing_card_is_reported_and_does_not_stop_a_planner(folder: Path) -> None:
    (folder / CARD_FILE).unlink()
    load_bundle(folder)
    (problem,) = verify_bundle(folder)
    assert problem.startswith(f"{CARD_FILE}: is missing")


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors and give policy.json the new file's hash: damage that a hash cannot show."""
    tensors = safetensors.torch.load((folder / WEIGHTS_FILE).read_bytes())
    change(tensors)
    data = safetensors.torch.save(tensors)
    (folder / WEIGHTS_FILE).write_bytes(data)
    document = json.loads((folder / CONFIG_FILE).read_text())
    document["weights_sha256"] = bundle_module.hashlib.sha256(data).hexdigest()
    (folder / CONFIG_FILE).write_text(json.dumps(document))


NAME = "plan_decoder.head.2.bias"


def set_nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NAME][1] = torch.nan


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda tensors: tensors.pop(NAME), NAME, "missing"),
        (lambda tensors: tensors.update(stranger=torch.zeros(1)), "stranger", "no such tensor"),
        (lambda tensors: tensors.update({NAME: torch.zeros(3)}), NAME, r"shape \[3\], expected \[2\]"),
        (lambda tensors: tensors.update({NAME: torch.zeros(2).half()}), NAME, "float16"),
        (set_nan, NAME, "1 values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder: Path, change: Callable, field: str, words: str) -> None:
    rewrite(folder, change)
    error = load_error(folder)
    assert error.field == field
    with pytest.raises(BundleError, match=words):
        raise error


def test_verify_lists_everything_at_once(folder: Path) -> None:
    (folder / CARD_FILE).unlink()
    rewrite(folder, lambda tensors: (tensors.pop(NAME), set_infinite(tensors)))
    assert len(verify_bundle(folder)) == 3


def set_infinite(tensors: dict[str, torch.Tensor]) -> None:
    tensors["plan_decoder.step_queries"][0, 0] = torch.inf


def test_other_sizes_in_policy_json_than_in_the_weights(folder: Path) -> None:
    text = (folder / CONFIG_FILE).read_text()
    (folder / CONFIG_FILE).write_text(
        text.replace('"feedforward_channels": 128', '"feedforward_channels": 64')
    )
    assert re.fullmatch(r"plan_decoder\.(refinement\.)?feedforward\..*", load_error(folder).field)


def test_saving_wrong_tensors_writes_nothing(tmp_path: Path, seeded: PolicyBundle) -> None:
    tensors = dict(seeded.tensors)
    tensors.pop(NAME)
    with pytest.raises(BundleError, match="missing"):
        save_bundle(tmp_path / "tried", seeded.config, tensors, "# card\n")
    assert not (tmp_path / "tried").exists()


def test_a_crash_while_saving_leaves_no_mixture(
    folder: Path, seeded: PolicyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path, data: bytes) -> None:
        if path.name == CONFIG_FILE:
            raise OSError("disk full")
        whole(path, data)

    whole = bundle_module._write_whole
    monkeypatch.setattr(bundle_module, "_write_whole", crash)
    with pytest.raises(OSError, match="disk full"):
        save_bundle(folder, seeded.config, seeded_tensors(seeded.config, 1), "# card\n")
    assert load_error(folder).field == "weights_sha256"


def test_search_order(tmp_path: Path, seeded: PolicyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, prefix = tmp_path / "first", tmp_path / "second", tmp_path / "prefix"
    monkeypatch.setenv("WPT_MODELS_PATH", f"{first}:{second}")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    for place in (second, prefix / "share" / "wpt_models"):
        save_bundle(place / "tried", seeded.config, seeded.tensors, "# card\n")
    assert find_bundle("tried") == second / "tried"
    assert list_bundles()["tried"] == second / "tried"
    assert find_bundle(second / "tried") == second / "tried"
    monkeypatch.setenv("WPT_MODELS_PATH", str(first))
    assert find_bundle("tried") == prefix / "share" / "wpt_models" / "tried"


def test_an_unknown_name_lists_all_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WPT_MODELS_PATH", str(tmp_path / "first"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    with pytest.raises(BundleError) as caught:
        find_bundle("nobody")
    for place in ("first/nobody", "prefix/share/wpt_models/nobody", "WPT_MODELS_PATH"):
        assert place in str(caught.value)
