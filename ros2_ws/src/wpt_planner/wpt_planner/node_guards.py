"""What keeps a node alive: callbacks and transitions whose exceptions become sentences."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn


class GuardedNode(Protocol):
    """What the decorators below ask of their node."""

    def report_fault(self, subject: str, sentence: str, details: str) -> None:
        """Show an unexpected exception of a callback; details are its traceback."""

    def transition_begins(self) -> None:
        """Somebody asks for a transition."""

    def transition_failed(self, sentence: str, details: str) -> None:
        """Keep the reason of a transition that raised."""


def guarded(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a callback's exception from ending the node: it becomes a finding, with its traceback at debug level."""

    @functools.wraps(callback)
    def guard(self: GuardedNode, *args: Any) -> Any:
        try:
            return callback(self, *args)
        except Exception as error:  # noqa: BLE001 - no message may end the node
            sentence = f"{callback.__name__.lstrip('_')} failed with {type(error).__name__}: {error}"
            self.report_fault(callback.__name__, sentence, traceback.format_exc())
            if args and hasattr(args[-1], "success"):  # a service still owes its answer
                args[-1].success, args[-1].message = False, sentence
                return args[-1]
            return None

    return guard


def transition(callback: Callable[..., TransitionCallbackReturn]) -> Callable[..., TransitionCallbackReturn]:
    """Tell autostart who asked for a transition, and keep the reason of one that raises: rclpy throws it away."""

    @functools.wraps(callback)
    def told(self: GuardedNode, state: LifecycleState) -> TransitionCallbackReturn:
        self.transition_begins()
        try:
            return callback(self, state)
        except Exception as error:  # noqa: BLE001 - on_error follows
            name = callback.__name__.removeprefix("on_")
            sentence = f"{name} failed with {type(error).__name__}: {' '.join(str(error).split())}"
            self.transition_failed(sentence, traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return told
