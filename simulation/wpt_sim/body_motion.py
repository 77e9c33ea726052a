"""Boxes that move smoothly, from SUMO's front bumper points, which do not.

SUMO reports the middle of the front bumper and the heading of the lane piece under it. Seen with 1.28: the
heading jumps by up to 20 degrees at a vertex and does not follow a lane change at all; and in the middle of
a lane change on a bent road the point jumps by up to 0.7 m, because neighbouring lanes share one length and
equal shares of them do not lie side by side (yaw rates of 29 rad/s followed). So a jump is taken out and
given back over the next metres, and the rear axle is towed behind the front bumper (a tractrix): heading
and box centre are then smooth whatever the rail does.
"""

from __future__ import annotations

import math

REAR_AXLE = 0.75  # share of the length from the front bumper to the rear axle
JUMP = 0.08  # metres beyond the distance driven that count as a jump
GIVEN_BACK = 8.0  # metres driven after which a jump is given back but for 1/e


class TowedBody:
    """Pose of one vehicle's box: x, y (centre), yaw."""

    __slots__ = (
        "length",
        "_tow",
        "_rear_x",
        "_rear_y",
        "_front_x",
        "_front_y",
        "_shift_x",
        "_shift_y",
        "x",
        "y",
        "yaw",
    )

    def __init__(self, front_x: float, front_y: float, yaw: float, length: float):
        self.length = length
        self._tow = REAR_AXLE * length
        self.yaw = yaw
        self._rear_x = front_x - self._tow * math.cos(yaw)
        self._rear_y = front_y - self._tow * math.sin(yaw)
        self._front_x, self._front_y = front_x, front_y
        self._shift_x = self._shift_y = 0.0
        self._tow_to(front_x, front_y)

    def update(self, front_x: float, front_y: float, driven: float) -> None:
        """Move the front bumper to SUMO's point; driven: metres since the last update by SUMO's speed."""
        fade = math.exp(-driven / GIVEN_BACK)
        self._shift_x *= fade
        self._shift_y *= fade
        dx = front_x + self._shift_x - self._front_x
        dy = front_y + self._shift_y - self._front_y
        distance = math.hypot(dx, dy)
        allowed = driven * (1.0 + 1.0 / GIVEN_BACK) + JUMP
        if distance > allowed:
            # Keep the part along the heading that was driven and the sideways part that a lane change
            # explains.
            c, s = math.cos(self.yaw), math.sin(self.yaw)
            along = min(max(c * dx + s * dy, 0.0), allowed)
            aside = min(max(-s * dx + c * dy, -JUMP), JUMP)
            kept_x, kept_y = along * c - aside * s, along * s + aside * c
            self._shift_x += kept_x - dx
            self._shift_y += kept_y - dy
            dx, dy = kept_x, kept_y
        self._tow_to(self._front_x + dx, self._front_y + dy)

    def _tow_to(self, front_x: float, front_y: float) -> None:
        self._front_x, self._front_y = front_x, front_y
        dx, dy = front_x - self._rear_x, front_y - self._rear_y
        distance = math.hypot(dx, dy)
        dx, dy = (
            (dx / distance, dy / distance) if distance > 1e-6 else (math.cos(self.yaw), math.sin(self.yaw))
        )
        self.yaw = math.atan2(dy, dx)
        self._rear_x, self._rear_y = front_x - self._tow * dx, front_y - self._tow * dy
        self.x, self.y = front_x - self.length / 2 * dx, front_y - self.length / 2 * dy
