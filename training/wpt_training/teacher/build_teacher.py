"""The teacher of a configuration, whichever kind it is."""

from __future__ import annotations

from torch import Tensor

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.errors import TrainingError
from wpt_training.teacher.compact_teacher import CompactTeacher
from wpt_training.teacher.reference_teacher import ReferenceTeacher


def build_teacher(
    config: ExperimentConfig, anchors: Tensor | None = None, *, ego_inputs: tuple[str, ...] = ()
) -> CompactTeacher | ReferenceTeacher:
    """Return a teacher with new weights. anchors: [commands, K, T, 2], for the compact kind alone (zeros will
    do where weights that hold them are loaded next). ego_inputs: none in the main rows; the reference kind's
    sampler reads motion where any is named.
    """
    policy = config.student
    channels = config.world.network.architecture.bev_encoder.channels
    if config.teacher.kind == "compact":
        if anchors is None:
            raise TrainingError(
                "the compact teacher needs anchors but none are given; make them with make_anchors."
            )
        return CompactTeacher(
            config.teacher, channels, config.steps, policy.bev, anchors, ego_inputs=ego_inputs
        )
    return ReferenceTeacher(
        config.teacher,
        channels,
        config.steps,
        policy.bev,
        policy.plan.commands,
        occupancy_grid(policy, config.data),
        step_s=policy.plan.dt_s,
        reads_motion=bool(ego_inputs),
    )
