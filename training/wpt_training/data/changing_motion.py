"""Which samples are seen more often: those in which the ego does not simply go on as it moves.

A policy that can tell its own speed from two views learns first to go on with it, and one that stands then stands for
ever. Samples that this shortcut explains badly weigh more (keyframe-focused imitation: Wen et al., arXiv 2106.06452).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wpt_training.configuration import EmphasisConfig
from wpt_training.data.sample_cache import SampleCache

# Added to the speed (m/s) that the shortcut's error is related to, so that slow samples do not always count as changing.
_SLOW = 2.0
STANDING = 1.0  # m/s


def emphasised_rows(cache: SampleCache, rows: Tensor, emphasis: EmphasisConfig, step_s: float) -> Tensor:
    """Return the rows, those of changing motion several times (EmphasisConfig); the order follows from rows alone."""
    changing = changes_of(cache, rows, step_s) > emphasis.changing_from
    starts = changing & (cache.field("motion", rows)[:, 0] < STANDING)
    others = torch.from_numpy(changing & ~starts)
    starting = torch.from_numpy(starts)
    return torch.cat(
        [rows, *[rows[others]] * (emphasis.changing - 1), *[rows[starting]] * (emphasis.starting - 1)]
    )


def changes_of(cache: SampleCache, rows: Tensor, step_s: float) -> np.ndarray:
    """Return (n,) how far, on average over the valid steps (m), the true path's length is from the present speed times the
    time, over the speed plus 2 m/s.
    """
    future = cache.field("future", rows)[..., :2].astype(np.float64)
    valid = cache.field("future_valid", rows).astype(bool)
    speed = np.maximum(cache.field("motion", rows)[:, :1].astype(np.float64), 0.0)
    points = np.concatenate([np.zeros((len(future), 1, 2)), future], axis=1)
    travelled = np.linalg.norm(np.diff(points, axis=1), axis=-1).cumsum(axis=1)
    copied = speed * step_s * np.arange(1, future.shape[1] + 1)
    error = (np.abs(travelled - copied) * valid).sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
    return error / (speed[:, 0] + _SLOW)
