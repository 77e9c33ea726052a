"""What policy distillation (Eq 15) asks a teacher for, computed once for each sample.

It is a function of the sample: the queries of the candidate nearest to the true future, and those of the choice of the
teacher as it was trained. World-reward distillation needs the roll-out's frames too, which are too large to keep.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.batch import Batch
from wpt_training.errors import TrainingError
from wpt_training.stages.frozen_features import FrozenFeatures
from wpt_training.stages.present_features import present_features
from wpt_training.stages.teacher_stage import TrainedTeacher
from wpt_training.student.distillation import teacher_choice
from wpt_training.teacher.reference_teacher import ReferenceTeacher
from wpt_training.teacher.teacher_losses import nearest_candidate
from wpt_training.trainer.stage import signature_of
from wpt_training.world.world_model import OccupancyWorldModel

# Second axis of the features: which candidate's queries.
NEAREST, CHOSEN = 0, 1


class TeacherQueries:
    """An observer (stages.frozen_features): [B, 2, T, D] queries, of the candidates NEAREST and CHOSEN (by reward).

    features: cached F_0 of the world model, None to compute it. Raises TrainingError for a teacher that has no whole
    trajectories or no reward model.
    """

    label = "teacher's queries"

    def __init__(
        self,
        config: ExperimentConfig,
        world: OccupancyWorldModel,
        teacher: TrainedTeacher,
        features: FrozenFeatures | None = None,
    ):
        if isinstance(teacher.teacher, ReferenceTeacher) or teacher.reward is None:
            raise TrainingError("queries are kept of a compact teacher with a reward model; train without keeping them.")
        self.config, self.world, self.teacher, self.reward = config, world, teacher.teacher, teacher.reward
        self.cached = features
        self.network = nn.ModuleList([world, teacher.teacher, teacher.reward])

    def signature(self) -> str:
        return signature_of(self.network)

    @torch.no_grad()
    def features(self, batch: Batch) -> Tensor:
        current = present_features(self.world, batch, self.cached)
        candidates, frames = self.teacher.plan_candidates(self.world, current, batch.command, batch.motion)
        scores = self.reward(frames, candidates.positions).score(self.config.reward)
        winners = (
            nearest_candidate(candidates.positions, batch.future, batch.future_valid),
            teacher_choice("reward", candidates, reward_scores=scores),
        )
        return torch.stack([candidates.chosen(winner)[1] for winner in winners], dim=1)
