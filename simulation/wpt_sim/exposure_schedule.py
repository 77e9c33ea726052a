"""When the sensors of a recording fire, as on a nuScenes car.

Keyframes are the LiDAR turns (20 Hz) nearest to every half second, 0.4 to 0.6 s apart. Each camera fires as the LiDAR
passes its middle: over 43 ms before the LiDAR's stamp. Between keyframes the cameras go on at about 12 Hz (sweeps).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wpt_scenes.factory.rig import STAGGER_MS

# 2026-01-01 12:00:00 UTC; every scene begins an hour after the one before it.
FIRST_EPOCH_US = 1_767_268_800_000_000
EPOCH_STEP_US = 3_600_000_000

# Keyframe steps of the LiDAR's 50 ms, as often as they occur; their mean of 495 ms is nuScenes' (497.5).
_KEYFRAME_STEPS_MS = (500, 450, 500, 550, 500, 400, 500, 600, 450, 500)
_CAMERA_PERIOD_US = 1_000_000 / 12
_LIDAR_JITTER_US, _CAMERA_JITTER_US = 400, 500
# The first camera fires 43 ms before the first keyframe.
_LEAD_US = 50_000


@dataclass(frozen=True)
class Exposure:
    """One image. stamp_us: microseconds since 1970; keyframe: its index, None for a sweep."""

    channel: str
    stamp_us: int
    keyframe: int | None


@dataclass(frozen=True)
class ExposureSchedule:
    """epoch_us: the log's time 0. keyframes_us: LiDAR stamps. exposures: in time order."""

    epoch_us: int
    keyframes_us: tuple[int, ...]
    exposures: tuple[Exposure, ...]

    def time_s(self, stamp_us: int) -> float:
        """Return the log's time of a stamp."""
        return (stamp_us - self.epoch_us) / 1e6


def exposure_schedule(duration_s: float, *, number: int, sweeps: bool, seed: int) -> ExposureSchedule:
    """Return the schedule of a log of duration_s; number: which scene of its data set (moves the stamps)."""
    rng = np.random.default_rng([seed, 17])
    epoch = FIRST_EPOCH_US + number * EPOCH_STEP_US
    last = epoch + int(duration_s * 1e6)
    keyframes = [epoch + _LEAD_US]
    steps = rng.permutation(_KEYFRAME_STEPS_MS)
    while True:
        step = int(steps[(len(keyframes) - 1) % len(steps)]) * 1000
        jitter = int(rng.integers(-_LIDAR_JITTER_US, _LIDAR_JITTER_US + 1))
        if keyframes[-1] + step + jitter > last - _CAMERA_JITTER_US:
            break
        keyframes.append(keyframes[-1] + step + jitter)
    cycles: list[tuple[int, int | None]] = []
    for index, stamp in enumerate(keyframes):
        cycles.append((stamp, index))
        if sweeps and index + 1 < len(keyframes):
            gap = keyframes[index + 1] - stamp
            count = round(gap / _CAMERA_PERIOD_US)
            cycles += [(stamp + gap * k // count, None) for k in range(1, count)]
    exposures = []
    for stamp, keyframe in cycles:
        for channel, offset_ms in STAGGER_MS.items():
            # The last to fire is the keyframe's stamp or a moment before it, never after: a plan refers to it.
            jitter = int(rng.integers(-_CAMERA_JITTER_US, 1))
            exposures.append(Exposure(channel, stamp + int(offset_ms * 1000) + jitter, keyframe))
    return ExposureSchedule(epoch, tuple(keyframes), tuple(sorted(exposures, key=lambda e: e.stamp_us)))
