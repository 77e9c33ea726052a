"""A row that sees perfectly: the true bird's-eye view of the present, as far as the cameras could see it, to a plan.

What it reaches is what imitation could reach with these inputs if perception made no mistake. It reads no image and,
in its main form, nothing of the ego's own motion; with "speed" and "yaw_rate" it reads what a perfect comparison of the
present with the remembered view would tell. Open loop only: in closed loop the row of `wpt-sim gate` stands for it.

Shape letters as in data.batch; X, Y here are the cells of the policy's bird's-eye view.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wpt_policy.network.plan_decoder import PlanDecoder
from wpt_policy.policy_config import BevGrid, PlanDecoderConfig, PolicyConfig

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.batch import SIGNAL_STATES, VEHICLE, VULNERABLE, Batch
from wpt_training.data.occupancy_truth import cell_centres, cells_in_boxes, occupancy_grid
from wpt_training.errors import TrainingError
from wpt_training.evaluation.predictions import Predictor
from wpt_training.teacher.candidates import check_ego_inputs, scaled_ego_inputs
from wpt_training.trainer.checkpoint import load_weights

CHANNELS = (
    "vehicle", "vulnerable", "velocity_x", "velocity_y", "visible", "drivable", "lane", "lane_cos", "lane_sin",
    *(f"stop_line_{state}" for state in SIGNAL_STATES[1:]),
)  # fmt: skip
VELOCITY_SCALE = 10.0  # m/s
# A cell whose centre is nearer than this to a stop line holds it, in cells.
LINE_HALF_WIDTH = 0.75
MOTION_INPUTS = ("speed", "yaw_rate")


class TruthRaster:
    """Batch -> [B, len(CHANNELS), X, Y] float32 of what is true and in sight now. grid: X, Y; fine: of Batch.occupancy.

    Road users and their velocities are drawn on visible cells only; the map is known everywhere, as a lane map is.
    Finer cells are joined: the largest for occupancy, means for the rest.
    """

    def __init__(self, grid: BevGrid, fine: BevGrid):
        self.grid, self.fine = grid, fine
        self.factor = round(grid.cell_m / fine.cell_m)
        if (grid.shape[0] * self.factor, grid.shape[1] * self.factor) != fine.shape:
            raise TrainingError(
                f"cells of {grid.cell_m:g} m are no whole number of occupancy cells of {fine.cell_m:g} m, expected one; "
                "change occupancy_cell_m."
            )
        self._centres = torch.from_numpy(cell_centres(grid)).float()

    def __call__(self, batch: Batch) -> Tensor:
        visible = batch.visible
        now = torch.where(visible, batch.occupancy[:, 0], torch.zeros_like(batch.occupancy[:, 0]))
        users = torch.stack([(now & VEHICLE) != 0, (now & VULNERABLE) != 0], dim=1).float()
        covered, velocity = self._velocities(batch)
        known = torch.isfinite(batch.lane_direction)
        direction = torch.nan_to_num(batch.lane_direction.float())
        lane = torch.stack([known, known * direction.cos(), known * direction.sin()], dim=1).float()
        lane = self._mean(lane)
        share = lane[:, :1].clamp(min=1e-6)
        return torch.cat(
            [
                functional.max_pool2d(users, self.factor),
                self._mean(velocity) / self._mean(covered).clamp(min=1e-6),
                self._mean(visible.unsqueeze(1).float()),
                self._mean(batch.drivable.unsqueeze(1).float()),
                lane[:, :1],
                lane[:, 1:] / share,
                self._stop_line(batch),
            ],
            dim=1,
        )

    def _mean(self, values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, self.factor)

    def _velocities(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return on fine cells [B, 1, ...] which visible ones a box covers, and its scaled velocity [B, 2, ...]."""
        device, shape = batch.visible.device, self.fine.shape
        valid = batch.box_valid[:, 0].cpu().numpy()
        sample, actor = np.nonzero(valid)
        owner, i, j = cells_in_boxes(batch.boxes[:, 0].cpu().numpy()[sample, actor], self.fine)
        of_cell = np.nan_to_num(batch.box_velocity[:, 0].cpu().numpy()[sample[owner], actor[owner]]) / VELOCITY_SCALE
        drawn = np.zeros((len(valid), 3, *shape), dtype=np.float32)
        drawn[sample[owner], 0, i, j] = 1.0
        for axis in range(2):
            drawn[sample[owner], 1 + axis, i, j] = of_cell[:, axis]
        seen = torch.from_numpy(drawn).to(device) * batch.visible.unsqueeze(1)
        return seen[:, :1], seen[:, 1:]

    def _stop_line(self, batch: Batch) -> Tensor:
        """Return [B, 3, X, Y]: the stop line that counts, in the channel of its signal's state."""
        centres = self._centres.to(batch.stop_line.device)
        first, second = torch.nan_to_num(batch.stop_line.float(), nan=1e4)[:, :, None, None].unbind(1)
        along = second - first  # [B, 1, 1, 2]
        share = ((centres - first) * along).sum(-1) / along.square().sum(-1).clamp(min=1e-6)
        apart = torch.linalg.vector_norm(centres - first - share.clamp(0, 1).unsqueeze(-1) * along, dim=-1)
        held = (apart < LINE_HALF_WIDTH * self.grid.cell_m).float().unsqueeze(1)
        state = functional.one_hot(batch.signal, len(SIGNAL_STATES))[:, 1:, None, None].float()
        return held * state


