"""What lies beside the tables of a simulated data set: commands by sample token, and lists of sample tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from wpt_policy.frame import Command, CommandSource

from wpt_sim.errors import SimulationError

COMMAND_FILE = "command.json"


def write_commands(version_folder: Path, commands: Mapping[str, Command]) -> None:
    """Write the commands by sample token; their source is ROUTE: known from the route graph, not from the future."""
    text = {
        "format": 1,
        "source": CommandSource.ROUTE.name,
        "commands": {token: command.label for token, command in commands.items()},
    }
    (version_folder / COMMAND_FILE).write_text(json.dumps(text, indent=0) + "\n", encoding="utf-8")


def read_commands(version_folder: Path) -> dict[str, Command]:
    """Return the commands by sample token, none where the data has no such file (real nuScenes).

    Raises SimulationError for a file that is no such list.
    """
    path = version_folder / COMMAND_FILE
    if not path.exists():
        return {}
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["commands"]
        return {str(token): Command[label.upper()] for token, label in labels.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise SimulationError(f"{path} holds no commands by sample token ({error!r}): write the data set again.") from None


def write_token_list(path: Path, title: str, tokens: Sequence[str]) -> None:
    """Write a list of sample tokens, one a line, as token sets are read by the open-loop metrics."""
    path.write_text("\n".join([f"# {len(tokens)} samples {title}", *tokens]) + "\n", encoding="utf-8")
