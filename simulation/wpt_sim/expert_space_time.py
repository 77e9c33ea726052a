"""Which metres of the expert's path are taken by others, and when: the picture in which it plans its speed.

Rows are prediction.TIMES, columns are path samples (metres ahead). The ego at a sample is three discs along
its body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wpt_sim.expert_path import Path
from wpt_sim.prediction import TIMES
from wpt_sim.vehicles import EGO_WIDTH

DISCS = (0.0, 1.36, 2.72)  # metres of the discs' centres ahead of base_link
CONTACT_MARGIN = 0.2  # metres around the discs: nearer counts as contact
CLEARANCE = 0.55  # metres that are kept where possible
FAR = 1000.0


@dataclass(frozen=True, eq=False)
class OthersMotion:
    """One predicted motion. poses: (T, 3). ahead: metres added before its front, to be kept free (right of
    way).

    aside: metres of clearance kept around it; margin: nearer than that counts as contact.
    """

    poses: np.ndarray
    length: float
    width: float
    ahead: float = 0.0
    aside: float = CLEARANCE
    margin: float = CONTACT_MARGIN


@dataclass(frozen=True, eq=False)
class SpaceTime:
    """contact, close: (T, N) bool. gap: (T, N) metres from a sample to the next contact ahead of it."""

    contact: np.ndarray
    close: np.ndarray
    gap: np.ndarray


class PathDiscs:
    """The ego's discs at every sample of a path."""

    def __init__(self, path: Path):
        c, s = np.cos(path.heading), np.sin(path.heading)
        self.count = len(path.x)
        self.x = np.concatenate([path.x + d * c for d in DISCS]).astype(np.float32)
        self.y = np.concatenate([path.y + d * s for d in DISCS]).astype(np.float32)
        self.middle = (float(np.mean(path.x)), float(np.mean(path.y)))
        self.reach = float(np.hypot(self.x - self.middle[0], self.y - self.middle[1]).max())

    def may_meet(self, motion: OthersMotion) -> bool:
        """A quick look whether the motion comes near the path at all."""
        margin = EGO_WIDTH / 2 + motion.length / 2 + motion.ahead + 1.5
        x, y = motion.poses[::4, 0], motion.poses[::4, 1]
        if np.hypot(x - self.middle[0], y - self.middle[1]).min() > self.reach + margin + 8.0:
            return False
        # Between every fourth pose it moves at most the distance of two neighbours.
        moved = float(np.hypot(np.diff(x), np.diff(y)).max()) if len(x) > 1 else 0.0
        dx, dy = (
            self.x[::2, None] - x[None].astype(np.float32),
            self.y[::2, None] - y[None].astype(np.float32),
        )
        return bool((dx * dx + dy * dy).min() < (margin + 0.5 * moved + 1.0) ** 2)


def space_time(discs: PathDiscs, motions: list[OthersMotion]) -> SpaceTime:
    """All motions' contacts with the path."""
    shape = (len(TIMES), discs.count)
    contact, close = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for motion in motions:
        still = bool((np.abs(motion.poses[-1, :2] - motion.poses[0, :2]) < 0.05).all())
        poses = motion.poses[:1] if still else motion.poses
        touching, near = _meets(discs, motion, poses.astype(np.float32))
        contact |= touching
        close |= near
    # The last seconds are judged every second row only: a row holds what happens until the one before.
    contact[17:] |= contact[16:-1]
    return SpaceTime(contact, close, _gaps(contact))


def _meets(discs: PathDiscs, motion: OthersMotion, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.cos(poses[:, 2])[:, None], np.sin(poses[:, 2])[:, None]
    dx, dy = discs.x[None] - poses[:, :1], discs.y[None] - poses[:, 1:2]
    forward = c * dx + s * dy
    sideways = np.maximum(np.abs(c * dy - s * dx) - motion.width / 2, 0.0)
    lengthways = np.maximum(np.abs(forward) - motion.length / 2, 0.0)
    half = EGO_WIDTH / 2
    touching = lengthways**2 + sideways**2 < (half + motion.margin) ** 2
    if motion.ahead > 0.0:
        lengthways = np.maximum(
            np.maximum(forward - motion.length / 2 - motion.ahead, -forward - motion.length / 2), 0.0
        )
    near = lengthways**2 + sideways**2 < (half + motion.aside) ** 2
    fold = (len(poses), len(DISCS), discs.count)
    return touching.reshape(fold).any(1), near.reshape(fold).any(1)


def _gaps(contact: np.ndarray) -> np.ndarray:
    """Metres to the next contact at or after each sample; FAR without one."""
    count = contact.shape[1]
    place = np.where(contact, np.arange(count, dtype=np.float32)[None], FAR)
    following = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(following - np.arange(count, dtype=np.float32)[None], FAR)


def is_follower(
    actor_x: float,
    actor_y: float,
    actor_yaw: float,
    length: float,
    ego_x: float,
    ego_y: float,
    ego_yaw: float,
) -> bool:
    """Whether a vehicle is behind the ego in its lane: it has to keep its distance, the ego does not look for
    it.
    """
    c, s = math.cos(ego_yaw), math.sin(ego_yaw)
    ahead = c * (actor_x - ego_x) + s * (actor_y - ego_y)
    aside = -s * (actor_x - ego_x) + c * (actor_y - ego_y)
    aligned = abs(math.remainder(actor_yaw - ego_yaw, math.tau)) < 0.8
    return aligned and ahead + length / 2 < -0.4 and abs(aside) < 1.3 + 0.12 * abs(ahead)
