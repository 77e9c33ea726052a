"""One table file: checked row by row, kept as numpy columns and byte offsets, parsed again when asked for.

Full nuScenes has 2.6 million sample_data rows (1 GB of JSON). As Python objects they take more than 5 GB; as
columns of keys, stamps and offsets about 200 MB. A scene asks for some thousand rows, which are read from
their offsets.
"""

from __future__ import annotations

import codecs
import json
import mmap
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.schema import Field, Kind
from wpt_scenes.token_keys import key_of, keys_of
from wpt_scenes.value_checks import wrong_values

# Small enough that a block's rows stay in the processor's cache: 4 MiB blocks took 1.7 times as long.
_BLOCK_BYTES = 256 << 10
# Text left over at the end of a block is a row cut in two; no row is nearly as long as this.
_LONGEST_ROW = 1 << 20
_BETWEEN_ROWS = re.compile(r"[ \t\r\n\ufeff]*,?[ \t\r\n]*")

_KEYED = (Kind.KEY, Kind.REFERENCE, Kind.LINK, Kind.OPTIONAL_REFERENCE)
# Kinds that are kept in memory; the others are checked and read from the file when asked for.
_COLUMN_KINDS = (*_KEYED, Kind.REFERENCES, Kind.FLAG, Kind.STAMP, Kind.COUNT)


class IndexedTable:
    """A table's columns and where its rows lie in the file.

    columns: (N,) int64 keys of token fields (NO_TOKEN where empty or absent), int64 stamps (-1 where absent),
    bool flags, int64 counts (-1 where absent). lists: for fields with a list of tokens (keys (M,), row
    numbers (M,)).
    """

    def __init__(
        self,
        name: str,
        path: Path,
        columns: dict[str, np.ndarray],
        lists: dict[str, tuple[np.ndarray, np.ndarray]],
        starts: np.ndarray,
        ends: np.ndarray,
    ):
        self.name = name
        self.path = path
        self.columns = columns
        self.lists = lists
        self._starts = starts
        self._ends = ends
        self._orders: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def rows_at(self, numbers: Iterable[int]) -> list[dict]:
        """Return the rows of these numbers, parsed from the file."""
        wanted = [int(number) for number in numbers]
        if not wanted:
            return []
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return [json.loads(data[self._starts[number] : self._ends[number]]) for number in wanted]

    def number_of(self, token: str) -> int | None:
        """Return the number of the row with a token, None when there is none."""
        for number in self.numbers_where("token", key_of(token)[None]):
            if self.rows_at([number])[0]["token"] == token:
                return int(number)
        return None

    def numbers_where(self, field: str, keys: np.ndarray) -> np.ndarray:
        """Return the numbers of rows whose token field has one of these keys, in table order."""
        order = self._order(field)
        ordered = self.columns[field][order]
        first = np.searchsorted(ordered, keys, side="left")
        last = np.searchsorted(ordered, keys, side="right")
        if len(keys) == 0:
            return np.zeros(0, dtype=np.int64)
        return np.unique(np.concatenate([order[a:b] for a, b in zip(first, last, strict=True)]))

    def positions(self, keys: np.ndarray) -> np.ndarray:
        """Return for each key the number of the row with that token, -1 where no row has it."""
        if len(self) == 0:
            return np.full(len(keys), -1, dtype=np.int64)
        order = self._order("token")
        ordered = self.columns["token"][order]
        at = np.minimum(np.searchsorted(ordered, keys), len(order) - 1)
        return np.where(ordered[at] == keys, order[at], -1)

    def _order(self, field: str) -> np.ndarray:
        if field not in self._orders:
            self._orders[field] = np.argsort(self.columns[field], kind="stable")
        return self._orders[field]


class _Problems:
    """The first sentence of each kind of problem, and how many rows have it."""

    def __init__(self):
        self._found: dict[str, list] = {}

    def add(self, kind: str, sentence: str, rows: int = 1) -> None:
        self._found.setdefault(kind, [sentence, 0])[1] += rows

    def sentences(self) -> list[str]:
        return [s if n == 1 else f"{s} ({n} such rows)" for s, n in self._found.values()]


def read_table(path: Path, name: str, fields: Sequence[Field]) -> tuple[IndexedTable | None, list[str]]:
    """Read and check one table file; return the table (None when it cannot be read) and its problems."""
    problems = _Problems()
    parts: dict[str, list[np.ndarray]] = {field.name: [] for field in fields}
    owners: dict[str, list[np.ndarray]] = {
        field.name: [] for field in fields if field.kind is Kind.REFERENCES
    }
    starts: list[np.ndarray] = []
    ends: list[np.ndarray] = []
    count = 0
    try:
        for rows, block_starts, block_ends in _blocks(path, name):
            starts.append(block_starts)
            ends.append(block_ends)
            for field in fields:
                _take(name, field, rows, count, parts, owners, problems)
            count += len(rows)
    except DatasetError as error:
        return None, problems.sentences() + list(error.problems)
    columns = {
        field.name: np.concatenate(parts[field.name]) if parts[field.name] else _column(field.kind, [])
        for field in fields
        if field.kind in _COLUMN_KINDS
    }
    lists = {
        n: (columns.pop(n), np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64))
        for n, arrays in owners.items()
    }
    empty = np.zeros(0, dtype=np.int64)
    table = IndexedTable(
        name,
        path,
        columns,
        lists,
        np.concatenate(starts) if starts else empty,
        np.concatenate(ends) if ends else empty,
    )
    return table, problems.sentences()


