"""How an episode looks: time of day, weather, colours, haze and sensor noise, all drawn from one seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

LIGHTS = ("day", "overcast", "dusk", "rain")
_SHARES = (0.5, 0.2, 0.15, 0.15)
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look:
    zenith: tuple[float, float, float]  # sky overhead, RGB
    horizon: tuple[float, float, float]  # sky at the horizon, and the haze
    ambient: float
    sun: float  # added on surfaces that face the sun
    elevation: tuple[float, float]  # of the sun, degrees, drawn between
    tint: tuple[float, float, float]
    saturation: float
    haze_m: tuple[float, float]  # distance at which 63 % of a surface's colour is lost, drawn between
    lamps_on: bool  # head and tail lights
    wet: bool


_LOOKS = {
    "day": _Look(
        zenith=(96.0, 150.0, 216.0),
        horizon=(206.0, 220.0, 232.0),
        ambient=0.60,
        sun=0.46,
        elevation=(30.0, 65.0),
        tint=(1.0, 1.0, 0.98),
        saturation=1.0,
        haze_m=(350.0, 700.0),
        lamps_on=False,
        wet=False,
    ),
    "overcast": _Look(
        zenith=(176.0, 184.0, 192.0),
        horizon=(206.0, 210.0, 214.0),
        ambient=0.80,
        sun=0.08,
        elevation=(50.0, 80.0),
        tint=(0.97, 0.99, 1.0),
        saturation=0.85,
        haze_m=(250.0, 450.0),
        lamps_on=False,
        wet=False,
    ),
    "dusk": _Look(
        zenith=(58.0, 66.0, 112.0),
        horizon=(226.0, 158.0, 118.0),
        ambient=0.42,
        sun=0.24,
        elevation=(4.0, 12.0),
        tint=(1.0, 0.90, 0.88),
        saturation=0.85,
        haze_m=(300.0, 500.0),
        lamps_on=True,
        wet=False,
    ),
    "rain": _Look(
        zenith=(118.0, 124.0, 132.0),
        horizon=(150.0, 154.0, 158.0),
        ambient=0.62,
        sun=0.04,
        elevation=(50.0, 80.0),
        tint=(0.94, 0.98, 1.0),
        saturation=0.55,
        haze_m=(110.0, 200.0),
        lamps_on=True,
        wet=True,
    ),
}


class Appearance:
    """One episode's look. The same arguments give the same look.

    seed draws everything that is not given. light: one of LIGHTS; noise: standard deviation of the sensor
    noise in grey levels, 0 to 20. Raises ValueError for another light or noise.

    zenith, horizon: (3,) RGB of the sky. sun_direction: (3,) unit vector towards the sun, map axes. ambient,
    sun: light on every surface and added where a surface faces the sun. haze_m: metres. lamps_on: head and
    tail lights shine."""

    def __init__(self, seed: int, *, light: str | None = None, noise: float | None = None):
        rng = np.random.default_rng([seed, 11])
        # Every value is drawn, also where it is given, so that forcing one leaves the others as they were.
        drawn_light = LIGHTS[int(rng.choice(len(LIGHTS), p=_SHARES))]
        drawn_noise = float(rng.choice([0.0, 1.5, 3.0, 6.0], p=[0.35, 0.3, 0.2, 0.15]))
        self.light = drawn_light if light is None else light
        if self.light not in _LOOKS:
            raise ValueError(f"light is {light!r}, expected one of {', '.join(LIGHTS)}")
        self.noise = drawn_noise if noise is None else float(noise)
        if not 0.0 <= self.noise <= 20.0:
            raise ValueError(f"noise is {self.noise:g} grey levels, expected 0 to 20")
        look = _LOOKS[self.light]
        self.seed = seed
        exposure = float(rng.uniform(0.9, 1.08))
        warmth = float(rng.uniform(-0.03, 0.03))
        self.haze_m = float(rng.uniform(*look.haze_m))
        elevation, azimuth = math.radians(rng.uniform(*look.elevation)), float(rng.uniform(-math.pi, math.pi))
        self.sun_direction = np.array(
            [
                math.cos(elevation) * math.cos(azimuth),
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
            ]
        )
        self.ambient, self.sun = look.ambient * exposure, look.sun * exposure
        sky = exposure * rng.uniform(0.94, 1.04)
        tint = np.array(look.tint) * [1.0 + warmth, 1.0, 1.0 - warmth]
        self.zenith = np.clip(np.array(look.zenith) * sky, 0.0, 255.0)
        self.horizon = np.clip(np.array(look.horizon) * sky, 0.0, 255.0)
        self.lamps_on, self.wet = look.lamps_on, look.wet
        mix = look.saturation * np.eye(3) + (1.0 - look.saturation) * np.outer(np.ones(3), _LUMA)
        self._grading = tint[:, None] * mix

    def graded(self, colours: np.ndarray) -> np.ndarray:
        """Return (N, 3) float RGB with this look's tint and saturation; brightness is left to the light."""
        return colours @ self._grading.T

    def ground_matrix(self) -> np.ndarray:
        """Return the (3, 3) matrix that lights the ground's texture; wet ground is darker."""
        brightness = self.ambient + self.sun * max(self.sun_direction[2], 0.0)
        return self._grading * brightness * (0.82 if self.wet else 1.0)

    def light_on(self, normals: np.ndarray, sun_direction: np.ndarray | None = None) -> np.ndarray:
        """Return the (N,) brightness of surfaces by their outward normals (N, 3).

        sun_direction: (3,) or (N, 3) in the normals' frame; None: map axes.
        """
        towards = self.sun_direction if sun_direction is None else sun_direction
        facing = np.maximum(np.sum(normals * towards, axis=1), 0.0)
        # A little light from above keeps roofs brighter than walls where there is no sun.
        return self.ambient * (0.92 + 0.08 * normals[:, 2]) + self.sun * facing

    def sensor_noise(self, width: int, height: int) -> np.ndarray | None:
        """Return a (height, width, 3) uint8 pattern to be added, rain streaks in it; None where there is
        none.

        Its mean is removed by ``noise_offset``.
        """
        if self.noise == 0.0 and not self.wet:
            return None
        rng = np.random.default_rng([self.seed, 12])
        grain = rng.normal(self.noise_offset, max(self.noise, 0.5), (height, width, 3)).astype(np.float32)
        if self.wet:
            streaks = np.zeros((height, width), dtype=np.float32)
            scale = max(1.0, width / 800.0)
            for _ in range(width * height // int(2600 * scale * scale)):
                x, y = rng.uniform(0, width), rng.uniform(0, height)
                length = rng.uniform(6.0, 22.0) * scale
                end = (int(x + 0.15 * length), int(y + length))
                cv2.line(
                    streaks, (int(x), int(y)), end, float(rng.uniform(5.0, 20.0)), max(1, round(0.6 * scale))
                )
            grain += streaks[..., None]
        return np.clip(np.round(grain), 0, 255).astype(np.uint8)

    @property
    def noise_offset(self) -> float:
        """Grey levels that the pattern of ``sensor_noise`` adds on average."""
        return float(math.ceil(2.5 * max(self.noise, 0.5)))
