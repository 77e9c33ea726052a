"""Contacts of the footprint with occupied cells, and whose fault they are: rules NC and TTC.

Occupancy has no instances, so fault is read from where the footprint is touched. A contact is a follower's,
and no fault of the ego, when all of this holds:

1. the ego does not reverse;
2. the front quarter of the footprint is free;
3. in one of the footprint's middle columns (half a metre to each side of the axis) the rear edge is touched
   and the 1.5 m behind it are occupied without a gap: the actor lies along the ego's axis and reaches out
   behind it, which an actor that crosses behind the ego, or one half beside it, does not;
4. (NC) the footprint half-way between the step before and this one was free at the step before: the ego did
   not drive through the actor within one step.

While a follower's contact lasts, the recorded actor drives on through an ego that it does not know of; the
following steps are excused too until one is free. A two-wheeler is too short for 3 unless the contact is
slight. Points off the grid are free.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint

from wpt_training.reward.footprint import DT_S, Poses, footprint_axes, grid_of_points, looked_up, placed

STANDING_SPEED = 0.2  # m/s: slower than this is stopped
FRONT_SHARE = 0.25
BEHIND_M = (0.5, 1.0, 1.5)  # behind the rear edge
MIDDLE_HALF_WIDTH_M = 0.5
TTC_HORIZON_S = 1.0
TTC_STEP_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Touch:
    """[...] bool: any contact, and whether conditions 2 and 3 name a follower."""

    any: Tensor
    from_behind: Tensor


class FootprintProbe:
    """The footprint's points with those behind it, looked up together."""

    def __init__(self, footprint: EgoFootprint, grid: BevGrid, device: torch.device | None = None):
        rows, columns = footprint_axes(footprint, device=device)
        behind = rows[0] - torch.tensor(BEHIND_M, device=device).flip(0)
        self.rows, self.columns, self.grid = rows, columns, grid
        self.behind = len(behind)
        self.points = grid_of_points(torch.cat([behind, rows]), columns)
        front_from = footprint.centre_ahead_m + (0.5 - FRONT_SHARE) * footprint.length_m
        self.is_front = rows >= front_from - 1e-6
        self.is_middle = columns.abs() <= MIDDLE_HALF_WIDTH_M

    def touch(self, occupied: Tensor, frame: Tensor, positions: Tensor, direction: Tensor) -> Touch:
        """occupied: [B, F, X, Y] bool. frame: broadcasts to the poses [B, ...] whose positions are [B, ...,
        2]."""
        points = placed(self.points, positions, direction)
        hit = looked_up(occupied, frame.unsqueeze(-1), points, self.grid, False)
        hit = hit.unflatten(-1, (self.behind + len(self.rows), len(self.columns)))
        body, tail = hit[..., self.behind :, :], hit[..., : self.behind, :]
        front_free = ~body[..., self.is_front, :].flatten(-2).any(-1)
        along_axis = (tail.all(-2) & body[..., 0, :])[..., self.is_middle].any(-1)
        return Touch(any=body.flatten(-2).any(-1), from_behind=front_free & along_axis)


def last_known_frames(future_valid: Tensor) -> Tensor:
    """Return [B, 1 + T] int64: for each frame itself where it is known, else the last known one before it."""
    batch, steps = future_valid.shape
    number = torch.arange(1, steps + 1, device=future_valid.device) * future_valid
    return torch.cat([number.new_zeros(batch, 1), number], dim=1).cummax(dim=1).values


@dataclass(frozen=True, kw_only=True)
class StepContacts:
    """[B, K, T] bool: contacts that are the ego's fault, and steps in which a follower is in contact."""

    fault: Tensor
    follower: Tensor


def step_contacts(
    probe: FootprintProbe, occupied: Tensor, future_valid: Tensor, poses: Poses
) -> StepContacts:
    """Judge the arrival at every step. Steps that are not valid are neither (they end a follower's
    contact)."""
    steps = future_valid.shape[1]
    frame = torch.arange(1, steps + 1, device=occupied.device).expand(1, 1, steps)
    touch = probe.touch(occupied, frame, poses.positions, poses.direction)
    # Condition 4, with the heading of the step's end: the body turns little in half a step.
    before = torch.cat([torch.zeros_like(poses.positions[..., :1, :]), poses.positions[..., :-1, :]], dim=-2)
    earlier = last_known_frames(future_valid)[:, None, :-1]
    half_way = probe.touch(occupied, earlier, 0.5 * (before + poses.positions), poses.direction).any
    valid = future_valid.unsqueeze(1)
    contact = touch.any & valid
    excusable = contact & touch.from_behind & ~half_way & (poses.speed > -STANDING_SPEED)
    follower = _while_it_lasts(contact, excusable)
    return StepContacts(fault=contact & ~follower, follower=follower)


def _while_it_lasts(contact: Tensor, excusable: Tensor) -> Tensor:
    """[..., T]: contacts that are excused, or follow an excused one without a break."""
    excused = torch.zeros_like(contact[..., 0])
    found = []
    for step in range(contact.shape[-1]):
        excused = contact[..., step] & (excusable[..., step] | excused)
        found.append(excused)
    return torch.stack(found, dim=-1)


def no_collision(contacts: StepContacts) -> Tensor:
    """NC [B, K]: 1 where no step has a contact that is the ego's fault."""
    return (~contacts.fault.any(-1)).float()


def time_to_collision(
    probe: FootprintProbe, occupied: Tensor, future_valid: Tensor, poses: Poses, contacts: StepContacts
) -> Tensor:
    """TTC [B, K]: 1 where from no step the ego, going on straight at its own speed for 1 s, is at fault in a
    contact.

    Every 0.25 s is looked at against the occupancy of the next future step (0.25 s after step t: that of t +
    1); beyond the last known step that one stays. A stopped ego passes; so does a step in which a follower is
    in contact already. That the last frame stays, while those in it would drive on, makes the last two steps
    stricter than the others.
    """
    steps = future_valid.shape[1]
    seconds = torch.arange(1, round(TTC_HORIZON_S / TTC_STEP_S) + 1, device=occupied.device) * TTC_STEP_S
    travelled = (poses.speed.unsqueeze(-1) * seconds).unsqueeze(-1)
    positions = poses.positions.unsqueeze(-2) + travelled * poses.direction.unsqueeze(-2)
    direction = poses.direction.unsqueeze(-2).expand_as(positions)
    later = torch.ceil(seconds / DT_S - 1e-6).to(torch.int64)
    wanted = torch.arange(1, steps + 1, device=occupied.device).unsqueeze(-1) + later
    frame = last_known_frames(future_valid)[:, wanted.clamp(max=steps)].unsqueeze(1)
    touch = probe.touch(occupied, frame, positions, direction)
    follower = _while_it_lasts(touch.any, touch.any & touch.from_behind)
    fault = (touch.any & ~follower).any(-1)
    judged = future_valid.unsqueeze(1) & (poses.speed.abs() >= STANDING_SPEED) & ~contacts.follower
    return (~(fault & judged).any(-1)).float()
