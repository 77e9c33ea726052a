"""Are the candidates worth choosing among? Figures over a split, gathered batch by batch.

Shape letters: B samples, K candidates, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from wpt_training.reward.reward_losses import distance_to_future
from wpt_training.teacher.candidates import Candidates

# A rule that is the same for all candidates in more than this share of samples is inactive: its ablation
# proves nothing.
INACTIVE_SHARE = 0.95


class CandidateReport:
    """Sums of a split. Add batches, then ask for the result; one report for each split or part of it."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    @torch.no_grad()
    def add(
        self,
        candidates: Candidates,
        future: Tensor,
        future_valid: Tensor,
        rules: Mapping[str, Tensor] | None = None,
        imitation_target: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> None:
        """Add a batch. future: [B, T, 2 or more]; future_valid: [B, T]; rules: [B, K] by name, as
        reward.rules scores them; imitation_target: [B, K]; chosen: [B] the candidate that is taken. Samples
        without a known future count only in the spread.
        """
        known = future_valid.any(dim=1)
        refined = distance_to_future(candidates.positions, future, future_valid)
        anchors = distance_to_future(candidates.anchors, future, future_valid)
        confident = candidates.confidence.argmax(dim=1, keepdim=True)
        self._mean("anchor_oracle_m", anchors.amin(1), known)
        self._mean("refined_oracle_m", refined.amin(1), known)
        self._mean("refined_mean_m", refined.mean(1), known)
        self._mean("most_confident_m", refined.gather(1, confident)[:, 0], known)
        if chosen is not None:
            self._mean("chosen_m", refined.gather(1, chosen.unsqueeze(1))[:, 0], known)
        self._mean("spread_m", spread(candidates.positions), torch.ones_like(known))
        if imitation_target is not None:
            entropy = -torch.special.xlogy(imitation_target, imitation_target).sum(dim=1)
            self._mean("imitation_entropy", entropy, known)
            uniform = math.log(imitation_target.shape[1])
            self._mean("imitation_entropy_uniform", torch.full_like(entropy, uniform), known)
        for name, scores in (rules or {}).items():
            self._mean(f"{name}_mean", scores.mean(1), known)
            differs = scores.amax(1) - scores.amin(1) > 1e-6
            self._mean(f"{name}_both", differs.float(), known)
        if rules and {"NC", "DAC"} <= set(rules):
            safe = ((rules["NC"] > 0.5) & (rules["DAC"] > 0.5)).any(dim=1)
            self._mean("safe_candidate", safe.float(), known)

    def result(self) -> dict[str, float]:
        """Return means by name (metres, nats or shares of samples). <rule>_both: share of samples whose
        candidates do not all score alike; inactive_<rule>: 1.0 where that share is at most 1 -
        INACTIVE_SHARE.
        """
        found = {name: self._sums[name] / max(1, self._counts[name]) for name in self._sums}
        for name in [name for name in found if name.endswith("_both")]:
            found[f"inactive_{name.removesuffix('_both')}"] = float(found[name] < 1.0 - INACTIVE_SHARE)
        found["samples"] = float(self._counts.get("anchor_oracle_m", 0))
        return found

    def _mean(self, name: str, values: Tensor, which: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(values[which].double().sum())
        self._counts[name] = self._counts.get(name, 0) + int(which.sum())


def spread(positions: Tensor) -> Tensor:
    """Return [B] metres, the mean over steps and pairs of candidates [B, K, T, 2] of their distance."""
    count = positions.shape[1]
    by_step = positions.float().transpose(1, 2)
    apart = torch.cdist(by_step, by_step, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.sum(dim=(-2, -1)).mean(dim=1) / max(1, count * (count - 1))
