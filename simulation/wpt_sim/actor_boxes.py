"""Actors as annotated boxes: pose, size and velocity, in the map and seen from the ego."""

from __future__ import annotations

import math

import numpy as np

from wpt_policy import se3
from wpt_scenes.scene_types import BoxInBase

from wpt_sim.drivable_raster import map_from_base
from wpt_sim.world_state import Actor, ActorKind, WorldState


def map_from_box(actor: Actor) -> np.ndarray:
    """Return the (4, 4) pose of an actor's box: x forward, y left, z up, origin in its middle."""
    pose = se3.planar(actor.x, actor.y, actor.yaw)
    pose[2, 3] = 0.5 * actor.height
    return pose


def velocity_of(actor: Actor) -> np.ndarray:
    """Return the (3,) velocity in map axes, m/s."""
    return np.array([actor.speed * math.cos(actor.yaw), actor.speed * math.sin(actor.yaw), 0.0])


def attribute_of(actor: Actor) -> str:
    """Return the nuScenes attribute: parked, stopped, moving; with or without rider; moving or standing."""
    moving = actor.speed > 0.2
    if actor.kind is ActorKind.PEDESTRIAN:
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if actor.kind in (ActorKind.BICYCLE, ActorKind.MOTORCYCLE):
        return "cycle.with_rider"
    return "vehicle.parked" if actor.parked else "vehicle.moving" if moving else "vehicle.stopped"


def boxes_in_base(state: WorldState, pose: np.ndarray | None = None) -> tuple[BoxInBase, ...]:
    """Return every actor of a state as a box in base_link, in the order of state.actors; token is the actor's
    id.

    pose: (4, 4) map_from_base instead of state.ego.
    """
    base_from_map = se3.inverse(map_from_base(state.ego if pose is None else pose))
    return tuple(
        BoxInBase(
            token=actor.id,
            instance_token=actor.id,
            category=actor.kind.value,
            base_from_box=base_from_map @ map_from_box(actor),
            size_lwh=np.array([actor.length, actor.width, actor.height]),
            velocity=base_from_map[:3, :3] @ velocity_of(actor),
            attributes=(attribute_of(actor),),
        )
        for actor in state.actors
    )
