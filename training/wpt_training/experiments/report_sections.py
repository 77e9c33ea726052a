"""The reports about a teacher as sections of the tables: its candidates by split, beside those of its variants, its reward's
heads, where it pushes plans, and how its ranks come true. What was not run says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wpt_training.experiments.collected import Collected
from wpt_training.experiments.jobs import SPLITS, job_name
from wpt_training.experiments.rows import DEFAULT_TEACHER, SEEDS, teacher_variant

# Beside the means over parts, what candidate_report returns.
_OTHER = ("rank", "head_auroc")
_INACTIVE = "inactive_"
_SLOPE = ("gradient_norm", "cosine", "distance_m")
_RANKS = ("rank_chosen_m", "rank_random_m", "rank_oracle_m")
# What is wanted of candidates.
_WANTED = {
    "anchor oracle m": "<= 0.6",
    "refined oracle m": "<= 0.35",
    "safe candidate": ">= 0.99",
    "NC both": ">= 0.30 (interactive)",
}


def teacher_reports(collected: Collected, row: str = DEFAULT_TEACHER) -> dict[str, dict[str, Any]]:
    """Return the reports of a teacher by seed (as text, for JSON); None for what was not run.

    variants: what each teacher of the table, this one included, has of its candidates on dev: ranks and AUROC of heads.
    """
    found = {}
    for seed in SEEDS["A"]:
        teacher = collected.facts(job_name("teacher", row, seed))
        variants = _variants(collected, seed)
        if teacher is not None or any(variants.values()):
            found[str(seed)] = {
                "rules_truth_share": None if teacher is None else teacher["rules_truth_share"],
                "variants": variants,
                "candidates": collected.candidates(row, seed),
                "heads": collected.facts(job_name("heads", row, seed)),
                "slopes": collected.facts(job_name("slopes", row, seed)),
                "outcomes": collected.facts(job_name("outcomes", row, seed)),
                "branches": collected.facts(job_name("branches", row, seed)),
            }
    return found


def _variants(collected: Collected, seed: int) -> dict[str, dict[str, Any] | None]:
    """Return the rank check and the heads of each teacher on dev by its name; None for one that was not run."""
    found: dict[str, dict[str, Any] | None] = {}
    for row in collected.rows:
        # Not the rows that are another choice among the same candidates.
        if row.kind == "teacher" and not row.evaluated_as:
            dev = collected.candidates(row.name, seed).get("dev")
            found[row.name] = None if dev is None else {name: dev[name] for name in _OTHER}
    return found


def report_lines(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the sections as Markdown, of the first seed that has them; the JSON holds all."""
    return [
        *_candidate_lines(*_first(reports, "candidates"), reports),
        *_variant_lines(reports),
        *_head_lines(*_first(reports, "heads")),
        *_slope_lines(*_first(reports, "slopes")),
        *_rank_lines(reports),
    ]


def _first(reports: Mapping[str, Mapping[str, Any]], name: str) -> tuple[str, Any]:
    return next(((seed, entry[name]) for seed, entry in reports.items() if entry[name]), ("", None))


