"""Physically sampled trajectories, as ST-P3 and Drive-OccWorld draw them: the reference teacher's anchors.

Shape letters: B samples, N trajectories drawn, T steps. A trajectory is a speed profile along a straight
line, a circle or a clothoid from (0, 0) with heading +x.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SPEED_MPS = (0.0, 15.0)
ACCELERATION_MPS2 = (-3.0, 7.0)
# Shares of straight lines and circles; the rest are clothoids.
STRAIGHT_SHARE, CIRCLE_SHARE = 0.2, 0.16
# Clothoid parameter A (m): the curvature after s metres is s / A^2.
CLOTHOID_SCALE_M = (6.0, 80.0)
# Circles of a teacher that may not read the ego's yaw rate: up to a radius of 10 m.
LARGEST_CURVATURE = 0.1
# With a known speed this share of trajectories starts with it.
KNOWN_SPEED_SHARE = 0.2
SUBSTEPS = 5  # of the integration, in a step


@dataclass(frozen=True, kw_only=True)
class SampledTrajectories:
    """positions: [B, N, T, 2] metres; headings: [B, N, T] rad, at the end of each step; speeds: [B, N, T] m/s
    in it.
    """

    positions: Tensor
    headings: Tensor
    speeds: Tensor


def sample_trajectories(
    batch: int,
    count: int,
    steps: int,
    step_s: float,
    *,
    motion: Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> SampledTrajectories:
    """Draw ``count`` trajectories for each sample, sorted by their final y, from left to right.

    motion: [B, 4] as in data.batch.Batch; where given, a fifth starts with the ego's speed and the circles
    have its curvature. generator: on the CPU, so that draws do not depend on the device; None uses torch's
    own.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, count, generator=generator)

    speed = uniform(*SPEED_MPS)
    with_known_speed = uniform(0.0, 1.0) < KNOWN_SPEED_SHARE
    acceleration = uniform(*ACCELERATION_MPS2)
    kind = uniform(0.0, 1.0)
    side = torch.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0)
    scale = uniform(*CLOTHOID_SCALE_M)
    curvature = uniform(0.0, LARGEST_CURVATURE) * side
    if motion is not None:
        now = motion.detach().float().cpu()
        speed = torch.where(with_known_speed, now[:, :1].clamp(min=0.0).expand_as(speed), speed)
        curvature = (now[:, 2:3] / now[:, :1].clamp(min=1.0)).expand_as(speed)

    time = torch.arange(1, steps * SUBSTEPS + 1) * (step_s / SUBSTEPS)
    until_stop = torch.where(
        acceleration < 0, -speed / acceleration.clamp(max=-1e-6), torch.full_like(speed, 1e6)
    )
    moving = torch.minimum(time, until_stop.unsqueeze(-1))
    length = speed.unsqueeze(-1) * moving + 0.5 * acceleration.unsqueeze(-1) * moving.square()
    is_circle = ((kind >= STRAIGHT_SHARE) & (kind < STRAIGHT_SHARE + CIRCLE_SHARE)).unsqueeze(-1)
    is_clothoid = (kind >= STRAIGHT_SHARE + CIRCLE_SHARE).unsqueeze(-1)
    bend = 0.5 * (length / scale.unsqueeze(-1)).square() * side.unsqueeze(-1)
    heading = torch.where(
        is_clothoid, bend, torch.where(is_circle, curvature.unsqueeze(-1) * length, 0.0 * length)
    )

    moved = torch.diff(length, dim=-1, prepend=torch.zeros_like(length[..., :1]))
    middle = 0.5 * (heading + torch.cat([torch.zeros_like(heading[..., :1]), heading[..., :-1]], dim=-1))
    fine = torch.stack([moved * middle.cos(), moved * middle.sin()], dim=-1).cumsum(dim=-2)
    positions = fine[..., SUBSTEPS - 1 :: SUBSTEPS, :]
    order = positions[..., -1, 1].argsort(dim=1, descending=True, stable=True)
    headings = heading[..., SUBSTEPS - 1 :: SUBSTEPS]
    reached = length[..., SUBSTEPS - 1 :: SUBSTEPS]
    speeds = torch.diff(reached, dim=-1, prepend=torch.zeros_like(reached[..., :1])) / step_s

    def sorted_(values: Tensor) -> Tensor:
        index = order.reshape(*order.shape, *[1] * (values.dim() - 2)).expand_as(values)
        return values.gather(1, index).to(device)

    return SampledTrajectories(
        positions=sorted_(positions), headings=sorted_(headings), speeds=sorted_(speeds)
    )


def of_third(trajectories: SampledTrajectories, third: Tensor) -> SampledTrajectories:
    """Return one third of the trajectories for each sample. third: [B] 0 left, 1 middle, 2 right."""
    count = trajectories.positions.shape[1] // 3
    index = third.unsqueeze(1) * count + torch.arange(count, device=third.device)
    samples = torch.arange(len(third), device=third.device).unsqueeze(1)
    return SampledTrajectories(
        positions=trajectories.positions[samples, index],
        headings=trajectories.headings[samples, index],
        speeds=trajectories.speeds[samples, index],
    )
