"""Pending images that go together in one set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wpt_planner.stamp_guard import ArrivedImage


@dataclass(slots=True, eq=False)
class ImageGroup:
    """Pending images that go together; replaced ones gave way to a newer image of their camera."""

    members: dict[int, ArrivedImage]
    replaced: list[ArrivedImage]

    @property
    def oldest(self) -> int:
        return min(image.stamp_ns for image in self.members.values())

    @property
    def newest(self) -> int:
        return max(image.stamp_ns for image in self.members.values())

    @property
    def opened(self) -> int:
        return min(image.arrival_ns for image in self.members.values())


def gather(images: Iterable[ArrivedImage], limit: int) -> ImageGroup:
    """The newest image of each camera among images sorted by stamp, up to a limit."""
    members: dict[int, ArrivedImage] = {}
    replaced = []
    for image in images:
        if image.stamp_ns > limit:
            break
        earlier = members.get(image.camera)
        if earlier is not None:
            replaced.append(earlier)
        members[image.camera] = image
    return ImageGroup(members, replaced)
