"""The frames of a recording: the static chain from base_link to each camera, or the link that it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from wpt_policy import se3

# Two records of one mount differ by rounding alone.
_SAME_TOLERANCE = 1e-9
# Repeated sentences and a recording of thousands of transforms must not fill the report.
_KEPT_PROBLEMS = 8


@dataclass(frozen=True, eq=False)
class Link:
    """A transform between two frames. translation: x y z in metres; rotation: quaternion x y z w."""

    parent: str
    child: str
    parent_from_child: np.ndarray
    translation: tuple[float, ...]
    rotation: tuple[float, ...]


class FrameTree:
    """Transforms as the planner reads them: static ones make mounts, those of /tf move and make none.

    problems: sentences about transforms that are refused or contradict each other.
    """

    def __init__(self, base_frame: str) -> None:
        self.base_frame = base_frame
        self.problems: list[str] = []
        self._static: dict[str, Link] = {}
        self._dynamic: dict[str, Link] = {}

    @property
    def static_frames(self) -> tuple[str, ...]:
        """All frames that /tf_static names, sorted."""
        return tuple(sorted(set(self._static) | {link.parent for link in self._static.values()}))

    def add(self, message: Any, *, static: bool) -> None:
        """Take one geometry_msgs/TransformStamped; of contradicting static ones the latest holds."""
        parent = message.header.frame_id.removeprefix("/")
        child = message.child_frame_id.removeprefix("/")
        moved, turned = message.transform.translation, message.transform.rotation
        translation = (moved.x, moved.y, moved.z)
        rotation = (turned.x, turned.y, turned.z, turned.w)
        try:
            matrix = se3.transform(translation, (turned.w, turned.x, turned.y, turned.z))
        except se3.TransformError as error:
            if static:
                self._note(f"the transform from {parent} to {child} is refused: {error}")
            return
        if not parent or not child or parent == child:
            if static:
                self._note(f"a transform from {parent!r} to {child!r} is refused, expected two named frames")
            return
        link = Link(parent, child, matrix, translation, rotation)
        if not static:
            self._dynamic.setdefault(child, link)
            return
        if child in self._path(parent, self._static):
            self._note(f"the transform from {parent} to {child} is refused: it closes a loop")
            return
        known = self._static.get(child)
        if known is not None and known.parent != parent:
            self._note(f"frame {child} has two parents, {known.parent} and {parent}; the latest holds")
        elif known is not None and np.abs(known.parent_from_child - matrix).max() > _SAME_TOLERANCE:
            self._note(f"the transform from {parent} to {child} changes; the latest holds")
        self._static[child] = link

    def base_from(self, frame_id: str) -> np.ndarray | None:
        """Return base_from_frame (4, 4) by static transforms alone, None where they do not join the two."""
        return self._join(frame_id.removeprefix("/"), self._static)

    def why_unknown(self, frame_id: str, called: str = "") -> tuple[str, str]:
        """Return what is missing between base_link and a frame that base_from does not know, and the remedy.

        called: what the first sentence names the frame, so that one sentence can speak of several.
        """
        frame = frame_id.removeprefix("/")
        shown = called or frame
        everything = self._dynamic | self._static
        moving = self._links_needed(frame, everything)
        if moving:
            named = ", ".join(
                f"{link.parent} -> {shown if link.child == frame else link.child}" for link in moving
            )
            return (
                (
                    f"the chain from {self.base_frame} to {shown} needs {named}, which is on /tf alone; the"
                    " planner takes mounts from /tf_static, since what /tf carries may move"
                ),
                f"publish it as static: {static_publisher(moving[0])}",
            )
        if not self._static:
            return (
                f"/tf_static has no transform, expected a chain from {self.base_frame} to {shown}",
                (
                    "record /tf_static with the bag, start robot_state_publisher with the vehicle's URDF, or"
                    f" give the mount: {_example_publisher(self.base_frame, frame)}"
                ),
            )
        known = self.static_frames
        missing = [name for name in (self.base_frame, frame) if name not in known]
        if missing:
            return (
                (
                    "/tf_static has no frame"
                    f" {' and no frame '.join(shown if name == frame else name for name in missing)},"
                    f" expected a chain from {self.base_frame} to {shown}; it has {_listed(known)}"
                ),
                (
                    f"publish the missing link, for example {_example_publisher(self.base_frame, frame)}"
                    if frame in missing
                    else (
                        f"publish the link from {self.base_frame} to {self._path(frame, self._static)[-1]},"
                        " or set base_frame to the vehicle's own name for it"
                    )
                ),
            )
        frame_root = self._path(frame, self._static)[-1]
        base_root = self._path(self.base_frame, self._static)[-1]
        return (
            (
                f"/tf_static joins {shown} to {shown if frame_root == frame else frame_root} and"
                f" {self.base_frame} to {base_root}, but not the two"
            ),
            f"publish the missing link, for example {_example_publisher(base_root, frame_root)}",
        )

    def _note(self, sentence: str) -> None:
        if sentence not in self.problems and len(self.problems) < _KEPT_PROBLEMS:
            self.problems.append(sentence)

    def _path(self, frame: str, links: dict[str, Link]) -> list[str]:
        """Return a frame and its ancestors, the root last; stops where /tf closes a loop."""
        path = [frame]
        while (link := links.get(path[-1])) is not None and link.parent not in path:
            path.append(link.parent)
        return path

    def _join(self, frame: str, links: dict[str, Link]) -> np.ndarray | None:
        up, base_up = self._path(frame, links), self._path(self.base_frame, links)
        joint = next((name for name in up if name in base_up), None)
        if not frame or joint is None:
            return None
        joint_from_frame, joint_from_base = np.eye(4), np.eye(4)
        for name in up[: up.index(joint)]:
            joint_from_frame = links[name].parent_from_child @ joint_from_frame
        for name in base_up[: base_up.index(joint)]:
            joint_from_base = links[name].parent_from_child @ joint_from_base
        return se3.inverse(joint_from_base) @ joint_from_frame

    def _links_needed(self, frame: str, links: dict[str, Link]) -> list[Link]:
        """Return the links of the joined chain that are not static; empty where even all links do not
        join.
        """
        up, base_up = self._path(frame, links), self._path(self.base_frame, links)
        joint = next((name for name in up if name in base_up), None)
        if joint is None:
            return []
        used = up[: up.index(joint)] + base_up[: base_up.index(joint)]
        return [links[name] for name in used if name not in self._static]


def static_publisher(link: Link) -> str:
    """Return the command that publishes a link on /tf_static."""
    x, y, z = link.translation
    qx, qy, qz, qw = link.rotation
    return (
        f"ros2 run tf2_ros static_transform_publisher --x {x:.6g} --y {y:.6g} --z {z:.6g} --qx {qx:.9g} --qy"
        f" {qy:.9g} --qz {qz:.9g} --qw {qw:.9g} --frame-id {link.parent} --child-frame-id {link.child}"
    )


def _example_publisher(parent: str, child: str) -> str:
    return f"ros2 run tf2_ros static_transform_publisher --x ... --frame-id {parent} --child-frame-id {child}"


def _listed(names: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