def _candidate_lines(seed: str, by_split: Mapping[str, Any] | None, reports: Mapping[str, Any]) -> list[str]:
    lines = ["", f"## The teacher's candidates{f' (seed {seed})' if seed else ''}", ""]
    if by_split is None:
        return [*lines, "Not run."]
    share = reports[seed]["rules_truth_share"]
    lines.append(
        "Rule targets came from true occupancy throughout." if share >= 1.0
        else f"Rule targets came from true occupancy for {share:.0%} of the stage, then from the world model's own."
    )  # fmt: skip
    columns = []
    for split in SPLITS:
        if split in by_split:
            columns += [(split, part) for part in by_split[split] if part not in _OTHER]
    missing = [split for split in SPLITS if split not in by_split]
    names = sorted({name for split, part in columns for name, value in by_split[split][part].items() if _number(value)})
    lines += ["", "| | wanted | " + " | ".join(f"{split}, {part}" for split, part in columns) + " |"]
    lines.append("|---|---|" + "---|" * len(columns))
    for name in names:
        if name.startswith(_INACTIVE):
            continue
        title, digits = name.replace("_", " "), 0 if name == "samples" else 3
        cells = [_text(by_split[split][part].get(name), digits) for split, part in columns]
        lines.append(f"| {title} | {_WANTED.get(title, '')} | " + " | ".join(cells) + " |")
    inactive = [
        f"{name.removeprefix(_INACTIVE)} ({split}, {part})"
        for name in names if name.startswith(_INACTIVE)
        for split, part in columns if by_split[split][part].get(name)
    ]  # fmt: skip
    lines += ["", f"Inactive rules, alike for all candidates of over 95 % of the samples: {', '.join(inactive) or 'none'}."]
    if missing:
        lines += ["", f"Not run: {', '.join(missing)}."]
    lines += ["", "Rank check, mean distance to the true future, and pooled AUROC of the simulation heads:", ""]
    for split, found in ((split, by_split[split]) for split in SPLITS if split in by_split):
        ranks = ", ".join(f"{name.split('_')[1]} {value:.2f} m" for name, value in found["rank"].items())
        heads = ", ".join(f"{rule} {_text(value, 3)}" for rule, value in found["head_auroc"].items())
        lines.append(f"- {split}: {ranks}; {heads}")
    return lines


