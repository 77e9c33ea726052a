"""`wpt-train job`: runs one job of a table in its folder. `wpt-train paper` starts these as processes.

Exit code 0 without a done.json means that the time was over and the job goes on when it is run again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wpt_training.configuration import CONFIGURATIONS, ExperimentConfig, Schedule, as_json, configuration
from wpt_training.data.cache_builder import build_cache
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.data.sample_cache import SampleCache
from wpt_training.errors import TrainingError
from wpt_training.experiments.jobs import (
    ON_TEST,
    REPORTS,
    SPLITS,
    facts_of,
    is_done,
    job_folder,
    job_name,
    log_test_run,
    mark_done,
    parse_job,
)
from wpt_training.trainer.checkpoint import git_commit
from wpt_training.trainer.progress import Progress

if TYPE_CHECKING:
    from wpt_training.world.world_model import OccupancyWorldModel

# Everything that is made once for all seeds is made with this one.
SHARED_SEED = 0
REPORT_SAMPLES = 1_000
CONFIG_FILE = "configuration.json"


@dataclass(frozen=True, kw_only=True)
class Place:
    """data: root of the data sets; versions: by split; routes, route_seed: of the closed loop.

    judged: interactive test samples at most, and half as many natural ones. minutes: left, or None."""

    config: ExperimentConfig
    runs: Path
    data: Path
    versions: Mapping[str, str]
    threads: int = 1
    minutes: float | None = None
    routes: int = 200
    judged: int = 8_000
    route_seed: int = 7
    workers: int = 1
    device: str = "cpu"

    def folder(self, kind: str, row: str = "", seed: int = 0) -> Path:
        return job_folder(self.runs, job_name(kind, row, seed))

    def cache_folder(self, split: str) -> Path:
        """Beside the runs' folder: configurations that read samples alike share a cache."""
        return self.runs.parent / "samples" / self.versions[split]

    def cache(self, split: str) -> SampleCache:
        """Return the open cache of a split; raises TrainingError where it was never built."""
        return SampleCache.open(self.cache_folder(split), self.config)

    def training_rows(self, cache: SampleCache) -> Tensor:
        """Rows that are trained on: labelled, and of them every n-th part so that train_samples are left at most.

        The same for every stage and row of a table.
        """
        rows = torch.from_numpy(cache.labelled.nonzero()[0])
        if len(rows) > self.config.data.train_samples:
            chosen = torch.linspace(0, len(rows) - 1, self.config.data.train_samples).round().long()
            rows = rows[chosen]
        return rows


def run_job(place: Place, name: str) -> bool:
    """Run a job and return whether it is finished. Raises TrainingError for an unknown one, and what the job raises."""
    kind, row, seed = parse_job(name)
    if kind not in JOBS:
        raise TrainingError(f"job {name!r} is of an unknown kind: choose one of {', '.join(JOBS)}.")
    if is_done(place.runs, name):
        return True
    if kind in REPORTS and not is_first_process():
        return True
    _same_configuration(place)
    torch.set_num_threads(place.threads)
    job_folder(place.runs, name).mkdir(parents=True, exist_ok=True)
    if kind in ON_TEST:
        log_test_run(place.runs, name, git_commit() or "")
    begin = time.monotonic()
    facts = JOBS[kind](place, row, seed)
    if facts is None:
        return False
    if not is_first_process():
        return True  # of torchrun's: the first one reports
    seconds = facts.pop("seconds", time.monotonic() - begin)
    mark_done(place.runs, name, {"job": name, "seconds": seconds, "commit": git_commit() or "", **facts})
    return True


