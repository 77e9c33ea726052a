"""What the finished jobs of a table found, by row and seed: figures by sample, by route, and what each job says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from wpt_scenes.metrics import PrimaryScores, WaypointKind, evaluate_predictions

from wpt_training.errors import TrainingError
from wpt_training.evaluation.bootstrap import ClusterSums, clustered
from wpt_training.evaluation.evaluate import scores_of
from wpt_training.evaluation.judged_set import JudgedSet, load_judged_set
from wpt_training.evaluation.predictions import load_plans
from wpt_training.experiments.closed_loop import RESULTS_FILE, route_scores
from wpt_training.experiments.job_run import Place
from wpt_training.experiments.jobs import SPLITS, UNTRAINED, facts_of, is_done, job_folder, job_name
from wpt_training.experiments.open_loop import (
    PLANS_FILE,
    SCORES_FILE,
    TEACHER_CHOICES,
    choice_file,
    judged_rows,
    load_scores,
    save_scores,
)
from wpt_training.experiments.rows import SEEDS, STUDENTS, TEACHERS
from wpt_training.experiments.truth_bev_rows import TITLES

VARIANTS_FILE = "variants.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the tables. plans: file of its plans in the evaluation's folder. tier: "-" for one that is no row of the
    paper's. drives: whether it has a closed loop.
    """

    name: str
    title: str
    tier: str
    kind: str = ""
    evaluated_as: str = ""
    plans: str = PLANS_FILE
    drives: bool = True

    @property
    def seeds(self) -> tuple[int, ...]:
        return SEEDS.get(self.tier, (0,))


def table_rows(tiers: str) -> list[Row]:
    """Return the rows of some tiers, those without training first."""
    rows = [Row(name=name, title=name.replace("_", " "), tier="-") for name in UNTRAINED]
    rows.append(Row(name="ego-mlp", title="ego MLP (speed, yaw rate, acceleration, command)", tier="-"))
    rows += [Row(name=name, title=title, tier="-", drives=False) for name, title in TITLES.items()]
    for tier in tiers:
        for student in STUDENTS:
            if student.tier == tier:
                rows.append(Row(name=student.name, title=student.title, tier=tier, kind="student"))
        for teacher in TEACHERS:
            if teacher.tier == tier:
                rows.append(Row(name=teacher.name, title=teacher.title, tier=tier, kind="teacher"))
        if tier == "A":
            rows += [
                Row(
                    name=f"teacher by {choice}",
                    title=f"teacher, candidate by {choice}" + (" (no reward runs)" if choice == "confidence" else ""),
                    tier=tier,
                    kind="teacher",
                    evaluated_as="teacher",
                    plans=choice_file(choice),
                )
                for choice in TEACHER_CHOICES[1:]
            ]
    return rows


