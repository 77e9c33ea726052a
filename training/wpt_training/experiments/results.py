"""The tables of a configuration's runs: results.json, table.md and a picture, with what was not run marked as such."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wpt_training.evaluation.bootstrap import ClusterSums, compare
from wpt_training.experiments.bar_chart import bar_chart
from wpt_training.experiments.collected import Collected, Row, sums_of_routes, sums_of_samples
from wpt_training.experiments.job_run import Place
from wpt_training.experiments.jobs import TEST_LOG, jobs_of
from wpt_training.experiments.report_sections import report_lines, teacher_reports
from wpt_training.trainer.checkpoint import git_commit

FORMAT = "wpt-training-results/2"
# What a claim needs: contacts of the baseline in each seed, and seeds.
EVENTS_NEEDED = 150
SEEDS_NEEDED = 3
# Jobs whose time the table shows.
COSTED = ("perception", "views", "world-perception", "frozen", "world", "teacher", "queries", "student")
# (row, against): the claims and hypotheses.
PAIRS = (
    ("full", "baseline"),
    ("policy", "baseline"),
    ("full", "policy"),
    ("teacher", "baseline"),
    ("full", "baseline-long"),
    ("teacher", "teacher-plain"),
    ("teacher", "teacher-no-ttc"),
    ("teacher", "teacher-truth"),
    ("full", "shuffled"),
    ("full", "rule-losses"),
)
FIGURES = {
    "collision": "at-fault collision, interactive, 0.1 m and 1 degree",
    "l2": "L2, all judged samples, mean of six steps [m]",
    "driving": "driving score",
}


def write_results(place: Place, tiers: str, out: Path, command: str, *, variants: bool) -> Path:
    """Gather what is there, write the files and return the table's. command: that makes all of it."""
    out.mkdir(parents=True, exist_ok=True)
    collected = Collected(place, tiers)
    results = gather(collected, tiers, command, variants=variants)
    name = place.config.name
    (out / f"{name}.json").write_text(json.dumps(_finite(results), indent=1) + "\n", encoding="utf-8")
    table = out / f"{name}.md"
    table.write_text(markdown(results), encoding="utf-8")
    bar_chart(out / f"{name}.png", _bars(results), f"{name}: {results['samples']['interactive']} interactive samples")
    log = place.runs / TEST_LOG
    if log.exists():
        shutil.copyfile(log, out / f"{name}-test-runs.jsonl")
    return table


def gather(collected: Collected, tiers: str, command: str, *, variants: bool) -> dict[str, Any]:
    """Return everything as JSON values."""
    place, rows = collected.place, collected.rows
    scores = {row.name: collected.scores(row) for row in rows}
    drives = {row.name: collected.drives(row) for row in rows}
    sums: dict[str, dict[str, ClusterSums | None]] = {
        row.name: {
            "collision": sums_of_samples(row.name, scores[row.name], "pose_jittered", collected.interactive),
            "l2": sums_of_samples(row.name, scores[row.name], "distance", None),
            "driving": sums_of_routes(row.name, drives[row.name]),
        }
        for row in rows
    }
    comparisons = []
    teacher = collected.facts("teacher:teacher@1")
    for first, second in PAIRS:
        if second == "teacher-truth" and teacher is not None and teacher["rules_truth_share"] >= 1.0:
            continue  # the teacher itself never used the world model's occupancy: the two are the same training
        for figure in FIGURES:
            pair = sums.get(first, {}).get(figure), sums.get(second, {}).get(figure)
            if pair[0] is not None and pair[1] is not None:
                comparisons.append({"figure": figure, **dataclasses.asdict(compare(*pair))})
    seconds = {}
    jobs = jobs_of(tiers, place.config)
    for job in jobs:
        facts = collected.facts(job.name)
        if facts is not None and job.kind in COSTED:
            seconds[job.name] = facts["seconds"]
    stages = [collected.facts(job.name) for job in jobs]
    stages = [facts for facts in stages if facts is not None]
    report = collected.facts("world-report")
    some = next((found for by_seed in scores.values() for found in by_seed.values()), None)
    return {
        "format": FORMAT,
        "configuration": place.config.name,
        "command": command,
        "commit": git_commit() or "",
        "commits": sorted({facts["commit"] for facts in stages}),
        "precisions": sorted({facts["precision"] for facts in stages if "precision" in facts}),
        "data": dict(place.versions),
        "train_samples": place.config.data.train_samples,
        "samples_seen": {
            stage: getattr(place.config, f"{stage}_stage").samples
            for stage in ("perception", "world", "teacher", "student")
        },
        "samples": {
            "all": 0 if some is None else len(some.tokens),
            "interactive": 0 if some is None else len(collected.interactive & set(some.tokens)),
        },
        "rows": {row.name: _row(row, scores[row.name], drives[row.name], sums[row.name], collected) for row in rows},
        "comparisons": comparisons,
        "goals": _goals(sums, comparisons, {name: _events(found, collected) for name, found in scores.items()}),
        "world_report": None if report is None else report["report"],
        "teacher_reports": teacher_reports(collected),
        "seconds": seconds,
        "variants": {row.name: collected.variants(row) for row in rows} if variants else {},
    }


