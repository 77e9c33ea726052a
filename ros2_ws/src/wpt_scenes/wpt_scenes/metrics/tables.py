"""A report as text: tables in Markdown that read well unrendered too."""

from __future__ import annotations

from collections.abc import Sequence

from wpt_scenes.metrics.aggregation import Averaging
from wpt_scenes.metrics.evaluation import TRUTH
from wpt_scenes.metrics.variants import VARIANTS, Group, variants_of

_NOT_THERE = "-"


def report_tables(report: dict) -> str:
    """Return all tables of a report: both averagings, all six steps, truth's own hits, jitter, counts and reasons."""
    parts = [_heading(report)]
    for averaging, words in (
        (Averaging.AT_STEP, "at 1 / 2 / 3 s"),
        (Averaging.OVER_TIME, "mean up to 1 / 2 / 3 s"),
    ):
        parts.append(_l2_table(report, averaging, f"L2 [m], {words} (mean of the three), n samples; {_STAR}"))
    for averaging, words in (
        (Averaging.AT_STEP, "at 1 / 2 / 3 s"),
        (Averaging.OVER_TIME, "mean up to 1 / 2 / 3 s"),
        (Averaging.ANY_UNTIL, "any hit up to 1 / 2 / 3 s"),
    ):
        title = (
            f"Collision [%], {words} (mean of the three), n samples; steps at which truth itself collides are left out, "
            f"truth's row shows just these; {_STAR}"
        )
        parts.append(_collision_table(report, averaging, title))
    parts += [
        _jitter_table(report),
        _off_road_table(report),
        _consistency_table(report),
        _steps(report),
        _reasons(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_STAR = "* as its source prints it"


def _heading(report: dict) -> str:
    shape = report["footprint"]
    lines = [
        f"Open loop, {report['waypoints']}-based waypoints, token set {report['token_set']}: {report['samples']} samples, "
        f"{report['samples_with_six_steps']} with six future steps, {len(report['scenes'])} scenes. Ego "
        f"{shape['length_m']} x {shape['width_m']} m, centre {shape['centre_ahead_m']:.3f} m ahead of base_link.",
        "Numbers of different columns cannot be compared: object classes, masks, frames and rounding differ "
        "(docs/metrics.md).",
    ]
    return "\n".join(lines)


def _head(group: Group, averaging: Averaging) -> list[str]:
    titles = [f"{v.title} *" if v.averaging is averaging else v.title for v in variants_of(group)]
    return ["planner", *titles]


def _l2_table(report: dict, averaging: Averaging, title: str) -> str:
    rows = []
    for name, entry in report["planners"].items():
        found = [entry["l2"].get(variant.name) for variant in variants_of(Group.L2)]
        rows.append([name, *[_cell(one, one and one[averaging.value], 1.0) for one in found]])
    return f"{title}\n\n{_markdown(_head(Group.L2, averaging), rows)}"


def _collision_table(report: dict, averaging: Averaging, title: str) -> str:
    rows = []
    for name, entry in report["planners"].items():
        part = "truth" if name == TRUTH else "box"
        found = [entry["collision"].get(variant.name) for variant in variants_of(Group.COLLISION)]
        rows.append(
            [_row_name(name), *[_cell(one, one and one[part][averaging.value], 100.0) for one in found]]
        )
    return f"{title}\n\n{_markdown(_head(Group.COLLISION, averaging), rows)}"


def _jitter_table(report: dict) -> str:
    rows, drawn = [], None
    for name, entry in report["planners"].items():
        cells = [name]
        for variant in variants_of(Group.COLLISION):
            jitter = (entry["collision"].get(variant.name) or {}).get("jitter")
            drawn = drawn or jitter
            spread = jitter and jitter["avg"]
            cells.append(
                f"{100 * spread['mean']:.2f} +- {100 * spread['spread']:.2f}" if spread else _NOT_THERE
            )
        pose = (entry["collision"].get("collision_at_fault") or {}).get("pose_jitter")
        spread = pose and pose["avg"]
        cells.append(f"{100 * spread['mean']:.2f} +- {100 * spread['spread']:.2f}" if spread else _NOT_THERE)
        rows.append(cells)
    if drawn is None:
        return ""
    title = (
        f"Collision [%] under jitter: mean +- spread over {drawn['draws']} draws of {100 * drawn['sigma_m']:g} cm, seed "
        f"{drawn['seed']}, of each variant's mean of the three as its source prints it"
    )
    titles = [variant.title for variant in variants_of(Group.COLLISION)]
    head = ["planner", *titles, "ours, at fault, 0.1 m and 1 degree"]
    return f"{title}\n\n{_markdown(head, rows)}"


def _off_road_table(report: dict) -> str:
    rows = []
    for name, entry in report["planners"].items():
        found = entry["off_road"]
        if found is not None:
            cells = [
                _cell(found, found["steps"][a.value], 100.0) for a in (Averaging.AT_STEP, Averaging.OVER_TIME)
            ]
            rows.append([_row_name(name), *cells])
    if not rows:
        return ""
    head = ["planner", "at 1 / 2 / 3 s (mean)", "mean up to 1 / 2 / 3 s (mean)"]
    return f"Off road [%], n samples\n\n{_markdown(head, rows)}"


def _consistency_table(report: dict) -> str:
    rows = []
    for name, entry in report["planners"].items():
        overlap = entry["consistency"].get("consistency_overlap")
        coded = entry["consistency"].get("consistency_tpc_code")
        mean = _NOT_THERE if overlap is None else f"{_number(overlap['mean'], 1.0)} n={overlap['pairs']}"
        rows.append([name, mean, _cell(coded, coded and coded[Averaging.OVER_TIME.value], 1.0)])
    head = [
        "planner",
        "overlap of successive plans, n pairs",
        "TPC as MomAD's code has it, mean up to 1 / 2 / 3 s",
    ]
    return f"Consistency [m]\n\n{_markdown(head, rows)}"


def _steps(report: dict) -> str:
    """All six steps of every variant and planner, with the numbers of samples behind them."""
    times = [f"{time:g} s" for time in report["step_times_s"]]
    head = ["variant", "planner", *times, "samples", "counted per step"]
    rows = []
    for variant in VARIANTS.values():
        for name, entry in report["planners"].items():
            if variant.group is Group.L2 and variant.name in entry["l2"]:
                found = entry["l2"][variant.name]
                rows.append(_step_row(f"{variant.name} [m]", name, found["per_step"], 1.0, found))
            elif variant.group is Group.COLLISION and variant.name in entry["collision"]:
                found = entry["collision"][variant.name]
                for part, words in _COLLISION_PARTS[name == TRUTH]:
                    if found[part] is not None:
                        label = f"{variant.name}{words} [%]"
                        rows.append(_step_row(label, name, found[part]["per_step"], 100.0, found))
            elif variant.group is Group.OFF_ROAD and entry["off_road"] is not None:
                found = entry["off_road"]
                rows.append(_step_row("off_road [%]", name, found["steps"]["per_step"], 100.0, found))
    return f"All six steps\n\n{_markdown(head, rows)}"


# What is shown of a collision entry: of a planner, and of truth.
_COLLISION_PARTS = {
    False: (("box", ""), ("box_with_truth_hits", ", with truth's hits"), ("centre", ", centre point")),
    True: (("truth", ", own hits"),),
}


def _step_row(
    label: str, planner: str, per_step: Sequence[float | None], scale: float, entry: dict
) -> list[str]:
    counted = entry["counted_per_step"]
    words = str(counted[0]) if len(set(counted)) == 1 else " ".join(str(count) for count in counted)
    return [label, planner, *[_number(value, scale) for value in per_step], str(entry["samples"]), words]


def _row_name(name: str) -> str:
    return "truth, own hits" if name == TRUTH else name


def _cell(entry: dict | None, values: dict | None, scale: float) -> str:
    """1 / 2 / 3 s (mean) n=samples."""
    if entry is None or values is None:
        return _NOT_THERE
    first, second, third, mean = (_number(values[key], scale) for key in ("1s", "2s", "3s", "avg"))
    return f"{first} / {second} / {third} ({mean}) n={entry['samples']}"


def _reasons(report: dict) -> str:
    """One line for each thing that has no number, so that no dash is without a reason."""
    lines = []
    for name, entry in report["planners"].items():
        if entry["refused"]:
            token, sentence = next(iter(entry["refused"].items()))
            lines.append(
                f"{name}: {len(entry['refused'])} samples without a plan (first {token}: {sentence})"
            )
        if entry["missing"]:
            lines.append(f"{name}: {len(entry['missing'])} samples missing (first {entry['missing'][0]})")
        by_reason: dict[str, list[str]] = {}
        for variant, reason in entry["unavailable"].items():
            by_reason.setdefault(reason, []).append(variant)
        if name != TRUTH or len(report["planners"]) == 1:
            lines += [f"{name}: no {', '.join(variants)}: {reason}" for reason, variants in by_reason.items()]
    return "\n".join(lines)


def _number(value: float | None, scale: float) -> str:
    return _NOT_THERE if value is None else f"{value * scale:.2f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *[line(row) for row in rows]])
