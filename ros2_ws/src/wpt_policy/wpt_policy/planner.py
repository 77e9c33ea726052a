"""The one interface between whoever has frames and whoever plans."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from wpt_policy.frame import Command, Frame
from wpt_policy.image_input import ImageInput
from wpt_policy.plan import Plan


class PlannerError(RuntimeError):
    """A planner cannot plan on this frame; the message is one sentence with what was expected and what to do."""


@runtime_checkable
class Planner(Protocol):
    """Plans on frames in the order of their stamps. Not thread-safe: one worker owns it.

    name: shown in every output. cameras: names in the order the planner was made for; empty when it reads no images.
    may_mask: cameras that may be masked out. image_input: how images must be prepared, None when it reads none.
    commands: the commands it understands; empty when it ignores them.
    needs_ego: without ego motion it raises PlannerError instead of planning.
    """

    name: str
    cameras: tuple[str, ...]
    may_mask: frozenset[str]
    image_input: ImageInput | None
    commands: tuple[Command, ...]
    needs_ego: bool

    def plan(self, frame: Frame) -> Plan:
        """Return a plan for frame; raises PlannerError."""
        ...

    def reset(self) -> None:
        """Forget everything seen so far (new scene, clock jump, teleported ego)."""
        ...
