"""The tree of static transforms from /tf_static, and the mount of any frame on the vehicle. No ROS imports.

/tf is never read for it: what moves is no mount. Two subscriptions feed this class (a latched and a volatile
one: bags replay /tf_static volatile), so every message may come twice and in any order.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from wpt_policy import se3

# Two records of one mount differ by rounding alone: 1 nm and 1e-9 rad lie far below it, a real change far
# above.
_SAME_TOLERANCE = 1e-9
_REMEMBERED = 8  # deliveries per child frame that are known as already seen


class FindingKind(Enum):
    REFUSED = "refused"  # the transform was not taken
    CHANGED = "changed"  # the frame has a new mount: calibrations made with the old one are void
    REPARENTED = "reparented"  # the frame has a new parent
    NOTE = "note"


@dataclass(frozen=True)
class TransformFinding:
    """Something worth a line on the log about one transform."""

    kind: FindingKind
    sentence: str


@dataclass(frozen=True, eq=False)
class _Edge:
    parent: str
    stamp_ns: int
    parent_from_child: np.ndarray
    values: tuple[float, ...]


class StaticTransforms:
    """Thread-safe. A frame has one parent, as in tf2; of contradicting messages the latest holds, and both
    are named.

    revision: rises with every change of the tree, so that users know when to look again.
    """

    def __init__(self, base_frame: str = "base_link"):
        self.base_frame = base_frame
        self.revision = 0
        self._edges: dict[str, _Edge] = {}
        self._seen: dict[str, deque[tuple[str, int, tuple[float, ...]]]] = {}
        self._noted: set[str] = set()
        self._cache: dict[str, np.ndarray | None] = {}
        self._lock = threading.Lock()

    @property
    def frames(self) -> tuple[str, ...]:
        """All frames of the tree, sorted."""
        with self._lock:
            return tuple(sorted(set(self._edges) | {edge.parent for edge in self._edges.values()}))

    def add(self, message: Any) -> list[TransformFinding]:
        """Take a tf2_msgs/TFMessage from /tf_static; return what is worth saying. Repetitions say nothing."""
        findings: list[TransformFinding] = []
        with self._lock:
            for transform in message.transforms:
                findings.extend(self._add_one(transform))
        return findings

    def base_from(self, frame_id: str) -> np.ndarray | None:
        """Return base_from_frame (4, 4), read-only, by any chain that joins the two; None when none does."""
        frame = frame_id.removeprefix("/")
        with self._lock:
            if frame not in self._cache:
                self._cache[frame] = self._chain(frame)
            return self._cache[frame]

    def why_unknown(self, frame_id: str) -> str:
        """Return one sentence on why base_from(frame_id) is None."""
        frame = frame_id.removeprefix("/")
        with self._lock:
            if not self._edges:
                return (
                    f"no static transform has arrived, expected a chain from {self.base_frame} to {frame} on "
                    "/tf_static; start its publisher or replay /tf_static"
                )
            known = set(self._edges) | {edge.parent for edge in self._edges.values()}
            missing = [name for name in (self.base_frame, frame) if name not in known]
            if missing:
                return (
                    f"/tf_static has no frame {' and no frame '.join(missing)}, expected a chain from "
                    f"{self.base_frame} to {frame}; it has {_listed(sorted(known))}"
                )
            return (
                f"/tf_static joins {frame} to {self._to_root(frame)[-1]} and {self.base_frame} to "
                f"{self._to_root(self.base_frame)[-1]}, but not the two; publish the transform between them"
            )

    def _add_one(self, message: Any) -> list[TransformFinding]:
        findings = []
        parent, child = message.header.frame_id, message.child_frame_id
        for name in (parent, child):
            if name.startswith("/") and name not in self._noted:
                self._noted.add(name)
                findings.append(
                    TransformFinding(
                        FindingKind.NOTE,
                        f"static transform names frame {name} with a leading slash, which ROS 2 does not "
                        f"have; it is taken as {name.removeprefix('/')}",
                    )
                )
        parent, child = parent.removeprefix("/"), child.removeprefix("/")
        if not parent or not child:
            return [
                *findings,
                _refused(
                    f"static transform from {parent!r} to {child!r} has an empty frame name, expected both "
                    "named"
                ),
            ]
        if parent == child:
            return [
                *findings,
                _refused(f"static transform from {parent} to itself, expected two different frames"),
            ]
        translation, rotation = message.transform.translation, message.transform.rotation
        values = (translation.x, translation.y, translation.z, rotation.w, rotation.x, rotation.y, rotation.z)
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        delivery = (parent, stamp_ns, values)
        seen = self._seen.setdefault(child, deque(maxlen=_REMEMBERED))
        if delivery in seen:
            return findings
        try:
            matrix = se3.transform(values[:3], values[3:])
        except se3.TransformError as error:
            if any(value != value for value in values) and any(_same_bits(delivery, known) for known in seen):
                return findings  # NaN is not equal to itself: the same broken message again
            seen.append(delivery)
            return [
                *findings,
                _refused(f"static transform from {parent} to {child} is refused: {error}; fix its publisher"),
            ]
        seen.append(delivery)
        if self._makes_loop(parent, child):
            return [
                *findings,
                _refused(
                    f"static transform from {parent} to {child} would close a loop "
                    f"({' <- '.join([child, *self._to_root(parent)])}), expected a tree; remove one of them"
                ),
            ]
        matrix.flags.writeable = False
        old = self._edges.get(child)
        if old is not None and old.parent == parent:
            if np.abs(old.parent_from_child - matrix).max() <= _SAME_TOLERANCE:
                return findings
            moved = float(np.linalg.norm(old.parent_from_child[:3, 3] - matrix[:3, 3]))
            turned = float(np.linalg.norm(se3.log_rotation(old.parent_from_child[:3, :3].T @ matrix[:3, :3])))
            findings.append(
                TransformFinding(
                    FindingKind.CHANGED,
                    f"static transform from {parent} to {child} changed by {moved:.3g} m and "
                    f"{np.degrees(turned):.3g} degrees, expected it never to change; the latest holds: check "
                    "whether two publishers disagree",
                )
            )
        elif old is not None:
            findings.append(
                TransformFinding(
                    FindingKind.REPARENTED,
                    f"frame {child} has two parents on /tf_static, {old.parent} and {parent}, expected one; "
                    f"the latest ({parent}) holds: remove one of the publishers",
                )
            )
        self._edges[child] = _Edge(parent, stamp_ns, matrix, values)
        self._cache.clear()
        self.revision += 1
        return findings

    def _makes_loop(self, parent: str, child: str) -> bool:
        return child in self._to_root(parent)

    def _to_root(self, frame: str) -> list[str]:
        """Return frame and its ancestors, the root last. The tree has no loops: _add_one refuses them."""
        path = [frame]
        while (edge := self._edges.get(path[-1])) is not None:
            path.append(edge.parent)
        return path

    def _root_from(self, path: list[str]) -> np.ndarray:
        """Return (4, 4): last frame of ``path`` from its first."""
        matrix = np.eye(4)
        for frame in path[:-1]:
            matrix = self._edges[frame].parent_from_child @ matrix
        return matrix

    def _chain(self, frame: str) -> np.ndarray | None:
        if not frame:
            return None
        frame_path, base_path = self._to_root(frame), self._to_root(self.base_frame)
        joint = next((name for name in frame_path if name in base_path), None)
        if joint is None:
            return None
        joint_from_frame = self._root_from(frame_path[: frame_path.index(joint) + 1])
        joint_from_base = self._root_from(base_path[: base_path.index(joint) + 1])
        matrix = se3.inverse(joint_from_base) @ joint_from_frame
        matrix.flags.writeable = False
        return matrix


def _refused(sentence: str) -> TransformFinding:
    return TransformFinding(FindingKind.REFUSED, sentence)


def _same_bits(first: tuple, second: tuple) -> bool:
    return first[:2] == second[:2] and np.array_equal(first[2], second[2], equal_nan=True)


def _listed(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
