"""Message types for bags, without rclpy: those of ROS 2 Jazzy, wpt_msgs, and what a bag itself defines."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from functools import cache
from pathlib import Path

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wpt_replay.errors import BagError

HEADER = "std_msgs/msg/Header"


def share_folder(package: str) -> Path | None:
    """Return <prefix>/share/<package> of the first prefix that has it, or None.

    Prefixes are those of AMENT_PREFIX_PATH, then this interpreter's own, then the one that the Python package
    of that name lies in: a message package built into a virtual environment is found without any variable
    set.
    """
    prefixes = [Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    prefixes.append(Path(sys.prefix))
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        prefixes += list(Path(spec.origin).parents)
    for prefix in prefixes:
        folder = prefix / "share" / package
        if folder.is_dir():
            return folder
    return None


@cache
def installed_types() -> Typestore:
    """Return the types of Jazzy and of the installed wpt_msgs (.msg files); raises BagError without them."""
    folder = share_folder("wpt_msgs")
    files = sorted((folder / "msg").glob("*.msg")) if folder is not None else []
    if not files:
        raise BagError(
            "the message definitions of wpt_msgs (share/wpt_msgs/msg/*.msg) were not found in "
            "AMENT_PREFIX_PATH or in the Python environment, but its bags are written with them: run `make "
            "env`, or build wpt_msgs with colcon and source its setup file"
        )
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for file in files:
        types.update(get_types_from_msg(file.read_text(encoding="utf-8"), f"wpt_msgs/msg/{file.stem}"))
    store.register(types)
    return store


def types_of_definition(definition: MessageDefinition, type_name: str) -> Typestore | None:
    """Return a store with a type and its parts as a bag defines them, or None without a usable definition."""
    if definition.format is MessageDefinitionFormat.NONE or not definition.data:
        return None
    parse = get_types_from_idl if definition.format is MessageDefinitionFormat.IDL else None
    try:
        types = parse(definition.data) if parse else get_types_from_msg(definition.data, type_name)
        # Definitions leave out what every ROS system has, such as builtin_interfaces/msg/Time.
        base = get_typestore(Stores.ROS2_JAZZY)
        for name in types:
            base.fielddefs.pop(name, None)
        base.register(types)
    except Exception:  # whatever another system wrote there; the caller says that the type is unknown
        return None
    return base if type_name in base.fielddefs else None


@cache
def installed_type_hash(type_name: str) -> str | None:
    """Return the RIHS01 hash that an installed message package declares for a type, or None."""
    package, _, name = type_name.replace("/msg/", "/").partition("/")
    folder = share_folder(package)
    file = folder / "msg" / f"{name}.json" if folder is not None else None
    if file is None or not file.is_file():
        return None
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["type_hashes"]
        return next((entry["hash_string"] for entry in entries if entry["type_name"] == type_name), None)
    except (ValueError, KeyError, TypeError):
        return None


def starts_with_header(store: Typestore, type_name: str) -> bool:
    """Return whether a type begins with a std_msgs/Header, so that its stamp lies at a known place."""
    fields = store.fielddefs[type_name][1] if type_name in store.fielddefs else []
    return bool(fields) and fields[0][1][1] == HEADER
