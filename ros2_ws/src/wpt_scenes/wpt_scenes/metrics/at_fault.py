"""Collisions that the ego is to blame for: this suite's primary collision metric.

Exact rectangles as in exact_metrics, every ``vehicle.*`` and ``human.*`` of each future step, and a verdict on each
actor's first contact. Which contacts are nobody's or the other's fault follows the collision types that nuPlan's
metric "no ego at-fault collisions" distinguishes and NAVSIM's "no at-fault collisions" takes over (Karnchanachari et
al., "Towards learning-based planning: The nuPlan benchmark", and Dauner et al., "NAVSIM: Data-driven non-reactive
autonomous vehicle simulation"), restated in AT_FAULT_RULE. They also forgive a touch of the flank while the ego is in
one lane and on the road; that needs lanes, which not every data set has, so a flank counts here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wpt_policy.plan import STANDSTILL_CHORD_M
from wpt_scenes.metrics import obstacles
from wpt_scenes.metrics.exact_metrics import near_obstacles
from wpt_scenes.metrics.obstacles import Obstacles
from wpt_scenes.metrics.paths import Paths
from wpt_scenes.metrics.rectangles import EgoFootprint, overlap
from wpt_scenes.metrics.scene_record import SceneRecord
from wpt_scenes.truth import NUM_STEPS

AT_FAULT_RULE = (
    "The first instant at which the turned footprint meets an actor is judged, and the verdict stands for all later "
    "contacts with it. No fault: the plan stands (it advances less than 0.1 m in the step, 0.2 m/s), or it does not go "
    "backwards and the actor's centre lies within 30 degrees of straight behind base_link. Everything else is at fault."
)
# nuPlan counts an actor as behind where it lies more than 150 degrees off the heading, seen from the rear axle.
BEHIND_RAD = math.radians(150.0)
# nuPlan calls 0.05 m/s a standstill of a simulated ego; a learned plan creeps by centimetres and has no heading of its
# own below the chord of the plan rule (0.1 m in 0.5 s).
STANDING_M = STANDSTILL_CHORD_M
# Between two steps ego and actor are moved along straight lines in this many parts; at 30 m/s they approach by 1.5 m
# in each.
PARTS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Actors:
    """Road users of N samples now and at six steps, in base_link of each keyframe. earlier: (Q,) index into ``before``
    of the same actor one step earlier, -1 where it is not known there; ``before`` holds the present and all steps.

    actor: (Q,) number of the actor within its scene, one number for its whole life.
    """

    found: Obstacles
    actor: np.ndarray
    before: Obstacles
    earlier: np.ndarray


def actors_of(
    record: SceneRecord, keyframes: np.ndarray, reference_stamps_ns: np.ndarray | None = None
) -> Actors:
    """Return the road users around (N,) keyframes, at the following keyframes or, given stamps, 0.5 s ... after them."""
    if reference_stamps_ns is None:
        found = obstacles.road_users(record, keyframes)
    else:
        found = obstacles.road_users_timed(record, keyframes, reference_stamps_ns)
    now = obstacles.road_users_now(record, keyframes)
    # One number for (sample, step, actor), the present being step 0.
    steps, actors = NUM_STEPS + 1, int(record.instance.max(initial=0)) + 1

    def key(owner: np.ndarray, actor: np.ndarray) -> np.ndarray:
        return (owner // NUM_STEPS * steps + owner % NUM_STEPS) * actors + actor

    actor = record.instance[found.row]
    keys = np.concatenate(
        [
            key(now.owner * NUM_STEPS, record.instance[now.row]),
            key(found.owner, actor) + actors,  # a step later than `key` says: its first step is the present
        ]
    )
    order = np.argsort(keys, kind="stable")
    wanted = key(found.owner, actor)
    place = np.minimum(np.searchsorted(keys, wanted, sorter=order), max(len(keys) - 1, 0))
    match = order[place] if len(keys) else np.zeros(0, dtype=np.int64)
    earlier = np.where(keys[match] == wanted, match, -1) if len(keys) else match
    return Actors(found=found, actor=actor, before=obstacles.joined([now, found]), earlier=earlier)


def at_fault_hits(
    actors: Actors, paths: Paths, advances_m: np.ndarray, footprint: EgoFootprint
) -> np.ndarray:
    """Return (N, D, 6) bool: contacts of N samples' paths (N, D, 6, ...) with an actor whose first contact is at fault.

    advances_m: (N, D, 6) signed length of each step along its heading (see advances); it may be another path's than
    ``paths``: jitter moves the ego and does not change whether it stands.
    """
    count, draws, _ = paths.headings.shape
    result = np.zeros((count, draws, NUM_STEPS), dtype=bool)
    found = actors.found
    pose = np.concatenate([np.nan_to_num(paths.ego), np.nan_to_num(paths.headings)[..., None]], axis=-1)
    centre = pose[..., :2] + _ahead(pose[..., 2], footprint)
    near = near_obstacles(found, centre, footprint.half_size)
    sample, step = found.owner[near] // NUM_STEPS, found.owner[near] % NUM_STEPS
    meets = overlap(
        centre[sample, :, step],
        pose[sample, :, step, 2],
        footprint.half_size,
        found.centre[near, None],
        found.heading[near, None],
        found.half_size[near, None],
    )
    pair, draw = np.nonzero(meets)
    if not len(pair):
        return result
    row, sample, step = near[pair], sample[pair], step[pair]
    # One group for each (sample, draw, actor); its earliest step is judged.
    group_key = (sample * draws + draw) * (int(actors.actor.max()) + 1) + actors.actor[row]
    order = np.lexsort((step, group_key))
    _, first, group = np.unique(group_key[order], return_index=True, return_inverse=True)
    judged = order[first]
    fault = _at_fault(
        actors, row[judged], pose[sample[judged], draw[judged]], step[judged],
        advances_m[sample[judged], draw[judged], step[judged]], footprint,
    )  # fmt: skip
    blamed = fault[group]
    contact = order[blamed]
    result[sample[contact], draw[contact], step[contact]] = True
    return result


def advances(paths: Paths) -> np.ndarray:
    """Return (..., 6) metres that each step goes along the heading at its end; negative when it goes backwards."""
    ego = np.nan_to_num(paths.ego)
    moved = np.diff(np.concatenate([np.zeros_like(ego[..., :1, :]), ego], axis=-2), axis=-2)
    along = moved[..., 0] * np.cos(paths.headings) + moved[..., 1] * np.sin(paths.headings)
    return np.copysign(np.hypot(moved[..., 0], moved[..., 1]), along)


def _at_fault(
    actors: Actors,
    row: np.ndarray,
    pose: np.ndarray,
    step: np.ndarray,
    advance_m: np.ndarray,
    footprint: EgoFootprint,
) -> np.ndarray:
    """Judge G first contacts. row: (G,) into actors.found. pose: (G, 6, 3) whole paths. step, advance_m: (G,)."""
    each = np.arange(len(row))
    end = pose[each, step]
    begin = np.where((step > 0)[:, None], pose[each, np.maximum(step - 1, 0)], 0.0)
    found, known = actors.found, actors.earlier[row] >= 0
    earlier = np.maximum(actors.earlier[row], 0)
    their_end, their_heading = found.centre[row], found.heading[row]
    their_begin = actors.before.centre[earlier]
    share = np.linspace(0.0, 1.0, PARTS + 1)[:, None]
    # Where the actor is not known a step earlier, the end of the step alone is judged.
    share = np.where(known, share, 1.0)
    ego = begin + share[..., None] * _turned(end - begin)
    there = their_begin + share[..., None] * (their_end - their_begin)
    turn = np.remainder(their_heading - actors.before.heading[earlier] + np.pi, 2 * np.pi) - np.pi
    heading = their_heading - (1.0 - share) * turn
    meets = overlap(
        ego[..., :2] + _ahead(ego[..., 2], footprint),
        ego[..., 2],
        footprint.half_size,
        there,
        heading,
        found.half_size[row],
    )
    meets[-1] = True  # the contact at the step itself, whatever rounding says
    instant = meets.argmax(axis=0)
    ego, there = ego[instant, each], there[instant, each]
    between = there - ego[:, :2]
    bearing = np.arctan2(between[:, 1], between[:, 0]) - ego[:, 2]
    behind = np.cos(bearing) < math.cos(BEHIND_RAD)
    stands = np.abs(advance_m) < STANDING_M
    return ~(stands | (behind & (advance_m >= 0.0)))


def _turned(difference: np.ndarray) -> np.ndarray:
    """(..., 3) x, y, heading differences with the heading brought into +-pi."""
    result = difference.copy()
    result[..., 2] = np.remainder(result[..., 2] + np.pi, 2 * np.pi) - np.pi
    return result


def _ahead(heading: np.ndarray, footprint: EgoFootprint) -> np.ndarray:
    return np.stack([np.cos(heading), np.sin(heading)], axis=-1) * footprint.centre_ahead_m