class Collected:
    """Reads what is there; a row or seed that was not run is simply not in the answers."""

    def __init__(self, place: Place, tiers: str):
        self.place, self.rows = place, table_rows(tiers)

    @cached_property
    def judged_tokens(self) -> frozenset[str]:
        cache = self.place.cache("test")
        known = cache.field("future_valid").astype(bool).any(axis=1)
        return frozenset(cache.tokens[row] for row in judged_rows(cache, self.place.judged) if known[row])

    @cached_property
    def judged(self) -> JudgedSet:
        """The test samples with their truth; read once, and only where figures are not yet on disk."""
        cache = self.place.cache("test")
        tokens = [cache.tokens[row] for row in judged_rows(cache, self.place.judged)]
        return load_judged_set(self.place.data, self.place.versions["test"], tokens=tokens)

    @cached_property
    def interactive(self) -> frozenset[str]:
        """Tokens of the interactive part; all judged ones where the data has no such list (real nuScenes)."""
        cache = self.place.cache("test")
        rows = judged_rows(cache, self.place.judged)
        chosen = rows[cache.interactive[rows]]
        return frozenset(cache.tokens[row] for row in (chosen if len(chosen) else rows))

    def scores(self, row: Row) -> dict[int, PrimaryScores]:
        """Return figures by sample of each seed that was predicted."""
        found = {}
        for seed in row.seeds:
            name = job_name("evaluate", row.evaluated_as or row.name, seed)
            plans = job_folder(self.place.runs, name) / row.plans
            if not is_done(self.place.runs, name) or not plans.exists():
                continue
            file = plans.with_name(row.plans.replace("plans", "scores").replace(PLANS_FILE, SCORES_FILE))
            if not file.exists() or file.stat().st_mtime < plans.stat().st_mtime:
                save_scores(file, scores_of(self.judged, row.name, load_plans(plans)))
            found[seed] = load_scores(file)
            if set(found[seed].tokens) != self.judged_tokens:
                raise TrainingError(
                    f"{row.name} was judged on {len(found[seed].tokens)} samples, expected the {len(self.judged_tokens)} of "
                    f"--judged {self.place.judged}: remove {plans.parent} and run it again, or give the same --judged."
                )
        return found

    def variants(self, row: Row) -> Mapping[str, Any] | None:
        """Return every variant of the open-loop metrics for a row's first seed, on the interactive part."""
        for seed in row.seeds:
            name = job_name("evaluate", row.evaluated_as or row.name, seed)
            plans = job_folder(self.place.runs, name) / row.plans
            # Truth and stop are in every report of the metrics anyway.
            if not is_done(self.place.runs, name) or not plans.exists() or row.name in ("stop", "expert"):
                continue
            file = plans.with_name(f"{plans.stem}-{VARIANTS_FILE}")
            if not file.exists():
                samples = [sample for sample in self.judged.samples if sample.token in self.interactive]
                wanted = {sample.token for sample in samples}
                kept = {token: plan for token, plan in load_plans(plans).items() if token in wanted}
                predictions = self.judged.as_predictions(row.name, kept, WaypointKind.INDEX)
                report = evaluate_predictions(samples, [predictions], token_set="interactive")
                file.write_text(json.dumps(report) + "\n", encoding="utf-8")
            return json.loads(file.read_text(encoding="utf-8"))
        return None

    def drives(self, row: Row) -> dict[int, dict[str, Any]]:
        """Return results of the closed loop by seed."""
        found = {}
        for seed in row.seeds:
            name = job_name("drive", row.evaluated_as or row.name, seed)
            if row.plans == PLANS_FILE and is_done(self.place.runs, name):
                path = job_folder(self.place.runs, name) / RESULTS_FILE
                found[seed] = json.loads(path.read_text(encoding="utf-8"))
                if found[seed]["routes"] != self.place.routes:
                    raise TrainingError(
                        f"{row.name} was driven on {found[seed]['routes']} routes, expected {self.place.routes}: remove "
                        f"{path.parent} and drive it again, or give the same --routes."
                    )
        return found

    def candidates(self, row: str, seed: int) -> dict[str, dict[str, Any]]:
        """Return figures of a teacher's candidates by split; older runs have those of dev among the teacher's own facts."""
        found = {split: self.facts(job_name(f"candidates-{split}", row, seed)) for split in SPLITS}
        by_split = {split: facts["candidates"] for split, facts in found.items() if facts is not None}
        if not by_split:
            teacher = self.facts(job_name("teacher", row, seed))
            if teacher is not None and "candidates" in teacher:
                by_split["dev"] = teacher["candidates"]
        return by_split

    def facts(self, name: str) -> dict[str, Any] | None:
        return facts_of(self.place.runs, name) if is_done(self.place.runs, name) else None


def sums_of_samples(
    name: str, scores: Mapping[int, PrimaryScores], field: str, tokens: frozenset[str] | None
) -> ClusterSums | None:
    """Return a figure by seed and scene. field: "pose_jittered", "jittered", "hits" or "distance". None for no seed."""
    if not scores:
        return None
    parts = []
    for found in scores.values():
        kept = found if tokens is None else found.at(np.array([token in tokens for token in found.tokens]))
        parts.append(kept)
    return clustered(
        name,
        [np.asarray(getattr(part, field), dtype=np.float64) for part in parts],
        [part.known for part in parts],
        [part.scenes for part in parts],
        [str(seed) for seed in scores],
    )


def sums_of_routes(name: str, drives: Mapping[int, dict[str, Any]]) -> ClusterSums | None:
    """Return driving scores by seed and route. None for no seed."""
    if not drives:
        return None
    by_route = [route_scores(document) for document in drives.values()]
    return clustered(
        name,
        [np.array(list(found.values()))[:, None] for found in by_route],
        [np.ones((len(found), 1), dtype=bool) for found in by_route],
        [list(found) for found in by_route],
        [str(seed) for seed in drives],
    )
