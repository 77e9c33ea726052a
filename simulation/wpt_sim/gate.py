"""`wpt-sim gate`: can anything be learnt here, and can nothing be had for free?

Drives the same test routes with drivers that know little, two policies trained on the spot, and the expert.
The world is accepted when the expert and the policy that sees bird's-eye truth do well, the one that sees
only its own motion does not, and driving blind fails most routes of every scripted family. Policies and data
are kept in --work.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wpt_sim import scoring
from wpt_sim.drive import draw_routes
from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.gate_data import Samples, collect, join
from wpt_sim.gate_policies import save_policy
from wpt_sim.gate_training import TrainingReport, train
from wpt_sim.network import SPLITS
from wpt_sim.results import write_results
from wpt_sim.route_drives import DriveJob, drive_routes
from wpt_sim.scoring import ABILITIES, Summary

EXPERT_LEAST, BIRDS_EYE_LEAST, EGO_MOST, BLIND_FAILS_LEAST = 95.0, 75.0, 40.0, 60.0
DATA_SEED, CORRECTION_SEED, TEST_SEED = 1, 11, 5  # of draw_routes


@dataclass(frozen=True, kw_only=True)
class Row:
    """One driver of the table. label: as printed; driver: as make_driver takes it."""

    label: str
    driver: str
    summary: Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--routes", type=int, default=120, help="test routes, families taking turns (default 120)"
    )
    parser.add_argument(
        "--train-drives", type=int, default=180, help="expert drives to learn from (default 180)"
    )
    parser.add_argument(
        "--corrections",
        type=int,
        nargs="*",
        default=[90, 90],
        metavar="N",
        help="drives of the policy under the expert's eye, per round (default 90 90)",
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="of the test routes")
    parser.add_argument("--plan-rate", type=float, default=2.0, metavar="HZ")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--rows", nargs="+", choices=list(LABELS), help="drive these rows only (gates need all)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("out/gate"), help="data, policies, results (default out/gate)"
    )
    parser.add_argument("--video", type=Path, metavar="DIR", help="pictures of the policies' failed routes")


LABELS: Mapping[str, str] = {
    "stop": "stop",
    "constant_velocity": "constant velocity",
    "blind_follower": "blind route follower",
    "lane_leader": "lane leader (IDM)",
    "ego_mlp": "ego MLP",
    "bev_policy": "bird's-eye truth policy",
    "expert_plan": "expert through plans",
    "expert": "expert",
}
LEARNED = ("ego_mlp", "bev_policy")


def run(arguments: argparse.Namespace) -> int:
    chosen = arguments.rows or list(LABELS)
    specs = draw_routes(arguments.routes, arguments.split, arguments.seed)
    work: Path = arguments.work
    policies, reports = ({}, {})
    if any(name in LEARNED for name in chosen):
        policies, reports = train_policies(arguments, work)
    rows = []
    for name in [label for label in LABELS if label in chosen]:
        driver = f"{name}:{policies[name]}" if name in LEARNED else name
        rows.append(drive_row(LABELS[name], driver, specs, arguments, work))
        print(row_line(rows[-1]), file=sys.stderr)
    print(table(rows, arguments.split))
    for name, report in reports.items():
        print(
            f"{LABELS[name]}: trained on {report.samples} samples; errs by {report.progress_1s:.2f} m "
            f"at 1 s and {report.progress_3s:.2f} m at 3 s along, {report.sideways_3s:.2f} m sideways at 3 s"
        )
    missed = missed_gates(rows)
    write_results(
        work / "gate.json",
        {
            "rows": {row.label: asdict(row.summary) for row in rows},
            "missed": missed,
            "split": arguments.split,
            "seed": arguments.seed,
            "routes": len(specs),
            "training": {k: asdict(v) for k, v in reports.items()},
        },
    )
    for sentence in missed:
        print(f"gate missed: {sentence}")
    if not missed:
        print("all gates passed")
    return 1 if missed else 0


def train_policies(
    arguments: argparse.Namespace, work: Path
) -> tuple[dict[str, Path], dict[str, TrainingReport]]:
    """Collect and train, reusing what --work holds. Returns files and reports by row name."""
    count = arguments.train_drives
    if count < 1 or arguments.epochs < 1:
        raise SimulationError(
            f"--train-drives {count} with --epochs {arguments.epochs}: both must be at least 1."
        )
    first = collect(
        draw_routes(count, "train", DATA_SEED),
        policy=None,
        workers=arguments.workers,
        cache=work / f"expert-{count}-{DATA_SEED}.npz",
        label="expert drives",
    )
    print(
        f"{len(first)} samples from {first.drives} expert drives, {first.dropped} drives dropped",
        file=sys.stderr,
    )
    if len(first) < 1000:
        raise SimulationError(
            f"{len(first)} samples were collected, at least 1000 are needed: raise --train-drives."
        )
    reports: dict[str, TrainingReport] = {}
    files = {name: work / f"{name}.safetensors" for name in LEARNED}
    reports["ego_mlp"] = _fit("ego_mlp", first, files["ego_mlp"], arguments)
    parts: list[Samples] = [first]
    reports["bev_policy"] = _fit("bev_policy", first, files["bev_policy"], arguments)
    for number, drives in enumerate(arguments.corrections, start=1):
        cache = work / f"corrections-{count}-{arguments.epochs}-{number}-{drives}.npz"
        specs = draw_routes(drives, "train", CORRECTION_SEED + number)
        parts.append(
            collect(
                specs,
                policy=files["bev_policy"],
                workers=arguments.workers,
                cache=cache,
                label=f"corrections {number}",
            )
        )
        reports["bev_policy"] = _fit("bev_policy", join(parts), files["bev_policy"], arguments)
    return files, reports


def _fit(name: str, samples: Samples, path: Path, arguments: argparse.Namespace) -> TrainingReport:
    network, report = train(name, samples, epochs=arguments.epochs, seed=0, threads=arguments.workers)
    save_policy(path, name, network, asdict(report))
    print(f"{name}: {report}", file=sys.stderr)
    return report


def drive_row(
    label: str, driver: str, specs: Sequence[EpisodeSpec], arguments: argparse.Namespace, work: Path
) -> Row:
    """Drive all routes with one driver; results are kept in --work."""
    name = driver.partition(":")[0]
    pictures = str(arguments.video / name) if arguments.video and name in LEARNED else None
    job = DriveJob(driver=driver, plan_rate=arguments.plan_rate, pictures=pictures)
    partial = work / "routes" / f"{name}.partial.jsonl"
    outcome = drive_routes(job, specs, workers=arguments.workers, partial=partial, label=label)
    for sentence in outcome.broken:
        print(f"not driven: {sentence}", file=sys.stderr)
    expected: dict[str, int] = {}
    for spec in specs:
        expected[spec.family] = expected.get(spec.family, 0) + 1
    return Row(label=label, driver=driver, summary=scoring.summarise(outcome.results, expected))


def row_line(row: Row) -> str:
    """Driving score by family and in all, success rate."""
    scores = "".join(
        f"{row.summary.family_scores.get(name, float('nan')):8.1f}" for name in (*ABILITIES, "natural")
    )
    return f"{row.label:<25}{scores}{row.summary.driving_score:9.1f}{row.summary.success_rate:9.1f}"


def table(rows: Sequence[Row], split: str) -> str:
    """The gate's table."""
    short = {
        "emergency_brake": "braking",
        "overtaking": "overtak",
        "traffic_signs": "signs",
        "give_way": "give",
    }
    names = "".join(f"{short.get(name, name):>8}" for name in (*ABILITIES, "natural"))
    routes = rows[0].summary.routes if rows else 0
    head = [
        f"driving score (b2d) by family, {routes} routes of split {split}",
        f"{'':<25}{names}{'all':>9}{'success':>9}",
    ]
    return "\n".join([*head, *(row_line(row) for row in rows)])