class TruthBev(nn.Module):
    """raster [B, len(CHANNELS), X, Y], command [B] int64, ego [B, signal states + ego inputs] -> positions [B, T, 2].

    A convolution at the raster's cells, dilated ones at twice their size, both joined; then the plan decoder of the
    policies on the raster's cells, which is told the signal's state beside what it reads of the ego.
    """

    def __init__(self, policy: PolicyConfig, *, ego_inputs: tuple[str, ...] = (), width: int = 24):
        super().__init__()
        check_ego_inputs(ego_inputs)
        self.ego_inputs = ego_inputs
        self.near = _convolution(len(CHANNELS), width)
        self.coarser = _convolution(width, 2 * width, stride=2)
        # Dilated: a cell is to know of what is 20 m away.
        self.wider = nn.ModuleList(_convolution(2 * width, 2 * width, dilation=dilation) for dilation in (1, 2, 4))
        self.join = nn.Conv2d(3 * width, 2 * width, 1)
        self.decoder = PlanDecoder(
            PlanDecoderConfig(channels=64, heads=4, feedforward_channels=128),
            policy.bev,
            bev_channels=2 * width,
            steps=policy.plan.steps,
            commands=len(policy.plan.commands),
            ego_inputs=len(SIGNAL_STATES) + len(ego_inputs),
        )

    def forward(self, raster: Tensor, command: Tensor, ego: Tensor) -> Tensor:
        near = self.near(raster)
        wide = self.coarser(near)
        for layer in self.wider:
            wide = wide + layer(wide)
        wide = functional.interpolate(wide, near.shape[-2:], mode="bilinear", align_corners=False)
        features = functional.relu(self.join(torch.cat([near, wide], dim=1)))
        _, moves = self.decoder(features, command, ego)
        return moves.float().cumsum(dim=1)

    def plan(self, raster: TruthRaster, batch: Batch) -> Tensor:
        """Return positions [B, T, 2] for samples."""
        signal = functional.one_hot(batch.signal, len(SIGNAL_STATES)).float()
        ego = torch.cat([signal, scaled_ego_inputs(batch.motion, self.ego_inputs)], dim=1)
        return self(raster(batch), batch.command, ego)


def _convolution(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation),
        nn.GroupNorm(8, outputs),
        nn.ReLU(inplace=True),
    )


def truth_raster(config: ExperimentConfig) -> TruthRaster:
    """Return the raster of a configuration's grids."""
    return TruthRaster(config.student.bev, occupancy_grid(config.student, config.data))


def load_truth_bev(run: Path, config: ExperimentConfig, *, ego_inputs: tuple[str, ...] = ()) -> TruthBev:
    """Return the network of a finished run (truth_bev_stage), in evaluation mode. Raises TrainingError."""
    network = TruthBev(config.student, ego_inputs=ego_inputs)
    load_weights(run, {"truth_bev": network})
    return network.eval().requires_grad_(False)


def truth_bev_predictor(network: TruthBev, config: ExperimentConfig) -> Predictor:
    """Return its predictor; the network is put into evaluation mode."""
    network.eval()
    raster = truth_raster(config)
    return lambda batch: network.plan(raster, batch)
