"""Planners without a network. Every evaluation has them as rows, and the line runs on them before weights exist."""

from __future__ import annotations

import numpy as np

from wpt_policy import se3
from wpt_policy.frame import Command, Frame
from wpt_policy.image_input import ImageInput
from wpt_policy.plan import Plan, PlanFlag
from wpt_policy.planner import PlannerError

# Six points 0.5 s apart: the 3 s horizon at 2 Hz that nuScenes planning evaluation uses (ST-P3, UniAD).
NUM_STEPS = 6
STEP_S = 0.5


class _ImagelessPlanner:
    cameras: tuple[str, ...] = ()
    may_mask: frozenset[str] = frozenset()
    image_input: ImageInput | None = None
    commands: tuple[Command, ...] = ()
    needs_ego = False

    def reset(self) -> None:
        """Nothing is remembered."""


class StopPlanner(_ImagelessPlanner):
    """Stays where it is. A bound for metrics, not a braking manoeuvre."""

    name = "stop"

    def plan(self, frame: Frame) -> Plan:
        return Plan(
            reference_stamp_ns=frame.reference_stamp_ns,
            positions=np.zeros((NUM_STEPS + 1, 2)),
            dt_s=STEP_S,
            planner=self.name,
        )


class ConstantVelocityPlanner(_ImagelessPlanner):
    """Goes on at the measured speed and yaw rate.

    On a circle, not a straight line: the twist is kept constant in the ego's own frame (turn rate included), as
    the constant-velocity-and-yaw-rate baseline of nuScenes prediction does. Raises PlannerError without ego motion.
    """

    name = "constant_velocity"
    needs_ego = True

    def plan(self, frame: Frame) -> Plan:
        if frame.ego is None:
            raise PlannerError(
                "constant_velocity needs the ego's velocity and no odometry covers this set; check the odometry topic"
            )
        linear = np.array([frame.ego.linear_velocity[0], frame.ego.linear_velocity[1], 0.0])
        angular = np.array([0.0, 0.0, frame.ego.angular_velocity[2]])
        positions = [
            se3.extrapolate(np.eye(4), linear, angular, step * STEP_S)[:2, 3] for step in range(NUM_STEPS + 1)
        ]
        return Plan(
            reference_stamp_ns=frame.reference_stamp_ns,
            positions=np.array(positions),
            dt_s=STEP_S,
            planner=self.name,
            flags=PlanFlag.EGO_EXTRAPOLATED if frame.ego.extrapolated else PlanFlag.NONE,
        )
