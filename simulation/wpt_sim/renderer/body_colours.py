"""Colours of road users; which of them one has is drawn from its colour seed."""

from __future__ import annotations

import numpy as np

from wpt_scenes.factory.solids import Colour

PAINTS: tuple[Colour, ...] = (
    (188, 30, 34),
    (34, 74, 150),
    (232, 232, 232),
    (40, 42, 46),
    (150, 156, 164),
    (20, 96, 92),
    (206, 170, 44),
    (104, 42, 62),
    (92, 116, 72),
    (196, 108, 40),
    (86, 128, 176),
    (212, 206, 188),
)
TRUCK_PAINTS: tuple[Colour, ...] = (
    (206, 96, 36),
    (46, 96, 160),
    (60, 122, 76),
    (190, 190, 186),
    (160, 40, 40),
)
BUS_PAINTS: tuple[Colour, ...] = ((214, 176, 40), (184, 44, 40), (44, 128, 112), (60, 88, 168))
CLOTHES: tuple[Colour, ...] = (
    (206, 60, 56),
    (60, 100, 190),
    (232, 200, 60),
    (240, 240, 236),
    (70, 140, 90),
    (150, 80, 160),
    (50, 54, 64),
    (224, 128, 50),
)
TROUSERS: tuple[Colour, ...] = ((44, 50, 80), (60, 58, 56), (96, 86, 70), (36, 38, 42))
SKIN: tuple[Colour, ...] = ((214, 172, 142), (168, 120, 88), (112, 76, 56))
LUGGAGE: tuple[Colour, ...] = (
    (58, 60, 66),
    (170, 48, 40),
    (206, 164, 48),
    (60, 92, 140),
    (86, 98, 62),
    (150, 112, 74),
)

BRAKE_OFF, BRAKE_ON, TAIL_ON = (120, 20, 22), (255, 40, 24), (178, 24, 22)
AMBER_OFF, AMBER_ON = (140, 92, 40), (255, 168, 0)
HEAD_ON: Colour = (255, 252, 226)


def pick(rng: np.random.Generator, choices: tuple[Colour, ...]) -> Colour:
    """Draw one of the colours."""
    return choices[int(rng.integers(len(choices)))]
