"""Made-up samples for tests and probes (speed, memory, shapes). Never for training or evaluation.

Random, but consistent: the ego follows its motion, other actors keep their velocity and stay clear of the
ego's path, occupancy is drawn from the boxes, and the true path lies on drivable ground, along the lane and
along the route. Only the command, the pixels and the sector out of sight are drawn without regard to the
rest.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from wpt_policy.policy_config import BevGrid, PlanDecoderConfig, PolicyConfig
from wpt_policy.policy_presets import compact as compact_policy

from wpt_training.configuration import (
    DataConfig,
    ExperimentConfig,
    RewardConfig,
    TeacherConfig,
    WorldConfig,
    compact,
)
from wpt_training.data.batch import SIGNAL_STATES, Batch
from wpt_training.data.occupancy_truth import cell_centres, draw_occupancy, occupancy_grid

# nuScenes' viewing directions, degrees to the left, in the order of policy_presets.SIX_CAMERAS.
_YAWS_DEG = (0.0, -55.0, -110.0, 180.0, 110.0, 55.0)
_CLEAR_M = 4.5  # between a box's centre and the ego's, beside half the box's length
_CORRIDOR_M = 6.0  # half width of the drivable ground
_LANE_M = 1.75


def small_config() -> ExperimentConfig:
    """Return compact's configuration shrunk: 64x32 images, 40 m x 24 m of ground, narrow networks, a few
    actors.
    """
    base = compact()

    def shrunk(name: str, width: int, channels: int) -> PolicyConfig:
        policy = compact_policy(name, width=width, bev_channels=channels)
        architecture = dataclasses.replace(
            policy.architecture,
            plan_decoder=PlanDecoderConfig(channels=16, heads=2, feedforward_channels=32),
        )
        return dataclasses.replace(
            policy,
            architecture=architecture,
            image_input=dataclasses.replace(policy.image_input, width=64, height=32),
            bev=dataclasses.replace(policy.bev, x_range_m=(-16.0, 24.0), y_range_m=(-12.0, 12.0)),
        )

    return base.with_(
        name="small",
        student=shrunk("wpt-small", 8, 8),
        world=WorldConfig(network=shrunk("wpt-small-world", 8, 12), blocks=1, action_channels=8),
        teacher=TeacherConfig(candidates=6, channels=16, heads=2, feedforward_channels=32),
        reward=RewardConfig(channels=16),
        data=DataConfig(largest_boxes=12, route_points=31),
        precision="float32",
    )


def make_batch(config: ExperimentConfig, size: int, seed: int = 0) -> Batch:
    """Return ``size`` made-up samples of a configuration's shapes; the same seed gives the same batch.

    Row numbers are 0, 1, ...; samples with an odd number have no history; the last future step of every
    fourth is not valid; every camera is used. Sample i is the same whatever the size.
    """
    samples = [_sample(config, np.random.default_rng([seed, index]), index) for index in range(size)]
    stacked = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    return Batch(**{name: torch.from_numpy(values) for name, values in stacked.items()})


def _sample(config: ExperimentConfig, rng: np.random.Generator, index: int) -> dict[str, np.ndarray]:
    policy, steps, dt = config.student, config.steps, config.student.plan.dt_s
    entries, cameras = 1 + policy.history.entries, len(policy.cameras)
    grid = occupancy_grid(policy, config.data)
    speed, acceleration = rng.uniform(0.0, 11.0), rng.uniform(-1.5, 1.5)
    yaw_rate = rng.uniform(-0.25, 0.25) if speed > 1.0 else 0.0
    path = _path(speed, acceleration, yaw_rate, steps * dt)
    future = _poses_at(path, dt * np.arange(1, steps + 1))
    future_valid = np.ones(steps, dtype=bool)
    future_valid[-1] = index % 4 != 3
    boxes, velocity, valid, vulnerable = _actors(config, rng, future, grid)
    lane_direction, distance = _along_path(path, grid)
    # The sector behind one random direction is out of sight.
    away = cell_centres(grid)
    hidden = np.arctan2(away[..., 1], away[..., 0]) - rng.uniform(-math.pi, math.pi)
    hidden = (np.abs((hidden + math.pi) % (2 * math.pi) - math.pi) < 0.3) & (np.hypot(*away.T).T > 8.0)
    signal = int(rng.integers(len(SIGNAL_STATES)))
    route = np.full((config.data.route_points, 2), np.nan, dtype=np.float32)
    along = _every_metre(path, config.data.route_points)
    route[: len(along)] = along
    command = int(rng.integers(config.commands))
    motion = np.tile(np.eye(2, 3, dtype=np.float32), (policy.history.entries, 1, 1))
    motion[:, 0, 2] = dt * np.arange(1, policy.history.entries + 1) * speed
    image = policy.image_input
    return {
        "row": np.int64(index),
        "images": rng.integers(0, 256, (entries, cameras, image.height, image.width, 3), dtype=np.uint8),
        "image_from_base": np.tile(_cameras(config), (entries, 1, 1, 1)).astype(np.float32),
        "camera_mask": np.ones((entries, cameras), dtype=bool),
        "earlier_from_present": motion,
        "history_valid": np.full(policy.history.entries, index % 2 == 0),
        "history_row": np.full(policy.history.entries, index, dtype=np.int64),
        "command": np.int64(command),
        "motion": np.array([speed, 0.0, yaw_rate, acceleration], dtype=np.float32),
        "future": future.astype(np.float32),
        "future_valid": future_valid,
        "occupancy": draw_occupancy(boxes, velocity, valid, vulnerable, grid),
        "visible": ~hidden,
        "drivable": distance < _CORRIDOR_M,
        "lane_direction": np.where(distance < _LANE_M, lane_direction, np.nan).astype(np.float32),
        "boxes": boxes,
        "box_velocity": velocity,
        "box_valid": valid,
        "box_vulnerable": vulnerable,
        "route": route,
        "signal": np.int64(signal),
        "stop_line": _stop_line(path, future, signal),
    }


def _path(speed: float, acceleration: float, yaw_rate: float, seconds: float) -> np.ndarray:
    """Return (P, 4) time, x, y, yaw every 10 ms: constant acceleration until standstill, along a circle."""
    times = np.arange(0.0, seconds + 0.005, 0.01)
    speeds = np.maximum(speed + acceleration * times, 0.0)
    travelled = np.concatenate([[0.0], np.cumsum(0.5 * (speeds[1:] + speeds[:-1]) * 0.01)])
    yaw = travelled * (yaw_rate / max(speed, 1.0))
    steps = np.diff(travelled)[:, None] * np.stack([np.cos(yaw[:-1]), np.sin(yaw[:-1])], axis=1)
    places = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return np.column_stack([times, places, yaw])


def _poses_at(path: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.column_stack([np.interp(times, path[:, 0], path[:, column]) for column in (1, 2, 3)])


def _extended(path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the path's places with 50 m straight on before and after it, and their headings."""
    ends = []
    for place, yaw, sign in ((path[0, 1:3], path[0, 3], -1.0), (path[-1, 1:3], path[-1, 3], 1.0)):
        reach = np.arange(0.5, 50.0, 0.5)[:, None] * sign
        ends.append((place + reach * np.array([math.cos(yaw), math.sin(yaw)]), np.full(len(reach), yaw)))
    places = np.concatenate([ends[0][0][::-1], path[::10, 1:3], ends[1][0]])
    return places, np.concatenate([ends[0][1], path[::10, 3], ends[1][1]])