def _row(row: Row, scores, drives, sums: Mapping[str, ClusterSums | None], collected: Collected) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "title": row.title,
        "tier": row.tier,
        "seeds": sorted(scores),
        "seeds_planned": list(row.seeds),
        "driven_seeds": sorted(drives),
        "drives": row.drives,
    }
    if scores:
        entry |= {
            "l2_per_step": np.nanmean([np.nanmean(found.distance, axis=0) for found in scores.values()], axis=0).tolist(),
            "l2": sums["l2"].value,
            "collision": sums["collision"].value,
            "collision_1cm": _value(sums_of_samples(row.name, scores, "jittered", collected.interactive)),
            "collision_exact": _value(sums_of_samples(row.name, scores, "hits", collected.interactive)),
            "events": _events(scores, collected),
            "natural_and_interactive_collision": _value(sums_of_samples(row.name, scores, "pose_jittered", None)),
        }
    if drives:
        entry |= {
            "driving_score": float(np.mean([found["driving_score"] for found in drives.values()])),
            "success_rate": float(np.mean([found["success_rate"] for found in drives.values()])),
            "routes": [found["routes"] for found in drives.values()],
            "closed_loop": [found.get("summary") for found in drives.values()],
        }
    return entry


def _events(scores, collected: Collected) -> list[int]:
    """Interactive samples with an at-fault contact, by seed."""
    return [
        found.at(np.array([token in collected.interactive for token in found.tokens])).events for found in scores.values()
    ]


def _value(sums: ClusterSums | None) -> float | None:
    return None if sums is None else sums.value


