"""The ego's motion: a kinematic bicycle about the rear axle, with the limits of a car."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wpt_sim.episode import DT
from wpt_sim.vehicles import EGO_WHEELBASE
from wpt_sim.world_state import EgoPose

MAX_STEER = 0.61  # rad at the front wheels: a turning radius of 3.7 m at the rear axle, as of a small car
MAX_STEER_RATE = 0.9  # rad/s: lock to lock in 1.4 s
HARDEST_BRAKING = 8.0  # m/s2, dry road
STRONGEST_ACCELERATION = 3.0  # m/s2
# Brakes and motor do not answer at once: this much m/s2 per second.
BRAKING_RISE = 40.0
ACCELERATION_RISE = 12.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """What a driver asks for during one step: steer (rad at the front wheels, left positive), acceleration
    (m/s2).
    """

    steer: float
    acceleration: float


def step_ego(ego: EgoPose, control: Control, dt: float = DT) -> EgoPose:
    """Where the ego is `dt` seconds later.

    The asked values are clipped to the limits above; the car never rolls backwards. A value that is not
    finite means straight wheels and full braking, so that a broken driver stops. The path of one step is an
    arc at the mean of the steering angles.
    """
    steer = control.steer if math.isfinite(control.steer) else 0.0
    wanted = control.acceleration if math.isfinite(control.acceleration) else -HARDEST_BRAKING
    steer = min(max(steer, -MAX_STEER), MAX_STEER)
    turn = MAX_STEER_RATE * dt
    steer = min(max(steer, ego.steer - turn), ego.steer + turn)
    wanted = min(max(wanted, -HARDEST_BRAKING), STRONGEST_ACCELERATION)
    acceleration = min(
        max(wanted, ego.acceleration - BRAKING_RISE * dt), ego.acceleration + ACCELERATION_RISE * dt
    )
    if ego.acceleration < 0.0 < wanted and acceleration < 0.0:
        acceleration = 0.0  # a released brake holds nobody back
    speed = ego.speed + acceleration * dt
    if speed < 0.0:
        distance = ego.speed**2 / (2 * -acceleration)
        speed, acceleration = 0.0, -ego.speed / dt
    else:
        distance = 0.5 * (ego.speed + speed) * dt
    curvature = math.tan(0.5 * (ego.steer + steer)) / EGO_WHEELBASE
    half = 0.5 * curvature * distance
    yaw = math.remainder(ego.yaw + 2 * half, math.tau)
    chord = distance * (math.sin(half) / half if abs(half) > 1e-9 else 1.0)
    return EgoPose(
        x=ego.x + chord * math.cos(ego.yaw + half),
        y=ego.y + chord * math.sin(ego.yaw + half),
        yaw=yaw,
        speed=speed,
        steer=steer,
        acceleration=acceleration,
    )