def is_first_process() -> bool:
    """Whether this is the first of torchrun's processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _same_configuration(place: Place) -> None:
    """Runs of another configuration must not be mixed with these: the folder says of which it is."""
    path, text = place.runs / CONFIG_FILE, as_json(place.config)
    if not path.exists():
        place.runs.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    elif path.read_text(encoding="utf-8").strip() != text:
        raise TrainingError(
            f"{place.runs} holds runs of another configuration than {place.config.name} is now: choose another --runs, or "
            "remove it."
        )


def _cache(place: Place, split: str, seed: int) -> dict[str, Any]:
    folder = place.cache_folder(split)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shown: list[Progress] = []

    def progress(done: int, total: int) -> None:
        if not shown:
            shown.append(Progress(f"cache {split}", total))
        shown[0].show(done, last=done == total)

    cache = build_cache(
        place.data, place.versions[split], folder, place.config, workers=place.workers, progress=progress
    )
    return {
        "samples": len(cache),
        "labelled": int(cache.labelled.sum()),
        "natural": int((cache.natural & cache.labelled).sum()),
        "interactive": int((cache.interactive & cache.labelled).sum()),
        "scenes": len(cache.scene_names),
        "version": place.versions[split],
        "signature": cache.signature,
    }


def train_stage(
    place: Place, stage: Any, schedule: Schedule, folder: Path, rows: Tensor, cache: SampleCache, seed: int
) -> dict[str, Any] | None:
    """Train a stage in ``run`` of a job's folder and return its facts; None where the time was over."""
    from wpt_training.trainer.trainer import train

    result = train(
        stage,
        cache,
        schedule,
        place.config,
        folder / "run",
        rows=rows,
        seed=seed,
        max_minutes=place.minutes,
        threads=place.threads,
        device=place.device,
    )
    if not result.finished:
        return None
    return {
        "seconds": result.seconds,
        "samples_seen": result.steps * schedule.batch,
        "precision": result.precision,
        "losses": dict(result.losses),
        "threads": place.threads,
    }


