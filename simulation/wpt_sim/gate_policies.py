"""The learnability gate's two learned policies: bird's-eye truth to plan, and the ego's own motion to plan.

Both answer with six (progress, sideways) pairs, 0.5 s apart: the first in coordinates of the commanded path,
the second of base_link. They are small and meant for minutes of training on two cores.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wpt_policy.plan import Plan

from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.gate_features import ACTOR_FEATURES, CONTEXT_SIZE, EGO_SIZE, BirdsEye, BirdsEyeView, EgoHistory
from wpt_sim.world_state import EgoPose, WorldState

STEPS, STEP_S = 6, 0.5
FORMAT = "wpt-sim gate policy 1"
# Metres: answers of the networks times this.
PROGRESS_SCALE, SIDEWAYS_SCALE = 10.0, 1.0


class BirdsEyeNetwork(nn.Module):
    """context (B, CONTEXT_SIZE), actors (B, A, ACTOR_FEATURES) -> (B, STEPS, 2)."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.context = nn.Sequential(
            nn.Linear(CONTEXT_SIZE, 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.ReLU()
        )
        self.actor = nn.Linear(ACTOR_FEATURES, width)
        self.meeting = nn.Linear(width, width, bias=False)
        self.pair = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Sequential(
            nn.Linear(2 * width, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, width),
            nn.ReLU(),
            nn.Linear(width, STEPS * 2),
        )

    def forward(self, context: Tensor, actors: Tensor) -> Tensor:
        about = self.context(context)
        pairs = self.pair(self.actor(actors) + self.meeting(about)[:, None])
        pairs = pairs * actors[..., :1]  # rows without an actor are zero
        out = self.head(torch.cat([about, pairs.amax(1)], dim=-1)).view(-1, STEPS, 2)
        return torch.stack([nn.functional.softplus(4.0 * out[..., 0]).cumsum(1) / 4.0, out[..., 1]], dim=-1)


class EgoNetwork(nn.Module):
    """(B, EGO_SIZE) -> (B, STEPS, 2)."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(EGO_SIZE, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, STEPS * 2),
        )

    def forward(self, ego: Tensor) -> Tensor:
        return self.layers(ego).view(-1, STEPS, 2)


NETWORKS = {"bev_policy": BirdsEyeNetwork, "ego_mlp": EgoNetwork}
SCALE = torch.tensor([PROGRESS_SCALE, SIDEWAYS_SCALE])


def save_policy(path: Path, name: str, network: nn.Module, about: dict) -> None:
    """Write weights and a description as one safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"format": FORMAT, "name": name, "about": json.dumps(about, sort_keys=True)}
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path, metadata=header)


def load_policy(path: Path) -> tuple[str, nn.Module]:
    """Return (name, network). Raises SimulationError."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise SimulationError(
            f"{path} cannot be read as a gate policy ({error}): train it with wpt-sim gate."
        ) from error
    if header.get("format") != FORMAT or header.get("name") not in NETWORKS:
        raise SimulationError(f"{path} is no gate policy of this version: train it with wpt-sim gate.")
    network = NETWORKS[header["name"]]()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise SimulationError(
            f"{path} does not fit this version's network ({error}): train it again."
        ) from error
    return header["name"], network.eval()


def positions_on_path(answer: np.ndarray, view: BirdsEye, ego: EgoPose) -> np.ndarray:
    """(STEPS, 2) progress and offset from the path (m) -> (STEPS + 1, 2) positions in base_link."""
    rows = [(0.0, 0.0)]
    c, n = math.cos(ego.yaw), math.sin(ego.yaw)
    for progress, sideways in answer:
        x, y, heading = view.path.at(view.s + float(progress))
        x, y = x - sideways * math.sin(heading) - ego.x, y + sideways * math.cos(heading) - ego.y
        rows.append((c * x + n * y, -n * x + c * y))
    result = np.array(rows)
    if answer[-1, 0] < 0.3:  # standing: no sideways dance
        result[:] = 0.0
    return result


def answer_on_path(positions: np.ndarray, view: BirdsEye, ego: EgoPose) -> np.ndarray:
    """The inverse of positions_on_path for a plan's (STEPS + 1, 2) positions."""
    c, n = math.cos(ego.yaw), math.sin(ego.yaw)
    rows, s = [], view.s
    for x, y in positions[1:]:
        place = ego.x + c * x - n * y, ego.y + n * x + c * y
        s, lateral = view.path.project(*place, near=s)
        rows.append((max(s - view.s, 0.0), lateral))
    return np.array(rows)


class BirdsEyeSource:
    """A plan source that sees bird's-eye truth (planning_driver.PlanSource)."""

    name = "bev_policy"

    def __init__(self, network: nn.Module):
        self._network = network

    def reset(self, spec: EpisodeSpec) -> None:
        self.view = BirdsEyeView(spec)

    def watch(self, state: WorldState) -> None:
        self.view.see(state)

    def plan(self, state: WorldState) -> Plan:
        seen = self.view.look()
        with torch.inference_mode():
            answer = (
                self._network(torch.from_numpy(seen.context)[None], torch.from_numpy(seen.actors)[None])[0]
                * SCALE
            )
        return Plan(
            reference_stamp_ns=round(state.time_s * 1e9),
            dt_s=STEP_S,
            planner=self.name,
            positions=positions_on_path(answer.numpy(), seen, state.ego),
        )


class EgoSource:
    """A plan source that sees nothing but the ego's own motion and the command."""

    name = "ego_mlp"

    def __init__(self, network: nn.Module):
        self._network = network

    def reset(self, spec: EpisodeSpec) -> None:
        self._history = EgoHistory(spec)

    def watch(self, state: WorldState) -> None:
        self._history.see(state)

    def plan(self, state: WorldState) -> Plan:
        with torch.inference_mode():
            answer = self._network(torch.from_numpy(self._history.look())[None])[0] * SCALE
        return Plan(
            reference_stamp_ns=round(state.time_s * 1e9),
            dt_s=STEP_S,
            planner=self.name,
            positions=np.vstack([np.zeros((1, 2)), answer.numpy()]),
        )


SOURCES = {"bev_policy": BirdsEyeSource, "ego_mlp": EgoSource}


def load_source(path: Path) -> BirdsEyeSource | EgoSource:
    """A plan source from a trained policy's file. Raises SimulationError."""
    name, network = load_policy(path)
    return SOURCES[name](network)
