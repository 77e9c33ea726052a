"""The picture of `wpt-train explain`: predicted occupancy at 1, 2 and 3 s, the candidates on it, the front image."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np
import torch

from wpt_policy.plan import headings_and_speeds
from wpt_policy.policy_config import BevGrid
from wpt_scenes.metrics.rectangles import EgoFootprint, corners

from wpt_training.data.batch import VEHICLE, VULNERABLE, Batch
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.evaluation.teacher_folder import Decision, TeacherParts

# RGB.
_BACK, _ROAD, _TEXT = (24, 26, 30), (78, 82, 90), (232, 236, 240)
_VEHICLE, _VULNERABLE, _TRUE_EDGE = (70, 150, 255), (255, 120, 220), (255, 255, 255)
_CHOSEN, _TRUTH = (90, 255, 120), (255, 210, 60)
_PANEL_PX = 520  # height of a panel, about
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHIFT = 4  # fractional bits of drawn coordinates


def draw_decision(parts: TeacherParts, batch: Batch, decision: Decision, words: str) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB picture of a batch of one. words: ASCII, drawn below."""
    config = parts.config
    grid = occupancy_grid(config.student, config.data)
    with torch.inference_mode():
        predicted = torch.sigmoid(parts.world.occupancy(decision.frames)[0].float()).cpu().numpy()
    dt = config.student.plan.dt_s
    steps = sorted({min(round(second / dt), config.steps) for second in (1, 2, 3)})
    panels = [_panel(batch, decision, predicted[step], step, dt, grid) for step in steps]
    row = np.concatenate(
        [cv2.copyMakeBorder(p, 0, 0, 0, 8, cv2.BORDER_CONSTANT, value=_BACK) for p in panels], axis=1
    )
    width = row.shape[1]
    return np.concatenate([_images(batch, width), row, _caption(words, width)], axis=0)


def _panel(
    batch: Batch, decision: Decision, predicted: np.ndarray, step: int, dt_s: float, grid: BevGrid
) -> np.ndarray:
    scale = max(1, round(_PANEL_PX / grid.shape[0]))
    vehicle, vulnerable, road = predicted
    image = np.array(_BACK) + road[..., None] * (np.array(_ROAD) - np.array(_BACK))
    for share, colour in ((vehicle, _VEHICLE), (vulnerable, _VULNERABLE)):
        image = image + share[..., None] * (np.array(colour) - image)
    # Row 0 of the picture is the farthest cell ahead, column 0 the leftmost.
    image = np.ascontiguousarray(image[::-1, ::-1].astype(np.uint8))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    truth = (batch.occupancy[0, step].cpu().numpy() & (VEHICLE | VULNERABLE)) != 0
    outline = cv2.resize(
        truth[::-1, ::-1].astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST
    )
    edges, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, edges, -1, _TRUE_EDGE, 1)

    def pixels(points: np.ndarray) -> np.ndarray:
        rows = (grid.x_range_m[1] - points[:, 0]) / grid.cell_m * scale
        columns = (grid.y_range_m[1] - points[:, 1]) / grid.cell_m * scale
        return np.round(np.stack([columns, rows], axis=1) * 2**_SHIFT).astype(np.int32)

    def line(path: np.ndarray, colour: tuple[int, int, int], thick: int) -> None:
        whole = np.concatenate([np.zeros((1, 2)), path])
        cv2.polylines(image, [pixels(whole)], False, colour, thick, cv2.LINE_AA, _SHIFT)

    scores = decision.scores[0].cpu().numpy()
    order = np.argsort(scores)
    shades = cv2.applyColorMap(
        np.linspace(40, 220, len(order)).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO
    )[:, 0, ::-1]
    candidates = decision.candidates.positions[0].cpu().numpy().astype(np.float64)
    for rank, k in enumerate(order):
        line(candidates[k], tuple(int(v) for v in shades[rank]), 1)
    known = batch.future_valid[0].cpu().numpy()
    line(batch.future[0].cpu().numpy()[known][:, :2].astype(np.float64), _TRUTH, 2)
    plan = decision.plan[0].cpu().numpy().astype(np.float64)
    line(plan, _CHOSEN, 2)
    whole = np.concatenate([np.zeros((1, 2)), plan])
    heading = headings_and_speeds(whole, dt_s)[0][step]
    ego = EgoFootprint()
    centre = whole[step] + ego.centre_ahead_m * np.array([np.cos(heading), np.sin(heading)])
    box = corners(centre, np.array(heading), ego.half_size)
    cv2.polylines(image, [pixels(box)], True, _CHOSEN, 2, cv2.LINE_AA, _SHIFT)
    cv2.putText(image, f"in {step * dt_s:g} s", (8, 24), _FONT, 0.6, _TEXT, 1, cv2.LINE_AA)
    return image


def _images(batch: Batch, width: int) -> np.ndarray:
    """The present set in rig order, one row."""
    images = batch.images[0, 0].cpu().numpy()
    row = np.concatenate(list(images), axis=1)
    return cv2.resize(
        row, (width, max(1, round(row.shape[0] * width / row.shape[1]))), interpolation=cv2.INTER_AREA
    )


def _caption(words: str, width: int) -> np.ndarray:
    legend = (
        "green: chosen, with its footprint; yellow: true future; thin: candidates, blue (worst) to red (best); filled blue: "
        "predicted vehicles; pink: predicted pedestrians and riders; white outline: what is truly there"
    )
    lines = [line for text in (words, legend) for line in textwrap.wrap(text, max(20, width // 9))]
    image = np.full((22 * len(lines) + 12, width, 3), _BACK, dtype=np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(image, line, (8, 22 * (number + 1)), _FONT, 0.45, _TEXT, 1, cv2.LINE_AA)
    return image
