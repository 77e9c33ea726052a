"""RViz markers: the plan, the candidates it was chosen from, and the outline of the car.

Namespaces and ids are stable, so each message replaces the one before: ``plan`` 0 (line) and 1 (points
coloured by speed), ``candidates`` 0 (all of them in one line list, coloured by score), ``ego`` 0 (outline).
Plan and candidates are stamped with the plan's reference stamp and placed by it; only the outline is
frame_locked, for it is where the car is now.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from wpt_planner.conversions import duration_from_ns, header
from wpt_policy.plan import Plan, headings_and_speeds

# The car that recorded nuScenes, a Renault Zoe, as planning metrics draw it (ST-P3, UniAD, VAD: 4.084 x 1.85
# m, its centre 0.5 m ahead of the LiDAR, which BEV-Planner places 0.985793 m ahead of the rear axle).
EGO_LENGTH_M = 4.084
EGO_WIDTH_M = 1.85
EGO_CENTRE_AHEAD_OF_REAR_AXLE_M = 0.985793 + 0.5

PLAN_HEIGHT_M = 0.05  # above the ground, so that a ground image does not hide the lines
CANDIDATE_HEIGHT_M = 0.02
FULL_SPEED_M_S = 15.0  # the end of the colour scale: 54 km/h, above it the colour stays


def plan_markers(plan: Plan, *, frame_id: str, lifetime_s: float) -> MarkerArray:
    """Return a plan's and its candidates' markers; they vanish after ``lifetime_s`` without a new plan."""
    head = header(plan.reference_stamp_ns, frame_id)
    line = _marker(head, "plan", 0, Marker.LINE_STRIP, lifetime_s)
    line.scale.x = 0.25
    line.color = ColorRGBA(r=0.1, g=0.8, b=0.3, a=0.9)
    line.points = _points(plan.positions, PLAN_HEIGHT_M)
    dots = _marker(head, "plan", 1, Marker.SPHERE_LIST, lifetime_s)
    dots.scale.x = dots.scale.y = dots.scale.z = 0.45
    dots.points = _points(plan.positions, PLAN_HEIGHT_M)
    _, speeds = headings_and_speeds(plan.positions, plan.dt_s)
    dots.colors = [speed_colour(float(speed)) for speed in speeds]
    return MarkerArray(markers=[line, dots, _candidates(plan, head, lifetime_s)])


def ego_markers(
    frame_id: str,
    *,
    length_m: float = EGO_LENGTH_M,
    width_m: float = EGO_WIDTH_M,
    centre_ahead_m: float = EGO_CENTRE_AHEAD_OF_REAR_AXLE_M,
) -> MarkerArray:
    """Return the car's outline, fixed to ``frame_id`` (base_link); stamp 0 means wherever that is now."""
    outline = _marker(Header(frame_id=frame_id), "ego", 0, Marker.LINE_STRIP, 0.0)
    outline.frame_locked = True
    outline.scale.x = 0.08
    outline.color = ColorRGBA(r=0.9, g=0.9, b=0.95, a=1.0)
    front, rear, side = centre_ahead_m + length_m / 2, centre_ahead_m - length_m / 2, width_m / 2
    corners = [(front, side), (rear, side), (rear, -side), (front, -side), (front, side)]
    nose = [(front - side, 0.0), (front, -side)]
    outline.points = _points(np.array(corners + nose), PLAN_HEIGHT_M)
    return MarkerArray(markers=[outline])


def delete_all_markers() -> MarkerArray:
    """Return the message that clears the topic in RViz; sent on every reset, before new markers."""
    return MarkerArray(markers=[Marker(action=Marker.DELETEALL)])


def speed_colour(speed: float) -> ColorRGBA:
    """Return red at standstill, over yellow to green at FULL_SPEED_M_S; blue when driving backwards (m/s)."""
    if speed < 0:
        return ColorRGBA(r=0.2, g=0.4, b=1.0, a=1.0)
    share = min(1.0, speed / FULL_SPEED_M_S) if math.isfinite(speed) else 0.0
    return ColorRGBA(r=min(1.0, 2.0 - 2.0 * share), g=min(1.0, 2.0 * share), b=0.1, a=1.0)


def score_colours(scores: Sequence[float]) -> list[ColorRGBA]:
    """Return one colour per candidate, from dark blue (this message's lowest score) to bright yellow."""
    values = np.asarray(scores, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    colours = []
    for value in values:
        share = (
            (float(value) - low) / (high - low)
            if high > low and math.isfinite(value)
            else float(value == high)
        )
        colours.append(
            ColorRGBA(
                r=0.15 + 0.85 * share, g=0.15 + 0.75 * share, b=0.6 - 0.5 * share, a=0.35 + 0.45 * share
            )
        )
    return colours


def _candidates(plan: Plan, head: Header, lifetime_s: float) -> Marker:
    marker = _marker(head, "candidates", 0, Marker.LINE_LIST, lifetime_s)
    marker.scale.x = 0.06
    colours = score_colours([candidate.score for candidate in plan.candidates])
    for candidate, colour in zip(plan.candidates, colours, strict=True):
        points = _points(candidate.positions, CANDIDATE_HEIGHT_M)
        for first, second in zip(points, points[1:], strict=False):
            marker.points.extend((first, second))
            marker.colors.extend((colour, colour))
    if not marker.points:
        marker.action = Marker.DELETE  # RViz rejects an empty list, and the last plan's must go
    return marker


def _marker(head: Header, namespace: str, number: int, kind: int, lifetime_s: float) -> Marker:
    marker = Marker(header=head, ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.color.a = 1.0
    marker.lifetime = duration_from_ns(round(lifetime_s * 1e9))
    return marker


def _points(positions: np.ndarray, height: float) -> list[Point]:
    return [Point(x=float(x), y=float(y), z=height) for x, y in positions]
