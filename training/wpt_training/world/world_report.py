"""How good is a world model? Judged against nothing having moved, on cells in the cameras' line of sight.

Rows:
- "world": occupancy of F^w at each time.
- "own_still": the world model's own occupancy now, kept still. In the present base_link that is its first
  frame itself.
- "truth_still": true occupancy now, kept still: what persistence reaches with perfect perception, an oracle.

Zones: at time t a cell is "moving" when something moving is within MOVING_MARGIN_M of it at the present or
any valid step, and nothing that stands still at t is in it (occupancy_losses.moving_zone); all other cells
are "static". Every cell counts once, and the zones come from truth and are the same for all rows.

All numbers come from histograms of probabilities over cells, so batches of any size add up exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wpt_policy.policy_config import BevGrid

from wpt_training.data.batch import VEHICLE, VULNERABLE, Batch
from wpt_training.world.occupancy_losses import frames_valid, moving_zone

ROWS = ("world", "own_still", "truth_still")
ZONES = ("moving", "static")
MOVING_MARGIN_M = 2.0
# Of the histograms: an even number, so that one half is an edge.
BINS = 64
RULES = "rules"
# Judges candidates by a rule: [B, K] bool, True where one passes. Arguments: a batch, occupancy logits
# [B, 1 + T, 3, OX, OY] or None for truth, candidates [B, K, T, 2].
RuleScore = Callable[[Batch, Tensor | None, Tensor], Tensor]

# The default candidates: constant speeds (m/s) along straight lines and circles of these curvatures (1/m).
FAN_SPEEDS = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0)
FAN_CURVATURES = (-0.05, -0.015, 0.0, 0.015, 0.05)


def fan_candidates(steps: int, dt_s: float) -> Tensor:
    """Return [K, T, 2] positions of a fixed fan: every speed along every curvature, standstill once."""
    times = dt_s * torch.arange(1, steps + 1)
    paths = []
    for speed in FAN_SPEEDS:
        for curvature in FAN_CURVATURES if speed > 0.0 else (0.0,):
            travelled = speed * times
            if curvature == 0.0:
                paths.append(torch.stack([travelled, torch.zeros_like(travelled)], dim=-1))
            else:
                turned = curvature * travelled
                paths.append(torch.stack([turned.sin(), 1.0 - turned.cos()], dim=-1) / curvature)
    return torch.stack(paths)


class WorldReport:
    """Adds up batches; ``result`` is a plain dict of numbers (None where there was nothing to count).

    steps: T. dt_s: between frames. grid: of occupancy (data.occupancy_truth.occupancy_grid). rule_score: how
    NC is judged, RULES for reward.rules; None leaves the agreement on NC out.
    """

    def __init__(self, steps: int, dt_s: float, grid: BevGrid, *, rule_score: RuleScore | str | None = RULES):
        self.steps, self.dt_s, self.cell_m = steps, dt_s, grid.cell_m
        self.rule_score = no_collision_by_rules(grid) if rule_score == RULES else rule_score
        self.samples = 0
        frames = 1 + steps
        # [row, zone, frame, truth, bin] counts of cells.
        self.cells = torch.zeros(len(ROWS), len(ZONES), frames, 2, BINS, dtype=torch.int64)
        self.drivable = torch.zeros(frames, 2, BINS, dtype=torch.int64)
        # [row, truth passes, row says passes] counts of candidates.
        self.rule = torch.zeros(len(ROWS), 2, 2, dtype=torch.int64)

    @torch.no_grad()
    def add(self, logits: Tensor, batch: Batch, candidates: Tensor | None = None) -> None:
        """Count a batch. logits: [B, 1 + T, 3, OX, OY]; candidates: [B, K, T, 2], a fan by default."""
        self.samples += len(batch)
        probabilities = logits.float().sigmoid()
        occupied = probabilities[:, :, :2].amax(dim=2)
        truth = (batch.occupancy & (VEHICLE | VULNERABLE)) != 0
        counted = batch.visible.unsqueeze(1) & frames_valid(batch.future_valid)[:, :, None, None]
        margin = round(MOVING_MARGIN_M / self.cell_m)
        moving = moving_zone(batch.occupancy, frames_valid(batch.future_valid), margin)
        rows = (occupied, occupied[:, :1].expand_as(occupied), truth[:, :1].expand_as(truth).float())
        for row, prediction in enumerate(rows):
            for zone, cells in enumerate((moving, ~moving)):
                self.cells[row, zone] += _histogram(prediction, truth, counted & cells)
        road = batch.drivable.unsqueeze(1).expand_as(truth)
        self.drivable += _histogram(probabilities[:, :, 2], road, counted)
        if self.rule_score is not None:
            self._add_rule(logits, batch, candidates)

    def _add_rule(self, logits: Tensor, batch: Batch, candidates: Tensor | None) -> None:
        if candidates is None:
            fan = fan_candidates(self.steps, self.dt_s).to(logits.device)
            candidates = fan.expand(len(batch), *fan.shape)
        truth = self.rule_score(batch, None, candidates)
        still = logits[:, :1].expand_as(logits)
        true_now = (((batch.occupancy[:, :1] & bit) != 0) for bit in (VEHICLE, VULNERABLE))
        frozen = torch.stack([*true_now, batch.drivable.unsqueeze(1)], dim=2)
        frozen = torch.where(frozen, 10.0, -10.0).expand_as(logits)
        for row, source in enumerate((logits, still, frozen)):
            said = self.rule_score(batch, source, candidates)
            pairs = 2 * truth.long() + said.long()
            self.rule[row] += torch.bincount(pairs.flatten(), minlength=4).view(2, 2).cpu()

    def merge(self, other: WorldReport) -> None:
        """Add another report's counts."""
        self.samples += other.samples
        self.cells += other.cells
        self.drivable += other.drivable
        self.rule += other.rule

    def result(self) -> dict[str, Any]:
        """Return the report: "times_s", "iou", "best_iou" (at each histogram's best threshold) and
        "average_precision" as {zone: {row: [value at each future time]}}, "now" (the present frame),
        "drivable_iou", "nc" and "wins".

        nc: {row: {"balanced_accuracy", "pass_recall", "fail_recall"}}, "share_failing" of candidates by
        truth. wins: "moving_from_1s" is True when "world" beats "own_still" on moving cells at every time
        from 1 s on.
        """
        every = {
            "iou": _iou_at_half(self.cells),
            "best_iou": _best_iou(self.cells),
            "average_precision": _average_precision(self.cells),
        }
        result: dict[str, Any] = {
            "samples": self.samples,
            "times_s": [self.dt_s * step for step in range(1, self.steps + 1)],
            "cells_moving": self.cells[0, 0, :, 1].sum(dim=-1).tolist(),
        }
        for name, values in every.items():
            result[name] = {
                zone: {row: _numbers(values[r, z, 1:]) for r, row in enumerate(ROWS)}
                for z, zone in enumerate(ZONES)
            }
        result["now"] = {
            name: {zone: _number(values[0, z, 0]) for z, zone in enumerate(ZONES)}
            for name, values in every.items()
        }
        result["drivable_iou"] = _numbers(_iou_at_half(self.drivable))
        if self.rule_score is not None:
            result["nc"] = self._rule_result()
        ours, still = (result["iou"]["moving"][row] for row in ROWS[:2])
        late = [index for index, time in enumerate(result["times_s"]) if time >= 1.0 - 1e-6]
        known = [index for index in late if ours[index] is not None and still[index] is not None]
        result["wins"] = {
            "moving_from_1s": all(ours[index] > still[index] for index in known) if known else None
        }
        return result

    def _rule_result(self) -> dict[str, Any]:
        counts = self.rule.double()
        result: dict[str, Any] = {}
        for row, name in enumerate(ROWS):
            fail, passed = (
                _number(counts[row, truth, truth] / counts[row, truth].sum()) for truth in (0, 1)
            )
            result[name] = {
                "balanced_accuracy": None if fail is None or passed is None else 0.5 * (fail + passed),
                "pass_recall": passed,
                "fail_recall": fail,
            }
        result["share_failing"] = _number(counts[0, 0].sum() / counts[0].sum())
        return result


