"""The order of drawing against rays: along any ray, what is met first is drawn last."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_sim.renderer.draw_order import draw_order
from wpt_sim.vehicles import box_corners, boxes_overlap

EYE = np.array([0.0, 0.0, 1.5])

boxes = st.lists(
    st.tuples(
        st.floats(3.0, 40.0), st.floats(-15.0, 15.0), st.floats(-math.pi, math.pi), st.floats(0.5, 14.0),
        st.floats(0.4, 3.0), st.floats(0.5, 4.0),
    ),
    min_size=2, max_size=9,
)  # fmt: skip


def meeting(footprint: np.ndarray, angle: float) -> float | None:
    """Distance at which a ray from the eye along an angle enters a footprint, or None."""
    direction = np.array([math.cos(angle), math.sin(angle)])
    enter, leave = -math.inf, math.inf
    for p, q in zip(footprint, np.roll(footprint, -1, axis=0), strict=True):
        normal = np.array([q[1] - p[1], p[0] - q[0]])
        rate, start = normal @ direction, normal @ (EYE[:2] - p)
        if abs(rate) < 1e-12:
            if start > 0:
                return None
        elif rate < 0:
            enter = max(enter, -start / rate)
        else:
            leave = min(leave, -start / rate)
    return enter if enter < leave and enter > 0 else None


def order_of(footprints: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The order for a camera that looks along x with focal length 1."""
    corners = np.concatenate([footprints, footprints], axis=1)
    depth = np.maximum(corners[..., 0], 0.01)
    column = -corners[..., 1] / depth
    columns = np.stack([column.min(axis=1), column.max(axis=1)], axis=1)
    depths = np.stack([depth.min(axis=1), depth.max(axis=1)], axis=1)
    return draw_order(footprints, low, high, columns, depths, EYE)


def has_cycle(before: set[tuple[int, int]], count: int) -> bool:
    left = set(range(count))
    while left:
        free = [i for i in left if not any(a in left and b == i for a, b in before)]
        if not free:
            return True
        left -= set(free)
    return False


@settings(max_examples=80)
@given(boxes)
def test_what_a_ray_meets_first_is_drawn_last(values: list[tuple[float, ...]]) -> None:
    footprints: list[np.ndarray] = []
    for x, y, yaw, length, width, _ in values:
        corners = box_corners(x, y, yaw, length, width)
        grown = box_corners(x, y, yaw, length + 0.2, width + 0.2)
        if corners[:, 0].min() > 0.3 and not any(boxes_overlap(grown, other) for other in footprints):
            footprints.append(corners)
    if len(footprints) < 2:
        return
    count = len(footprints)
    array = np.array(footprints)
    order = order_of(array, np.zeros(count), np.full(count, 2.0)).tolist()
    assert sorted(order) == list(range(count))
    rank = {index: place for place, index in enumerate(order)}
    before = set()
    for angle in np.linspace(-1.3, 1.3, 120):
        met = sorted(
            (d, i) for i, polygon in enumerate(footprints) if (d := meeting(polygon, angle)) is not None
        )
        before |= {(far, near) for (_, near), (_, far) in zip(met, met[1:], strict=False)}
    if not has_cycle(before, count):
        assert all(rank[far] < rank[near] for far, near in before)


def test_what_hangs_over_a_vehicle_is_drawn_before_it_seen_from_below() -> None:
    car, lamp = box_corners(20.0, 0.0, 0.0, 5.0, 2.0), box_corners(19.0, 0.0, 0.0, 0.4, 1.0)
    footprints = np.array([car, lamp])
    order = order_of(footprints, np.array([0.0, 4.0]), np.array([1.5, 6.0]))
    assert order.tolist() == [1, 0]


def test_a_single_thing_and_none_have_an_order() -> None:
    car = box_corners(20.0, 0.0, 0.0, 5.0, 2.0)[None]
    assert order_of(car, np.zeros(1), np.ones(1)).tolist() == [0]
    empty = np.zeros((0, 2))
    assert len(draw_order(np.zeros((0, 4, 2)), np.zeros(0), np.zeros(0), empty, empty, EYE)) == 0