def _variant_lines(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line a teacher, mean over the seeds that were run."""
    names = list(dict.fromkeys(name for entry in reports.values() for name in entry["variants"]))
    if not names:
        return []
    by_name = {
        name: [entry["variants"][name] for entry in reports.values() if entry["variants"].get(name)] for name in names
    }
    rules = list(dict.fromkeys(rule for found in by_name.values() for one in found for rule in one["head_auroc"]))
    lines = [
        "", "## Candidates of the teacher's variants (dev)", "",
        "Mean distance to the true future of the candidate that the teacher chooses, of a random one and of the best, and pooled "
        "AUROC of the simulation heads; mean over seeds.", "",
        "| teacher | seeds | chosen m | random m | oracle m |" + "".join(f" AUROC {rule} |" for rule in rules),
        "|---|---|---|---|---|" + "---|" * len(rules),
    ]  # fmt: skip
    for name, found in by_name.items():
        if not found:
            lines.append(f"| {teacher_variant(name).title} | not run |" + " |" * (len(_RANKS) + len(rules)))
            continue
        cells = [_mean([one["rank"].get(rank) for one in found], 2) for rank in _RANKS]
        cells += [_mean([one["head_auroc"].get(rule) for one in found], 3) for rule in rules]
        lines.append(f"| {teacher_variant(name).title} | {len(found)} | " + " | ".join(cells) + " |")
    return lines


def _mean(values: Sequence[Any], digits: int) -> str:
    known = [value for value in values if _number(value)]
    return _text(sum(known) / len(known), digits) if known else "-"


def _head_lines(seed: str, facts: Mapping[str, Any] | None) -> list[str]:
    lines = ["", f"## The reward model's heads{f' (seed {seed})' if seed else ''}", ""]
    if facts is None:
        return [*lines, "AUROC and calibration on candidates and on plans of students: not run."]
    students = ", ".join(facts["students"]) or "none finished"
    lines += [
        f"{facts['samples']} {facts['split']} samples. Plans of students ({students}) go through the reward model on the "
        "teacher's frames as one more candidate; truth is the rules on the plan. AUROC within: mean over samples of that among "
        "the candidates of one. ECE: expected calibration error, 10 bins of equal width.", "",
        "| plans of | head | base rate | mean probability | AUROC | AUROC within | ECE |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for whose, heads in facts["heads"].items():
        for head, found in heads.items():
            cells = [_text(found.get(name), 3) for name in ("base_rate", "predicted", "auroc", "auroc_within", "ece")]
            lines.append(f"| {whose} | {head} | " + " | ".join(cells) + " |")
    edges = _edges(facts)
    lines += ["", "Observed share by bin of the probability (number of plans):", ""]
    lines += ["| plans of | head | " + " | ".join(edges) + " |", "|---|---|" + "---|" * len(edges)]
    for whose, heads in facts["heads"].items():
        for head, found in heads.items():
            if "bins" in found:
                cells = [
                    f"{entry['observed']:.2f} ({entry['count']})" if entry["count"] else "-" for entry in found["bins"]
                ]
                lines.append(f"| {whose} | {head} | " + " | ".join(cells) + " |")
    return lines


def _slope_lines(seed: str, facts: Mapping[str, Any] | None) -> list[str]:
    lines = ["", f"## Where world-reward distillation pushes{f' (seed {seed})' if seed else ''}", ""]
    if facts is None:
        return [*lines, "Gradient of Eq 16 at a student's plans: not run."]
    names = list(next(iter(next(iter(facts["slopes"].values())).values())))
    rules = [name for name in names if name not in _SLOPE]
    lines += [
        f"Gradient of Eq 16 at the plans of `{facts['student']}` on {facts['samples']} {facts['split']} samples. Cosine: of the way "
        f"it pushes with the way to the true future. Then what changes where every plan is moved {facts['moved_m']} m (mean over "
        "steps) that way: mean distance to the truth, and scores of the rules. Smoothed: over neighbours that spread by "
        f"{facts['smoothing']} of a plan's length, and the smooth part of the gradient alone.", "",
        "| logits | target | gradient 1/m | cosine | distance m |" + "".join(f" {rule} |" for rule in rules),
        "|---|---|---|---|---|" + "---|" * len(rules),
    ]  # fmt: skip
    for way, by_target in facts["slopes"].items():
        for target, found in by_target.items():
            cells = [_text(found[name], 3) for name in _SLOPE[:2]]
            cells += [f"{found[name]:+.3f}" for name in (_SLOPE[2], *rules)]
            lines.append(f"| {way} | {target} | " + " | ".join(cells) + " |")
    return lines


def _edges(facts: Mapping[str, Any]) -> list[str]:
    for heads in facts["heads"].values():
        for found in heads.values():
            if "bins" in found:
                return [f"{entry['from']:.1f} to {entry['to']:.1f}" for entry in found["bins"]]
    return []


def _rank_lines(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "", "## Rank correlation with what comes of a candidate", "",
        "Spearman's, over the candidates of a state, mean over states with 95 % interval (bootstrap over scenes). Log-replayed: "
        "NC DAC (5 TTC + 5 EP + 2 Comf) / 12 by the rules on what truly happened; the others do not react. Branched: the world "
        "goes on from the state with the candidate driven for 3 s and the traffic reacting; progress as a share of the "
        "expert's, 0 after a contact by fault, out of the lanes or past a red light. Outcome: of the candidate put first.", "",
    ]  # fmt: skip
    tables = []
    for title, name in (("log-replayed", "outcomes"), ("branched", "branches")):
        seed, facts = _first(reports, name)
        if facts is None:
            tables += [f"{title}: not run.", ""]
            continue
        ranks = facts["ranks"]
        left_out = facts.get("states_left_out", 0)
        tables += [
            f"{title} (seed {seed}): {facts['states']} {facts['split']} states of {ranks['scenes']} scenes"
            + (f", {left_out} left out" if left_out else "")
            + f"; {ranks['states_all_alike']} whose candidates all turn out alike. Mean outcome of a candidate "
            f"{ranks['mean_outcome']:.3f}, of the best {ranks['best_outcome']:.3f}.", "",
            "| by | states | Spearman | outcome |", "|---|---|---|---|",
        ]  # fmt: skip
        for by, found in ranks["by"].items():
            value = "-"
            if "spearman" in found:
                value = f"{found['spearman']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
            tables.append(f"| {by} | {found['states']} | {value} | {found['first']:.3f} |")
        tables.append("")
    return lines + tables[:-1]


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _text(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if _number(value) else "-"