def _along_path(path: np.ndarray, grid: BevGrid) -> tuple[np.ndarray, np.ndarray]:
    """Return the heading of, and the distance to, the path's nearest point for each cell: (X, Y) each."""
    places, headings = _extended(path)
    centres = cell_centres(grid).reshape(-1, 2)
    squared = (centres**2).sum(1)[:, None] - 2 * centres @ places.T + (places**2).sum(1)
    nearest = squared.argmin(axis=1)
    distance = np.linalg.norm(centres - places[nearest], axis=1)
    return headings[nearest].reshape(grid.shape), distance.reshape(grid.shape)


def _every_metre(path: np.ndarray, count: int) -> np.ndarray:
    places = _extended(path)[0]
    places = places[np.argmin(np.linalg.norm(places, axis=1)) :]
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])
    at = np.arange(min(count, math.floor(travelled[-1]) + 1), dtype=np.float64)
    return np.column_stack([np.interp(at, travelled, places[:, axis]) for axis in (0, 1)])


def _stop_line(path: np.ndarray, future: np.ndarray, signal: int) -> np.ndarray:
    """Across the path, 8 m beyond the true future's end, so that the expert never runs a red signal."""
    line = np.full((2, 2), np.nan, dtype=np.float32)
    if signal != SIGNAL_STATES.index("none"):
        yaw = path[-1, 3]
        ahead, left = np.array([math.cos(yaw), math.sin(yaw)]), np.array([-math.sin(yaw), math.cos(yaw)])
        line[:] = future[-1, :2] + 8.0 * ahead + np.array([[_LANE_M], [-_LANE_M]]) * left
    return line