def missed_gates(rows: Sequence[Row]) -> list[str]:
    """Sentences about gates that are not met; rows that were not driven are missed too."""
    by_label = {row.label: row.summary for row in rows}
    missed = []
    for name, least, most in (
        ("expert", EXPERT_LEAST, None),
        ("bev_policy", BIRDS_EYE_LEAST, None),
        ("ego_mlp", None, EGO_MOST),
    ):
        summary = by_label.get(LABELS[name])
        if summary is None:
            missed.append(f"{LABELS[name]} was not driven")
        elif least is not None and summary.driving_score < least:
            missed.append(f"{LABELS[name]} scores {summary.driving_score:.1f}, expected at least {least:g}")
        elif most is not None and summary.driving_score > most:
            missed.append(f"{LABELS[name]} scores {summary.driving_score:.1f}, expected at most {most:g}")
    blind = by_label.get(LABELS["blind_follower"])
    if blind is None:
        missed.append(f"{LABELS['blind_follower']} was not driven")
    else:
        for family in ABILITIES:
            failed = 100.0 - blind.success_by_family.get(family, 100.0)
            if failed < BLIND_FAILS_LEAST:
                missed.append(
                    f"{LABELS['blind_follower']} fails {failed:.0f} % of {family}, expected at least "
                    f"{BLIND_FAILS_LEAST:g} %"
                )
    return missed
