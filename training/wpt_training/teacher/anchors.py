"""Anchors: for each command K whole trajectories that the compact teacher refines and scores.

K - 4 are cluster centres of the training futures. Clusters are found under the distance that judges them, the
mean over steps of the Euclidean distance, so a centre is the geometric median of its members step by step
(Weiszfeld's iteration) and not their mean: squared distances would spend the centres on the few fast drives.
Four are made by hand: standstill, a hard brake and the median future moved sideways by 3 m to the left and to
the right, which are rare or missing in good driving but are what a planner must be able to choose, and what a
reward must be able to reject.

Positions are in base_link at the present, metres; the ego stands at (0, 0) heading +x at time 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wpt_training.errors import TrainingError

HAND_MADE = 4  # stop, hard brake, left, right: the last four of each command, in this order
STOP, HARD_BRAKE, LEFT, RIGHT = range(-HAND_MADE, 0)
BRAKE_MPS2 = 4.0  # NAVSIM's comfort limit is 4.05 m/s2
LATERAL_M = 3.0  # about one lane
# A command with fewer futures than this borrows from all commands what it lacks.
LEAST_FUTURES = 200
# A future that ends nearer than this to its start is one of standing still, which the stop anchor stands for.
STANDSTILL_M = 0.5
# More futures than this are thinned out by chance (the clusters do not change beyond their noise).
MOST_FUTURES = 40_000
RESTARTS = 4
ITERATIONS = 60
MEDIAN_STEPS = 2
SMALLEST_DISTANCE_M = 1e-3  # in Weiszfeld's weights


def mean_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return [n, K], the mean over steps of the distance of trajectories [n, T, 2] and [K, T, 2], metres."""
    return torch.stack(
        [torch.cdist(first[:, step], second[:, step], compute_mode="donot_use_mm_for_euclid_dist")
         for step in range(first.shape[1])]
    ).mean(dim=0)  # fmt: skip


