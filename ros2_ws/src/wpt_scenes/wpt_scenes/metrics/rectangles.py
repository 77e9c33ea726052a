"""Exact overlap of oriented rectangles on the ground, many pairs at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class EgoFootprint:
    """The ego seen from above: length and width in metres, its centre that far ahead of base_link.

    The default is nuScenes' Renault Zoe as all public planning metrics draw it (4.084 x 1.85 m), with the centre
    0.5 m ahead of LIDAR_TOP (ST-P3, UniAD, VAD) and LIDAR_TOP 0.985793 m ahead of the rear axle, the figure that
    BEV-Planner writes (mounts in the data: 0.94 to 0.99 m).
    """

    length_m: float = 4.084
    width_m: float = 1.85
    centre_ahead_m: float = 0.5 + 0.985793

    @property
    def half_size(self) -> np.ndarray:
        """(2,) half length and half width."""
        return np.array([self.length_m, self.width_m]) / 2.0


def corners(centre: np.ndarray, heading: np.ndarray, half_size: np.ndarray) -> np.ndarray:
    """Return the (..., 4, 2) corners, in order around the rectangle, starting front left.

    centre: (..., 2) m. heading: (...) rad of the length axis. half_size: (..., 2) half length, half width.
    """
    cosine, sine = np.cos(heading), np.sin(heading)
    forward = np.stack([cosine, sine], axis=-1) * half_size[..., :1]
    left = np.stack([-sine, cosine], axis=-1) * half_size[..., 1:]
    return np.stack(
        [centre + forward + left, centre - forward + left, centre - forward - left, centre + forward - left],
        axis=-2,
    )


def overlap(
    first_centre: np.ndarray,
    first_heading: np.ndarray,
    first_half: np.ndarray,
    second_centre: np.ndarray,
    second_heading: np.ndarray,
    second_half: np.ndarray,
) -> np.ndarray:
    """Return whether each pair of rectangles shares at least one point (touching counts); all arguments broadcast.

    Separating axis test: two rectangles are apart exactly when one of the four edge directions separates them.
    """
    between = second_centre - first_centre
    result = True
    turn = second_heading - first_heading
    across_cos, across_sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    for heading, own, other in (
        (first_heading, first_half, second_half),
        (second_heading, second_half, first_half),
    ):
        cosine, sine = np.cos(heading), np.sin(heading)
        along = np.abs(between[..., 0] * cosine + between[..., 1] * sine)
        aside = np.abs(-between[..., 0] * sine + between[..., 1] * cosine)
        reach_along = own[..., 0] + other[..., 0] * across_cos + other[..., 1] * across_sin
        reach_aside = own[..., 1] + other[..., 0] * across_sin + other[..., 1] * across_cos
        result = result & (along <= reach_along) & (aside <= reach_aside)
    return np.asarray(result)
