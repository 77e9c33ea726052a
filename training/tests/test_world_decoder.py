"""Decoder, head and roll-out on tiny grids: shapes, gradients, what reaches what."""

from __future__ import annotations

import math

import pytest
import torch

from wpt_policy.policy_config import BevGrid
from wpt_training.errors import TrainingError
from wpt_training.world.interface import RollState
from wpt_training.world.occupancy_head import PRIOR, OccupancyHead, upsampling_factor
from wpt_training.world.world_decoder import ConditionalNorm, Memory, WorldDecoder, norm_groups

GRID = BevGrid(x_range_m=(-8.0, 16.0), y_range_m=(-8.0, 8.0), cell_m=1.0, heights_m=(0.0,))
CHANNELS = 12


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def decoder(conditional_norm: bool = False, grid: BevGrid = GRID, blocks: int = 2) -> WorldDecoder:
    return WorldDecoder(
        grid, CHANNELS, blocks=blocks, action_channels=16, commands=6, conditional_norm=conditional_norm
    )


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    features = torch.randn(batch, CHANNELS, *GRID.shape)
    displacement = torch.tensor([[3.0, 0.2]]).repeat(batch, 1)
    return features, displacement, torch.zeros(batch, 2), torch.arange(batch)


@pytest.mark.parametrize("conditional_norm", [False, True])
def test_a_step_keeps_the_shape_and_gradients_reach_every_parameter(conditional_norm):
    network = decoder(conditional_norm)
    features, displacement, position, command = inputs()
    features.requires_grad_(True)
    logits = torch.randn(2, 3, 48, 32) if conditional_norm else None
    memory = network.memorise(features, logits)
    result = network(features, memory, displacement, position, command)
    assert result.shape == features.shape
    result.square().mean().backward()
    assert features.grad.abs().sum() > 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("changed", ["displacement", "position", "command"])
def test_the_action_changes_the_future(changed):
    network = decoder().eval()
    features, displacement, position, command = inputs(1)
    memory = network.memorise(features, None)
    first = network(features, memory, displacement, position, command)
    other = {
        "displacement": (displacement + 2.0, position, command),
        "position": (displacement, position + 2.0, command),
        "command": (displacement, position, command + 1),
    }[changed]
    assert (network(features, memory, *other) - first).abs().max() > 1e-3


def test_the_memory_of_the_present_changes_the_future():
    network = decoder().eval()
    features, displacement, position, command = inputs(1)
    results = [
        network(features, network.memorise(memory, None), displacement, position, command)
        for memory in (features, features + 1.0)
    ]
    assert (results[0] - results[1]).abs().max() > 1e-3


def test_a_cell_reaches_further_than_anybody_moves_in_a_step():
    """Norms see the whole grid, so they are taken out; what is left is the convolutions' reach."""
    grid = BevGrid(x_range_m=(-32.0, 32.0), y_range_m=(-8.0, 8.0), cell_m=1.0, heights_m=(0.0,))
    network = decoder(grid=grid).eval()
    for module in list(network.modules()):
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = lambda x: x
    features = torch.rand(1, CHANNELS, *grid.shape, requires_grad=True)
    memory = network.memorise(features.detach(), None)
    action = torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
    network(features, memory, *action)[0, :, 32, 8].sum().backward()
    reached = features.grad[0].abs().sum(dim=(0, 2)).nonzero().flatten()
    assert reached.min() <= 32 - 14 and reached.max() >= 32 + 14


def test_the_mark_of_the_ego_peaks_where_it_will_be():
    mark = decoder()._mark(torch.tensor([[5.0, -3.0]]))[0, 0]
    row, column = divmod(int(mark.argmax()), mark.shape[1])
    # Coarse cells of 2 m: x from -8, y from -8.
    assert (row, column) == (6, 2)
    assert mark[6, 2] == pytest.approx(1.0)
    assert mark[7, 2] == pytest.approx(math.exp(-0.5 * (2.0 / 3.0) ** 2))


def test_an_odd_grid_is_refused():
    odd = BevGrid(x_range_m=(-8.0, 17.0), y_range_m=(-8.0, 8.0), cell_m=1.0, heights_m=(0.0,))
    with pytest.raises(TrainingError, match="even"):
        decoder(grid=odd)


def test_conditional_norm_reads_semantics_of_the_cell_and_the_action():
    norm = ConditionalNorm(4, 8)
    memory = ConditionalNorm.normalised(torch.randn(1, 4, 6, 6))
    torch.testing.assert_close(memory.mean(dim=1), torch.zeros(1, 6, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(memory.std(dim=1, correction=0), torch.ones(1, 6, 6), atol=1e-3, rtol=0)
    semantics, action = torch.zeros(1, 3, 6, 6), torch.zeros(1, 8)
    first = norm(memory, semantics, action)
    assert (norm(memory, semantics, action + 1.0) - first).abs().max() > 1e-3
    semantics[0, 0, 0, 0] = 1.0
    changed = (norm(memory, semantics, action) - first).abs().sum(dim=1)[0]
    assert changed[0, 0] > 1e-4 and changed[5, 5] == 0.0


def test_conditional_norm_sends_no_gradient_into_the_occupancy_that_it_reads():
    network = decoder(conditional_norm=True)
    logits = torch.randn(1, 3, 24, 16, requires_grad=True)
    memory = network.memorise(torch.randn(1, CHANNELS, 24, 16), logits)
    assert isinstance(memory, Memory) and not memory.semantics.requires_grad


@pytest.mark.parametrize("factor", [1, 2])
def test_the_head_starts_at_the_prior_and_takes_any_leading_axes(factor):
    head = OccupancyHead(CHANNELS, factor)
    logits = head(torch.zeros(2, 5, CHANNELS, 4, 6))
    assert logits.shape == (2, 5, 3, 4 * factor, 6 * factor)
    single = head(torch.randn(CHANNELS, 4, 6))
    assert single.shape == (3, 4 * factor, 6 * factor)
    started = head(torch.randn(8, CHANNELS, 16, 16)).sigmoid().mean(dim=(0, 2, 3))
    for share, prior in zip(started, PRIOR, strict=True):
        assert 0.5 * prior < share < 2.0 * prior


def test_each_fine_cell_has_weights_of_its_own():
    head = OccupancyHead(CHANNELS, 2)
    block = head(torch.randn(1, CHANNELS, 1, 1))[0]
    assert block.shape == (3, 2, 2)
    assert len({round(value, 6) for value in block[0].flatten().tolist()}) == 4


def test_factors():
    assert upsampling_factor(1.0, 0.5) == 2
    assert upsampling_factor(102.4 / 200, 0.512) == 1
    with pytest.raises(TrainingError, match="whole number"):
        upsampling_factor(1.0, 0.3)


def test_groups_divide_the_channels():
    assert [norm_groups(channels) for channels in (3, 12, 48, 50, 256)] == [1, 2, 8, 5, 8]


def test_a_roll_state_is_three_things():
    assert RollState._fields == ("features", "memory", "position")
