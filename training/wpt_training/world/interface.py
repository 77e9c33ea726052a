"""What teacher, reward model and student know of a world model, whatever its kind.

Shape letters: B samples, S history entries, N cameras, T future steps, C channels, X Y bird's-eye-view cells,
OX OY occupancy cells. Everything of the future stands in the PRESENT base_link, so nothing has to be moved by
the ego's own future pose.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class RollState(NamedTuple):
    """A roll-out between two steps.

    features: [B, C, X, Y], F_0 at first, then the predicted F^w of the step just made. memory: what the
    decoder keeps of F_0, in a form of its own. position: [B, 2] metres, where the ego is at that time.
    """

    features: Tensor
    memory: tuple[Tensor, ...]
    position: Tensor


class FutureModel(Protocol):
    """A world model. channels: C of its features; steps: T.

    The occupancy world model predicts occupancy; one that predicts instances (agents' motion and map
    elements) draws its ``occupancy`` from its boxes and boundaries, and is otherwise used the same way.
    """

    channels: int
    steps: int

    def observe(
        self,
        images: Tensor,
        image_from_base: Tensor,
        camera_mask: Tensor,
        earlier_from_present: Tensor,
        history_valid: Tensor,
    ) -> Tensor:
        """Return F_0 [B, C, X, Y] from images [B, 1 + S, N, H, W, 3] and the like of data.batch.Batch."""
        ...

    def start(self, current: Tensor) -> RollState:
        """Return the state before the first step from F_0 [B, C, X, Y]."""
        ...

    def roll_step(self, state: RollState, displacement: Tensor, command: Tensor) -> RollState:
        """Return the state 0.5 s on. displacement: [B, 2] metres the ego moves meanwhile; command: [B]."""
        ...

    def roll_out(self, current: Tensor, displacements: Tensor, command: Tensor) -> Tensor:
        """Return F^w [B, T, C, X, Y] for F_0 [B, C, X, Y], displacements [B, T, 2] and command [B]."""
        ...

    def occupancy(self, features: Tensor) -> Tensor:
        """Return logits [..., 3, OX, OY] (vehicle, vulnerable, drivable) for features [..., C, X, Y]."""
        ...
