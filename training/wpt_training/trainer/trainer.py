"""The training loop of every stage.

A run is a pure function of its identity: stage settings, schedule, data and seed. Batch order and every random draw follow
from (seed, step), so a run that was stopped and resumed ends, on a CPU, with the very bits of one that was not. A run's
folder holds

    checkpoint.safetensors   weights, AdamW's state, step and what else a resume needs; while the run is not finished
    metrics.jsonl            a line every log_every steps
    weights.safetensors      at the end
    result.json              written last: a folder that has it is finished, and not run again
    divergence.safetensors   where a loss or gradient ran away: the batch and the weights it met
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wpt_training.configuration import ExperimentConfig, Schedule
from wpt_training.data.batch import Batch, tensors_of
from wpt_training.data.sample_order import SampleOrder, batches
from wpt_training.errors import DivergenceError, TrainingError
from wpt_training.trainer import checkpoint as files
from wpt_training.trainer import precision as precisions
from wpt_training.trainer.distributed import Ranks
from wpt_training.trainer.divergence import DivergenceWatch
from wpt_training.trainer.metrics_log import MetricsLog
from wpt_training.trainer.progress import Progress
from wpt_training.trainer.schedule import set_learning_rate, warmup_steps
from wpt_training.trainer.stage import Stage, named_parameters, named_state, require_total

DIVERGENCE = "divergence.safetensors"


class SampleSource(Protocol):
    """What a run reads: a data.sample_cache.SampleCache, or several joined. signature: of its content."""

    signature: str

    def batch(self, rows: Tensor) -> Batch:
        """Return the samples of some rows."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run stands. seconds: of training so far, over all resumes. losses: smoothed over about the last 50 steps."""

    finished: bool
    folder: Path
    step: int
    steps: int
    seconds: float
    precision: str
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def weights(self) -> Path:
        return self.folder / files.WEIGHTS


