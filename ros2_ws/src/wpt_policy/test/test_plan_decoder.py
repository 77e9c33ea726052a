"""The plan decoder: where it looks, what its plan depends on, export, and that it learns a lane's place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wpt_policy.network.bev_encoder import cell_centres
from wpt_policy.network.plan_decoder import LARGEST_CORRECTION_M, LOOK_OFFSETS_M, PeakGlance, PlanDecoder, PlanRefinement
from wpt_policy.policy_config import BevGrid, PlanDecoderConfig

GRID = BevGrid(x_range_m=(-8.0, 24.0), y_range_m=(-10.0, 10.0), cell_m=1.0, heights_m=(0.0,))
CONFIG = PlanDecoderConfig(channels=16, heads=2, feedforward_channels=32)
CHANNELS, STEPS, COMMANDS = 5, 6, 4
LEARNING_STEPS = 300  # then 0.07 to 0.18 m off with three seeds


def decoder(seed: int = 0, *, ego_inputs: int = 1) -> PlanDecoder:
    torch.manual_seed(seed)
    sizes = {"bev_channels": CHANNELS, "steps": STEPS, "commands": COMMANDS, "ego_inputs": ego_inputs}
    return PlanDecoder(CONFIG, GRID, **sizes).eval()


def inputs(seed: int = 0, batch: int = 2, *, ego_inputs: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, CHANNELS, *GRID.shape, generator=random),
        torch.randint(COMMANDS, (batch,), generator=random),
        torch.randn(batch, ego_inputs, generator=random),
    )


def places(batch: int = 1) -> Tensor:
    """A bird's-eye view whose features are the places of its cells, metres."""
    return torch.stack(cell_centres(GRID)).expand(batch, -1, -1, -1)