def _started(futures: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return [count, T, 2] futures chosen one by one with chances that rise with the distance to those
    chosen.
    """
    chosen = torch.randint(len(futures), (1,), generator=generator)
    nearest = mean_distance(futures, futures[chosen])[:, 0]
    for _ in range(count - 1):
        total = float(nearest.sum())
        chances = nearest if total > 0.0 else torch.ones_like(nearest)
        pick = torch.multinomial(chances, 1, generator=generator)
        chosen = torch.cat([chosen, pick])
        nearest = torch.minimum(nearest, mean_distance(futures, futures[pick])[:, 0])
    return futures[chosen].clone()


def _medians(futures: Tensor, label: Tensor, centres: Tensor) -> Tensor:
    """One Weiszfeld step: each centre moves towards the geometric median of its members, step by step."""
    weight = 1.0 / (futures - centres[label]).norm(dim=-1, keepdim=True).clamp(min=SMALLEST_DISTANCE_M)
    total = torch.zeros(*centres.shape[:2], 1, dtype=futures.dtype).index_add_(0, label, weight)
    moved = torch.zeros_like(centres).index_add_(0, label, weight * futures)
    return torch.where(total > 0, moved / total.clamp(min=torch.finfo(total.dtype).tiny), centres)


def cluster(futures: Tensor, count: int, seed: int) -> Tensor:
    """Return [count, T, 2] float64 centres of futures [n, T, 2], sorted by how far they go; the same for a
    seed.

    Lloyd's algorithm under mean_distance from several k-means++ starts; the best of them counts. An empty
    cluster takes the future that lies farthest from its centre.
    """
    if len(futures) < 1 or count < 1:
        raise TrainingError(
            f"{len(futures)} futures and {count} clusters are given, expected one at least of both; "
            "give more training samples."
        )
    generator = torch.Generator().manual_seed(seed)
    futures = futures.double()
    if len(futures) > MOST_FUTURES:
        futures = futures[torch.randperm(len(futures), generator=generator)[:MOST_FUTURES]]
    best, least = None, float("inf")
    for _ in range(RESTARTS):
        centres = _started(futures, count, generator)
        previous = None
        for _ in range(ITERATIONS):
            distance, label = mean_distance(futures, centres).min(dim=1)
            empty = torch.bincount(label, minlength=count) == 0
            if empty.any():
                farthest = distance.topk(min(int(empty.sum()), len(futures))).indices
                centres[empty.nonzero()[: len(farthest), 0]] = futures[farthest]
                distance, label = mean_distance(futures, centres).min(dim=1)
            if previous is not None and torch.equal(label, previous):
                break
            previous = label
            for _ in range(MEDIAN_STEPS):
                centres = _medians(futures, label, centres)
        cost = float(mean_distance(futures, centres).min(dim=1).values.mean())
        if cost < least:
            best, least = centres, cost
    order = best[:, -1].norm(dim=-1).argsort(stable=True)
    return best[order]


def median_future(futures: Tensor) -> Tensor:
    """Return [T, 2], the future nearest to the medians of all coordinates: one that was really driven."""
    middle = futures.median(dim=0).values
    return futures[mean_distance(futures, middle[None])[:, 0].argmin()]


def along(path: Tensor, distance: Tensor) -> Tensor:
    """Return [n, 2], the points at these distances [n] (m) along the path (0, 0), path [T, 2]; straight on
    after it.
    """
    points = torch.cat([path.new_zeros(1, 2), path])
    lengths = (points[1:] - points[:-1]).norm(dim=-1)
    at = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    piece = (torch.searchsorted(at, distance, right=True) - 1).clamp(0, len(lengths) - 1)
    share = (distance - at[piece]) / lengths[piece].clamp(min=1e-9)
    return points[piece] + share[:, None] * (points[piece + 1] - points[piece])


def hard_brake(path: Tensor, step_s: float) -> Tensor:
    """Return [T, 2]: the path [T, 2] driven from its first step's speed with BRAKE_MPS2 down to standstill."""
    speed = path[0].norm() / step_s
    time = torch.arange(1, len(path) + 1, dtype=path.dtype) * step_s
    braking = torch.minimum(time, speed / BRAKE_MPS2)
    return along(path, speed * braking - 0.5 * BRAKE_MPS2 * braking.square())


def moved_sideways(path: Tensor, offset_m: float) -> Tensor:
    """Return [T, 2]: the path moved to its left by offset_m (negative: right), eased in from 0 at time 0."""
    points = torch.cat([path.new_zeros(1, 2), path])
    direction = points[1:] - points[:-1]
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    left = torch.stack([-direction[:, 1], direction[:, 0]], dim=-1)
    share = torch.arange(1, len(path) + 1, dtype=path.dtype) / len(path)
    eased = share.square() * (3.0 - 2.0 * share)  # no sideways speed at both ends
    return path + offset_m * eased[:, None] * left


def make_anchors(
    futures: Tensor,
    commands: Tensor,
    k: int,
    seed: int,
    *,
    command_count: int | None = None,
    step_s: float = 0.5,
    least: int = LEAST_FUTURES,
) -> Tensor:
    """Return anchors [commands, K, T, 2] float32 from the training futures; the same for the same seed.

    futures: [n, T, 2] complete ones only; commands: [n] int64, of each future. command_count: how many
    commands the policy has (default: the largest that occurs and those below). A command with fewer than
    ``least`` futures is filled up with futures of the others, drawn by chance. Raises TrainingError for
    futures that are not finite, for none that moves and for a k below 5.
    """
    if k <= HAND_MADE:
        raise TrainingError(
            f"{k} candidates are asked for, expected {HAND_MADE + 1} at least; raise teacher.candidates."
        )
    if futures.ndim != 3 or futures.shape[-1] != 2 or not bool(torch.isfinite(futures).all()):
        raise TrainingError(
            f"futures have the shape {list(futures.shape)} or hold a value that is not finite, "
            "expected [n, T, 2] of complete futures; leave samples with an incomplete future out."
        )
    futures = futures.detach().cpu().double()
    commands = commands.detach().cpu()
    moving = futures[:, -1].norm(dim=-1) >= STANDSTILL_M
    if not bool(moving.any()):
        raise TrainingError(
            f"none of {len(futures)} futures moves {STANDSTILL_M} m, expected drives; "
            "check the training samples."
        )
    count = command_count if command_count is not None else int(commands.max()) + 1
    anchors = []
    for command in range(count):
        own = futures[moving & (commands == command)]
        if len(own) < least:
            others = futures[moving & (commands != command)]
            generator = torch.Generator().manual_seed(seed + command)
            own = torch.cat(
                [own, others[torch.randperm(len(others), generator=generator)[: least - len(own)]]]
            )
        anchors.append(_of_command(own, k, seed + command, step_s))
    return torch.stack(anchors).float()


def _of_command(futures: Tensor, k: int, seed: int, step_s: float) -> Tensor:
    middle = median_future(futures)
    by_hand = [
        torch.zeros_like(middle),
        hard_brake(middle, step_s),
        moved_sideways(middle, LATERAL_M),
        moved_sideways(middle, -LATERAL_M),
    ]
    return torch.cat([cluster(futures, k - HAND_MADE, seed), torch.stack(by_hand)])


def oracle_distance(anchors: Tensor, futures: Tensor, commands: Tensor) -> Tensor:
    """Return [n], the mean distance (m) of each complete future [n, T, 2] to the best anchor of its command
    [n].
    """
    own = anchors.to(futures.dtype)[commands]
    return (own - futures[:, None]).norm(dim=-1).mean(dim=-1).min(dim=-1).values
