"""The occupancy world model W: images and history -> features now, then features and occupancy to come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from wpt_policy.network.student import ObservationEncoder
from wpt_policy.network.temporal import TemporalFusion

from wpt_training.configuration import DataConfig, WorldConfig
from wpt_training.data.batch import Batch
from wpt_training.world.interface import RollState
from wpt_training.world.occupancy_head import OccupancyHead, upsampling_factor
from wpt_training.world.world_decoder import Memory, WorldDecoder


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leave batch norms' running statistics as they are while they normalise by the batch (in training mode)."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def encode_history(
    encoder: ObservationEncoder, images: Tensor, image_from_base: Tensor, camera_mask: Tensor, valid: Tensor
) -> Tensor:
    """Return bird's-eye views [B, S, C + 1, X, Y] of history entries, each from its own set, without
    gradient.

    images: [B, S, N, H, W, 3] and the like, valid: [B, S] bool. Entries that are not valid are zero and are
    not encoded: neither their pixels nor the time for them matter. In training mode this pass normalises by
    its own batch, as the present's does, and leaves the running statistics to the present's: they would
    otherwise follow two passes a step, one of them of fewer sets. Both in one pass would cost a backward pass
    of the history for nothing.
    """
    channels, count_x, _ = encoder.bev_encoder.x_embedding.shape
    count_y = encoder.bev_encoder.y_embedding.shape[2]
    result = torch.zeros(*valid.shape, channels + 1, count_x, count_y, device=valid.device)
    if valid.any():
        with torch.no_grad(), running_statistics_kept(encoder):
            encoded = encoder(images[valid], image_from_base[valid], camera_mask[valid])
            result[valid] = encoded.to(result.dtype)
    return result


def observe_batch(model: nn.Module, batch: Batch) -> Tensor:
    """Return F_0 [B, C, X, Y] of a batch."""
    return model.observe(
        batch.images,
        batch.image_from_base,
        batch.camera_mask,
        batch.earlier_from_present,
        batch.history_valid,
    )


def true_displacements(future: Tensor, future_valid: Tensor) -> Tensor:
    """Return [B, T, 2] metres the ego truly moves in each step, from future [B, T, 3] and future_valid [B,
    T].

    A step whose end or beginning is unknown repeats the last known one (zero where none is): its frame has no
    truth, but the roll-out needs a number there.
    """
    positions = future[..., :2].float()
    before = torch.cat([torch.zeros_like(positions[:, :1]), positions[:, :-1]], dim=1)
    known = future_valid & torch.cat([torch.ones_like(future_valid[:, :1]), future_valid[:, :-1]], dim=1)
    moves = torch.where(known.unsqueeze(-1), positions - before, torch.zeros_like(positions))
    order = torch.arange(future.shape[1], device=future.device).expand_as(known)
    last = torch.where(known, order, torch.full_like(order, -1)).cummax(dim=1).values
    repeated = moves.gather(1, last.clamp(min=0).unsqueeze(-1).expand_as(moves))
    return torch.where((last >= 0).unsqueeze(-1), repeated, torch.zeros_like(repeated))


class OccupancyWorldModel(nn.Module):
    """A FutureModel (world.interface) that predicts occupancy.

    checkpoint_steps: image features and roll-out steps are computed again in the backward pass instead of
    kept, for sizes like ``reference``'s; batch norms of the backbone then average twice in a step.
    """

    def __init__(self, config: WorldConfig, data: DataConfig, *, checkpoint_steps: bool = False):
        super().__init__()
        network = config.network
        architecture, grid = network.architecture, network.bev
        self.channels = architecture.bev_encoder.channels
        self.steps = network.plan.steps
        self.checkpoint_steps = checkpoint_steps
        self.encoder = ObservationEncoder(architecture, network.image_input, network.normalisation, grid)
        self.fusion = TemporalFusion(architecture.fusion, grid, self.channels, network.history.entries)
        self.decoder = WorldDecoder(
            grid,
            self.channels,
            blocks=config.blocks,
            action_channels=config.action_channels,
            commands=len(network.plan.commands),
            conditional_norm=config.conditional_norm,
        )
        self.occupancy_head = OccupancyHead(
            self.channels, upsampling_factor(grid.cell_m, data.occupancy_cell_m)
        )

    def observe(
        self,
        images: Tensor,
        image_from_base: Tensor,
        camera_mask: Tensor,
        earlier_from_present: Tensor,
        history_valid: Tensor,
    ) -> Tensor:
        """Return F_0 [B, C, X, Y]; arguments as in data.batch.Batch, entry 0 of each the present set."""
        history = encode_history(
            self.encoder, images[:, 1:], image_from_base[:, 1:], camera_mask[:, 1:], history_valid
        )
        present = self._encode(images[:, 0], image_from_base[:, 0], camera_mask[:, 0])
        return self.fusion(present, history, earlier_from_present, history_valid)

    def _encode(self, images: Tensor, image_from_base: Tensor, camera_mask: Tensor) -> Tensor:
        if not (self.checkpoint_steps and torch.is_grad_enabled()):
            return self.encoder(images, image_from_base, camera_mask)
        features = checkpoint(self.encoder.image_features, images, use_reentrant=False)
        return self.encoder.bev_encoder(features, self.encoder.sampler(image_from_base, camera_mask))

    def start(self, current: Tensor) -> RollState:
        """Return the state before the first step from F_0 [B, C, X, Y]."""
        logits = None if self.decoder.conditional_norm is None else self.occupancy(current)
        memory = self.decoder.memorise(current, logits)
        return RollState(current, tuple(memory), torch.zeros(len(current), 2, device=current.device))

    def roll_step(self, state: RollState, displacement: Tensor, command: Tensor) -> RollState:
        """Return the state one step on. displacement: [B, 2] metres in base_link; command: [B] int64."""
        displacement = displacement.float()
        inputs = (state.features, Memory(*state.memory), displacement, state.position, command)
        if self.checkpoint_steps and torch.is_grad_enabled():
            features = checkpoint(self.decoder, *inputs, use_reentrant=False)
        else:
            features = self.decoder(*inputs)
        return RollState(features, state.memory, state.position + displacement)

    def roll_out(self, current: Tensor, displacements: Tensor, command: Tensor) -> Tensor:
        """Return F^w [B, T, C, X, Y] for F_0 [B, C, X, Y], displacements [B, T, 2] and command [B]."""
        state, frames = self.start(current), []
        for step in range(displacements.shape[1]):
            state = self.roll_step(state, displacements[:, step], command)
            frames.append(state.features)
        return torch.stack(frames, dim=1)

    def occupancy(self, features: Tensor) -> Tensor:
        """Return logits [..., 3, OX, OY] (vehicle, vulnerable, drivable) for features [..., C, X, Y]."""
        return self.occupancy_head(features)