@given(
    st.lists(st.tuples(st.floats(-30.0, 60.0), st.floats(-30.0, 30.0)), min_size=1, max_size=STEPS),
)
@settings(deadline=None, max_examples=50)
def test_features_are_read_around_the_step_and_held_at_the_border(steps: list[tuple[float, float]]) -> None:
    positions = torch.tensor([steps])
    read = PlanRefinement(CONFIG, GRID, bev_channels=2).features_at(places(), positions)
    points = positions.unsqueeze(2) + torch.tensor(LOOK_OFFSETS_M)
    low = torch.tensor([GRID.x_range_m[0], GRID.y_range_m[0]]) + 0.5 * GRID.cell_m
    high = torch.tensor([GRID.x_range_m[1], GRID.y_range_m[1]]) - 0.5 * GRID.cell_m
    expected = torch.minimum(torch.maximum(points, low), high)
    by_feature = read.unflatten(2, (2, len(LOOK_OFFSETS_M))).transpose(2, 3)
    torch.testing.assert_close(by_feature, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("ego_inputs", [0, 1, 3])
def test_shapes_and_types(ego_inputs: int) -> None:
    queries, displacements = decoder(ego_inputs=ego_inputs)(*inputs(ego_inputs=ego_inputs))
    assert queries.shape == (2, STEPS, CONFIG.channels)
    assert displacements.shape == (2, STEPS, 2) and displacements.dtype == torch.float32


def test_every_input_matters() -> None:
    network, (bev, command, ego) = decoder(), inputs()
    before = network(bev, command, ego)[1]
    other = (command + 1) % COMMANDS
    for changed in ((bev.flip(3), command, ego), (bev, other, ego), (bev, command, ego + 1)):
        assert (network(*changed)[1] - before).abs().amax(dim=(1, 2)).min() > 1e-3


def test_samples_do_not_see_each_other() -> None:
    network, both = decoder(), inputs()
    together = network(*both)[1]
    for index in range(2):
        alone = network(*(tensor[index : index + 1] for tensor in both))[1]
        torch.testing.assert_close(alone[0], together[index], rtol=0, atol=1e-5)


def test_export_gives_the_same_plan_at_other_inputs() -> None:
    network = decoder()
    program = torch.export.export(network, inputs(0, batch=1)).module()
    other = inputs(1, batch=1)
    for exported, expected in zip(program(*other), network(*other), strict=True):
        torch.testing.assert_close(exported, expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_the_plan_reach_every_parameter() -> None:
    network, (bev, command, ego) = decoder().train(), inputs()
    network(bev, command, ego)[1].square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_place_of_a_feature_matters() -> None:
    """One mark on an empty ground, far from the plan and in other places."""
    network = decoder()
    plans = []
    for row, column in ((3, 2), (28, 2), (28, 17)):
        bev = torch.zeros(1, CHANNELS, *GRID.shape)
        bev[:, :, row, column] = 3.0
        plans.append(network(bev, torch.tensor([0]), torch.zeros(1, 1))[1])
    assert (plans[0] - plans[1]).abs().max() > 1e-6 and (plans[1] - plans[2]).abs().max() > 1e-6


@pytest.mark.parametrize("push", [-1e6, 1e6])
def test_the_second_look_moves_a_step_by_a_bounded_correction(push: float) -> None:
    network, given = decoder(), inputs()
    with torch.no_grad():
        network.correction_head[-1].weight.zero_()
        network.correction_head[-1].bias.zero_()
        first = network(*given)[1]
        network.correction_head[-1].bias.fill_(push)
        corrected = network(*given)[1]
    expected = torch.full_like(first, LARGEST_CORRECTION_M if push > 0 else -LARGEST_CORRECTION_M)
    torch.testing.assert_close(corrected - first, expected, rtol=0, atol=1e-4)


def test_one_cell_that_stands_out_is_seen_wherever_it_is_in_its_block() -> None:
    torch.manual_seed(0)
    glance = PeakGlance(GRID, bev_channels=CHANNELS, channels=16).eval()

    def with_lamp(*cells: tuple[int, int]) -> Tensor:
        bev = torch.zeros(1, CHANNELS, *GRID.shape)
        for row, column in cells:
            bev[:, :, row, column] = 3.0
        return glance(bev)

    dark, lit = with_lamp(), with_lamp((17, 9))
    assert (lit - dark).abs().max() > 1e-3
    # Blocks of 8 x 10 cells here: elsewhere in the block it is the same lamp, in another block another one.
    assert torch.equal(with_lamp((20, 1)), lit) and torch.equal(with_lamp((17, 9), (18, 3)), lit)
    assert not torch.equal(with_lamp((17, 12)), lit)


def lanes(random: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
    """A bird's-eye view with a lane's two edges, 3 m apart, and the lane's middle (m to the left)."""
    middle = 8.0 * torch.rand(batch, generator=random) - 4.0
    left = cell_centres(GRID)[1] - middle[:, None, None]
    edges = [(-(left - side).square()).exp() for side in (-1.5, 1.5)]
    noise = 0.2 * torch.randn(batch, CHANNELS - 2, *GRID.shape, generator=random)
    return torch.cat([torch.stack(edges, dim=1), noise], dim=1), middle


def test_it_learns_where_a_lane_is() -> None:
    """Lanes lie anywhere within 4 m to both sides; the mean of them all is 2 m off."""
    network, random = decoder(ego_inputs=0).train(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)

    def errors(batch: int) -> Tensor:
        bev, middle = lanes(random, batch)
        command, ego = torch.zeros(batch, dtype=torch.int64), torch.zeros(batch, 0)
        positions = network(bev, command, ego)[1].cumsum(dim=1)
        ahead = torch.arange(1.0, STEPS + 1).expand(batch, -1)
        return positions - torch.stack([ahead, middle[:, None].expand(-1, STEPS)], dim=-1)

    for _ in range(LEARNING_STEPS):
        optimiser.zero_grad()
        errors(16).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        sideways = errors(128)[..., 1].abs()
    assert sideways.mean() < 0.4
