"""The student as it is trained: the shipped network, and heads that only training has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wpt_policy.network.student import Student, StudentOutput
from wpt_policy.policy_config import PolicyConfig

from wpt_training.configuration import DataConfig
from wpt_training.data.batch import Batch
from wpt_training.student.standing_start import remembered_standing
from wpt_training.teacher.candidates import check_ego_inputs, scaled_ego_inputs
from wpt_training.world.occupancy_head import OccupancyHead, upsampling_factor
from wpt_training.world.perception import PerceptionHeads
from wpt_training.world.world_model import encode_history


# Rows [Q] of the sample cache -> the view [Q, C + 1, X, Y] of each row's own set (stages.frozen_features.SetViews).
Views = Callable[[Tensor], Tensor]


class StudentTraining(NamedTuple):
    """plan: of the shipped network. occupancy: logits [B, 3, OX, OY] of now, from its fused bird's-eye view.
    projected: [B, T, D of the teacher] queries for Eq 15. ego_motion: [B, 2] as the network's fusion reads it, with the
    scales [2] of its error.
    """

    plan: StudentOutput
    occupancy: Tensor
    projected: Tensor
    ego_motion: Tensor
    ego_motion_scales: Tensor


class TrainingStudent(nn.Module):
    """student: the network that is exported. occupancy_head: for the current-occupancy loss. projector:
    queries to the teacher's width; the identity where widths agree. Both stay behind at export.

    History entries are encoded as encode_history says, as the runner encodes each set alone.
    """

    def __init__(self, policy: PolicyConfig, data: DataConfig, *, teacher_channels: int | None = None):
        """teacher_channels: width of the teacher's queries, None without policy distillation."""
        super().__init__()
        check_ego_inputs(policy.ego_inputs)
        architecture = policy.architecture
        width = architecture.plan_decoder.channels
        self.ego_inputs = policy.ego_inputs
        self.student = Student(policy)
        self.occupancy_head = OccupancyHead(
            architecture.bev_encoder.channels, upsampling_factor(policy.bev.cell_m, data.occupancy_cell_m)
        )
        self.projector: nn.Module = (
            nn.Identity() if teacher_channels in (None, width) else nn.Linear(width, teacher_channels)
        )

    def observe(
        self, batch: Batch, views: Views | None = None, drove: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the present's bird's-eye view [B, C + 1, X, Y], the one fused with history [B, C, X, Y], and the ego's
        motion [B, 2] that the fusion read (TemporalFusion.with_motion).

        views: read instead of the images. drove: [Q, S, 2, 3] earlier_from_present of the drive, of the last Q samples, which
        are told as if the ego stood (student.standing_start).
        """
        bev, history = self._encoded(batch) if views is None else _remembered(batch, views)
        fusion = self.student.fusion
        if drove is not None and len(drove):
            moving = len(batch) - len(drove)
            stood = remembered_standing(fusion.warp, bev[moving:], history[moving:], drove)
            history = torch.cat([history[:moving], stood])
        return bev, *fusion.with_motion(bev, history, batch.earlier_from_present, batch.history_valid)

    def _encoded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        encoder = self.student.encoder
        history = encode_history(
            encoder,
            batch.images[:, 1:],
            batch.image_from_base[:, 1:],
            batch.camera_mask[:, 1:],
            batch.history_valid,
        )
        return encoder(batch.images[:, 0], batch.image_from_base[:, 0], batch.camera_mask[:, 0]), history

    def forward(
        self, batch: Batch, views: Views | None = None, drove: Tensor | None = None
    ) -> StudentTraining:
        """Plan on a batch. The plan reads the images (or their views), the poses between them, the command and the
        policy's ego inputs. views, drove: as in observe.
        """
        bev, fused, motion = self.observe(batch, views, drove)
        ego = scaled_ego_inputs(batch.motion, self.ego_inputs)
        queries, displacements = self.student.plan_decoder(fused, batch.command, ego)
        plan = StudentOutput(displacements.cumsum(dim=1), displacements, queries, bev, fused)
        scales = self.student.fusion.ego_motion.scales
        return StudentTraining(plan, self.occupancy_head(fused), self.projector(queries), motion, scales)

    def start_from(self, encoder: nn.Module, fusion: nn.Module, heads: PerceptionHeads) -> None:
        """Take over what was pre-trained (stages.perception_stage): the start that all rows share."""
        self.student.encoder.load_state_dict(encoder.state_dict())
        self.student.fusion.load_state_dict(fusion.state_dict())
        self.occupancy_head.load_state_dict(heads.occupancy.state_dict())


def _remembered(batch: Batch, views: Views) -> tuple[Tensor, Tensor]:
    """Return the present's view and those of history [B, S, C + 1, X, Y], zero where not valid."""
    device, valid = batch.history_valid.device, batch.history_valid
    bev = views(batch.row).to(device)
    history = bev.new_zeros(*valid.shape, *bev.shape[1:])
    if valid.any():
        history[valid] = views(batch.history_row[valid]).to(device)
    return bev, history
