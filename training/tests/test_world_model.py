"""The whole of W on a small network: observation, roll-out, gradients, and that it can learn."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from wpt_policy.network.student import ObservationEncoder
from wpt_policy.policy_config import BevGrid
from wpt_training.configuration import ExperimentConfig, compact, reference
from wpt_training.data.batch import Batch
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.student.training_student import TrainingStudent
from wpt_training.world.occupancy_losses import world_losses
from wpt_training.world.perception import PerceptionHeads
from wpt_training.world.perception_losses import perception_losses
from wpt_training.world.world_model import (
    OccupancyWorldModel,
    encode_history,
    observe_batch,
    true_displacements,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def small(**world) -> ExperimentConfig:
    """compact with 64x32 images, a grid of 24x16 m, a quarter of the width."""
    full = compact()
    changed = []
    for policy in (full.student, full.world.network):
        architecture = policy.architecture
        changed.append(
            dataclasses.replace(
                policy,
                image_input=dataclasses.replace(policy.image_input, width=64, height=32),
                bev=BevGrid(x_range_m=(-8.0, 16.0), y_range_m=(-8.0, 8.0), cell_m=1.0, heights_m=(0.0, 1.6)),
                architecture=dataclasses.replace(
                    architecture,
                    backbone=dataclasses.replace(
                        architecture.backbone,
                        stem_channels=8,
                        stage_widths=(8, 8, 16),
                        stage_depths=(1, 1, 1),
                    ),
                    neck=dataclasses.replace(architecture.neck, channels=16),
                    bev_encoder=dataclasses.replace(architecture.bev_encoder, channels=16, heads=2, blocks=1),
                ),
            )
        )
    return full.with_(
        student=changed[0],
        world=dataclasses.replace(full.world, network=changed[1], action_channels=16, **world),
        data=dataclasses.replace(full.data, largest_boxes=16),
    )


def small_batch(config: ExperimentConfig, size: int = 2, seed: int = 0) -> Batch:
    return make_batch(config, size, seed)


def frames_of(model: OccupancyWorldModel, batch: Batch) -> torch.Tensor:
    current = observe_batch(model, batch)
    moves = true_displacements(batch.future, batch.future_valid)
    return torch.cat([current.unsqueeze(1), model.roll_out(current, moves, batch.command)], dim=1)


@pytest.mark.parametrize("world", [{}, {"conditional_norm": True, "blocks": 3}])
def test_shapes_and_gradients_in_every_parameter(world):
    config = small(**world)
    model, batch = OccupancyWorldModel(config.world, config.data), small_batch(config, 2)
    frames = frames_of(model, batch)
    assert frames.shape == (2, 7, 16, 24, 16)
    logits = model.occupancy(frames)
    assert logits.shape == (2, 7, 3, 48, 32)
    sum(world_losses(logits, batch, config.world.moving_weight).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_roll_out_is_roll_step_again_and_again_with_and_without_checkpoints():
    config = small()
    model = OccupancyWorldModel(config.world, config.data).eval()
    current = torch.randn(2, 16, 24, 16, requires_grad=True)
    moves, command = torch.randn(2, 6, 2), torch.tensor([0, 3])
    whole = model.roll_out(current, moves, command)
    state = model.start(current)
    for step in range(6):
        state = model.roll_step(state, moves[:, step], command)
        assert torch.equal(state.features, whole[:, step])
    torch.testing.assert_close(state.position, moves.sum(dim=1))
    (plain,) = torch.autograd.grad(whole.square().mean(), current)
    model.checkpoint_steps = True
    again = model.roll_out(current, moves, command)
    assert torch.equal(again, whole)
    torch.testing.assert_close(torch.autograd.grad(again.square().mean(), current)[0], plain)


def test_an_action_changes_its_own_step_and_all_later_ones_and_none_before():
    config = small()
    model = OccupancyWorldModel(config.world, config.data).eval()
    current, moves = torch.randn(1, 16, 24, 16), torch.ones(1, 6, 2)
    other = moves.clone()
    other[0, 3] += 3.0
    command = torch.zeros(1, dtype=torch.int64)
    changed = (model.roll_out(current, other, command) - model.roll_out(current, moves, command)).abs()
    by_step = changed.amax(dim=(0, 2, 3, 4))
    assert (by_step[:3] == 0).all() and (by_step[3:] > 1e-4).all()


def test_samples_of_a_batch_do_not_mix():
    config = small()
    model, batch = OccupancyWorldModel(config.world, config.data).eval(), small_batch(config, 3)
    with torch.no_grad():
        together, alone = frames_of(model, batch), frames_of(model, batch[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


def test_history_matters_where_it_is_valid_and_has_no_gradient(monkeypatch):
    config = small()
    model, batch = OccupancyWorldModel(config.world, config.data).eval(), small_batch(config, 2)
    assert batch.history_valid[:, 0].tolist() == [True, False]
    seen = []
    forward = ObservationEncoder.forward

    def watched(self, images, *others):
        seen.append((len(images), torch.is_grad_enabled()))
        return forward(self, images, *others)

    monkeypatch.setattr(ObservationEncoder, "forward", watched)
    first = observe_batch(model, batch)
    assert seen == [(1, False), (2, True)]  # the one valid entry without gradient, both present sets with it
    darker = batch.images.clone()
    darker[:, 1] //= 2
    second = observe_batch(model, dataclasses.replace(batch, images=darker))
    changed = (second - first).abs().amax(dim=(1, 2, 3))
    assert changed[0] > 1e-4 and changed[1] == 0.0
    history = encode_history(
        model.encoder,
        batch.images[:, 1:],
        batch.image_from_base[:, 1:],
        batch.camera_mask[:, 1:],
        batch.history_valid,
    )
    assert not history.requires_grad and (history[1] == 0).all() and (history[0] != 0).any()


def test_no_valid_history_at_all():
    config = small()
    model, batch = OccupancyWorldModel(config.world, config.data), small_batch(config, 2)
    none = dataclasses.replace(batch, history_valid=torch.zeros_like(batch.history_valid))
    assert torch.isfinite(observe_batch(model, none)).all()


def test_displacements_of_a_future_with_gaps():
    future = torch.zeros(1, 6, 3)
    future[0, :, 0] = torch.tensor([1.0, 3.0, 99.0, 10.0, 15.0, float("nan")])
    valid = torch.tensor([[True, True, False, True, True, False]])
    moves = true_displacements(future, valid)
    # Step 3 ends unknown, step 4 begins unknown: both repeat step 2's 2 m; the last repeats step 5's 5 m.
    assert moves[0, :, 0].tolist() == [1.0, 2.0, 2.0, 2.0, 5.0, 5.0]
    assert true_displacements(future, torch.zeros_like(valid)).abs().max() == 0.0


def test_eight_samples_can_be_learned():
    config = small()
    model, batch = OccupancyWorldModel(config.world, config.data), small_batch(config, 8)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    history = []
    for _ in range(100):
        loss = sum(world_losses(model.occupancy(frames_of(model, batch)), batch, 4.0).values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < 0.6 * history[0], history[::10]


def test_perception_shapes_gradients_and_overfit():
    config = small()
    network = TrainingStudent(config.student, config.data)
    heads = PerceptionHeads(16, config.student.bev, config.data.occupancy_cell_m, config.commands)
    batch = small_batch(config, 8)
    fusion = network.student.fusion
    optimiser = torch.optim.AdamW([*network.parameters(), *heads.parameters()], lr=4e-3)
    history = []
    for step in range(60):
        _, fused, motion = network.observe(batch)
        perceived = heads(fused)
        losses = perception_losses(perceived, motion, fusion.ego_motion.scales, batch, config.student.bev)
        loss = sum(losses.values())
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            assert perceived.occupancy.shape == (8, 3, 48, 32) and perceived.signal.shape == (8, 4)
            assert perceived.route.shape == (8, config.commands, 24, 16)
            assert perceived.velocity.shape == (8, 2, 24, 16) and motion.shape == (8, 2)
            for name, parameter in (*heads.named_parameters(), *fusion.named_parameters()):
                assert parameter.grad.abs().sum() > 0, name
        optimiser.step()
        history.append({name: value.item() for name, value in losses.items()} | {"total": loss.item()})
    assert history[-1]["total"] < 0.6 * history[0]["total"], history[::10]
    for name in ("signal", "route", "velocity", "ego_motion"):
        assert history[-1][name] < 0.5 * history[0][name], (name, history[::10])


def test_the_reference_sizes_build():
    config = reference()
    with torch.device("meta"):
        model = OccupancyWorldModel(config.world, config.data, checkpoint_steps=True)
    assert model.channels == 256 and len(model.decoder.blocks) == 3
    assert model.decoder.conditional_norm is not None
