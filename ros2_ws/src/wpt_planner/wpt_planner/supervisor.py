"""The rules by which a camera set may be planned on: fresh, complete, commanded. ROS-free; clocks are given as readings.

Every rule answers with one sentence (what was wrong, what was expected, what to do) or with nothing to object to.
Stamps are integer nanoseconds of ROS time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wpt_policy.frame import Command, CommandSource

from wpt_planner.findings import Rank, span
from wpt_planner.parameters import PlannerParameters
from wpt_planner.set_outcome import Outcome

# Beyond this a stamp is not late but of another clock: a recording, or two machines that disagree.
_ANOTHER_CLOCK_NS = 60 * 10**9
# The newest images of a camera that are kept to stand in for a missing one: more than one, as the newest may be newer
# than the set or fail to decode.
_KEPT_IMAGES = 3


class SetRefused(Exception):
    """A rule forbids planning on a set. str() is the sentence; rank and subject: what is at fault, for diagnostics."""

    def __init__(
        self, reason: str, *, outcome: Outcome = Outcome.REFUSED, rank: Rank = Rank.SET, subject: str = "set"
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.rank = rank
        self.subject = subject


@dataclass(frozen=True, kw_only=True)
class CommandInUse:
    """The driving command that a set is planned for. problem: why the default stands in, empty when it does not."""

    command: Command
    source: CommandSource
    stamp_ns: int = 0
    problem: str = ""

    @property
    def is_default(self) -> bool:
        return bool(self.problem)


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """What replaces a missing camera: an older item to hold, or, where item is None, a mask."""

    camera: str
    stamp_ns: int = 0
    item: Any = None

    @property
    def is_mask(self) -> bool:
        return self.item is None


class Supervisor:
    """Judges sets by the parameters' rules for one planner.

    cameras: the rig's names in order. may_mask: those that the planner may lose. planner_name: for sentences.
    use_sim_time: may be changed. One thread receives (remember, commands, rate); the other methods keep no state.
    """

    def __init__(
        self,
        parameters: PlannerParameters,
        *,
        cameras: tuple[str, ...],
        may_mask: frozenset[str],
        planner_name: str,
        use_sim_time: bool,
    ) -> None:
        self._parameters = parameters
        self._cameras = cameras
        self._may_mask = may_mask
        self._planner_name = planner_name
        self.use_sim_time = use_sim_time
        self._max_age_ns = round(parameters.max_age * 1e9)
        self._stamp_lead_ns = round(parameters.stamp_lead * 1e9)
        self._hold_ns = round(parameters.hold_max_age * 1e9)
        self._recent: dict[str, deque[tuple[int, Any]]] = {
            name: deque(maxlen=_KEPT_IMAGES) for name in cameras
        }
        self._last_planned_ns: int | None = None
        self._command: CommandInUse | None = None
        self._command_time_ns = 0

    def reset(self, *, keep_command: bool) -> None:
        """Forget images and rate, and, after a clock jump, the command: it belongs to another time."""
        for images in self._recent.values():
            images.clear()
        self._last_planned_ns = None
        if not keep_command:
            self._command = None

    # Time

    def time_problem(self, reference_stamp_ns: int, now_ns: int) -> str | None:
        """Judge a set's age. now_ns: ROS time, 0 while simulated time has not begun."""
        if self.use_sim_time and now_ns == 0:
            return "simulated time is still 0, expected a /clock; play the recording with --clock"
        age_ns = now_ns - reference_stamp_ns
        if abs(age_ns) > _ANOTHER_CLOCK_NS:
            side = "behind" if age_ns > 0 else "ahead of"
            remedy = (
                "check that /clock and the images come from the same recording"
                if self.use_sim_time
                else "for recorded data set use_sim_time:=true and play with --clock, else synchronise the clocks"
            )
            return f"image stamps are {span(abs(age_ns))} {side} the ROS clock, expected the same clock; {remedy}"
        if age_ns > self._max_age_ns:
            return (
                f"the set is {span(age_ns)} old, expected at most max_age {self._parameters.max_age:g} s; "
                "check the load of this machine and the transport of the images"
            )
        if -age_ns > self._stamp_lead_ns:
            return (
                f"image stamps lead the ROS clock by {span(-age_ns)}, expected at most stamp_lead "
                f"{self._parameters.stamp_lead:g} s; synchronise the clocks of cameras and computer"
            )
        return None

    def plan_age_problem(self, reference_stamp_ns: int, now_ns: int, planning_ms: float) -> str | None:
        """Judge a plan before it is published: it may have taken too long."""
        age_ns = now_ns - reference_stamp_ns
        if age_ns <= self._max_age_ns:
            return None
        return (
            f"the plan would be {span(age_ns)} old when published, expected at most max_age "
            f"{self._parameters.max_age:g} s; planning took {planning_ms:.0f} ms"
        )

    def is_too_soon(self, reference_stamp_ns: int) -> bool:
        """Whether max_plan_rate leaves this set out; counts it as planned on where not."""
        rate = self._parameters.max_plan_rate
        last = self._last_planned_ns
        # A tenth of the interval is left to the jitter of the stamps: 12 Hz cameras at 6 Hz give every second set.
        if rate > 0 and last is not None and 0 <= reference_stamp_ns - last < 0.9e9 / rate:
            return True
        self._last_planned_ns = reference_stamp_ns
        return False

    # Cameras

    def remember(self, camera: str, stamp_ns: int, item: Any) -> None:
        """Keep an arrived image, so that it can be held when the next is missing."""
        if self._parameters.missing_camera == "hold":
            self._recent[camera].append((stamp_ns, item))

    def candidates_to_hold(
        self, cameras: Iterable[str], reference_stamp_ns: int
    ) -> dict[str, list[tuple[int, Any]]]:
        """Return for each camera its kept images (stamp, item), newest first, that are young enough for the set."""
        return {
            camera: [
                (stamp, item)
                for stamp, item in sorted(self._recent[camera], key=lambda kept: -kept[0])
                if 0 <= reference_stamp_ns - stamp <= self._hold_ns
            ]
            for camera in cameras
        }

    def require_possible(
        self, missing: tuple[str, ...], candidates: Mapping[str, list[tuple[int, Any]]], outcome: Outcome
    ) -> None:
        """Raise SetRefused naming the cameras whose absence the rule does not bridge.

        candidates: of candidates_to_hold. outcome: INCOMPLETE for images that did not come.
        """
        rule = self._parameters.missing_camera
        if rule == "skip":
            refused, why = missing, "missing_camera is skip"
        elif rule == "hold":
            refused = tuple(camera for camera in missing if not candidates.get(camera))
            why = f"it has no image of the last hold_max_age {self._parameters.hold_max_age:g} s to hold"
        else:
            refused = tuple(camera for camera in missing if camera not in self._may_mask)
            why = f"{self._planner_name} was not trained to lose it"
            if len(missing) == len(self._cameras):
                refused, why = missing, "no camera is left"
        if refused:
            names = ", ".join(refused)
            raise SetRefused(
                f"no image of {names} in this set and {why}; check {names}",
                outcome=outcome,
                rank=Rank.CAMERA,
                subject=refused[0],
            )

    def stand_in(self, camera: str, candidates: Mapping[str, list[tuple[int, Any]]]) -> Iterable[StandIn]:
        """Yield what may replace the camera, best first; empty when nothing may."""
        rule = self._parameters.missing_camera
        if rule == "hold":
            for stamp_ns, item in candidates.get(camera, ()):
                yield StandIn(camera=camera, stamp_ns=stamp_ns, item=item)
        elif rule == "mask" and camera in self._may_mask:
            yield StandIn(camera=camera)

    # Command

    def set_command(self, command: int, source: int, stamp_ns: int, now_ns: int) -> str | None:
        """Take a received driving command; return a sentence when it is not one. now_ns: ROS time of its arrival."""
        known = {int(value) for value in Command} - {int(Command.UNKNOWN)}
        if command not in known:
            return f"driving command {command} is not known, expected one of {sorted(known)} (wpt_msgs/DrivingCommand)"
        known_sources = {int(value) for value in CommandSource}
        self._command = CommandInUse(
            command=Command(command),
            source=CommandSource(source) if source in known_sources else CommandSource.UNKNOWN,
            stamp_ns=stamp_ns,
        )
        self._command_time_ns = stamp_ns if stamp_ns else now_ns
        return None

    def command_for(self, reference_stamp_ns: int) -> CommandInUse:
        """Return the command for a set: the received one while it is fresh, else default_command."""
        problem = "no driving command has been received"
        if self._command is not None:
            age_ns = reference_stamp_ns - self._command_time_ns
            timeout = self._parameters.command_timeout
            # A command may be a little newer than the set, whose images took their time; one far ahead is of another
            # clock and would stay "fresh" for ever.
            lead_ns = max(timeout * 1e9, self._stamp_lead_ns)
            if timeout == 0 or -lead_ns <= age_ns <= timeout * 1e9:
                return self._command
            problem = (
                f"the last driving command is {span(age_ns)} old, expected at most command_timeout {timeout:g} s"
                if age_ns > 0
                else f"the last driving command is stamped {span(-age_ns)} after the images, expected their clock"
            )
        default = self._parameters.default_command
        return CommandInUse(
            command=default,
            source=CommandSource.FIXED,
            stamp_ns=reference_stamp_ns,
            problem=f"{problem}: default_command {default.label} is used; publish planning/command",
        )


def command_problem(command: Command, known: tuple[Command, ...], planner_name: str) -> str | None:
    """Return a sentence when the planner was not made for the command. known: its commands, empty when it ignores them."""
    if not known or command in known:
        return None
    labels = ", ".join(value.label for value in known)
    return f"{planner_name} does not know the driving command {command.label}, expected one of {labels}"
