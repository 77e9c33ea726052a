"""How well a probability tells what happens: area under the ROC curve and calibration. Pure functions of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BINS = 10  # of equal width, for the expected calibration error


def average_ranks(values: Tensor) -> Tensor:
    """Return [N] float64 ranks 1 to N of values [N]; equal ones share their mean rank."""
    _, places, counts = torch.unique(values.double(), return_inverse=True, return_counts=True)
    return (counts.cumsum(0).double() - 0.5 * (counts.double() - 1.0))[places]


def auroc(score: Tensor, positive: Tensor) -> float | None:
    """Return the area under the ROC curve (chance that a positive scores above a negative; ties count half), or None
    where one of the two never occurs.

    score: [N]; positive: [N] bool.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return None
    rank = average_ranks(score)
    return float((rank[positive].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def auroc_within(score: Tensor, positive: Tensor) -> tuple[float | None, int]:
    """Return the mean over rows of the rows' own AUROC, and how many rows have one (both kinds occur in it).

    score: [N, K]; positive: [N, K] bool. What decides a choice among K candidates is the order inside a row; the
    pooled AUROC also rewards telling hard rows from easy ones.
    """
    score = score.double()
    above = (score.unsqueeze(2) > score.unsqueeze(1)).double() + 0.5 * (score.unsqueeze(2) == score.unsqueeze(1)).double()
    pair = (positive.unsqueeze(2) & ~positive.unsqueeze(1)).double()  # [N, positive k, negative l]
    pairs = pair.sum(dim=(1, 2))
    both = pairs > 0
    if not bool(both.any()):
        return None, 0
    return float(((above * pair).sum(dim=(1, 2))[both] / pairs[both]).mean()), int(both.sum())


def reliability(probability: Tensor, truth: Tensor, bins: int = BINS) -> dict[str, Any]:
    """Return the expected calibration error and the bins it is made of, JSON-ready.

    probability: [N] in [0, 1]; truth: [N] in [0, 1], 0 or 1 or the value that is to be met. The error is the mean over all
    of |mean truth - mean probability| of their bin. Bins are [i / bins, (i + 1) / bins), the last one closed; empty ones
    have None. Without values the error is None.
    """
    probability, truth = probability.double().flatten(), truth.double().flatten()
    place = (probability * bins).long().clamp(0, bins - 1)
    counts = torch.bincount(place, minlength=bins)
    said = torch.bincount(place, weights=probability, minlength=bins)
    happened = torch.bincount(place, weights=truth, minlength=bins)
    error = None if len(probability) == 0 else float((happened - said).abs().sum() / len(probability))
    table = []
    for index, count in enumerate(counts.tolist()):
        table.append(
            {
                "from": index / bins,
                "to": (index + 1) / bins,
                "count": count,
                "predicted": float(said[index] / count) if count else None,
                "observed": float(happened[index] / count) if count else None,
            }
        )
    return {"ece": error, "bins": table}


def head_figures(probability: Tensor, truth: Tensor) -> dict[str, Any]:
    """Return all figures of one head, JSON-ready. probability, truth: [N, K] (K = 1 for one plan a sample).

    truth: the rule's value in [0, 1]; above one half counts as passed where a yes or no is needed. auroc_within is None for
    K = 1. base_rate: mean truth; predicted: mean probability.
    """
    passed = truth > 0.5
    within, rows = auroc_within(probability, passed) if probability.shape[1] > 1 else (None, 0)
    count = probability.numel()
    return {
        "count": count,
        "base_rate": float(truth.double().mean()) if count else None,
        "predicted": float(probability.double().mean()) if count else None,
        "auroc": auroc(probability.flatten(), passed.flatten()),
        "auroc_within": within,
        "rows_within": rows,
        **reliability(probability, truth),
    }


def spearman(first: Tensor, second: Tensor) -> float | None:
    """Return Spearman's rank correlation of two [N] (Pearson's of the mean ranks), or None where one of them is constant."""
    one, two = (average_ranks(values) for values in (first, second))
    one, two = one - one.mean(), two - two.mean()
    scale = float(torch.linalg.vector_norm(one) * torch.linalg.vector_norm(two))
    return None if scale == 0.0 else float((one * two).sum()) / scale
