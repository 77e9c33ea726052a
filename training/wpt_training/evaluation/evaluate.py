"""`wpt-train evaluate`: the open-loop table of trained and untrained rows, as JSON and Markdown.

Plans are judged at exactly 0.5 s, 1.0 s ... after their reference stamp (kind "time" of wpt_scenes.metrics): L2 and the
primary collision metric, on all samples, the natural and the interactive part. The published variants are defined for
keyframes alone; they stand beside it under "variants", judged with kind "index" as publications do.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wpt_scenes.metrics import PrimaryScores, WaypointKind, evaluate_predictions
from wpt_scenes.metrics.aggregation import Averaging, per_step_mean, seconds
from wpt_scenes.metrics.primary import mean_of_steps

from wpt_training.configuration import CONFIGURATIONS, configuration
from wpt_training.errors import TrainingError
from wpt_training.evaluation.judged_set import PARTS, JudgedSet, load_judged_set
from wpt_training.evaluation.predictions import UNTRAINED, load_plans, predict, save_plans
from wpt_training.trainer.checkpoint import git_commit

FORMAT = "wpt-training-evaluation/1"
Plans = Mapping[str, np.ndarray]


def evaluate(judged: JudgedSet, rows: Mapping[str, Plans], *, variants: bool = True) -> dict[str, Any]:
    """Return the report of some rows (name -> plans (6, 2) by token in base_link at the reference stamp), JSON-ready.

    variants: with every variant of wpt_scenes.metrics. Raises TrainingError where a row lacks a plan.
    """
    report: dict[str, Any] = {
        "format": FORMAT,
        "data": judged.name,
        "commit": git_commit() or "",
        "samples": {part: len(judged.part(part)) for part in PARTS},
        "rows": {},
    }
    for name, plans in rows.items():
        report["rows"][name] = entry_of(scores_of(judged, name, plans), judged)
    if variants:
        found = [
            judged.as_predictions(name, plans, WaypointKind.INDEX)
            for name, plans in rows.items()
            if name != "stop"
        ]
        report["variants"] = {}
        for part in PARTS:
            tokens = judged.part(part)
            samples = [sample for sample in judged.samples if sample.token in tokens]
            if samples:
                chosen = [_only(row, tokens) for row in found]
                report["variants"][part] = evaluate_predictions(samples, chosen, token_set=part)
    return report


def _only(row: Any, tokens: frozenset[str]) -> Any:
    positions = {token: plan for token, plan in row.positions.items() if token in tokens}
    return type(row)(planner=row.planner, kind=row.kind, frame=row.frame, positions=positions, refused={})


def scores_of(judged: JudgedSet, name: str, plans: Plans) -> PrimaryScores:
    """Return a row's figures by sample; raises TrainingError where a judged sample has no plan."""
    absent = [sample.token for sample in judged.samples if sample.token not in plans]
    if absent:
        raise TrainingError(
            f"row {name} lacks a plan for {len(absent)} of {len(judged.samples)} judged samples (first: {absent[0]}), "
            "expected one for each; predict on the cache of the same data set."
        )
    return judged.primary.scores(judged.as_predictions(name, plans))


def entry_of(scores: PrimaryScores, judged: JudgedSet) -> dict[str, Any]:
    """Return a row's figures by part: L2 at all steps and in both averagings, the primary metric and its counts."""
    result: dict[str, Any] = {}
    tokens = np.array(scores.tokens)
    for part in PARTS:
        chosen = np.isin(tokens, sorted(judged.part(part)))
        result[part] = _figures(scores.at(chosen)) if chosen.any() else None
    return result


