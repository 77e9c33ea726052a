"""Sizes of the student that the suite uses. A preset is a function that returns a PolicyConfig without
weights.
"""

from __future__ import annotations

from wpt_policy.frame import Command
from wpt_policy.image_input import ImageInputSpec
from wpt_policy.policy_config import (
    FORMAT_VERSION,
    OUTPUT_FRAME,
    Architecture,
    BackboneConfig,
    BevEncoderConfig,
    BevGrid,
    FusionConfig,
    HistorySpec,
    NeckConfig,
    Normalisation,
    PlanDecoderConfig,
    PlanSpec,
    PolicyConfig,
    Provenance,
)

# nuScenes' cameras, clockwise from the front.
SIX_CAMERAS = (
    "cam_front",
    "cam_front_right",
    "cam_back_right",
    "cam_back",
    "cam_back_left",
    "cam_front_left",
)
# ImageNet's RGB mean and standard deviation times 255.
IMAGENET_NORMALISATION = Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
NO_PROVENANCE = Provenance(trained=False, dataset="", commit="", seed=0, metrics={})

# nuScenes planning: six points 0.5 s apart. All commands of Bench2Drive, of which nuScenes uses the first
# three.
_PLAN = PlanSpec(
    steps=6,
    dt_s=0.5,
    commands=(
        Command.LEFT,
        Command.RIGHT,
        Command.STRAIGHT,
        Command.LANE_FOLLOW,
        Command.CHANGE_LANE_LEFT,
        Command.CHANGE_LANE_RIGHT,
    ),
)


def _history(entries: int) -> HistorySpec:
    """nuScenes keyframes are 0.40 to 0.60 s apart (two of them 0.85 to 1.15 s), hence the tolerance."""
    return HistorySpec(entries=entries, interval_s=0.5, tolerance_s=0.2, largest_gap_s=1.5)


def compact(
    name: str,
    *,
    cameras: tuple[str, ...] = SIX_CAMERAS,
    may_mask: tuple[str, ...] = (),
    width: int = 16,
    bev_channels: int = 32,
    ego_inputs: tuple[str, ...] = (),
) -> PolicyConfig:
    """The student that trains and runs on two CPU cores: 256x128 images, 80x48 cells of 1 m, one history
    entry.

    width: of the backbone's first stage. The crop keeps the top of the image, where signals hang.
    """
    return PolicyConfig(
        format_version=FORMAT_VERSION,
        name=name,
        architecture=Architecture(
            network="student",
            backbone=BackboneConfig(
                block="basic",
                stem_channels=width,
                stem_kernel=3,
                stem_max_pool=False,
                stage_widths=(width, 2 * width, 4 * width),
                stage_depths=(2, 2, 2),
                stage_strides=(2, 2, 2),
            ),
            neck=NeckConfig(channels=bev_channels, stride=8),
            # One camera per point: where two overlap the more central one is read. Two cost 5 ms more of 15
            # (one core).
            bev_encoder=BevEncoderConfig(
                channels=bev_channels, heads=4, layers=1, blocks=2, cameras_per_point=1
            ),
            fusion=FusionConfig(blocks=1),
            plan_decoder=PlanDecoderConfig(channels=64, heads=4, feedforward_channels=128),
        ),
        cameras=cameras,
        may_mask=may_mask,
        image_input=ImageInputSpec(width=256, height=128, crop="top", decode="opencv", resize="area"),
        normalisation=IMAGENET_NORMALISATION,
        bev=BevGrid(
            x_range_m=(-32.0, 48.0), y_range_m=(-24.0, 24.0), cell_m=1.0, heights_m=(0.0, 0.7, 1.6, 3.2, 5.2)
        ),
        plan=_PLAN,
        history=_history(1),
        ego_inputs=ego_inputs,
        output_frame=OUTPUT_FRAME,
        provenance=NO_PROVENANCE,
        weights_sha256="",
    )


def reference(
    name: str,
    *,
    cameras: tuple[str, ...] = SIX_CAMERAS,
    may_mask: tuple[str, ...] = (),
    layers_of_resnet: int = 50,
    bev_cells: int = 200,
    ego_inputs: tuple[str, ...] = (),
) -> PolicyConfig:
    """The student at the paper's size: ResNet-50 or -101, 800x448 images, 102.4 m square of 256-channel
    cells.

    bev_cells: cells along one side, 100 or 200. Range and two history entries as in Drive-OccWorld's
    configuration; heights span the part above the ground of its z range, [-5, 3] m in a LiDAR frame 1.84 m
    above it.
    """
    depths = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[layers_of_resnet]
    return PolicyConfig(
        format_version=FORMAT_VERSION,
        name=name,
        architecture=Architecture(
            network="student",
            backbone=BackboneConfig(
                block="bottleneck",
                stem_channels=64,
                stem_kernel=7,
                stem_max_pool=True,
                stage_widths=(64, 128, 256, 512),
                stage_depths=depths,
                stage_strides=(1, 2, 2, 2),
            ),
            neck=NeckConfig(channels=256, stride=8),
            bev_encoder=BevEncoderConfig(channels=256, heads=8, layers=3, blocks=1, cameras_per_point=2),
            fusion=FusionConfig(blocks=1),
            plan_decoder=PlanDecoderConfig(channels=256, heads=8, feedforward_channels=512),
        ),
        cameras=cameras,
        may_mask=may_mask,
        image_input=ImageInputSpec(width=800, height=448, crop="top", decode="opencv", resize="area"),
        normalisation=IMAGENET_NORMALISATION,
        bev=BevGrid(
            x_range_m=(-51.2, 51.2),
            y_range_m=(-51.2, 51.2),
            cell_m=102.4 / bev_cells,
            heights_m=(0.0, 1.0, 2.5, 4.8),
        ),
        plan=_PLAN,
        history=_history(2),
        ego_inputs=ego_inputs,
        output_frame=OUTPUT_FRAME,
        provenance=NO_PROVENANCE,
        weights_sha256="",
    )
