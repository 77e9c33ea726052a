"""The README.md of a shipped bundle: on what it was trained, what it scores, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wpt_policy.policy_config import PolicyConfig

from wpt_training.evaluation.judged_set import PARTS

READS_POSES = (
    "poses for moving its memory only; from how the memory moves it estimates speed and yaw rate; no measured speed, no past path"
)


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What the card says of a bundle's training.

    dataset: name and version, with what it is. row: what the weights learned from, in words. samples: seen by each stage.
    minutes: of training in all. device: on what. commit, seed: of the run.
    """

    dataset: str
    row: str
    commit: str
    seed: int
    configuration: str
    samples: Mapping[str, int] = field(default_factory=dict)
    minutes: float | None = None
    device: str = ""
    command: str = ""


def model_card(
    config: PolicyConfig,
    facts: TrainingFacts,
    report: Mapping[str, Any] | None,
    closed_loop: Mapping[str, Any] | None,
) -> str:
    """Return the card as Markdown.

    report: of evaluation.evaluate, with a row named as ``config.name``; other rows stand beside it. closed_loop: figures of
    `wpt-sim drive` by planner (driving_score, success_rate, routes). None where nothing was measured, and the card says so.
    """
    image, bev = config.image_input, config.bev
    masked = ", ".join(config.may_mask) or "none: every camera must send an image"
    lines = [
        f"# {config.name}",
        "",
        "A small planning policy: six camera images, their calibration and ego poses, one remembered bird's-eye view and a "
        "driving command in, six waypoints of 0.5 s out. It was trained on synthetic data.",
        "",
        "**It must not be used to drive, assist or judge a vehicle on any road, nor as a part of a safety case.** It has "
        "never seen a real camera image in training. What it is for: running the line from image to plan, comparing "
        "planners in this repository's simulation, and measuring.",
        "",
        "## On what it was trained",
        "",
        "| | |",
        "|---|---|",
        f"| data | {facts.dataset} |",
        f"| learned from | {facts.row} |",
        f"| configuration | {facts.configuration}, seed {facts.seed} |",
        f"| samples seen | {_samples(facts.samples)} |",
        f"| training time | {_minutes(facts.minutes)}{f' on {facts.device}' if facts.device else ''} |",
        f"| commit | {facts.commit or 'unknown'} |",
        f"| network | {len(config.cameras)} images of {image.width}x{image.height} (crop: {image.crop}), "
        f"{bev.shape[0]}x{bev.shape[1]} cells of {bev.cell_m:g} m, {config.history.entries} remembered |",
        f"| reads of the ego | {', '.join(config.ego_inputs) or READS_POSES} |",
        "| labels of its pre-training | occupancy, state of the signal, where the command's route runs, velocities of others, the "
        "ego's own speed and yaw rate |",
        f"| commands | {', '.join(command.label for command in config.plan.commands)} |",
        f"| cameras that may be masked | {masked} |",
        "| licence | Apache-2.0, as the repository |",
    ]
    if facts.command:
        lines.append(f"| made by | `{facts.command}` |")
    lines += ["", "## What it scores", ""]
    lines += _open_loop(config.name, report)
    lines += _closed_loop(closed_loop)
    lines += [
        "## What it must not be used for",
        "",
        "- Driving, assisting or judging a real vehicle; any conclusion about real traffic.",
        "- Real camera images: rendered training images look different from photographs, and nothing was adapted.",
        "- Cameras other than those it names, other mounts than those of its data, or images prepared in another way "
        "than `policy.json` says.",
        f"- Horizons beyond {config.plan.steps * config.plan.dt_s:g} s, or rates at which its memory of "
        f"{config.history.interval_s:g} s is not met.",
        "- Claims about published methods: numbers above are of this data set and cannot be compared with nuScenes papers.",
        "",
    ]
    return "\n".join(lines)


def _samples(samples: Mapping[str, int]) -> str:
    return ", ".join(f"{stage} {count:,}" for stage, count in samples.items()) or "not recorded"


def _minutes(minutes: float | None) -> str:
    return "not recorded" if minutes is None else f"{minutes:.0f} min"


def _open_loop(name: str, report: Mapping[str, Any] | None) -> list[str]:
    if report is None:
        return ["Open loop: not measured.", ""]
    lines = [
        f"Open loop on {report['data']} (commit {report['commit'] or 'unknown'}). Collision: contacts at fault, exact "
        "rectangles, mean over the steps to 3 s and over 20 jitters of 0.1 m and 1 degree; events: samples with such a "
        "contact without jitter.",
        "",
        "| row | part | L2 at 1, 2, 3 s, mean [m] | collision [%] | events | samples |",
        "|---|---|---|---|---|---|",
    ]
    rows = sorted(report["rows"].items(), key=lambda row: row[0] != name)
    for row, entry in rows:
        for part in PARTS:
            found = entry[part]
            if found is None:
                continue
            l2, collision = found["l2"]["at_step"]["avg"], found["collision_at_fault"]
            rate = collision["primary"]
            label = f"**{row}**" if row == name else row
            lines.append(
                f"| {label} | {part} | {'-' if l2 is None else f'{l2:.2f}'} | "
                f"{'-' if rate is None else f'{100 * rate:.3f}'} | {collision['events']} | {found['samples']} |"
            )
    return [*lines, ""]


def _closed_loop(drives: Mapping[str, Any] | None) -> list[str]:
    if not drives:
        return ["Closed loop: not measured.", ""]
    lines = [
        "Closed loop in the repository's simulation (`wpt-sim drive`), the same routes for all:",
        "",
        "| planner | routes | driving score | success rate [%] |",
        "|---|---|---|---|",
    ]
    for planner, found in drives.items():
        lines.append(
            f"| {planner} | {found['routes']} | {found['driving_score']:.1f} | {found['success_rate']:.1f} |"
        )
    return [*lines, ""]
