"""The whole network: sensitivity, export, gradients, sizes, and statistics that a change of the network would
move.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from wpt_policy import se3
from wpt_policy.bundle import PolicyBundle, network_of
from wpt_policy.calibration import CameraRig
from wpt_policy.image_input import ImageInput
from wpt_policy.network.projection import ground_motion, image_from_base
from wpt_policy.network.student import Student, StudentOutput, example_inputs
from wpt_policy.policy_config import PolicyConfig
from wpt_policy.policy_presets import compact, reference


@pytest.fixture(scope="module")
def student(seeded: PolicyBundle) -> Student:
    return network_of(seeded)


@pytest.fixture(scope="module")
def inputs(seeded: PolicyBundle, student: Student, rig: CameraRig, sky_image) -> tuple[Tensor, ...]:
    """A set of the smooth world, and a memory of it 2 m and 3 degrees ago."""
    prepared = ImageInput(seeded.config.image_input)
    cameras = [prepared.calibration(camera) for camera in rig.values()]
    images = torch.from_numpy(np.stack([sky_image(camera) for camera in cameras])[None])
    matrices = torch.from_numpy(
        np.stack([image_from_base(camera, None, None) for camera in cameras])[None]
    ).float()
    used = torch.ones(1, 6, dtype=torch.bool)
    with torch.no_grad():
        earlier = student.encoder(images.flip(3), matrices, used)
    motion = torch.from_numpy(ground_motion(np.eye(4), se3.planar(2.0, 0.0, 0.05))).float()
    return (
        images, matrices, used, earlier[:, None], motion[None, None], torch.tensor([[True]]),
        torch.tensor([2]), torch.zeros(1, 0),
    )  # fmt: skip


def run(student: Student, inputs: tuple[Tensor, ...]) -> StudentOutput:
    with torch.no_grad():
        return student(*inputs)


def test_shapes_and_cumulated_displacements(student: Student, inputs: tuple[Tensor, ...]) -> None:
    out = run(student, inputs)
    assert out.positions.shape == out.displacements.shape == (1, 6, 2)
    assert (
        out.queries.shape == (1, 6, 64)
        and out.bev.shape == (1, 33, 80, 48)
        and out.fused.shape == (1, 32, 80, 48)
    )
    torch.testing.assert_close(out.positions, out.displacements.cumsum(dim=1))
    assert out.positions.dtype == torch.float32


def test_statistics_of_the_seeded_network_are_held(student: Student, inputs: tuple[Tensor, ...]) -> None:
    """Golden numbers: whatever changes what the network computes moves them.

    Between AVX-512, SSE4.1 and no oneDNN, one thread and two, they differed by 3e-6 at most.
    """
    out = run(student, inputs)
    features, validity = out.bev[0, :-1], out.bev[0, -1]
    statistics = {
        "validity mean": validity.mean(),
        "bev mean": features.mean(),
        "bev std": features.std(),
        "fused mean": out.fused.mean(),
        "fused std": out.fused.std(),
        "queries std": out.queries.std(),
        "plan mean x": out.positions[0, :, 0].mean(),
        "plan end x": out.positions[0, -1, 0],
        "plan end y": out.positions[0, -1, 1],
    }
    assert {name: value.item() for name, value in statistics.items()} == pytest.approx(GOLDEN, rel=1e-4)


GOLDEN: dict[str, float] = {
    "validity mean": 0.99609375,
    "bev mean": 0.8857964,
    "bev std": 0.9906945,
    "fused mean": 0.6910791,
    "fused std": 0.7990915,
    "queries std": 1.031952,
    "plan mean x": 8.906256,
    "plan end x": 15.27317,
    "plan end y": -1.136336,
}


def test_exchanged_images_change_the_plan(student: Student, inputs: tuple[Tensor, ...]) -> None:
    before = run(student, inputs).positions
    for first, second in ((0, 3), (1, 5), (2, 4)):
        order = list(range(6))
        order[first], order[second] = second, first
        exchanged = run(student, (inputs[0][:, order], *inputs[1:])).positions
        assert (exchanged - before).abs().max() > 1e-2
        alike = run(student, (inputs[0][:, order], inputs[1][:, order], *inputs[2:])).positions
        torch.testing.assert_close(alike, before, rtol=0, atol=1e-5)


def test_memory_and_command_change_the_plan(student: Student, inputs: tuple[Tensor, ...]) -> None:
    before = run(student, inputs).positions
    for changed in (
        (*inputs[:5], torch.tensor([[False]]), *inputs[6:]),
        (*inputs[:4], torch.eye(2, 3)[None, None], *inputs[5:]),
        (*inputs[:6], torch.tensor([0]), inputs[7]),
    ):
        assert (run(student, changed).positions - before).abs().max() > 1e-2


def test_batch_members_do_not_see_each_other(student: Student, inputs: tuple[Tensor, ...]) -> None:
    grey = example_inputs_like(inputs)
    together = run(student, tuple(torch.cat(pair) for pair in zip(inputs, grey, strict=True)))
    for index, alone in enumerate((inputs, grey)):
        torch.testing.assert_close(
            together.positions[index], run(student, alone).positions[0], rtol=0, atol=1e-5
        )


def example_inputs_like(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(
        torch.full_like(tensor, 128) if tensor.dtype == torch.uint8 else tensor.clone() for tensor in inputs
    )


def test_export_gives_the_same_plan(student: Student, inputs: tuple[Tensor, ...]) -> None:
    program = torch.export.export(student, inputs)
    exported = program.module()(*inputs)
    expected = run(student, inputs)
    for name, tensor in zip(StudentOutput._fields, exported, strict=True):
        torch.testing.assert_close(tensor, getattr(expected, name), rtol=1e-5, atol=1e-5, msg=name)


def test_gradients_reach_every_parameter(inputs: tuple[Tensor, ...]) -> None:
    torch.manual_seed(0)
    student = Student(compact("tried", ego_inputs=("speed", "yaw_rate"))).train()
    out = student(*inputs[:7], torch.tensor([[0.5, 0.1]]))
    out.positions.square().mean().backward()
    unused = {"plan_decoder.command_embedding.weight"}  # one row of six: the command given
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or name in unused, name


def test_a_fresh_network_is_finite_and_small_at_the_output(inputs: tuple[Tensor, ...]) -> None:
    torch.manual_seed(1)
    out = Student(compact("tried")).eval()(*inputs)
    assert torch.isfinite(out.positions).all() and out.displacements.abs().max() < 5.0


def count(config: PolicyConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Student(config).parameters())


def test_sizes() -> None:
    assert 250_000 < count(compact("tried")) < 600_000
    # ResNet-50 without its classifier has 23.5 M parameters, ResNet-101 42.5 M.
    assert 23.5e6 < count(reference("tried")) < 40e6
    assert count(reference("tried", layers_of_resnet=101)) - count(reference("tried")) == pytest.approx(
        19.0e6, rel=0.02
    )


@pytest.mark.parametrize("cells", [100, 200])
def test_reference_size_has_the_right_shapes(cells: int) -> None:
    config = reference("tried", bev_cells=cells, ego_inputs=("speed",))
    with torch.device("meta"):
        student = Student(config).eval()
        tensors = example_inputs(config)
    out = student(*(tensor.to("meta") for tensor in tensors))
    assert config.bev.shape == (cells, cells)
    assert out.bev.shape == (1, 257, cells, cells) and out.positions.shape == (1, 6, 2)
    assert tensors[3].shape == (1, 2, 257, cells, cells)
