"""Looks: drawn from the seed alone, within bounds, and forced where asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_sim.appearance import LIGHTS, Appearance


@given(st.integers(0, 2**31))
def test_a_seed_always_gives_the_same_sensible_look(seed: int) -> None:
    first, again = Appearance(seed), Appearance(seed)
    for name in ("light", "noise", "haze_m", "ambient", "sun"):
        assert getattr(first, name) == getattr(again, name)
    assert np.array_equal(first.ground_matrix(), again.ground_matrix())
    assert np.linalg.norm(first.sun_direction) == pytest.approx(1.0)
    assert (first.horizon >= 0).all() and (first.horizon <= 255).all()
    colours = first.graded(np.array([[255.0, 255.0, 255.0], [10.0, 20.0, 30.0]]))
    assert colours.shape == (2, 3) and (colours >= 0).all() and (colours < 280).all()
    light = first.light_on(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]))
    assert 0.2 < light[1] <= light[0] < 1.4


def test_every_light_and_noise_occurs_and_most_episodes_are_bright() -> None:
    looks = [Appearance(seed) for seed in range(400)]
    shares = {light: np.mean([look.light == light for look in looks]) for light in LIGHTS}
    assert min(shares.values()) > 0.08 and shares["day"] > 0.4
    assert {look.noise for look in looks} == {0.0, 1.5, 3.0, 6.0}


def test_forcing_one_value_leaves_the_others() -> None:
    free, forced = Appearance(7), Appearance(7, noise=2.5)
    assert (forced.light, forced.haze_m, forced.ambient) == (free.light, free.haze_m, free.ambient)
    assert forced.noise == 2.5


@pytest.mark.parametrize("values", [{"light": "snow"}, {"noise": -1.0}, {"noise": 50.0}])
def test_unknown_values_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        Appearance(0, **values)


def test_noise_has_its_strength_and_its_offset() -> None:
    look = Appearance(3, light="day", noise=3.0)
    pattern = look.sensor_noise(200, 100)
    assert pattern.shape == (100, 200, 3) and pattern.dtype == np.uint8
    assert pattern.std() == pytest.approx(3.0, rel=0.1)
    assert pattern.mean() == pytest.approx(look.noise_offset, abs=0.2)
    assert Appearance(3, light="day", noise=0.0).sensor_noise(10, 10) is None
    assert Appearance(3, light="rain", noise=0.0).sensor_noise(200, 100).max() > look.noise_offset  # streaks