def _figures(scores: PrimaryScores) -> dict[str, Any]:
    counts = scores.known.sum(axis=0)
    per_step = per_step_mean(scores.distance, counts)
    return {
        "samples": len(scores.tokens),
        "scenes": len(set(scores.scenes)),
        "counted_per_step": counts.tolist(),
        "l2": {
            "per_step": per_step,
            "at_step": seconds(per_step, Averaging.AT_STEP),
            "over_time": seconds(per_step, Averaging.OVER_TIME),
        },
        "collision_at_fault": {
            "primary": _number(scores.primary),
            "jitter_1cm": _number(mean_of_steps(scores.jittered, scores.known)),
            "exact": _number(mean_of_steps(scores.hits, scores.known)),
            "per_step": per_step_mean(scores.pose_jittered, counts),
            "hits_per_step": scores.hits.sum(axis=0).tolist(),
            "events": scores.events,
            "expected_events_under_jitter": float((scores.pose_jittered.max(axis=1)).sum()),
        },
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def markdown(report: Mapping[str, Any]) -> str:
    """Return the report's tables as Markdown."""
    parts = [f"Data: {report['data']}, commit {report['commit'] or 'unknown'}."]
    for part in PARTS:
        lines = []
        for name, entry in report["rows"].items():
            found = entry[part]
            if found is None:
                continue
            l2, collision = found["l2"], found["collision_at_fault"]
            lines.append(
                f"| {name} | {' / '.join(_text(v, 1.0) for v in l2['per_step'])} | {_text(l2['at_step']['avg'], 1.0)} | "
                f"{_text(l2['over_time']['avg'], 1.0)} | {_text(collision['primary'], 100.0, 3)} | "
                f"{_text(collision['jitter_1cm'], 100.0, 3)} | {_text(collision['exact'], 100.0, 3)} | "
                f"{collision['events']} | {found['samples']} |"
            )
        if lines:
            head = (
                f"### {part}: {report['samples'][part]} samples\n\n"
                "| row | L2 [m] at 0.5 ... 3 s | L2, mean at 1, 2, 3 s | L2, mean up to 1, 2, 3 s | "
                "at-fault collision [%], mean of the steps, 0.1 m and 1 degree | 1 cm | without jitter | events | samples |"
                "\n|---|---|---|---|---|---|---|---|---|"
            )
            parts.append("\n".join([head, *lines]))
    return "\n\n".join(parts) + "\n"


def _text(value: float | None, scale: float, digits: int = 2) -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}"


def write_report(report: Mapping[str, Any], json_file: Path | None, markdown_file: Path | None) -> None:
    """Write a report's files."""
    for path, text in ((json_file, json.dumps(report, indent=1) + "\n"), (markdown_file, markdown(report))):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `wpt-train evaluate`."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--version", required=True, help="version folder in it")
    parser.add_argument("--cache", type=Path, required=True, help="sample cache of that version")
    parser.add_argument(
        "--config", default="compact", choices=sorted(CONFIGURATIONS), help="configuration of the runs"
    )
    parser.add_argument(
        "--row", action="append", default=[], metavar="NAME=WHAT",
        help="a row: a folder of a student's run, a teacher folder, an ego MLP's file, a policy bundle or saved plans "
        "(.npz); repeat; stop, constant_velocity and expert are always there",
    )  # fmt: skip
    parser.add_argument("--tokens", type=Path, help="judge only the sample tokens of this list, one a line")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-variants", action="store_true", help="L2 and the primary metric alone")
    parser.add_argument("--plans", type=Path, help="also write every row's plans into this folder")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")


def run(arguments: argparse.Namespace) -> int:
    from wpt_training.data.sample_cache import SampleCache
    from wpt_training.evaluation.trained_rows import predictor_of

    config = configuration(arguments.config)
    cache = SampleCache.open(arguments.cache, config)
    tokens = None if arguments.tokens is None else _tokens(arguments.tokens)
    judged = load_judged_set(arguments.data, arguments.version, tokens=tokens)
    # A sample whose own motion is not known has no constant-velocity row, so it is in no row.
    unusable = {cache.tokens[row] for row in np.flatnonzero(~cache.labelled)}
    judged = judged.without(unusable)
    chosen = cache.rows_of([sample.token for sample in judged.samples])
    rows: dict[str, Plans] = {}
    for name, predictor in UNTRAINED.items():
        rows[name] = predict(cache, chosen, predictor, batch=arguments.batch)
    for given in arguments.row:
        name, separator, what = given.partition("=")
        if not separator or not name or not what or name in rows:
            raise TrainingError(
                f"--row {given!r} is not NAME=WHAT with a new name, expected e.g. full=runs/full."
            )
        if what.endswith(".npz"):
            rows[name] = load_plans(Path(what))
            continue
        predictor = predictor_of(Path(what), config, arguments.device)
        rows[name] = predict(cache, chosen, predictor, batch=arguments.batch, device=arguments.device)
    if arguments.plans is not None:
        for name, plans in rows.items():
            save_plans(arguments.plans / f"{name}.npz", dict(plans))
    report = evaluate(judged, rows, variants=not arguments.no_variants)
    write_report(report, arguments.json, arguments.markdown)
    print(markdown(report), end="")
    return 0


def _tokens(path: Path) -> Sequence[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path} cannot be read as a list of tokens ({error}): give one token a line."
        ) from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