def no_collision_by_rules(grid: BevGrid) -> RuleScore:
    """Return how the rule NC of reward.rules judges candidates on true occupancy or on a model's."""
    # Not at the top: the reward package knows of this one, and only this report looks the other way.
    from wpt_training.reward import rules

    def passes(batch: Batch, logits: Tensor | None, candidates: Tensor) -> Tensor:
        inputs = rules.rule_inputs(batch, grid)
        if logits is not None:
            inputs = rules.with_predicted(inputs, logits)
        return rules.score_rules(inputs, candidates, ("NC",))["NC"] > 0.5

    return passes


def table(result: dict[str, Any], columns: Sequence[str] = ("iou", "average_precision")) -> str:
    """Return a report as a Markdown table: a line for each measure, zone and row, a column for each time."""
    times = result["times_s"]
    lines = ["| measure | zone | row | " + " | ".join(f"{time:.1f} s" for time in times) + " |"]
    lines.append("|" + " --- |" * (3 + len(times)))
    for measure in columns:
        for zone in ZONES:
            for row in ROWS:
                values = ["-" if value is None else f"{value:.3f}" for value in result[measure][zone][row]]
                lines.append(f"| {measure} | {zone} | {row} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _histogram(probability: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """[B, F, OX, OY] probabilities, truth and what counts -> [F, 2, BINS] by truth and probability."""
    frames = probability.shape[1]
    bins = (probability * BINS).long().clamp(0, BINS - 1)
    frame = torch.arange(frames, device=probability.device)[None, :, None, None]
    place = (frame * 2 + truth) * BINS + bins
    return torch.bincount(place[counted], minlength=frames * 2 * BINS).view(frames, 2, BINS).cpu()


def _above(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[..., 2, BINS] -> hits and false alarms at each threshold [..., BINS] and occupied cells [..., 1]."""
    reversed_sum = counts.double().flip(-1).cumsum(dim=-1).flip(-1)
    return reversed_sum[..., 1, :], reversed_sum[..., 0, :], reversed_sum[..., 1, :1]


def _iou_by_threshold(counts: Tensor) -> Tensor:
    hits, alarms, occupied = _above(counts)
    return hits / (occupied + alarms)


def _iou_at_half(counts: Tensor) -> Tensor:
    """Return [...] intersection over union at probability one half, NaN without cells in the union."""
    return _iou_by_threshold(counts)[..., BINS // 2]


def _best_iou(counts: Tensor) -> Tensor:
    return _iou_by_threshold(counts).nan_to_num(nan=-1.0).amax(dim=-1).where(
        counts[..., 1, :].sum(dim=-1) > 0, torch.nan
    )


def _average_precision(counts: Tensor) -> Tensor:
    """Return [...] average precision: precision at each threshold, weighted by the recall that it adds."""
    hits, alarms, occupied = _above(counts)
    precision = (hits / (hits + alarms)).nan_to_num(nan=0.0)
    return (precision * counts[..., 1, :]).sum(dim=-1) / occupied.squeeze(-1)


def _number(value: Tensor) -> float | None:
    number = float(value)
    return None if number != number else number


def _numbers(values: Tensor) -> list[float | None]:
    return [_number(value) for value in values]