def _actors(
    config: ExperimentConfig, rng: np.random.Generator, future: np.ndarray, grid: BevGrid
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (1 + T, M, 5), velocity, valid and vulnerable; the last quarter of columns is empty."""
    count, dt = config.data.largest_boxes, config.student.plan.dt_s
    vulnerable = rng.random(count) < 0.3
    yaw = rng.uniform(-math.pi, math.pi, count)
    speed = np.where(
        rng.random(count) < 0.4, 0.0, rng.uniform(0.6, 8.0, count) * np.where(vulnerable, 0.2, 1.0)
    )
    place = np.column_stack([rng.uniform(*grid.x_range_m, count), rng.uniform(*grid.y_range_m, count)])
    size = np.where(vulnerable[:, None], (0.8, 0.7), rng.uniform((3.8, 1.7), (9.0, 2.6), (count, 2)))
    velocity = speed[:, None] * np.column_stack([np.cos(yaw), np.sin(yaw)])
    times = dt * np.arange(1 + config.steps)
    places = place + times[:, None, None] * velocity
    ego = np.concatenate([np.zeros((1, 2)), future[:, :2]])
    clearance = np.linalg.norm(places[:, None] - ego[None, :, None], axis=-1).min(axis=(0, 1))
    there = clearance > _CLEAR_M + 0.5 * size[:, 0]
    there[count - count // 4 :] = False
    boxes = np.zeros((len(times), count, 5), dtype=np.float32)
    boxes[..., :2], boxes[..., 2], boxes[..., 3:] = places, yaw, size
    boxes[:, ~there] = 0.0
    valid = np.tile(there, (len(times), 1))
    velocities = np.where(valid[..., None], velocity, 0.0).astype(np.float32)
    return boxes, velocities, valid, vulnerable & there


def _cameras(config: ExperimentConfig) -> np.ndarray:
    """Return (N, 3, 4) base_link to pixels of cameras around the car, 1.5 m up; the one behind sees wider."""
    image = config.student.image_input
    matrices = []
    for index in range(len(config.student.cameras)):
        yaw = math.radians(_YAWS_DEG[index % len(_YAWS_DEG)])
        focal = (0.5 if abs(yaw) > 3.0 else 0.8) * image.width
        intrinsics = np.array([[focal, 0, 0.5 * image.width], [0, focal, 0.5 * image.height], [0, 0, 1]])
        c, s = math.cos(yaw), math.sin(yaw)
        camera_from_base = np.array([[s, -c, 0, -s], [0, 0, -1, 1.5], [c, s, 0, -c]])  # 1 m ahead
        matrices.append(intrinsics @ camera_from_base)
    return np.array(matrices)
