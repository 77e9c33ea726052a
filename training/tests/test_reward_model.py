"""The reward model: shapes, what reaches what, and that it can learn what it is for."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from wpt_policy.policy_config import BevGrid

from wpt_training.configuration import RULES, RewardConfig
from wpt_training.errors import TrainingError
from wpt_training.reward.combination import combine
from wpt_training.reward.reward_losses import imitation_loss, simulation_loss
from wpt_training.reward.reward_model import RewardModel

GRID = BevGrid(x_range_m=(-8.0, 24.0), y_range_m=(-8.0, 8.0), cell_m=1.0, heights_m=(0.0,))
CHANNELS, STEPS = 4, 6
SMALL = RewardConfig(channels=16)


@pytest.fixture(autouse=True)
def settled():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def features(samples: int = 2, steps: int = STEPS) -> torch.Tensor:
    return torch.randn(samples, 1 + steps, CHANNELS, *GRID.shape)


def candidates(samples: int = 2, count: int = 3, steps: int = STEPS) -> torch.Tensor:
    moves = torch.tensor([1.5, 0.0]) + 0.5 * torch.randn(samples, count, steps, 2)
    return moves.cumsum(2)


def model(config: RewardConfig = SMALL, steps: int = STEPS) -> RewardModel:
    return RewardModel(config, CHANNELS, steps, GRID)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_shapes(sampled, steps):
    config = dataclasses.replace(SMALL, sampled_features=sampled, rules=("NC", "EP", "TLC"))
    logits = model(config, steps)(features(2, steps), candidates(2, 5, steps))
    assert logits.imitation.shape == (2, 5) and logits.simulation.shape == (2, 5, 3)
    assert logits.rules == ("NC", "EP", "TLC")
    without = model(dataclasses.replace(config, rules=()), steps)(features(2, steps), candidates(2, 5, steps))
    assert without.simulation.shape == (2, 5, 0)


def test_the_score_is_equation_14_of_its_own_probabilities():
    logits = model()(features(), candidates())
    imitation, simulation = logits.probabilities()
    assert torch.allclose(imitation.sum(1), torch.ones(2))
    assert torch.allclose(simulation["DAC"], torch.sigmoid(logits.simulation[..., RULES.index("DAC")]))
    assert torch.equal(logits.score(SMALL), combine(imitation, simulation, RULES, SMALL.weights))
    assert torch.equal(logits.score(SMALL, ("NC",)), combine(imitation, simulation, ("NC",), SMALL.weights))


def test_a_candidate_is_scored_alike_whoever_is_beside_it():
    network, world, paths = model().eval(), features(), candidates(2, 4)
    together = network(world, paths)
    alone = network(world[1:], paths[1:, 2:3])
    assert torch.allclose(together.imitation[1:, 2:3], alone.imitation, atol=1e-5)
    assert torch.allclose(together.simulation[1:, 2:3], alone.simulation, atol=1e-5)


def test_detached_simulation_heads_train_themselves_only():
    network, paths = model(dataclasses.replace(SMALL, detach_simulation=True)), candidates().requires_grad_()
    network(features(), paths).simulation.sum().backward()
    reached = {
        name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached and all(name.startswith("simulation_heads.") for name in reached)
    assert paths.grad is None
    network(features(), paths, detach_simulation=False).simulation.sum().backward()
    assert paths.grad.abs().sum() > 0
    joint = model()
    joint(features(), candidates()).simulation.sum().backward()
    assert joint.world.first.weight.grad.abs().sum() > 0


def test_every_parameter_is_trained_by_both_losses_and_the_candidates_are_reached():
    network, paths = model(), candidates().requires_grad_()
    logits = network(features(), paths)
    target = torch.softmax(torch.randn(2, 3), -1)
    (
        imitation_loss(logits.imitation, target) + simulation_loss(logits.simulation, torch.rand(2, 3, 5))
    ).backward()
    assert {
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    } == set()
    assert torch.isfinite(paths.grad).all() and (paths.grad.abs().sum(-1) > 0).all()


def test_standing_candidates_have_finite_gradients():
    paths = torch.zeros(2, 3, STEPS, 2, requires_grad=True)
    logits = model()(features(), paths)
    (logits.imitation.sum() + logits.simulation.sum()).backward()
    assert torch.isfinite(paths.grad).all()


def test_autocast_changes_nothing():
    network, world, paths = model(), features(), candidates()
    expected = network(world, paths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(world.bfloat16().float(), paths)
        same = network(world, paths)
    assert found.imitation.dtype == torch.float32
    assert torch.equal(same.imitation, expected.imitation)


def blob(frame: int, x: float, y: float) -> torch.Tensor:
    """A world in which channel 0 is 1 in the cell at x, y in one frame."""
    world = torch.zeros(1, 1 + STEPS, CHANNELS, *GRID.shape)
    world[0, frame, 0, int(x - GRID.x_range_m[0]), int(y - GRID.y_range_m[0])] = 5.0
    return world


def test_features_are_read_where_and_when_the_footprint_arrives():
    # The trajectory encoder alone: at 4 m/s the footprint is around x = 2 i + 1.5 at step i.
    network = model()
    path = torch.stack([4.0 * 0.5 * torch.arange(1, 7), torch.zeros(6)], dim=-1)[None, None]
    nothing = network.trajectory(torch.zeros(1, 1 + STEPS, CHANNELS, *GRID.shape), path)

    def noticed(frame: int, x: float, y: float) -> bool:
        return not torch.allclose(network.trajectory(blob(frame, x, y), path), nothing, atol=1e-7)

    assert noticed(3, 7.5, 0.5)  # step 3 stands from 5.4 to 9.5
    assert not noticed(3, 7.5, 4.5)
    assert not noticed(6, 7.5, 0.5) and not noticed(0, 1.5, 0.5)
    # One second ahead of step 2 (front at 7.5 m) is 11.5 m, in frame 4; and beyond the last step in the last
    # frame.
    assert noticed(4, 11.4, 0.5)
    assert noticed(6, 12 + 3.5 + 4, 0.5) and not noticed(5, 12 + 3.5 + 4, 0.5)


def test_the_axes_of_the_features_are_x_then_y():
    network = model()
    path = torch.stack([torch.full((6,), 0.0), torch.zeros(6)], dim=-1)[None, None]
    nothing = network.trajectory(torch.zeros(1, 1 + STEPS, CHANNELS, *GRID.shape), path)
    ahead, left = (network.trajectory(blob(2, *place), path) for place in ((3.4, 0.5), (0.5, 3.4)))
    assert not torch.allclose(ahead, nothing, atol=1e-7)
    assert torch.allclose(left, nothing, atol=1e-7)


@pytest.mark.parametrize("detach", [True, False])
def test_it_learns_who_runs_into_what(detach):
    """Eight worlds with an obstacle each; a candidate fails NC when it stands on it. Constant rewards would
    score ln 2."""
    config = dataclasses.replace(SMALL, channels=32, rules=("NC",), detach_simulation=detach)
    network = RewardModel(config, CHANNELS, STEPS, GRID)
    worlds = torch.zeros(8, 1 + STEPS, CHANNELS, *GRID.shape)
    places = torch.randint(2, 20, (8,))
    for sample, x in enumerate(places.tolist()):
        worlds[sample, :, 0, x + 8 : x + 11, 6:10] = 2.0
    speeds = torch.linspace(0.0, 6.0, 8)
    paths = torch.zeros(8, 8, STEPS, 2)
    paths[..., 0] = speeds[:, None] * 0.5 * torch.arange(1, 7)
    front = paths[:, :, -1, 0] + 3.528
    target = (front < places[:, None]).float().unsqueeze(-1)
    nearest = torch.softmax(-(front - places[:, None] + 3.0).abs(), -1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(150):
        logits = network(worlds, paths)
        loss = simulation_loss(logits.simulation, target) + imitation_loss(logits.imitation, nearest)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = network(worlds, paths)
    right = ((logits.simulation > 0) == (target > 0.5)).float().mean()
    # A detached head reads what imitation alone has shaped.
    assert right > (0.8 if detach else 0.98)
    entropy = imitation_loss(nearest.log(), nearest)
    assert imitation_loss(logits.imitation, nearest) < entropy + 0.05


def test_wrong_shapes_are_named():
    network = model()
    with pytest.raises(TrainingError, match="features"):
        network(features(2, 5), candidates())
    with pytest.raises(TrainingError, match="candidates"):
        network(features(), candidates(3))
