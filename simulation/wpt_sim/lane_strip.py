"""Bands along lines: the area of a lane, a kerb, a painted line."""

from __future__ import annotations

import numpy as np


def offset_line(line: np.ndarray, left: float) -> np.ndarray:
    """Return the line (N, 2) moved ``left`` metres to its left, mitred at its corners (mitre at most
    doubled)."""
    line = np.asarray(line, dtype=np.float64)
    steps = np.diff(line, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    steps = steps[lengths > 1e-9] / lengths[lengths > 1e-9, None]
    if len(steps) == 0:
        return line.copy()
    line = np.concatenate([line[:1], line[1:][lengths > 1e-9]])
    normals = np.column_stack([-steps[:, 1], steps[:, 0]])
    before = np.concatenate([normals[:1], normals])
    after = np.concatenate([normals, normals[-1:]])
    middle = before + after
    # |before + after| = 2 cos(half the turn): dividing by its square keeps the distance to both segments.
    scale = 2.0 / np.maximum(np.sum(middle * middle, axis=1), 0.5)
    return line + left * middle * scale[:, None]


def strip(line: np.ndarray, right: float, left: float) -> np.ndarray:
    """Return the polygon (M, 2) between two offsets (metres to the left; right < left) of a line (N, 2)."""
    return np.concatenate([offset_line(line, right), offset_line(line, left)[::-1]])


def part_of_line(line: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return the part of a line (N, 2) between two stations in metres, clipped to its length."""
    line = np.asarray(line, dtype=np.float64)
    stations = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    start, end = max(start, 0.0), min(end, stations[-1])
    inner = (stations > start + 1e-6) & (stations < end - 1e-6)
    ends = [[np.interp(s, stations, line[:, 0]), np.interp(s, stations, line[:, 1])] for s in (start, end)]
    return np.concatenate([[ends[0]], line[inner], [ends[1]]])


def points_along(line: np.ndarray, spacing: float) -> np.ndarray:
    """Return points (M, 2) on a line (N, 2), both ends and evenly at most ``spacing`` metres apart."""
    line = np.asarray(line, dtype=np.float64)
    stations = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    wanted = np.linspace(0.0, stations[-1], max(2, int(np.ceil(stations[-1] / spacing)) + 1))
    return np.column_stack([np.interp(wanted, stations, line[:, 0]), np.interp(wanted, stations, line[:, 1])])


def length_of_line(line: np.ndarray) -> float:
    """Return the length of a line (N, 2) in metres."""
    return float(np.hypot(*np.diff(np.asarray(line, dtype=np.float64), axis=0).T).sum())
