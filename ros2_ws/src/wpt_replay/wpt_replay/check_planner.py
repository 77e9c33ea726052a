"""What the chosen planner needs: cameras and their order, ego motion, commands."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points

from wpt_policy.frame import Command, CommandSource
from wpt_policy.image_input import ImageInput
from wpt_policy.planner import Planner

from wpt_replay.check_observer import CommandTrack
from wpt_replay.check_report import Finding, fail, ok, warn
from wpt_replay.check_settings import PlannerSettings
from wpt_replay.errors import ReplayError

PLANNERS_GROUP = "wpt.planners"


class PlannerUnknownError(ReplayError):
    """A planner that does not exist or cannot be loaded."""


@dataclass(frozen=True, kw_only=True)
class PlannerNeeds:
    """cameras: in the order of the rig. image_input: None for a planner that reads no images."""

    name: str
    cameras: tuple[str, ...]
    may_mask: frozenset[str]
    image_input: ImageInput | None
    commands: tuple[Command, ...]
    needs_ego: bool


def load_needs(spec: str, settings: PlannerSettings) -> PlannerNeeds:
    """Load a planner by name, bundle or NAME:CHECKPOINT and return its needs; raises PlannerUnknownError."""
    try:
        planner = _load(spec)
    except Exception as error:  # a bundle can fail in any way, and the reason must be seen
        reason = " ".join(str(error).split())
        raise PlannerUnknownError(f"planner {spec!r} cannot be loaded: {reason}") from error
    return PlannerNeeds(
        name=planner.name,
        cameras=tuple(planner.cameras) or settings.cameras,
        may_mask=frozenset(planner.may_mask),
        image_input=planner.image_input,
        commands=tuple(planner.commands),
        needs_ego=planner.needs_ego,
    )


def _load(spec: str) -> Planner:
    for point in entry_points(group=PLANNERS_GROUP):
        if point.name == spec:
            return point.load()()
    # torch takes seconds to import, and the planners above need none
    from wpt_policy.registry import make_planner

    return make_planner(spec, device="cpu")


def judge_planner(needs: PlannerNeeds) -> Finding:
    """Say what the planner asks for."""
    reads = "reads no images" if needs.image_input is None else _input_text(needs.image_input)
    parts = [f"{len(needs.cameras)} cameras ({', '.join(needs.cameras)})", reads]
    if needs.may_mask:
        parts.append(f"may lose {', '.join(sorted(needs.may_mask))}")
    parts.append("needs ego motion" if needs.needs_ego else "can do without ego motion")
    return ok("planner", f"{needs.name}: {', '.join(parts)}")


def judge_command(
    track: CommandTrack | None, topic: str, needs: PlannerNeeds, settings: PlannerSettings
) -> list[Finding]:
    """Judge the driving commands: known to the planner, and where they come from."""
    known = {int(command) for command in needs.commands}
    findings = []
    default = Command[settings.default_command.upper()]
    if known and int(default) not in known:
        findings.append(
            fail(
                "default_command",
                f"{default.label} is not known by {needs.name}, expected one of {_labels(needs.commands)}",
                "set default_command to one of them",
            )
        )
    if track is None or not track.times.count:
        findings.append(
            warn(
                topic,
                f"there is no driving command: every plan is made for default_command {default.label}, turns"
                " included",
                "publish wpt_msgs/DrivingCommand there, or set default_command",
            )
        )
        return findings
    strangers = {value for value in track.commands if value not in {int(c) for c in Command} - {0}}
    if strangers:
        findings.append(
            warn(
                topic,
                f"has commands {sorted(strangers)}, expected values 1 to {max(Command)} of"
                " wpt_msgs/DrivingCommand; they are ignored",
                "fix its publisher",
            )
        )
    unknown = [
        Command(value) for value in track.commands if known and value not in known and value not in strangers
    ]
    if unknown:
        findings.append(
            fail(
                topic,
                f"asks for {_labels(unknown)}, which {needs.name} does not know, expected"
                f" {_labels(needs.commands)}; such sets are refused",
                "map the command in its publisher, or use another policy",
            )
        )
    used = ", ".join(
        f"{Command(value).label} {count}"
        for value, count in track.commands.most_common()
        if value not in strangers
    )
    sources = {value: count for value, count in track.sources.items()}
    if used and CommandSource.DERIVED_FROM_FUTURE in sources:
        used += "; derived from the recorded future, so it gives the turn away"
    if used and not unknown:
        findings.append(ok(topic, f"{track.times.count} driving commands: {used}"))
    return findings


def _input_text(image_input: ImageInput) -> str:
    return f"sees images at {image_input.spec.width}x{image_input.spec.height}"


def _labels(commands) -> str:
    return ", ".join(Command(command).label for command in commands)
