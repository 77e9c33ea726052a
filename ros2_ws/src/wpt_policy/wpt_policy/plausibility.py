"""Whether a plan is one that a road vehicle could follow. A plan that is not is refused, never repaired."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wpt_policy.plan import Plan


@dataclass(frozen=True, kw_only=True)
class PlausibilityLimits:
    """Bounds of the possible, not of the comfortable: a plan beyond them is a fault.

    max_speed: m/s (60 is 216 km/h). max_start_jump: m/s, difference between the first step's mean speed and the
    ego's measured speed (0.5 s at 12 m/s2, an emergency brake on dry asphalt, changes it by 6; the mean by 3).
    max_acceleration: m/s2 between steps. max_lateral_acceleration: m/s2 (tyres hold about 10).
    max_curvature: 1/m (0.25 is a 4 m radius; a car's tightest turn is about 5 m).
    """

    max_speed: float = 60.0
    max_start_jump: float = 6.0
    max_acceleration: float = 12.0
    max_lateral_acceleration: float = 12.0
    max_curvature: float = 0.25


# Curvature of three nearly coinciding points is noise: steps under 0.5 m (1 m/s at 0.5 s) are not judged.
_MIN_CURVATURE_STEP_M = 0.5
_EGO_START_TOLERANCE_M = 1e-6


def plan_problem(plan: Plan, limits: PlausibilityLimits, ego_speed: float | None = None) -> str | None:
    """Return one sentence with the first thing that makes ``plan`` impossible, or None.

    ego_speed: measured forward speed (m/s) at the reference stamp, None when unknown (then not compared).
    """
    p = np.asarray(plan.positions)
    if p.ndim != 2 or p.shape[1] != 2 or len(p) < 2:
        return f"plan has shape {p.shape}, expected (T + 1, 2) with at least one future point"
    if not np.all(np.isfinite(p)):
        return f"plan of {plan.planner} has {int(np.sum(~np.isfinite(p)))} values that are not finite"
    if not plan.dt_s > 0:
        return f"plan of {plan.planner} has a time step of {plan.dt_s} s, expected a positive one"
    if float(np.abs(p[0]).max()) > _EGO_START_TOLERANCE_M:
        return (
            f"plan of {plan.planner} starts at ({p[0, 0]:.3f}, {p[0, 1]:.3f}) m, expected the ego at (0, 0)"
        )
    steps = np.diff(p, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    speeds = lengths / plan.dt_s
    at = int(np.argmax(speeds))
    if speeds[at] > limits.max_speed:
        return _sentence(plan, at, "speed", speeds[at], limits.max_speed, "m/s")
    signed_first = math.copysign(speeds[0], steps[0, 0])
    if ego_speed is not None and abs(signed_first - ego_speed) > limits.max_start_jump:
        return (
            f"plan of {plan.planner} starts at {signed_first:.1f} m/s while the ego drives {ego_speed:.1f} m/s, "
            f"expected a difference of at most {limits.max_start_jump:g} m/s"
        )
    if len(speeds) > 1:
        accelerations = np.abs(np.diff(speeds)) / plan.dt_s
        at = int(np.argmax(accelerations))
        if accelerations[at] > limits.max_acceleration:
            return _sentence(plan, at, "acceleration", accelerations[at], limits.max_acceleration, "m/s2")
    # The ego's own heading counts as the direction before the first step.
    directions = np.concatenate([[0.0], np.arctan2(steps[:, 1], steps[:, 0])])
    lengths = np.concatenate([[lengths[0]], lengths])
    for i in range(1, len(directions)):
        if min(lengths[i - 1], lengths[i]) < _MIN_CURVATURE_STEP_M:
            continue
        turn = abs(math.remainder(directions[i] - directions[i - 1], math.tau))
        if i == 1:
            # A circle tangent to the heading turns twice the chord's angle over its length: curvature is
            # 2 sin(angle) / chord; a chord that points backwards is a reversing ego.
            turn = 2.0 * math.sin(min(turn, math.pi - turn))
            travelled = lengths[i]
        else:
            travelled = 0.5 * (lengths[i - 1] + lengths[i])
        curvature = turn / travelled
        if curvature > limits.max_curvature:
            return _sentence(plan, i - 1, "curvature", curvature, limits.max_curvature, "1/m")
        lateral = curvature * (travelled / plan.dt_s) ** 2
        if lateral > limits.max_lateral_acceleration:
            return _sentence(
                plan, i - 1, "lateral acceleration", lateral, limits.max_lateral_acceleration, "m/s2"
            )
    return None


def _sentence(plan: Plan, step: int, what: str, value: float, limit: float, unit: str) -> str:
    return (
        f"plan of {plan.planner} has a {what} of {value:.2f} {unit} at {step * plan.dt_s:.1f} s, "
        f"expected at most {limit:g} {unit}"
    )