def _goals(sums, comparisons: list[dict[str, Any]], events: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """The goals as they were set before anything was run, with what was reached (None: not run)."""
    found = {(c["first"], c["second"], c["figure"]): c for c in comparisons}

    def ratio(first: str, figure: str) -> float | None:
        entry = found.get((first, "baseline", figure))
        return None if entry is None else entry["ratio"]["value"]

    def gap_closed(row: str) -> float | None:
        three = [sums.get(name, {}).get("driving") for name in (row, "baseline", "expert")]
        if any(entry is None for entry in three):
            return None
        own, base, expert = (entry.value for entry in three)
        return (own - base) / (expert - base) if expert != base else None

    helps = found.get(("full", "baseline", "collision"))
    interval: list[float] | str | None = None
    if helps is not None:
        interval = [helps["difference"]["low"], helps["difference"]["high"]]
        seeds, fewest = min(helps["seeds"]), min(events["baseline"])
        if seeds < SEEDS_NEEDED or fewest < EVENTS_NEEDED:
            interval = (
                f"no claim ({seeds} of {SEEDS_NEEDED} seeds, baseline has {fewest} events of {EVENTS_NEEDED} needed); "
                f"[{100 * interval[0]:.3f}, {100 * interval[1]:.3f}] %"
            )
    return [
        {"goal": "collision, full / baseline", "wanted": "<= 0.25 (good: <= 0.5)", "paper": 0.23, "found": ratio("full", "collision")},
        {"goal": "collision, teacher / baseline", "wanted": "<= 0.11", "paper": 0.10, "found": ratio("teacher", "collision")},
        {"goal": "L2, full / baseline", "wanted": "<= 1.03", "paper": 0.75, "found": ratio("full", "l2")},
        {"goal": "L2, teacher / baseline", "wanted": "<= 1.03", "paper": 0.69, "found": ratio("teacher", "l2")},
        {"goal": "share of the driving-score gap closed, full", "wanted": ">= 0.2", "paper": 0.21, "found": gap_closed("full")},
        {"goal": "share of the driving-score gap closed, teacher", "wanted": ">= 0.4", "paper": 0.40, "found": gap_closed("teacher")},
        {"goal": "collision, full - baseline: 95 % interval excludes 0", "wanted": "yes, below 0", "paper": None, "found": interval},
    ]  # fmt: skip


def markdown(results: Mapping[str, Any]) -> str:
    """Return the tables as Markdown."""
    seen = results["samples_seen"]
    lines = [
        f"# Results of `{results['configuration']}`",
        "",
        f"Made by `{results['command']}` (tables at commit {_short(results['commit'])}; jobs at "
        f"{', '.join(_short(commit) for commit in results['commits']) or 'none'}; + means with changes not committed). Precision of "
        f"training: {', '.join(results['precisions']) or 'none'}. Simulated data: "
        f"{results['train_samples']} training samples; judged on {results['samples']['all']} test samples, "
        f"{results['samples']['interactive']} of them interactive. Samples seen: perception {seen['perception']} by each "
        f"of two encoders (labels: occupancy, signal, route, velocities, the ego's own motion), world model {seen['world']}, teacher {seen['teacher']}, each student {seen['student']}.",
        "",
        "Collision: at-fault contact of exact polygons, heading from the plan, mean of the six steps to 3 s, interactive part, "
        "mean of 20 jitters of 0.1 m and 1 degree (beside it 1 cm), in percent. L2: metres, all judged samples. Driving score and success "
        "rate: closed loop, the same routes for all rows.",
        "",
        "| row | tier | seeds | L2 at 1 / 2 / 3 s | L2 mean | collision % | 1 cm % | events | driving score | success % | routes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in results["rows"].values():
        lines.append(_table_line(entry))
    lines += ["", "`not run`: planned and not done in this run. Events: interactive samples with a contact, by seed.", ""]
    lines += ["## Differences", "", "95 % intervals: bootstrap over scenes (routes) x seeds, paired.", ""]
    if results["comparisons"]:
        lines += ["| figure | row | against | row's | against's | difference | ratio | seeds |", "|---|---|---|---|---|---|---|---|"]
        for entry in results["comparisons"]:
            scale = 100.0 if entry["figure"] == "collision" else 1.0
            lines.append(
                f"| {FIGURES[entry['figure']]}{' [%]' if scale > 1 else ''} | {entry['first']} | {entry['second']} | "
                f"{_interval(entry['first_value'], scale)} | {_interval(entry['second_value'], scale)} | "
                f"{_interval(entry['difference'], scale)} | {_interval(entry['ratio'], 1.0)} | "
                f"{' and '.join(str(n) for n in sorted(set(entry['seeds'])))} |"
            )
    else:
        lines.append("No two rows of a comparison were run.")
    lines += ["", "## Goals, set before the runs", "", "| goal | wanted | paper | found |", "|---|---|---|---|"]
    for goal in results["goals"]:
        lines.append(
            f"| {goal['goal']} | {goal['wanted']} | {'-' if goal['paper'] is None else goal['paper']} | {_found(goal['found'])} |"
        )
    lines += _world_lines(results["world_report"]) + report_lines(results["teacher_reports"])
    if results["seconds"]:
        lines += ["", "## Cost", "", "| job | minutes |", "|---|---|"]
        lines += [f"| {name} | {seconds / 60:.1f} |" for name, seconds in results["seconds"].items()]
    return "\n".join(lines) + "\n"


def _short(commit: str) -> str:
    return commit[:7] + ("+" if commit.endswith("+") else "") if commit else "unknown"


def _table_line(entry: Mapping[str, Any]) -> str:
    planned = len(entry["seeds_planned"])
    if not entry["seeds"] and not entry["driven_seeds"]:
        return f"| {entry['title']} | {entry['tier']} | 0 of {planned} | not run | | | | | | | |"
    cells = [entry["title"], entry["tier"], f"{len(entry['seeds'])} of {planned}" if entry["tier"] != "-" else "-"]
    if entry["seeds"]:
        steps = entry["l2_per_step"]
        cells += [
            f"{steps[1]:.2f} / {steps[3]:.2f} / {steps[5]:.2f}",
            f"{entry['l2']:.3f}",
            f"{100 * entry['collision']:.2f}",
            f"{100 * entry['collision_1cm']:.2f}",
            " ".join(str(count) for count in entry["events"]),
        ]
    else:
        cells += ["not run", "", "", "", ""]
    if entry["driven_seeds"]:
        cells += [f"{entry['driving_score']:.1f}", f"{entry['success_rate']:.1f}", str(entry["routes"][0])]
    else:
        cells += ["not run", "", ""] if entry["drives"] else ["-", "-", "-"]
    return "| " + " | ".join(cells) + " |"


def _world_lines(report: Mapping[str, Any] | None) -> list[str]:
    if report is None:
        return []
    lines = [
        "", "## World model on dev", "",
        f"{report['samples']} samples, visible cells. own still: its own occupancy now, kept still; truth still: true "
        "occupancy now, kept still (an oracle).", "",
        "| zone | row | " + " | ".join(f"IoU {time:.1f} s" for time in report["times_s"]) + " |",
        "|---|---|" + "---|" * len(report["times_s"]),
    ]  # fmt: skip
    for zone, rows in report["iou"].items():
        for row, values in rows.items():
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            lines.append(f"| {zone} | {row.replace('_', ' ')} | " + " | ".join(cells) + " |")
    nc = report.get("nc")
    if nc:
        found = ", ".join(
            f"{row.replace('_', ' ')} {values['balanced_accuracy']:.3f}"
            for row, values in nc.items()
            if isinstance(values, Mapping) and values["balanced_accuracy"] is not None
        )
        lines += ["", f"Balanced accuracy of NC against the truth: {found}. Better than its own occupancy kept still on moving cells "
                  f"at every time from 1 s on: {'yes' if report['wins']['moving_from_1s'] else 'no'}."]  # fmt: skip
    return lines


def _interval(entry: Mapping[str, float], scale: float) -> str:
    value, low, high = (entry[name] * scale for name in ("value", "low", "high"))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _found(value: Any) -> str:
    if value is None:
        return "not run"
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        verdict = "yes" if value[1] < 0 else "no (worse)" if value[0] > 0 else "no"
        return f"{verdict}: [{100 * value[0]:.3f}, {100 * value[1]:.3f}] %"
    return f"{value:.3g}"


def _bars(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Figures by row for the picture."""
    wanted = {"L2 mean [m]": ("l2", 1.0), "collision [%]": ("collision", 100.0), "driving score": ("driving_score", 1.0)}
    return {
        title: {
            name: scale * entry[key] for name, entry in results["rows"].items() if entry.get(key) is not None and name != "stop"
        }
        for title, (key, scale) in wanted.items()
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, np.generic):
        return _finite(value.item())
    return value

