"""The trainer on a toy stage: exact resume, stops, refusals, divergence, rates and the metrics log."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from wpt_training.configuration import Schedule, compact
from wpt_training.data.batch import Batch
from wpt_training.errors import DivergenceError, TrainingError
from wpt_training.trainer import checkpoint as files
from wpt_training.trainer.divergence import DivergenceWatch
from wpt_training.trainer.metrics_log import read_metrics
from wpt_training.trainer.precision import faster_precision
from wpt_training.trainer.progress import Progress
from wpt_training.trainer.schedule import learning_rate, parameter_groups
from wpt_training.trainer.stage import freeze, set_modes
from wpt_training.trainer.trainer import DIVERGENCE, TrainResult, train

CONFIG = compact().with_(precision="float32")
SCHEDULE = Schedule(samples=96, batch=8, learning_rate=0.05, clip_norm=1.0)
ROWS = torch.arange(40)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy_batch(rows: Tensor) -> Batch:
    """A batch whose motion and future are functions of the row; the other fields are empty."""
    empty = {field.name: torch.zeros(len(rows), 0) for field in dataclasses.fields(Batch)}
    phase = rows.float()[:, None] * torch.tensor([0.1, 0.7, 1.3, 2.9])
    empty |= {"row": rows, "motion": phase.sin(), "future": phase.sin().sum(1, keepdim=True).expand(-1, 3).clone()}
    return Batch(**empty)


class ToySource:
    """Remembers which rows were asked for."""

    def __init__(self, signature: str = "toy", poison: int | None = None):
        self.signature, self.poison, self.seen = signature, poison, []

    def batch(self, rows: Tensor) -> Batch:
        rows = torch.as_tensor(rows)
        self.seen.append(rows.tolist())
        made = toy_batch(rows)
        if self.poison is not None:
            made.future[rows == self.poison] = math.nan
        return made


class ToyStage:
    """Convolution, batch norm, dropout and a random draw: all that a resume could get wrong."""

    name = "toy"

    def __init__(self, seed: int = 0, scale: float = 1.0):
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 3)
        )
        self.backbone = nn.Linear(4, 4)
        torch.manual_seed(0)  # frozen weights come from elsewhere: the same whatever the seed
        self.guide = freeze(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
        self.scale = scale

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "backbone": self.backbone}

    def frozen_modules(self) -> dict[str, nn.Module]:
        return {"guide": self.guide}

    def parameter_groups(self, schedule: Schedule) -> list:
        return parameter_groups({"all": nn.ModuleDict(self.modules())}, schedule)

    def train_mode(self) -> None:
        set_modes(self.modules(), self.frozen_modules())

    def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
        mixed = self.backbone(batch.motion) + self.guide(batch.motion)
        noise = 0.01 * torch.randn(len(batch), 3)
        error = self.net(mixed.reshape(-1, 1, 2, 2)) + noise - batch.future
        fit = error.square().mean()
        return {"fit": fit, "total": self.scale * fit * (1.0 + share)}

    def settings(self) -> dict[str, object]:
        return {"scale": self.scale}


def run(folder: Path, **changes: object) -> TrainResult:
    arguments = {"rows": ROWS, "seed": 3, "log_every": 3} | changes
    stage = arguments.pop("stage", None) or ToyStage()
    source = arguments.pop("source", None) or ToySource()
    schedule, config = arguments.pop("schedule", SCHEDULE), arguments.pop("config", CONFIG)
    return train(stage, source, schedule, config, folder, **arguments)


def without_times(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k != "samples_per_s"} for line in read_metrics(folder)]


def test_stopped_after_every_step_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    for step in range(1, 12):
        # A stage made from another seed: everything must come from the checkpoint.
        part = run(tmp_path / "parts", stage=ToyStage(seed=step - 1), max_minutes=0)
        assert (part.finished, part.step) == (False, step)
    last = run(tmp_path / "parts", stage=ToyStage(seed=99), max_minutes=0)
    assert whole.finished and last.finished and last.step == last.steps == 12
    expected, found = load_file(whole.weights), load_file(last.weights)
    assert expected.keys() == found.keys() and len(expected) == 11
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert without_times(tmp_path / "whole") == without_times(tmp_path / "parts")
    assert whole.losses["fit"] == last.losses["fit"]


def test_seed_decides_order_and_draws(tmp_path: Path) -> None:
    same, other = ToySource(), ToySource()
    run(tmp_path / "a", source=same)
    run(tmp_path / "b", source=other, seed=4)
    assert same.seen != other.seen
    assert sorted(sum(same.seen[:5], [])) == ROWS.tolist()  # an epoch holds every row once


def test_time_limit_stops_with_a_checkpoint_and_seconds_add_up(tmp_path: Path) -> None:
    ticks = iter(range(0, 100_000, 20))

    def clock() -> float:
        return float(next(ticks))

    first = run(tmp_path, max_minutes=1.5, clock=clock)
    assert not first.finished and 1 < first.step < 12
    assert (tmp_path / files.CHECKPOINT).is_file() and not (tmp_path / files.RESULT).exists()
    last = run(tmp_path, clock=clock)
    assert last.finished and last.seconds > first.seconds > 60
    assert not (tmp_path / files.CHECKPOINT).exists()


def test_checkpoint_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    save = files.save_checkpoint
    monkeypatch.setattr(
        files, "save_checkpoint", lambda path, m, o, facts: (steps.append(facts["step"]), save(path, m, o, facts))
    )
    ticks = iter(range(0, 100_000, 20))  # one look at the clock in a step
    run(tmp_path, config=CONFIG.with_(checkpoint_minutes=1.0), clock=lambda: float(next(ticks)))
    assert steps == [3, 6, 9]


def test_interrupted_by_an_error_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    class Breaks(ToySource):
        def batch(self, rows: Tensor) -> Batch:
            if len(self.seen) >= 7:
                raise OSError("disk gone")
            return super().batch(rows)

    ticks = iter(range(0, 100_000, 10))
    with pytest.raises(OSError, match="disk gone"):
        run(tmp_path, source=Breaks(), config=CONFIG.with_(checkpoint_minutes=1.0), clock=lambda: float(next(ticks)),
            log_every=1)  # fmt: skip
    assert len(read_metrics(tmp_path)) > 3
    resumed = run(tmp_path, stage=ToyStage(5), log_every=1)
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(1, 13))
    whole = run(tmp_path / "whole", log_every=1)
    for name, tensor in load_file(whole.weights).items():
        assert torch.equal(tensor, load_file(resumed.weights)[name]), name


def test_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    source = ToySource()
    again = run(tmp_path, source=source, stage=ToyStage(8))
    assert again == first and source.seen == []
    result = json.loads((tmp_path / files.RESULT).read_text())
    assert result["samples_seen"] == 96 and result["threads"] == 1 and result["torch"] == torch.__version__
    assert result["losses"].keys() >= {"total", "fit"} and "commit" in result


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed"),
        ({"schedule": dataclasses.replace(SCHEDULE, learning_rate=0.01)}, "schedule.learning_rate"),
        ({"stage": ToyStage(scale=2.0)}, "settings.scale"),
        ({"source": ToySource("other")}, "data"),
        ({"rows": torch.arange(39)}, "rows"),
        ({"config": CONFIG.with_(precision="bfloat16")}, "precision"),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path: Path, finished: bool, changes: dict, named: str) -> None:
    run(tmp_path, max_minutes=None if finished else 0)
    with pytest.raises(TrainingError, match=rf"another run \(its {named} is"):
        run(tmp_path, **changes)


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run(tmp_path, max_minutes=0)
    path = tmp_path / files.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="checkpoint.safetensors cannot be read"):
        run(tmp_path)


def test_nan_stops_with_the_batch_saved(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match="loss fit is nan"):
        run(tmp_path, source=ToySource(poison=17))
    saved, facts = files.load_tensors(tmp_path / DIVERGENCE)
    assert 17 in saved["batch/row"] and facts["complaint"] == "loss fit is nan"
    assert all(tensor.isfinite().all() for name, tensor in saved.items() if name.endswith("weight"))
    assert not (tmp_path / files.RESULT).exists()


def test_gradient_that_is_not_finite_stops(tmp_path: Path) -> None:
    class Stage(ToyStage):
        def losses(self, batch: Batch, share: float) -> dict[str, Tensor]:
            losses = super().losses(batch, share)
            # The square root's slope at zero is infinite though its value is not.
            return losses | {"total": losses["total"] + (self.backbone.weight * 0).sum().sqrt()}

    with pytest.raises(DivergenceError, match="gradient's norm is nan"):
        run(tmp_path, stage=Stage())


def test_exploding_loss_stops_after_some_steps_in_a_row() -> None:
    watch = DivergenceWatch(warmup=10)
    for step in range(20):
        assert watch.complaint(step, {"total": 1000.0 if step < 3 else 1.0}, 1.0) is None
    complaints = [watch.complaint(20 + i, {"total": 21.0}, 1.0) for i in range(5)]
    assert complaints[:4] == [None] * 4 and "loss total is 21" in str(complaints[4])
    restored = DivergenceWatch(warmup=10)
    for step in range(20):
        restored.complaint(step, {"total": 1.0}, 1.0)
    restored.complaint(20, {"total": 30.0}, 1.0)
    assert restored.complaint(21, {"total": 2.0}, 1.0) is None  # one step apart: counting starts anew
    assert restored.state()["strikes"] == 0


def test_frozen_modules_stay_and_train_mode_holds(tmp_path: Path) -> None:
    stage = ToyStage()
    before = {name: tensor.clone() for name, tensor in stage.guide.state_dict().items()}
    run(tmp_path, stage=stage)
    assert not stage.guide.training and stage.net.training
    for name, tensor in stage.guide.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in stage.guide.parameters())
    assert "guide" not in " ".join(load_file(tmp_path / files.WEIGHTS))


def test_weights_load_into_named_modules_only(tmp_path: Path) -> None:
    stage = ToyStage()
    run(tmp_path, stage=stage)
    net = ToyStage(9).net
    files.load_weights(tmp_path, {"net": net})
    assert torch.equal(net[0].weight, stage.net[0].weight)
    with pytest.raises(TrainingError, match="does not fit net"):
        files.load_weights(tmp_path, {"net": nn.Linear(2, 2)})
    with pytest.raises(TrainingError, match="no finished training run"):
        files.load_weights(tmp_path / "absent", {"net": net})


def test_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(samples=1600, batch=16, learning_rate=1.0, warmup_share=0.1, min_rate_share=0.01)
    rates = [learning_rate(schedule, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[-1] == pytest.approx(0.01) and rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert rates[10 + 89 // 2] == pytest.approx(0.505, abs=0.02)


def test_parameter_groups() -> None:
    stage = ToyStage()
    schedule = dataclasses.replace(SCHEDULE, weight_decay=0.1, backbone_rate_share=0.25)
    groups = {(g["rate_share"], g["weight_decay"]): len(g["params"]) for g in stage.parameter_groups(schedule)}
    assert groups == {(1.0, 0.1): 2, (1.0, 0.0): 4, (0.25, 0.1): 1, (0.25, 0.0): 1}


def test_probe_takes_bfloat16_only_where_it_pays() -> None:
    for gain, chosen in ((1.05, "float32"), (1.3, "bfloat16")):
        now = [0.0]

        def step(precision: str, gain: float = gain, now: list[float] = now) -> None:
            now[0] += 1.0 if precision == "float32" else 1.0 / gain

        assert faster_precision(step, torch.device("cpu"), lambda now=now: now[0])[0] == chosen


@pytest.mark.parametrize("choice", ["float32", "bfloat16"])
def test_probe_leaves_no_trace_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    from wpt_training.trainer import precision

    probes: list[int] = []

    def probe(step, device):  # noqa: ANN001, ANN202
        probes.append(1)
        step("float32")
        step("bfloat16")
        return choice, {}

    monkeypatch.setattr(precision, "faster_precision", probe)
    asked = CONFIG.with_(precision="probe")
    first = run(tmp_path / "probed", config=asked, max_minutes=0)
    last = run(tmp_path / "probed", config=asked)
    assert (first.precision, last.precision, len(probes)) == (choice, choice, 1)
    plain = run(tmp_path / "plain", config=CONFIG.with_(precision=choice))
    for name, tensor in load_file(plain.weights).items():
        assert torch.equal(tensor, load_file(last.weights)[name]), name


def test_progress_lines_without_a_terminal() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = Progress("toy", 100, stream=stream, clock=lambda: now[0])
    for step in range(1, 101):
        now[0] += 1.0
        progress.show(step, {"total": 0.5}, last=step == 100)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 and lines[0] == "toy 30/100 (30 %), 0:30, 1:10 left, total 0.5"
    assert lines[-1].startswith("toy 100/100 (100 %)")


def test_batch_that_ranks_cannot_share_is_refused() -> None:
    from wpt_training.trainer.distributed import Ranks

    assert Ranks(size=4).part_of(16) == 4
    with pytest.raises(TrainingError, match="a batch of 6 cannot be shared by 4 processes"):
        Ranks(size=4).part_of(6)
