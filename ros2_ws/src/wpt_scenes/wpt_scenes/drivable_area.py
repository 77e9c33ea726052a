"""Where one may drive: the semantic prior masks of a nuScenes-format data set.

A mask is a PNG at 0.1 m a pixel whose column c and row r stand for x = 0.1 c and y = 0.1 (height - r), as in
MapMask of nuscenes-devkit. The real ones have up to 630 million pixels. They are decoded once per process
(OpenCV: 4 s and, for that moment, 1.3 GB for the largest) and kept as bits (80 MB).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from wpt_policy import se3

from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables

CELL_M = 0.1
_DRIVABLE = 255


@dataclass(frozen=True, eq=False)
class DrivableArea:
    """Tells whether places are drivable. bits: (height, ceil(width / 8)) uint8, eight columns a byte."""

    bits: np.ndarray
    width: int

    @classmethod
    def load(cls, tables: NuScenesTables, scene: Scene) -> DrivableArea:
        """Return the drivable area of a scene's map.

        Raises DatasetError when no map names the scene's log, or its file is missing, a Git LFS pointer or no
        image.
        """
        rows = [row for row in tables.rows("map") if scene.log_token in row["log_tokens"]]
        if not rows:
            raise DatasetError(
                f"no map names the log of {scene.name} ({scene.location}), so its drivable area is unknown; "
                "add the map or choose another scene"
            )
        return cls.from_mask_file(tables.dataroot / rows[0]["filename"])

    @classmethod
    def from_mask_file(cls, path: Path) -> DrivableArea:
        """Return the drivable area of one mask file; decoded only once while the file stays the same."""
        try:
            status = path.stat()
        except OSError as error:
            raise DatasetError(
                f"map mask {path} cannot be read ({error.strerror or error}), so the drivable area is "
                "unknown; "
                "fetch the data set's maps folder"
            ) from None
        return cls(*_decoded(path, status.st_mtime_ns, status.st_size))

    @property
    def height(self) -> int:
        return self.bits.shape[0]

    def contains(self, points_global: np.ndarray) -> np.ndarray:
        """Return (N,) bool for (N, 2) global x, y in metres: drivable. Outside the mask, and NaN, is not."""
        points = np.asarray(points_global, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points have shape {points.shape}, expected (N, 2) global x, y")
        with np.errstate(invalid="ignore"):
            columns = np.round(points[:, 0] / CELL_M)
            rows = np.round(self.height - points[:, 1] / CELL_M)
            inside = (columns >= 0) & (columns < self.width) & (rows >= 0) & (rows < self.height)
        result = np.zeros(len(points), dtype=bool)
        column, row = columns[inside].astype(np.int64), rows[inside].astype(np.int64)
        result[inside] = (self.bits[row, column >> 3] >> (7 - (column & 7)).astype(np.uint8)) & 1
        return result

    def crop(
        self,
        global_from_base: np.ndarray,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        cell: float,
    ) -> np.ndarray:
        """Return the (nx, ny) bool grid around an ego pose.

        Entry [i, j] is the place x = x_range[0] + (i + 0.5) cell, y = y_range[0] + (j + 0.5) cell in
        base_link (metres, x forward, y left), moved by the full pose and then looked up by its x, y. Raises
        ValueError when a range is no whole number of cells.
        """
        centres = []
        for low, high in (x_range, y_range):
            count = round((high - low) / cell)
            if count < 1 or abs(count * cell - (high - low)) > 1e-6:
                raise ValueError(f"range {low} to {high} m is no whole number of cells of {cell} m")
            centres.append(low + (np.arange(count) + 0.5) * cell)
        x, y = np.meshgrid(*centres, indexing="ij")
        points = se3.apply(global_from_base, np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)]))
        return self.contains(points[:, :2]).reshape(x.shape)


# nuScenes has four maps; a process that reads all keeps about 300 MB.
@lru_cache(maxsize=4)
def _decoded(path: Path, mtime_ns: int, size: int) -> tuple[np.ndarray, int]:
    with path.open("rb") as file:
        if file.read(24).startswith(b"version https://git-lfs"):
            raise DatasetError(f"{path} is a Git LFS pointer, expected the map mask; run `git lfs pull`")
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise DatasetError(
            f"map mask {path} of {size} bytes cannot be decoded, expected a grey PNG of less than 2^30 "
            "pixels; "
            "fetch it again, or raise OPENCV_IO_MAX_IMAGE_PIXELS for a larger one"
        )
    bits = np.packbits(mask == _DRIVABLE, axis=1)
    bits.flags.writeable = False
    return bits, mask.shape[1]
