"""The student: six images, their geometry, remembered bird's-eye views and a command -> one plan, in one
pass.

Pure torch, tensors only in forward, no parameter that depends on the rig: exportable by torch.export, and
trained and run through the same code. Shape letters: wpt_policy.network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wpt_policy.network.backbone import Backbone, FeaturePyramid
from wpt_policy.network.bev_encoder import BevEncoder, CameraSampler
from wpt_policy.network.plan_decoder import PlanDecoder
from wpt_policy.network.temporal import TemporalFusion
from wpt_policy.policy_config import Architecture, BevGrid, ImageInputSpec, Normalisation, PolicyConfig


class ObservationEncoder(nn.Module):
    """Images of one set -> its bird's-eye view. A teacher or world model uses it at other sizes."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(
        self, architecture: Architecture, image: ImageInputSpec, normalisation: Normalisation, grid: BevGrid
    ):
        super().__init__()
        bev = architecture.bev_encoder
        # Repeated along a row: broadcasting three numbers over 590,000 pixels took 1.5 ms, whole rows take
        # 0.2 ms.
        row = (image.width, 3)
        mean, std = torch.tensor(normalisation.mean), torch.tensor(normalisation.std)
        self.register_buffer("mean", mean.expand(row).contiguous(), persistent=False)
        self.register_buffer("inverse_std", (1.0 / std).expand(row).contiguous(), persistent=False)
        self.backbone = Backbone(architecture.backbone)
        self.neck = FeaturePyramid(architecture.neck, self.backbone)
        self.sampler = CameraSampler(grid, image, architecture.neck.stride, bev.cameras_per_point)
        self.bev_encoder = BevEncoder(bev, grid, architecture.neck.channels)

    def image_features(self, images: Tensor) -> Tensor:
        """[B, N, H, W, 3] uint8 RGB -> [B, N, C, h, w]."""
        pixels = (images.flatten(0, 1).to(torch.float32) - self.mean) * self.inverse_std
        # A permuted view: the pixels already lie in memory as channels-last wants them.
        features = self.neck(self.backbone(pixels.permute(0, 3, 1, 2)))
        return features.unflatten(0, images.shape[:2])

    def forward(self, images: Tensor, image_from_base: Tensor, camera_mask: Tensor) -> Tensor:
        """Return [B, C + 1, X, Y]: features (zero in cells that no camera sees) and the validity channel.

        image_from_base: [B, N, 3, 4] float32, base_link at the reference stamp to homogeneous pixels of each
        camera at its own stamp (network.projection). camera_mask: [B, N] bool, False leaves a camera out of
        the attention.
        """
        return self.bev_encoder(self.image_features(images), self.sampler(image_from_base, camera_mask))


class StudentOutput(NamedTuple):
    """positions: [B, T, 2] metres in base_link; displacements: [B, T, 2] from step to step; queries: [B, T,
    D] refined;

    bev: [B, C + 1, X, Y] of this set alone, what a memory keeps; fused: [B, C, X, Y] with history.
    """

    positions: Tensor
    displacements: Tensor
    queries: Tensor
    bev: Tensor
    fused: Tensor


class Student(nn.Module):
    """The student of one policy.json. Its state_dict is what the bundle's weights hold (see
    bundle.weights_of).
    """

    def __init__(self, config: PolicyConfig):
        super().__init__()
        architecture = config.architecture
        channels = architecture.bev_encoder.channels
        self.encoder = ObservationEncoder(architecture, config.image_input, config.normalisation, config.bev)
        self.fusion = TemporalFusion(architecture.fusion, config.bev, channels, config.history.entries)
        self.plan_decoder = PlanDecoder(
            architecture.plan_decoder,
            config.bev,
            bev_channels=channels,
            steps=config.plan.steps,
            commands=len(config.plan.commands),
            ego_inputs=len(config.ego_inputs),
        )

    def forward(
        self,
        images: Tensor,
        image_from_base: Tensor,
        camera_mask: Tensor,
        history: Tensor,
        earlier_from_present: Tensor,
        history_valid: Tensor,
        command: Tensor,
        ego: Tensor,
    ) -> StudentOutput:
        """Plan on a batch of sets; arguments as in ObservationEncoder, TemporalFusion and PlanDecoder."""
        bev = self.encoder(images, image_from_base, camera_mask)
        return self.plan(bev, history, earlier_from_present, history_valid, command, ego)

    def plan(
        self,
        bev: Tensor,
        history: Tensor,
        earlier_from_present: Tensor,
        history_valid: Tensor,
        command: Tensor,
        ego: Tensor,
    ) -> StudentOutput:
        """The part after the encoder, for training and running on remembered bird's-eye views."""
        fused = self.fusion(bev, history, earlier_from_present, history_valid)
        queries, displacements = self.plan_decoder(fused, command, ego)
        return StudentOutput(displacements.cumsum(dim=1), displacements, queries, bev, fused)


def example_inputs(config: PolicyConfig, batch: int = 1) -> tuple[Tensor, ...]:
    """Return inputs of Student.forward of the right shapes and types: grey images, cameras looking ahead."""
    cameras, image = len(config.cameras), config.image_input
    count_x, count_y = config.bev.shape
    entries, channels = config.history.entries, config.architecture.bev_encoder.channels
    focal = 0.8 * image.width  # of nuScenes' cameras: 1266 pixels at 1600
    camera_from_base = torch.tensor([[0.0, -1, 0, 0], [0, 0, -1, 1.5], [1, 0, 0, 0]])
    intrinsics = torch.tensor([[focal, 0, 0.5 * image.width], [0, focal, 0.5 * image.height], [0, 0, 1]])
    return (
        torch.full((batch, cameras, image.height, image.width, 3), 128, dtype=torch.uint8),
        (intrinsics @ camera_from_base).expand(batch, cameras, 3, 4).contiguous(),
        torch.ones(batch, cameras, dtype=torch.bool),
        torch.zeros(batch, entries, channels + 1, count_x, count_y),
        torch.eye(2, 3).expand(batch, entries, 2, 3).contiguous(),
        torch.ones(batch, entries, dtype=torch.bool),
        torch.zeros(batch, dtype=torch.int64),
        torch.zeros(batch, len(config.ego_inputs)),
    )
