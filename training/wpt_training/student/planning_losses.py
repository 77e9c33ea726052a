"""The losses that every student row has: displacement, collision and occupancy now."""

from __future__ import annotations

from torch import Tensor

from wpt_training.configuration import LossWeights
from wpt_training.data.batch import Batch
from wpt_training.student.training_student import StudentTraining
from wpt_training.teacher.planning_losses import collision_loss, displacement_loss, sideways_loss
from wpt_training.world.occupancy_losses import current_occupancy_losses
from wpt_training.world.perception_losses import ego_motion_loss


def student_losses(output: StudentTraining, batch: Batch, weights: LossWeights) -> dict[str, Tensor]:
    """Return scalar losses by name, "total" their sum by ``weights``; distillation comes on top
    (student.distillation).

    ego_motion keeps the network's own estimate what its name says; like occupancy it is a label, never an input.
    """
    current = current_occupancy_losses(output.occupancy, batch)
    losses = {
        "displacement": displacement_loss(output.plan.positions, batch.future, batch.future_valid),
        "sideways": sideways_loss(output.plan.positions, batch.future, batch.future_valid),
        "collision": collision_loss(output.plan.positions, batch, weights.collision),
        "current_occupancy": sum(current.values()),
        "ego_motion": ego_motion_loss(output.ego_motion, batch, output.ego_motion_scales),
    }
    total = (
        weights.displacement * losses["displacement"]
        + weights.sideways * losses["sideways"]
        + losses["collision"]
        + weights.current_occupancy * losses["current_occupancy"]
        + weights.ego_motion * losses["ego_motion"]
    )
    return {**losses, "total": total}
