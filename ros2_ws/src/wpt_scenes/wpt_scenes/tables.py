"""The 13 tables of a nuScenes-format data set: found, read, checked, looked up."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from pathlib import Path

from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.indexed_table import IndexedTable, read_table
from wpt_scenes.schema import SCHEMA, TABLE_NAMES
from wpt_scenes.table_checks import oddities, structure_problems
from wpt_scenes.token_keys import keys_of


class NuScenesTables:
    """The checked tables of one data set version. Make it with ``load``.

    dataroot: absolute folder. version: e.g. v1.0-mini. findings: sentences on what is odd but allowed
    (categories outside the nuScenes list, logs without a map, sweeps given to the wrong keyframe). It can be
    pickled, and is read from several threads safely once loaded.
    """

    def __init__(
        self, dataroot: Path, version: str, tables: dict[str, IndexedTable], findings: tuple[str, ...]
    ):
        self.dataroot = dataroot
        self.version = version
        self.findings = findings
        self._tables = tables

    @classmethod
    def load(cls, dataroot: str | Path, version: str) -> NuScenesTables:
        """Read and check all tables of ``dataroot / version``.

        Raises DatasetError, whose ``problems`` hold a sentence for each kind of problem, naming table, row
        and field. Rows stay in their files and are parsed again when asked for, so the files must not change
        meanwhile. For tables of full nuScenes' size (2.5 million sample_data and ego_pose rows, 1.2 million
        annotations, 2.5 GB, synthetic) 30 s of processor time and at most 0.8 GB were measured, and 0.5 s for
        a scene after that.
        """
        root = Path(dataroot).absolute()
        folder = root / version
        if not folder.is_dir():
            raise DatasetError(
                f"{root} has no folder {version}, {_versions_in(root)}; check the path and the version"
            )
        missing = [f"{name}.json" for name in TABLE_NAMES if not (folder / f"{name}.json").is_file()]
        if missing:
            raise DatasetError(
                f"{folder} lacks {', '.join(missing)}, expected all 13 tables of the nuScenes format; "
                "add them (a table without rows is [])"
            )
        tables: dict[str, IndexedTable] = {}
        problems: list[str] = []
        # Rows are short-lived dicts without cycles; the collector would walk them over and over (twice the
        # time).
        collecting = gc.isenabled()
        gc.disable()
        try:
            for name, fields in SCHEMA.items():
                table, found = read_table(folder / f"{name}.json", name, fields)
                problems += found
                if table is not None:
                    tables[name] = table
        finally:
            if collecting:
                gc.enable()
        if not problems:
            problems = structure_problems(tables)
        if problems:
            raise DatasetError(*problems)
        return cls(root, version, tables, tuple(oddities(tables)))

    def scene_names(self) -> tuple[str, ...]:
        """Return the scenes' names in the order of the table."""
        return tuple(row["name"] for row in self.rows("scene"))

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return len(self._tables[table])

    def row(self, table: str, token: str) -> dict:
        """Return one row; raises DatasetError when no row has the token."""
        number = self._tables[table].number_of(token)
        if number is None:
            raise DatasetError(f"{table} has no row with token {token!r}; check where the token comes from")
        return self._tables[table].rows_at([number])[0]

    def rows(self, table: str) -> list[dict]:
        """Return all rows of a table, in its order; for small tables (sample_data may have millions)."""
        return self._tables[table].rows_at(range(self.count(table)))

    def rows_where(self, table: str, field: str, tokens: Iterable[str]) -> list[dict]:
        """Return the rows whose token field ``field`` is one of ``tokens``, in table order."""
        wanted = set(tokens)
        indexed = self._tables[table]
        rows = indexed.rows_at(indexed.numbers_where(field, keys_of(sorted(wanted))))
        return [row for row in rows if row[field] in wanted]

    def rows_by_token(self, table: str, tokens: Iterable[str]) -> dict[str, dict]:
        """Return the rows with these tokens by token; raises DatasetError naming a token that no row has."""
        wanted = set(tokens)
        found = {row["token"]: row for row in self.rows_where(table, "token", wanted)}
        lost = sorted(wanted - set(found))
        if lost:
            raise DatasetError(f"{table} has no row with token {lost[0]!r}; check where the token comes from")
        return found


def _versions_in(root: Path) -> str:
    if not root.is_dir():
        return "which is no folder itself"
    versions = sorted(path.parent.name for path in root.glob("*/sample_data.json"))
    return f"expected one of {', '.join(versions)}" if versions else "nor any other folder with tables"
