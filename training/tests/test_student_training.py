"""The student as it is trained: the same plans as the shipped network, history without gradient, eight
samples by heart.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from wpt_training.configuration import LossWeights
from wpt_training.data.batch import forgetting
from wpt_training.data.synthetic_batch import make_batch
from wpt_training.errors import TrainingError
from wpt_training.student.planning_losses import student_losses
from wpt_training.student.training_student import TrainingStudent
from wpt_training.world.perception import PerceptionHeads
from wpt_training.world.world_model import running_statistics_kept


def make(config, **options) -> TrainingStudent:
    torch.manual_seed(0)
    return TrainingStudent(config.student, config.data, **options)


def test_it_plans_as_the_shipped_network_does(small):
    network = make(small).eval()
    batch = make_batch(small, 3)
    with torch.no_grad():
        output = network(batch)
        earlier = network.student.encoder(
            batch.images[:, 1], batch.image_from_base[:, 1], batch.camera_mask[:, 1]
        )
        plan = network.student(
            batch.images[:, 0], batch.image_from_base[:, 0], batch.camera_mask[:, 0], earlier.unsqueeze(1),
            batch.earlier_from_present, batch.history_valid, batch.command, torch.zeros(3, 0),
        )  # fmt: skip
    assert torch.allclose(output.plan.positions, plan.positions, atol=1e-5)
    assert torch.allclose(output.plan.fused, plan.fused, atol=1e-5)
    assert output.occupancy.shape == (3, 3, *small.occupancy_shape)
    assert output.projected is output.plan.queries


def test_the_queries_are_brought_to_the_teachers_width(small):
    network = make(small, teacher_channels=24)
    output = network.eval()(make_batch(small, 2))
    assert output.projected.shape == (2, small.steps, 24)
    width = small.student.architecture.plan_decoder.channels
    assert isinstance(make(small, teacher_channels=width).projector, nn.Identity)
    # What is exported knows nothing of it.
    assert set(network.student.state_dict()) == set(make(small).student.state_dict())


def test_only_the_present_moves_the_running_statistics(small):
    batch = make_batch(small, 4)
    with_history, without = make(small).train(), make(small).train()
    encoder = with_history.student.encoder
    with_history(batch)
    without(dataclasses.replace(batch, history_valid=torch.zeros_like(batch.history_valid)))
    moved = 0
    for (name, mine), (_, other) in zip(
        encoder.named_buffers(), without.student.encoder.named_buffers(), strict=True
    ):
        assert torch.equal(mine, other), name
        moved += int("running_mean" in name and mine.abs().sum() > 0)
    assert moved > 0


def test_running_statistics_are_kept_while_the_batch_normalises():
    norm = nn.BatchNorm1d(3).train()
    values = torch.randn(8, 3) * 4 + 7
    with running_statistics_kept(norm):
        inside = norm(values)
    assert torch.equal(norm.running_mean, torch.zeros(3)) and int(norm.num_batches_tracked) == 0
    assert norm.track_running_stats
    assert torch.allclose(inside.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(inside, norm(values), atol=1e-6) and norm.running_mean.abs().sum() > 0
    norm.eval()
    with running_statistics_kept(norm):
        assert torch.allclose(
            norm(values), (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt(), atol=1e-5
        )


def test_history_is_read_but_gets_no_gradient(small):
    network = make(small).eval()
    batch = make_batch(small, 1)  # sample 0 has a history
    other = batch.images.clone()
    other[:, 1] = 255 - other[:, 1]
    changed = dataclasses.replace(batch, images=other)
    assert not torch.allclose(network(batch).plan.fused, network(changed).plan.fused)
    # The gradient is that of the present pass alone: the same as with the history given as a constant.
    network(batch).plan.positions.square().sum().backward()
    mine = network.student.encoder.backbone.stem[0].weight.grad.clone()
    network.zero_grad()
    with torch.no_grad():
        earlier = network.student.encoder(
            batch.images[:, 1], batch.image_from_base[:, 1], batch.camera_mask[:, 1]
        )
    network.student(
        batch.images[:, 0], batch.image_from_base[:, 0], batch.camera_mask[:, 0], earlier.unsqueeze(1),
        batch.earlier_from_present, batch.history_valid, batch.command, torch.zeros(1, 0),
    ).positions.square().sum().backward()  # fmt: skip
    assert torch.allclose(mine, network.student.encoder.backbone.stem[0].weight.grad, rtol=1e-4, atol=1e-6)


def test_losses_reach_every_trained_parameter(small):
    network = make(small).train()
    batch = make_batch(small, 4)
    losses = student_losses(network(batch), batch, LossWeights(displacement=2.0, sideways=3.0, current_occupancy=0.5, ego_motion=0.7))
    expected = 2.0 * losses["displacement"] + 3.0 * losses["sideways"] + losses["collision"] + 0.5 * losses["current_occupancy"]
    expected = expected + 0.7 * losses["ego_motion"]
    assert torch.allclose(losses["total"], expected)
    losses["total"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        # The last cross-attention key bias cancels in the softmax; everything else must move.
        if not name.endswith("in_proj_bias"):
            assert parameter.grad.abs().sum() > 0, name


def test_speed_is_read_only_where_it_is_asked_for(small):
    batch = make_batch(small, 2)
    faster = dataclasses.replace(batch, motion=batch.motion + 3.0)
    blind = make(small).eval()
    assert torch.equal(blind(batch).plan.positions, blind(faster).plan.positions)
    told = dataclasses.replace(small.student, ego_inputs=("speed", "yaw_rate"))
    torch.manual_seed(0)
    reading = TrainingStudent(told, small.data).eval()
    assert not torch.allclose(reading(batch).plan.positions, reading(faster).plan.positions)
    assert reading.student.plan_decoder.ego_embedding[0].in_features == 2


def test_the_estimated_motion_is_supervised_where_there_is_a_history(small):
    batch, weights = make_batch(small, 4), LossWeights()
    output = make(small).eval()(batch)
    truth = torch.stack([batch.motion[:, 0], batch.motion[:, 2]], dim=1)
    known = batch.history_valid[:, 0]
    right = torch.where(known[:, None], truth, truth + 9.0)  # samples without history are not judged
    assert student_losses(output._replace(ego_motion=right), batch, weights)["ego_motion"] == 0.0
    assert student_losses(output._replace(ego_motion=truth + 1.0), batch, weights)["ego_motion"] > 0.0


def test_forgetting_takes_the_history_of_a_share_of_the_samples_away(small):
    batch = make_batch(small, 400)
    torch.manual_seed(3)
    some = forgetting(batch, 0.25).history_valid
    assert bool((some <= batch.history_valid).all())
    assert 0.6 < float(some.sum() / batch.history_valid.sum()) < 0.9
    torch.manual_seed(3)
    assert torch.equal(forgetting(batch, 0.25).history_valid, some)
    assert torch.equal(forgetting(batch, 0.0).history_valid, batch.history_valid)


def test_the_start_is_taken_over(small):
    torch.manual_seed(5)
    pretrained = TrainingStudent(small.student, small.data)
    channels = small.student.architecture.bev_encoder.channels
    heads = PerceptionHeads(channels, small.student.bev, small.data.occupancy_cell_m, small.commands)
    network = make(small)
    decoder = {name: value.clone() for name, value in network.student.plan_decoder.state_dict().items()}
    network.start_from(pretrained.student.encoder, pretrained.student.fusion, heads)
    for mine, other in (
        (network.student.encoder, pretrained.student.encoder),
        (network.student.fusion, pretrained.student.fusion),
        (network.occupancy_head, heads.occupancy),
    ):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True))
    assert all(
        torch.equal(value, decoder[name]) for name, value in network.student.plan_decoder.state_dict().items()
    )


def test_eight_samples_are_learnt_by_heart(small):
    network = make(small).train()
    batch = make_batch(small, 8)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    first = None
    for _ in range(80):
        losses = student_losses(
            network(batch), batch, LossWeights(collision=(0, 0, 0), current_occupancy=0.1)
        )
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        first = losses["displacement"].item() if first is None else first
    assert losses["displacement"].item() < 0.2 * first


def test_an_unknown_ego_input_is_named(small):
    # A policy refuses unknown names itself; what samples do not hold is refused here.
    class Policy:
        ego_inputs = ("pitch",)

    with pytest.raises(TrainingError, match="pitch"):
        TrainingStudent(Policy(), small.data)
