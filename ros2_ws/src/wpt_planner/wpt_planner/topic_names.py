"""Other names for the planner's inputs: a preset of config/topic_presets.yaml, or a file of the same form."""

from __future__ import annotations

from pathlib import Path

import yaml

from wpt_planner.shared_files import shared_file


class TopicNamesError(ValueError):
    """A preset or file that gives no topic names; the message is one sentence."""


def topic_names(choice: str) -> dict[str, str]:
    """Return theirs by our relative name for a launch argument ``topics:=choice``; nothing for an empty one.

    choice: name of a preset, or path of a YAML file (*.yaml, *.yml) that maps our names to theirs, for a vehicle that fits
    no preset. Raises TopicNamesError.
    """
    if not choice:
        return {}
    presets = _mapping(shared_file("config", "topic_presets.yaml"))
    if choice in presets:
        return dict(presets[choice])
    if not choice.endswith((".yaml", ".yml")):
        raise TopicNamesError(
            f"topics is {choice!r}, expected one of {', '.join(presets)}, a YAML file (our name: theirs), or nothing"
        )
    names = _mapping(Path(choice))
    for ours, theirs in names.items():
        if not (isinstance(ours, str) and isinstance(theirs, str) and ours and theirs):
            raise TopicNamesError(
                f"{choice} maps {ours!r} to {theirs!r}, expected one name for each of ours, as in topic_presets.yaml"
            )
    return names


def _mapping(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise TopicNamesError(f"topic names cannot be read from {path} ({reason}); check the file") from None
    if not isinstance(content, dict):
        raise TopicNamesError(f"{path} is no YAML mapping, expected lines of the form `our name: their name`")
    return content
