"""The rules that a candidate is scored by: the targets of the simulation heads.

NC no collision that is the ego's fault, DAC drivable-area compliance, TTC time to collision, EP ego progress,
Comf comfort; beyond the paper TLC traffic-light and DDC driving-direction compliance. Footprints stand at
accumulated poses and meet the occupancy of their arrival time; headings come from the path
(footprint.poses_along). Steps that are not valid are not judged: without a valid step everything passes.

Shape letters: B samples, K candidates, T future steps, X, Y cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.configuration import EXTRA_RULES, RULES
from wpt_training.data.batch import VEHICLE, VULNERABLE, Batch
from wpt_training.errors import TrainingError
from wpt_training.reward.comfort import comfort
from wpt_training.reward.contacts import FootprintProbe, no_collision, step_contacts, time_to_collision
from wpt_training.reward.footprint import (
    Poses,
    footprint_axes,
    grid_of_points,
    looked_up,
    placed,
    poses_along,
)
from wpt_training.reward.progress import progress_share, progress_share_of_the_paper
from wpt_training.reward.traffic_rules import direction_compliance, signal_compliance

EGO = EgoFootprint()


@dataclass(frozen=True, kw_only=True)
class RuleInputs:
    """What the rules read of a sample, from truth or from a world model.

    occupied: [B, 1 + T, X, Y] bool, now and at each future step. drivable: [B, X, Y] bool. The rest as in
    data.batch.Batch. grid: of the cells.
    """

    occupied: Tensor
    drivable: Tensor
    motion: Tensor
    route: Tensor
    future: Tensor
    future_valid: Tensor
    signal: Tensor
    stop_line: Tensor
    lane_direction: Tensor
    grid: BevGrid

    def __post_init__(self) -> None:
        batch, steps = self.future_valid.shape
        expected = (batch, 1 + steps, *self.grid.shape)
        if tuple(self.occupied.shape) != expected:
            raise TrainingError(
                f"occupied cells of the rules have shape {tuple(self.occupied.shape)}, expected {expected} (samples, now "
                "and each step, cells); hand over the grid that the occupancy was drawn on."
            )

    def to(self, device: torch.device | str) -> RuleInputs:
        """Return the inputs on a device."""
        moved = {
            field.name: value.to(device) if isinstance(value, Tensor) else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }
        return RuleInputs(**moved)


def rule_inputs(batch: Batch, grid: BevGrid) -> RuleInputs:
    """Return the inputs from truth. grid: that of Batch.occupancy (data.occupancy_truth.occupancy_grid)."""
    names = ("drivable", "motion", "route", "future", "future_valid", "signal", "stop_line", "lane_direction")
    occupied = (batch.occupancy & (VEHICLE | VULNERABLE)) != 0
    return RuleInputs(occupied=occupied, grid=grid, **{name: getattr(batch, name) for name in names})


def with_predicted(inputs: RuleInputs, logits: Tensor) -> RuleInputs:
    """Return the inputs with a world model's occupancy instead of the true one; everything else stays true.

    logits: [B, 1 + T, 3, X, Y] vehicle, vulnerable, drivable, now and at each step. A cell is occupied where
    either of the first two has a probability above 0.5; drivable is read from the present's logits.
    """
    expected = (*inputs.occupied.shape[:2], 3, *inputs.occupied.shape[2:])
    if tuple(logits.shape) != expected:
        raise TrainingError(
            f"occupancy logits have shape {tuple(logits.shape)}, expected {expected}; predict now and every future step."
        )
    logits = logits.detach()
    return dataclasses.replace(inputs, occupied=(logits[:, :, :2] > 0).any(2), drivable=logits[:, 0, 2] > 0)


@torch.no_grad()
def score_rules(
    inputs: RuleInputs,
    candidates: Tensor,
    rules: Sequence[str] = RULES,
    *,
    progress: str = "route",
    footprint: EgoFootprint = EGO,
) -> dict[str, Tensor]:
    """Score candidates [B, K, T, 2]; returns [B, K] float32 by rule, 1 for a pass; EP in [0, 1], the others 0
    or 1.

    progress: "route" or "paper" (RewardConfig.progress). Raises TrainingError for an unknown rule or progress
    and for candidates of another number of samples or steps.
    """
    _check(inputs, candidates, rules, progress)
    with torch.autocast(candidates.device.type, enabled=False):
        poses = poses_along(candidates.float())
        valid, scores = inputs.future_valid, {}
        if {"NC", "TTC", "EP"} & set(rules):
            probe = FootprintProbe(footprint, inputs.grid, candidates.device)
            contacts = step_contacts(probe, inputs.occupied, valid, poses)
            scores["NC"] = no_collision(contacts)
        if {"DAC", "EP"} & set(rules):
            scores["DAC"] = on_drivable_area(inputs.drivable, valid, poses, inputs.grid, footprint)
        if "TTC" in rules:
            scores["TTC"] = time_to_collision(probe, inputs.occupied, valid, poses, contacts)
        if "EP" in rules and progress == "route":
            scores["EP"] = progress_share(inputs.route, inputs.future[..., :2], valid, poses.positions)
        elif "EP" in rules:
            safe = (scores["NC"] > 0.5) & (scores["DAC"] > 0.5)
            scores["EP"] = progress_share_of_the_paper(valid, poses.positions, safe)
        if "Comf" in rules:
            scores["Comf"] = comfort(poses.positions, valid, inputs.motion)
        if "TLC" in rules:
            scores["TLC"] = signal_compliance(
                poses, valid, inputs.motion, inputs.signal, inputs.stop_line, footprint
            )
        if "DDC" in rules:
            scores["DDC"] = direction_compliance(poses, valid, inputs.lane_direction, inputs.grid)
        unjudged = ~valid.any(1, keepdim=True)
        return {rule: torch.where(unjudged, 1.0, scores[rule]) for rule in rules}


def on_drivable_area(
    drivable: Tensor, future_valid: Tensor, poses: Poses, grid: BevGrid, footprint: EgoFootprint
) -> Tensor:
    """DAC [B, K]: 1 where at every valid step all points of the footprint lie on drivable cells.

    The footprint is taken smaller by half a cell on every side, since a cell answers for its centre: the edge
    of the road is known to half a cell. Points off the grid count as drivable: what is there is not known.
    """
    rows, columns = footprint_axes(footprint, 0.5 * grid.cell_m, drivable.device)
    points = placed(grid_of_points(rows, columns), poses.positions, poses.direction)
    on_road = looked_up(drivable, None, points, grid, True).all(-1)
    return (on_road | ~future_valid.unsqueeze(1)).all(-1).float()


def _check(inputs: RuleInputs, candidates: Tensor, rules: Sequence[str], progress: str) -> None:
    unknown = sorted(set(rules) - set(RULES + EXTRA_RULES))
    if unknown:
        raise TrainingError(
            f"rules {', '.join(unknown)} are unknown: choose from {', '.join(RULES + EXTRA_RULES)}."
        )
    if progress not in ("route", "paper"):
        raise TrainingError(f"progress {progress!r} is unknown: choose 'route' or 'paper'.")
    batch, steps = inputs.future_valid.shape
    if candidates.dim() != 4 or (candidates.shape[0], *candidates.shape[2:]) != (batch, steps, 2):
        raise TrainingError(
            f"candidates have shape {tuple(candidates.shape)}, expected ({batch}, any, {steps}, 2); hand over whole "
            "trajectories of the same samples."
        )