def _take(name, field: Field, rows: list[dict], first: int, parts, owners, problems: _Problems) -> None:
    """Check one field over a block of rows and append its column."""
    try:
        values = [row[field.name] for row in rows]
        present = None
    except KeyError:
        present = [i for i, row in enumerate(rows) if field.name in row]
        absent = next(i for i, row in enumerate(rows) if field.name not in row)
        if field.required:
            problems.add(
                f"{field.name} absent",
                f"{name} {_row_label(rows[absent], first + absent)} lacks the field {field.name}, expected "
                f"{field.kind.value}; add it",
                len(rows) - len(present),
            )
        values = [rows[i][field.name] for i in present]
    if values:
        wrong, sentence = wrong_values(field.kind, values)
    else:
        wrong, sentence = np.zeros(0, dtype=np.int64), str
    if wrong.size:
        at = int(wrong[0])
        row = at if present is None else present[at]
        problems.add(
            f"{field.name} wrong",
            f"{name} {_row_label(rows[row], first + row)}: {field.name} {sentence(values[at])}",
            len(wrong),
        )
        replaced = set(wrong.tolist())
        values = [_absent(field.kind) if i in replaced else value for i, value in enumerate(values)]
    if present is not None:
        filled = [_absent(field.kind)] * len(rows)
        for i, value in zip(present, values, strict=True):
            filled[i] = value
        values = filled
    if field.kind is Kind.REFERENCES:
        lengths = [len(value) for value in values]
        owners[field.name].append(first + np.repeat(np.arange(len(rows)), lengths))
        values = [token for value in values for token in value]
    if field.kind in _COLUMN_KINDS:
        parts[field.name].append(_column(field.kind, values))


def _absent(kind: Kind):
    """What a column holds where a row has no (usable) value."""
    if kind in _KEYED or kind is Kind.TEXT:
        return ""
    return {Kind.FLAG: False, Kind.REFERENCES: []}.get(kind, -1)


def _column(kind: Kind, values: list) -> np.ndarray:
    if kind is Kind.FLAG:
        return np.array(values, dtype=bool)
    if kind in (Kind.STAMP, Kind.COUNT):
        return np.array(values, dtype=np.int64)
    return keys_of(values)


def _row_label(row: dict, number: int) -> str:
    token = row.get("token")
    return f"row {number} (token {token})" if isinstance(token, str) and token else f"row {number}"


def _blocks(path: Path, name: str) -> Iterator[tuple[list[dict], np.ndarray, np.ndarray]]:
    """Yield blocks of rows with the byte offsets where they start and end."""
    decode_row = json.JSONDecoder().raw_decode
    decoder = codecs.getincrementaldecoder("utf-8")()
    text, text_start, at, opened = "", 0, 0, False
    with path.open("rb") as file:
        while True:
            data = file.read(_BLOCK_BYTES)
            try:
                text = text[at:] + decoder.decode(data, final=not data)
            except UnicodeDecodeError:
                raise _broken(name, path, text_start, "it is no UTF-8 text") from None
            if text.startswith("version https://git-lfs"):
                raise DatasetError(
                    f"{path} is a Git LFS pointer, expected the table itself; run `git lfs pull`"
                )
            at = 0
            rows: list[dict] = []
            spans: list[tuple[int, int]] = []
            closed = False
            while True:
                at = _BETWEEN_ROWS.match(text, at).end()
                if at >= len(text):
                    break
                if not opened:
                    if text[at] != "[":
                        raise _broken(name, path, at, "it does not begin with [")
                    opened, at = True, at + 1
                    continue
                if text[at] == "]":
                    closed = True
                    break
                try:
                    row, end = decode_row(text, at)
                except json.JSONDecodeError as error:
                    if not data or len(text) - at > _LONGEST_ROW:
                        raise _broken(name, path, text_start + at, error.msg) from None
                    break
                if not isinstance(row, dict):
                    raise _broken(name, path, text_start + at, "it holds something that is no row")
                rows.append(row)
                spans.append((at, end))
                at = end
            if rows:
                offsets = np.array(spans, dtype=np.int64)
                if not text.isascii():
                    offsets = _byte_offsets(text, offsets)
                yield rows, text_start + offsets[:, 0], text_start + offsets[:, 1]
            if closed:
                return
            if not data:
                raise _broken(name, path, text_start + at, "it ends before its closing ]")
            text_start += len(text[:at].encode())


def _byte_offsets(text: str, offsets: np.ndarray) -> np.ndarray:
    """Turn character offsets into byte offsets of the UTF-8 text."""
    widths = np.array([len(character.encode()) for character in text], dtype=np.int64)
    return np.concatenate([[0], np.cumsum(widths)])[offsets]


def _broken(name: str, path: Path, byte: int, why: str) -> DatasetError:
    return DatasetError(
        f"table {name} ({path}) cannot be read near byte {byte}: {why}, expected a JSON list of rows; "
        "fetch or write the file again"
    )
