"""What a data set may hold beside the nuScenes tables: commands, lists of samples, routes, signals, lane
directions.

All are optional (real nuScenes has none of them). What is there is read strictly: a file of another form, or
a list that names an unknown sample, is a TrainingError.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wpt_policy.frame import Command, CommandSource

from wpt_training.data.batch import SIGNAL_STATES
from wpt_training.errors import TrainingError

COMMAND_FILE = "command.json"
ROUTES_FILE = "routes.json"
SIGNALS_FILE = "signals.json"
LANE_FOLDER = "lane_directions"
UNLABELLED_FILE = "unlabelled_samples.txt"
NATURAL_FILE = "samples_natural.txt"
INTERACTIVE_FILE = "samples_interactive.txt"
_FORMAT = 1
LANE_CELL_M = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Signal:
    """state: index into SIGNAL_STATES. stop_line: (2, 2) its ends, global metres."""

    state: int
    stop_line: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class LaneDirections:
    """Driving directions of one map. codes: (rows, columns) uint8, 0: none, v: heading (v - 1) / 254 * 2 pi,
    global.

    Column c, row r stands for x = 0.5 c, y = 0.5 (rows - r), as with map masks.
    """

    codes: np.ndarray

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return (Q,) float64 headings at (Q, 2) global places, NaN where there is no lane and outside the
        map.
        """
        rows, columns = self.codes.shape
        with np.errstate(invalid="ignore"):
            column = np.round(places[:, 0] / LANE_CELL_M)
            row = np.round(rows - places[:, 1] / LANE_CELL_M)
            inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        result = np.full(len(places), np.nan)
        found = self.codes[row[inside].astype(np.int64), column[inside].astype(np.int64)].astype(np.float64)
        result[inside] = np.where(found > 0, (found - 1.0) / 254.0 * (2 * math.pi), np.nan)
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class SideTables:
    """Contents of the side files. None (or, for signals, no entry) where the data set says nothing.

    commands: by sample token, with their common source. unlabelled, natural, interactive: sample tokens.
    routes: (P, 2) global metres by scene name. signals: by sample token. folder: of the lane directions.
    digest: of all files' contents.
    """

    commands: Mapping[str, Command] | None = None
    command_source: CommandSource = CommandSource.UNKNOWN
    unlabelled: frozenset[str] = frozenset()
    natural: frozenset[str] = frozenset()
    interactive: frozenset[str] = frozenset()
    routes: Mapping[str, np.ndarray] = field(default_factory=dict)
    signals: Mapping[str, Signal] = field(default_factory=dict)
    folder: Path | None = None
    digest: str = ""

    @classmethod
    def load(cls, folder: str | Path, samples: Iterable[str] | None = None) -> SideTables:
        """Read the side files of a version's folder.

        samples: all sample tokens of the version; when given, every token that a file names must be one of
        them. Raises TrainingError.
        """
        folder = Path(folder)
        known = None if samples is None else frozenset(samples)
        commands, source = _commands(folder / COMMAND_FILE)
        signals = _signals(folder / SIGNALS_FILE)
        lists = {
            name: _token_list(folder / name) for name in (UNLABELLED_FILE, NATURAL_FILE, INTERACTIVE_FILE)
        }
        for name, tokens in (*lists.items(), (COMMAND_FILE, commands or ()), (SIGNALS_FILE, signals)):
            strangers = [] if known is None else sorted(token for token in tokens if token not in known)
            if strangers:
                raise TrainingError(
                    f"{folder / name} names {len(strangers)} samples that the data set lacks (first: "
                    f"{strangers[0]}), "
                    "expected sample tokens of its tables; write the data set again or drop the lines."
                )
        lanes = folder / LANE_FOLDER
        return cls(
            commands=commands,
            command_source=source,
            unlabelled=frozenset(lists[UNLABELLED_FILE]),
            natural=frozenset(lists[NATURAL_FILE]),
            interactive=frozenset(lists[INTERACTIVE_FILE]),
            routes=_routes(folder / ROUTES_FILE),
            signals=signals,
            folder=lanes if lanes.is_dir() else None,
            digest=_digest(folder),
        )

    def lane_directions(self, location: str) -> LaneDirections | None:
        """Return a map's lane directions, None where there are none; raises TrainingError for an unreadable
        file.
        """
        path = None if self.folder is None else self.folder / f"{location}.png"
        if path is None or not path.is_file():
            return None
        status = path.stat()
        return LaneDirections(codes=_decoded(path, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=8)
def _decoded(path: Path, mtime_ns: int, size: int) -> np.ndarray:
    codes = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if codes is None or codes.ndim != 2 or codes.dtype != np.uint8:
        raise TrainingError(
            f"{path} of {size} bytes is no 8-bit grey image of lane directions; write the data set again."
        )
    codes.flags.writeable = False
    return codes


def _document(path: Path, key: str) -> dict[str, Any] | None:
    """Return the object of a side file, None where it is absent."""
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}), expected JSON; write the data set again."
        ) from None
    if (
        not isinstance(document, dict)
        or document.get("format") != _FORMAT
        or not isinstance(document.get(key), dict)
    ):
        raise TrainingError(
            f"{path} is no file of format {_FORMAT} with an object {key!r}; write the data set again with "
            "this version."
        )
    return document


def _commands(path: Path) -> tuple[dict[str, Command] | None, CommandSource]:
    document = _document(path, "commands")
    if document is None:
        return None, CommandSource.UNKNOWN
    try:
        source = CommandSource[document["source"]]
        commands = {token: Command[label.upper()] for token, label in document["commands"].items()}
    except (KeyError, AttributeError, TypeError) as error:
        raise TrainingError(
            f"{path} holds an unknown command or source ({error}), expected labels such as "
            f"{Command.LEFT.label!r}; write the data set again."
        ) from None
    return commands, source


def _routes(path: Path) -> dict[str, np.ndarray]:
    document = _document(path, "scenes")
    routes = {}
    for scene, points in ({} if document is None else document["scenes"]).items():
        routes[scene] = _points(points, path, scene)
        if len(routes[scene]) < 2:
            raise TrainingError(
                f"{path}: the route of {scene} has fewer than two points; write the data set again."
            )
    return routes


def _signals(path: Path) -> dict[str, Signal]:
    document = _document(path, "samples")
    signals = {}
    for token, entry in ({} if document is None else document["samples"]).items():
        colour = entry.get("colour") if isinstance(entry, dict) else None
        if colour not in SIGNAL_STATES[1:]:
            raise TrainingError(
                f"{path}: the signal of sample {token} has the colour {colour!r}, expected one of "
                f"{', '.join(SIGNAL_STATES[1:])}; write the data set again."
            )
        line = _points(entry.get("stop_line"), path, token)
        if line.shape != (2, 2):
            raise TrainingError(
                f"{path}: the stop line of sample {token} has no two ends; write the data set again."
            )
        signals[token] = Signal(state=SIGNAL_STATES.index(colour), stop_line=line)
    return signals


def _points(values: object, path: Path, what: str) -> np.ndarray:
    try:
        points = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not np.all(np.isfinite(points)):
        raise TrainingError(f"{path}: {what} holds no list of x, y in metres; write the data set again.")
    return points


def _token_list(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}), expected a sample token a line; repair it."
        ) from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    names = (COMMAND_FILE, ROUTES_FILE, SIGNALS_FILE, UNLABELLED_FILE, NATURAL_FILE, INTERACTIVE_FILE)
    for path in [folder / name for name in names] + sorted((folder / LANE_FOLDER).glob("*.png")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
