"""Eq 14: one score for each candidate from its imitation and simulation rewards.

r = w0 log r_im + w1 log r_NC + w2 log r_DAC + w3 log(5 r_TTC + 5 r_EP + 2 r_Comf), w = RewardConfig.weights.
A rule that is left out leaves its term. TLC and DDC, which the paper has not, multiply as DAC does: w2 log r
each. Logarithms are of values of at least 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wpt_training.errors import TrainingError

FLOOR = 1e-6
GATES = ("NC", "DAC", "TLC", "DDC")  # what a candidate must pass
GRADES = {"TTC": 5.0, "EP": 5.0, "Comf": 2.0}
_EXCLUDED = 100.0  # larger than any difference of scores (w of 1: 2 * 14 + 14 + 17)


def combine(
    imitation: Tensor | None,
    simulation: Mapping[str, Tensor],
    rules: Sequence[str],
    weights: tuple[float, float, float, float],
) -> Tensor:
    """Return scores [B, K] from probabilities [B, K]: Eq 14 as it stands.

    imitation: softmax over the candidates, None to leave the term out. simulation: by rule, in [0, 1]; only
    ``rules`` are read. Raises TrainingError when one is missing.
    """
    gates = sum(_gate_terms(simulation, rules, weights), start=torch.zeros(()))
    return _base(imitation, simulation, rules, weights) + gates


def combine_targets(
    imitation: Tensor | None,
    simulation: Mapping[str, Tensor],
    rules: Sequence[str],
    weights: tuple[float, float, float, float],
) -> Tensor:
    """Return scores [B, K] from targets, whose gates are exactly 0 or 1: a candidate that fails one is out.

    Out means 100 below every other. Where no candidate of a sample passes all gates, the remaining terms
    decide.
    """
    scores = _base(imitation, simulation, rules, weights)
    gates = [_of(simulation, rule) > 0.5 for rule in GATES if rule in rules]
    if not gates:
        return scores
    passes = torch.stack(gates).all(0)
    out = passes.any(-1, keepdim=True) & ~passes
    return torch.where(out, scores - _EXCLUDED, scores)


def choose(scores: Tensor) -> Tensor:
    """Return [B] int64: the candidate with the highest score, the first of equals."""
    best = scores.amax(-1, keepdim=True)
    # argmax leaves open which of equals it returns; the first one on every device.
    return (scores == best).to(torch.int8).argmax(-1)


def _base(
    imitation: Tensor | None,
    simulation: Mapping[str, Tensor],
    rules: Sequence[str],
    weights: tuple[float, float, float, float],
) -> Tensor:
    terms = []
    if imitation is not None:
        terms.append(weights[0] * _log(imitation))
    grades = [scale * _of(simulation, rule) for rule, scale in GRADES.items() if rule in rules]
    if grades:
        terms.append(weights[3] * _log(sum(grades)))
    if terms:
        return sum(terms)
    gates = [_of(simulation, rule) for rule in GATES if rule in rules]
    if not gates:
        raise TrainingError("neither imitation nor a rule is left to score candidates by; name at least one.")
    return torch.zeros_like(gates[0])


def _gate_terms(
    simulation: Mapping[str, Tensor], rules: Sequence[str], weights: tuple[float, float, float, float]
) -> list[Tensor]:
    scale = {"NC": weights[1], "DAC": weights[2], "TLC": weights[2], "DDC": weights[2]}
    return [scale[rule] * _log(_of(simulation, rule)) for rule in GATES if rule in rules]


def _of(simulation: Mapping[str, Tensor], rule: str) -> Tensor:
    if rule not in simulation:
        raise TrainingError(
            f"the simulation reward {rule} is missing, expected one of each rule; score it as well."
        )
    return simulation[rule].float()


def _log(value: Tensor) -> Tensor:
    return value.float().clamp(min=FLOOR).log()
