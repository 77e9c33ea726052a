"""The results file of a run: the shape of CARLA's leaderboard, with the scores at its top level as well."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wpt_sim import scoring
from wpt_sim.route_result import InfractionKind, ResultError, RouteResult
from wpt_sim.scoring import Summary

FORMAT = "wpt-sim closed loop 1"
# The leaderboard's lists; kinds that it does not know (tick limit, planner failure) go where it would put
# them.
_LISTED_AS = {InfractionKind.TICK_LIMIT: "route_timeout"}
_LISTS = tuple(
    kind.value for kind in InfractionKind if kind not in (*_LISTED_AS, InfractionKind.PLANNER_FAILURE)
)
_STATUS_BY_END = {
    InfractionKind.OFF_ROUTE: "Failed - Agent deviated from the route",
    InfractionKind.BLOCKED: "Failed - Agent got blocked",
    InfractionKind.ROUTE_TIMEOUT: "Failed - Agent timed out",
    InfractionKind.TICK_LIMIT: "Failed - TickRuntime",
    InfractionKind.PLANNER_FAILURE: "Failed - Agent crashed",
}


def route_record(result: RouteResult, index: int, rules: str) -> dict[str, Any]:
    """One entry of the leaderboard's list of records; `result` in it holds everything that is known."""
    end = scoring.ended_by(result)
    lists: dict[str, list[str]] = {name: [] for name in (*_LISTS, "min_speed_infractions")}
    for entry in result.infractions:
        name = _LISTED_AS.get(entry.kind, entry.kind.value)
        if entry.kind is InfractionKind.OUTSIDE_LANES:
            continue
        if name in lists:
            lists[name].append(entry.sentence)
    if result.outside_share > 0.0:
        lists["outside_route_lanes"] = [
            f"drove {100 * result.outside_share:.2f} % of the distance outside its lanes"
        ]
    slow = [ratio for ratio in result.speed_ratios if ratio < 1.0]
    lists["min_speed_infractions"] = [
        f"drove at {100 * ratio:.0f} % of the traffic's speed" for ratio in slow
    ]
    return {
        "index": index,
        "route_id": result.name,
        "scenario_name": result.scenario,
        "family": result.family,
        "status": _STATUS_BY_END.get(end, result.status.value) if end else result.status.value,
        "num_infractions": len(result.infractions),
        "infractions": lists,
        "rear_end_hits": [entry.sentence for entry in result.rear_end_hits],
        "scores": {
            "score_route": 100.0 * result.completion,
            "score_penalty": scoring.route_penalty(result, rules),
            "score_composed": scoring.driving_score(result, rules),
        },
        "success": scoring.is_success(result),
        "efficiency": scoring.route_efficiency(result),
        "meta": {"route_length": result.route_length, "duration_game": result.duration_s},
        "failure": result.failure,
        "result": result.to_dict(),
    }


def results_document(
    results: Sequence[RouteResult],
    summary: Summary,
    *,
    planner: str,
    settings: Mapping[str, Any],
    broken: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole file. It holds no clock time and no machine name: the same run gives the same bytes."""
    records = [route_record(result, index, summary.rules) for index, result in enumerate(results)]
    scores = {
        name: [record["scores"][name] for record in records]
        for name in ("score_composed", "score_route", "score_penalty")
    }
    kilometres = sum(result.distance for result in results) / 1000.0
    per_km = {
        name: (
            sum(len(record["infractions"][name]) for record in records) / kilometres if kilometres else 0.0
        )
        for name in (*_LISTS, "min_speed_infractions")
    }
    return {
        "format": FORMAT,
        "planner": planner,
        "driving_score": summary.driving_score,
        "success_rate": summary.success_rate,
        "routes": summary.routes,
        "summary": asdict(summary),
        "settings": dict(settings),
        "broken_routes": list(broken),
        "_checkpoint": {
            "global_record": {
                "index": -1,
                "route_id": -1,
                "status": "Completed" if summary.driven == summary.routes else "Started",
                "infractions": per_km,
                "scores_mean": {name: _mean(values) for name, values in scores.items()},
                "scores_std_dev": {
                    name: statistics.stdev(values) if len(values) > 1 else 0.0
                    for name, values in scores.items()
                },
                "meta": {
                    "total_length": sum(result.route_length for result in results),
                    "duration_game": sum(result.duration_s for result in results),
                    "exceptions": [[r.name, r.failure] for r in results if r.failure is not None],
                },
            },
            "progress": [summary.driven, summary.routes],
            "records": records,
        },
        "labels": ["Avg. driving score", "Avg. route completion", "Avg. infraction penalty"],
        "values": [
            f"{summary.driving_score:.3f}",
            f"{_mean(scores['score_route']):.3f}",
            f"{_mean(scores['score_penalty']):.3f}",
        ],
        "entry_status": "Finished" if summary.driven == summary.routes else "Started",
        "eligible": summary.driven == summary.routes,
    }


def write_results(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    aside.replace(path)


def read_results(path: Path) -> tuple[dict[str, Any], tuple[RouteResult, ...]]:
    """Return the document and its route results. Raises ResultError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ResultError(
            f"{path} cannot be read as results ({error}): give a file that wpt-sim drive wrote."
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ResultError(f"{path} is no results file of this version ({FORMAT!r} expected): drive again.")
    return document, tuple(RouteResult.from_dict(r["result"]) for r in document["_checkpoint"]["records"])


def summary_table(summary: Summary) -> str:
    """The scores as lines for a console."""

    def number(value: float | None) -> str:
        return "   -  " if value is None else f"{value:6.1f}"

    lines = [
        f"rules {summary.rules}: {summary.driven} of {summary.routes} routes driven",
        f"  driving score       {number(summary.driving_score)}",
        f"  success rate, %     {number(summary.success_rate)}",
        f"  route completion, % {number(summary.completion)}",
        f"  efficiency          {number(summary.efficiency)}   (100: as fast as the traffic around)",
        f"  comfort, % of blocks{number(summary.comfort_si)}   (SI)",
        f"                      {number(summary.comfort_b2d)}   (b2d-compatible, with its quirks)",
    ]
    if summary.abilities:
        lines.append(f"  abilities, mean     {number(summary.ability_mean)}   (success rate, %)")
        lines += [f"    {name:<18}{number(value)}" for name, value in summary.abilities.items()]
    lines.append("  driving score by family")
    lines += [f"    {name:<18}{number(value)}" for name, value in summary.family_scores.items()]
    if summary.rear_end_hits:
        lines.append(f"  hit from behind: {summary.rear_end_hits} times (not held against the planner)")
    if summary.planner_failures:
        lines.append(f"  planner failures: {summary.planner_failures} routes")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