def _perception(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    return _pretrain(place, "perception", world=False)


def _world_perception(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    return _pretrain(place, "world-perception", world=True)


def _pretrain(place: Place, job: str, *, world: bool) -> dict[str, Any] | None:
    from wpt_training.stages.perception_stage import PerceptionStage

    cache = place.cache("train")
    stage = PerceptionStage(place.config, seed=SHARED_SEED, world=world)
    rows = place.training_rows(cache)
    return train_stage(place, stage, place.config.perception_stage, place.folder(job), rows, cache, SHARED_SEED)


def _world(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    from wpt_training.stages.frozen_features import FrozenFeatures, PresentFeatures
    from wpt_training.stages.perception_stage import load_perception
    from wpt_training.stages.world_stage import WorldStage

    cache, features = place.cache("train"), None
    start = load_perception(place.config, place.folder("world-perception") / "run", world=True)
    if not place.config.world.joint:
        observer = PresentFeatures(observing_world(place))
        features = FrozenFeatures.open(place.folder("frozen") / "features", observer, cache)
    stage = WorldStage(place.config, seed=SHARED_SEED, start=start, features=features)
    folder = place.folder("world")
    return train_stage(place, stage, place.config.world_stage, folder, place.training_rows(cache), cache, SHARED_SEED)


def observing_world(place: Place) -> OccupancyWorldModel:
    """Return the world model whose present features are final: the trained one, or, where only its roll-out is trained
    (config.world.joint off), one that has just its pre-trained encoder.
    """
    from wpt_training.stages.perception_stage import load_perception
    from wpt_training.stages.world_stage import load_world, make_world, start_from
    from wpt_training.trainer.stage import freeze

    if place.config.world.joint:
        return load_world(place.config, place.folder("world") / "run")
    world = make_world(place.config)
    start_from(world, load_perception(place.config, place.folder("world-perception") / "run", world=True))
    return freeze(world)


def _anchors(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.teacher.anchors import make_anchors, oracle_distance
    from wpt_training.trainer.checkpoint import save_tensors

    cache = place.cache("train")
    rows = place.training_rows(cache).numpy()
    valid = cache.field("future_valid", rows).astype(bool).all(axis=1)
    futures = torch.from_numpy(cache.field("future", rows[valid])[..., :2].copy()).float()
    commands = torch.from_numpy(cache.field("command", rows[valid]).astype("int64"))
    config = place.config
    anchors = make_anchors(
        futures,
        commands,
        config.teacher.candidates,
        SHARED_SEED,
        command_count=config.commands,
        step_s=config.student.plan.dt_s,
    )
    folder = place.folder("anchors")
    save_tensors(folder / "anchors.safetensors", {"anchors": anchors}, {})
    return {"futures": len(futures), "oracle_minADE_m": float(oracle_distance(anchors, futures, commands).mean())}


def load_anchors(place: Place) -> Tensor:
    """Return the anchors [commands, K, T, 2] of a finished job."""
    from wpt_training.trainer.checkpoint import load_tensors

    tensors, _ = load_tensors(place.folder("anchors") / "anchors.safetensors")
    return tensors["anchors"]


def _frozen(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.stages.frozen_features import PresentFeatures, build_frozen_features

    cache = place.cache("train")
    observer = PresentFeatures(observing_world(place))
    rows = place.training_rows(cache)
    precision = facts_of(place.runs, "world" if place.config.world.joint else "world-perception")["precision"]
    folder = place.folder("frozen") / "features"
    build_frozen_features(observer, cache, rows, folder, device=place.device, precision=precision)
    return {"rows": len(rows)}


def _views(place: Place, row: str, seed: int) -> dict[str, Any]:
    """The views that the student's pre-trained encoder has of all sets of the training rows, present and history."""
    from wpt_training.stages.frozen_features import SetViews, build_frozen_features
    from wpt_training.stages.perception_stage import load_perception

    cache = place.cache("train")
    observer = SetViews(load_perception(place.config, place.folder("perception") / "run").encoder)
    rows = place.training_rows(cache)
    history = torch.from_numpy(cache.field("history", rows)).long().flatten()
    sets = torch.cat([rows, history[history >= 0]]).unique()
    precision = facts_of(place.runs, "perception")["precision"]
    folder = place.folder("views") / "features"
    build_frozen_features(observer, cache, sets, folder, device=place.device, precision=precision)
    return {"sets": len(sets)}


def _world_report(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.stages.world_stage import load_world
    from wpt_training.world.world_model import observe_batch, true_displacements
    from wpt_training.world.world_report import WorldReport, table

    config, cache = place.config, place.cache("dev")
    world = load_world(config, place.folder("world") / "run")
    report = WorldReport(config.steps, config.student.plan.dt_s, occupancy_grid(config.student, config.data))
    # The candidates that the agreement is about: every command's own anchors.
    anchors = load_anchors(place)
    for batch in report_batches(place, cache, "world report"):
        with torch.no_grad():
            current = observe_batch(world, batch)
            moves = true_displacements(batch.future, batch.future_valid)
            frames = torch.cat([current[:, None], world.roll_out(current, moves, batch.command)], dim=1)
            report.add(world.occupancy(frames), batch, anchors[batch.command])
    found = report.result()
    (place.folder("world-report") / "table.md").write_text(table(found) + "\n", encoding="utf-8")
    return {"report": found, "agreement": found["nc"]["world"]["balanced_accuracy"]}


def report_batches(
    place: Place,
    cache: SampleCache,
    label: str,
    most: int = REPORT_SAMPLES,
    size: int = 16,
    rows: Tensor | None = None,
):
    """Yield batches of labelled rows (or of the given ones), evenly over them, at most so many samples."""
    if rows is None:
        rows = torch.from_numpy(cache.labelled.nonzero()[0])
    if len(rows) > most:
        rows = rows[torch.linspace(0, len(rows) - 1, most).round().long()]
    shown = Progress(label, len(rows))
    for begin in range(0, len(rows), size):
        yield cache.batch(rows[begin : begin + size]).to(place.device)
        shown.show(min(begin + size, len(rows)), last=begin + size >= len(rows))


def _drive(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    from wpt_training.experiments.closed_loop import drive_row

    return drive_row(place, row, seed)


def _evaluate(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.experiments.open_loop import predict_row

    return predict_row(place, row, seed)


def _ego_mlp(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.evaluation.ego_mlp import save_ego_mlp, train_ego_mlp

    cache, plan = place.cache("train"), place.config.student.plan
    network = train_ego_mlp(cache, place.training_rows(cache), plan.commands, plan.dt_s, seed=SHARED_SEED)
    folder = place.folder("ego-mlp")
    save_ego_mlp(folder / "ego_mlp.safetensors", network, {"configuration": place.config.name})
    return {}


def _truth_bev(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    from wpt_training.experiments.truth_bev_rows import train_truth_bev

    return train_truth_bev(place, row)


def _heads(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.experiments.head_report import head_report

    return head_report(place, row, seed)


def _slopes(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.experiments.slope_report import slope_report

    return slope_report(place, row, seed)


def _candidates(split: str) -> Callable[[Place, str, int], dict[str, Any]]:
    def run(place: Place, row: str, seed: int) -> dict[str, Any]:
        from wpt_training.experiments.candidate_reports import candidate_report

        return candidate_report(place, row, seed, split)

    return run


def _outcomes(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.experiments.outcome_ranks import log_replayed_ranks

    return log_replayed_ranks(place, row, seed)


def _branches(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    from wpt_training.experiments.outcome_ranks import branched_ranks

    return branched_ranks(place, row, seed)


def _teacher(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    from wpt_training.experiments.trained_stages import train_teacher

    return train_teacher(place, row, seed)


def _queries(place: Place, row: str, seed: int) -> dict[str, Any]:
    from wpt_training.experiments.trained_stages import keep_queries

    return keep_queries(place, row, seed)


def _student(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    from wpt_training.experiments.trained_stages import train_student

    return train_student(place, row, seed)


JOBS: Mapping[str, Callable[[Place, str, int], dict[str, Any] | None]] = {
    "cache": _cache,
    "perception": _perception,
    "world-perception": _world_perception,
    "world": _world,
    "anchors": _anchors,
    "frozen": _frozen,
    "views": _views,
    "world-report": _world_report,
    "teacher": _teacher,
    "queries": _queries,
    "student": _student,
    "ego-mlp": _ego_mlp,
    "truth-bev": _truth_bev,
    **{f"candidates-{split}": _candidates(split) for split in SPLITS},
    "heads": _heads,
    "slopes": _slopes,
    "outcomes": _outcomes,
    "branches": _branches,
    "evaluate": _evaluate,
    "drive": _drive,
}


def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say where everything is; shared with `wpt-train paper`."""
    parser.add_argument("--config", default="compact", choices=sorted(CONFIGURATIONS))
    parser.add_argument("--data", type=Path, required=True, help="root of the data sets (wpt-sim dataset)")
    parser.add_argument(
        "--version", default="v1.0-wpt-sim-{split}", help="version of a split; {split} becomes train, dev and test"
    )
    parser.add_argument("--runs", type=Path, help="folder of the runs (default out/training/CONFIG)")
    parser.add_argument("--threads", type=int, default=1, help="of torch in each job")
    parser.add_argument("--routes", type=int, default=200, help="of the closed loop, the same for all rows")
    parser.add_argument("--judged", type=int, default=8_000, help="interactive test samples; half as many natural ones")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--max-minutes", type=float, help="stop then; the same command goes on later")


def place_of(arguments: argparse.Namespace) -> Place:
    """Return the Place of parsed arguments."""
    for name in ("threads", "routes", "judged"):
        if getattr(arguments, name) < 1:
            raise TrainingError(f"--{name} is {getattr(arguments, name)}, expected at least 1.")
    config = configuration(arguments.config)
    return Place(
        config=config,
        runs=arguments.runs or Path("out/training") / config.name,
        data=arguments.data,
        versions={split: arguments.version.replace("{split}", split) for split in ("train", "dev", "test")},
        threads=arguments.threads,
        minutes=arguments.max_minutes,
        routes=arguments.routes,
        judged=arguments.judged,
        device=arguments.device,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB", help="KIND, KIND:ROW or KIND:ROW@SEED, e.g. student:full@1")
    add_place_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    place = place_of(arguments)
    finished = run_job(place, arguments.name)
    print(f"{arguments.name}: " + ("finished" if finished else "time is over, run it again to go on"))
    return 0
