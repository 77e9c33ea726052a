"""Is a rule right, and does it say anything? The expert's scores, how often a rule decides, agreement of two
sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from wpt_training.configuration import RULES
from wpt_training.reward.progress import filled_future
from wpt_training.reward.rules import RuleInputs, score_rules

SHIFT_M = 3.0


def expert_scores(
    inputs: RuleInputs, rules: Sequence[str] = RULES, shifts_m: Sequence[float] = (0.0,)
) -> dict[str, Tensor]:
    """Score the true future, [B, S] by rule: column s is shifted shifts_m[s] metres to the left all along."""
    path = filled_future(inputs.future[..., :2], inputs.future_valid)
    candidates = path.unsqueeze(1).repeat(1, len(shifts_m), 1, 1)
    candidates[..., 1] += torch.tensor(shifts_m, device=path.device)[:, None]
    return score_rules(inputs, candidates, rules)


def expert_report(
    parts: Iterable[RuleInputs],
    rules: Sequence[str] = ("NC", "DAC", "TTC", "Comf", "TLC", "DDC"),
    shift_m: float = SHIFT_M,
) -> dict[str, float | dict[str, float]]:
    """Return mean scores of the true future ("true") and of the one shifted sideways, mean of both sides
    ("shifted").

    Only samples with a valid step count ("samples"). The shifted path starts beside the ego, which no rule
    objects to but by its place; Comf of a shifted path says nothing and is left out there.
    """
    true, shifted = dict.fromkeys(rules, 0.0), dict.fromkeys(rules, 0.0)
    samples = 0
    for inputs in parts:
        judged = inputs.future_valid.any(1)
        samples += int(judged.sum())
        for rule, values in expert_scores(inputs, rules, (0.0, shift_m, -shift_m)).items():
            true[rule] += float(values[judged, 0].sum())
            shifted[rule] += float(values[judged, 1:].mean(1).sum())
    count = max(samples, 1)
    return {
        "samples": samples,
        "true": {rule: true[rule] / count for rule in rules},
        "shifted": {rule: shifted[rule] / count for rule in rules if rule != "Comf"},
    }


def informative_share(scores: dict[str, Tensor]) -> dict[str, float]:
    """Return by rule the share of samples with both passing and failing candidates (scores [B, K]; EP: spread
    over 0.1)."""
    return {
        rule: float((values.amax(1) - values.amin(1) > (0.1 if rule == "EP" else 0.5)).float().mean())
        for rule, values in scores.items()
    }


@dataclasses.dataclass
class RuleAgreement:
    """Counts how far scores from a world model's occupancy agree with those from the true one, over many
    batches."""

    counts: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def add(
        self,
        inputs: RuleInputs,
        predicted: RuleInputs,
        candidates: Tensor,
        rules: Sequence[str] = ("NC", "DAC", "TTC"),
    ) -> None:
        """Count a batch's candidates [B, K, T, 2]; samples without a valid step are left out."""
        judged = inputs.future_valid.any(1)
        truth, guess = (score_rules(source, candidates, rules) for source in (inputs, predicted))
        for rule in rules:
            is_pass, says_pass = truth[rule][judged] > 0.5, guess[rule][judged] > 0.5
            pairs = [
                (is_pass & says_pass),
                (is_pass & ~says_pass),
                (~is_pass & says_pass),
                (~is_pass & ~says_pass),
            ]
            found = torch.stack([pair.sum().double().cpu() for pair in pairs])
            self.counts[rule] = self.counts.get(rule, torch.zeros(4, dtype=torch.float64)) + found

    def balanced_accuracy(self) -> dict[str, float]:
        """Return by rule the mean of recall on passes and on failures; NaN where one of the two never
        occurs."""
        result = {}
        for rule, (good, missed, slipped, caught) in self.counts.items():
            result[rule] = float(0.5 * (good / (good + missed) + caught / (slipped + caught)))
        return result
