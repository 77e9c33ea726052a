"""Which samples of a data set are trained on when there are more than asked for."""

from __future__ import annotations

from pathlib import Path

from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.tables import NuScenesTables

from wpt_training.data.side_tables import SideTables
from wpt_training.errors import TrainingError


def first_scenes(dataroot: str | Path, version: str, most: int) -> list[str] | None:
    """Return the sample tokens of the first whole scenes with at most ``most`` samples in all, None when all
    fit.

    Scenes are taken in the order of their table, in which simulated data sets take turns between traffic
    families; whole ones, since a sample's history is its scene's. Samples listed as unlabelled are not
    counted: they are history alone. The first scene is taken in any case, cut at ``most``. Raises
    TrainingError for an unreadable data set.
    """
    try:
        tables = NuScenesTables.load(dataroot, version)
    except DatasetError as error:
        raise TrainingError(str(error)) from None
    unlabelled = SideTables.load(tables.dataroot / version).unlabelled
    by_scene: dict[str, list[tuple[int, str]]] = {row["token"]: [] for row in tables.rows("scene")}
    for row in tables.rows("sample"):
        by_scene[row["scene_token"]].append((row["timestamp"], row["token"]))
    chosen: list[str] = []
    for number, rows in enumerate(by_scene.values()):
        tokens = [token for _, token in sorted(rows) if token not in unlabelled]
        if len(chosen) + len(tokens) > most:
            return tokens[:most] if number == 0 else chosen
        chosen += tokens
    return None
