"""Planners by name, and the wpt-policy command."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from wpt_policy import policy_cli, registry
from wpt_policy.baselines import ConstantVelocityPlanner, StopPlanner
from wpt_policy.bundle import CONFIG_FILE, WEIGHTS_FILE, PolicyBundle, save_bundle
from wpt_policy.planner import Planner
from wpt_policy.policy_config import FORMAT_VERSION, BundleError
from wpt_policy.registry import UnknownPlannerError, announced_planners, make_planner
from wpt_policy.runner import DeviceError, PolicyRunner

GROUP = "wpt.planners"


class CheckpointPlanner(StopPlanner):
    """Stands for a planner of another package that reads a checkpoint."""

    def __init__(self, checkpoint: Path | None = None, *, device: str = "auto", precision: str = "float32"):
        self.arguments = (checkpoint, device, precision)


@pytest.fixture(autouse=True)
def known(tmp_path: Path, seeded: PolicyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """One announced planner more than the package's own, and one bundle."""
    points = [
        importlib.metadata.EntryPoint(
            "constant_velocity", "wpt_policy.baselines:ConstantVelocityPlanner", GROUP
        ),
        importlib.metadata.EntryPoint("stop", "wpt_policy.baselines:StopPlanner", GROUP),
    ]
    teacher = importlib.metadata.EntryPoint("teacher", "test_module:CheckpointPlanner", GROUP)
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", _load_with({teacher.value: CheckpointPlanner}))
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group: importlib.metadata.EntryPoints([*points, teacher]).select(group=group),
    )
    save_bundle(tmp_path / "models" / "tried", seeded.config, seeded.tensors, "# card\n")
    monkeypatch.setenv("WPT_MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")


def _load_with(objects: dict[str, type]):
    whole = importlib.metadata.EntryPoint.load
    return lambda point: objects.get(point.value) or whole(point)


def test_announced_planners_by_name() -> None:
    assert list(announced_planners()) == ["constant_velocity", "stop", "teacher"]
    assert isinstance(make_planner("constant_velocity"), ConstantVelocityPlanner)
    assert isinstance(make_planner("stop"), Planner)


def test_name_and_checkpoint() -> None:
    planner = make_planner("teacher:runs/best.safetensors", device="cpu", precision="bfloat16")
    assert isinstance(planner, CheckpointPlanner)
    assert planner.arguments == (Path("runs/best.safetensors"), "cpu", "bfloat16")


def test_bundles_by_name_and_path(tmp_path: Path) -> None:
    for spec in ("tried", str(tmp_path / "models" / "tried")):
        planner = make_planner(spec, device="cpu")
        assert isinstance(planner, PolicyRunner) and planner.weights_sha256


@pytest.mark.parametrize("spec", ["nobody", "nobody:checkpoint", "teacher:", ""])
def test_unknown_planners_list_what_exists(spec: str) -> None:
    with pytest.raises(UnknownPlannerError) as caught:
        make_planner(spec)
    for word in ("constant_velocity", "stop", "teacher", "tried"):
        assert word in str(caught.value)


def test_a_broken_bundle_is_not_unknown(tmp_path: Path) -> None:
    (tmp_path / "models" / "tried" / WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(BundleError, match="weights_sha256"):
        make_planner("tried")


def test_a_wrong_device_passes_through() -> None:
    with pytest.raises(DeviceError):
        make_planner("tried", device="cuda:99")


def test_cli_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save_path = tmp_path / "models" / "broken"
    save_path.mkdir()
    (save_path / CONFIG_FILE).write_text("{}")
    assert policy_cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert "constant_velocity" in out and "SEEDED RANDOM WEIGHTS" in out
    assert "cannot be used: format_version" in out


def test_cli_verify(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert policy_cli.main(["verify", "tried"]) == 0
    assert "all well" in capsys.readouterr().out
    (tmp_path / "models" / "tried" / WEIGHTS_FILE).write_bytes(b"cut")
    assert policy_cli.main(["verify", str(tmp_path / "models" / "tried")]) == 1
    assert "weights_sha256" in capsys.readouterr().err
    assert policy_cli.main(["verify", str(tmp_path)]) == 1
    assert policy_cli.main(["verify", "nobody"]) == 1
    assert "no policy bundle 'nobody'" in capsys.readouterr().err


def test_cli_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert policy_cli.main(["show", "tried"]) == 0
    out = capsys.readouterr().out
    assert f'"format_version": {FORMAT_VERSION}' in out and "never drive with them" in out
    assert policy_cli.main(["show", "nobody"]) == 1


def test_cli_seed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert policy_cli.main(["seed", "--out", str(tmp_path / "made"), "--seed", "3"]) == 0
    assert policy_cli.main(["verify", str(tmp_path / "made")]) == 0
    assert "SEEDED RANDOM WEIGHTS of seed 3" in capsys.readouterr().out
    assert policy_cli.main(["seed", "--out", str(tmp_path / "made"), "--seed", "-1"]) == 2


@pytest.mark.parametrize("arguments", [[], ["paint"], ["seed"]])
def test_cli_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        policy_cli.main(arguments)
    assert caught.value.code == 2