class _Losses(nn.Module):
    """A stage as one module, whose forward gradients can be averaged over ranks."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.trained = nn.ModuleDict(dict(stage.modules()))
        self._stage = stage

    def forward(self, batch: Batch, share: float) -> dict[str, Tensor]:
        losses = self._stage.losses(batch, share)
        total = require_total(losses, self._stage.name)
        return {name: loss if loss is total else loss.detach() for name, loss in losses.items()}


def train(
    stage: Stage,
    source: SampleSource,
    schedule: Schedule,
    config: ExperimentConfig,
    folder: Path,
    *,
    rows: Tensor,
    seed: int,
    max_minutes: float | None = None,
    threads: int | None = None,
    device: torch.device | str | None = None,
    log_every: int = 20,
    clock: Callable[[], float] = time.monotonic,
) -> TrainResult:
    """Run a stage in a folder from its start or its checkpoint to its end, or for max_minutes (at least one step).

    rows: of the source that are trained on. seed: of the sample order and of every random draw; the stage's first weights
    are the caller's. config: precision, workers, checkpoint_minutes and deterministic are read. threads: of torch, left as
    they are where None. device: a GPU where there is one, unless given.

    A finished run is not run again: its result is returned. Raises TrainingError where the folder holds a run of another
    stage, configuration, schedule, seed or data, DivergenceError where a loss or the gradient runs away.
    """
    if len(rows) == 0:
        raise TrainingError(f"stage {stage.name} has no rows to train on: give at least one sample.")
    device = _device(device)
    ranks = Ranks.join(device)
    identity = {
        "stage": stage.name,
        "seed": seed,
        "schedule": {name: getattr(schedule, name) for name in schedule.__dataclass_fields__},
        "precision": config.precision,
        "data": source.signature,
        "rows": hashlib.sha256(torch.as_tensor(rows).to(torch.int64).numpy().tobytes()).hexdigest()[:16],
        "processes": ranks.size,
        "settings": stage.settings(),
    }
    result = files.read_result(folder)
    if result is not None:
        files.require_identity(folder / files.RESULT, result["identity"], identity)
        return _result(folder, result, finished=True)
    folder.mkdir(parents=True, exist_ok=True)
    with _torch_settings(config.deterministic, threads):
        run = _Run(stage, source, schedule, config, folder, rows, seed, device, ranks, identity, log_every, clock)
        return run.until(max_minutes)


class _Run:
    """One call of train: everything that changes while it runs is step, seconds and the modules' weights."""

    def __init__(
        self,
        stage: Stage,
        source: SampleSource,
        schedule: Schedule,
        config: ExperimentConfig,
        folder: Path,
        rows: Tensor,
        seed: int,
        device: torch.device,
        ranks: Ranks,
        identity: Mapping[str, Any],
        log_every: int,
        clock: Callable[[], float],
    ):
        self.stage, self.source, self.schedule, self.config = stage, source, schedule, config
        self.folder, self.rows, self.seed, self.device, self.ranks = folder, rows, seed, device, ranks
        self.identity, self.clock = identity, clock
        for module in (*stage.modules().values(), *stage.frozen_modules().values()):
            module.to(device=device, memory_format=torch.channels_last)
        for module in stage.frozen_modules().values():
            module.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(stage.parameter_groups(schedule), lr=schedule.learning_rate, fused=True)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.step, self.seconds, self.precision = 0, 0.0, "" if config.precision == "probe" else config.precision
        self.watch = DivergenceWatch(warmup_steps(schedule))
        path = folder / files.CHECKPOINT
        facts = files.restore_checkpoint(path, stage.modules(), self.optimizer, identity) if path.is_file() else None
        if facts is not None:
            self.step, self.seconds, self.precision = facts["step"], facts["seconds"], facts["precision"]
            self.watch.restore(facts["watch"])
        self.log = MetricsLog(folder if ranks.first else None, log_every, self.step)
        if facts is not None:
            self.log.restore(facts["log"])
        self.module = ranks.wrap(_Losses(stage), device)

    def until(self, max_minutes: float | None) -> TrainResult:
        """Train to the schedule's end or until time is up."""
        began = saved = ended = self.clock()
        before, steps = self.seconds, self.schedule.steps
        progress = Progress(self.stage.name, steps, self.step) if self.ranks.first else None
        self.stage.train_mode()
        with closing(self._batches()) as stream:
            for batch in stream:
                if not self.precision:
                    self.precision = self._probe(batch)
                    if progress is not None:
                        progress.say(f"the probe chose {self.precision}")
                late = max_minutes is not None and self.clock() - began >= 60.0 * max_minutes
                # The first rank's clock counts: it tells the others in the same message as the losses.
                losses, norm, time_is_up = self._optimise(batch, late and self.ranks.first)
                now = self.clock()
                speed, ended = self.schedule.batch / max(now - ended, 1e-9), now
                self.step += 1
                self.seconds = before + now - began
                self._report(losses, norm, speed, progress)
                if self.step == steps:
                    break
                if time_is_up or now - saved >= 60.0 * self.config.checkpoint_minutes:
                    self._save()
                    saved = now
                if time_is_up:
                    break
        self.log.close()
        return self._stand(finished=self.step == steps)

    def _report(self, losses: dict[str, float], norm: float, speed: float, progress: Progress | None) -> None:
        group = self.optimizer.param_groups[0]
        rate = {"learning_rate": group["lr"] / group["rate_share"]}
        self.log.add(self.step, {**losses, "gradient_norm": norm, "samples_per_s": speed}, rate)
        if progress is not None:
            figures = {"total": losses["total"], "samples/s": speed}
            progress.show(self.step, figures, last=self.step == self.schedule.steps)

    def _batches(self) -> Generator[Batch, None, None]:
        """Return the remaining steps' batches, this rank's part of each; at least one is read ahead in a thread."""
        part = self.ranks.part_of(self.schedule.batch)
        return batches(
            self.source,
            SampleOrder(torch.as_tensor(self.rows).numpy(), self.seed),
            self.step * self.schedule.batch,
            self.schedule.steps - self.step,
            part,
            max(1, self.config.workers),
            share=(self.ranks.rank, self.ranks.size),
        )

    def _losses(self, batch: Batch, precision: str) -> dict[str, Tensor]:
        """Compute the losses of the present step; the only random numbers are those of (seed, step, rank)."""
        torch.manual_seed(_draw_seed(self.seed, self.step, self.ranks.rank))
        with precisions.autocast(self.device, precision):
            return self.module(batch, self.step / self.schedule.steps)

    def _optimise(self, batch: Batch, stop: bool) -> tuple[dict[str, float], float, bool]:
        """Make one step; returns losses (means over ranks), the gradient's norm, and whether the first rank is to stop."""
        batch = batch.to(self.device)
        set_learning_rate(self.optimizer, self.schedule, self.step)
        losses = self._losses(batch, self.precision)
        losses["total"].backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.schedule.clip_norm)
        names = list(losses)
        own = torch.stack([*(losses[name].detach().float() for name in names), norm.detach().float()])
        *means, mean_norm, mean_stop = self.ranks.mean(torch.cat([own, own.new_tensor([float(stop)])])).tolist()
        values = dict(zip(names, means, strict=True))
        complaint = self.watch.complaint(self.step, values, mean_norm)
        if complaint is not None:
            raise self._diverged(complaint, batch, blame=self.ranks.size == 1 or not bool(own.isfinite().all()))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return values, mean_norm, mean_stop > 0

    def _probe(self, batch: Batch) -> str:
        """Choose the precision by timing steps that leave no trace in the weights, buffers or gradients."""
        batch = batch.to(self.device)
        buffers = {name: buffer.clone() for name, buffer in self._buffers()}

        def step(precision: str) -> None:
            self._losses(batch, precision)["total"].backward()
            self.optimizer.zero_grad(set_to_none=True)

        chosen, _ = precisions.faster_precision(step, self.device)
        for name, buffer in self._buffers():
            buffer.copy_(buffers[name])
        return self.ranks.from_first(chosen, precisions.PRECISIONS, self.device)

    def _buffers(self) -> Iterator[tuple[str, Tensor]]:
        for name, module in self.stage.modules().items():
            for inner, buffer in module.named_buffers():
                yield f"{name}.{inner}", buffer

    def _save(self) -> None:
        if self.ranks.first:
            facts = {"identity": self.identity, "step": self.step, "seconds": self.seconds, "precision": self.precision}
            facts |= {"watch": self.watch.state(), "log": self.log.state()}
            files.save_checkpoint(self.folder / files.CHECKPOINT, self.stage.modules(), self.optimizer, facts)

    def _stand(self, *, finished: bool) -> TrainResult:
        """Return how the run stands; at its end, leave weights and result first."""
        facts = {
            "identity": self.identity,
            "step": self.step,
            "steps": self.schedule.steps,
            "samples_seen": self.step * self.schedule.batch,
            "seconds": self.seconds,
            "losses": self.log.smoothed(),
            "precision": self.precision,
            "parameters": sum(p.numel() for _, p in named_parameters(self.stage.modules())),
            "commit": files.git_commit(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
        }
        if finished and self.ranks.first:
            files.save_tensors(
                self.folder / files.WEIGHTS, named_state(self.stage.modules()), {"identity": self.identity}
            )
            files.save_json(self.folder / files.RESULT, facts)
            (self.folder / files.CHECKPOINT).unlink(missing_ok=True)
        self.ranks.wait()
        return _result(self.folder, facts, finished=finished)

    def _diverged(self, complaint: str, batch: Batch, *, blame: bool) -> DivergenceError:
        name = DIVERGENCE if self.ranks.first else f"rank{self.ranks.rank}_{DIVERGENCE}"
        path = self.folder / name
        if blame or self.ranks.first:
            tensors = {f"batch/{name}": tensor for name, tensor in tensors_of(batch).items()}
            tensors |= {f"weights/{name}": tensor for name, tensor in named_state(self.stage.modules()).items()}
            files.save_tensors(path, tensors, {"identity": self.identity, "step": self.step, "complaint": complaint})
        self.log.close()
        return DivergenceError(
            f"stage {self.stage.name} diverged at step {self.step} of {self.schedule.steps}: {complaint}; its batch and "
            f"weights are in {path}: look at them, lower the learning rate, or start again from an earlier checkpoint."
        )


def _result(folder: Path, facts: Mapping[str, Any], *, finished: bool) -> TrainResult:
    taken = ("step", "steps", "seconds", "precision", "losses")
    return TrainResult(finished=finished, folder=folder, **{name: facts[name] for name in taken})


def _draw_seed(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _device(asked: torch.device | str | None) -> torch.device:
    """A GPU without a number is that of this process among torchrun's."""
    if asked is None:
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(asked)
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


@contextmanager
def _torch_settings(deterministic: bool, threads: int | None) -> Iterator[None]:
    """Threads and deterministic algorithms for the time of a run."""
    threads_before, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warned, filled = torch.is_deterministic_algorithms_warn_only_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # A warning, since some GPU kernels (grid_sample's gradient) have no deterministic form; filling every new tensor
        # with NaN would cost time and change nothing.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled
