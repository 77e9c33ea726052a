"""`wpt-train rules`: what the true drive scores on the rules. A rule that an expert breaks is a wrong rule, or a wrong expert.

Comfort is judged outside the family that must brake hard, where the data set says of which family a scene is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from wpt_training.configuration import CONFIGURATIONS, configuration
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.data.sample_cache import SampleCache
from wpt_training.reward.rule_checks import expert_report
from wpt_training.reward.rules import rule_inputs
from wpt_training.trainer.progress import Progress

# What the expert must reach.
LEAST: Mapping[str, float] = {"NC": 0.995, "DAC": 0.99, "TTC": 0.95, "Comf": 0.90, "TLC": 0.98, "DDC": 0.98}
BRAKING_FAMILY = "emergency_brake"


def braking_scenes(version: Path | None) -> frozenset[str]:
    """Return the scenes of the braking family; none where the data set does not say."""
    path = None if version is None else version / "scenes.json"
    if path is None or not path.exists():
        return frozenset()
    scenes = json.loads(path.read_text(encoding="utf-8"))["scenes"]
    return frozenset(name for name, scene in scenes.items() if scene["episode"]["family"] == BRAKING_FAMILY)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", type=Path, required=True, help="folder of a sample cache")
    parser.add_argument("--version", type=Path, help="version folder, for the families of its scenes (scenes.json)")
    parser.add_argument("--config", default="compact", choices=sorted(CONFIGURATIONS))
    parser.add_argument("--samples", type=int, default=4000, help="at most so many, evenly over the cache")


def run(arguments: argparse.Namespace) -> int:
    config = configuration(arguments.config)
    cache = SampleCache.open(arguments.cache, config)
    grid = occupancy_grid(config.student, config.data)
    rows = torch.from_numpy(cache.labelled.nonzero()[0])
    if len(rows) > arguments.samples:
        rows = rows[torch.linspace(0, len(rows) - 1, arguments.samples).round().long()]

    def parts(chosen: torch.Tensor):
        shown = Progress("rules", len(chosen))
        for begin in range(0, len(chosen), 32):
            yield rule_inputs(cache.batch(chosen[begin : begin + 32]), grid)
            shown.show(min(begin + 32, len(chosen)), last=begin + 32 >= len(chosen))

    report = expert_report(parts(rows))
    braking = braking_scenes(arguments.version)
    if braking:
        calm = rows[torch.tensor([cache.scene_of[row] not in braking for row in rows.tolist()])]
        report["true"]["Comf"] = expert_report(parts(calm), ("Comf",))["true"]["Comf"]
        print(f"Comf: {len(calm)} samples outside {BRAKING_FAMILY}")
    print(f"{report['samples']} samples of {cache.made_of['data']['version']}")
    print("| rule | true future | demanded | shifted 3 m sideways |\n|---|---|---|---|")
    missed = []
    for rule, value in report["true"].items():
        least, shifted = LEAST.get(rule), report["shifted"].get(rule)
        if least is not None and value < least:
            missed.append(rule)
        print(
            f"| {rule} | {value:.4f} | {'-' if least is None else least} | "
            f"{'-' if shifted is None else format(shifted, '.4f')} |"
        )
    if missed:
        print(f"MISSED: {', '.join(missed)}")
    return 1 if missed else 0
