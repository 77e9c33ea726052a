"""In which order bodies are drawn so that the nearer hides the farther: exact for upright convex prisms.

Two prisms whose depth ranges do not overlap go by depth. Otherwise a plane between them decides: one of the
side planes, or a horizontal one for what hangs over the road. The prism on the eye's side of the plane cannot
be hidden by the other. What remains wrong: prisms that intersect, cycles of three or more, and faces within
one body where its pieces are not separable (a rider's arm and handlebar)."""

from __future__ import annotations

import numpy as np

_TOUCHING_M = 0.05
_NEXT = np.array([1, 2, 3, 0])  # corner after each corner


def draw_order(
    footprints: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    columns: np.ndarray,
    depths: np.ndarray,
    eye: np.ndarray,
) -> np.ndarray:
    """Return the indices of N prisms, first drawn (farthest) first.

    footprints: (N, 4, 2) convex, anticlockwise; low, high: (N,) metres; columns, depths: (N, 2) smallest and
    largest image column and depth along the optical axis; eye: (3,). footprints and eye in the same frame.
    """
    count = len(low)
    order = np.argsort(-(depths[:, 0] + depths[:, 1]), kind="stable")
    if count < 2:
        return order
    meet = (columns[:, None, 0] < columns[None, :, 1]) & (columns[None, :, 0] < columns[:, None, 1])
    behind = depths[:, None, 0] >= depths[None, :, 1]  # [i, j]: i wholly behind j
    before = meet & behind
    unclear = meet & ~behind & ~behind.T
    first, second = np.nonzero(np.triu(unclear, 1))
    if len(first):
        decision = _separated(footprints, low, high, first, second, eye)
        before[first[decision > 0], second[decision > 0]] = True
        before[second[decision < 0], first[decision < 0]] = True
    sorted_before = before[np.ix_(order, order)]
    late, early = np.nonzero(
        np.tril(sorted_before, -1)
    )  # [late] stands after [early] but must be drawn before it
    # Only the stretches between such pairs need sorting anew; overlapping stretches are one.
    stretches: list[list[int]] = []
    for start, end in sorted(zip(early.tolist(), late.tolist(), strict=True)):
        if stretches and start <= stretches[-1][1]:
            stretches[-1][1] = max(stretches[-1][1], end)
        else:
            stretches.append([start, end])
    for start, end in stretches:
        part = slice(start, end + 1)
        order[part] = order[part][_free_first(sorted_before[part, part])]
    return order


def _separated(
    footprints: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    eye: np.ndarray,
) -> np.ndarray:
    """Return (K,) 1 where the first of a pair must be drawn first, -1 where the second, 0 where nothing
    separates them."""
    # Both ways in one batch: the edges of one prism of a pair against the corners of the other.
    own, other = np.concatenate([first, second]), np.concatenate([second, first])
    corners, opposite = footprints[own], footprints[other]
    edges = corners[:, _NEXT] - corners
    normals = np.stack([edges[..., 1], -edges[..., 0]], axis=-1)  # outward
    normals /= np.maximum(np.hypot(normals[..., 0], normals[..., 1]), 1e-9)[..., None]
    planes = (normals * corners).sum(axis=2)
    # Distance beyond each edge of the other's nearest corner, and of the eye.
    beyond = (normals @ opposite.transpose(0, 2, 1)).min(axis=2) - planes
    side = np.where(beyond >= -_TOUCHING_M, normals @ eye[:2] - planes, 0.0)
    strongest = np.abs(side).argmax(axis=1)
    value = side[np.arange(len(own)), strongest].reshape(2, -1)
    # The eye on the other's side of the edge: this prism cannot hide the other, so it is drawn first.
    decision = np.sign(np.where(value[0] != 0.0, value[0], -value[1])).astype(np.int64)
    over = low[first] >= high[second] - _TOUCHING_M  # the first hangs over the second
    under = low[second] >= high[first] - _TOUCHING_M
    # An eye below the upper one sees the lower one before it.
    decision[over] = np.where(eye[2] < low[first[over]], 1, -1)
    decision[under] = np.where(eye[2] < low[second[under]], -1, 1)
    return decision


def _free_first(before: np.ndarray) -> np.ndarray:
    """Return an order of the given ones that respects ``before`` [i, j]; of those that are free the first
    goes first."""
    count = len(before)
    followers = [np.flatnonzero(row).tolist() for row in before]
    waiting = before.sum(axis=0).tolist()
    left = list(range(count))
    result = []
    while left:
        # In a cycle nobody is free: of those with the fewest before them the farthest goes.
        index = min(left, key=lambda i: (waiting[i], i))
        left.remove(index)
        result.append(index)
        for follower in followers[index]:
            waiting[follower] -= 1
    return np.array(result)
